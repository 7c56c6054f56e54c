#include "muse/far_field.h"

#include <algorithm>
#include <limits>

#include "muse/row_products.h"

namespace muse {

template <class Scalar>
Attention<Scalar> far_field(const MatrixView<Scalar>& q, const RowView<Scalar>& q_bar_i,
                            const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                            const std::vector<bool>& included, Scalar scale, Order order) {
  const Index n = q.rows(), Ck = keys.clusters(), Dv = keys.v.cols();
  Attention<Scalar> out(n, Dv);
  if (std::find(included.begin(), included.end(), true) == included.end()) return out;  // an empty far part

  // (4.1) s δ = s (q - q̄_i)
  const Matrix<Scalar> s_delta = scale * (q.rowwise() - q_bar_i);
  // (4.2) ℓ_j = L_ij + s δ·k̃_ij
  Matrix<Scalar> weights = Matrix<Scalar>::Zero(n, Ck);
  if (order != Order::monopole) multiply_transposed<Scalar>(s_delta, summaries.k_tilde(i), weights);
  weights.rowwise() += summaries.L.row(i);
  for (Index j = 0; j < Ck; ++j)
    if (!included[static_cast<std::size_t>(j)])
      weights.col(j).setConstant(-std::numeric_limits<Scalar>::infinity());
  // (4.3) LSE = logsumexp_j ℓ_j, and the weights e^{ℓ_j - LSE}
  for (Index row = 0; row < n; ++row) out.lse[row] = softmax_row<Scalar>(weights.row(row));
  // (4.4) o = sum_j e^{ℓ_j - LSE} ṽ_ij
  multiply<Scalar>(weights, summaries.v_tilde(i), out.o);
  if (order == Order::dipole_value) {
    // (4.5) … + sum_j e^{ℓ_j - LSE} Σ̃_ij s δ
    Matrix<Scalar> moved(n, Dv);
    for (Index j = 0; j < Ck; ++j) {
      if (!included[static_cast<std::size_t>(j)]) continue;
      multiply_transposed<Scalar>(s_delta, value_gradient(keys, summaries, i, j), moved);
      out.o += weights.col(j).asDiagonal() * moved;
    }
  }
  return out;
}

#define MUSE_INSTANTIATE(Scalar)                                                                           \
  template Attention<Scalar> far_field<Scalar>(const MatrixView<Scalar>&, const RowView<Scalar>&,          \
                                               const SortedKeys<Scalar>&, const Summaries<Scalar>&, Index, \
                                               const std::vector<bool>&, Scalar, Order);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
