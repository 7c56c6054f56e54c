#include "render/axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numbers>
#include <set>
#include <utility>

#include "muse/check.h"
#include "render/label_placement.h"

namespace muse::render {
namespace {

// Sizes in logical pixels: one place for the look of all plots.
constexpr Font kTitleFont{12, true};
constexpr Font kLabelFont{11, false};
constexpr Font kTickFont{10, false};
constexpr Font kLegendFont{10.5, false};
constexpr Font kNameFont{10, false};
constexpr double kTickLength = 4, kMinorTickLength = 2.5, kTickGap = 3, kLabelGap = 7;
constexpr double kBarGap = 12, kBarWidth = 12, kSwatchWidth = 16, kSwatchGap = 6, kEntryGap = 16;
constexpr double kGroupGap = 10, kGroupBracket = 6;
constexpr double kZeroBand = 0.09;  // share of a log axis that values of 0 get
constexpr double kRoom = 0.05;      // share of its extent that is added at the ends of an axis of points

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};
template <class... Cases>
Overloaded(Cases...) -> Overloaded<Cases...>;

// ---- What the marks span ----

struct Span {
  Range range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  bool has_zero = false;
  bool padded = false;  // points should not touch the frame; areas should

  void add(double value, ScaleKind kind) {
    if (kind == ScaleKind::log && value == 0) has_zero = true;
    if (!std::isfinite(value) || (kind == ScaleKind::log && value <= 0)) return;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  }
};

void add_span(const Mark& mark, const Axes& axes, Span& x, Span& y) {
  const ScaleKind kx = axes.x.kind, ky = axes.y.kind;
  const auto add_box = [&](const Box& box) {
    x.add(box.x0, kx), x.add(box.x1, kx), y.add(box.y0, ky), y.add(box.y1, ky);
  };
  const auto add_points = [&](const std::vector<double>& xs, const std::vector<double>& ys) {
    MUSE_REQUIRE_EQ(xs.size(), ys.size(), "points to draw");
    for (std::size_t i = 0; i < xs.size(); ++i) {
      if (std::isnan(xs[i]) || std::isnan(ys[i])) continue;
      x.add(xs[i], kx), y.add(ys[i], ky);
    }
  };
  std::visit(Overloaded{[&](const Heatmap& m) { add_box(m.extent); },
                        [&](const Line& m) {
                          add_points(m.x, m.y);
                          y.padded = true;
                        },
                        [&](const Scatter& m) {
                          add_points(m.x, m.y);
                          x.padded = y.padded = true;
                        },
                        [&](const Bars& m) {
                          MUSE_REQUIRE_EQ(m.edges.size(), m.heights.size() + 1, "edges of bars");
                          for (const double edge : m.edges) x.add(edge, kx);
                          for (const double height : m.heights) y.add(height, ky);
                          y.add(m.base, ky);
                          if (ky == ScaleKind::log) y.has_zero = false;  // a bar of 0 is no bar
                        },
                        [&](const Rects& m) {
                          for (const Box& box : m.boxes) add_box(box);
                        },
                        [&](const Arrows& m) {
                          for (const ArrowMark& a : m.arrows) add_box({a.x0, a.y0, a.x1, a.y1});
                          x.padded = y.padded = true;
                        },
                        [&](const Ellipses& m) {
                          for (const EllipseMark& e : m.ellipses) {
                            // Half extents of a turned ellipse.
                            const double c = std::cos(e.angle), s = std::sin(e.angle);
                            const double w = std::hypot(e.rx * c, e.ry * s),
                                         h = std::hypot(e.rx * s, e.ry * c);
                            add_box({e.x - w, e.y - h, e.x + w, e.y + h});
                          }
                          x.padded = y.padded = true;
                        },
                        [&](const Guide& m) { m.vertical ? x.add(m.at, kx) : y.add(m.at, ky); },
                        [&](const Annotation& m) { x.add(m.x, kx), y.add(m.y, ky); }},
             mark);
}

bool has_heatmap(const Axes& axes) {
  return std::any_of(axes.marks.begin(), axes.marks.end(),
                     [](const Mark& mark) { return std::holds_alternative<Heatmap>(mark); });
}

struct Scales {
  Scale x, y;
  bool x_zero = false, y_zero = false;
  bool x_reversed = false, y_reversed = false;
};

Scales scales_of(const Axes& axes) {
  Span x, y;
  for (const Mark& mark : axes.marks) add_span(mark, axes, x, y);
  const bool heatmap = has_heatmap(axes);
  const auto scale_of = [&](const Axis& axis, const Span& span) {
    if (axis.range) return Scale(axis.kind, *axis.range);
    if (!(span.range.low <= span.range.high))
      return Scale(axis.kind, axis.kind == ScaleKind::log ? Range{0.1, 1} : Range{0, 1});
    const Range fitting = Scale(axis.kind, span.range).range();
    return Scale(axis.kind, span.padded && !heatmap ? padded(fitting, axis.kind, kRoom) : fitting);
  };
  Scales scales{.x = scale_of(axes.x, x), .y = scale_of(axes.y, y)};
  scales.x_zero = axes.x.kind == ScaleKind::log && x.has_zero;
  scales.y_zero = axes.y.kind == ScaleKind::log && y.has_zero;
  scales.x_reversed = axes.x.reversed.value_or(false);
  scales.y_reversed = axes.y.reversed.value_or(heatmap);
  // Bars stand on the axis: no room under their base.
  for (const Mark& mark : axes.marks)
    if (const auto* bars = std::get_if<Bars>(&mark); bars != nullptr && !axes.y.range) {
      const Range range = scales.y.range();
      if (axes.y.kind == ScaleKind::linear && bars->base == y.range.low && range.high > bars->base)
        scales.y =
            Scale(axes.y.kind, {bars->base, range.high + (y.padded ? 0 : kRoom * (range.high - bars->base))});
    }
  return scales;
}

Frame frame_of(const Scales& scales, const PixelBox& box) {
  return {.box = box,
          .x = scales.x_reversed ? AxisMap(scales.x, box.x1, box.x0, scales.x_zero)
                                 : AxisMap(scales.x, box.x0, box.x1, scales.x_zero),
          .y = scales.y_reversed ? AxisMap(scales.y, box.y0, box.y1, scales.y_zero)
                                 : AxisMap(scales.y, box.y1, box.y0, scales.y_zero)};
}

// ---- Ticks whose labels have room ----

// Whether labels centred on their ticks keep apart; `extents` are their lengths along the axis.
bool labels_fit(const std::vector<double>& positions, const std::vector<double>& extents, double gap) {
  std::vector<std::pair<double, double>> labels;
  for (std::size_t i = 0; i < positions.size(); ++i) labels.emplace_back(positions[i], extents[i]);
  std::sort(labels.begin(), labels.end());
  for (std::size_t i = 0; i + 1 < labels.size(); ++i)
    if (labels[i + 1].first - labels[i].first < 0.5 * (labels[i].second + labels[i + 1].second) + gap)
      return false;
  return true;
}

bool fits(const std::vector<Tick>& ticks, const AxisMap& map, const Canvas& canvas, bool horizontal) {
  std::vector<double> positions, extents;
  for (const Tick& tick : ticks) {
    if (tick.label.empty()) continue;
    positions.push_back(map.to_pixel(tick.value));
    extents.push_back(horizontal ? canvas.text_width(tick.label, kTickFont) : canvas.line_height(kTickFont));
  }
  return labels_fit(positions, extents, canvas.px(horizontal ? 8 : 1));
}

std::vector<Tick> fitting_ticks(const Axis& axis, const AxisMap& map, const Canvas& canvas, bool horizontal,
                                double length) {
  std::vector<Tick> ticks;
  if (axis.ticks) {
    // Own ticks: keep those in range, then every second, third, … label until they fit.
    const Range range = map.scale().range();
    for (const Tick& tick : *axis.ticks)
      if (tick.value >= range.low && tick.value <= range.high) ticks.push_back(tick);
    for (std::size_t keep = 2; keep <= 2 * ticks.size() && !fits(ticks, map, canvas, horizontal); ++keep) {
      ticks.clear();
      for (const Tick& tick : *axis.ticks)
        if (tick.value >= range.low && tick.value <= range.high) ticks.push_back(tick);
      std::size_t n = 0;
      double previous = range.low;
      for (Tick& tick : ticks) {
        // Each group starts with a label of its own.
        for (const AxisGroup& group : axis.groups)
          if (previous < group.low && tick.value >= group.low) n = 0;
        previous = tick.value;
        if (!tick.label.empty() && n++ % keep != 0) tick = {tick.value, "", false};
      }
    }
    return ticks;
  }
  const double per_tick = canvas.px(horizontal ? 80 : 44);
  for (int wanted = std::clamp(static_cast<int>(length / per_tick) + 1, 3, 9); wanted >= 3; --wanted) {
    ticks = make_ticks(map.scale(), wanted, axis.tick_style);
    if (map.has_zero_band()) ticks.insert(ticks.begin(), {0, "0", true});
    if (fits(ticks, map, canvas, horizontal)) return ticks;
  }
  // Even the fewest do not fit: drop every other label, in the end all but one.
  while (!fits(ticks, map, canvas, horizontal)) {
    std::size_t n = 0;
    for (Tick& tick : ticks)
      if (!tick.label.empty() && n++ % 2 == 1) tick = {tick.value, "", false};
  }
  return ticks;
}

double widest_label(const std::vector<Tick>& ticks, const Canvas& canvas) {
  double widest = 0;
  for (const Tick& tick : ticks) widest = std::max(widest, canvas.text_width(tick.label, kTickFont));
  return widest;
}

// ---- Legend ----

struct LegendEntry {
  enum class Kind { line, marker, area, arrow } kind;
  std::string label;
  Color color;
  Marker marker = Marker::circle;
  std::vector<double> dashes = {};
  double width = 1.6;
  std::optional<Color> fill = {}, hatch = {}, outline = {};
  double x = 0;         // left end, from the frame's left edge
  std::size_t row = 0;  // 0 at the top
};

// The colour of each mark: its own, or the next of the palette.
std::vector<Color> colors_of(const Axes& axes) {
  std::vector<Color> colors;
  std::int64_t next = 0;
  for (const Mark& mark : axes.marks)
    colors.push_back(std::visit(
        [&](const auto& m) -> Color {
          if constexpr (requires { m.color; }) return m.color ? *m.color : categorical(next++);
          return {};
        },
        mark));
  return colors;
}

std::vector<LegendEntry> legend_of(const Axes& axes, const Canvas& canvas, double width) {
  std::vector<LegendEntry> entries;
  std::set<std::string> seen;
  const std::vector<Color> colors = colors_of(axes);
  using Kind = LegendEntry::Kind;
  for (std::size_t i = 0; i < axes.marks.size(); ++i) {
    std::optional<LegendEntry> entry;
    const Color color = colors[i];
    std::visit(
        Overloaded{[&](const Line& m) {
                     entry = {.kind = m.closed ? Kind::area : Kind::line, .label = m.label, .color = color};
                     entry->dashes = m.dashes;
                     entry->width = m.width;
                     if (m.closed) {
                       entry->fill = color.with_alpha(m.fill);
                       entry->outline = color;
                     }
                   },
                   [&](const Scatter& m) {
                     entry = {.kind = Kind::marker, .label = m.label, .color = color, .marker = m.marker};
                   },
                   [&](const Bars& m) {
                     entry = {.kind = Kind::area, .label = m.label, .color = color, .fill = color};
                   },
                   [&](const Rects& m) {
                     entry = {.kind = Kind::area, .label = m.label, .color = color, .fill = m.fill};
                     entry->hatch = m.hatch;
                     entry->outline = m.outline;
                   },
                   [&](const Arrows& m) { entry = {.kind = Kind::arrow, .label = m.label, .color = color}; },
                   [&](const Ellipses& m) {
                     entry = {.kind = Kind::area, .label = m.label, .color = color};
                     entry->fill = color.with_alpha(m.fill);
                     entry->outline = color;
                   },
                   [](const auto&) {}},
        axes.marks[i]);
    if (entry && !entry->label.empty() && seen.insert(entry->label).second) entries.push_back(*entry);
  }

  // From left to right, in as many rows as it takes.
  double x = 0;
  std::size_t row = 0;
  const double swatch = canvas.px(kSwatchWidth + kSwatchGap);
  for (LegendEntry& entry : entries) {
    entry.label = canvas.fitted(entry.label, kLegendFont, std::max(0.0, width - swatch));
    const double extent = swatch + canvas.text_width(entry.label, kLegendFont);
    if (x > 0 && x + extent > width) {
      x = 0;
      ++row;
    }
    entry.x = x;
    entry.row = row;
    x += extent + canvas.px(kEntryGap);
  }
  return entries;
}

double legend_row_height(const Canvas& canvas) {
  return 1.25 * canvas.line_height(kLegendFont);
}

void draw_legend(const std::vector<LegendEntry>& entries, Canvas& canvas, Point top_left) {
  for (const LegendEntry& entry : entries) {
    const double x = top_left.x + entry.x;
    const double y =
        std::round(top_left.y + (static_cast<double>(entry.row) + 0.5) * legend_row_height(canvas));
    const double width = canvas.px(kSwatchWidth), half = canvas.px(5);
    const PixelBox box{std::round(x), y - half, std::round(x + width), y + half};
    switch (entry.kind) {
      case LegendEntry::Kind::line:
        canvas.polyline(std::array<Point, 2>{{{x, y}, {x + width, y}}},
                        {entry.color, entry.width, entry.dashes});
        break;
      case LegendEntry::Kind::marker:
        canvas.marker(entry.marker, {x + width / 2, y}, 7, entry.color, false);
        break;
      case LegendEntry::Kind::arrow:
        canvas.arrow({x, y}, {x + width, y}, {entry.color, 1.4, {}});
        break;
      case LegendEntry::Kind::area:
        if (entry.fill) canvas.fill(box, *entry.fill);
        if (entry.hatch) {
          // A hatch made for a map's colours may not show on the background.
          const bool visible = lab_distance(*entry.hatch, canvas.theme().background) > 0.3;
          canvas.hatch(box, visible ? *entry.hatch : canvas.theme().muted, 4);
        }
        if (entry.outline) canvas.outline(box, {*entry.outline, 1.2, {}});
        break;
    }
    canvas.text(entry.label, kLegendFont, canvas.theme().ink, {x + width + canvas.px(kSwatchGap), y},
                HAlign::left, VAlign::middle, TextRole::legend);
  }
}

// ---- Furniture: everything around the frame, computed from the frame's size alone ----

struct Furniture {
  Scales scales;
  Frame frame;  // at the origin
  std::vector<Tick> x_ticks, y_ticks, bar_ticks;
  std::vector<LegendEntry> legend;
  std::size_t legend_rows = 0;
  double y_tick_width = 0, group_width = 0, bar_tick_width = 0;
  bool grouped = false, titled = false, x_labelled = false, y_labelled = false, bar_shown = false,
       bar_labelled = false;
  Margins margins;
};

PixelBox bar_box(const Canvas& canvas, const PixelBox& frame, const ColorBar& bar) {
  // Room for the swatch of missing values under a shorter bar.
  const double swatch = bar.missing.empty() ? 0 : canvas.px(kBarWidth + 10);
  const double left = frame.x1 + canvas.px(kBarGap);
  const double point = canvas.px(kBarWidth) * 0.8;
  return {std::round(left), std::round(frame.y0 + (bar.above ? point : 0)),
          std::round(left + canvas.px(kBarWidth)),
          std::round(std::max(frame.y0 + 1, frame.y1 - swatch - (bar.below ? point : 0)))};
}

Furniture furnish(const Axes& axes, const Canvas& canvas, double width, double height, Detail detail) {
  Furniture f;
  f.scales = scales_of(axes);
  f.frame = frame_of(f.scales, {0, 0, width, height});
  const bool ticks = detail < Detail::no_ticks;
  f.titled = detail < Detail::no_labels && !axes.title.empty();
  if (axes.table) {
    if (f.titled) f.margins.top = canvas.px(8) + canvas.line_height(kTitleFont) + canvas.px(4);
    return f;
  }
  f.x_labelled = detail < Detail::no_labels && !axes.x.label.empty();
  f.y_labelled = detail < Detail::no_labels && !axes.y.label.empty();
  f.bar_shown = ticks && axes.color_bar.has_value();
  f.bar_labelled = f.bar_shown && detail < Detail::no_labels && !axes.color_bar->label.empty();
  const double label_height = canvas.line_height(kLabelFont), tick_height = canvas.line_height(kTickFont);
  if (ticks) {
    f.x_ticks = fitting_ticks(axes.x, f.frame.x, canvas, true, width);
    f.y_ticks = fitting_ticks(axes.y, f.frame.y, canvas, false, height);
    f.y_tick_width = widest_label(f.y_ticks, canvas);
    const double tick_room = canvas.px(kTickLength + kTickGap);
    f.margins.left += tick_room + f.y_tick_width;
    f.margins.bottom += tick_room + tick_height;

    // The outermost labels of the x axis stick out by half; those of the y axis by half of their height.
    for (const Tick& tick : f.x_ticks) {
      const double half = canvas.text_width(tick.label, kTickFont) / 2, at = f.frame.x.to_pixel(tick.value);
      f.margins.right = std::max(f.margins.right, at + half - width);
      f.margins.left = std::max(f.margins.left, half - at);
    }
    f.margins.top = tick_height / 2;
    if (!axes.y.groups.empty() && detail < Detail::no_labels) {
      f.grouped = true;
      const double most = 0.22 * canvas.bounds().width();
      for (const AxisGroup& group : axes.y.groups)
        f.group_width =
            std::max(f.group_width, canvas.text_width(canvas.fitted(group.name, kTickFont, most), kTickFont));
      f.margins.left += canvas.px(kGroupGap + kGroupBracket) + f.group_width;
    }
  }
  if (f.bar_shown) {
    const PixelBox box = bar_box(canvas, f.frame.box, *axes.color_bar);
    Axis bar_axis;
    bar_axis.tick_style = axes.color_bar->tick_style;
    f.bar_ticks = fitting_ticks(bar_axis, AxisMap(axes.color_bar->scale, box.y1, box.y0, false), canvas,
                                false, box.height());
    f.bar_tick_width = widest_label(f.bar_ticks, canvas);
    if (!axes.color_bar->missing.empty())
      f.bar_tick_width = std::max(f.bar_tick_width, canvas.text_width(axes.color_bar->missing, kTickFont));
    const double bar = canvas.px(kBarGap + kBarWidth + kTickLength + kTickGap) + f.bar_tick_width;
    f.margins.right =
        std::max(f.margins.right, bar + (f.bar_labelled ? canvas.px(kLabelGap) + label_height : 0));
  }
  if (f.x_labelled) f.margins.bottom += canvas.px(kLabelGap - 2) + label_height;
  if (f.y_labelled) f.margins.left += canvas.px(kLabelGap) + label_height;
  if (detail < Detail::no_labels) {
    f.legend = legend_of(axes, canvas, width + f.margins.right);
    f.legend_rows = f.legend.empty() ? 0 : f.legend.back().row + 1;
    if (f.legend_rows > 0)
      f.margins.top = std::max(f.margins.top, canvas.px(7)) +
                      static_cast<double>(f.legend_rows) * legend_row_height(canvas);
  }
  if (f.titled)
    f.margins.top = std::max(f.margins.top, canvas.px(8)) + canvas.line_height(kTitleFont) + canvas.px(4);
  return f;
}

// ---- Marks ----

// Boxes in pixels, ordered, cut to the neighbourhood of the frame; empty for what cannot be shown.
PixelBox pixels_of(const Frame& frame, const Box& box) {
  const PixelBox reach = frame.box.grown(64);
  Point a = frame.to_pixel(box.x0, box.y0), b = frame.to_pixel(box.x1, box.y1);
  if (std::isnan(a.x) || std::isnan(a.y) || std::isnan(b.x) || std::isnan(b.y)) return {0, 0, 0, 0};
  const PixelBox sorted{std::min(a.x, b.x), std::min(a.y, b.y), std::max(a.x, b.x), std::max(a.y, b.y)};
  return {std::clamp(sorted.x0, reach.x0, reach.x1), std::clamp(sorted.y0, reach.y0, reach.y1),
          std::clamp(sorted.x1, reach.x0, reach.x1), std::clamp(sorted.y1, reach.y0, reach.y1)};
}

PixelBox rounded(const PixelBox& box) {
  return {std::round(box.x0), std::round(box.y0), std::round(box.x1), std::round(box.y1)};
}

// Draws marks into the frame, and remembers what labels beside points must not cover.
class MarkPainter {
 public:
  MarkPainter(const Axes& axes, const Frame& frame, Canvas& canvas, Detail detail,
              std::vector<std::string>& notes)
      : axes_(axes), frame_(frame), canvas_(canvas), detail_(detail), notes_(notes) {}

