#include "predict.h"

#include <algorithm>

#include "muse/exact_attention.h"
#include "muse/far_field.h"

namespace muse::tools {
namespace {

// As far_attention and the clustering count, with n_j = S / C for every cluster, and queries for every query
// cluster.
OperationCounts block_operations(const Block& block, const LevelPlan& plan, Index D, Index Dv,
                                 const Config& config) {
  const auto Nq = static_cast<double>(block.queries()), Nk = static_cast<double>(block.keys());
  const auto Cq = static_cast<double>(plan.clusters_q), Ck = static_cast<double>(plan.clusters_k);
  const double r = std::min(static_cast<double>(plan.retrieve), Ck);
  const double retrieved = r * Nk / Ck;
  const Index home = home_of_query_clusters(block, config).size();

  OperationCounts operations;
  operations.clustering = cluster_operations(block.keys(), plan.clusters_k, D, config) +
                          cluster_operations(home, plan.clusters_q, D, config);
  if (config.mode == Mode::causal)
    operations.clustering += kmeans_operations(block.queries(), plan.clusters_q, D, 0);
  if (config.metric == Metric::key_covariance)
    operations.clustering +=
        metric_operations(block.keys() + home + (config.mode == Mode::causal ? block.queries() : 0), D);
  operations.summaries =
      config.order == Order::centroid ? plain_operations(Cq, Ck, D) : tilted_operations(Cq, Nk, D, Dv);
  operations.far_field = far_field_operations(Nq * (Ck - r), Cq * (Nk - retrieved), D, Dv, config.order);
  operations.retrieval = exact_operations(Nq * retrieved, D, Dv);
  return operations;
}

}  // namespace

std::vector<LevelPlan> plan_levels(Index Nq, Index Nk, Index D, Index Dv, const Config& config) {
  std::vector<LevelPlan> levels;
  if (config.mode != Mode::acausal) {
    LevelPlan diagonal{.size = config.block, .blocks = ceil_div(Nq, config.block), .queries = Nq};
    diagonal.pairs = pair_count(Nq, Nk, {.causal = true, .block = config.block});
    diagonal.operations.local = exact_operations(diagonal.pairs, D, Dv);
    levels.push_back(diagonal);
  }
  for (const Block& block : approximated_blocks(Nq, Nk, config)) {
    if (levels.empty() || levels.back().level != block.level) {
      const Index S = config.mode == Mode::acausal ? block.keys() : config.block << block.level;
      levels.push_back({.level = block.level,
                        .size = S,
                        .clusters_q = config.clusters_q.at(block.level)(S),
                        .clusters_k = config.clusters_k.at(block.level)(block.keys()),
                        .retrieve = config.retrieve.at(block.level)});
    }
    LevelPlan& plan = levels.back();
    ++plan.blocks;
    plan.queries += block.queries();
    plan.pairs += static_cast<double>(block.queries()) * static_cast<double>(block.keys());
    LevelPlan clamped = plan;
    clamped.clusters_q = std::min(plan.clusters_q, home_of_query_clusters(block, config).size());
    plan.operations += block_operations(block, clamped, D, Dv, config);
  }
  return levels;
}

OperationCounts planned_operations(const std::vector<LevelPlan>& levels) {
  OperationCounts sum;
  for (const LevelPlan& level : levels) sum += level.operations;
  return sum;
}

}  // namespace muse::tools
