#include "render/canvas.h"

#include <cairo.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "muse/check.h"

#if defined(__SANITIZE_ADDRESS__)
// Fontconfig, below cairo, keeps what it has found until the process ends: no leak of ours.
extern "C" const char* __lsan_default_suppressions() {
  return "leak:libfontconfig\n";
}
#endif

namespace muse::render {
namespace {

constexpr const char* kFontFamily = "DejaVu Sans";
constexpr double kFarthest = 1e6;  // cairo keeps coordinates in 24 bits before the point
constexpr std::string_view kEllipsis = "…";
constexpr std::string_view kReplacement = "\xef\xbf\xbd";

// Length of the UTF-8 sequence at the start of `text`, 0 if it is not one.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies beyond Unicode.
  if ((lead == 0xe0 && byte(1) < 0xa0) || (lead == 0xed && byte(1) > 0x9f) ||
      (lead == 0xf0 && byte(1) < 0x90) || (lead == 0xf4 && byte(1) > 0x8f))
    return 0;
  return length;
}

// What cairo can draw: it refuses all further work after one broken sequence.
std::string drawable(std::string_view text) {
  std::string clean;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const auto first = static_cast<unsigned char>(text[0]);
    if (length == 0) {
      clean += kReplacement;
    } else if (first < 0x20 || first == 0x7f) {
      clean += ' ';
    } else {
      clean += text.substr(0, length);
    }
    text.remove_prefix(std::max<std::size_t>(length, 1));
  }
  return clean;
}

void drop_last_character(std::string& text) {
  while (!text.empty() && (static_cast<unsigned char>(text.back()) & 0xc0) == 0x80) text.pop_back();
  if (!text.empty()) text.pop_back();
}

double reachable(double coordinate) {
  return std::clamp(coordinate, -kFarthest, kFarthest);
}

bool finite(Point p) {
  return std::isfinite(p.x) && std::isfinite(p.y);
}

// The part of a segment inside of a box (Liang and Barsky); false if there is none. Keeps far-away points of
// a line from distorting its slope when they are brought within cairo's reach.
bool cut_to(const PixelBox& box, Point& from, Point& to) {
  double enter = 0, leave = 1;
  const double dx = to.x - from.x, dy = to.y - from.y;
  const std::array<std::pair<double, double>, 4> sides{
      {{-dx, from.x - box.x0}, {dx, box.x1 - from.x}, {-dy, from.y - box.y0}, {dy, box.y1 - from.y}}};
  for (const auto& [speed, room] : sides) {
    if (speed == 0 && room < 0) return false;
    if (speed < 0) enter = std::max(enter, room / speed);
    if (speed > 0) leave = std::min(leave, room / speed);
  }
  if (!(enter <= leave)) return false;
  const Point start = from;
  from = {start.x + enter * dx, start.y + enter * dy};
  to = {start.x + leave * dx, start.y + leave * dy};
  return true;
}

}  // namespace

struct Canvas::Surface {
  Surface(int width, int height)
      : surface(cairo_image_surface_create(CAIRO_FORMAT_ARGB32, width, height)),
        context(cairo_create(surface)) {}
  ~Surface() {
    cairo_destroy(context);
    cairo_surface_destroy(surface);
  }
  Surface(const Surface&) = delete;
  Surface& operator=(const Surface&) = delete;

  cairo_surface_t* surface;
  cairo_t* context;
};

Theme Theme::make(bool dark) {
  if (dark)
    return {.background = {23, 24, 28},
            .ink = {228, 228, 232},
            .muted = {158, 160, 168},
            .line = {112, 114, 122},
            .grid = {46, 48, 54},
            .accent = {102, 178, 255}};
  return {.background = {255, 255, 255},
          .ink = {32, 33, 38},
          .muted = {98, 100, 110},
          .line = {130, 132, 140},
          .grid = {234, 235, 239},
          .accent = {0, 94, 184}};
}

