#include "views/block_outline.h"

#include <fmt/format.h>

#include "views/block_parts_axes.h"

namespace muse::viewer {
namespace {

using namespace render;

class BlockOutlineContent : public ViewContent {
 public:
  BlockOutlineContent(std::shared_ptr<const DumpSession> session, const ViewState& state)
      : session_(std::move(session)), state_(state) {
    for (const Slot& slot : state.slots) {
      const Index Nq = queries_of(*session_, slot), Nk = keys_of(*session_, slot);
      BlockParts parts;
      if (slot.causal())
        for (const Block& block : diagonal_blocks(Nq, slot.config.block))
          parts.blocks.push_back({.block = block});
      for (const Block& block : approximated_blocks(Nq, Nk, slot.config))
        parts.blocks.push_back({.block = block});
      parts_.push_back(std::move(parts));
    }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = "Blocks of the hierarchy";
    for (std::size_t s = 0; s < parts_.size(); ++s) {
      Axes& axes = figure.add(0, static_cast<int>(s));
      if (parts_.size() > 1) axes.title = s == 0 ? "A" : "B";
      add_blocks(axes, {.parts = &parts_[s]}, state_, selection, options.dark);
    }
    figure.caption =
        subject_of(*session_, state_) +
        " Hatched: diagonal blocks, exact and causal; the others are far blocks without a mask (6.1). "
        "Their errors are being computed.";
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    point_at_block(hit, parts_[hit.frame], drawn.frames[hit.frame], at);
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {kBlockColumns.begin(), kBlockColumns.end()};
    for (std::size_t s = 0; s < parts_.size(); ++s)
      for (const BlockPart& part : parts_[s].blocks) add_place(numbers, s, part.block);
    return numbers;
  }

 private:
  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<BlockParts> parts_;
};

}  // namespace

std::shared_ptr<const ViewContent> block_outline_content(std::shared_ptr<const DumpSession> session,
                                                         const ViewState& state) {
  return std::make_shared<BlockOutlineContent>(std::move(session), state);
}

}  // namespace muse::viewer
