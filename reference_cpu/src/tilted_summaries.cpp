#include "muse/tilted_summaries.h"

#include <cmath>
#include <limits>

#include "muse/check.h"
#include "muse/row_products.h"
#include "muse/softmax_merge.h"

namespace muse {

template <class Scalar>
SortedKeys<Scalar> sort_keys(const MatrixView<Scalar>& k, const MatrixView<Scalar>& v,
                             const Clusters<Scalar>& clusters) {
  MUSE_REQUIRE_EQ(k.rows(), v.rows(), "sort_keys: keys and values differ in number");
  SortedKeys<Scalar> keys;
  keys.tokens = clusters.order;
  keys.offsets = clusters.offsets;
  keys.k.resize(k.rows(), k.cols());
  keys.v.resize(v.rows(), v.cols());
#pragma omp parallel for
  for (Index row = 0; row < k.rows(); ++row) {
    const Index n = keys.tokens[static_cast<std::size_t>(row)];
    keys.k.row(row) = k.row(n);
    keys.v.row(row) = v.row(n);
  }
  return keys;
}

namespace {

// Keys handled together: their logits for some 16 query clusters stay in the first-level cache.
constexpr Index kChunkKeys = 256;

// (3.1)-(3.3) for the key clusters [j0, j1). q_scaled [D, whole_columns(Cq)] is s q̄, a column a query
// cluster. As many columns lie side by side in every row, maxima and sums over the few keys of a cluster cost
// little.
template <class Scalar>
void tilt_clusters(const Matrix<Scalar>& q_scaled, const SortedKeys<Scalar>& keys, Index j0, Index j1,
                   Summaries<Scalar>& summaries) {
  const Index begin = keys.begin(j0), count = keys.begin(j1) - begin;
  auto chunk = summaries.p.middleRows(begin, count);
  // (3.1) a_ijn = s q̄_i·k_n
  multiply<Scalar>(keys.k.middleRows(begin, count), q_scaled, chunk);
  // Take each cluster's largest logit m_ij out, then exponentiate all at once.
  Matrix<Scalar> m(j1 - j0, chunk.cols()), sums(j1 - j0, chunk.cols());
  for (Index j = j0; j < j1; ++j) {
    auto a_j = summaries.p.middleRows(keys.begin(j), keys.count(j));  // [n_j, Cq]
    m.row(j - j0).setConstant(-std::numeric_limits<Scalar>::infinity());
    if (a_j.rows() > 0) m.row(j - j0) = a_j.colwise().maxCoeff();
    for (Index n = 0; n < a_j.rows(); ++n) a_j.row(n) -= m.row(j - j0);
  }
  chunk = chunk.array().exp();
  // (3.3) p_ijn = e^{a_ijn - L_ij} = e^{a_ijn - m_ij} / sum_n e^{a_ijn - m_ij}
  for (Index j = j0; j < j1; ++j) {
    auto p_j = summaries.p.middleRows(keys.begin(j), keys.count(j));
    sums.row(j - j0).setOnes();
    if (p_j.rows() > 0) sums.row(j - j0) = p_j.colwise().sum();
    const RowVector<Scalar> share = sums.row(j - j0).cwiseInverse();
    for (Index n = 0; n < p_j.rows(); ++n) p_j.row(n).array() *= share.array();
  }
  // (3.2) L_ij = logsumexp_n a_ijn = m_ij + log(sum_n e^{a_ijn - m_ij})
  m.array() += sums.array().log();
  summaries.L.middleCols(j0, j1 - j0) = m.leftCols(summaries.L.rows()).transpose();
}

}  // namespace

template <class Scalar>
void tilt_keys(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys, Scalar scale,
               Summaries<Scalar>& summaries) {
  const Index Cq = q_bar.rows(), Ck = keys.clusters();
  summaries.L.resize(Cq, Ck);
  summaries.p.resize(keys.k.rows(), whole_columns(Cq));
  summaries.spread.resize(Cq, Ck);
  Matrix<Scalar> q_scaled = Matrix<Scalar>::Zero(q_bar.cols(), summaries.p.cols());
  q_scaled.leftCols(Cq) = scale * q_bar.transpose();
  for (Index j0 = 0, j1 = 0; j0 < Ck; j0 = j1) {
    // Take as many key clusters as fit a chunk, one at least.
    for (j1 = j0 + 1; j1 < Ck && keys.begin(j1 + 1) - keys.begin(j0) <= kChunkKeys;) ++j1;
    tilt_clusters<Scalar>(q_scaled, keys, j0, j1, summaries);
  }
}

template <class Scalar>
void tilted_means(const SortedKeys<Scalar>& keys, const ClusterRange& range, Summaries<Scalar>& summaries) {
  summaries.resize_means(range, keys.k.cols(), keys.v.cols());
  // (3.4), (3.5) k̃_ij = sum_n p_ijn k_n,  ṽ_ij = sum_n p_ijn v_n: a product each for all i of a j
  for (Index j = range.begin; j < range.end; ++j) {
    const auto p_j = summaries.p.block(keys.begin(j), 0, keys.count(j), summaries.L.rows());
    transposed_multiply<Scalar>(p_j, keys.k.middleRows(keys.begin(j), keys.count(j)),
                                summaries.k_tilde_of_key_cluster(j));
    transposed_multiply<Scalar>(p_j, keys.v.middleRows(keys.begin(j), keys.count(j)),
                                summaries.v_tilde_of_key_cluster(j));
    // (3.8) σ̃²_ij = sum_n p_ijn |k_n - k̃_ij|² = sum_n p_ijn |k_n|² - |k̃_ij|², and rounding may leave it below
    // 0
    const Matrix<Scalar> k_sq = keys.k.middleRows(keys.begin(j), keys.count(j)).rowwise().squaredNorm();
    Matrix<Scalar> mean_sq(p_j.cols(), 1);
    transposed_multiply<Scalar>(p_j, k_sq, mean_sq);
    summaries.spread.col(j) =
        (mean_sq - summaries.k_tilde_of_key_cluster(j).rowwise().squaredNorm()).cwiseMax(Scalar(0));
  }
}

template <class Scalar>
void tilted_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys, Scalar scale,
                      Summaries<Scalar>& summaries) {
  tilt_keys<Scalar>(q_bar, keys, scale, summaries);
  tilted_means<Scalar>(keys, {0, keys.clusters()}, summaries);
}

