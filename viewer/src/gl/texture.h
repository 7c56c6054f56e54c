// A picture in the memory of the graphics card.
#pragma once

#include "render/image.h"

namespace muse::viewer {

/// Owns one OpenGL texture. All members need the window's context to be current.
class Texture {
 public:
  Texture() = default;
  ~Texture();
  Texture(const Texture&) = delete;
  Texture& operator=(const Texture&) = delete;

  /// Takes the pixels of `image`, whatever the size before.
  void upload(const render::Image& image);

  /// Whether pixels in between are mixed: for a picture that is stretched. Otherwise the nearest one shows,
  /// which is the same where none lies in between, and half the work without a graphics card.
  void set_smooth(bool smooth);

  [[nodiscard]] unsigned id() const { return id_; }
  [[nodiscard]] int width() const { return width_; }
  [[nodiscard]] int height() const { return height_; }

 private:
  unsigned id_ = 0;
  int width_ = 0, height_ = 0;
  bool smooth_ = false;
};

/// Whether what is drawn next is mixed with what lies below; an opaque picture need not be, which is cheaper
/// without a graphics card.
void set_blending(bool on);

}  // namespace muse::viewer
