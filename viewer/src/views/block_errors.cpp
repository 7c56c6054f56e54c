// The error of each block of the hierarchy, with the worst of them in a table.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "views/block_parts_axes.h"
#include "views/error_parts.h"

namespace muse::viewer {
namespace {

using namespace render;

class BlockErrorContent : public ViewContent {
 public:
  BlockErrorContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) parts_.push_back(analysis.block_parts(slot, task, counted_));
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("Error of each block: {}", part_error_formula(metric()));
    figure.brief_title = fmt::format("Error of each block: {}", name_of(metric()));
    // The table has room beside the maps, or is left out: the numbers have all blocks.
    const auto maps = static_cast<double>(parts_.size() + (same_blocks() ? 1 : 0));
    const bool wide = options.width >= (480 * maps + 280) * options.ui_scale;
    std::vector<double> values;
    for (const auto& parts : parts_)
      for (const BlockPart& part : parts->blocks)
        if (part.block.level >= 0) values.push_back(value_of(part));
    const QuantityScale quantity =
        quantity_scale(std::span<const double>(values), is_signed(metric()), state_.view);
    int col = 0;
    for (std::size_t s = 0; s < parts_.size(); ++s) {
      Axes& axes = figure.add(0, col++);
      if (parts_.size() > 1) axes.title = s == 0 ? "A" : "B";
      add_blocks(axes,
                 {.parts = parts_[s].get(),
                  .value = [this](const BlockPart& part) { return value_of(part); },
                  .quantity = quantity,
                  .value_label = fmt::format("{} error", name_of(metric()))},
                 state_, selection, options.dark);
    }
    if (same_blocks()) {
      // Both cut the matrix alike: their difference, block by block.
      std::vector<double> differences;
      for (const BlockPart& part : parts_[0]->blocks)
        if (part.block.level >= 0) differences.push_back(difference_at(part));
      Axes& axes = figure.add(0, col++);
      axes.title = "A − B";
      add_blocks(axes,
                 {.parts = parts_[0].get(),
                  .value = [this](const BlockPart& part) { return difference_at(part); },
                  .quantity = difference_scale(std::span<const double>(differences), state_.view),
                  .value_label = "difference"},
                 state_, selection, options.dark);
    }
    if (wide) {
      figure.col_weights.assign(static_cast<std::size_t>(col), 1.1);
      figure.col_weights.push_back(1.0);
      add_table(figure.add(0, col), selection);
    }
    figure.caption = caption(quantity);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const Frame& f = drawn.frames[hit.frame];
    const BlockPart* part = nullptr;
    const std::size_t maps = parts_.size() + (same_blocks() ? 1 : 0);
    if (hit.frame < maps) {
      part = block_at(*parts_[hit.frame < parts_.size() ? hit.frame : 0], f.y.to_value(at.y),
                      f.x.to_value(at.x));
    } else {
      const auto worst = worst_blocks();
      if (const auto row = table_row(f, at, worst.size())) part = worst[*row];
      if (part != nullptr)
        hit.zoom =
            Zoom{{static_cast<double>(part->block.key_begin), static_cast<double>(part->block.key_end)},
                 {static_cast<double>(part->block.query_begin), static_cast<double>(part->block.query_end)}};
      constexpr std::array<const char*, 7> kWords{"position", "position", "position", "error",
                                                  "error",    "mass",     "bias"};
      hit.option = heading_option(f, at, kWords);
    }
    if (part == nullptr) return hit;
    hit.target.block = part->block;
    hit.readout =
        fmt::format("{}: {} {}, exact mass {}", block_text(part->block), name_of(metric()),
                    short_number(part->error.by(metric()), 4), short_number(part->error.exact_mass, 4));
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {kBlockColumns.begin(), kBlockColumns.end()};
    numbers.columns.insert(numbers.columns.end(), {"clusters_q", "clusters_k", "operations"});
    numbers.columns.insert(numbers.columns.end(), kPartColumns.begin(), kPartColumns.end());
    for (std::size_t s = 0; s < parts_.size(); ++s)
      for (const BlockPart& part : parts_[s]->blocks) {
        add_place(numbers, s, part.block);
        numbers.add(
            {static_cast<double>(part.clusters_q), static_cast<double>(part.clusters_k), part.operations});
        add_part(numbers, part.error);
      }
    return numbers;
  }

 private:
  [[nodiscard]] ErrorMetric metric() const { return state_.view.error_metric(); }

