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
  logits *= 1 / sum;
  return m + std::log(sum);
}

/// Attention as it is summed up over one set of keys after the other: under the largest logit so far, and not
/// yet divided by the sum of weights.
template <class Scalar>
struct RunningAttention {
  Matrix<Scalar> o;  ///< [N, Dv] sum of e^{logit - m} v so far
  Vector<Scalar> m;  ///< [N] largest logit so far; -infinity at first
  Vector<Scalar> l;  ///< [N] sum of e^{logit - m} so far

  RunningAttention(Index N, Index Dv)
      : o(Matrix<Scalar>::Zero(N, Dv)),
        m(Vector<Scalar>::Constant(N, -std::numeric_limits<Scalar>::infinity())),
        l(Vector<Scalar>::Zero(N)) {}

  /// Turns the logits of query `row` to the next keys into weights e^{logit - m}, for the caller to add their
  /// values to o. At least one logit must be finite.
  template <class Row>
  void weigh(Index row, Row&& logits) {
    // Move the running maximum, and rescale what was summed under the old one.
    const Scalar m_new = std::max(m[row], logits.maxCoeff());
    const Scalar rescale = std::exp(m[row] - m_new);
    m[row] = m_new;
    l[row] = rescale * l[row] + exponentiate<Scalar>(logits, m_new);
    if (rescale != 1) o.row(row) *= rescale;
  }

  /// Divides by the sum of weights: o / l and L = m + log l.
  [[nodiscard]] Attention<Scalar> finish() && {
    Attention<Scalar> out;
    out.lse.resize(l.size());
    for (Index row = 0; row < o.rows(); ++row) {
      out.lse[row] = m[row] + std::log(l[row]);
      if (l[row] > 0) o.row(row) *= 1 / l[row];
    }
    out.o = std::move(o);
    return out;
  }
};

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
