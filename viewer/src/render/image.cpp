#include "render/image.h"

#include <fmt/format.h>
#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <new>

#include "muse/check.h"

namespace muse::render {
namespace {

std::string big_endian(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>((value >> shift) & 0xff);
  return bytes;
}

std::uint32_t read_big_endian(std::string_view bytes) {
  std::uint32_t value = 0;
  for (int i = 0; i < 4; ++i)
    value = (value << 8) | static_cast<std::uint8_t>(bytes[static_cast<std::size_t>(i)]);
  return value;
}

// A chunk of a PNG file: length, type, body, checksum of type and body.
std::string chunk(std::string_view type, std::string_view body) {
  const std::string checked = std::string(type).append(body);
  const auto crc =
      crc32(0, reinterpret_cast<const Bytef*>(checked.data()), static_cast<uInt>(checked.size()));
  return big_endian(static_cast<std::uint32_t>(body.size())) + checked +
         big_endian(static_cast<std::uint32_t>(crc));
}

// An international text chunk: keyword, no compression, no language, UTF-8 text.
std::string text_chunk(const std::string& keyword, const std::string& text) {
  MUSE_REQUIRE(!keyword.empty() && keyword.size() < 80,
               "PNG text: expected a keyword of 1 to 79 letters, found '", keyword, "'");
  return chunk("iTXt", keyword + std::string(5, '\0') + text);
}

bool is_opaque(const Image& image) {
  for (std::size_t alpha = 3; alpha < image.pixels.size(); alpha += 4)
    if (image.pixels[alpha] != 255) return false;
  return true;
}

// Rows of pixels as PNG has them: each after the number of its filter. Unfiltered: our pictures are flat
// areas and text, which compress better so than by differences.
std::string rows_of(const Image& image, bool opaque) {
  std::string rows;
  const auto row_bytes = static_cast<std::size_t>(image.width) * 4;
  for (std::size_t begin = 0; begin < image.pixels.size(); begin += row_bytes) {
    rows += '\0';
    for (std::size_t i = begin; i < begin + row_bytes; i += 4)
      rows.append(reinterpret_cast<const char*>(&image.pixels[i]), opaque ? 3 : 4);
  }
  return rows;
}

std::string deflated(const std::string& bytes) {
  std::string small(compressBound(static_cast<uLong>(bytes.size())), '\0');
  auto size = static_cast<uLongf>(small.size());
  const int result =
      compress2(reinterpret_cast<Bytef*>(small.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()),
                static_cast<uLong>(bytes.size()), Z_BEST_COMPRESSION);
  if (result != Z_OK) throw std::bad_alloc();  // the only way in which it can fail
  small.resize(size);
  return small;
}

// The text of every uncompressed iTXt chunk. The file has been decoded before, so chunk lengths can be
// trusted to be a PNG's, but are checked against the end all the same.
PngTexts texts_of(std::string_view file) {
  PngTexts texts;
  for (std::size_t at = 8; at + 12 <= file.size();) {
    const std::size_t length = read_big_endian(file.substr(at));
    if (length > file.size() - at - 12) break;
    const std::string_view body = file.substr(at + 8, length);
    const std::size_t keyword_end = body.find('\0');
    if (file.substr(at + 4, 4) == "iTXt" && keyword_end != std::string_view::npos &&
        keyword_end + 3 < body.size() && body[keyword_end + 1] == '\0') {
      const std::size_t language_end = body.find('\0', keyword_end + 3);
      const std::size_t translated_end =
          language_end == std::string_view::npos ? language_end : body.find('\0', language_end + 1);
      if (translated_end != std::string_view::npos)
        texts[std::string(body.substr(0, keyword_end))] = std::string(body.substr(translated_end + 1));
    }
    at += length + 12;
  }
  return texts;
}

std::size_t offset_of(const Image& image, int x, int y) {
  return 4 *
         (static_cast<std::size_t>(y) * static_cast<std::size_t>(image.width) + static_cast<std::size_t>(x));
}

}  // namespace

Color Color::with_alpha(double alpha) const {
  return {r, g, b, static_cast<std::uint8_t>(std::lround(255 * std::clamp(alpha, 0.0, 1.0)))};
}

Image::Image(int width, int height, Color fill) : width(width), height(height) {
  MUSE_REQUIRE(width >= 1 && height >= 1 && width <= kLargestExtent && height <= kLargestExtent,
               "expected a picture of 1 to ", kLargestExtent, " pixels a side, found ", width, " x ", height);
  pixels.resize(4 * static_cast<std::size_t>(width) * static_cast<std::size_t>(height));
  for (std::size_t i = 0; i < pixels.size(); i += 4) {
    pixels[i] = fill.r;
    pixels[i + 1] = fill.g;
    pixels[i + 2] = fill.b;
    pixels[i + 3] = fill.a;
  }
}

Color Image::at(int x, int y) const {
  const std::size_t i = offset_of(*this, x, y);
  return {pixels[i], pixels[i + 1], pixels[i + 2], pixels[i + 3]};
}

void Image::set(int x, int y, Color color) {
  const std::size_t i = offset_of(*this, x, y);
  pixels[i] = color.r;
  pixels[i + 1] = color.g;
  pixels[i + 2] = color.b;
  pixels[i + 3] = color.a;
}

std::string encode_png(const Image& image, const PngTexts& texts) {
  MUSE_REQUIRE(image.width > 0 && image.height > 0 &&
                   image.pixels.size() ==
                       4 * static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height),
               "an image of ", image.width, " x ", image.height, " with ", image.pixels.size(),
               " bytes of pixels");
  const bool opaque = is_opaque(image);
  std::string file = "\x89PNG\r\n\x1a\n";
  // Size, 8 bits a channel, colours with or without alpha; compression, filters and order as there is only
  // one of.
  file += chunk("IHDR", big_endian(static_cast<std::uint32_t>(image.width)) +
                            big_endian(static_cast<std::uint32_t>(image.height)) +
                            std::string{8, static_cast<char>(opaque ? 2 : 6), 0, 0, 0});
  // The colours are those of a screen.
  file += chunk("sRGB", std::string(1, '\0'));
  // Texts come before the pixels: readers that stop at those still see them.
  for (const auto& [keyword, text] : texts) file += text_chunk(keyword, text);
  file += chunk("IDAT", deflated(rows_of(image, opaque)));
  file += chunk("IEND", "");
  return file;
}

