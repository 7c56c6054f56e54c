#include "render/label_placement.h"

#include <algorithm>
#include <array>
#include <limits>

namespace muse::render {
namespace {

// Directions in which a label may lie from its point, best first: beside it on the right, above, below, left,
// corners.
constexpr std::array<Point, 8> kDirections{
    {{1, 0}, {0, -1}, {0, 1}, {-1, 0}, {1, -1}, {1, 1}, {-1, -1}, {-1, 1}}};
constexpr int kRings = 3;

PixelBox box_at(const LabelRequest& request, Point direction, int ring) {
  const double slack =
      direction.x != 0 && direction.y != 0 ? 0.6 : 1;  // corners are farther from the middle anyway
  const double away = request.distance * slack + ring * 1.1 * request.height;
  const double x = request.at.x + direction.x * (away + request.width / 2);
  const double y = request.at.y + direction.y * (away + request.height / 2);
  return {x - request.width / 2, y - request.height / 2, x + request.width / 2, y + request.height / 2};
}

}  // namespace

std::vector<std::optional<LabelPlace>> place_labels(std::span<const LabelRequest> requests,
                                                    const PixelBox& frame,
                                                    std::span<const PixelBox> obstacles,
                                                    std::span<const Point> avoid) {
  std::vector<std::optional<LabelPlace>> places;
  for (const LabelRequest& request : requests) {
    std::optional<LabelPlace> best;
    double least_cost = std::numeric_limits<double>::infinity();
    for (int ring = 0; ring < kRings; ++ring)
      for (std::size_t d = 0; d < kDirections.size(); ++d) {
        const PixelBox box = box_at(request, kDirections[d], ring);
        const auto hits = [&](const PixelBox& other) { return box.overlaps(other); };
        const auto hits_label = [&](const std::optional<LabelPlace>& other) {
          return other && box.overlaps(other->box);
        };
        if (!frame.holds(box) || std::any_of(obstacles.begin(), obstacles.end(), hits) ||
            std::any_of(places.begin(), places.end(), hits_label))
          continue;
        const auto covered = std::count_if(avoid.begin(), avoid.end(), [&](Point p) { return box.holds(p); });
        const double cost = 12.0 * ring + static_cast<double>(d) + 1.5 * static_cast<double>(covered);
        if (cost >= least_cost) continue;
        least_cost = cost;
        best = LabelPlace{box, ring > 0};
      }
    places.push_back(best);
  }
  return places;
}

}  // namespace muse::render