Canvas::Canvas(int width, int height, double ui_scale, const Theme& theme)
    : ui_scale_(ui_scale), theme_(theme) {
  MUSE_REQUIRE(width >= 1 && height >= 1 && width <= kLargestExtent && height <= kLargestExtent,
               "expected a picture of 1 to ", kLargestExtent, " pixels a side, found ", width, " x ", height);
  MUSE_REQUIRE(ui_scale >= 0.25 && ui_scale <= 16, "expected a UI scale of 0.25 to 16, found ", ui_scale);
  surface_ = std::make_unique<Surface>(width, height);

  // The system's font settings must not show in the picture.
  cairo_font_options_t* options = cairo_font_options_create();
  cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
  cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
  cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
  cairo_set_font_options(surface_->context, options);
  cairo_font_options_destroy(options);

  use(theme.background);
  cairo_paint(surface_->context);
}

Canvas::~Canvas() = default;

PixelBox Canvas::bounds() const {
  return {0, 0, static_cast<double>(cairo_image_surface_get_width(surface_->surface)),
          static_cast<double>(cairo_image_surface_get_height(surface_->surface))};
}

void Canvas::use(Font font) const {
  cairo_select_font_face(surface_->context, kFontFamily, CAIRO_FONT_SLANT_NORMAL,
                         font.bold ? CAIRO_FONT_WEIGHT_BOLD : CAIRO_FONT_WEIGHT_NORMAL);
  cairo_set_font_size(surface_->context, px(font.size));
}

void Canvas::use(Color color) {
  cairo_set_source_rgba(surface_->context, color.r / 255.0, color.g / 255.0, color.b / 255.0,
                        color.a / 255.0);
}

void Canvas::use(const Stroke& stroke) {
  use(stroke.color);
  cairo_set_line_width(surface_->context, px(stroke.width));
  std::vector<double> dashes;
  for (const double dash : stroke.dashes) dashes.push_back(px(dash));
  cairo_set_dash(surface_->context, dashes.data(), static_cast<int>(dashes.size()), 0);
  cairo_set_line_join(surface_->context, CAIRO_LINE_JOIN_ROUND);
  cairo_set_line_cap(surface_->context, CAIRO_LINE_CAP_BUTT);
}

double Canvas::text_width(std::string_view text, Font font) const {
  use(font);
  cairo_text_extents_t extents;
  cairo_text_extents(surface_->context, drawable(text).c_str(), &extents);
  return std::max(extents.x_advance, extents.x_bearing + extents.width);
}

double Canvas::line_height(Font font) const {
  use(font);
  cairo_font_extents_t extents;
  cairo_font_extents(surface_->context, &extents);
  return extents.ascent + extents.descent;
}

std::string Canvas::fitted(std::string_view text, Font font, double width) const {
  std::string whole = drawable(text);
  if (whole.size() > 4096) whole.resize(4096);  // no line of a picture holds more; keeps shortening fast
  whole = drawable(whole);
  if (text_width(whole, font) <= width) return whole;

  // Bisect on the number of bytes kept, then cut back to whole characters.
  std::size_t fits = 0, too_long = whole.size();
  std::string best;
  while (too_long - fits > 1) {
    const std::size_t middle = (fits + too_long) / 2;
    std::string candidate = whole.substr(0, middle + 1);
    drop_last_character(candidate);
    while (!candidate.empty() && candidate.back() == ' ') candidate.pop_back();
    candidate += kEllipsis;
    if (text_width(candidate, font) <= width) {
      fits = middle;
      best = std::move(candidate);
    } else {
      too_long = middle;
    }
  }
  return best == kEllipsis ? std::string() : best;
}

std::string Canvas::fitted(std::string_view text, std::string_view brief, Font font, double width) const {
  const bool fits = brief.empty() || text_width(drawable(text), font) <= width;
  return fitted(fits ? text : brief, font, width);
}

std::vector<std::string> Canvas::wrapped(std::string_view text, Font font, double width,
                                         std::size_t most_lines) const {
  std::vector<std::string> lines;
  std::string line;
  std::string_view rest = text;
  while (!rest.empty() && lines.size() < most_lines) {
    // Take the next word, and the line break behind it if there is one.
    const std::size_t end = std::min(rest.find_first_of(" \n"), rest.size());
    const std::string_view word = rest.substr(0, end);
    const bool breaks = end < rest.size() && rest[end] == '\n';
    const std::string longer = line.empty() ? std::string(word) : line + " " + std::string(word);
    if (!line.empty() && text_width(longer, font) > width) {
      // The last line takes all that is left, and shows by its ellipsis that it was cut.
      if (lines.size() + 1 == most_lines) {
        lines.push_back(fitted(line + " " + std::string(rest), font, width));
        return lines;
      }
      lines.push_back(fitted(line, font, width));
      line = word;
    } else {
      line = longer;
    }
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (breaks) {
      lines.push_back(fitted(line, font, width));
      line.clear();
    }
  }
  if (!line.empty() && lines.size() < most_lines) lines.push_back(fitted(line, font, width));
  return lines;
}

