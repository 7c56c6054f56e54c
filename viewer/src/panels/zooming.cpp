#include "panels/zooming.h"

#include <algorithm>
#include <cmath>

namespace muse::viewer {
namespace {

using render::AxisMap;
using render::Frame;
using render::Range;

constexpr double kClosest = 1e-4;  // part of the whole axis, in pixels of it, that may fill the frame

AxisMap with_range(const AxisMap& map, Range range) {
  const double begin = map.to_pixel(map.scale().range().low), end = map.to_pixel(map.scale().range().high);
  return {render::Scale(map.scale().kind(), range, map.scale().threshold()), begin, end, false};
}

// Values between two pixels, rising.
std::optional<Range> between(const AxisMap& map, double from, double to) {
  const double a = map.to_value(from), b = map.to_value(to);
  if (!std::isfinite(a) || !std::isfinite(b) || a == b) return std::nullopt;
  return Range{std::min(a, b), std::max(a, b)};
}

// Moves the stretch [from, to] of pixels into [low, high], and cuts off what is too long.
void keep_within(double& from, double& to, double low, double high) {
  if (low > high) std::swap(low, high);
  if (to - from >= high - low) {
    from = low;
    to = high;
    return;
  }
  const double shift = from < low ? low - from : to > high ? high - to : 0;
  from += shift;
  to += shift;
}

std::optional<Zoom> from_pixels(const Frame& frame, double x0, double x1, double y0, double y1,
                                const std::optional<Zoom>& whole) {
  bool all_x = false, all_y = false;
  if (whole) {
    const double left = frame.x.to_pixel(whole->x.low), right = frame.x.to_pixel(whole->x.high);
    const double top = frame.y.to_pixel(whole->y.low), bottom = frame.y.to_pixel(whole->y.high);
    if (std::isfinite(left) && std::isfinite(right)) {
      keep_within(x0, x1, left, right);
      all_x = x1 - x0 >= std::abs(right - left) * (1 - 1e-6);
    }
    if (std::isfinite(top) && std::isfinite(bottom)) {
      keep_within(y0, y1, top, bottom);
      all_y = y1 - y0 >= std::abs(bottom - top) * (1 - 1e-6);
    }
    if (all_x && all_y) return std::nullopt;
    if (x1 - x0 < std::abs(right - left) * kClosest || y1 - y0 < std::abs(bottom - top) * kClosest)
      return Zoom{frame.x.scale().range(), frame.y.scale().range()};
  }
  const auto x = between(frame.x, x0, x1), y = between(frame.y, y0, y1);
  if (!x || !y) return Zoom{frame.x.scale().range(), frame.y.scale().range()};
  // Rounding of pixels must not lead beyond the whole.
  return Zoom{all_x ? whole->x : *x, all_y ? whole->y : *y};
}

}  // namespace

Zoomable zoomable(const render::Drawn& drawn, std::size_t frame) {
  if (frame >= drawn.frames.size()) return {};
  const Frame &first = drawn.frames.front(), &other = drawn.frames[frame];
  if (first.is_table() || other.is_table()) return {};
  const bool same_x =
      first.x.scale().range() == other.x.scale().range() && first.x.scale().kind() == other.x.scale().kind();
  const bool same_y =
      first.y.scale().range() == other.y.scale().range() && first.y.scale().kind() == other.y.scale().kind();
  return {same_x, same_x && same_y};
}

Frame frame_at_zoom(const Frame& frame, const std::optional<Zoom>& zoom) {
  if (!zoom) return frame;
  return {frame.box, with_range(frame.x, zoom->x), with_range(frame.y, zoom->y)};
}

std::optional<Zoom> zoomed_at(const Frame& frame, render::Point at, double factor_x, double factor_y,
                              const std::optional<Zoom>& whole) {
  const auto moved = [](double edge, double fixed, double factor) { return fixed + (edge - fixed) * factor; };
  return from_pixels(frame, moved(frame.box.x0, at.x, factor_x), moved(frame.box.x1, at.x, factor_x),
                     moved(frame.box.y0, at.y, factor_y), moved(frame.box.y1, at.y, factor_y), whole);
}

std::optional<Zoom> moved_by(const Frame& frame, double dx, double dy, const std::optional<Zoom>& whole) {
  return from_pixels(frame, frame.box.x0 - dx, frame.box.x1 - dx, frame.box.y0 - dy, frame.box.y1 - dy,
                     whole);
}

bool has_minimap(const View& view) {
  return view.name() == "attention" || view.name() == "blocks" || view.name() == "clusters";
}

}  // namespace muse::viewer
