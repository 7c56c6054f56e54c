// The attention matrix, or a part of it, with the blocks into which the causal decomposition cuts it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "render/figure.h"

namespace muse::render {

/// Queries [row0, row1) against keys [col0, col1).
struct AttentionBlock {
  std::int64_t row0 = 0, row1 = 0;
  std::int64_t col0 = 0, col1 = 0;
  std::int64_t level = 0;
  bool exact = false;                                       ///< every pair is computed; not approximated
  double value = std::numeric_limits<double>::quiet_NaN();  ///< error, mass or cost, where one is to be shown
};

/// What the colour of a block says, where no map lies under the blocks.
enum class BlockColor { level, value };

struct BlocksFigure {
  FigureOptions options{.width = 820, .height = 820};
  std::string title = {}, caption = {};
  Matrix map =
      {};  ///< values of the part that `extent` names; NaN: not attended to; empty: only blocks are drawn
  std::optional<Box> extent = {};  ///< keys x0 to x1, queries y0 to y1; absent: what the blocks cover
  std::string map_label = {};      ///< what the map's values are
  Colormap colormap = {};
  std::optional<Scale> scale =
      {};  ///< of the map or of the blocks' values; absent: logarithmic over what there is
  Aggregate aggregate = Aggregate::max;
  std::vector<AttentionBlock> blocks = {};
  BlockColor block_color = BlockColor::level;
  std::string value_label = {};  ///< what the blocks' values are
};

/// The map with blocks over it: exact blocks hatched, far blocks outlined in the colour of their level.
/// Without a map, far blocks are filled with the colour of their level or value.
[[nodiscard]] Drawn draw_blocks_figure(const BlocksFigure& blocks);
[[nodiscard]] Image draw_blocks(const BlocksFigure& blocks);

}  // namespace muse::render