PixelBox Canvas::text_box(std::string_view text, Font font, Point at, HAlign h, VAlign v,
                          bool upright) const {
  const double length = text_width(text, font), height = line_height(font);
  const double width = upright ? height : length, tall = upright ? length : height;
  const double x = at.x - (h == HAlign::left ? 0 : h == HAlign::center ? width / 2 : width);
  const double y = at.y - (v == VAlign::top ? 0 : v == VAlign::middle ? tall / 2 : tall);
  return {x, y, x + width, y + tall};
}

void Canvas::text(std::string_view text, Font font, Color color, Point at, HAlign h, VAlign v, TextRole role,
                  bool upright, bool halo) {
  const PixelBox picture = bounds();
  const std::string shown = fitted(text, font, upright ? picture.height() : picture.width());
  if (shown.empty() || line_height(font) > (upright ? picture.width() : picture.height()) || !finite(at))
    return;

  // Move the text into the picture where it would stick out.
  PixelBox box = text_box(shown, font, at, h, v, upright);
  const double right = std::max(0.0, -box.x0) - std::max(0.0, box.x1 - picture.x1);
  const double down = std::max(0.0, -box.y0) - std::max(0.0, box.y1 - picture.y1);
  box = {box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down};

  cairo_t* context = surface_->context;
  use(font);
  cairo_font_extents_t extents;
  cairo_font_extents(context, &extents);
  cairo_save(context);
  if (upright) {
    cairo_move_to(context, box.x0 + extents.ascent, box.y1);
    cairo_rotate(context, -std::numbers::pi / 2);
  } else {
    // Baselines on whole pixels: horizontal strokes stay sharp.
    cairo_move_to(context, box.x0, std::round(box.y0 + extents.ascent));
  }
  if (halo) {
    cairo_text_path(context, shown.c_str());
    use(Stroke{theme_.background.with_alpha(0.85), 3, {}});
    cairo_stroke_preserve(context);
    use(color);
    cairo_fill(context);
  } else {
    use(color);
    cairo_show_text(context, shown.c_str());
  }
  cairo_restore(context);
  cairo_new_path(context);
  texts_.push_back({box, shown, role});
}

void Canvas::fill(const PixelBox& box, Color color) {
  use(color);
  cairo_rectangle(surface_->context, reachable(box.x0), reachable(box.y0),
                  reachable(box.x1) - reachable(box.x0), reachable(box.y1) - reachable(box.y0));
  cairo_fill(surface_->context);
}

void Canvas::outline(const PixelBox& box, const Stroke& stroke) {
  const double inset = px(stroke.width) / 2;
  const PixelBox inner{reachable(box.x0) + inset, reachable(box.y0) + inset, reachable(box.x1) - inset,
                       reachable(box.y1) - inset};
  if (inner.width() <= 0 || inner.height() <= 0) {
    fill(box, stroke.color);
    return;
  }
  use(stroke);
  cairo_set_line_join(surface_->context, CAIRO_LINE_JOIN_MITER);
  cairo_rectangle(surface_->context, inner.x0, inner.y0, inner.width(), inner.height());
  cairo_stroke(surface_->context);
}

void Canvas::hatch(const PixelBox& box, Color color, double spacing, double width) {
  const PixelBox picture = bounds();
  const PixelBox seen{std::max(box.x0, picture.x0), std::max(box.y0, picture.y0),
                      std::min(box.x1, picture.x1), std::min(box.y1, picture.y1)};
  if (seen.width() <= 0 || seen.height() <= 0) return;
  clip(seen);
  use(Stroke{color, width, {}});
  // Lines x + y = n * step through the box.
  const double step = px(spacing) * std::numbers::sqrt2;
  for (double n = std::floor((seen.x0 + seen.y0) / step); n * step <= seen.x1 + seen.y1; ++n) {
    const double sum = n * step;
    cairo_move_to(surface_->context, sum - seen.y0 + 1, seen.y0 - 1);
    cairo_line_to(surface_->context, sum - seen.y1 - 1, seen.y1 + 1);
  }
  cairo_stroke(surface_->context);
  unclip();
}

