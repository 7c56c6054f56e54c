#include "gl/framebuffer.h"

#include <algorithm>
#include <cstddef>

#include <GLFW/glfw3.h>

namespace muse::viewer {

void clear_framebuffer(int width, int height, render::Color color) {
  glViewport(0, 0, width, height);
  glClearColor(static_cast<float>(color.r) / 255, static_cast<float>(color.g) / 255,
               static_cast<float>(color.b) / 255, 1);
  glClear(GL_COLOR_BUFFER_BIT);
}

render::Image read_framebuffer(int width, int height) {
  render::Image image(width, height, {});
  glPixelStorei(GL_PACK_ALIGNMENT, 1);
  glReadBuffer(GL_BACK);
  glReadPixels(0, 0, width, height, GL_RGBA, GL_UNSIGNED_BYTE, image.pixels.data());
  // OpenGL's row 0 is at the bottom.
  const auto row_bytes = static_cast<std::ptrdiff_t>(width) * 4;
  for (std::ptrdiff_t top = 0, bottom = height - 1; top < bottom; ++top, --bottom)
    std::swap_ranges(image.pixels.begin() + top * row_bytes, image.pixels.begin() + (top + 1) * row_bytes,
                     image.pixels.begin() + bottom * row_bytes);
  for (std::size_t alpha = 3; alpha < image.pixels.size(); alpha += 4) image.pixels[alpha] = 255;
  return image;
}

}  // namespace muse::viewer
