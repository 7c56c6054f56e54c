#include "model/analysis.h"

#include <fmt/format.h>

#include <algorithm>

#include "muse/check.h"

namespace muse::viewer {
namespace {

std::string head_key(const Slot& slot) {
  return fmt::format("{}/{}/{}/{}", slot.batch, slot.head, slot.tokens, muse::name_of(slot.dtype));
}

// What exact attention depends on.
std::string truth_key(const Slot& slot) {
  return head_key(slot) + (slot.causal() ? "/causal" : "/acausal");
}

}  // namespace

std::string slot_key(const Slot& slot) {
  std::string key = head_key(slot);
  switch (slot.method) {
    case Method::exact:
      return key + (slot.causal() ? "/exact/causal" : "/exact/acausal");
    case Method::local:
      return key + fmt::format("/local/{}/{}", slot.causal() ? "causal" : "acausal", slot.config.block);
    case Method::muse:
      break;
  }
  for (const OptionInfo& option : option_table()) key += "/" + get_option(slot.config, option.name);
  return key;
}

Block block_in_focus(const DumpSession& session, const Slot& slot, const ViewSettings& view,
                     const Selection& selection) {
  const Dump& dump = session.dump();
  const auto first = [&](Index n) { return slot.tokens == 0 ? n : std::min(slot.tokens, n); };
  const std::vector<Block> blocks =
      approximated_blocks(first(dump.tokens_q()), first(dump.tokens_k()), slot.config);
  MUSE_REQUIRE(!blocks.empty(), "nothing is approximated here: all ", first(dump.tokens_q()),
               " tokens lie in one diagonal block of ", slot.config.block, "; choose a smaller --block");
  const Target& target = selection.shown();
  const auto holds = [&](const Block& block) {
    return target.query && *target.query >= block.query_begin && *target.query < block.query_end;
  };
  if (view.level && *view.level > blocks.back().level)
    throw UsageError(
        fmt::format("--level: expected a level from 0 to {}, found {}", blocks.back().level, *view.level));
  // What the options name, then what is selected.
  if (!view.level && !view.block && target.block && target.block->level >= 0 &&
      std::find(blocks.begin(), blocks.end(), *target.block) != blocks.end())
    return *target.block;
  Index level = blocks.back().level;
  if (view.level) {
    level = *view.level;
  } else if (!view.block) {
    for (const Block& block : blocks)
      if (holds(block)) level = block.level;
    // A query of the first block has no far block; the highest level serves.
    if (std::none_of(blocks.begin(), blocks.end(), holds)) level = blocks.back().level;
  }
  std::vector<Block> of_level;
  for (const Block& block : blocks)
    if (block.level == level) of_level.push_back(block);
  if (view.block) {
    if (*view.block >= static_cast<Index>(of_level.size()))
      throw UsageError(fmt::format("--block-index: expected an index from 0 to {} at level {}, found {}",
                                   of_level.size() - 1, level, *view.block));
    return of_level[static_cast<std::size_t>(*view.block)];
  }
  for (const Block& block : of_level)
    if (holds(block)) return block;
  return of_level.front();
}

std::shared_ptr<const HeadRun> Analysis::exact(const Slot& slot, Task& task) {
  require_slot_fits(*session_, slot);
  return exact_.get(truth_key(slot), [&] { return run_exact(*session_, slot, task); });
}

std::shared_ptr<const HeadRun> Analysis::run(const Slot& slot, Task& task) {
  if (slot.method == Method::exact) return exact(slot, task);
  require_slot_fits(*session_, slot);
  return runs_.get(slot_key(slot), [&] { return run_slot(*session_, slot, task); });
}

std::shared_ptr<const QueryErrors> Analysis::query_errors(const Slot& slot, Task& task) {
  return query_errors_.get(slot_key(slot), [&] {
    const auto truth = exact(slot, task);
    return query_errors_of(run(slot, task)->attention, truth->attention);
  });
}

}  // namespace muse::viewer
