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

// Keys handled together: some 512 of them, with their values, stay in the second-level cache for both
// products.
constexpr Index kChunkKeys = 512;
// Columns of p beyond the keys: rows a power of two apart would fall on the same cache sets.
constexpr Index kSpareColumns = 16;

// (3.1)-(3.5) for the key clusters [j0, j1). q_scaled [Cq, D] is s q̄.
template <class Scalar>
void tilt_clusters(const Matrix<Scalar>& q_scaled, const SortedKeys<Scalar>& keys, Index j0, Index j1,
                   Summaries<Scalar>& summaries) {
  Matrix<Scalar>&L = summaries.L, &p = summaries.p;
  const Index begin = keys.begin(j0), count = keys.begin(j1) - begin;
  // (3.1) a_ijn = s q̄_i·k_n
  multiply_transposed<Scalar>(q_scaled, keys.k.middleRows(begin, count), p.middleCols(begin, count));

  RowVector<Scalar> sums(j1 - j0);
  for (Index i = 0; i < q_scaled.rows(); ++i) {
    // Take each cluster's largest logit m_ij out, then exponentiate the whole row at once.
    for (Index j = j0; j < j1; ++j) {
      auto a_ij = p.row(i).segment(keys.begin(j), keys.count(j));
      L(i, j) = a_ij.size() > 0 ? a_ij.maxCoeff() : -std::numeric_limits<Scalar>::infinity();
      a_ij.array() -= L(i, j);
    }
    p.row(i).segment(begin, count) = p.row(i).segment(begin, count).array().exp();
    // (3.2) L_ij = logsumexp_n a_ijn = m_ij + log(sum_n e^{a_ijn - m_ij}),  (3.3) p_ijn = e^{a_ijn - L_ij}
    for (Index j = j0; j < j1; ++j) {
      auto p_ij = p.row(i).segment(keys.begin(j), keys.count(j));
      sums[j - j0] = p_ij.size() > 0 ? p_ij.sum() : Scalar(1);
      p_ij *= 1 / sums[j - j0];
    }
    L.row(i).segment(j0, j1 - j0).array() += sums.array().log();
  }

  // (3.4), (3.5) k̃_ij = sum_n p_ijn k_n,  ṽ_ij = sum_n p_ijn v_n: a product each for all i of a j
  for (Index j = j0; j < j1; ++j) {
    const auto p_j = p.middleCols(keys.begin(j), keys.count(j));
    multiply<Scalar>(p_j, keys.k.middleRows(keys.begin(j), keys.count(j)),
                     summaries.k_tilde_of_key_cluster(j));
    multiply<Scalar>(p_j, keys.v.middleRows(keys.begin(j), keys.count(j)),
                     summaries.v_tilde_of_key_cluster(j));
  }
}

}  // namespace

template <class Scalar>
void tilted_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys, Scalar scale,
                      Summaries<Scalar>& summaries) {
  const Index Cq = q_bar.rows(), Ck = keys.clusters();
  summaries.resize(Cq, Ck, keys.k.cols(), keys.v.cols());
  summaries.p.resize(Cq, keys.k.rows() + kSpareColumns);
  const Matrix<Scalar> q_scaled = scale * q_bar;
  for (Index j0 = 0, j1 = 0; j0 < Ck; j0 = j1) {
    // Take as many key clusters as fit a chunk, one at least.
    for (j1 = j0 + 1; j1 < Ck && keys.begin(j1 + 1) - keys.begin(j0) <= kChunkKeys;) ++j1;
    tilt_clusters<Scalar>(q_scaled, keys, j0, j1, summaries);
  }
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
void plain_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys,
                     const KeyMeans<Scalar>& means, Scalar scale, Summaries<Scalar>& summaries) {
  const Index Cq = q_bar.rows(), Ck = keys.clusters();
  summaries.resize(Cq, Ck, keys.k.cols(), keys.v.cols());
  summaries.p.resize(0, 0);
  // (3.6) L_ij = log n_j + s q̄_i·k̄_j; log 0 = -infinity marks the empty clusters.
  multiply_transposed<Scalar>(scale * q_bar, means.k_bar, summaries.L);
  for (Index j = 0; j < Ck; ++j) summaries.L.col(j).array() += std::log(static_cast<Scalar>(keys.count(j)));
  for (Index i = 0; i < Cq; ++i) {
    summaries.k_tilde(i) = means.k_bar;
    summaries.v_tilde(i) = means.v_bar;
  }
}

template <class Scalar>
Matrix<Scalar> value_gradient(const SortedKeys<Scalar>& keys, const Summaries<Scalar>& summaries, Index i,
                              Index j) {
  const Index begin = keys.begin(j), count = keys.count(j);
  const auto p_ij = summaries.p.row(i).segment(begin, count);
  // (3.7) Σ̃_ij = sum_n p_ijn (v_n - ṽ_ij) (k_n - k̃_ij)ᵀ
  const Matrix<Scalar> k_centred = keys.k.middleRows(begin, count).rowwise() - summaries.k_tilde(i).row(j);
  const Matrix<Scalar> v_centred = keys.v.middleRows(begin, count).rowwise() - summaries.v_tilde(i).row(j);
  return v_centred.transpose() * p_ij.asDiagonal() * k_centred;
}

#define MUSE_INSTANTIATE(Scalar)                                                                             \
  template SortedKeys<Scalar> sort_keys<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,        \
                                                const Clusters<Scalar>&);                                    \
  template void tilted_summaries<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&, Scalar,       \
                                         Summaries<Scalar>&);                                                \
  template KeyMeans<Scalar> key_means<Scalar>(const SortedKeys<Scalar>&);                                    \
  template void plain_summaries<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&,                \
                                        const KeyMeans<Scalar>&, Scalar, Summaries<Scalar>&);                \
  template Matrix<Scalar> value_gradient<Scalar>(const SortedKeys<Scalar>&, const Summaries<Scalar>&, Index, \
                                                 Index);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
