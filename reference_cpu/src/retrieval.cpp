#include "muse/retrieval.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "muse/row_products.h"

namespace muse {

template <class Scalar>
RowVector<Scalar> retrieval_ranks(const RowView<Scalar>& L_i, const SortedKeys<Scalar>& keys,
                                  RetrieveBy retrieve_by) {
  RowVector<Scalar> ranks = L_i;
  if (retrieve_by == RetrieveBy::mass) return ranks;
  // (5.1) log of the mean weight: log(e^{L_ij} / n_j)
  for (Index j = 0; j < ranks.size(); ++j)
    if (keys.count(j) > 0) ranks[j] -= std::log(static_cast<Scalar>(keys.count(j)));
  return ranks;
}

template <class Scalar>
std::vector<Index> largest_clusters(const RowView<Scalar>& ranks, Index r) {
  std::vector<Index> clusters;
  for (Index j = 0; j < ranks.size(); ++j)
    if (ranks[j] > -std::numeric_limits<Scalar>::infinity()) clusters.push_back(j);
  const auto kept = std::min<std::size_t>(static_cast<std::size_t>(r), clusters.size());
  std::partial_sort(clusters.begin(), clusters.begin() + static_cast<std::ptrdiff_t>(kept), clusters.end(),
                    [&](Index a, Index b) { return ranks[a] != ranks[b] ? ranks[a] > ranks[b] : a < b; });
  clusters.resize(kept);
  std::sort(clusters.begin(), clusters.end());
  return clusters;
}

template <class Scalar>
Attention<Scalar> attend_retrieved(const MatrixView<Scalar>& q, const SortedKeys<Scalar>& keys,
                                   const std::vector<Index>& retrieved, Scalar scale) {
  const Index n = q.rows(), Dv = keys.v.cols();
  Attention<Scalar> out(n, Dv);
  Index tokens = 0;
  for (const Index j : retrieved) tokens += keys.count(j);
  if (tokens == 0) return out;

  // Logits s q·k_n, a cluster's beside the other's: its keys lie in one piece.
  const Matrix<Scalar> q_scaled = scale * q;
  Matrix<Scalar> weights(n, tokens);
  Index column = 0;
  for (const Index j : retrieved) {
    multiply_transposed<Scalar>(q_scaled, keys.k.middleRows(keys.begin(j), keys.count(j)),
                                weights.middleCols(column, keys.count(j)));
    column += keys.count(j);
  }
  // (5.2) o = sum_n e^{s q·k_n - LSE} v_n
  for (Index row = 0; row < n; ++row) out.lse[row] = softmax_row<Scalar>(weights.row(row));
  column = 0;
  for (const Index j : retrieved) {
    multiply_add<Scalar>(weights.middleCols(column, keys.count(j)),
                         keys.v.middleRows(keys.begin(j), keys.count(j)), out.o);
    column += keys.count(j);
  }
  return out;
}

#define MUSE_INSTANTIATE(Scalar)                                                                            \
  template RowVector<Scalar> retrieval_ranks<Scalar>(const RowView<Scalar>&, const SortedKeys<Scalar>&,     \
                                                     RetrieveBy);                                           \
  template std::vector<Index> largest_clusters<Scalar>(const RowView<Scalar>&, Index);                      \
  template Attention<Scalar> attend_retrieved<Scalar>(const MatrixView<Scalar>&, const SortedKeys<Scalar>&, \
                                                      const std::vector<Index>&, Scalar);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
