#include "views/block_parts_axes.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace muse::viewer {

using namespace render;

namespace {

Box box_of(const Block& block) {
  return {static_cast<double>(block.key_begin), static_cast<double>(block.query_begin),
          static_cast<double>(block.key_end), static_cast<double>(block.query_end)};
}

}  // namespace

std::string block_text(const Block& block) {
  return fmt::format("{}: queries {}, keys {}",
                     block.level < 0 ? std::string("diagonal block") : fmt::format("level {}", block.level),
                     span_text(block.query_begin, block.query_end),
                     span_text(block.key_begin, block.key_end));
}

const BlockPart* block_at(const BlockParts& parts, double query, double key) {
  for (const BlockPart& part : parts.blocks) {
    const Block& b = part.block;
    if (query >= static_cast<double>(b.query_begin) && query < static_cast<double>(b.query_end) &&
        key >= static_cast<double>(b.key_begin) && key < static_cast<double>(b.key_end))
      return &part;
  }
  return nullptr;
}

const BlockPart* point_at_block(Hit& hit, const BlockParts& parts, const Frame& frame, Point at) {
  const double query = frame.y.to_value(at.y), key = frame.x.to_value(at.x);
  const BlockPart* part = block_at(parts, query, key);
  if (part == nullptr) return nullptr;
  hit.target.block = part->block;
  hit.target.query = static_cast<Index>(std::floor(query));
  hit.target.key = static_cast<Index>(std::floor(key));
  hit.readout =
      fmt::format("query {}, key {} · {}", *hit.target.query, *hit.target.key, block_text(part->block));
  return part;
}

void add_place(Numbers& numbers, std::size_t slot, const Block& block) {
  numbers.add({static_cast<double>(slot), static_cast<double>(block.level),
               static_cast<double>(block.query_begin), static_cast<double>(block.query_end),
               static_cast<double>(block.key_begin), static_cast<double>(block.key_end)});
}

void add_blocks(Axes& axes, const BlockAxes& blocks, const ViewState& state, const Selection& selection,
                bool dark) {
  const Theme theme = Theme::make(dark);
  double Nq = 0, Nk = 0;
  Index levels = 0;
  for (const BlockPart& part : blocks.parts->blocks) {
    Nq = std::max(Nq, static_cast<double>(part.block.query_end));
    Nk = std::max(Nk, static_cast<double>(part.block.key_end));
    levels = std::max(levels, part.block.level + 1);
  }
  axes.aspect = Nk / Nq;
  axes.x = {.label = "key position (tokens)",
            .brief = "key",
            .range = state.view.zoom ? state.view.zoom->x : Range{0, Nk},
            .tick_style = TickStyle::tokens};
  axes.y = {.label = "query position (tokens)",
            .brief = "query",
            .range = state.view.zoom ? state.view.zoom->y : Range{0, Nq},
            .reversed = true,
            .tick_style = TickStyle::tokens};
  Rects exact{.label = "exact", .hatch = theme.muted.with_alpha(0.8), .outline = theme.muted};
  Rects later{.label = "not summed yet", .outline = theme.line.with_alpha(0.7)};
  Rects outside{.label = "outside of the selected range", .outline = theme.line.with_alpha(0.7)};
  std::map<Index, Rects> far;
  bool missing = false;
  for (const BlockPart& part : blocks.parts->blocks) {
    const Index level = part.block.level;
    if (level < 0) {
      exact.boxes.push_back(box_of(part.block));
    } else if (blocks.up_to && level > *blocks.up_to) {
      later.boxes.push_back(box_of(part.block));
    } else if (blocks.counts && !blocks.counts(part)) {
      outside.boxes.push_back(box_of(part.block));
    } else {
      Rects& rects = far[level];
      rects.boxes.push_back(box_of(part.block));
      if (!blocks.value) continue;
      const double value = blocks.value(part);
      missing |= std::isnan(value);
      rects.fills.push_back(blocks.quantity.colormap(blocks.quantity.scale.to_unit(value)));
    }
  }
  if (!exact.boxes.empty()) axes.add(std::move(exact));
  for (auto& [level, rects] : far) {
    if (blocks.value) {
      rects.outline = theme.background;
    } else {
      const Color color = ordinal(level, levels);
      const double S = rects.boxes.front().x1 - rects.boxes.front().x0;
      rects.label = fmt::format("level {} (S={})", level, token_count(S));
      rects.fill = color.with_alpha(0.55);
      rects.outline = color;
    }
    axes.add(std::move(rects));
  }
  if (!later.boxes.empty()) axes.add(std::move(later));
  if (!outside.boxes.empty()) axes.add(std::move(outside));
  if (blocks.value) {
    ColorBar bar{.label = blocks.value_label,
                 .brief = blocks.value_brief,
                 .colormap = blocks.quantity.colormap,
                 .scale = blocks.quantity.scale};
    for (const BlockPart& part : blocks.parts->blocks) {
      if (part.block.level < 0) continue;
      const double position = blocks.quantity.scale.to_unit(blocks.value(part));
      bar.below |= position < -1e-6;
      bar.above |= position > 1 + 1e-6;
    }
    if (missing) bar.missing = "no data";
    axes.color_bar = bar;
  }
  const Target& target = selection.shown();
  if (target.block)
    axes.add(Rects{.boxes = {box_of(*target.block)},
                   .label = selection.is_locked() ? "locked" : "",
                   .outline = theme.ink,
                   .outline_width = 2.5,
                   .halo = true});
  if (target.query)
    axes.add(Guide{.at = static_cast<double>(*target.query) + 0.5,
                   .vertical = false,
                   .name = fmt::format("query {}", *target.query)});
  if (target.key)
    axes.add(Guide{.at = static_cast<double>(*target.key) + 0.5, .name = fmt::format("key {}", *target.key)});
}

}  // namespace muse::viewer
