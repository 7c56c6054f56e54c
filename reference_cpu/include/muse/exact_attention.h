// Exact softmax attention: the truth that everything else is measured against (docs/math.md, section 1).
#pragma once

#include "muse/matrix.h"
#include "muse/progress.h"
#include "muse/softmax_merge.h"

namespace muse {

/// The tiles that exact_attention works on. One of scores stays in the first-level cache: 64 x 128 floats are
/// 32 KiB.
constexpr Index kTileQueries = 64;
constexpr Index kTileKeys = 128;

/// Which keys query t sees.
struct Mask {
  bool causal = false;  ///< keys n <= t only
  Index block = 0;      ///< only keys of t's own diagonal block of this many tokens; 0: no blocks

  /// The keys [begin, end) that query t sees, of Nk.
  struct Keys {
    Index begin, end;
  };
  [[nodiscard]] Keys keys(Index t, Index Nk) const {
    const Index begin = block > 0 ? t / block * block : 0;
    const Index end = causal ? t + 1 : (block > 0 ? begin + block : Nk);
    return {begin, end < Nk ? end : Nk};
  }
};

/// (1.1) Exact attention of q [Nq, D] to k [Nk, D], v [Nk, Dv]:
///     o_t = sum_n e^{s q_t·k_n - L_t} v_n,   L_t = logsumexp_n s q_t·k_n
/// over the keys n that `mask` lets t see. 2 (D + Dv) operations a pair; memory O(N (D + Dv)), never Nq x Nk.
template <class Scalar>
[[nodiscard]] Attention<Scalar> exact_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                                const MatrixView<Scalar>& v, Scalar scale, const Mask& mask,
                                                Progress* progress = nullptr);

/// Pairs (query, key) that exact_attention visits under `mask`.
[[nodiscard]] double pair_count(Index Nq, Index Nk, const Mask& mask);

/// Operations of exact attention to `pairs` pairs of a query and a key.
[[nodiscard]] inline double exact_operations(double pairs, Index D, Index Dv) {
  return 2 * pairs * static_cast<double>(D + Dv);
}

}  // namespace muse
