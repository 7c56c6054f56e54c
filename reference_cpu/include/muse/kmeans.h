// Lloyd's k-means with evenly strided seeds (docs/math.md, section 2).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "muse/matrix.h"

namespace muse {

/// Cluster of each token, 0-based; -1 where a token takes no part.
using Labels = std::vector<std::int32_t>;

/// The tokens that k-means starts from: token floor(cN/C) + floor(N/(2C)) of stride c for seed 0; for any
/// other seed a token of each stride drawn by that seed. [C], rising.
[[nodiscard]] std::vector<Index> seed_tokens(Index N, Index C, std::uint64_t seed);

/// (2.1) The nearest centroid of each token, squared Euclidean, ties to the lowest index:
///     label_n = argmax_c ( x_n·c_c - |c_c|²/2 )
/// x [N, D], centroids [C, D]. Clusters with usable[c] == false are no candidates; empty `usable`: all are.
/// 2 C N D operations.
template <class Scalar>
[[nodiscard]] Labels assign_to_nearest(const MatrixView<Scalar>& x, const MatrixView<Scalar>& centroids,
                                       const std::vector<bool>& usable = {});

/// Called after the seeding (pass 0) and after each pass with the centroids [C, D] and the labels [N] they
/// give.
template <class Scalar>
using KmeansObserver = std::function<void(Index pass, const Matrix<Scalar>& centroids, const Labels& labels)>;

/// How k-means runs; (2.2) in docs/math.md.
template <class Scalar>
struct KmeansOptions {
  Index passes = 1;        ///< T
  std::uint64_t seed = 0;  ///< as seed_tokens takes it
  Index sample = 1;        ///< the seeds and the passes look at tokens 0, sample, 2 sample, … only
  std::span<const Index> weights{};  ///< [N] of the tokens in the averages; empty: all 1. Not with a sample.
  KmeansObserver<Scalar> observe{};
};

/// Tokens that the passes look at: ceil(N / sample).
[[nodiscard]] constexpr Index sampled_tokens(Index N, Index sample) {
  return ceil_div(N, sample);
}

/// (2.2) Lloyd passes (assign, then average) on the sample of x [N, D], and one final assignment of all
/// tokens to C <= N clusters. An empty cluster keeps its centroid. Where the sample has fewer than C tokens,
/// that many clusters are used. 2 (passes / sample + 1) C N D operations.
template <class Scalar>
[[nodiscard]] Labels kmeans(const MatrixView<Scalar>& x, Index C, const KmeansOptions<Scalar>& options = {});

/// Operations of kmeans on N tokens of dim D; with no passes, those of one assignment.
[[nodiscard]] double kmeans_operations(Index N, Index C, Index D, Index passes, Index sample = 1);

}  // namespace muse
