// Zooming and moving pictures: from pixels of a frame to ranges of its axes.
#pragma once

#include <optional>

#include "model/settings.h"
#include "render/axes.h"
#include "views/view.h"

namespace muse::viewer {

/// How far a frame of a picture goes along with ViewSettings::zoom: frames with the axes of the first one
/// do, a strip below it with the same x axis along x only.
struct Zoomable {
  bool x = false, y = false;
};
[[nodiscard]] Zoomable zoomable(const render::Drawn& drawn, std::size_t frame);

/// `frame` as it would be if its axes had the ranges of `zoom`; as it is without one.
[[nodiscard]] render::Frame frame_at_zoom(const render::Frame& frame, const std::optional<Zoom>& zoom);

/// The ranges of a frame's axes once everything is `factor_x` and `factor_y` times as wide (below 1: zoomed
/// in) about the pixel `at`. Not beyond `whole`; all of it is no zoom.
[[nodiscard]] std::optional<Zoom> zoomed_at(const render::Frame& frame, render::Point at, double factor_x,
                                            double factor_y, const std::optional<Zoom>& whole);

/// The ranges once the picture was moved by (dx, dy) pixels.
[[nodiscard]] std::optional<Zoom> moved_by(const render::Frame& frame, double dx, double dy,
                                           const std::optional<Zoom>& whole);

/// Whether zooming into a view shows a minimap: where both axes are places.
[[nodiscard]] bool has_minimap(const View& view);

}  // namespace muse::viewer
