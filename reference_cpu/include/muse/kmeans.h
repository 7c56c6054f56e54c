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

/// (2.2) `passes` Lloyd passes (assign, then average) and one final assignment of x [N, D] to C <= N
/// clusters. An empty cluster keeps its centroid. `weights` [N], if given, weigh the tokens in the averages.
/// 2 (passes + 1) C N D operations.
template <class Scalar>
[[nodiscard]] Labels kmeans(const MatrixView<Scalar>& x, Index C, Index passes, std::uint64_t seed = 0,
                            std::span<const Index> weights = {}, const KmeansObserver<Scalar>& observe = {});

/// Operations of kmeans on N tokens of dim D; with no passes, those of one assignment.
[[nodiscard]] double kmeans_operations(Index N, Index C, Index D, Index passes);

}  // namespace muse