  void paint() {
    const std::vector<Color> colors = colors_of(axes_);
    canvas_.clip(frame_.box);
    for (std::size_t i = 0; i < axes_.marks.size(); ++i)
      std::visit([&](const auto& mark) { paint_one(mark, colors[i]); }, axes_.marks[i]);
    canvas_.unclip();
  }

  // Text comes last, above all marks.
  void write() {
    if (detail_ >= Detail::no_labels) return;
    for (const Mark& mark : axes_.marks) {
      if (const auto* guide = std::get_if<Guide>(&mark)) write_guide(*guide);
      if (const auto* annotation = std::get_if<Annotation>(&mark)) write_annotation(*annotation);
    }
    write_names();
  }

 private:
  void paint_one(const Heatmap& m, Color) {
    const PixelBox box = rounded(pixels_of(frame_, m.extent));
    const PixelBox seen{std::max(box.x0, frame_.box.x0), std::max(box.y0, frame_.box.y0),
                        std::min(box.x1, frame_.box.x1), std::min(box.y1, frame_.box.y1)};
    if (seen.width() < 1 || seen.height() < 1) return;

    // Edges of the pixels in units of cells.
    const auto edges_of = [](const AxisMap& map, double first, double last, double origin, double end,
                             std::int64_t cells) {
      PixelEdges edges;
      for (double p = first; p <= last; ++p)
        edges.push_back((map.to_value(p) - origin) / (end - origin) * static_cast<double>(cells));
      return edges;
    };
    const PixelEdges cols = edges_of(frame_.x, seen.x0, seen.x1, m.extent.x0, m.extent.x1, m.matrix.cols);
    const PixelEdges rows = edges_of(frame_.y, seen.y0, seen.y1, m.extent.y0, m.extent.y1, m.matrix.rows);
    const Resampled shown = resample(m.matrix, rows, cols, m.aggregate);
    Image image(static_cast<int>(seen.width()), static_cast<int>(seen.height()), {0, 0, 0, 0});
    for (int y = 0; y < image.height; ++y)
      for (int x = 0; x < image.width; ++x) {
        const float value = shown.pixels.at(y, x);
        if (m.missing_shown || !std::isnan(value)) image.set(x, y, m.colormap(m.scale.to_unit(value)));
      }
    canvas_.draw(image, static_cast<int>(seen.x0), static_cast<int>(seen.y0));
    if (shown.aggregated)
      notes_.push_back(
          fmt::format("Each pixel of the map shows the {} of the cells under it.", name_of(m.aggregate)));
    if (m.numbers) write_numbers(m, seen);
  }

