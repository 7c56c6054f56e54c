// The blocks of the hierarchy as rectangles, shared by the views that show them.
#pragma once

#include <functional>
#include <string>

#include "views/view_parts.h"

namespace muse::viewer {

struct BlockAxes {
  const BlockParts* parts = nullptr;
  std::function<double(const BlockPart&)> value = {};  ///< what colours say; absent: the level
  QuantityScale quantity = {};
  std::string value_label = {};
  std::string value_brief = {};                       ///< where there is no room for it
  std::optional<Index> up_to = {};                    ///< levels beyond are outlines only
  std::function<bool(const BlockPart&)> counts = {};  ///< others are outlines only; absent: all count
};

/// Exact blocks hatched, far blocks filled by value or level; the selection outlined and ruled.
void add_blocks(render::Axes& axes, const BlockAxes& blocks, const ViewState& state,
                const Selection& selection, bool dark);

/// The block that holds (query, key), if any.
[[nodiscard]] const BlockPart* block_at(const BlockParts& parts, double query, double key);

/// The same for a pixel, with query and key: what it hits, and that in words. Null where no block is.
const BlockPart* point_at_block(Hit& hit, const BlockParts& parts, const render::Frame& frame,
                                render::Point at);

/// Where a block lies, as all exports of blocks have it: `kBlockColumns`.
inline constexpr std::array<const char*, 6> kBlockColumns{"slot",      "level",     "query_begin",
                                                          "query_end", "key_begin", "key_end"};
void add_place(Numbers& numbers, std::size_t slot, const Block& block);

/// "level 2: queries 4096…8191, keys 0…4095"
[[nodiscard]] std::string block_text(const Block& block);

}  // namespace muse::viewer
