// Tokens divided into clusters: what labels mean, and the ways to choose them (docs/math.md, section 2).
#pragma once

#include <span>
#include <vector>

#include "muse/config.h"
#include "muse/kmeans.h"
#include "muse/matrix.h"

namespace muse {

/// N tokens in C clusters, some perhaps empty.
template <class Scalar>
struct Clusters {
  Labels labels;               ///< [N] cluster of each token
  std::vector<Index> order;    ///< [N] tokens sorted by cluster, within a cluster by position
  std::vector<Index> offsets;  ///< [C + 1] tokens of cluster c: order[offsets[c]] … order[offsets[c + 1] - 1]
  Matrix<Scalar> centroids;    ///< [C, D] means of the members; zero where there are none

  [[nodiscard]] Index size() const { return centroids.rows(); }
  [[nodiscard]] Index count(Index c) const {
    return offsets[static_cast<std::size_t>(c) + 1] - offsets[static_cast<std::size_t>(c)];
  }
  /// Tokens of cluster c, rising.
  [[nodiscard]] std::span<const Index> members(Index c) const {
    return std::span(order).subspan(static_cast<std::size_t>(offsets[static_cast<std::size_t>(c)]),
                                    static_cast<std::size_t>(count(c)));
  }
  /// Which clusters have members.
  [[nodiscard]] std::vector<bool> non_empty() const;
};

/// The clusters of x [N, D] that `labels` [N] (each in 0..C-1) define; `weights` as in kmeans. N D
/// operations.
template <class Scalar>
[[nodiscard]] Clusters<Scalar> make_clusters(const MatrixView<Scalar>& x, Labels labels, Index C,
                                             std::span<const Index> weights = {});

/// Contiguous blocks of tokens: label_n = floor(n C / N). The baseline that semantic clusters are compared
/// with.
[[nodiscard]] Labels spatial_blocks(Index N, Index C);

/// Clusters of equal size (within one token) by recursive bisection: a set is split at the median along the
/// line between its two means (ours; `passes` of 2-means find them, from the direction of largest variance).
/// 2 N D log2(C) operations for each pass and the cut, and for each of 16 products that find the first
/// direction.
template <class Scalar>
[[nodiscard]] Labels balanced_bisection(const MatrixView<Scalar>& x, Index C, Index passes);

/// Labels of x [N, D] by `config.cluster_by`, `passes` and `seed`.
template <class Scalar>
[[nodiscard]] Labels cluster_tokens(const MatrixView<Scalar>& x, Index C, const Config& config);

/// Operations of cluster_tokens on N tokens of dim D.
[[nodiscard]] double cluster_operations(Index N, Index C, Index D, const Config& config);

/// (2.3) The symmetric square root [D, D] of the covariance of keys k [N, D]: queries mapped by it are
/// clustered in the metric of the dipole's mass error, ½ s² δᵀ Cov(k,k) δ. 2 N D² operations.
template <class Scalar>
[[nodiscard]] Matrix<Scalar> key_covariance_root(const MatrixView<Scalar>& k);

/// Operations of key_covariance_root of `tokens` keys, and of mapping as many tokens by it.
[[nodiscard]] inline double metric_operations(Index tokens, Index D) {
  return 2 * static_cast<double>(tokens * D * D);
}

}  // namespace muse
