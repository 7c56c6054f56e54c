// Antialiased shapes and measured text on a picture: what axes and figures are drawn with. Cairo stays
// inside.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "render/image.h"

namespace muse::render {

/// The colours of a figure's furniture; data has its own.
struct Theme {
  Color background, ink, muted, line, grid, accent;

  /// Near-black on white, or near-white on near-black.
  [[nodiscard]] static Theme make(bool dark);
};

/// A position in pixels of the picture, y downwards.
struct Point {
  double x = 0, y = 0;
};

/// A rectangle in pixels of the picture.
struct PixelBox {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  [[nodiscard]] double width() const { return x1 - x0; }
  [[nodiscard]] double height() const { return y1 - y0; }
  [[nodiscard]] bool holds(Point p) const { return p.x >= x0 && p.x <= x1 && p.y >= y0 && p.y <= y1; }
  [[nodiscard]] bool holds(const PixelBox& other) const {
    return other.x0 >= x0 && other.y0 >= y0 && other.x1 <= x1 && other.y1 <= y1;
  }
  /// Whether both have a common point once `gap` is added around one of them.
  [[nodiscard]] bool overlaps(const PixelBox& other, double gap = 0) const {
    return x0 < other.x1 + gap && other.x0 < x1 + gap && y0 < other.y1 + gap && other.y0 < y1 + gap;
  }
  [[nodiscard]] PixelBox grown(double by) const { return {x0 - by, y0 - by, x1 + by, y1 + by}; }
};

/// Sizes are in logical pixels: the canvas multiplies them by its UI scale.
struct Font {
  double size = 11;
  bool bold = false;
};

enum class HAlign { left, center, right };
enum class VAlign { top, middle, bottom };

/// What a piece of text is for; tests and accessibility ask.
enum class TextRole { title, caption, label, tick, legend, mark };

/// Text as it was drawn.
struct TextBox {
  PixelBox box;
  std::string text;
  TextRole role;
};

/// A line's look. Width and dashes are in logical pixels.
struct Stroke {
  Color color;
  double width = 1;
  std::vector<double> dashes;
};

enum class Marker { circle, square, diamond, triangle_up, triangle_down, cross, plus, ring };

/// A picture being drawn. Coordinates are in pixels of the picture, sizes of fonts, lines and markers in
/// logical pixels (times `ui_scale`). No text is ever drawn outside of the picture: it is moved in, and
/// shortened with an ellipsis if it is too wide. Bytes that are not UTF-8 and control characters are
/// replaced.
class Canvas {
 public:
  Canvas(int width, int height, double ui_scale, const Theme& theme);
  ~Canvas();
  Canvas(const Canvas&) = delete;
  Canvas& operator=(const Canvas&) = delete;

  [[nodiscard]] const Theme& theme() const { return theme_; }
  [[nodiscard]] PixelBox bounds() const;
  /// Logical pixels in pixels of the picture.
  [[nodiscard]] double px(double logical) const { return logical * ui_scale_; }

  [[nodiscard]] double text_width(std::string_view text, Font font) const;
  [[nodiscard]] double line_height(Font font) const;
  /// `text`, shortened with an ellipsis to at most `width`; empty if not even that fits.
  [[nodiscard]] std::string fitted(std::string_view text, Font font, double width) const;
  /// `text` if it fits; else `brief`, if there is one, shortened if need be.
  [[nodiscard]] std::string fitted(std::string_view text, std::string_view brief, Font font,
                                   double width) const;
  /// Lines of at most `width`, broken between words where possible; at most `most_lines`, the last one
  /// shortened.
  [[nodiscard]] std::vector<std::string> wrapped(std::string_view text, Font font, double width,
                                                 std::size_t most_lines) const;
  /// Where text() draws: `at` is the named corner or middle of the text. Upright text reads from bottom to
  /// top.
  [[nodiscard]] PixelBox text_box(std::string_view text, Font font, Point at, HAlign h, VAlign v,
                                  bool upright = false) const;
  /// With a halo, text is readable on data.
  void text(std::string_view text, Font font, Color color, Point at, HAlign h, VAlign v, TextRole role,
            bool upright = false, bool halo = false);
  [[nodiscard]] const std::vector<TextBox>& texts() const { return texts_; }

  void fill(const PixelBox& box, Color color);
  /// A frame inside of the box's edges.
  void outline(const PixelBox& box, const Stroke& stroke);
  /// Slanted lines, aligned over the whole picture, so that neighbours continue each other.
  void hatch(const PixelBox& box, Color color, double spacing = 6, double width = 1);
  /// A horizontal or vertical line on whole pixels.
  void rule(Point from, Point to, const Stroke& stroke);
  /// Breaks where a coordinate is not finite. A closed line is filled with `fill` unless that is transparent.
  void polyline(std::span<const Point> points, const Stroke& stroke, bool closed = false,
                Color fill = {0, 0, 0, 0});
  void marker(Marker marker, Point at, double size, Color color, bool halo = true);
  /// A line with a slender head at `to`.
  void arrow(Point from, Point to, const Stroke& stroke);
  /// Copies an image, a pixel on a pixel.
  void draw(const Image& image, int x, int y);

  /// Everything is cut off at the box until unclip().
  void clip(const PixelBox& box);
  void unclip();

  /// The picture so far.
  [[nodiscard]] Image image() const;

 private:
  struct Surface;
  void use(Font font) const;
  void use(const Stroke& stroke);
  void use(Color color);

  std::unique_ptr<Surface> surface_;
  double ui_scale_;
  Theme theme_;
  std::vector<TextBox> texts_;
};

}  // namespace muse::render
