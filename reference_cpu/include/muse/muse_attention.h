// Multipole Semantic Attention of one head: clustering, both stages, retrieval, hierarchy, merged
// (docs/math.md, section 7).
#pragma once

#include <functional>
#include <vector>

#include "muse/causal_hierarchy.h"
#include "muse/clusters.h"
#include "muse/config.h"
#include "muse/matrix.h"
#include "muse/progress.h"
#include "muse/softmax_merge.h"
#include "muse/tilted_summaries.h"

namespace muse {

/// The cluster of each token at each level of the hierarchy: everything that the method chooses by
/// clustering. Given back with every result and accepted from outside, so that two computations can share
/// them.
struct LevelLabels {
  Index levels = 0;
  Index tokens = 0;
  Labels values;          ///< [levels, tokens]; -1 where a token takes no part at that level
  double operations = 0;  ///< spent on making them

  LevelLabels() = default;
  LevelLabels(Index levels_, Index tokens_)
      : levels(levels_), tokens(tokens_), values(static_cast<std::size_t>(levels_ * tokens_), -1) {}

  /// Labels of the tokens [begin, end) at `level`.
  [[nodiscard]] std::span<std::int32_t> at(Index level, Index begin, Index end) {
    return std::span(values).subspan(static_cast<std::size_t>(level * tokens + begin),
                                     static_cast<std::size_t>(end - begin));
  }
  [[nodiscard]] std::span<const std::int32_t> at(Index level, Index begin, Index end) const {
    return std::span(values).subspan(static_cast<std::size_t>(level * tokens + begin),
                                     static_cast<std::size_t>(end - begin));
  }
};

/// The blocks that `config` approximates, level by level: far_blocks, or for `acausal` one block of
/// everything.
[[nodiscard]] std::vector<Block> approximated_blocks(Index Nq, Index Nk, const Config& config);

/// The tokens whose queries are clustered to give the expansion points q̄_i of a block.
struct TokenRange {
  Index begin, end;
  [[nodiscard]] Index size() const { return end - begin; }
};
/// `causal`: the first half, wholly in the past of the block's queries. Other modes: the block's queries
/// themselves.
[[nodiscard]] TokenRange home_of_query_clusters(const Block& block, const Config& config);

/// Labels of the keys k [Nk, D] of each block's first half, at each level.
template <class Scalar>
[[nodiscard]] LevelLabels cluster_keys(const MatrixView<Scalar>& k, Index Nq, const Config& config,
                                       Progress* progress = nullptr);

/// Labels of the queries q [Nq, D]: those of each block's home, clustered, and in `causal` mode those of the
/// block's queries, each assigned to the nearest centroid of the home. k [Nk, D] gives the metric.
template <class Scalar>
[[nodiscard]] LevelLabels cluster_queries(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                          const Config& config, Progress* progress = nullptr);

/// One block as far_attention works on it: what its labels define, before any attention.
template <class Scalar>
struct BlockClusters {
  Clusters<Scalar> home;  ///< of the home's queries; its centroids are the q̄_i [Cq, D]
  std::vector<std::vector<Index>>
      queries;            ///< [Cq] the block's queries of each cluster, 0-based in the block, rising
  Clusters<Scalar> keys;  ///< of the block's keys
};

template <class Scalar>
[[nodiscard]] BlockClusters<Scalar> block_clusters(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                                   const Block& block, const LevelLabels& labels_q,
                                                   const LevelLabels& labels_k, const Config& config);

/// Operations by stage; a multiply and an add count as two, exponentials as none.
struct OperationCounts {
  double local = 0;       ///< exact attention in the diagonal blocks
  double clustering = 0;  ///< k-means, assignment, metric
  double summaries = 0;   ///< stage 1
  double far_field = 0;   ///< stage 2
  double retrieval = 0;   ///< exact attention to retrieved tokens

  [[nodiscard]] double total() const { return local + clustering + summaries + far_field + retrieval; }
  OperationCounts& operator+=(const OperationCounts& other);
};

/// Attention of a block's queries to all of its keys: far field of the clusters that are not retrieved,
/// merged with the tokens of those that are. q, k, v are the whole head's.
template <class Scalar>
[[nodiscard]] Attention<Scalar> far_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                              const MatrixView<Scalar>& v, const Block& block,
                                              const BlockClusters<Scalar>& clusters, Scalar scale,
                                              const Config& config, OperationCounts& operations,
                                              Progress* progress = nullptr);

/// Extras of muse_attention, all optional.
template <class Scalar>
struct MuseOptions {
  const LevelLabels* labels_q = nullptr;  ///< use these query labels instead of clustering
  const LevelLabels* labels_k = nullptr;  ///< use these key labels instead of clustering
  /// Called with each part before it is merged: first the diagonal blocks together (level -1, all tokens),
  /// then every approximated block with the attention of its queries.
  std::function<void(const Block&, const Attention<Scalar>&)> on_part;
  Progress* progress = nullptr;
};

/// What muse_attention's progress advances by in all, for Progress::expect: tokens, each counted once a
/// stage.
[[nodiscard]] double progress_units(Index Nq, Index Nk, const Config& config);

/// Wall-clock seconds by stage.
struct StageSeconds {
  double clustering = 0;
  double local = 0;
  double far = 0;
  [[nodiscard]] double total() const { return clustering + local + far; }
};

template <class Scalar>
struct MuseResult {
  Attention<Scalar> attention;
  LevelLabels labels_q, labels_k;
  OperationCounts operations;
  StageSeconds seconds;
};

/// (7.1) MuSe attention of one head: q [Nq, D], k [Nk, D], v [Nk, Dv].
template <class Scalar>
[[nodiscard]] MuseResult<Scalar> muse_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                                const MatrixView<Scalar>& v, Scalar scale,
                                                const Config& config,
                                                const MuseOptions<Scalar>& options = {});

}  // namespace muse
