// The window's pixels.
#pragma once

#include "render/image.h"

namespace muse::viewer {

/// Prepares the framebuffer of `width` by `height` pixels for a new frame.
void clear_framebuffer(int width, int height, render::Color color);

/// What has been drawn since, opaque, row 0 at the top. Call before the buffers are swapped.
[[nodiscard]] render::Image read_framebuffer(int width, int height);

}  // namespace muse::viewer
