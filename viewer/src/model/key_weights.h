// The weight that the approximation gives to each single key: what a summary says, spread over its cluster's
// tokens by their shares (3.3).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "muse/config.h"
#include "muse/head.h"
#include "muse/muse_attention.h"

namespace muse::viewer {

/// Weights within one approximated block. For a far cluster j of the query's cluster i, token n of K_j has
///     ŵ_n = e^{ℓ_j - L̂} p_ijn            all orders but the next; 1/n_j for p in the order centroid
///     ŵ_n = e^{ℓ_j - L̂} p_ijn (1 + s δ·(k_n - k̃_ij))        dipole_value
/// and a retrieved token e^{s q·k_n - L̂}: sum_n ŵ_n v_n over all blocks is the approximate output ô exactly.
template <class Scalar>
class BlockWeights {
 public:
  /// Keeps references to all but `block`.
  BlockWeights(const Head<Scalar>& head, const Block& block, const LevelLabels& labels_q,
               const LevelLabels& labels_k, const Config& config);

  /// Calls visit(t, weights, retrieved) for each query of `queries` (tokens of the block's queries, any
  /// order) of cluster i: weights [keys of the block] by position, `lse` [Nq] the log-sum-exp L̂ that they are
  /// relative to. `retrieved` [keys] says which are exact. 2 (2 D + Dv) keys operations a cluster, then
  /// O(keys) a query.
  using Visit =
      std::function<void(Index t, std::span<const Scalar> weights, std::span<const char> retrieved)>;
  void visit_cluster(Index i, std::span<const Index> queries, std::span<const double> lse,
                     const Visit& visit) const;

  [[nodiscard]] const Block& block() const { return block_; }
  [[nodiscard]] const BlockClusters<Scalar>& clusters() const { return clusters_; }
  /// Query cluster of token t.
  [[nodiscard]] Index cluster_of(Index t) const;

 private:
  const Head<Scalar>& head_;
  Block block_;
  const LevelLabels& labels_q_;
  const Config& config_;
  BlockClusters<Scalar> clusters_;
  SortedKeys<Scalar> keys_;
};

}  // namespace muse::viewer
