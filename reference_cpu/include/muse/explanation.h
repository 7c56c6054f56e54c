// One query followed through every stage of the method.
#pragma once

#include <vector>

#include "muse/config.h"
#include "muse/head.h"
#include "muse/muse_attention.h"
#include "muse/progress.h"

namespace muse {

/// A key cluster as one query meets it. Masses are natural logarithms.
struct ClusterView {
  Index cluster = 0;       ///< j
  Index tokens = 0;        ///< n_j
  double L = 0;            ///< (3.2), or (3.6) for the centroid order: L_ij, seen from the centroid q̄_i
  double l = 0;            ///< (4.2) ℓ_j, as expanded to the query
  double exact = 0;        ///< logsumexp_n s q·k_n over the cluster's tokens, in double
  double exact_share = 0;  ///< of all of the query's exact mass
  bool retrieved = false;  ///< (5.1) in S_i: its tokens are attended, ℓ_j is not used
};

/// The query in one approximated block.
struct LevelView {
  Block block = {};
  Index size = 0;            ///< S
  TokenRange home{};         ///< the tokens whose queries are clustered
  Index clusters_q = 0;      ///< non-empty query clusters
  Index clusters_k = 0;      ///< non-empty key clusters
  Index cluster = 0;         ///< i, the query's
  Index members = 0;         ///< queries of the home in cluster i: q̄_i is their mean
  double delta_norm = 0;     ///< |δ|, δ = q - q̄_i (4.1)
  double lse_far = 0;        ///< (4.3) of the clusters that are not retrieved
  double lse_retrieved = 0;  ///< (5.2)
  Index retrieved_tokens = 0;
  double lse = 0;                          ///< both merged (1.3)
  double exact_lse = 0;                    ///< of the block's keys
  double share = 0, exact_share = 0;       ///< of the query's mass, each in units of the exact one
  double rel_sq_err = 0;                   ///< ‖ô_b - o_b‖² / ‖o_b‖² of this part alone
  std::vector<ClusterView> clusters = {};  ///< non-empty ones, by falling exact mass
};

/// The diagonal block, up to the query.
struct LocalView {
  Index key_begin = 0, key_end = 0;
  double lse = 0, exact_share = 0;
};

struct Explanation {
  Index head = 0, kv_head = 0, query = 0;
  double q_norm = 0, scale = 0;
  Index keys = 0;        ///< that the query sees
  double exact_lse = 0;  ///< (1.1)
  bool has_local = false;
  LocalView local = {};
  std::vector<LevelView> levels = {};  ///< blocks that hold the query, by level
  double lse = 0;                      ///< (7.1) of all parts merged
  double rel_sq_err = 0;               ///< (8.4)
  double max_abs_err = 0;
  std::vector<double> exact_o = {}, o = {};  ///< [Dv]
};

/// Runs the stages of the method on `head` for query `t`, with the library's own functions and the labels
/// that cluster_queries and cluster_keys give. Cancelled between the levels.
template <class Scalar>
[[nodiscard]] Explanation explain_query(const Head<Scalar>& head, Index t, const Config& config,
                                        const LevelLabels& labels_q, const LevelLabels& labels_k,
                                        const Progress* progress = nullptr);

}  // namespace muse
