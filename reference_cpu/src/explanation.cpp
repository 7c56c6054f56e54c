#include "muse/explanation.h"

#include <algorithm>
#include <cmath>

#include "muse/check.h"
#include "muse/exact_attention.h"
#include "muse/far_field.h"
#include "muse/retrieval.h"
#include "muse/softmax_merge.h"

namespace muse {
namespace {

// Exact attention of one query to some of the head's keys, in double.
class Truth {
 public:
  template <class Scalar>
  Truth(const Head<Scalar>& head, Index t)
      : q_(head.q.row(t).template cast<double>()),
        k_(head.k.template cast<double>()),
        v_(head.v.template cast<double>()),
        scale_(static_cast<double>(head.scale)) {}

  // (1.1) over the keys `tokens`.
  [[nodiscard]] Attention<double> attend(const std::vector<Index>& tokens) const {
    Attention<double> part(1, v_.cols());
    if (tokens.empty()) return part;
    RowVector<double> p(static_cast<Index>(tokens.size()));
    for (Index n = 0; n < p.size(); ++n) p[n] = scale_ * k_.row(tokens[static_cast<std::size_t>(n)]).dot(q_);
    part.lse[0] = softmax_row<double>(p);
    for (Index n = 0; n < p.size(); ++n) part.o.row(0) += p[n] * v_.row(tokens[static_cast<std::size_t>(n)]);
    return part;
  }
  [[nodiscard]] Attention<double> attend(Index begin, Index end) const {
    std::vector<Index> tokens;
    for (Index n = begin; n < end; ++n) tokens.push_back(n);
    return attend(tokens);
  }

