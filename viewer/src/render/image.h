// Pictures in memory and as PNG files.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace muse::render {

/// A colour of the sRGB display, with straight (not premultiplied) alpha.
struct Color {
  std::uint8_t r = 0, g = 0, b = 0, a = 255;

  /// The same colour, `alpha` (0 to 1) opaque.
  [[nodiscard]] Color with_alpha(double alpha) const;
  friend bool operator==(const Color&, const Color&) = default;
};

/// A picture: 4 bytes RGBA a pixel, row 0 at the top, rows without padding. OpenGL takes it as a texture as
/// it is.
struct Image {
  int width = 0;
  int height = 0;
  std::vector<std::uint8_t> pixels;  ///< [height, width, 4]

  Image() = default;
  /// Filled with one colour. MisfitError unless both extents are 1 to 16384.
  Image(int width, int height, Color fill);

  [[nodiscard]] Color at(int x, int y) const;
  void set(int x, int y, Color color);
  friend bool operator==(const Image&, const Image&) = default;
};

/// The largest width and height of an Image: what OpenGL drivers take as a texture.
inline constexpr int kLargestExtent = 16384;

/// Text chunks of a PNG file: keyword ("Title", "Description", "Software") -> UTF-8 text.
using PngTexts = std::map<std::string, std::string>;

/// The bytes of a PNG file. The same image and texts give the same bytes: no date is written.
[[nodiscard]] std::string encode_png(const Image& image, const PngTexts& texts = {});

/// Writes a PNG file. FileError if it cannot be written.
void write_png(const std::string& path, const Image& image, const PngTexts& texts = {});

/// Reads any PNG file as 8-bit RGBA. FileError if it is missing, broken or not a PNG. `texts`, if given, gets
/// the uncompressed UTF-8 text chunks.
[[nodiscard]] Image read_png(const std::string& path, PngTexts* texts = nullptr);

}  // namespace muse::render
