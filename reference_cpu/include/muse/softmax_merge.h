// Softmax over parts: the weights of one row, and the merge of attention outputs through their log-sum-exps.
#pragma once

#include <cmath>
#include <limits>

#include "muse/matrix.h"

namespace muse {

/// Attention of N queries to some set of keys: what every stage returns and what merging needs.
/// A query that saw no key has lse = -infinity and o = 0.
template <class Scalar>
struct Attention {
  Matrix<Scalar> o;    ///< [N, Dv] outputs
  Vector<Scalar> lse;  ///< [N] log-sum-exp of the logits (natural logarithm)

  Attention() = default;
  Attention(Index N, Index Dv)
      : o(Matrix<Scalar>::Zero(N, Dv)),
        lse(Vector<Scalar>::Constant(N, -std::numeric_limits<Scalar>::infinity())) {}
};

/// Turns a row of logits into weights e^{logit - m}; returns their sum. m must be at least the largest logit.
template <class Scalar, class Row>
Scalar exponentiate(Row&& logits, Scalar m) {
  logits = (logits.array() - m).exp();
  return logits.sum();
}

/// (1.2) Turns a row of logits into weights e^{logit - L} that sum to 1; returns L = logsumexp of the logits,
/// computed as m + log(sum of e^{logit - m}) from the largest logit m, so that nothing overflows. -infinity
/// means no weight; at least one logit must be finite.
template <class Scalar, class Row>
Scalar softmax_row(Row&& logits) {
  const Scalar m = logits.maxCoeff();
  const Scalar sum = exponentiate<Scalar>(logits, m);
  logits /= sum;
  return m + std::log(sum);
}

/// Merges `part` into `sum`: the attention to the union of two disjoint sets of keys (1.3):
///     L = logaddexp(L1, L2),   o = e^{L1-L} o1 + e^{L2-L} o2
/// for one query. An empty side (lse = -infinity) changes nothing.
template <class Scalar, class RowO, class RowPart>
void softmax_merge_row(RowO&& o, Scalar& lse, const RowPart& part_o, Scalar part_lse) {
  constexpr Scalar kEmpty = -std::numeric_limits<Scalar>::infinity();
  if (part_lse == kEmpty) return;
  // L = logaddexp(L1, L2), from the larger one so that nothing overflows.
  const Scalar larger = std::max(lse, part_lse);
  const Scalar L = larger + std::log(std::exp(lse - larger) + std::exp(part_lse - larger));
  // o = e^{L1-L} o1 + e^{L2-L} o2
  o = std::exp(lse - L) * o + std::exp(part_lse - L) * part_o;
  lse = L;
}

/// softmax_merge_row for all N rows.
template <class Scalar>
void softmax_merge(Attention<Scalar>& sum, const Attention<Scalar>& part);

}  // namespace muse