 private:
  RowVector<double> q_;
  Matrix<double> k_, v_;
  double scale_;
};

double relative_error(const RowVector<double>& o_hat, const RowVector<double>& o) {
  const double difference_sq = (o_hat - o).squaredNorm();
  return difference_sq == 0 ? 0 : difference_sq / o.squaredNorm();
}

Index count_non_empty(const std::vector<bool>& non_empty) {
  return static_cast<Index>(std::count(non_empty.begin(), non_empty.end(), true));
}

template <class Scalar>
struct Part {
  LevelView view;
  Attention<Scalar> attention;
};

// The query's part of a block, stage by stage as far_attention goes.
template <class Scalar>
Part<Scalar> explain_block(const Head<Scalar>& head, Index t, const Block& block, const LevelLabels& labels_q,
                           const LevelLabels& labels_k, const Config& config, const Truth& truth,
                           double exact_lse) {
  const BlockClusters<Scalar> clusters =
      block_clusters<Scalar>(head.q, head.k, block, labels_q, labels_k, config);
  const SortedKeys<Scalar> keys =
      sort_keys<Scalar>(head.k.middleRows(block.key_begin, block.keys()),
                        head.v.middleRows(block.key_begin, block.keys()), clusters.keys);
  Part<Scalar> part;
  LevelView& view = part.view;
  view.block = block;
  view.size = config.mode == Mode::acausal ? block.keys() : config.block << block.level;
  view.home = home_of_query_clusters(block, config);
  view.clusters_q = count_non_empty(clusters.home.non_empty());
  view.clusters_k = count_non_empty(clusters.keys.non_empty());
  view.cluster = labels_q.at(block.level, t, t + 1).front();
  view.members = clusters.home.count(view.cluster);

  // Stage 1, seen from the query's own centroid.
  const Matrix<Scalar> q_bar = clusters.home.centroids.row(view.cluster);
  Summaries<Scalar> summaries;
  if (config.order == Order::centroid)
    plain_summaries<Scalar>(q_bar, keys, key_means(keys), head.scale, summaries);
  else
    tilted_summaries<Scalar>(q_bar, keys, head.scale, summaries);

  // Retrieve S_i, expand the others to the query, merge.
  const Matrix<Scalar> q = head.q.row(t);
  const RowVector<Scalar> delta = q.row(0) - q_bar.row(0);
  view.delta_norm = static_cast<double>(delta.norm());
  const std::vector<Index> retrieved = largest_clusters<Scalar>(
      retrieval_ranks<Scalar>(summaries.L.row(0), keys, config.retrieve_by), config.retrieve.at(block.level));
  std::vector<bool> far = clusters.keys.non_empty();
  for (const Index j : retrieved) {
    far[static_cast<std::size_t>(j)] = false;
    view.retrieved_tokens += keys.count(j);
  }
  part.attention = far_field<Scalar>(q, q_bar.row(0), keys, summaries, 0, far, head.scale, config.order);
  view.lse_far = static_cast<double>(part.attention.lse[0]);
  const Attention<Scalar> exact_tokens = attend_retrieved<Scalar>(q, keys, retrieved, head.scale);
  view.lse_retrieved = static_cast<double>(exact_tokens.lse[0]);
  softmax_merge(part.attention, exact_tokens);
  view.lse = static_cast<double>(part.attention.lse[0]);

  // Set the truth beside it.
  const Attention<double> exact = truth.attend(block.key_begin, block.key_end);
  view.exact_lse = exact.lse[0];
  view.share = std::exp(view.lse - exact_lse);
  view.exact_share = std::exp(view.exact_lse - exact_lse);
  view.rel_sq_err = relative_error(part.attention.o.row(0).template cast<double>(), exact.o.row(0));
  const Matrix<Scalar> l = log_masses<Scalar>(q, q_bar.row(0), summaries, 0, head.scale, config.order);
  for (Index j = 0; j < keys.clusters(); ++j) {
    if (keys.count(j) == 0) continue;
    ClusterView cluster{.cluster = j, .tokens = keys.count(j), .L = static_cast<double>(summaries.L(0, j))};
    cluster.l = static_cast<double>(l(0, j));
    std::vector<Index> tokens;
    for (const Index n : clusters.keys.members(j)) tokens.push_back(block.key_begin + n);
    cluster.exact = truth.attend(tokens).lse[0];
    cluster.exact_share = std::exp(cluster.exact - exact_lse);
    cluster.retrieved = std::binary_search(retrieved.begin(), retrieved.end(), j);
    view.clusters.push_back(cluster);
  }
  std::stable_sort(view.clusters.begin(), view.clusters.end(),
                   [](const ClusterView& a, const ClusterView& b) { return a.exact > b.exact; });
  return part;
}

}  // namespace

template <class Scalar>
Explanation explain_query(const Head<Scalar>& head, Index t, const Config& config,
                          const LevelLabels& labels_q, const LevelLabels& labels_k,
                          const Progress* progress) {
  const Index Nq = head.q.rows(), Nk = head.k.rows();
  MUSE_REQUIRE(t >= 0 && t < Nq, "explain_query: expected a query from 0 to ", Nq - 1, ", found ", t);
  const bool causal = config.mode != Mode::acausal;
  Explanation explanation{.head = head.head,
                          .kv_head = head.kv_head,
                          .query = t,
                          .q_norm = static_cast<double>(head.q.row(t).norm()),
                          .scale = static_cast<double>(head.scale)};
  const Truth truth(head, t);
  explanation.keys = causal ? t + 1 : Nk;
  const Attention<double> exact = truth.attend(0, explanation.keys);
  explanation.exact_lse = exact.lse[0];

  // The diagonal block, up to the query.
  Attention<Scalar> merged(1, head.v.cols());
  if (causal) {
    const Index begin = t / config.block * config.block, count = t + 1 - begin;
    const Attention<Scalar> local =
        exact_attention<Scalar>(head.q.middleRows(begin, count), head.k.middleRows(begin, count),
                                head.v.middleRows(begin, count), head.scale, {.causal = true});
    merged.o.row(0) = local.o.row(count - 1);
    merged.lse[0] = local.lse[count - 1];
    explanation.has_local = true;
    explanation.local = {.key_begin = begin,
                         .key_end = t + 1,
                         .lse = static_cast<double>(merged.lse[0]),
                         .exact_share = std::exp(truth.attend(begin, t + 1).lse[0] - explanation.exact_lse)};
  }
  // Then each block that holds the query, merged in the order of the levels.
  for (const Block& block : approximated_blocks(Nq, Nk, config)) {
    if (t < block.query_begin || t >= block.query_end) continue;
    throw_if_cancelled(progress);
    Part<Scalar> part =
        explain_block(head, t, block, labels_q, labels_k, config, truth, explanation.exact_lse);
    softmax_merge(merged, part.attention);
    explanation.levels.push_back(std::move(part.view));
  }

  const RowVector<double> o = exact.o.row(0), o_hat = merged.o.row(0).template cast<double>();
  explanation.lse = static_cast<double>(merged.lse[0]);
  explanation.rel_sq_err = relative_error(o_hat, o);
  explanation.max_abs_err = (o_hat - o).cwiseAbs().maxCoeff();
  explanation.exact_o.assign(o.data(), o.data() + o.size());
  explanation.o.assign(o_hat.data(), o_hat.data() + o_hat.size());
  return explanation;
}

template Explanation explain_query<float>(const Head<float>&, Index, const Config&, const LevelLabels&,
                                          const LevelLabels&, const Progress*);
template Explanation explain_query<double>(const Head<double>&, Index, const Config&, const LevelLabels&,
                                           const LevelLabels&, const Progress*);

}  // namespace muse
