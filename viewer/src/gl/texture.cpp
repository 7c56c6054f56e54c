#include "gl/texture.h"

#include <GLFW/glfw3.h>

namespace muse::viewer {
namespace {

// Of the texture that is bound.
void set_filter(bool smooth) {
  const GLint filter = smooth ? GL_LINEAR : GL_NEAREST;
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MIN_FILTER, filter);
  glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_MAG_FILTER, filter);
}

}  // namespace

Texture::~Texture() {
  if (id_ != 0) glDeleteTextures(1, &id_);
}

void Texture::upload(const render::Image& image) {
  if (id_ == 0) {
    glGenTextures(1, &id_);
    glBindTexture(GL_TEXTURE_2D, id_);
    set_filter(smooth_);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_S, GL_CLAMP_TO_EDGE);
    glTexParameteri(GL_TEXTURE_2D, GL_TEXTURE_WRAP_T, GL_CLAMP_TO_EDGE);
  }
  glBindTexture(GL_TEXTURE_2D, id_);
  glPixelStorei(GL_UNPACK_ALIGNMENT, 1);
  if (image.width == width_ && image.height == height_)
    glTexSubImage2D(GL_TEXTURE_2D, 0, 0, 0, width_, height_, GL_RGBA, GL_UNSIGNED_BYTE, image.pixels.data());
  else
    glTexImage2D(GL_TEXTURE_2D, 0, GL_RGBA8, image.width, image.height, 0, GL_RGBA, GL_UNSIGNED_BYTE,
                 image.pixels.data());
  width_ = image.width;
  height_ = image.height;
}

void set_blending(bool on) {
  if (on)
    glEnable(GL_BLEND);
  else
    glDisable(GL_BLEND);
}

void Texture::set_smooth(bool smooth) {
  if (smooth == smooth_) return;
  smooth_ = smooth;
  if (id_ == 0) return;
  glBindTexture(GL_TEXTURE_2D, id_);
  set_filter(smooth);
}

}  // namespace muse::viewer
