#include "model/key_weights.h"

#include <algorithm>
#include <cmath>

#include "muse/far_field.h"
#include "muse/retrieval.h"

namespace muse::viewer {

template <class Scalar>
BlockWeights<Scalar>::BlockWeights(const Head<Scalar>& head, const Block& block, const LevelLabels& labels_q,
                                   const LevelLabels& labels_k, const Config& config)
    : head_(head),
      block_(block),
      labels_q_(labels_q),
      config_(config),
      clusters_(block_clusters<Scalar>(head.q, head.k, block, labels_q, labels_k, config)),
      keys_(sort_keys<Scalar>(head.k.middleRows(block.key_begin, block.keys()),
                              head.v.middleRows(block.key_begin, block.keys()), clusters_.keys)) {}

template <class Scalar>
Index BlockWeights<Scalar>::cluster_of(Index t) const {
  return labels_q_.at(block_.level, t, t + 1).front();
}

template <class Scalar>
void BlockWeights<Scalar>::visit_cluster(Index i, std::span<const Index> queries, std::span<const double> lse,
                                         const Visit& visit) const {
  const Index S = block_.keys(), Ck = keys_.clusters();
  const Matrix<Scalar> q_bar = clusters_.home.centroids.row(i);
  Summaries<Scalar> summaries;
  const bool tilted = config_.order != Order::centroid;
  if (tilted)
    tilted_summaries<Scalar>(q_bar, keys_, head_.scale, summaries);
  else
    plain_summaries<Scalar>(q_bar, keys_, key_means(keys_), head_.scale, summaries);
  const std::vector<Index> retrieved =
      largest_clusters<Scalar>(retrieval_ranks<Scalar>(summaries.L.row(0), keys_, config_.retrieve_by),
                               config_.retrieve.at(block_.level));
  std::vector<char> is_retrieved(static_cast<std::size_t>(S), 0);
  for (const Index j : retrieved)
    for (Index row = keys_.begin(j); row < keys_.begin(j) + keys_.count(j); ++row)
      is_retrieved[static_cast<std::size_t>(keys_.tokens[static_cast<std::size_t>(row)])] = 1;

  std::vector<Scalar> weights(static_cast<std::size_t>(S));
  for (const Index t : queries) {
    const auto L = static_cast<Scalar>(lse[static_cast<std::size_t>(t)]);
    const RowVector<Scalar> s_delta = head_.scale * (head_.q.row(t) - q_bar.row(0));
    const Matrix<Scalar> l =
        log_masses<Scalar>(head_.q.middleRows(t, 1), q_bar.row(0), summaries, 0, head_.scale, config_.order);
    for (Index j = 0; j < Ck; ++j) {
      const Index begin = keys_.begin(j), count = keys_.count(j);
      if (count == 0) continue;
      const bool exact = std::binary_search(retrieved.begin(), retrieved.end(), j);
      Scalar w_j = 0;
      if (!exact) w_j = std::exp(l(0, j) - L);
      for (Index row = begin; row < begin + count; ++row) {
        Scalar& weight = weights[static_cast<std::size_t>(keys_.tokens[static_cast<std::size_t>(row)])];
        if (exact) {
          weight = std::exp(head_.scale * head_.q.row(t).dot(keys_.k.row(row)) - L);
          continue;
        }
        weight = w_j * (tilted ? summaries.p(row, 0) : Scalar(1) / static_cast<Scalar>(count));
        if (config_.order == Order::dipole_value)
          weight *= 1 + s_delta.dot(keys_.k.row(row) - summaries.k_tilde(0).row(j));
      }
    }
    visit(t, weights, is_retrieved);
  }
}

template class BlockWeights<float>;
template class BlockWeights<double>;

}  // namespace muse::viewer
