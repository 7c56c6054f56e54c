#include "muse/far_field.h"

#include <limits>
#include <utility>

#include "muse/row_products.h"

namespace muse {

template <class Scalar>
Matrix<Scalar> log_masses(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                          const Summaries<Scalar>& summaries, Index i, Scalar scale, Order order) {
  const ClusterRange& range = summaries.range();
  Matrix<Scalar> l(q.rows(), range.size());
  if (order == Order::monopole) {
    l.setZero();
  } else {
    // (4.1) s δ = s (q - q̄_i)
    const Matrix<Scalar> s_delta = scale * (q.rowwise() - q_bar_i);
    // (4.2) ℓ_j = L_ij + s δ·k̃_ij
    multiply_transposed<Scalar>(s_delta, summaries.k_tilde(i), l);
    // (4.6) … + κ/2 s² |δ|² σ̃²_ij / D
    if (order == Order::dipole_spread) {
      const Matrix<Scalar> half_sq = static_cast<Scalar>(kSpreadFactor / static_cast<double>(2 * q.cols())) *
                                     s_delta.rowwise().squaredNorm();
      multiply_add<Scalar>(half_sq, summaries.spread.row(i).segment(range.begin, range.size()), l);
    }
  }
  l.rowwise() += summaries.L.row(i).segment(range.begin, range.size());
  return l;
}

template <class Scalar>
void add_far_field(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                   const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                   const std::vector<bool>& included, Scalar scale, Order order,
                   RunningAttention<Scalar>& sum) {
  const ClusterRange& range = summaries.range();
  std::vector<Index> excluded;  // columns of the range
  for (Index j = range.begin; j < range.end; ++j)
    if (!included[static_cast<std::size_t>(j)]) excluded.push_back(j - range.begin);
  if (static_cast<Index>(excluded.size()) == range.size()) return;  // an empty far part

  Matrix<Scalar> weights = log_masses<Scalar>(q, q_bar_i, summaries, i, scale, order);
  for (const Index column : excluded)
    weights.col(column).setConstant(-std::numeric_limits<Scalar>::infinity());
  // (4.3) LSE = logsumexp_j ℓ_j, and the weights e^{ℓ_j - LSE}
  for (Index row = 0; row < q.rows(); ++row) sum.weigh(row, weights.row(row));
  for (const Index column : excluded) weights.col(column).setZero();  // Eigen's e^{-infinity} is not quite 0
  // (4.4) o = sum_j e^{ℓ_j - LSE} ṽ_ij
  multiply_add<Scalar>(weights, summaries.v_tilde(i), sum.o);
  if (order == Order::dipole_value) {
    // (4.5) … + sum_j e^{ℓ_j - LSE} Σ̃_ij s δ
    const Matrix<Scalar> s_delta = scale * (q.rowwise() - q_bar_i);
    Matrix<Scalar> moved(q.rows(), sum.o.cols());
    for (Index j = range.begin; j < range.end; ++j) {
      if (!included[static_cast<std::size_t>(j)]) continue;
      multiply_transposed<Scalar>(s_delta, value_gradient(keys, summaries, i, j), moved);
      sum.o += weights.col(j - range.begin).asDiagonal() * moved;
    }
  }
}

template <class Scalar>
Attention<Scalar> far_field(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                            const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                            const std::vector<bool>& included, Scalar scale, Order order) {
  RunningAttention<Scalar> sum(q.rows(), keys.v.cols());
  add_far_field<Scalar>(q, q_bar_i, keys, summaries, i, included, scale, order, sum);
  return std::move(sum).finish();
}

#define MUSE_INSTANTIATE(Scalar)                                                                           \
  template Matrix<Scalar> log_masses<Scalar>(const MatrixView<Scalar>&, const RowView<Scalar>&,            \
                                             const Summaries<Scalar>&, Index, Scalar, Order);              \
  template void add_far_field<Scalar>(const MatrixView<Scalar>&, const RowView<Scalar>&,                   \
                                      const SortedKeys<Scalar>&, const Summaries<Scalar>&, Index,          \
                                      const std::vector<bool>&, Scalar, Order, RunningAttention<Scalar>&); \
  template Attention<Scalar> far_field<Scalar>(const MatrixView<Scalar>&, const RowView<Scalar>&,          \
                                               const SortedKeys<Scalar>&, const Summaries<Scalar>&, Index, \
                                               const std::vector<bool>&, Scalar, Order);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
