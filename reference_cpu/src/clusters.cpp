#include "muse/clusters.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <numeric>

#include "muse/check.h"

namespace muse {

template <class Scalar>
std::vector<bool> Clusters<Scalar>::non_empty() const {
  std::vector<bool> flags(static_cast<std::size_t>(size()));
  for (Index c = 0; c < size(); ++c) flags[static_cast<std::size_t>(c)] = count(c) > 0;
  return flags;
}

template <class Scalar>
Clusters<Scalar> make_clusters(const MatrixView<Scalar>& x,
                               Labels labels,  // NOLINT(performance-unnecessary-value-param): moved from
                               Index C, std::span<const Index> weights) {
  MUSE_REQUIRE_EQ(static_cast<Index>(labels.size()), x.rows(), "make_clusters: expected a label a token");
  Clusters<Scalar> clusters;
  clusters.labels = std::move(labels);
  // Sort the tokens by cluster: count, sum up, place.
  clusters.offsets.assign(static_cast<std::size_t>(C) + 1, 0);
  for (const std::int32_t label : clusters.labels) {
    MUSE_REQUIRE(label >= 0 && label < C, "make_clusters: expected labels from 0 to ", C - 1, ", found ",
                 label);
    ++clusters.offsets[static_cast<std::size_t>(label) + 1];
  }
  std::partial_sum(clusters.offsets.begin(), clusters.offsets.end(), clusters.offsets.begin());
  clusters.order.resize(clusters.labels.size());
  std::vector<Index> next(clusters.offsets.begin(), clusters.offsets.end() - 1);
  for (Index n = 0; n < x.rows(); ++n) {
    const auto label = static_cast<std::size_t>(clusters.labels[static_cast<std::size_t>(n)]);
    clusters.order[static_cast<std::size_t>(next[label]++)] = n;
  }
  // Average the members, summed in double in order of position: the same bits on any number of threads.
  clusters.centroids = Matrix<Scalar>::Zero(C, x.cols());
#pragma omp parallel for schedule(dynamic, 16)
  for (Index c = 0; c < C; ++c) {
    RowVector<double> sum = RowVector<double>::Zero(x.cols());
    double weight_sum = 0;
    for (const Index n : clusters.members(c)) {
      const double weight = weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(n)]);
      sum += weight * x.row(n).template cast<double>();
      weight_sum += weight;
    }
    if (weight_sum > 0) clusters.centroids.row(c) = (sum / weight_sum).template cast<Scalar>();
  }
  return clusters;
}

