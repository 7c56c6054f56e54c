// Stage 1: each query centroid against each key cluster (docs/math.md, section 3).
#pragma once

#include "muse/clusters.h"
#include "muse/matrix.h"

namespace muse {

/// The keys and values of a span sorted by key cluster, so that a cluster's tokens lie side by side.
template <class Scalar>
struct SortedKeys {
  Matrix<Scalar> k;            ///< [N, D]
  Matrix<Scalar> v;            ///< [N, Dv]
  std::vector<Index> tokens;   ///< [N] token of each row, 0-based in the span
  std::vector<Index> offsets;  ///< [Ck + 1] rows of cluster j: offsets[j] … offsets[j + 1] - 1

  [[nodiscard]] Index clusters() const { return static_cast<Index>(offsets.size()) - 1; }
  [[nodiscard]] Index begin(Index j) const { return offsets[static_cast<std::size_t>(j)]; }
  [[nodiscard]] Index count(Index j) const { return offsets[static_cast<std::size_t>(j) + 1] - begin(j); }
};

template <class Scalar>
[[nodiscard]] SortedKeys<Scalar> sort_keys(const MatrixView<Scalar>& k, const MatrixView<Scalar>& v,
                                           const Clusters<Scalar>& clusters);

/// What some query clusters see of each key cluster. Made again and again in the same memory, hence filled in
/// place.
template <class Scalar>
class Summaries {
 public:
  Matrix<Scalar> L;  ///< [Cq, Ck] log-mass L_ij; -infinity for an empty key cluster
  Matrix<Scalar>
      p;  ///< [Cq, N + spare] share p_ijn of each sorted key in its cluster's mass; empty if not tilted

  void resize(Index Cq, Index Ck, Index D, Index Dv) {
    L.resize(Cq, Ck);
    k_tilde_.resize(Cq * (Ck + 1), D);
    v_tilde_.resize(Cq * (Ck + 1), Dv);
  }
  /// k̃_ij and ṽ_ij of query cluster i: [Ck, D] and [Ck, Dv], a row a key cluster j.
  [[nodiscard]] auto k_tilde(Index i) { return k_tilde_.middleRows(i * (L.cols() + 1), L.cols()); }
  [[nodiscard]] auto v_tilde(Index i) { return v_tilde_.middleRows(i * (L.cols() + 1), L.cols()); }
  [[nodiscard]] auto k_tilde(Index i) const { return k_tilde_.middleRows(i * (L.cols() + 1), L.cols()); }
  [[nodiscard]] auto v_tilde(Index i) const { return v_tilde_.middleRows(i * (L.cols() + 1), L.cols()); }
  /// k̃_ij and ṽ_ij of key cluster j: [Cq, D] and [Cq, Dv], a row a query cluster i.
  [[nodiscard]] auto k_tilde_of_key_cluster(Index j) { return rows_of_key_cluster(k_tilde_, j); }
  [[nodiscard]] auto v_tilde_of_key_cluster(Index j) { return rows_of_key_cluster(v_tilde_, j); }

 private:
  using StridedRows = Eigen::Map<Matrix<Scalar>, 0, Eigen::OuterStride<>>;
  [[nodiscard]] StridedRows rows_of_key_cluster(Matrix<Scalar>& x, Index j) {
    return StridedRows(x.row(j).data(), L.rows(), x.cols(), Eigen::OuterStride<>((L.cols() + 1) * x.cols()));
  }

  // Row i (Ck + 1) + j. The spare row after each i keeps the rows of one j, which are written together, from
  // falling on the same cache sets when Ck D is a power of two; p has spare columns for the same reason.
  Matrix<Scalar> k_tilde_, v_tilde_;
};

/// (3.1)-(3.5) The tilted summaries of all key clusters, seen from the query centroids q_bar [Cq, D]:
///     a_ijn = s q̄_i·k_n,  L_ij = logsumexp_n a_ijn,  p_ijn = e^{a_ijn - L_ij},
///     k̃_ij = sum_n p_ijn k_n,  ṽ_ij = sum_n p_ijn v_n            n in K_j
/// 2 Cq N (2 D + Dv) operations. Scratch [Cq, N]: give a few query clusters at a time.
template <class Scalar>
void tilted_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys, Scalar scale,
                      Summaries<Scalar>& summaries);

/// Means of each key cluster's keys and values; zero for an empty one.
template <class Scalar>
struct KeyMeans {
  Matrix<Scalar> k_bar;  ///< [Ck, D]
  Matrix<Scalar> v_bar;  ///< [Ck, Dv]
};

template <class Scalar>
[[nodiscard]] KeyMeans<Scalar> key_means(const SortedKeys<Scalar>& keys);

/// (3.6) The summaries without tilting, of the `centroid` order: k̃_ij = k̄_j, ṽ_ij = v̄_j, and
///     L_ij = log n_j + s q̄_i·k̄_j,  so that  L_ij + s δ·k̃_ij = log n_j + s q·k̄_j.
/// 2 Cq Ck D operations.
template <class Scalar>
void plain_summaries(const MatrixView<Scalar>& q_bar, const SortedKeys<Scalar>& keys,
                     const KeyMeans<Scalar>& means, Scalar scale, Summaries<Scalar>& summaries);

/// (3.7) How the tilted value moves with δ, to first order: ṽ_ij(δ) = ṽ_ij + s Σ̃_ij δ, with
///     Σ̃_ij = sum_n p_ijn (v_n - ṽ_ij) (k_n - k̃_ij)ᵀ             [Dv, D], n in K_j
/// without the factor s. 2 n_j D Dv operations. `i` is a row of tilted `summaries`.
template <class Scalar>
[[nodiscard]] Matrix<Scalar> value_gradient(const SortedKeys<Scalar>& keys,
                                            const Summaries<Scalar>& summaries, Index i, Index j);

}  // namespace muse
