#include "render/attention_figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <span>

#include "muse/check.h"

namespace muse::render {
namespace {

Box cover_of(const std::vector<AttentionBlock>& blocks) {
  if (blocks.empty()) return {0, 0, 1, 1};
  Box box{1e300, 1e300, -1e300, -1e300};
  for (const AttentionBlock& block : blocks) {
    box.x0 = std::min(box.x0, static_cast<double>(block.col0));
    box.x1 = std::max(box.x1, static_cast<double>(block.col1));
    box.y0 = std::min(box.y0, static_cast<double>(block.row0));
    box.y1 = std::max(box.y1, static_cast<double>(block.row1));
  }
  return box;
}

Box box_of(const AttentionBlock& block) {
  return {static_cast<double>(block.col0), static_cast<double>(block.row0), static_cast<double>(block.col1),
          static_cast<double>(block.row1)};
}

}  // namespace

Drawn draw_blocks_figure(const BlocksFigure& blocks) {
  Figure figure(blocks.options);
  figure.title = blocks.title;
  figure.caption = blocks.caption;
  Axes& axes = figure.add();
  const Box extent = blocks.extent.value_or(cover_of(blocks.blocks));
  axes.aspect = (extent.x1 - extent.x0) / (extent.y1 - extent.y0);
  axes.x = {.label = "key position (tokens)",
            .range = Range{extent.x0, extent.x1},
            .tick_style = TickStyle::tokens};
  axes.y = {.label = "query position (tokens)",
            .range = Range{extent.y0, extent.y1},
            .reversed = true,
            .tick_style = TickStyle::tokens};

  // The map lies below everything.
  const bool has_map = !blocks.map.values.empty();
  if (has_map) {
    Heatmap map{.matrix = blocks.map,
                .extent = extent,
                .colormap = blocks.colormap,
                .aggregate = blocks.aggregate,
                .missing_shown = false};
    map.scale = blocks.scale
                    ? *blocks.scale
                    : Scale(ScaleKind::log, percentile_range(std::span<const float>(map.matrix.values), 1,
                                                             100, ScaleKind::log));
    axes.color_bar = color_bar_of(map, blocks.map_label);
    axes.add(std::move(map));
  }

  // Far blocks: one mark a level, so that each has its entry in the legend.
  std::map<std::int64_t, Rects> levels;
  // Dark lines show on all light and middle colours of a map; paper takes the theme's own.
  Rects exact{.label = "exact"};
  exact.hatch =
      has_map ? Color{24, 24, 28}.with_alpha(0.6) : Theme::make(blocks.options.dark).muted.with_alpha(0.8);
  exact.outline = Theme::make(blocks.options.dark).muted;
  std::int64_t lowest = std::numeric_limits<std::int64_t>::max(), highest = 0;
  std::vector<double> values;
  for (const AttentionBlock& block : blocks.blocks)
    if (!block.exact) {
      lowest = std::min(lowest, block.level);
      highest = std::max(highest, block.level);
      values.push_back(block.value);
    }
  const bool by_value = !has_map && blocks.block_color == BlockColor::value;
  const Scale value_scale =
      blocks.scale && !has_map
          ? *blocks.scale
          : Scale(ScaleKind::log, finite_range(std::span<const double>(values), ScaleKind::log));
  for (const AttentionBlock& block : blocks.blocks) {
    if (block.exact) {
      exact.boxes.push_back(box_of(block));
      continue;
    }
    Rects& level = levels[block.level];
    level.boxes.push_back(box_of(block));
    if (by_value) level.fills.push_back(blocks.colormap(value_scale.to_unit(block.value)));
  }
  if (!exact.boxes.empty()) axes.add(std::move(exact));
  for (auto& [number, level] : levels) {
    const Color color = ordinal(number - lowest, highest - lowest + 1);
    const double side = level.boxes.front().y1 - level.boxes.front().y0;
    const bool same = std::all_of(level.boxes.begin(), level.boxes.end(),
                                  [&](const Box& box) { return box.y1 - box.y0 == side; });
    level.label =
        fmt::format("level {}", number) + (same ? fmt::format(" ({} queries)", token_count(side)) : "");
    if (by_value) {
      level.label.clear();
      level.outline = Theme::make(blocks.options.dark).background;
    } else if (has_map) {
      level.outline = color;
      level.outline_width = 2;
      level.halo = true;
    } else {
      level.fill = color.with_alpha(0.55);
      level.outline = color;
      level.outline_width = 1.2;
    }
    axes.add(std::move(level));
  }
  if (by_value) {
    ColorBar bar{.label = blocks.value_label, .colormap = blocks.colormap, .scale = value_scale};
    for (const double value : values) {
      bar.below |= value < value_scale.range().low;
      bar.above |= value > value_scale.range().high;
      if (std::isnan(value)) bar.missing = "no data";
    }
    axes.color_bar = bar;
  }
  return figure.draw();
}

Image draw_blocks(const BlocksFigure& blocks) {
  return draw_blocks_figure(blocks).image;
}

}  // namespace muse::render