  // Values in the cells, once every cell in sight has room for them.
  void write_numbers(const Heatmap& m, const PixelBox& seen) {
    const double cell_width = std::abs(frame_.x.to_pixel(m.extent.x1) - frame_.x.to_pixel(m.extent.x0)) /
                              static_cast<double>(m.matrix.cols);
    const double cell_height = std::abs(frame_.y.to_pixel(m.extent.y1) - frame_.y.to_pixel(m.extent.y0)) /
                               static_cast<double>(m.matrix.rows);
    if (cell_width < canvas_.px(52) || cell_height < canvas_.px(18)) return;
    for (std::int64_t row = 0; row < m.matrix.rows; ++row)
      for (std::int64_t col = 0; col < m.matrix.cols; ++col) {
        const auto part = [](std::int64_t i, std::int64_t n) {
          return (static_cast<double>(i) + 0.5) / static_cast<double>(n);
        };
        const Point at =
            frame_.to_pixel(m.extent.x0 + part(col, m.matrix.cols) * (m.extent.x1 - m.extent.x0),
                            m.extent.y0 + part(row, m.matrix.rows) * (m.extent.y1 - m.extent.y0));
        const float value = m.matrix.at(row, col);
        if (!seen.holds(at)) continue;
        // As many digits as fit; any number fits with one.
        std::string text = std::isnan(value) ? "–" : short_number(value);
        for (int digits = 2; digits >= 1; --digits)
          if (canvas_.text_width(text, kTickFont) > cell_width - canvas_.px(4))
            text = short_number(value, digits);
        const bool light = to_lab(m.colormap(m.scale.to_unit(value))).L > 0.62;
        canvas_.text(text, kTickFont, light ? Color{16, 16, 20} : Color{248, 248, 250}, at, HAlign::center,
                     VAlign::middle, TextRole::mark);
      }
  }

