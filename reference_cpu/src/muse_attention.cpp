#include "muse/muse_attention.h"

#include <algorithm>
#include <chrono>

#include "muse/check.h"
#include "muse/exact_attention.h"
#include "muse/far_field.h"
#include "muse/retrieval.h"
#include "muse/row_products.h"

namespace muse {
namespace {

// Query clusters that see the keys together, in one product of stage 1, and key clusters whose tilted means
// these have together: 16 x 64 means of key and value, of 64 floats each, are 512 KiB, and stay in the
// second-level cache from stage 1 to stage 2.
constexpr Index kTileQueryClusters = 16;
constexpr Index kTileKeyClusters = 64;

// Clusters made once in windows of the head, for all levels whose blocks hold whole windows
// (docs/math.md, 2.4).
template <class Scalar>
struct Windows {
  Index W = 0;  // tokens a window; the last one may be shorter
  std::vector<Clusters<Scalar>> clusters;
};

// Level sizes are B 2^m, and a window must divide them: the largest such size that is at most
// `cluster_window`.
Index window_size(const Config& config) {
  if (config.mode == Mode::acausal) return config.cluster_window;
  Index W = config.block;
  while (2 * W <= config.cluster_window) W *= 2;
  return W;
}

// S of a block: what the rules for the numbers of clusters count in.
Index level_size(const Block& block, const Config& config) {
  return config.mode == Mode::acausal ? block.keys() : config.block << block.level;
}

// The distance that tokens are clustered in: Euclidean, or Euclidean after a map by the keys' covariance
// (2.3).
template <class Scalar>
class MetricMap {
 public:
  MetricMap() = default;  // Euclidean
  MetricMap(const MatrixView<Scalar>& keys, Metric metric, double& operations) {
    if (metric == Metric::euclidean) return;
    root_ = key_covariance_root<Scalar>(keys);
    operations += metric_operations(keys.rows(), keys.cols());
  }

  // x [N, D] mapped into `storage`, or x itself. A row's bits do not depend on how many rows there are.
  MatrixView<Scalar> operator()(const MatrixView<Scalar>& x, Matrix<Scalar>& storage,
                                double& operations) const {
    if (root_.size() == 0) return x;
    storage.resize(x.rows(), x.cols());
    multiply<Scalar>(x, root_, storage);
    operations += metric_operations(x.rows(), x.cols());
    return storage;
  }

