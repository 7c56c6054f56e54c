// One plot: its axes, its marks in data coordinates, and how they are drawn into a frame of pixels.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "render/canvas.h"
#include "render/colormap.h"
#include "render/matrix.h"
#include "render/scale.h"

namespace muse::render {

/// A rectangle in data coordinates.
struct Box {
  double x0 = 0, y0 = 0, x1 = 1, y1 = 1;
};

// Marks. A mark with a label gets an entry in the legend; one without a colour gets the next categorical one.
// (Every member has an initializer, so that compilers let designated initializers leave it out.)

/// A matrix as coloured cells. Its first row lies at extent.y0, which is at the top unless the y axis says
/// otherwise. Where several cells fall on one pixel, `aggregate` says what is shown, and a note under the
/// figure says so.
struct Heatmap {
  Matrix matrix = {};
  Box extent = {};  ///< what the whole matrix covers
  Colormap colormap = {};
  Scale scale = {};
  Aggregate aggregate = Aggregate::max;
  bool numbers = false;       ///< write values into cells that are large enough
  bool missing_shown = true;  ///< NaN has a colour of its own; otherwise the background shows
};

/// A line through points, broken where one is not finite.
struct Line {
  std::vector<double> x = {}, y = {};
  std::string label = {};
  std::optional<Color> color = {};
  double width = 1.6;
  std::vector<double> dashes = {};
  bool steps = false;   ///< y[i] holds from x[i] to x[i + 1]
  bool closed = false;  ///< back to the first point
  double fill = 0;      ///< opacity of the inside of a closed line
};

/// Points. On a log axis a value of 0 is drawn in a band of its own below the axis, never dropped.
struct Scatter {
  std::vector<double> x = {}, y = {};
  std::vector<std::string> names = {};  ///< beside the points, where there is room; empty: none
  std::string label = {};
  std::optional<Color> color = {};
  std::vector<Color> colors = {};  ///< one a point, instead of `color`
  Marker marker = Marker::circle;
  double size = 7;
  bool halo =
      true;  ///< a rim of the background's colour, so that points on lines and on each other stand out
};

/// Bars between edges[i] and edges[i + 1], from `base` to heights[i].
struct Bars {
  std::vector<double> edges = {};
  std::vector<double> heights = {};
  std::string label = {};
  std::optional<Color> color = {};
  double base = 0;
};

/// Rectangles. Without fill, hatch and outline nothing is drawn.
struct Rects {
  std::vector<Box> boxes = {};
  std::string label = {};
  std::optional<Color> fill = {};
  std::vector<Color> fills = {};  ///< one a box, instead of `fill`
  std::optional<Color> hatch = {};
  std::optional<Color> outline = {};
  double outline_width = 1;
  bool halo = false;  ///< a rim of the background's colour beside the outline, for rectangles on a heatmap
};

struct ArrowMark {
  double x0 = 0, y0 = 0, x1 = 0, y1 = 0;
};

struct Arrows {
  std::vector<ArrowMark> arrows = {};
  std::string label = {};
  std::optional<Color> color = {};
  double width = 1.4;
};

/// An ellipse with half axes `rx` and `ry`, turned by `angle` radians from x towards y.
struct EllipseMark {
  double x = 0, y = 0, rx = 1, ry = 1, angle = 0;
};

struct Ellipses {
  std::vector<EllipseMark> ellipses = {};
  std::string label = {};
  std::optional<Color> color = {};
  std::vector<Color> colors = {};  ///< one an ellipse, instead of `color`
  double width = 1.2;
  double fill = 0.12;  ///< opacity of the inside
};

/// A line across the whole frame at one value, named where it meets the frame.
struct Guide {
  double at = 0;
  bool vertical = true;
  std::string name = {};
};

/// Text at a point.
struct Annotation {
  double x = 0, y = 0;
  std::string text = {};
  HAlign h = HAlign::left;
  VAlign v = VAlign::bottom;
};

using Mark = std::variant<Heatmap, Line, Scatter, Bars, Rects, Arrows, Ellipses, Guide, Annotation>;

/// Rows of a y axis under one name.
struct AxisGroup {
  double low = 0, high = 1;
  std::string name = {};
};

struct Axis {
  std::string label = {};
  std::string brief = {};  ///< what is written where there is no room for the label
  ScaleKind kind = ScaleKind::linear;
  std::optional<Range> range = {};  ///< absent: what the marks span
  std::optional<bool> reversed =
      {};  ///< absent: only the y axis of a heatmap is, so that row 0 is at the top
  TickStyle tick_style = TickStyle::decimal;
  bool grid = false;
  std::optional<std::vector<Tick>> ticks =
      {};                              ///< instead of computed ones; thinned out where labels would overlap
  std::vector<AxisGroup> groups = {};  ///< y axis only: names outside of the tick labels
};

/// The key to a heatmap's colours, on the right of the frame.
struct ColorBar {
  std::string label = {};
  std::string brief = {};  ///< where there is no room for the label
  Colormap colormap = {};
  Scale scale = {};
  TickStyle tick_style = TickStyle::decimal;
  bool below = false, above = false;  ///< values beyond the range exist: the bar ends in a point
  std::string missing = {};           ///< name of the colour of NaN; empty: none is shown
};

/// The colour bar of a heatmap: says whether values lie beyond the range or are missing.
[[nodiscard]] ColorBar color_bar_of(const Heatmap& heatmap, std::string label);

/// Rows of text in columns as wide as they need. In its frame y counts rows: row i lies from i to i + 1, the
/// headings above the first one, so that a pointer finds the row that it is over. Where not all rows fit, a
/// bar on the right and a last line say which are shown.
struct TextTable {
  struct Row {
    std::vector<std::string> cells = {};
    bool heading = false;              ///< the first cell in bold, over all columns
    bool highlighted = false;          ///< on a background of its own
    std::optional<Color> swatch = {};  ///< a square of that colour before the first cell
  };
  std::vector<std::string> headings = {};
  std::vector<HAlign> aligns = {};  ///< of the columns; missing ones are left
  std::vector<Row> rows = {};
  std::size_t first = 0;  ///< row that is shown first, where not all fit
};

/// One plot, or a table.
struct Axes {
  std::string title = {};
  std::optional<TextTable> table = {};  ///< drawn instead of axes and marks
  Axis x, y;
  double aspect =
      0;  ///< width of the frame over its height, whatever is zoomed into; 0: what the grid leaves
  std::optional<ColorBar> color_bar = {};
  std::vector<Mark> marks = {};