  void paint_one(const Line& m, Color color) {
    std::vector<Point> points;
    for (std::size_t i = 0; i < m.x.size(); ++i) {
      if (m.steps && i > 0) points.push_back(frame_.to_pixel(m.x[i], m.y[i - 1]));
      points.push_back(frame_.to_pixel(m.x[i], m.y[i]));
    }
    canvas_.polyline(points, {color, m.width, m.dashes}, m.closed, color.with_alpha(m.fill));
    remember(points);
  }

  void paint_one(const Scatter& m, Color color) {
    MUSE_REQUIRE(m.names.empty() || m.names.size() == m.x.size(), "expected a name for each of ", m.x.size(),
                 " points or none, found ", m.names.size());
    MUSE_REQUIRE(m.colors.empty() || m.colors.size() == m.x.size(), "expected a colour for each of ",
                 m.x.size(), " points or none, found ", m.colors.size());
    std::size_t missing = 0, outside = 0;
    for (std::size_t i = 0; i < m.x.size(); ++i) {
      const Point at = frame_.to_pixel(m.x[i], m.y[i]);
      if (!std::isfinite(at.x) || !std::isfinite(at.y)) {
        ++missing;
        continue;
      }
      if (!frame_.box.grown(0.5).holds(at)) {
        ++outside;
        continue;
      }
      canvas_.marker(m.marker, at, m.size, m.colors.empty() ? color : m.colors[i], m.halo);
      const double half = canvas_.px(m.size) * 0.6;
      if (named_) obstacles_.push_back({at.x - half, at.y - half, at.x + half, at.y + half});
      if (!m.names.empty() && !m.names[i].empty())
        names_.push_back({at, m.names[i], canvas_.px(m.size * 0.6 + 3)});
    }
    const std::string subject = m.label.empty() ? "points" : fmt::format("points of “{}”", m.label);
    if (missing > 0)
      notes_.push_back(
          fmt::format("{} of {} {} without a finite value: not shown.", missing, m.x.size(), subject));
    if (outside > 0)
      notes_.push_back(fmt::format("{} of {} {} out of range: not shown.", outside, m.x.size(), subject));
  }