void Canvas::rule(Point from, Point to, const Stroke& stroke) {
  // The width in whole pixels, and the middle of the line where both of its edges fall between pixels.
  const double width = std::max(1.0, std::round(px(stroke.width)));
  const double shift = std::fmod(width, 2) == 1 ? 0.5 : 0;
  const auto snapped = [&](double c) { return std::floor(reachable(c)) + shift; };
  Point a{reachable(from.x), reachable(from.y)}, b{reachable(to.x), reachable(to.y)};
  if (from.x == to.x) a.x = b.x = snapped(from.x);
  if (from.y == to.y) a.y = b.y = snapped(from.y);
  use(stroke);
  cairo_set_line_width(surface_->context, width);
  cairo_move_to(surface_->context, a.x, a.y);
  cairo_line_to(surface_->context, b.x, b.y);
  cairo_stroke(surface_->context);
}

void Canvas::polyline(std::span<const Point> points, const Stroke& stroke, bool closed, Color fill) {
  cairo_t* context = surface_->context;
  if (closed) {
    for (const Point& p : points)
      if (finite(p)) cairo_line_to(context, reachable(p.x), reachable(p.y));
    cairo_close_path(context);
    if (fill.a > 0) {
      use(fill);
      cairo_fill_preserve(context);
    }
  } else {
    // Segments within reach; a new piece starts after each gap.
    const PixelBox reach = bounds().grown(px(64));
    Point end{};
    bool continues = false;
    for (std::size_t i = 0; i + 1 < points.size(); ++i) {
      Point a = points[i], b = points[i + 1];
      if (!finite(a) || !finite(b) || !cut_to(reach, a, b)) {
        continues = false;
        continue;
      }
      if (!continues || a.x != end.x || a.y != end.y) cairo_move_to(context, a.x, a.y);
      cairo_line_to(context, b.x, b.y);
      end = b;
      continues = true;
    }
  }
  if (stroke.width > 0 && stroke.color.a > 0) {
    use(stroke);
    cairo_stroke(context);
  }
  cairo_new_path(context);
}

void Canvas::marker(Marker marker, Point at, double size, Color color, bool halo) {
  if (!finite(at) || !bounds().grown(px(size)).holds(at)) return;
  cairo_t* context = surface_->context;
  const double r = px(size) / 2;
  const auto shape = [&](std::span<const Point> corners) {
    for (const Point& corner : corners) cairo_line_to(context, at.x + r * corner.x, at.y + r * corner.y);
    cairo_close_path(context);
  };
  // Shapes of about equal area.
  switch (marker) {
    case Marker::circle:
    case Marker::ring:
      cairo_arc(context, at.x, at.y, r, 0, 2 * std::numbers::pi);
      break;
    case Marker::square:
      shape(std::array<Point, 4>{{{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}}});
      break;
    case Marker::diamond:
      shape(std::array<Point, 4>{{{0, -1.25}, {1.25, 0}, {0, 1.25}, {-1.25, 0}}});
      break;
    case Marker::triangle_up:
      shape(std::array<Point, 3>{{{0, -1.2}, {1.15, 0.85}, {-1.15, 0.85}}});
      break;
    case Marker::triangle_down:
      shape(std::array<Point, 3>{{{0, 1.2}, {1.15, -0.85}, {-1.15, -0.85}}});
      break;
    case Marker::cross:
    case Marker::plus: {
      const double d = marker == Marker::cross ? 0.8 * r : 0, p = marker == Marker::plus ? 1.1 * r : d;
      cairo_move_to(context, at.x - p, at.y - d);
      cairo_line_to(context, at.x + p, at.y + d);
      cairo_move_to(context, at.x - d, at.y + p);
      cairo_line_to(context, at.x + d, at.y - p);
      break;
    }
  }
  const bool is_line = marker == Marker::cross || marker == Marker::plus || marker == Marker::ring;
  const double width = std::clamp(size / 4, 0.75, 1.75);
  if (halo) {
    use(Stroke{theme_.background, is_line ? width + 2 : 2, {}});
    cairo_stroke_preserve(context);
  }
  if (is_line) {
    use(Stroke{color, width, {}});
    cairo_stroke(context);
  } else {
    use(color);
    cairo_fill(context);
  }
  cairo_new_path(context);
}

