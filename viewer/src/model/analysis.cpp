#include "model/analysis.h"

#include <fmt/format.h>

#include <algorithm>

#include "muse/check.h"

namespace muse::viewer {
namespace {

std::string head_key(const Slot& slot) {
  return fmt::format("{}/{}/{}/{}", slot.batch, slot.head, slot.tokens,
                     slot.in_double() ? "double" : "float");
}

// What exact attention depends on.
std::string truth_key(const Slot& slot) {
  return head_key(slot) + (slot.causal() ? "/causal" : "/acausal");
}

std::string block_key(const Block& block) {
  return fmt::format("/{}:{}:{}:{}:{}", block.level, block.query_begin, block.query_end, block.key_begin,
                     block.key_end);
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
  if (slot.on_gpu()) key += fmt::format("/gpu/{}", tools::dtype_word(slot.device));
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

CountedQueries Analysis::counted_queries(const ViewState& state, Task& task) {
  CountedQueries counted;
  const std::optional<ValueFilter>& filter = state.selection.filter;
  if (!filter || filter->per != ErrorPer::query) return counted;
  const ErrorMetric metric = state.view.error_metric();
  for (const double error : query_errors(state.a(), task)->by(metric))
    counted.flags.push_back(filter->holds(error) ? 1 : 0);
  counted.key =
      fmt::format("/{} of {} in {}:{}", name_of(metric), slot_key(state.a()), filter->low, filter->high);
  return counted;
}

std::shared_ptr<const BlockParts> Analysis::block_parts(const Slot& slot, Task& task,
                                                        const CountedQueries& counted) {
  const std::string key = slot_key(slot) + fmt::format("/{}", slot.config.block);
  return block_parts_.get(key + counted.key, [&] {
    const auto terms = block_terms_.get(key, [&] {
      const auto truth = exact(slot, task);
      const auto approximate = run(slot, task);
      return block_terms_of(*session_, slot, *truth, *approximate, task);
    });
    return block_parts_of(*terms, counted);
  });
}

std::shared_ptr<const PairErrors> Analysis::pair_errors(const Slot& slot, const Block& block, Task& task,
                                                        const CountedQueries& counted) {
  return pair_errors_.get(slot_key(slot) + block_key(block) + counted.key, [&] {
    const auto truth = exact(slot, task);
    const auto approximate = run(slot, task);
    return pair_errors_of(*session_, slot, block, *truth, *approximate, counted, task);
  });
}

std::shared_ptr<const RetrievedPairs> Analysis::retrieved_pairs(const Slot& slot, Task& task) {
  constexpr Index kCells = 256;
  return retrieved_pairs_.get(slot_key(slot), [&] {
    const auto approximate = run(slot, task);
    return retrieved_pairs_of(*session_, slot, kCells, *approximate, task);
  });
}

std::shared_ptr<const Projection> Analysis::projection(const Slot& slot, const Block& block, Basis basis,
                                                       Task& task) {
  const std::string key =
      slot_key(slot) + block_key(block) + (basis == Basis::joint ? "/joint" : "/separate");
  return projections_.get(key, [&] {
    const auto approximate = run(slot, task);
    return projection_of(*session_, slot, block, basis, *approximate, task);
  });
}

std::shared_ptr<const Explanation> Analysis::explanation(const Slot& slot, Index query, Task& task) {
  return explanations_.get(slot_key(slot) + fmt::format("/{}", query), [&] {
    MUSE_REQUIRE(slot.method == Method::muse, "stages of a query: only method muse has them; found ",
                 slot_word(slot));
    const auto approximate = run(slot, task);
    Progress& progress = task.stage("stages of the query", 1);
    const auto explained = [&]<class Scalar>(Scalar) {
      return explain_query<Scalar>(*session_->head<Scalar>(slot.batch, slot.head, slot.tokens), query,
                                   slot.config, approximate->labels_q, approximate->labels_k, &progress);
    };
    return slot.in_double() ? explained(double{}) : explained(float{});
  });
}

std::shared_ptr<const QueryProfile> Analysis::profile(const Slot& slot, Index query, Task& task) {
  return profiles_.get(slot_key(slot) + fmt::format("/{}", query), [&] {
    const auto approximate = run(slot, task);
    return query_profile_of(*session_, slot, query, *approximate, task);
  });
}

std::shared_ptr<const TradeOff> Analysis::trade_off(const Slot& slot, Grid grid, double max_error,
                                                    Task& task) {
  Slot current = slot;
  current.method = Method::muse;
  current.device.precision = tools::Precision::single;
  const std::string key =
      slot_key(current) + fmt::format("/{}/{}", grid == Grid::full ? "full" : "quick", max_error);
  return trade_offs_.get(key, [&] {
    const auto truth = exact(current, task);
    return trade_off_of(*session_, current, grid, max_error, *truth, task);
  });
}

std::shared_ptr<const KmeansPasses> Analysis::kmeans_passes(const Slot& slot, const Block& block, Side side,
                                                            Task& task) {
  const std::string key = slot_key(slot) + block_key(block) + (side == Side::keys ? "/keys" : "/queries");
  return kmeans_passes_.get(key, [&] { return kmeans_passes_of(*session_, slot, block, side, task); });
}

std::shared_ptr<AttentionPyramid> Analysis::pyramid(const Slot& slot, MapKind map, TokenSort sort,
                                                    Index level, Task& task, const CountedQueries& counted) {
  const std::string key =
      slot_key(slot) +
      fmt::format("/{}/{}/{}", name_of(map), sort == TokenSort::cluster ? "cluster" : "position",
                  sort == TokenSort::cluster ? level : 0) +
      counted.key;
  return *pyramids_.get(key, [&] {
    const auto truth = exact(slot, task);
    const auto approximate = run(slot, task);
    return std::make_shared<AttentionPyramid>(session_->head<float>(slot.batch, slot.head, slot.tokens), slot,
                                              truth, approximate, map, sort, level, counted);
  });
}

}  // namespace muse::viewer
