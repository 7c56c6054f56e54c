// How far an approximation is from exact attention (docs/math.md, section 8).
#pragma once

#include <vector>

#include "muse/causal_hierarchy.h"
#include "muse/matrix.h"
#include "muse/softmax_merge.h"

namespace muse {

/// Errors of one head, ô against o. Sums are taken in double.
struct HeadError {
  double rel_sq_err = 0;   ///< (8.1) ‖ô - o‖² / ‖o‖² over all tokens and dims
  double max_abs_err = 0;  ///< (8.2) max |ô - o|
  double lse_bias = 0;     ///< (8.3) mean over tokens of approximate - exact log-sum-exp
  Index non_finite = 0;    ///< outputs that are NaN or infinite; the figures above leave their tokens out,
                           ///< and are NaN if no token is left
};

template <class Scalar>
[[nodiscard]] HeadError head_error(const Attention<Scalar>& approximate, const Attention<Scalar>& exact);

/// (8.4) Relative squared error of each query, ‖ô_n - o_n‖² / ‖o_n‖². [N]; 0 where both are zero.
template <class Scalar>
[[nodiscard]] Vector<double> query_errors(const Attention<Scalar>& approximate,
                                          const Attention<Scalar>& exact);

/// One block's part in the error of a head.
struct BlockError {
  Block block;
  double rel_sq_err = 0;  ///< (8.5) error of the head if this block alone were approximated
  double mass = 0;  ///< mean over the block's queries of the exact attention weight that falls on its keys
  double lse_bias = 0;  ///< mean over the block's queries of approximate - exact log-sum-exp of the block
};

/// (8.5) Replaces one block of exact attention by its approximation: with the block's share of a query's mass
/// w, and ŵ as approximated (in units of the query's exact mass),
///     o' = (o - w o_b + ŵ ô_b) / (1 - w + ŵ),   error = sum over the block's queries ‖o' - o‖² / ‖o‖² of the
///     head.
/// `approximate_part` and `exact_part` are the attention of the block's queries to its keys; `exact` the
/// head's.
template <class Scalar>
[[nodiscard]] BlockError block_error(const Block& block, const Attention<Scalar>& approximate_part,
                                     const Attention<Scalar>& exact_part, const Attention<Scalar>& exact);

}  // namespace muse