 private:
  Matrix<Scalar> root_;  // [D, D], or empty: Euclidean
};

// (2.4) The clusters of x's tokens `range`: the union of its windows' clusters, merged down to C by a k-means
// over their centroids, weighted by size.
template <class Scalar>
Labels merge_windows(const Windows<Scalar>& windows, const TokenRange& range, Index C, const Config& config,
                     const MetricMap<Scalar>& metric, double& operations) {
  std::vector<const Clusters<Scalar>*> parts;
  Index united = 0;  // non-empty clusters of all windows
  for (Index w = range.begin / windows.W; w * windows.W < range.end; ++w) {
    parts.push_back(&windows.clusters[static_cast<std::size_t>(w)]);
    for (Index c = 0; c < parts.back()->size(); ++c) united += parts.back()->count(c) > 0 ? 1 : 0;
  }
  // Lay the centroids one below the other, and number the tokens by them.
  Matrix<Scalar> centroids(united, parts.front()->centroids.cols());
  std::vector<Index> sizes(static_cast<std::size_t>(united));
  Labels labels(static_cast<std::size_t>(range.size()));
  Index row = 0, first_token = 0;
  for (const Clusters<Scalar>* part : parts) {
    for (Index c = 0; c < part->size(); ++c) {
      if (part->count(c) == 0) continue;
      centroids.row(row) = part->centroids.row(c);
      sizes[static_cast<std::size_t>(row)] = part->count(c);
      for (const Index n : part->members(c))
        labels[static_cast<std::size_t>(first_token + n)] = static_cast<std::int32_t>(row);
      ++row;
    }
    first_token += static_cast<Index>(part->labels.size());
  }
  if (united <= C) return labels;
  Matrix<Scalar> mapped;
  const Labels merged = kmeans<Scalar>(metric(centroids, mapped, operations), C,
                                       {.passes = config.passes, .seed = config.seed, .weights = sizes});
  operations += kmeans_operations(united, C, centroids.cols(), config.passes);
  for (std::int32_t& label : labels) label = merged[static_cast<std::size_t>(label)];
  return labels;
}

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace

OperationCounts& OperationCounts::operator+=(const OperationCounts& other) {
  local += other.local;
  clustering += other.clustering;
  summaries += other.summaries;
  far_field += other.far_field;
  retrieval += other.retrieval;
  return *this;
}

double progress_units(Index Nq, Index Nk, const Config& config) {
  auto units = static_cast<double>(Nq);  // the diagonal blocks
  // Clustering the keys, clustering the queries, attention.
  for (const Block& block : approximated_blocks(Nq, Nk, config))
    units += 2 * static_cast<double>(block.keys()) + static_cast<double>(block.queries());
  return units;
}

std::vector<Block> approximated_blocks(Index Nq, Index Nk, const Config& config) {
  if (config.mode == Mode::acausal)
    return {{.level = 0, .query_begin = 0, .query_end = Nq, .key_begin = 0, .key_end = Nk}};
  MUSE_REQUIRE_EQ(Nq, Nk, "causal attention needs as many queries as keys; use --mode acausal");
  return far_blocks(Nq, config.block);
}

TokenRange home_of_query_clusters(const Block& block, const Config& config) {
  if (config.mode == Mode::causal) return {block.key_begin, block.key_end};
  return {block.query_begin, block.query_end};
}

namespace {

// Labels of the tokens `range` of x, C clusters, afresh or from windows.
template <class Scalar>
Labels cluster_range(const MatrixView<Scalar>& x, const TokenRange& range, Index level_size, Index C,
                     const Windows<Scalar>& windows, const Config& config, const MetricMap<Scalar>& metric,
                     double& operations) {
  if (windows.W > 0 && level_size >= windows.W)
    return merge_windows(windows, range, C, config, metric, operations);
  Matrix<Scalar> mapped;
  operations += cluster_operations(range.size(), C, x.cols(), config);
  return cluster_tokens<Scalar>(metric(x.middleRows(range.begin, range.size()), mapped, operations), C,
                                config);
}

// The windows of all tokens x [N, D], each in the metric of its own keys.
template <class Scalar>
Windows<Scalar> cluster_windows(const MatrixView<Scalar>& x, const MatrixView<Scalar>& k,
                                const PerLevel<ClusterRule>& rules, const Config& config, Metric metric,
                                double& operations) {
  Windows<Scalar> windows;
  if (config.cluster_window == 0) return windows;
  windows.W = window_size(config);
  const Index level = config.mode == Mode::acausal ? 0 : level_count(windows.W, config.block);
  for (Index begin = 0; begin < x.rows(); begin += windows.W) {
    const Index size = std::min(windows.W, x.rows() - begin);
    const Index C = rules.at(level)(size);
    // Acausal attention may have more queries than keys: the last keys then serve for the windows beyond.
    const Index key_begin = std::max<Index>(0, std::min(begin, k.rows() - windows.W));
    const MetricMap<Scalar> map(k.middleRows(key_begin, std::min(windows.W, k.rows() - key_begin)), metric,
                                operations);
    Matrix<Scalar> mapped;
    const auto window = x.middleRows(begin, size);
    windows.clusters.push_back(
        make_clusters<Scalar>(window, cluster_tokens<Scalar>(map(window, mapped, operations), C, config), C));
    operations += cluster_operations(size, C, x.cols(), config);
  }
  return windows;
}

// Labels in the making, and what they are made from.
template <class Scalar>
struct Clustering {
  LevelLabels labels;
  Windows<Scalar> windows;
  std::vector<Work> pieces;  // one a block, independent of each other
};

// The work of cluster_keys.
template <class Scalar>
void plan_keys(const MatrixView<Scalar>& k, Index Nq, const Config& config, Progress* progress,
               Clustering<Scalar>& plan) {
  const std::vector<Block> blocks = approximated_blocks(Nq, k.rows(), config);
  plan.labels = LevelLabels(blocks.empty() ? 0 : blocks.back().level + 1, k.rows());
  plan.windows =
      cluster_windows<Scalar>(k, k, config.clusters_k, config, Metric::euclidean, plan.labels.operations);
  for (const Block& block : blocks) {
    const Index C = config.clusters_k.at(block.level)(block.keys());
    const auto run = [&plan, &k, &config, progress, block, C] {
      throw_if_cancelled(progress);
      double operations = 0;
      const Labels block_labels =
          cluster_range<Scalar>(k, {block.key_begin, block.key_end}, level_size(block, config), C,
                                plan.windows, config, MetricMap<Scalar>(), operations);
      std::copy(block_labels.begin(), block_labels.end(),
                plan.labels.at(block.level, block.key_begin, block.key_end).begin());
#pragma omp atomic
      plan.labels.operations += operations;
      if (progress != nullptr) progress->advance(static_cast<double>(block.keys()));
    };
    plan.pieces.push_back({kmeans_operations(block.keys(), C, k.cols(), config.passes, config.sample), run});
  }
}

// The work of cluster_queries.
template <class Scalar>
void plan_queries(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k, const Config& config,
                  Progress* progress, Clustering<Scalar>& plan) {
  const std::vector<Block> blocks = approximated_blocks(q.rows(), k.rows(), config);
  plan.labels = LevelLabels(blocks.empty() ? 0 : blocks.back().level + 1, q.rows());
  plan.windows =
      cluster_windows<Scalar>(q, k, config.clusters_q, config, config.metric, plan.labels.operations);
  for (const Block& block : blocks) {
    const TokenRange home = home_of_query_clusters(block, config);
    const Index S = level_size(block, config);
    const Index C = std::min(config.clusters_q.at(block.level)(S), home.size());
    const auto run = [&plan, &q, &k, &config, progress, block, home, S, C] {
      throw_if_cancelled(progress);
      double operations = 0;
      // Cluster the home's queries.
      const MetricMap<Scalar> metric(k.middleRows(block.key_begin, block.keys()), config.metric, operations);
      Labels home_labels = cluster_range<Scalar>(q, home, S, C, plan.windows, config, metric, operations);
      std::copy(home_labels.begin(), home_labels.end(),
                plan.labels.at(block.level, home.begin, home.end).begin());
      if (config.mode == Mode::causal) {
        // (6.2) Strictly causal: assign each query of the block to the nearest centroid of the past.
        Matrix<Scalar> mapped_home, mapped;
        const Clusters<Scalar> past =
            make_clusters<Scalar>(metric(q.middleRows(home.begin, home.size()), mapped_home, operations),
                                  std::move(home_labels), C);
        const Labels block_labels = assign_to_nearest<Scalar>(
            metric(q.middleRows(block.query_begin, block.queries()), mapped, operations), past.centroids,
            past.non_empty());
        operations += kmeans_operations(block.queries(), C, q.cols(), 0);
        std::copy(block_labels.begin(), block_labels.end(),
                  plan.labels.at(block.level, block.query_begin, block.query_end).begin());
      }
#pragma omp atomic
      plan.labels.operations += operations;
      if (progress != nullptr) progress->advance(static_cast<double>(block.keys()));
    };
    plan.pieces.push_back({kmeans_operations(home.size(), C, q.cols(), config.passes, config.sample) +
                               kmeans_operations(block.queries(), C, q.cols(), 0),
                           run});
  }
}

}  // namespace

template <class Scalar>
LevelLabels cluster_keys(const MatrixView<Scalar>& k, Index Nq, const Config& config, Progress* progress) {
  Clustering<Scalar> plan;
  plan_keys<Scalar>(k, Nq, config, progress, plan);
  do_in_any_order(std::move(plan.pieces));
  return std::move(plan.labels);
}

template <class Scalar>
LevelLabels cluster_queries(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k, const Config& config,
                            Progress* progress) {
  Clustering<Scalar> plan;
  plan_queries<Scalar>(q, k, config, progress, plan);
  do_in_any_order(std::move(plan.pieces));
  return std::move(plan.labels);
}

template <class Scalar>
BlockClusters<Scalar> block_clusters(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                     const Block& block, const LevelLabels& labels_q,
                                     const LevelLabels& labels_k, const Config& config) {
  const auto clusters_of = [](const MatrixView<Scalar>& x, std::span<const std::int32_t> labels) {
    const Index C = *std::max_element(labels.begin(), labels.end()) + 1;
    return make_clusters<Scalar>(x, Labels(labels.begin(), labels.end()), C);
  };
  BlockClusters<Scalar> clusters;
  const TokenRange home = home_of_query_clusters(block, config);
  clusters.home =
      clusters_of(q.middleRows(home.begin, home.size()), labels_q.at(block.level, home.begin, home.end));
  clusters.keys = clusters_of(k.middleRows(block.key_begin, block.keys()),
                              labels_k.at(block.level, block.key_begin, block.key_end));
  clusters.queries.resize(static_cast<std::size_t>(clusters.home.size()));
  const auto query_labels = labels_q.at(block.level, block.query_begin, block.query_end);
  for (Index n = 0; n < block.queries(); ++n) {
    const std::int32_t i = query_labels[static_cast<std::size_t>(n)];
    MUSE_REQUIRE(i >= 0 && i < clusters.home.size() && clusters.home.count(i) > 0, "query ",
                 block.query_begin + n, " at level ", block.level,
                 ": expected the label of a cluster that has a centroid, found ", i);
    clusters.queries[static_cast<std::size_t>(i)].push_back(n);
  }
  return clusters;
}

namespace {

// A query cluster of a tile, with the queries of the block that belong to it.
template <class Scalar>
struct TileQueries {
  Index i;                            // row of the tile
  const std::vector<Index>& members;  // 0-based in the block
  Matrix<Scalar> q;                   // [n, D]
  std::vector<Index> retrieved;       // S_i
  std::vector<bool> far;              // [Ck] non-empty and not retrieved
  RunningAttention<Scalar> sum;       // over the far clusters
};

}  // namespace

template <class Scalar>
Attention<Scalar> far_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                const MatrixView<Scalar>& v, const Block& block,
                                const BlockClusters<Scalar>& clusters, Scalar scale, const Config& config,
                                OperationCounts& operations, Progress* progress) {
  const Index D = q.cols(), Dv = v.cols();
  const auto block_q = q.middleRows(block.query_begin, block.queries());
  const SortedKeys<Scalar> keys =
      sort_keys<Scalar>(k.middleRows(block.key_begin, block.keys()),
                        v.middleRows(block.key_begin, block.keys()), clusters.keys);
  const bool tilted = config.order != Order::centroid;
  const KeyMeans<Scalar> means = tilted ? KeyMeans<Scalar>() : key_means(keys);
  const std::vector<bool> non_empty = clusters.keys.non_empty();
  const Index r = config.retrieve.at(block.level);

  // Only the query clusters that queries of this block belong to. Later queries may add some: no bit of a
  // cluster's summaries depends on the others of its tile.
  std::vector<Index> used;
  for (Index i = 0; i < clusters.home.size(); ++i)
    if (!clusters.queries[static_cast<std::size_t>(i)].empty()) used.push_back(i);
  const auto used_count = static_cast<Index>(used.size());

  Attention<Scalar> out(block.queries(), Dv);
  double summaries_operations = 0, far_operations = 0, retrieval_operations = 0;
#pragma omp parallel reduction(+ : summaries_operations, far_operations, retrieval_operations)
  {
    Summaries<Scalar> summaries;
#pragma omp for schedule(dynamic)
    for (Index i0 = 0; i0 < used_count; i0 += kTileQueryClusters) {
      if (progress != nullptr && progress->cancel) continue;
      // Stage 1: what these centroids see of every key cluster.
      Matrix<Scalar> q_bar(std::min(kTileQueryClusters, used_count - i0), D);
      for (Index i = 0; i < q_bar.rows(); ++i)
        q_bar.row(i) = clusters.home.centroids.row(used[static_cast<std::size_t>(i0 + i)]);
      if (tilted) {
        tilt_keys<Scalar>(q_bar, keys, scale, summaries);
      } else {
        plain_masses<Scalar>(q_bar, keys, means, scale, summaries);
      }
      const auto Cq = static_cast<double>(q_bar.rows());
      summaries_operations += tilted ? tilted_operations(Cq, static_cast<double>(block.keys()), D, Dv)
                                     : plain_operations(Cq, static_cast<double>(keys.clusters()), D);

      // Gather each cluster's queries and retrieve S_i; the other non-empty clusters stay far.
      std::vector<TileQueries<Scalar>> tile;
      for (Index i = 0; i < q_bar.rows(); ++i) {
        const std::vector<Index>& members =
            clusters.queries[static_cast<std::size_t>(used[static_cast<std::size_t>(i0 + i)])];
        const auto n_i = static_cast<Index>(members.size());
        TileQueries<Scalar>& queries = tile.emplace_back(
            TileQueries<Scalar>{i, members, Matrix<Scalar>(n_i, D),
                                largest_clusters<Scalar>(
                                    retrieval_ranks<Scalar>(summaries.L.row(i), keys, config.retrieve_by), r),
                                non_empty, RunningAttention<Scalar>(n_i, Dv)});
        for (Index n = 0; n < n_i; ++n) queries.q.row(n) = block_q.row(members[static_cast<std::size_t>(n)]);
        for (const Index j : queries.retrieved) queries.far[static_cast<std::size_t>(j)] = false;
      }

      // Stage 2 on the far clusters, as soon as some of them have their means.
      for (Index j0 = 0; j0 < keys.clusters(); j0 += kTileKeyClusters) {
        const ClusterRange range{j0, std::min(j0 + kTileKeyClusters, keys.clusters())};
        if (tilted) {
          tilted_means<Scalar>(keys, range, summaries);
        } else {
          plain_means<Scalar>(means, range, summaries);
        }
        for (TileQueries<Scalar>& queries : tile)
          add_far_field<Scalar>(queries.q, q_bar.row(queries.i), keys, summaries, queries.i, queries.far,
                                scale, config.order, queries.sum);
      }

      // Exact attention on the retrieved tokens, merged.
      for (TileQueries<Scalar>& queries : tile) {
        Attention<Scalar> part = std::move(queries.sum).finish();
        softmax_merge(part, attend_retrieved<Scalar>(queries.q, keys, queries.retrieved, scale));
        for (Index n = 0; n < queries.q.rows(); ++n) {
          const Index t = queries.members[static_cast<std::size_t>(n)];
          out.o.row(t) = part.o.row(n);
          out.lse[t] = part.lse[n];
        }
        Index retrieved_tokens = 0;
        for (const Index j : queries.retrieved) retrieved_tokens += keys.count(j);
        const auto n_i = static_cast<double>(queries.q.rows());
        const auto far_clusters =
            static_cast<double>(std::count(queries.far.begin(), queries.far.end(), true));
        far_operations += far_field_operations(
            n_i * far_clusters, static_cast<double>(block.keys() - retrieved_tokens), D, Dv, config.order);
        retrieval_operations += exact_operations(n_i * static_cast<double>(retrieved_tokens), D, Dv);
      }
      if (progress != nullptr) {
        const double share = static_cast<double>(q_bar.rows()) / static_cast<double>(used_count);
        progress->advance(share * static_cast<double>(block.queries()));
      }
    }
  }
  throw_if_cancelled(progress);
  operations.summaries += summaries_operations;
  operations.far_field += far_operations;
  operations.retrieval += retrieval_operations;
  return out;
}

template <class Scalar>
MuseResult<Scalar> muse_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                  const MatrixView<Scalar>& v, Scalar scale, const Config& config,
                                  const MuseOptions<Scalar>& options) {
  MUSE_REQUIRE(q.rows() > 0 && k.rows() > 0, "muse_attention: expected at least one query and one key");
  MUSE_REQUIRE_EQ(q.cols(), k.cols(), "muse_attention: queries and keys differ in dim");
  MUSE_REQUIRE_EQ(k.rows(), v.rows(), "muse_attention: keys and values differ in number");
  const auto now = [] { return std::chrono::steady_clock::now(); };
  const std::vector<Block> blocks = approximated_blocks(q.rows(), k.rows(), config);
  MuseResult<Scalar> result;

  // Cluster, unless labels are given.
  auto start = now();
  Clustering<Scalar> of_keys, of_queries;
  if (options.labels_k == nullptr) plan_keys<Scalar>(k, q.rows(), config, options.progress, of_keys);
  if (options.labels_q == nullptr) plan_queries<Scalar>(q, k, config, options.progress, of_queries);
  std::vector<Work> pieces = std::move(of_keys.pieces);
  pieces.insert(pieces.end(), of_queries.pieces.begin(), of_queries.pieces.end());
  do_in_any_order(std::move(pieces));
  result.labels_k = options.labels_k != nullptr ? *options.labels_k : std::move(of_keys.labels);
  result.labels_q = options.labels_q != nullptr ? *options.labels_q : std::move(of_queries.labels);
  const Index levels = blocks.empty() ? 0 : blocks.back().level + 1;
  MUSE_REQUIRE(result.labels_q.levels == levels && result.labels_q.tokens == q.rows() &&
                   result.labels_k.levels == levels && result.labels_k.tokens == k.rows(),
               "muse_attention: expected query labels [", levels, ", ", q.rows(), "] and key labels [",
               levels, ", ", k.rows(), "], found [", result.labels_q.levels, ", ", result.labels_q.tokens,
               "] and [", result.labels_k.levels, ", ", result.labels_k.tokens, "]");
  if (options.labels_k == nullptr) result.operations.clustering += result.labels_k.operations;
  if (options.labels_q == nullptr) result.operations.clustering += result.labels_q.operations;
  result.seconds.clustering = seconds_since(start);

  // Attend the diagonal blocks exactly.
  start = now();
  if (config.mode == Mode::acausal) {
    result.attention = Attention<Scalar>(q.rows(), v.cols());
  } else {
    const Mask mask{.causal = true, .block = config.block};
    result.attention = exact_attention<Scalar>(q, k, v, scale, mask, nullptr);
    result.operations.local = exact_operations(pair_count(q.rows(), k.rows(), mask), q.cols(), v.cols());
    if (options.on_part)
      options.on_part(
          {.level = -1, .query_begin = 0, .query_end = q.rows(), .key_begin = 0, .key_end = k.rows()},
          result.attention);
  }
  if (options.progress != nullptr) options.progress->advance(static_cast<double>(q.rows()));
  result.seconds.local = seconds_since(start);

  // Approximate the others, level by level, and merge each into its queries.
  start = now();
  const auto approximate = [&](const Block& block) {
    const BlockClusters<Scalar> clusters =
        block_clusters<Scalar>(q, k, block, result.labels_q, result.labels_k, config);
    OperationCounts operations;
    const Attention<Scalar> part =
        far_attention<Scalar>(q, k, v, block, clusters, scale, config, operations, options.progress);
    if (options.on_part) options.on_part(block, part);
#pragma omp parallel for
    for (Index n = 0; n < block.queries(); ++n)
      softmax_merge_row(result.attention.o.row(block.query_begin + n),
                        result.attention.lse[block.query_begin + n], part.o.row(n), part.lse[n]);
#pragma omp critical(muse_operations)
    result.operations += operations;
  };
  if (options.on_part) {
    for (const Block& block : blocks) approximate(block);  // one after the other, for the observer
  } else {
    for_each_block(blocks, approximate);
  }
  result.seconds.far = seconds_since(start);
  return result;
}

#define MUSE_INSTANTIATE(Scalar)                                                                           \
  template LevelLabels cluster_keys<Scalar>(const MatrixView<Scalar>&, Index, const Config&, Progress*);   \
  template LevelLabels cluster_queries<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,       \
                                               const Config&, Progress*);                                  \
  template BlockClusters<Scalar> block_clusters<Scalar>(                                                   \
      const MatrixView<Scalar>&, const MatrixView<Scalar>&, const Block&, const LevelLabels&,              \
      const LevelLabels&, const Config&);                                                                  \
  template Attention<Scalar> far_attention<Scalar>(                                                        \
      const MatrixView<Scalar>&, const MatrixView<Scalar>&, const MatrixView<Scalar>&, const Block&,       \
      const BlockClusters<Scalar>&, Scalar, const Config&, OperationCounts&, Progress*);                   \
  template MuseResult<Scalar> muse_attention<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&, \
                                                     const MatrixView<Scalar>&, Scalar, const Config&,     \
                                                     const MuseOptions<Scalar>&);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