  void paint_one(const Bars& m, Color color) {
    // A bar on a log axis starts at the bottom of the frame.
    const double bottom = frame_.y.scale().kind() == ScaleKind::log ? frame_.y.scale().range().low : m.base;
    for (std::size_t i = 0; i < m.heights.size(); ++i) {
      if (!std::isfinite(m.heights[i]) || m.heights[i] == m.base) continue;
      const PixelBox exact = pixels_of(frame_, {m.edges[i], bottom, m.edges[i + 1], m.heights[i]});
      if (exact.height() <= 0) continue;
      PixelBox box = rounded(exact);
      // A hair of background between bars that are wide enough, and never less than a pixel of bar.
      if (box.width() >= canvas_.px(4)) box.x1 -= std::round(canvas_.px(1));
      if (box.width() < 1) box.x1 = box.x0 + 1;
      if (box.height() < 1) box.y0 = box.y1 - 1;
      canvas_.fill(box, color);
    }
  }

  void paint_one(const Rects& m, Color) {
    MUSE_REQUIRE(m.fills.empty() || m.fills.size() == m.boxes.size(), "expected a fill for each of ",
                 m.boxes.size(), " rectangles or none, found ", m.fills.size());
    for (std::size_t i = 0; i < m.boxes.size(); ++i) {
      PixelBox box = rounded(pixels_of(frame_, m.boxes[i]));
      if (box.x1 < frame_.box.x0 || box.x0 > frame_.box.x1 || box.y1 < frame_.box.y0 ||
          box.y0 > frame_.box.y1)
        continue;
      // A rectangle thinner than a pixel is still seen.
      if (box.width() < 1) box.x1 = box.x0 + 1;
      if (box.height() < 1) box.y1 = box.y0 + 1;
      if (!m.fills.empty()) {
        canvas_.fill(box, m.fills[i]);
      } else if (m.fill) {
        canvas_.fill(box, *m.fill);
      }
      if (m.hatch) canvas_.hatch(box, *m.hatch);
      if (!m.outline) continue;
      const double width = canvas_.px(m.outline_width);
      const bool roomy = std::min(box.width(), box.height()) > 6 * width;
      if (m.halo && roomy)
        canvas_.outline(box, {canvas_.theme().background.with_alpha(0.75), m.outline_width + 1.5, {}});
      // In a crowd of small rectangles the outline must not eat what it frames.
      canvas_.outline(box, {*m.outline, roomy ? m.outline_width : m.outline_width / 2, {}});
    }
  }

  void paint_one(const Arrows& m, Color color) {
    for (const ArrowMark& a : m.arrows)
      canvas_.arrow(frame_.to_pixel(a.x0, a.y0), frame_.to_pixel(a.x1, a.y1), {color, m.width, {}});
  }

  void paint_one(const Ellipses& m, Color color) {
    MUSE_REQUIRE(m.colors.empty() || m.colors.size() == m.ellipses.size(), "expected a colour for each of ",
                 m.ellipses.size(), " ellipses or none, found ", m.colors.size());
    constexpr int kCorners = 72;
    for (std::size_t i = 0; i < m.ellipses.size(); ++i) {
      const EllipseMark& e = m.ellipses[i];
      const double c = std::cos(e.angle), s = std::sin(e.angle);
      std::vector<Point> outline;
      for (int k = 0; k < kCorners; ++k) {
        const double turn = 2 * std::numbers::pi * k / kCorners;
        const double u = e.rx * std::cos(turn), v = e.ry * std::sin(turn);
        outline.push_back(frame_.to_pixel(e.x + c * u - s * v, e.y + s * u + c * v));
      }
      const Color own = m.colors.empty() ? color : m.colors[i];
      canvas_.polyline(outline, {own, m.width, {}}, true, own.with_alpha(m.fill));
    }
  }

  void paint_one(const Guide& m, Color) {
    const double at = m.vertical ? frame_.x.to_pixel(m.at) : frame_.y.to_pixel(m.at);
    if (!std::isfinite(at)) return;
    const PixelBox& box = frame_.box;
    const Stroke stroke{canvas_.theme().muted, 1, {4, 3}};
    if (m.vertical)
      canvas_.rule({at, box.y0}, {at, box.y1}, stroke);
    else
      canvas_.rule({box.x0, at}, {box.x1, at}, stroke);
  }

  void paint_one(const Annotation&, Color) {}

  void write_guide(const Guide& m) {
    if (m.name.empty()) return;
    const PixelBox& box = frame_.box;
    const double gap = canvas_.px(4);
    const double at = m.vertical ? frame_.x.to_pixel(m.at) : frame_.y.to_pixel(m.at);
    if (!std::isfinite(at)) return;
    if (m.vertical) {
      if (at < box.x0 || at > box.x1) return;
      // On the side with more room, below the names of guides close by.
      const double width = canvas_.text_width(m.name, kNameFont), height = canvas_.line_height(kNameFont);
      const bool right = box.x1 - at >= at - box.x0 || box.x1 - at > width + 2 * gap;
      const double x = right ? at + gap : at - gap;
      double y = box.y0 + gap;
      const auto taken = [&] {
        const PixelBox place =
            canvas_.text_box(m.name, kNameFont, {x, y}, right ? HAlign::left : HAlign::right, VAlign::top);
        return std::any_of(guide_names_.begin(), guide_names_.end(),
                           [&](const PixelBox& other) { return place.overlaps(other); });
      };
      while (taken() && y + 2 * height < box.y1) y += height;
      write_inside(m.name, {x, y}, right ? HAlign::left : HAlign::right, VAlign::top, canvas_.theme().muted);
      guide_names_.push_back(obstacles_.back());
    } else {
      if (at < box.y0 || at > box.y1) return;
      const bool above = at - box.y0 > canvas_.line_height(kNameFont) + gap;
      write_inside(m.name, {box.x1 - gap, above ? at - gap / 2 : at + gap / 2}, HAlign::right,
                   above ? VAlign::bottom : VAlign::top, canvas_.theme().muted);
    }
  }

  void write_annotation(const Annotation& m) {
    const Point at = frame_.to_pixel(m.x, m.y);
    if (std::isfinite(at.x) && std::isfinite(at.y) && frame_.box.holds(at))
      write_inside(m.text, at, m.h, m.v, canvas_.theme().ink);
  }

  // Text moved and shortened to lie inside the frame.
  void write_inside(const std::string& text, Point at, HAlign h, VAlign v, Color color) {
    const std::string shown = canvas_.fitted(text, kNameFont, frame_.box.width() - canvas_.px(4));
    if (shown.empty()) return;
    PixelBox box = canvas_.text_box(shown, kNameFont, at, h, v);
    const double right = std::max(0.0, frame_.box.x0 - box.x0) - std::max(0.0, box.x1 - frame_.box.x1);
    const double down = std::max(0.0, frame_.box.y0 - box.y0) - std::max(0.0, box.y1 - frame_.box.y1);
    box = {box.x0 + right, box.y0 + down, box.x1 + right, box.y1 + down};
    canvas_.text(shown, kNameFont, color, {box.x0, box.y0}, HAlign::left, VAlign::top, TextRole::mark, false,
                 true);
    obstacles_.push_back(box);
  }

