#include "render/compare_figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <span>

#include "muse/check.h"

namespace muse::render {
namespace {

constexpr double kMostDecades = 10;  // of error that the map tells apart; lower ones share the lowest colour

// One row a method and head, methods one below the other.
Matrix error_matrix(const CompareFigure& compare) {
  Matrix matrix;
  for (const CompareMethod& method : compare.methods) {
    MUSE_REQUIRE_EQ(method.errors.size(), compare.heads.size(), "heads of method '", method.name,
                    "' to draw");
    for (const std::vector<double>& head : method.errors) {
      if (matrix.rows == 0) matrix.cols = static_cast<std::int64_t>(head.size());
      MUSE_REQUIRE_EQ(static_cast<std::int64_t>(head.size()), matrix.cols, "query bins of method '",
                      method.name, "'");
      for (const double error : head) matrix.values.push_back(static_cast<float>(error));
      ++matrix.rows;
    }
  }
  return matrix;
}

Scale error_scale(const Matrix& matrix) {
  Range range = finite_range(std::span<const float>(matrix.values), ScaleKind::log);
  range.low = std::max(range.low, range.high * std::pow(10.0, -kMostDecades));
  return {ScaleKind::log, range};
}

void add_error_map(const CompareFigure& compare, Axes& axes, bool has_strip) {
  axes.title = "Error of each query";
  axes.x = {.label = has_strip ? "" : "query position (tokens)",
            .range = Range{0, static_cast<double>(std::max<std::int64_t>(compare.tokens, 1))},
            .tick_style = TickStyle::tokens};
  Matrix matrix = error_matrix(compare);
  const auto rows = static_cast<double>(std::max<std::int64_t>(matrix.rows, 1));
  axes.y.range = Range{0, rows};
  axes.y.ticks.emplace();
  double row = 0;
  for (const CompareMethod& method : compare.methods) {
    axes.y.groups.push_back({row, row + static_cast<double>(compare.heads.size()), method.name});
    for (const std::string& head : compare.heads) axes.y.ticks->push_back({row++ + 0.5, head, true});
  }
  if (matrix.values.empty()) return;
  Heatmap map{.matrix = std::move(matrix), .extent = {0, 0, axes.x.range->high, rows}};
  map.scale = error_scale(map.matrix);
  axes.color_bar = color_bar_of(map, "relative squared error");
  axes.add(std::move(map));
}

// Each level on a line of its own, over the queries that its blocks belong to.
void add_strip(const CompareFigure& compare, Axes& axes) {
  std::int64_t lowest = std::numeric_limits<std::int64_t>::max(), highest = -1;
  bool any_exact = false;
  for (const AttentionBlock& block : compare.blocks) {
    any_exact |= block.exact;
    if (block.exact) continue;
    lowest = std::min(lowest, block.level);
    highest = std::max(highest, block.level);
  }
  const std::int64_t levels = highest < 0 ? 0 : highest - lowest + 1;
  const double bottom = any_exact ? -1 : 0;
  axes.title = "Blocks by level";
  axes.x = {.label = "query position (tokens)",
            .range = Range{0, static_cast<double>(std::max<std::int64_t>(compare.tokens, 1))},
            .tick_style = TickStyle::tokens};
  axes.y.range = Range{bottom, static_cast<double>(std::max<std::int64_t>(levels, 1))};
  axes.y.ticks.emplace();
  if (any_exact) axes.y.ticks->push_back({-0.5, "exact", true});
  const Color ink = Theme::make(compare.options.dark).muted;
  for (const AttentionBlock& block : compare.blocks) {
    const double line = block.exact ? -1 : static_cast<double>(block.level - lowest);
    Rects rects{.boxes = {{static_cast<double>(block.row0), line + 0.15, static_cast<double>(block.row1),
                           line + 0.85}}};
    if (block.exact) {
      rects.hatch = ink.with_alpha(0.8);
      rects.outline = ink;
    } else {
      const Color color = ordinal(block.level - lowest, levels);
      rects.fill = color.with_alpha(0.55);
      rects.outline = color;
    }
    axes.add(std::move(rects));
  }
  for (std::int64_t level = 0; level < levels; ++level)
    axes.y.ticks->push_back({static_cast<double>(level) + 0.5, fmt::format("{}", level + lowest), true});
}

void add_trade_off(const CompareFigure& compare, Axes& axes) {
  constexpr std::array<Marker, 5> kMarkers{Marker::circle, Marker::square, Marker::diamond,
                                           Marker::triangle_up, Marker::triangle_down};
  axes.title = "Error against cost";
  axes.x = {.label = "operations relative to exact attention", .kind = ScaleKind::log};
  axes.y = {.label = "mean relative squared error", .kind = ScaleKind::log, .grid = true};
  axes.add(Guide{.at = 1, .vertical = true, .name = "exact attention: 1×"});

  std::vector<std::string> series;
  for (const ComparePoint& point : compare.points)
    if (std::find(series.begin(), series.end(), point.series) == series.end()) series.push_back(point.series);
  std::vector<Scatter> scatters;
  for (std::size_t s = 0; s < series.size(); ++s) {
    std::vector<ComparePoint> points;
    for (const ComparePoint& point : compare.points)
      if (point.series == series[s]) points.push_back(point);
    std::stable_sort(points.begin(), points.end(), [](const auto& a, const auto& b) {
      return (std::isnan(a.cost) ? INFINITY : a.cost) < (std::isnan(b.cost) ? INFINITY : b.cost);
    });
    const Color color = categorical(static_cast<std::int64_t>(s));
    Scatter scatter{.label = series[s], .color = color, .marker = kMarkers[s % kMarkers.size()], .size = 8};
    Line line{.color = color.with_alpha(0.55), .width = 1.4};
    for (const ComparePoint& point : points) {
      scatter.x.push_back(point.cost);
      scatter.y.push_back(point.error);
      scatter.names.push_back(point.name);
      line.x.push_back(point.cost);
      // No line leads into the band of zeros: there is no slope between a log scale and zero.
      line.y.push_back(point.error > 0 ? point.error : std::numeric_limits<double>::quiet_NaN());
    }
    axes.add(std::move(line));
    scatters.push_back(std::move(scatter));
  }
  // All points above all lines.
  for (Scatter& scatter : scatters) axes.add(std::move(scatter));
}

std::string caption_of(const CompareFigure& compare) {
  std::vector<std::string> parts;
  if (!compare.dump.empty()) parts.push_back(compare.dump);
  if (!compare.heads.empty())
    parts.push_back(fmt::format("{} {}", compare.heads.size(), compare.heads.size() == 1 ? "head" : "heads"));
  if (compare.tokens > 0) parts.push_back(fmt::format("{} tokens (1k = 1024)", compare.tokens));
  if (!compare.mode.empty()) parts.push_back("mode " + compare.mode);
  if (!compare.settings.empty()) parts.push_back(compare.settings);
  std::string caption = fmt::format("{}", fmt::join(parts, " · "));
  if (!caption.empty()) caption += ".";
  const bool any_zero =
      std::any_of(compare.methods.begin(), compare.methods.end(), [](const CompareMethod& method) {
        return std::any_of(method.errors.begin(), method.errors.end(), [](const std::vector<double>& head) {
          return std::find(head.begin(), head.end(), 0.0) != head.end();
        });
      });
  if (any_zero) caption += " Queries without error have the lowest colour of the map.";
  if (!compare.remark.empty()) caption += " " + compare.remark;
  return caption;
}

}  // namespace

Drawn draw_compare_figure(const CompareFigure& compare) {
  Figure figure(compare.options);
  figure.title = compare.title;
  figure.caption = caption_of(compare);
  // A low picture keeps its height for the errors.
  const bool has_strip = !compare.blocks.empty() && compare.options.height >= 380 * compare.options.ui_scale;
  figure.col_weights = {1.25, 1};
  figure.row_weights = {1, 0.28};
  add_error_map(compare, figure.add(0, 0), has_strip);
  add_trade_off(compare, figure.add(0, 1, has_strip ? 2 : 1, 1));
  if (has_strip) add_strip(compare, figure.add(1, 0));
  return figure.draw();
}

Image draw_compare(const CompareFigure& compare) {
  return draw_compare_figure(compare).image;
}

}  // namespace muse::render
