// Retrieval: the key clusters that matter most to a query cluster, attended token by token (docs/math.md,
// section 5).
#pragma once

#include <vector>

#include "muse/config.h"
#include "muse/matrix.h"
#include "muse/softmax_merge.h"
#include "muse/tilted_summaries.h"

namespace muse {

/// What the key clusters are ranked by, [Ck]: the log-mass L_ij, or the log of the mean weight, L_ij - log
/// n_j. -infinity for empty clusters.
template <class Scalar>
[[nodiscard]] RowVector<Scalar> retrieval_ranks(const RowView<Scalar>& L_i, const SortedKeys<Scalar>& keys,
                                                RetrieveBy retrieve_by);

/// (5.1) S_i: the r non-empty key clusters of largest rank [Ck], or all of them if there are fewer; rising,
/// ties to the lowest index. Empty clusters have -infinity.
template <class Scalar>
[[nodiscard]] std::vector<Index> largest_clusters(const RowView<Scalar>& ranks, Index r);

/// (5.2) Exact attention of the queries q [n, D] to all tokens of the key clusters `retrieved`:
///     sum over j in S_i, n in K_j of e^{s q·k_n} v_n, normalised, with its log-sum-exp.
/// 2 n (D + Dv) operations a retrieved token.
template <class Scalar>
[[nodiscard]] Attention<Scalar> attend_retrieved(const MatrixView<Scalar>& q, const SortedKeys<Scalar>& keys,
                                                 const std::vector<Index>& retrieved, Scalar scale);

}  // namespace muse