  void write_names() {
    std::vector<LabelRequest> requests;
    for (const Name& name : names_)
      requests.push_back({name.at, canvas_.text_width(name.text, kNameFont) + canvas_.px(2),
                          canvas_.line_height(kNameFont), name.distance});
    const auto places = place_labels(requests, frame_.box, obstacles_, avoid_);
    std::size_t left_out = 0;
    for (std::size_t i = 0; i < places.size(); ++i) {
      if (!places[i]) {
        ++left_out;
        continue;
      }
      const PixelBox& box = places[i]->box;
      if (places[i]->needs_line) {
        const Point from = names_[i].at;
        const Point to{std::clamp(from.x, box.x0, box.x1), std::clamp(from.y, box.y0, box.y1)};
        const double length = std::hypot(to.x - from.x, to.y - from.y), skip = names_[i].distance;
        if (length > skip)
          canvas_.polyline(
              std::array<Point, 2>{
                  {{from.x + (to.x - from.x) * skip / length, from.y + (to.y - from.y) * skip / length}, to}},
              {canvas_.theme().line, 0.8, {}});
      }
    }
    for (std::size_t i = 0; i < places.size(); ++i)
      if (places[i])
        canvas_.text(names_[i].text, kNameFont, canvas_.theme().ink,
                     {places[i]->box.x0 + canvas_.px(1), places[i]->box.y0}, HAlign::left, VAlign::top,
                     TextRole::mark, false, true);
    if (left_out > 0)
      notes_.push_back(
          fmt::format("{} of {} point labels left out for lack of room.", left_out, names_.size()));
  }

  // Points along a line, close enough that a label on the line covers some.
  void remember(const std::vector<Point>& points) {
    if (!named_) return;
    for (std::size_t i = 0; i + 1 < points.size(); ++i) {
      const Point a = points[i], b = points[i + 1];
      const double length = std::hypot(b.x - a.x, b.y - a.y);
      if (!std::isfinite(length) || length > 1e5) continue;
      const int steps = 1 + static_cast<int>(length / canvas_.px(6));
      for (int k = 0; k < steps; ++k)
        avoid_.push_back({a.x + (b.x - a.x) * k / steps, a.y + (b.y - a.y) * k / steps});
    }
  }

  struct Name {
    Point at;
    std::string text;
    double distance;
  };

  const Axes& axes_;
  const Frame& frame_;
  Canvas& canvas_;
  Detail detail_;
  std::vector<std::string>& notes_;
  // Only named points need to know what is in the way; without names, a million points stay cheap.
  const bool named_ = std::any_of(axes_.marks.begin(), axes_.marks.end(), [](const Mark& mark) {
    const auto* scatter = std::get_if<Scatter>(&mark);
    return scatter != nullptr && !scatter->names.empty();
  });
  std::vector<Name> names_;
  std::vector<PixelBox> obstacles_, guide_names_;
  std::vector<Point> avoid_;
};

// ---- Tables ----

constexpr double kColumnGap = 14, kScrollBar = 7, kLeastThumb = 12;

double row_height(const Canvas& canvas) {
  return std::ceil(1.4 * canvas.line_height(kTickFont));
}

// As wide as their widest cells; where the frame is too narrow, the widest columns give way first.
std::vector<double> column_widths(const TextTable& table, const Canvas& canvas, double width) {
  std::size_t columns = table.headings.size();
  for (const TextTable::Row& row : table.rows) columns = std::max(columns, row.cells.size());
  std::vector<double> widths(columns);
  for (std::size_t c = 0; c < table.headings.size(); ++c)
    widths[c] = canvas.text_width(table.headings[c], kTickFont);
  for (const TextTable::Row& row : table.rows) {
    if (row.heading) continue;
    for (std::size_t c = 0; c < row.cells.size(); ++c)
      widths[c] = std::max(widths[c], canvas.text_width(row.cells[c], kTickFont) +
                                          (c == 0 && row.swatch ? row_height(canvas) : 0));
  }
  double room = width - canvas.px(kColumnGap) * static_cast<double>(columns);
  for (double& w : widths) w += 1, room -= w;
  while (room < -0.5) {
    const auto widest = std::max_element(widths.begin(), widths.end());
    const double cut = std::min(-room, std::max(1.0, 0.05 * *widest));
    if (*widest <= cut) break;
    *widest -= cut;
    room += cut;
  }
  return widths;
}

// The bar and the last line of a table whose rows do not all fit into `box`.
Scrolled draw_scrolling(const TextTable& table, Canvas& canvas, const PixelBox& box, std::size_t fitting) {
  const Theme& theme = canvas.theme();
  Scrolled scrolled{.shown = fitting - 1, .rows = table.rows.size()};
  scrolled.first = std::min(table.first, scrolled.last_first());
  const double height = row_height(canvas), bottom = box.y0 + height * static_cast<double>(scrolled.shown);
  const double scale = (bottom - box.y0) / static_cast<double>(scrolled.rows);
  scrolled.track = {box.x1 - canvas.px(kScrollBar), box.y0, box.x1, bottom};
  const double least = std::min(canvas.px(kLeastThumb), bottom - box.y0);
  const double length = std::max(scale * static_cast<double>(scrolled.shown), least);
  const double at = box.y0 + (bottom - box.y0 - length) * static_cast<double>(scrolled.first) /
                                 static_cast<double>(std::max<std::size_t>(1, scrolled.last_first()));
  scrolled.thumb = {scrolled.track.x0, std::round(at), scrolled.track.x1, std::round(at + length)};
  canvas.fill(scrolled.track, theme.grid);
  canvas.fill(scrolled.thumb, theme.muted.with_alpha(0.7));

  const std::size_t below = scrolled.rows - scrolled.first - scrolled.shown;
  scrolled.more = {box.x0, bottom, box.x1, bottom + height};
  scrolled.more_leads_to = below == 0 ? 0 : std::min(scrolled.first + scrolled.shown, scrolled.last_first());
  const std::string text = below == 0   ? "▴ back to the first row"
                           : below == 1 ? "▾ 1 more row"
                                        : fmt::format("▾ {} more rows", below);
  canvas.text(canvas.fitted(text, kTickFont, box.width()), kTickFont, theme.accent,
              {box.x0, bottom + 0.5 * height}, HAlign::left, VAlign::middle, TextRole::mark);
  return scrolled;
}

Frame draw_table(const TextTable& table, Canvas& canvas, const PixelBox& box,
                 std::vector<std::string>& notes) {
  const Theme& theme = canvas.theme();
  const double height = row_height(canvas);
  const bool headed = !table.headings.empty();
  const double top = box.y0 + (headed ? height : 0);
  const auto fitting = static_cast<std::size_t>(std::max(0.0, std::floor((box.y1 - top) / height)));
  const bool cut = fitting < table.rows.size();
  std::optional<Scrolled> scrolled;
  if (cut && fitting > 1) scrolled = draw_scrolling(table, canvas, {box.x0, top, box.x1, box.y1}, fitting);
  const std::size_t first = scrolled ? scrolled->first : 0;
  const std::size_t shown = scrolled ? scrolled->shown : cut ? 0 : table.rows.size();
  const double right_edge = scrolled ? scrolled->track.x0 - canvas.px(4) : box.x1;
  const std::vector<double> widths = column_widths(table, canvas, right_edge - box.x0);

  const auto write_cells = [&](const std::vector<std::string>& cells, double y, Color color, double indent) {
    double x = box.x0;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const bool right = c < table.aligns.size() && table.aligns[c] == HAlign::right;
      const double left = c == 0 ? indent : 0;
      const std::string text = canvas.fitted(cells[c], kTickFont, widths[c] - left);
      if (!text.empty())
        canvas.text(text, kTickFont, color, {right ? x + widths[c] : x + left, y + 0.5 * height},
                    right ? HAlign::right : HAlign::left, VAlign::middle, TextRole::mark);
      x += widths[c] + canvas.px(kColumnGap);
    }
  };
  if (headed) {
    write_cells(table.headings, box.y0, theme.muted, 0);
    double right = box.x0 - canvas.px(kColumnGap);
    for (const double width : widths) right += width + canvas.px(kColumnGap);
    canvas.rule({box.x0, top - 1}, {std::min(right, right_edge), top - 1}, {theme.line, 1, {}});
  }
  for (std::size_t r = first; r < first + shown; ++r) {
    const TextTable::Row& row = table.rows[r];
    const double y = top + static_cast<double>(r - first) * height;
    if (row.highlighted) canvas.fill({box.x0 - canvas.px(4), y, right_edge, y + height}, theme.grid);
    if (row.heading) {
      if (!row.cells.empty())
        canvas.text(canvas.fitted(row.cells[0], {kTickFont.size, true}, right_edge - box.x0),
                    {kTickFont.size, true}, theme.ink, {box.x0, y + 0.6 * height}, HAlign::left,
                    VAlign::middle, TextRole::mark);
      continue;
    }
    double indent = 0;
    if (row.swatch) {
      const double side = std::round(0.55 * height), at = std::round(y + 0.5 * (height - side));
      canvas.fill({box.x0, at, box.x0 + side, at + side}, *row.swatch);
      indent = height;
    }
    write_cells(row.cells, y, theme.ink, indent);
  }
  if (cut)
    notes.push_back(fmt::format("{} of {} rows of a table left out for lack of room.",
                                table.rows.size() - shown, table.rows.size()));
  const auto rows = static_cast<double>(std::max<std::size_t>(1, fitting));
  const auto low = static_cast<double>(first);
  std::vector<double> columns;
  for (double x = box.x0; const double width : widths) {
    columns.push_back(x);
    x += width + canvas.px(kColumnGap);
  }
  return {.box = box,
          .x = AxisMap(Scale(ScaleKind::linear, {0, 1}), box.x0, box.x1, false),
          .y = AxisMap(Scale(ScaleKind::linear, {low, low + rows}), top, top + rows * height, false),
          .columns = std::move(columns),
          .scrolled = scrolled};
}