  // What colours say; nothing where the selected range leaves nothing of the block.
  [[nodiscard]] double value_of(const BlockPart& part) const {
    return part_counts(part.error, ErrorPer::block, state_) ? part.error.by(metric())
                                                            : std::numeric_limits<double>::quiet_NaN();
  }

  [[nodiscard]] bool same_blocks() const {
    return parts_.size() == 2 &&
           std::equal(parts_[0]->blocks.begin(), parts_[0]->blocks.end(), parts_[1]->blocks.begin(),
                      parts_[1]->blocks.end(),
                      [](const BlockPart& a, const BlockPart& b) { return a.block == b.block; });
  }
  // A − B of a block of A, where both have the same blocks.
  [[nodiscard]] double difference_at(const BlockPart& part) const {
    const auto other = std::find_if(parts_[1]->blocks.begin(), parts_[1]->blocks.end(),
                                    [&](const BlockPart& b) { return b.block == part.block; });
    return value_of(part) - value_of(*other);
  }

  [[nodiscard]] std::vector<const BlockPart*> worst_blocks() const {
    std::vector<const BlockPart*> blocks;
    for (const BlockPart& part : parts_.front()->blocks)
      if (part.block.level >= 0 && part_counts(part.error, ErrorPer::block, state_)) blocks.push_back(&part);
    const auto key = [&](const BlockPart* part) {
      if (state_.view.table_sort == TableSort::mass) return part->error.exact_mass;
      if (state_.view.table_sort == TableSort::bias) return std::abs(part->error.lse_bias);
      return std::abs(part->error.by(metric()));
    };
    std::stable_sort(blocks.begin(), blocks.end(),
                     [&](const BlockPart* a, const BlockPart* b) { return key(a) > key(b); });
    blocks.resize(std::min(blocks.size(), static_cast<std::size_t>(state_.view.top)));
    if (state_.view.table_sort == TableSort::position)
      std::sort(blocks.begin(), blocks.end(), [](const BlockPart* a, const BlockPart* b) {
        return std::pair(a->block.query_begin, a->block.key_begin) <
               std::pair(b->block.query_begin, b->block.key_begin);
      });
    return blocks;
  }

  void add_table(Axes& axes, const Selection& selection) const {
    axes.title = parts_.size() > 1 ? "Worst blocks of A" : "Worst blocks";
    TextTable table{
        .headings = {"level", "queries", "keys", std::string(name_of(metric())), "share", "mass", "bias"}};
    table.aligns = {HAlign::right, HAlign::left,  HAlign::left, HAlign::right,
                    HAlign::right, HAlign::right, HAlign::right};
    for (const BlockPart* part : worst_blocks())
      table.rows.push_back(
          {.cells = {fmt::format("{}", part->block.level),
                     span_text(part->block.query_begin, part->block.query_end),
                     span_text(part->block.key_begin, part->block.key_end),
                     short_number(part->error.by(metric())), short_number(part->error.share),
                     short_number(part->error.exact_mass), short_number(part->error.lse_bias)},
           .highlighted = selection.shown().block == part->block});
    axes.table = std::move(table);
  }

  [[nodiscard]] std::string caption(const QuantityScale& quantity) const {
    std::string text = subject_of(*session_, state_);
    if (parts_.size() == 2 && !same_blocks())
      text += " A and B cut the matrix into other blocks: no difference is shown.";
    if (same_blocks()) text += " A − B: below zero A errs less.";
    for (std::size_t s = 0; s < parts_.size(); ++s) {
      double share = 0;
      for (const BlockPart& part : parts_[s]->blocks) share += part.error.share;
      text += fmt::format(" {}Error of the head {} (8.1); shares of all blocks add up to {} (8.6).",
                          parts_.size() > 1 ? (s == 0 ? "A: " : "B: ") : "",
                          short_number(parts_[s]->rel_sq_err, 4), short_number(share, 4));
    }
    text += counted_text(counted_, state_.selection) + counted_parts_text(ErrorPer::block, state_.selection);
    return text + fmt::format(
                      " Colours: {}. share: signed part of the head's error; mass: mean exact weight on the "
                      "block's keys; bias: mean L̂ − L of the block (nats). Diagonal blocks are exact.",
                      quantity.words);
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<std::shared_ptr<const BlockParts>> parts_;
  CountedQueries counted_;
};

}  // namespace

std::shared_ptr<const ViewContent> block_error_content(Analysis& analysis, const ViewState& state,
                                                       Task& task) {
  return std::make_shared<BlockErrorContent>(analysis, state, task);
}

}  // namespace muse::viewer
