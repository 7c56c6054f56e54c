#include "model/part_errors.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "muse/check.h"
#include "muse/exact_attention.h"
#include "muse/far_field.h"
#include "muse/retrieval.h"

namespace muse::viewer {
namespace {

// The parts of one query in units of its exact mass e^L: what a part adds to the error.
struct QueryTerms {
  RowVector<double> o;      // exact output
  RowVector<double> error;  // ô - o
  double approximate_mass;  // Ẑ = e^{L̂ - L}
};

QueryTerms terms_of(const HeadRun& exact, const HeadRun& run, Index n) {
  return {exact.attention.o.row(n), run.attention.o.row(n) - exact.attention.o.row(n),
          std::exp(run.attention.lse[n] - exact.attention.lse[n])};
}

// The term of a query whose part has mass w and output sum w o_b, approximated as ŵ and ŵ ô_b.
template <class RowA, class RowB>
QueryTerm term_of(const QueryTerms& query, double w, const RowA& w_o, double w_hat, const RowB& w_o_hat) {
  // (8.5), (8.6) d = ŵ (ô_b - o) - w (o_b - o)
  const RowVector<double> d = w_o_hat - w_o - (w_hat - w) * query.o;
  const double rest = 1 - w + w_hat;
  return {.exact_mass = w,
          .mass = w_hat,
          .squared = d.squaredNorm() / (rest * rest),
          .share = d.dot(query.error) / query.approximate_mass};
}

void add(PartError& part, const QueryTerm& term) {
  part.exact_mass += term.exact_mass;
  part.mass += term.mass;
  part.lse_bias += term.lse_bias;
  part.squared += term.squared;
  part.share += term.share;
}

// Sums become means and shares of the head's ‖o‖².
void finish(PartError& part, Index queries, double head_norm_sq) {
  part.queries = queries;
  if (queries == 0) return;
  const auto n = static_cast<double>(queries);
  part.exact_mass /= n;
  part.mass /= n;
  part.lse_bias /= n;
  part.alone = part.squared == 0 ? 0 : part.squared / head_norm_sq;
  part.share = part.share == 0 ? 0 : part.share / head_norm_sq;
}

std::vector<double> squared_norms(const Matrix<double>& rows) {
  std::vector<double> norms;
  for (Index n = 0; n < rows.rows(); ++n) norms.push_back(rows.row(n).squaredNorm());
  return norms;
}

// Σ over the queries that count.
double sum_of(const std::vector<double>& values, const CountedQueries& counted) {
  double sum = 0;
  for (std::size_t n = 0; n < values.size(); ++n)
    if (counted.holds(static_cast<Index>(n))) sum += values[n];
  return sum;
}

double quotient(double squared, double norm_sq) {
  return squared == 0 ? 0 : squared / norm_sq;
}

std::vector<Block> far_blocks_of(const Slot& slot, Index Nq, Index Nk) {
  return approximated_blocks(Nq, Nk, slot.config);
}

Attention<double> widened(const Attention<float>& part) {
  Attention<double> wide;
  wide.o = part.o.cast<double>();
  wide.lse = part.lse.cast<double>();
  return wide;
}
Attention<double> widened(Attention<double>&& part) {
  return std::move(part);
}

template <class Scalar>
BlockTerms block_terms(const Head<Scalar>& head, const Slot& slot, const HeadRun& exact, const HeadRun& run,
                       Task& task) {
  const Index Nq = head.q.rows(), Nk = head.k.rows();
  const std::vector<Block> far = far_blocks_of(slot, Nq, Nk);
  const Index levels = far.empty() ? 0 : far.back().level + 1;
  const double pair_operations = 2 * static_cast<double>(head.q.cols() + head.v.cols());
  BlockTerms result{.norm_sq = squared_norms(exact.attention.o)};
  Attention<double> sum(Nq, head.v.cols());  // merged so far, as the method adds its parts
  const auto note_sum = [&] { result.squared_up_to.push_back(squared_norms(sum.o - exact.attention.o)); };
  double pairs = static_cast<double>(Nq) * static_cast<double>(slot.config.block);
  for (const Block& block : far)
    pairs += static_cast<double>(block.queries()) * static_cast<double>(block.keys());
  Progress& progress = task.stage("blocks", pairs);

  // The diagonal is exact: mass, but no error.
  if (slot.causal()) {
    const Mask mask{.causal = true, .block = slot.config.block};
    sum = widened(exact_attention<Scalar>(head.q, head.k, head.v, head.scale, mask));
    for (const Block& block : diagonal_blocks(Nq, slot.config.block)) {
      BlockTerms::OfBlock of{.part = {.block = block}};
      for (Index n = block.query_begin; n < block.query_end; ++n) {
        const double w = std::exp(sum.lse[n] - exact.attention.lse[n]);
        of.terms.push_back({.exact_mass = w, .mass = w});
      }
      of.part.operations = pair_operations * pair_count(block.queries(), block.keys(), {.causal = true});
      result.blocks.push_back(std::move(of));
    }
    progress.advance(static_cast<double>(Nq) * static_cast<double>(slot.config.block));
  }
  note_sum();

  for (Index level = 0; level < levels; ++level) {
    for (const Block& block : far) {
      if (block.level != level) continue;
      throw_if_cancelled(&progress);
      BlockTerms::OfBlock of{.part = {.block = block}};
      const Attention<double> truth =
          widened(exact_attention<Scalar>(head.q.middleRows(block.query_begin, block.queries()),
                                          head.k.middleRows(block.key_begin, block.keys()),
                                          head.v.middleRows(block.key_begin, block.keys()), head.scale, {}));
      Attention<double> approximate(block.queries(), head.v.cols());  // method local: nothing
      if (slot.method == Method::muse) {
        const BlockClusters<Scalar> clusters =
            block_clusters<Scalar>(head.q, head.k, block, run.labels_q, run.labels_k, slot.config);
        OperationCounts operations;
        approximate = widened(far_attention<Scalar>(head.q, head.k, head.v, block, clusters, head.scale,
                                                    slot.config, operations));
        of.part.operations = operations.total();
        const auto non_empty = [](const std::vector<bool>& flags) {
          return static_cast<Index>(std::count(flags.begin(), flags.end(), true));
        };
        of.part.clusters_q = non_empty(clusters.home.non_empty());
        of.part.clusters_k = non_empty(clusters.keys.non_empty());
      } else if (slot.method == Method::exact) {
        approximate = truth;
        of.part.operations = pair_operations * static_cast<double>(block.queries() * block.keys());
      }
      for (Index row = 0; row < block.queries(); ++row) {
        const Index n = block.query_begin + row;
        const double w = std::exp(truth.lse[row] - exact.attention.lse[n]);
        const double w_hat = std::exp(approximate.lse[row] - exact.attention.lse[n]);
        of.terms.push_back(
            term_of(terms_of(exact, run, n), w, w * truth.o.row(row), w_hat, w_hat * approximate.o.row(row)));
        of.terms.back().lse_bias = approximate.lse[row] - truth.lse[row];
        softmax_merge_row(sum.o.row(n), sum.lse[n], approximate.o.row(row), approximate.lse[row]);
      }
      result.blocks.push_back(std::move(of));
      progress.advance(static_cast<double>(block.queries()) * static_cast<double>(block.keys()));
    }
    note_sum();
  }
  result.squared = squared_norms(run.attention.o - exact.attention.o);
  return result;
}

// Everything of one query cluster: a row of the pairs. `members`: its queries that count.
void add_pairs(PairErrors& errors, const Head<float>& head, const Slot& slot, Index i,
               const std::vector<Index>& members, const BlockClusters<float>& clusters,
               const SortedKeys<float>& keys, const KeyMeans<float>& means, const HeadRun& exact,
               const HeadRun& run) {
  const Block& block = errors.block;
  const auto n_i = static_cast<Index>(members.size());
  if (n_i == 0) return;
  const Matrix<float> q_bar = clusters.home.centroids.row(i);
  Summaries<float> summaries;
  if (slot.config.order == Order::centroid)
    plain_summaries<float>(q_bar, keys, means, head.scale, summaries);
  else
    tilted_summaries<float>(q_bar, keys, head.scale, summaries);
  const std::vector<Index> retrieved =
      largest_clusters<float>(retrieval_ranks<float>(summaries.L.row(0), keys, slot.config.retrieve_by),
                              slot.config.retrieve.at(block.level));
  for (const Index j : retrieved) errors.retrieved[static_cast<std::size_t>(i * errors.Ck + j)] = 1;

  // Exact weights of the members on all keys, in units of their whole mass.
  Matrix<float> q(n_i, head.q.cols());
  for (Index row = 0; row < n_i; ++row)
    q.row(row) = head.q.row(block.query_begin + members[static_cast<std::size_t>(row)]);
  Matrix<float> weights = head.scale * q * keys.k.transpose();
  std::vector<QueryTerms> terms;
  for (Index row = 0; row < n_i; ++row) {
    const Index n = block.query_begin + members[static_cast<std::size_t>(row)];
    weights.row(row) = (weights.row(row).array() - static_cast<float>(exact.attention.lse[n])).exp();
    terms.push_back(terms_of(exact, run, n));
  }
  const Matrix<float> s_delta = head.scale * (q.rowwise() - q_bar.row(0));
  const Matrix<float> log_mass =
      log_masses<float>(q, q_bar.row(0), summaries, 0, head.scale, slot.config.order);
  for (Index j = 0; j < errors.Ck; ++j) {
    const Index count = keys.count(j);
    if (count == 0) continue;
    PartError& pair = errors.pairs[static_cast<std::size_t>(i * errors.Ck + j)];
    const bool is_retrieved = std::binary_search(retrieved.begin(), retrieved.end(), j);
    const Matrix<float> cluster_weights = weights.middleCols(keys.begin(j), count);
    const Matrix<float> w_o = cluster_weights * keys.v.middleRows(keys.begin(j), count);
    Matrix<float> gradient;
    if (slot.config.order == Order::dipole_value && !is_retrieved)
      gradient = value_gradient<float>(keys, summaries, 0, j);
    for (Index row = 0; row < n_i; ++row) {
      const Index n = block.query_begin + members[static_cast<std::size_t>(row)];
      const double w = cluster_weights.row(row).cast<double>().sum();
      const RowVector<double> exact_part = w_o.row(row).cast<double>();
      if (is_retrieved) {
        add(pair, term_of(terms[static_cast<std::size_t>(row)], w, exact_part, w, exact_part));
        continue;
      }
      // ℓ_j, and the value (4.4) or (4.5)
      const auto l = static_cast<double>(log_mass(row, j));
      const double w_hat = std::exp(l - exact.attention.lse[n]);
      RowVector<double> value = summaries.v_tilde(0).row(j).cast<double>();
      if (gradient.size() > 0) value += (gradient * s_delta.row(row).transpose()).transpose().cast<double>();
      add(pair, term_of(terms[static_cast<std::size_t>(row)], w, exact_part, w_hat, w_hat * value));
      pair.lse_bias += l - (std::log(w) + exact.attention.lse[n]);
    }
  }
}

}  // namespace

double PartError::by(ErrorMetric metric) const {
  switch (metric) {
    case ErrorMetric::value:
      return mass;
    case ErrorMetric::signed_difference:
      return share;
    case ErrorMetric::absolute:
      return queries > 0 ? std::sqrt(squared / static_cast<double>(queries)) : 0;
    case ErrorMetric::squared:
      return squared;
    case ErrorMetric::relative:
      break;
  }
  return alone;
}

std::string part_error_formula(ErrorMetric metric) {
  switch (metric) {
    case ErrorMetric::value:
      return "mean ŵ, the mass as approximated (8.5)";
    case ErrorMetric::signed_difference:
      return "signed share of the head's error (8.6); all parts add up to (8.1)";
    case ErrorMetric::absolute:
      return "root mean square of ‖o′ − o‖ with this part alone approximated (8.5)";
    case ErrorMetric::squared:
      return "Σ ‖o′ − o‖² with this part alone approximated (8.5)";
    case ErrorMetric::relative:
      break;
  }
  return "Σ ‖o′ − o‖² / Σ ‖o‖² with this part alone approximated (8.5)";
}

BlockTerms block_terms_of(const DumpSession& session, const Slot& slot, const HeadRun& exact,
                          const HeadRun& run, Task& task) {
  if (slot.in_double())
    return block_terms<double>(*session.head<double>(slot.batch, slot.head, slot.tokens), slot, exact, run,
                               task);
  return block_terms<float>(*session.head<float>(slot.batch, slot.head, slot.tokens), slot, exact, run, task);
}

BlockParts block_parts_of(const BlockTerms& terms, const CountedQueries& counted) {
  const double norm_sq = sum_of(terms.norm_sq, counted);
  const auto queries = static_cast<double>(counted.count(std::ssize(terms.norm_sq)));
  BlockParts parts{.rel_sq_err = quotient(sum_of(terms.squared, counted), norm_sq)};
  parts.mass_up_to.assign(terms.squared_up_to.size(), 0);
  for (const BlockTerms::OfBlock& of : terms.blocks) {
    BlockPart part = of.part;
    Index n = part.block.query_begin, counts = 0;
    for (const QueryTerm& term : of.terms) {
      if (!counted.holds(n++)) continue;
      add(part.error, term);
      ++counts;
    }
    for (std::size_t step = static_cast<std::size_t>(part.block.level + 1); step < parts.mass_up_to.size();
         ++step)
      parts.mass_up_to[step] += quotient(part.error.exact_mass, queries);
    finish(part.error, counts, norm_sq);
    parts.blocks.push_back(part);
  }
  for (const std::vector<double>& squared : terms.squared_up_to)
    parts.error_up_to.push_back(quotient(sum_of(squared, counted), norm_sq));
  return parts;
}

PairErrors pair_errors_of(const DumpSession& session, const Slot& slot, const Block& block,
                          const HeadRun& exact, const HeadRun& run, const CountedQueries& counted,
                          Task& task) {
  MUSE_REQUIRE(slot.method == Method::muse, "pairs of clusters: only method muse has clusters; found ",
               slot_word(slot));
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  const BlockClusters<float> clusters =
      block_clusters<float>(head->q, head->k, block, run.labels_q, run.labels_k, slot.config);
  const SortedKeys<float> keys =
      sort_keys<float>(head->k.middleRows(block.key_begin, block.keys()),
                       head->v.middleRows(block.key_begin, block.keys()), clusters.keys);
  const KeyMeans<float> means = slot.config.order == Order::centroid ? key_means(keys) : KeyMeans<float>();
  PairErrors errors{.block = block, .Cq = clusters.home.size(), .Ck = clusters.keys.size()};
  errors.pairs.resize(static_cast<std::size_t>(errors.Cq * errors.Ck));
  errors.retrieved.assign(errors.pairs.size(), 0);
  std::vector<std::vector<Index>> queries = clusters.queries;
  for (std::vector<Index>& members : queries) {
    std::erase_if(members, [&](Index row) { return !counted.holds(block.query_begin + row); });
    errors.sizes_q.push_back(static_cast<Index>(members.size()));
  }
  for (Index j = 0; j < errors.Ck; ++j) errors.sizes_k.push_back(keys.count(j));

  Progress& progress = task.stage("pairs of clusters", static_cast<double>(errors.Cq));
#pragma omp parallel for schedule(dynamic)
  for (Index i = 0; i < errors.Cq; ++i) {
    if (progress.cancel) continue;
    add_pairs(errors, *head, slot, i, queries[static_cast<std::size_t>(i)], clusters, keys, means, exact,
              run);
    progress.advance(1);
  }
  throw_if_cancelled(&progress);
  const double norm_sq = sum_of(squared_norms(exact.attention.o), counted);
  for (Index i = 0; i < errors.Cq; ++i)
    for (Index j = 0; j < errors.Ck; ++j)
      finish(
          errors.pairs[static_cast<std::size_t>(i * errors.Ck + j)],
          errors.sizes_k[static_cast<std::size_t>(j)] > 0 ? errors.sizes_q[static_cast<std::size_t>(i)] : 0,
          norm_sq);
  return errors;
}

}  // namespace muse::viewer