// ---- Drawing the furniture ----

void draw_grid(const Axes& axes, const Furniture& f, const Frame& frame, Canvas& canvas) {
  const Stroke stroke{canvas.theme().grid, 1, {}};
  if (axes.y.grid)
    for (const Tick& tick : f.y_ticks)
      if (tick.major)
        canvas.rule({frame.box.x0, frame.y.to_pixel(tick.value)},
                    {frame.box.x1, frame.y.to_pixel(tick.value)}, stroke);
  if (axes.x.grid)
    for (const Tick& tick : f.x_ticks)
      if (tick.major)
        canvas.rule({frame.x.to_pixel(tick.value), frame.box.y0},
                    {frame.x.to_pixel(tick.value), frame.box.y1}, stroke);
  const Stroke dotted{canvas.theme().line, 1, {1, 3}};
  if (frame.y.has_zero_band())
    canvas.rule({frame.box.x0, frame.y.band_edge()}, {frame.box.x1, frame.y.band_edge()}, dotted);
  if (frame.x.has_zero_band())
    canvas.rule({frame.x.band_edge(), frame.box.y0}, {frame.x.band_edge(), frame.box.y1}, dotted);
}

void draw_axis_lines(const Axes& axes, const Furniture& f, const Frame& frame, Canvas& canvas) {
  const Theme& theme = canvas.theme();
  const Stroke line{theme.line, 1, {}};
  const PixelBox& box = frame.box;
  const double pixel = std::max(1.0, std::round(canvas.px(1)));
  // Lines lie just outside of the frame and cover no data.
  canvas.rule({box.x0 - pixel, box.y0}, {box.x0 - pixel, box.y1 + pixel}, line);
  canvas.rule({box.x0 - pixel, box.y1}, {box.x1, box.y1}, line);
  const double length = canvas.px(kTickLength), minor = canvas.px(kMinorTickLength),
               gap = canvas.px(kTickGap);
  for (const Tick& tick : f.x_ticks) {
    const double x = std::min(std::floor(frame.x.to_pixel(tick.value)), box.x1 - 1);
    canvas.rule({x, box.y1 + pixel}, {x, box.y1 + (tick.major ? length : minor)}, line);
    canvas.text(tick.label, kTickFont, theme.muted, {frame.x.to_pixel(tick.value), box.y1 + length + gap},
                HAlign::center, VAlign::top, TextRole::tick);
  }
  const bool names = axes.y.ticks.has_value();
  for (const Tick& tick : f.y_ticks) {
    const double y = std::min(std::floor(frame.y.to_pixel(tick.value)), box.y1 - 1);
    // Named rows need no tick marks: the name stands beside its row.
    if (!names) canvas.rule({box.x0 - (tick.major ? length : minor), y}, {box.x0 - pixel, y}, line);
    canvas.text(tick.label, kTickFont, theme.muted, {box.x0 - length - gap, frame.y.to_pixel(tick.value)},
                HAlign::right, VAlign::middle, TextRole::tick);
  }
}

void draw_groups(const Axes& axes, const Furniture& f, const Frame& frame, Canvas& canvas) {
  const double right = frame.box.x0 - canvas.px(kTickLength + kTickGap + kGroupGap) - f.y_tick_width;
  for (const AxisGroup& group : axes.y.groups) {
    const double a = frame.y.to_pixel(group.low), b = frame.y.to_pixel(group.high);
    const double top = std::clamp(std::min(a, b), frame.box.y0, frame.box.y1);
    const double bottom = std::clamp(std::max(a, b), frame.box.y0, frame.box.y1);
    if (bottom - top < 1) continue;
    const double inset = std::min(canvas.px(2), 0.2 * (bottom - top));
    canvas.rule({right, top + inset}, {right, bottom - inset}, {canvas.theme().line, 1, {}});
    // A name taller than its rows would run into the next one.
    if (bottom - top < canvas.line_height(kTickFont)) continue;
    canvas.text(canvas.fitted(group.name, kTickFont, f.group_width + 0.5), kTickFont, canvas.theme().ink,
                {right - canvas.px(kGroupBracket), 0.5 * (top + bottom)}, HAlign::right, VAlign::middle,
                TextRole::tick);
    if (top > frame.box.y0 + 1)
      canvas.rule({frame.box.x0, std::round(top)}, {frame.box.x1, std::round(top)},
                  {canvas.theme().background, 2, {}});
  }
}

