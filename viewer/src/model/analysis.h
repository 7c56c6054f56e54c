// Everything that is computed about an open dump, each on demand and once. The window calls it on its worker,
// an export directly: the results are the same.
#pragma once

#include <memory>
#include <string>

#include "model/attention_pyramid.h"
#include "model/cache.h"
#include "model/counted_queries.h"
#include "model/dump_session.h"
#include "model/head_runs.h"
#include "model/kmeans_passes.h"
#include "model/part_errors.h"
#include "model/projection.h"
#include "model/query_profile.h"
#include "model/retrieved_pairs.h"
#include "model/settings.h"
#include "model/task.h"
#include "model/trade_off.h"
#include "muse/explanation.h"

namespace muse::viewer {

/// Results for (head, method, config), computed when they are first asked for; the latest few are kept. Any
/// thread may call it, two threads that ask for the same at once compute it twice. Every call throws
/// Cancelled if its task is cancelled.
class Analysis {
 public:
  explicit Analysis(std::shared_ptr<const DumpSession> session) : session_(std::move(session)) {}

  [[nodiscard]] const DumpSession& session() const { return *session_; }
  [[nodiscard]] std::shared_ptr<const DumpSession> shared_session() const { return session_; }

  /// Exact attention (1.1) of the slot's head.
  [[nodiscard]] std::shared_ptr<const HeadRun> exact(const Slot& slot, Task& task);
  /// Attention by the slot's method, with labels and costs.
  [[nodiscard]] std::shared_ptr<const HeadRun> run(const Slot& slot, Task& task);
  /// Errors of each query, all metrics (8.1) to (8.4).
  [[nodiscard]] std::shared_ptr<const QueryErrors> query_errors(const Slot& slot, Task& task);
  /// The queries that the filter leaves: those whose error by the view's metric in slot A lies in its range.
  /// All of them without a filter, or with one of pairs or blocks.
  [[nodiscard]] CountedQueries counted_queries(const ViewState& state, Task& task);
  /// Errors, masses and costs of each block (8.5), (8.6), and of the sum up to each level, for the queries
  /// that count.
  [[nodiscard]] std::shared_ptr<const BlockParts> block_parts(const Slot& slot, Task& task,
                                                              const CountedQueries& counted = {});
  /// Errors of each (query cluster, key cluster) of a block (8.5), (8.6).
  [[nodiscard]] std::shared_ptr<const PairErrors> pair_errors(const Slot& slot, const Block& block,
                                                              Task& task, const CountedQueries& counted = {});
  /// Which pairs retrieval attends exactly, in cells.
  [[nodiscard]] std::shared_ptr<const RetrievedPairs> retrieved_pairs(const Slot& slot, Task& task);
  /// Queries and keys of a block in two dimensions, with their clusters.
  [[nodiscard]] std::shared_ptr<const Projection> projection(const Slot& slot, const Block& block,
                                                             Basis basis, Task& task);
  /// One query through every stage: what `muse explain` prints.
  [[nodiscard]] std::shared_ptr<const Explanation> explanation(const Slot& slot, Index query, Task& task);
  /// Weights of one query along the keys, exact and by each order.
  [[nodiscard]] std::shared_ptr<const QueryProfile> profile(const Slot& slot, Index query, Task& task);
  /// Error against cost over a grid around the slot's setting.
  [[nodiscard]] std::shared_ptr<const TradeOff> trade_off(const Slot& slot, Grid grid, double max_error,
                                                          Task& task);
  /// Centroids and labels after each pass of k-means.
  [[nodiscard]] std::shared_ptr<const KmeansPasses> kmeans_passes(const Slot& slot, const Block& block,
                                                                  Side side, Task& task);
  /// Tiles of attention weights; the pyramid computes them when a viewport needs them.
  [[nodiscard]] std::shared_ptr<AttentionPyramid> pyramid(const Slot& slot, MapKind map, TokenSort sort,
                                                          Index level, Task& task,
                                                          const CountedQueries& counted = {});

 private:
  std::shared_ptr<const DumpSession> session_;
  Cache<HeadRun> exact_{4}, runs_{6};
  Cache<QueryErrors> query_errors_{16};
  Cache<BlockTerms> block_terms_{4};
  Cache<BlockParts> block_parts_{8};
  Cache<PairErrors> pair_errors_{8};
  Cache<RetrievedPairs> retrieved_pairs_{4};
  Cache<Projection> projections_{6};
  Cache<Explanation> explanations_{32};
  Cache<QueryProfile> profiles_{16};
  Cache<TradeOff> trade_offs_{8};
  Cache<KmeansPasses> kmeans_passes_{4};
  Cache<std::shared_ptr<AttentionPyramid>> pyramids_{4};
};

/// The block that clusters, pairs and k-means show: that of the view's level and index; else that of the
/// selection, else the largest that holds the selected query, else the first of the highest level.
/// MisfitError where nothing is approximated (a causal head of at most B tokens).
[[nodiscard]] Block block_in_focus(const DumpSession& session, const Slot& slot, const ViewSettings& view,
                                   const Selection& selection);

/// A text that is the same for equal slots, and different for others.
[[nodiscard]] std::string slot_key(const Slot& slot);

}  // namespace muse::viewer
