#include "views/cluster_marks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace muse::viewer {

using namespace render;

namespace {

constexpr std::ptrdiff_t kCrowd = 40;  // more clusters than that are drawn lightly
constexpr double kReach = 9;           // pixels from the pointer to a token that it hits

bool is_lit(const std::vector<char>& lit, std::size_t cluster) {
  return lit.empty() || lit[cluster] != 0;
}

}  // namespace

double token_size(Index count) {
  return std::clamp(90.0 / std::sqrt(static_cast<double>(count)), 1.6, 5.0);
}

Axis principal_axis(const PrincipalAxes& axes, std::size_t which, const std::string& whose) {
  const double percent = 100 * axes.share[which];
  return {.label = fmt::format("{}axis {} ({:.3g} % of the variance)", whose, which + 1, percent),
          .brief = fmt::format("axis {} ({:.2g} %)", which + 1, percent),
          .grid = true};
}

void add_ellipses(Axes& axes, const std::vector<ClusterShape>& shapes, const std::vector<char>& lit) {
  const auto shown = lit.empty() ? std::ssize(shapes) : std::count(lit.begin(), lit.end(), 1);
  const bool crowd = shown > kCrowd;
  Ellipses ellipses{.label = "1σ of a cluster",
                    .color = Color{128, 128, 136},
                    .width = crowd ? 0.7 : 1.2,
                    .fill = crowd ? 0.0 : 0.12};
  for (std::size_t c = 0; c < shapes.size(); ++c) {
    const ClusterShape& shape = shapes[c];
    if (shape.count < 2 || !is_lit(lit, c)) continue;
    ellipses.ellipses.push_back({shape.x, shape.y, shape.rx, shape.ry, shape.angle});
    ellipses.colors.push_back(categorical(static_cast<Index>(c)).with_alpha(crowd ? 0.35 : 0.9));
  }
  if (!ellipses.ellipses.empty()) axes.add(std::move(ellipses));
}

void add_centroids(Axes& axes, const muse::Matrix<double>& centroids, const std::vector<ClusterShape>& shapes,
                   const std::vector<char>& lit, const char* label, bool dark) {
  Scatter marks{.label = label,
                .color = Theme::make(dark).ink,
                .marker = Marker::diamond,
                .size = centroids.rows() > kCrowd ? 3.5 : 6.0};
  for (Index c = 0; c < centroids.rows(); ++c) {
    const auto i = static_cast<std::size_t>(c);
    if (shapes[i].count == 0 || !is_lit(lit, i)) continue;
    marks.x.push_back(centroids(c, 0));
    marks.y.push_back(centroids(c, 1));
  }
  if (!marks.x.empty()) axes.add(std::move(marks));
}

void add_ring(Axes& axes, const muse::Matrix<double>& xy, Index n, std::string label, bool dark) {
  Scatter ring{.label = std::move(label), .color = Theme::make(dark).ink, .marker = Marker::ring, .size = 11};
  ring.x = {xy(n, 0)};
  ring.y = {xy(n, 1)};
  axes.add(std::move(ring));
}

std::optional<Index> token_at(const Frame& frame, Point at, const muse::Matrix<double>& xy) {
  return nearest_point(frame, at, xy.rows(), kReach, [&](Index n) { return Point{xy(n, 0), xy(n, 1)}; });
}

}  // namespace muse::viewer
