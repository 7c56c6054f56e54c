// Stage 2: the queries of one query cluster against the summaries that their centroid sees (docs/math.md,
// section 4).
#pragma once

#include <vector>

#include "muse/config.h"
#include "muse/matrix.h"
#include "muse/softmax_merge.h"
#include "muse/tilted_summaries.h"

namespace muse {

/// (4.1), (4.2), (4.6) Log-masses [n, range] of the key clusters in the summaries' range, carried from the
/// centroid q_bar_i [D] of query cluster i, a row of `summaries`, to each of the queries q [n, D]:
///     δ = q - q̄_i,   ℓ_j = L_ij + s δ·k̃_ij                                        2 n D operations a cluster
/// `monopole` drops δ; `dipole_spread` adds κ/2 s² |δ|² σ̃²_ij / D, κ = kSpreadFactor.
template <class Scalar>
[[nodiscard]] Matrix<Scalar> log_masses(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                                        const Summaries<Scalar>& summaries, Index i, Scalar scale,
                                        Order order);

/// (4.1)-(4.6) Adds to `sum` the attention of the queries q [n, D] of query cluster i, a row of `summaries`,
/// to those key clusters j of the summaries' range that `included[j]` names, as seen from the centroid
/// q_bar_i [D]:
///     LSE = logsumexp_j ℓ_j,   o = sum_j e^{ℓ_j - LSE} ṽ_ij            ℓ_j: log_masses
/// `dipole_value` takes ṽ_ij + s Σ̃_ij δ for the value; `centroid` is `dipole` on
/// plain_summaries. 2 n Ck (D + Dv) operations, and 2 (n Ck + N) D Dv more for dipole_value.
template <class Scalar>
void add_far_field(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                   const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                   const std::vector<bool>& included, Scalar scale, Order order,
                   RunningAttention<Scalar>& sum);

/// The same for summaries of all key clusters, by itself.
template <class Scalar>
[[nodiscard]] Attention<Scalar> far_field(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                                          const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries,
                                          Index i, const std::vector<bool>& included, Scalar scale,
                                          Order order);

/// Operations of stage 2 for n_Ck pairs of a query and a far cluster. `dipole_value` makes the gradients of
/// n_tokens tokens too, each once for every query cluster.
[[nodiscard]] inline double far_field_operations(double n_Ck, double n_tokens, Index D, Index Dv,
                                                 Order order) {
  const double gradients =
      order == Order::dipole_value ? 2 * static_cast<double>(D * Dv) * (n_Ck + n_tokens) : 0;
  return 2 * n_Ck * static_cast<double>(D + Dv) + gradients;
}

}  // namespace muse