template <class Scalar>
KeyMeans<Scalar> key_means(const SortedKeys<Scalar>& keys) {
  KeyMeans<Scalar> means{.k_bar = Matrix<Scalar>::Zero(keys.clusters(), keys.k.cols()),
                         .v_bar = Matrix<Scalar>::Zero(keys.clusters(), keys.v.cols())};
  for (Index j = 0; j < keys.clusters(); ++j) {
    if (keys.count(j) == 0) continue;
    means.k_bar.row(j) = keys.k.middleRows(keys.begin(j), keys.count(j)).colwise().mean();
    means.v_bar.row(j) = keys.v.middleRows(keys.begin(j), keys.count(j)).colwise().mean();
  }
  return means;
}

template <class Scalar>
void plain_masses(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys,
                  const KeyMeans<Scalar>& means, Scalar scale, Summaries<Scalar>& summaries) {
  const Index Cq = q_bar.rows(), Ck = keys.clusters();
  summaries.L.resize(Cq, Ck);
  summaries.p.resize(0, 0);
  summaries.spread.resize(0, 0);
  // (3.6) L_ij = log n_j + s q̄_i·k̄_j; log 0 = -infinity marks the empty clusters.
  multiply_transposed<Scalar>(scale * q_bar, means.k_bar, summaries.L);
  for (Index j = 0; j < Ck; ++j) summaries.L.col(j).array() += std::log(static_cast<Scalar>(keys.count(j)));
}

template <class Scalar>
void plain_means(const KeyMeans<Scalar>& means, const ClusterRange& range, Summaries<Scalar>& summaries) {
  summaries.resize_means(range, means.k_bar.cols(), means.v_bar.cols());
  for (Index i = 0; i < summaries.L.rows(); ++i) {
    summaries.k_tilde(i) = means.k_bar.middleRows(range.begin, range.size());
    summaries.v_tilde(i) = means.v_bar.middleRows(range.begin, range.size());
  }
}

template <class Scalar>
void plain_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys,
                     const KeyMeans<Scalar>& means, Scalar scale, Summaries<Scalar>& summaries) {
  plain_masses<Scalar>(q_bar, keys, means, scale, summaries);
  plain_means<Scalar>(means, {0, keys.clusters()}, summaries);
}

template <class Scalar>
Matrix<Scalar> value_gradient(const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                              Index j) {
  const Index begin = keys.begin(j), count = keys.count(j);
  const auto p_ij = summaries.p.col(i).segment(begin, count);
  // (3.7) Σ̃_ij = sum_n p_ijn (v_n - ṽ_ij) (k_n - k̃_ij)ᵀ
  const Matrix<Scalar> k_centred =
      keys.k.middleRows(begin, count).rowwise() - summaries.k_tilde(i).row(j - summaries.range().begin);
  const Matrix<Scalar> v_centred =
      keys.v.middleRows(begin, count).rowwise() - summaries.v_tilde(i).row(j - summaries.range().begin);
  return v_centred.transpose() * p_ij.asDiagonal() * k_centred;
}

#define MUSE_INSTANTIATE(Scalar)                                                                             \
  template SortedKeys<Scalar> sort_keys<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,        \
                                                const Clusters<Scalar>&);                                    \
  template void tilted_summaries<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&, Scalar,       \
                                         Summaries<Scalar>&);                                                \
  template void tilt_keys<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&, Scalar,              \
                                  Summaries<Scalar>&);                                                       \
  template void tilted_means<Scalar>(const SortedKeys<Scalar>&, const ClusterRange&, Summaries<Scalar>&);    \
  template KeyMeans<Scalar> key_means<Scalar>(const SortedKeys<Scalar>&);                                    \
  template void plain_masses<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&,                   \
                                     const KeyMeans<Scalar>&, Scalar, Summaries<Scalar>&);                   \
  template void plain_means<Scalar>(const KeyMeans<Scalar>&, const ClusterRange&, Summaries<Scalar>&);       \
  template void plain_summaries<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&,                \
                                        const KeyMeans<Scalar>&, Scalar, Summaries<Scalar>&);                \
  template Matrix<Scalar> value_gradient<Scalar>(const SortedKeys<Scalar>&, const Summaries<Scalar>&, Index, \
                                                 Index);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
