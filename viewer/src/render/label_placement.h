// Places for labels beside points, so that they cover neither each other nor what they name.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "render/canvas.h"

namespace muse::render {

/// A label to be placed: the point it names, the size of its text, and how far it must stay from the point's
/// middle.
struct LabelRequest {
  Point at;
  double width = 0, height = 0;
  double distance = 0;
};

/// Where a label goes. A label that had to go farther away needs a line back to its point.
struct LabelPlace {
  PixelBox box;
  bool needs_line = false;
};

/// Places labels one after the other, each at the best of 24 spots around its point that lies inside `frame`
/// and touches no obstacle and no earlier label; `avoid` are points that are better not covered. nullopt
/// where there is no room. O(labels (labels + obstacles + avoid)).
[[nodiscard]] std::vector<std::optional<LabelPlace>> place_labels(std::span<const LabelRequest> requests,
                                                                  const PixelBox& frame,
                                                                  std::span<const PixelBox> obstacles,
                                                                  std::span<const Point> avoid);

}  // namespace muse::render