void draw_color_bar(const ColorBar& bar, const Furniture& f, const Frame& frame, Canvas& canvas) {
  const Theme& theme = canvas.theme();
  const PixelBox box = bar_box(canvas, frame.box, bar);
  if (box.height() < 2 || box.width() < 1) return;
  const int width = static_cast<int>(box.width()), height = static_cast<int>(box.height());
  Image image(width, height, {});
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) image.set(x, y, bar.colormap(1 - (y + 0.5) / height));
  canvas.draw(image, static_cast<int>(box.x0), static_cast<int>(box.y0));

  // Points at the ends stand for what lies beyond the range.
  const double middle = 0.5 * (box.x0 + box.x1), point = canvas.px(kBarWidth) * 0.8;
  const Stroke none{theme.line, 0, {}};
  if (bar.above)
    canvas.polyline(std::array<Point, 3>{{{box.x0, box.y0}, {middle, box.y0 - point}, {box.x1, box.y0}}},
                    none, true, bar.colormap(1));
  if (bar.below)
    canvas.polyline(std::array<Point, 3>{{{box.x0, box.y1}, {middle, box.y1 + point}, {box.x1, box.y1}}},
                    none, true, bar.colormap(0));

  const AxisMap map(bar.scale, box.y1, box.y0, false);
  const double tick_length = canvas.px(kTickLength), text_x = box.x1 + canvas.px(kTickLength + kTickGap);
  for (const Tick& tick : f.bar_ticks) {
    const double y = std::clamp(std::floor(map.to_pixel(tick.value)), box.y0, box.y1 - 1);
    canvas.rule({box.x1, y}, {box.x1 + (tick.major ? tick_length : canvas.px(kMinorTickLength)), y},
                {theme.line, 1, {}});
    canvas.text(tick.label, kTickFont, theme.muted, {text_x, map.to_pixel(tick.value)}, HAlign::left,
                VAlign::middle, TextRole::tick);
  }
  if (!bar.missing.empty()) {
    const double side = canvas.px(kBarWidth);
    const PixelBox swatch = rounded({box.x0, frame.box.y1 - side, box.x0 + side, frame.box.y1});
    if (swatch.y0 > box.y1) {
      canvas.fill(swatch, bar.colormap.missing());
      canvas.text(bar.missing, kTickFont, theme.muted, {text_x, 0.5 * (swatch.y0 + swatch.y1)}, HAlign::left,
                  VAlign::middle, TextRole::tick);
    }
  }
  if (f.bar_labelled) {
    const double x = text_x + f.bar_tick_width + canvas.px(kLabelGap);
    canvas.text(canvas.fitted(bar.label, bar.brief, kLabelFont, frame.box.height()), kLabelFont, theme.ink,
                {x, 0.5 * (frame.box.y0 + frame.box.y1)}, HAlign::left, VAlign::middle, TextRole::label,
                true);
  }
}

void draw_labels(const Axes& axes, const Furniture& f, const Frame& frame, Canvas& canvas) {
  const PixelBox& box = frame.box;
  const Theme& theme = canvas.theme();
  const double tick_room = canvas.px(kTickLength + kTickGap);
  if (f.x_labelled) {
    // Under the middle of the frame; a label wider than that may use the room of the furniture beside it.
    const double left = box.x0 - f.margins.left, right = box.x1 + f.margins.right;
    const std::string label = canvas.fitted(axes.x.label, axes.x.brief, kLabelFont, right - left);
    const double half = 0.5 * canvas.text_width(label, kLabelFont);
    const double middle = std::max(left + half, std::min(0.5 * (box.x0 + box.x1), right - half));
    canvas.text(label, kLabelFont, theme.ink,
                {middle, box.y1 + tick_room + canvas.line_height(kTickFont) + canvas.px(kLabelGap - 2)},
                HAlign::center, VAlign::top, TextRole::label);
  }
  if (f.y_labelled)
    canvas.text(canvas.fitted(axes.y.label, axes.y.brief, kLabelFont, box.height()), kLabelFont, theme.ink,
                {box.x0 - f.margins.left, 0.5 * (box.y0 + box.y1)}, HAlign::left, VAlign::middle,
                TextRole::label, true);
  draw_legend(
      f.legend, canvas,
      {box.x0, box.y0 - canvas.px(7) - static_cast<double>(f.legend_rows) * legend_row_height(canvas)});
  if (f.titled)
    canvas.text(canvas.fitted(axes.title, kTitleFont, box.width() + f.margins.right), kTitleFont, theme.ink,
                {box.x0, box.y0 - f.margins.top}, HAlign::left, VAlign::top, TextRole::title);
}

}  // namespace

ColorBar color_bar_of(const Heatmap& heatmap, std::string label) {
  ColorBar bar{.label = std::move(label), .colormap = heatmap.colormap, .scale = heatmap.scale};
  bool missing = false;
  for (const float value : heatmap.matrix.values) {
    // Rounding to float may move an end of the range by a little; that is not beyond it.
    const double position = heatmap.scale.to_unit(value);
    bar.below |= position < -1e-6;
    bar.above |= position > 1 + 1e-6;
    missing |= std::isnan(value);
  }
  if (missing && heatmap.missing_shown) bar.missing = "no data";
  return bar;
}

AxisMap::AxisMap(const Scale& scale, double begin, double end, bool zero_band)
    : scale_(scale), begin_(begin), end_(end), zero_band_(zero_band) {
  if (!zero_band) return;
  zero_ = begin + 0.5 * kZeroBand * (end - begin);
  begin_ = begin + kZeroBand * (end - begin);
}

double AxisMap::to_pixel(double value) const {
  if (zero_band_ && value == 0) return zero_;
  const double position = scale_.to_unit(value);
  return std::isfinite(position) ? begin_ + position * (end_ - begin_)
                                 : std::numeric_limits<double>::quiet_NaN();
}

double AxisMap::to_value(double pixel) const {
  return scale_.from_unit((pixel - begin_) / (end_ - begin_));
}

Margins measure_axes(const Axes& axes, const Canvas& canvas, double width, double height, Detail detail) {
  return furnish(axes, canvas, width, height, detail).margins;
}

Frame draw_axes(const Axes& axes, Canvas& canvas, const PixelBox& box, Detail detail,
                std::vector<std::string>& notes) {
  const Furniture f = furnish(axes, canvas, box.width(), box.height(), detail);
  if (axes.table) {
    draw_labels(axes, f, frame_of(f.scales, box), canvas);
    return draw_table(*axes.table, canvas, box, notes);
  }
  const Frame frame = frame_of(f.scales, box);
  draw_grid(axes, f, frame, canvas);
  MarkPainter painter(axes, frame, canvas, detail, notes);
  painter.paint();
  if (detail < Detail::no_ticks) {
    draw_axis_lines(axes, f, frame, canvas);
    if (f.grouped) draw_groups(axes, f, frame, canvas);
    if (f.bar_shown) draw_color_bar(*axes.color_bar, f, frame, canvas);
  }
  draw_labels(axes, f, frame, canvas);
  painter.write();
  return frame;
}

}  // namespace muse::render