void write_png(const std::string& path, const Image& image, const PngTexts& texts) {
  const std::string bytes = encode_png(image, texts);
  std::ofstream file(path, std::ios::binary);
  file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  file.close();
  if (!file)
    throw FileError(fmt::format("{}: cannot be written; is the folder there and the disk not full?", path));
}

Image read_png(const std::string& path, PngTexts* texts) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw FileError(fmt::format("{}: cannot be opened; expected a PNG file", path));
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  png_image header{};
  header.version = PNG_IMAGE_VERSION;
  if (png_image_begin_read_from_memory(&header, bytes.data(), bytes.size()) == 0)
    throw FileError(
        fmt::format("{}: expected a PNG file, found: {}", path, static_cast<const char*>(header.message)));
  if (header.width > kLargestExtent || header.height > kLargestExtent) {
    png_image_free(&header);
    throw FileError(fmt::format("{}: expected at most {} pixels a side, found {} x {}", path, kLargestExtent,
                                header.width, header.height));
  }
  header.format = PNG_FORMAT_RGBA;
  Image image(static_cast<int>(header.width), static_cast<int>(header.height), {});
  if (png_image_finish_read(&header, nullptr, image.pixels.data(), 0, nullptr) == 0)
    throw FileError(fmt::format("{}: broken PNG: {}", path, static_cast<const char*>(header.message)));
  if (texts != nullptr) *texts = texts_of(bytes);
  return image;
}

}  // namespace muse::render