void Canvas::arrow(Point from, Point to, const Stroke& stroke) {
  if (!finite(from) || !finite(to)) return;
  const double length = std::hypot(to.x - from.x, to.y - from.y);
  const double head = std::min(px(3.5 + 2 * stroke.width), length), half = 0.38 * head;
  if (length == 0) return;
  const Point along{(to.x - from.x) / length, (to.y - from.y) / length};
  const Point neck{to.x - head * along.x, to.y - head * along.y};
  polyline(std::array<Point, 2>{from, neck}, stroke);
  polyline(std::array<Point, 3>{{{neck.x - half * along.y, neck.y + half * along.x},
                                 to,
                                 {neck.x + half * along.y, neck.y - half * along.x}}},
           Stroke{stroke.color, 0, {}}, true, stroke.color);
}

void Canvas::draw(const Image& image, int x, int y) {
  cairo_surface_t* source = cairo_image_surface_create(CAIRO_FORMAT_ARGB32, image.width, image.height);
  MUSE_REQUIRE(cairo_surface_status(source) == CAIRO_STATUS_SUCCESS, "no memory for a picture of ",
               image.width, " x ", image.height);
  unsigned char* bytes = cairo_image_surface_get_data(source);
  const auto stride = static_cast<std::size_t>(cairo_image_surface_get_stride(source));
  for (int row = 0; row < image.height; ++row)
    for (int col = 0; col < image.width; ++col) {
      const Color color = image.at(col, row);
      const auto premultiplied = [&](std::uint8_t c) {
        return (static_cast<std::uint32_t>(c) * color.a + 127) / 255;
      };
      const std::uint32_t argb = (static_cast<std::uint32_t>(color.a) << 24) |
                                 (premultiplied(color.r) << 16) | (premultiplied(color.g) << 8) |
                                 premultiplied(color.b);
      *reinterpret_cast<std::uint32_t*>(bytes + static_cast<std::size_t>(row) * stride +
                                        4 * static_cast<std::size_t>(col)) = argb;
    }
  cairo_surface_mark_dirty(source);
  cairo_set_source_surface(surface_->context, source, x, y);
  cairo_pattern_set_filter(cairo_get_source(surface_->context), CAIRO_FILTER_NEAREST);
  cairo_paint(surface_->context);
  cairo_surface_destroy(source);
}

void Canvas::clip(const PixelBox& box) {
  cairo_save(surface_->context);
  cairo_rectangle(surface_->context, box.x0, box.y0, std::max(0.0, box.width()), std::max(0.0, box.height()));
  cairo_clip(surface_->context);
}

void Canvas::unclip() {
  cairo_restore(surface_->context);
}

Image Canvas::image() const {
  const cairo_status_t status = cairo_status(surface_->context);
  MUSE_REQUIRE(status == CAIRO_STATUS_SUCCESS, "drawing failed: ", cairo_status_to_string(status));
  cairo_surface_flush(surface_->surface);
  const PixelBox box = bounds();
  Image image(static_cast<int>(box.x1), static_cast<int>(box.y1), {});
  const unsigned char* bytes = cairo_image_surface_get_data(surface_->surface);
  const auto stride = static_cast<std::size_t>(cairo_image_surface_get_stride(surface_->surface));
  // The background is opaque, so nothing is left to divide by alpha.
  for (int row = 0; row < image.height; ++row)
    for (int col = 0; col < image.width; ++col) {
      const std::uint32_t argb = *reinterpret_cast<const std::uint32_t*>(
          bytes + static_cast<std::size_t>(row) * stride + 4 * static_cast<std::size_t>(col));
      image.set(col, row,
                {static_cast<std::uint8_t>(argb >> 16), static_cast<std::uint8_t>(argb >> 8),
                 static_cast<std::uint8_t>(argb), 255});
    }
  return image;
}

}  // namespace muse::render
