#include "model/projection.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "muse/check.h"
#include "muse/retrieval.h"

namespace muse::viewer {
namespace {

constexpr Index kTileClusters = 8;  // query clusters whose summaries are made together

double cross(const std::array<double, 2>& o, const std::array<double, 2>& a, const std::array<double, 2>& b) {
  return (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
}

// Andrew's monotone chain.
std::vector<std::array<double, 2>> convex_hull(std::vector<std::array<double, 2>> points) {
  std::sort(points.begin(), points.end());
  points.erase(std::unique(points.begin(), points.end()), points.end());
  if (points.size() < 3) return points;
  std::vector<std::array<double, 2>> hull;
  for (int half = 0; half < 2; ++half) {
    const std::size_t first = hull.size();
    for (const auto& point : points) {
      while (hull.size() >= first + 2 && cross(hull[hull.size() - 2], hull.back(), point) <= 0)
        hull.pop_back();
      hull.push_back(point);
    }
    hull.pop_back();  // the other half begins with it
    std::reverse(points.begin(), points.end());
  }
  return hull;
}

// Coordinates of one side of the block, its labels, shapes and centroids.
ProjectedSide projected(const PrincipalAxes& axes, const Matrix<double>& x, Index first,
                        std::span<const std::int32_t> labels, Index C, const Matrix<double>& centroids) {
  ProjectedSide side{.axes = axes, .first = first};
  side.xy = axes.project(x);
  side.labels.assign(labels.begin(), labels.end());
  side.shapes = cluster_shapes(side.xy, side.labels, C);
  side.centroids = axes.project(centroids);
  return side;
}

}  // namespace

Matrix<double> PrincipalAxes::project(const Matrix<double>& x) const {
  return (x.rowwise() - mean) * axes.transpose();
}

PrincipalAxes principal_axes(const Matrix<double>& x) {
  const Index N = x.rows(), D = x.cols();
  PrincipalAxes result{.mean = x.colwise().mean(), .axes = Matrix<double>::Zero(2, D)};
  const Matrix<double> centred = x.rowwise() - result.mean;
  const Eigen::MatrixXd covariance = centred.transpose() * centred / static_cast<double>(N);
  result.variance = covariance.trace();
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(covariance);
  for (Index a = 0; a < std::min<Index>(2, D); ++a) {
    const Index column = D - 1 - a;  // eigenvalues rise
    RowVector<double> axis = solver.eigenvectors().col(column).transpose();
    Index largest = 0;
    axis.cwiseAbs().maxCoeff(&largest);
    if (axis[largest] < 0) axis = -axis;
    result.axes.row(a) = axis;
    if (result.variance > 0)
      result.share[static_cast<std::size_t>(a)] =
          std::max(0.0, solver.eigenvalues()[column]) / result.variance;
  }
  return result;
}

std::vector<ClusterShape> cluster_shapes(const Matrix<double>& xy, const Labels& labels, Index C) {
  std::vector<ClusterShape> shapes(static_cast<std::size_t>(C));
  std::vector<std::vector<std::array<double, 2>>> members(static_cast<std::size_t>(C));
  for (Index n = 0; n < xy.rows(); ++n)
    if (const std::int32_t c = labels[static_cast<std::size_t>(n)]; c >= 0 && c < C)
      members[static_cast<std::size_t>(c)].push_back({xy(n, 0), xy(n, 1)});
  for (std::size_t c = 0; c < shapes.size(); ++c) {
    ClusterShape& shape = shapes[c];
    shape.count = static_cast<Index>(members[c].size());
    if (shape.count == 0) continue;
    const auto n = static_cast<double>(shape.count);
    for (const auto& [x, y] : members[c]) shape.x += x / n, shape.y += y / n;
    double xx = 0, xy_ = 0, yy = 0;
    for (const auto& [x, y] : members[c]) {
      xx += (x - shape.x) * (x - shape.x) / n;
      xy_ += (x - shape.x) * (y - shape.y) / n;
      yy += (y - shape.y) * (y - shape.y) / n;
    }
    // Eigenvalues of the 2 x 2 covariance.
    const double middle = 0.5 * (xx + yy), spread = std::hypot(0.5 * (xx - yy), xy_);
    shape.rx = std::sqrt(std::max(0.0, middle + spread));
    shape.ry = std::sqrt(std::max(0.0, middle - spread));
    shape.angle = 0.5 * std::atan2(2 * xy_, xx - yy);
    shape.hull = convex_hull(std::move(members[c]));
  }
  return shapes;
}

Projection projection_of(const DumpSession& session, const Slot& slot, const Block& block, Basis basis,
                         const HeadRun& run, Task& task) {
  MUSE_REQUIRE(slot.method == Method::muse, "clusters: only method muse has clusters; found ",
               slot_word(slot));
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  const BlockClusters<float> clusters =
      block_clusters<float>(head->q, head->k, block, run.labels_q, run.labels_k, slot.config);
  Progress& progress = task.stage("clusters", static_cast<double>(clusters.home.size()));
  const Matrix<double> q = head->q.middleRows(block.query_begin, block.queries()).cast<double>();
  const Matrix<double> k = head->k.middleRows(block.key_begin, block.keys()).cast<double>();
  PrincipalAxes axes_q, axes_k;
  if (basis == Basis::joint) {
    Matrix<double> both(q.rows() + k.rows(), q.cols());
    both << q, k;
    axes_q = axes_k = principal_axes(both);
  } else {
    axes_q = principal_axes(q);
    axes_k = principal_axes(k);
  }
  Projection projection{.block = block, .home = home_of_query_clusters(block, slot.config)};
  projection.queries = projected(axes_q, q, block.query_begin,
                                 run.labels_q.at(block.level, block.query_begin, block.query_end),
                                 clusters.home.size(), clusters.home.centroids.cast<double>());
  projection.keys =
      projected(axes_k, k, block.key_begin, run.labels_k.at(block.level, block.key_begin, block.key_end),
                clusters.keys.size(), clusters.keys.centroids.cast<double>());

  // Stage 1, a few query clusters at a time.
  const Index Cq = clusters.home.size(), Ck = clusters.keys.size();
  const SortedKeys<float> keys =
      sort_keys<float>(head->k.middleRows(block.key_begin, block.keys()),
                       head->v.middleRows(block.key_begin, block.keys()), clusters.keys);
  const KeyMeans<float> means = slot.config.order == Order::centroid ? key_means(keys) : KeyMeans<float>();
  projection.tilted.resize(static_cast<std::size_t>(2 * Cq * Ck));
  projection.log_mass.resize(static_cast<std::size_t>(Cq * Ck));
  projection.retrieved.assign(static_cast<std::size_t>(Cq * Ck), 0);
#pragma omp parallel for schedule(dynamic)
  for (Index tile = 0; tile < Cq; tile += kTileClusters) {
    if (progress.cancel) continue;
    const Index rows = std::min(kTileClusters, Cq - tile);
    const Matrix<float> q_bar = clusters.home.centroids.middleRows(tile, rows);
    Summaries<float> summaries;
    if (slot.config.order == Order::centroid)
      plain_summaries<float>(q_bar, keys, means, head->scale, summaries);
    else
      tilted_summaries<float>(q_bar, keys, head->scale, summaries);
    for (Index row = 0; row < rows; ++row) {
      const Index i = tile + row;
      const Matrix<double> xy = axes_k.project(Matrix<float>(summaries.k_tilde(row)).cast<double>());
      for (Index j = 0; j < Ck; ++j) {
        const auto at = static_cast<std::size_t>(i * Ck + j);
        projection.tilted[2 * at] = xy(j, 0);
        projection.tilted[2 * at + 1] = xy(j, 1);
        projection.log_mass[at] = static_cast<double>(summaries.L(row, j));
      }
      for (const Index j :
           largest_clusters<float>(summaries.L.row(row), slot.config.retrieve.at(block.level)))
        projection.retrieved[static_cast<std::size_t>(i * Ck + j)] = 1;
    }
    progress.advance(static_cast<double>(rows));
  }
  throw_if_cancelled(&progress);
  return projection;
}

}  // namespace muse::viewer