  Axes& add(Mark mark) {
    marks.push_back(std::move(mark));
    return *this;
  }
};

/// From values of one axis to pixels and back.
class AxisMap {
 public:
  AxisMap() = default;
  /// range().low lies at pixel `begin`, range().high at `end`; with a zero band, a log scale leaves room for
  /// 0.
  AxisMap(const Scale& scale, double begin, double end, bool zero_band);

  [[nodiscard]] const Scale& scale() const { return scale_; }
  [[nodiscard]] bool has_zero_band() const { return zero_band_; }
  /// NaN for NaN and for what a log scale cannot show.
  [[nodiscard]] double to_pixel(double value) const;
  [[nodiscard]] double to_value(double pixel) const;
  /// Where the band of zeros ends and the scale begins.
  [[nodiscard]] double band_edge() const { return begin_; }

 private:
  Scale scale_;
  double begin_ = 0, end_ = 1, zero_ = 0;
  bool zero_band_ = false;
};

/// Which rows of a table are shown where not all fit, and what a pointer can grip to see others.
struct Scrolled {
  std::size_t first = 0, shown = 0, rows = 0;
  PixelBox track, thumb;      ///< the bar: its thumb stands for the rows that are shown
  PixelBox more;              ///< the last line
  std::size_t more_leads_to;  ///< row that is first after a click on it

  [[nodiscard]] std::size_t last_first() const { return rows - shown; }
};

/// Where a plot lies in the picture: what a pointer needs to find the value under it.
struct Frame {
  PixelBox box;
  AxisMap x, y;
  std::vector<double> columns = {};       ///< of a table: left edges of its columns, in pixels
  std::optional<Scrolled> scrolled = {};  ///< of a table with more rows than fit

  [[nodiscard]] bool is_table() const { return !columns.empty(); }

  [[nodiscard]] Point to_pixel(double x_value, double y_value) const {
    return {x.to_pixel(x_value), y.to_pixel(y_value)};
  }
};

/// How much of the furniture is drawn; a small picture leaves out the least important things first.
enum class Detail { all, short_caption, no_caption, no_labels, no_ticks };

/// Room around a frame, in pixels.
struct Margins {
  double left = 0, top = 0, right = 0, bottom = 0;
};

/// The room that the furniture of a frame of that size needs.
[[nodiscard]] Margins measure_axes(const Axes& axes, const Canvas& canvas, double width, double height,
                                   Detail detail);

/// Draws everything; adds a sentence to `notes` for each thing that is not shown as it is.
Frame draw_axes(const Axes& axes, Canvas& canvas, const PixelBox& box, Detail detail,
                std::vector<std::string>& notes);

}  // namespace muse::render