Labels spatial_blocks(Index N, Index C) {
  Labels labels(static_cast<std::size_t>(N));
  for (Index n = 0; n < N; ++n) labels[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(n * C / N);
  return labels;
}

namespace {

constexpr Index kPowerIterations = 8;

// The direction of largest variance of the tokens x[members] [n, D], by power iteration from the mean
// deviation.
template <class Scalar>
RowVector<Scalar> largest_variance_direction(const Matrix<Scalar>& centred) {
  // Start from the token farthest from the mean: never orthogonal to everything, and deterministic.
  Index farthest = 0;
  centred.rowwise().squaredNorm().maxCoeff(&farthest);
  RowVector<Scalar> direction = centred.row(farthest);
  for (Index iteration = 0; iteration < kPowerIterations; ++iteration) {
    const Vector<Scalar> along = centred * direction.transpose();
    direction.noalias() = along.transpose() * centred;
    const Scalar norm = direction.norm();
    if (!(norm > 0)) break;  // all tokens coincide: any direction will do
    direction /= norm;
  }
  return direction;
}

// Splits `members` into clusters [first, first + C), sizes in proportion.
template <class Scalar>
void bisect(const MatrixView<Scalar>& x, std::span<Index> members, Index first, Index C, Index passes,
            Labels& labels) {
  if (C == 1) {
    for (const Index n : members) labels[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(first);
    return;
  }
  const auto n = static_cast<Index>(members.size());
  const Index C_left = C / 2, n_left = n * C_left / C;
  // Gather the set around its mean.
  Matrix<Scalar> centred(n, x.cols());
  for (Index i = 0; i < n; ++i) centred.row(i) = x.row(members[static_cast<std::size_t>(i)]);
  const RowVector<Scalar> mean = centred.colwise().mean();
  centred.rowwise() -= mean;
  RowVector<Scalar> direction = largest_variance_direction<Scalar>(centred);
  std::vector<Index> sorted(static_cast<std::size_t>(n));
  for (Index pass = 0;; ++pass) {
    // Sort along the direction, ties by position, and cut at the median.
    const Vector<Scalar> along = centred * direction.transpose();
    std::iota(sorted.begin(), sorted.end(), Index{0});
    std::nth_element(sorted.begin(), sorted.begin() + n_left, sorted.end(),
                     [&](Index a, Index b) { return along[a] != along[b] ? along[a] < along[b] : a < b; });
    if (pass == passes) break;
    // The next direction joins the means of the two halves.
    RowVector<Scalar> left = RowVector<Scalar>::Zero(x.cols());
    RowVector<Scalar> right = RowVector<Scalar>::Zero(x.cols());
    std::sort(sorted.begin(), sorted.begin() + n_left);
    std::sort(sorted.begin() + n_left, sorted.end());
    for (Index i = 0; i < n; ++i)
      (i < n_left ? left : right) += centred.row(sorted[static_cast<std::size_t>(i)]);
    direction = right / static_cast<Scalar>(n - n_left) - left / static_cast<Scalar>(n_left);
  }
  std::sort(sorted.begin(), sorted.begin() + n_left);
  std::sort(sorted.begin() + n_left, sorted.end());
  std::vector<Index> parts(static_cast<std::size_t>(n));
  std::transform(sorted.begin(), sorted.end(), parts.begin(),
                 [&](Index i) { return members[static_cast<std::size_t>(i)]; });
  std::copy(parts.begin(), parts.end(), members.begin());
  bisect(x, members.first(static_cast<std::size_t>(n_left)), first, C_left, passes, labels);
  bisect(x, members.subspan(static_cast<std::size_t>(n_left)), first + C_left, C - C_left, passes, labels);
}

}  // namespace

template <class Scalar>
Labels balanced_bisection(const MatrixView<Scalar>& x, Index C, Index passes) {
  MUSE_REQUIRE(C >= 1 && C <= x.rows(), "balanced_bisection: expected 1 to ", x.rows(), " clusters, found ",
               C);
  Labels labels(static_cast<std::size_t>(x.rows()));
  std::vector<Index> members(static_cast<std::size_t>(x.rows()));
  std::iota(members.begin(), members.end(), Index{0});
  bisect<Scalar>(x, members, 0, C, passes, labels);
  return labels;
}

template <class Scalar>
Labels cluster_tokens(const MatrixView<Scalar>& x, Index C, const Config& config) {
  switch (config.cluster_by) {
    case ClusterBy::spatial:
      return spatial_blocks(x.rows(), C);
    case ClusterBy::balanced:
      return balanced_bisection<Scalar>(x, C, config.passes);
    case ClusterBy::kmeans:
      break;
  }
  return kmeans<Scalar>(x, C, {.passes = config.passes, .seed = config.seed, .sample = config.sample});
}

double cluster_operations(Index N, Index C, Index D, const Config& config) {
  switch (config.cluster_by) {
    case ClusterBy::spatial:
      return 0;
    case ClusterBy::balanced: {
      // Each of the log2 C halvings: two products with the centred tokens a power iteration, one a pass and
      // the cut.
      const double halvings = std::ceil(std::log2(static_cast<double>(C)));
      return 2 * static_cast<double>(N * D) * halvings *
             static_cast<double>(2 * kPowerIterations + config.passes + 1);
    }
    case ClusterBy::kmeans:
      break;
  }
  return kmeans_operations(N, C, D, config.passes, config.sample);
}

template <class Scalar>
Matrix<Scalar> key_covariance_root(const MatrixView<Scalar>& k) {
  Matrix<double> centred = k.template cast<double>();
  const RowVector<double> mean = centred.colwise().mean();
  centred.rowwise() -= mean;
  const Matrix<double> covariance = centred.transpose() * centred / static_cast<double>(k.rows());
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> eigen(covariance);
  // Rounding can leave tiny negative eigenvalues.
  const Eigen::VectorXd roots = eigen.eigenvalues().cwiseMax(0).cwiseSqrt();
  return (eigen.eigenvectors() * roots.asDiagonal() * eigen.eigenvectors().transpose())
      .template cast<Scalar>();
}

#define MUSE_INSTANTIATE(Scalar)                                                            \
  template struct Clusters<Scalar>;                                                         \
  template Clusters<Scalar> make_clusters<Scalar>(const MatrixView<Scalar>&, Labels, Index, \
                                                  std::span<const Index>);                  \
  template Labels balanced_bisection<Scalar>(const MatrixView<Scalar>&, Index, Index);      \
  template Labels cluster_tokens<Scalar>(const MatrixView<Scalar>&, Index, const Config&);  \
  template Matrix<Scalar> key_covariance_root<Scalar>(const MatrixView<Scalar>&);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
