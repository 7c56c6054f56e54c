#include "plan.h"

#include <cmath>
#include <limits>

#include "make_plan.h"

namespace muse::cuda {
namespace {

constexpr std::int64_t kMostTokens = std::int64_t{1} << 28;

void check_count(const char* name, std::int64_t value, std::int64_t most) {
  MUSE_REQUIRE(value >= 1 && value <= most, name, ": expected 1 to ", most, ", found ", value);
}

void check_dim(const char* name, std::int64_t dim) {
  MUSE_REQUIRE(dim >= 8 && dim <= kMaxDim && dim % 8 == 0, name, ": expected a multiple of 8 from 8 to ",
               kMaxDim, ", found ", dim);
}

// int32 counts of the tables of all heads; the tables themselves are indexed with 64 bits.
std::int32_t narrow(const char* what, std::int64_t value) {
  if (value > std::numeric_limits<std::int32_t>::max())
    throw Unsupported(detail::concat(what, ": the GPU path counts up to ",
                                     std::numeric_limits<std::int32_t>::max(), ", found ", value,
                                     "; cut the call into fewer heads"));
  return static_cast<std::int32_t>(value);
}

ExpansionOrder expansion_order(Order order) {
  switch (order) {
    case Order::centroid:
      return ExpansionOrder::centroid;
    case Order::monopole:
      return ExpansionOrder::monopole;
    case Order::dipole_value:
      return ExpansionOrder::dipole_value;
    case Order::dipole_spread:
      return ExpansionOrder::dipole_spread;
    case Order::dipole:
      break;
  }
  return ExpansionOrder::dipole;
}

}  // namespace

std::size_t size_of(ElementType type) {
  return type == ElementType::float32 ? 4 : 2;
}

const char* name_of(ElementType type) {
  switch (type) {
    case ElementType::float32:
      return "float32";
    case ElementType::float16:
      return "float16";
    case ElementType::bfloat16:
      break;
  }
  return "bfloat16";
}

namespace {

// (2.4) Level sizes are B 2^m, and a window must divide them: the largest such size that is at most
// `cluster_window`. Levels that are smaller cluster afresh.
void place_windows(Plan& plan, const Config& config) {
  plan.fresh_levels = plan.levels;
  if (config.cluster_window == 0 || plan.levels == 0) return;
  const bool causal = plan.block > 0;
  std::int64_t W =
      causal ? plan.block : std::min<std::int64_t>(config.cluster_window, std::max(plan.Nq, plan.Nk));
  std::int64_t fresh = 0;
  while (causal && 2 * W <= config.cluster_window && fresh < plan.levels) {
    W *= 2;
    ++fresh;
  }
  if (fresh >= plan.levels) return;  // no level has whole windows
  plan.window = static_cast<std::int32_t>(W);
  plan.fresh_levels = static_cast<std::int32_t>(fresh);
  const auto windows_of = [&](std::int64_t N, const ClusterRule& rule) {
    const std::int64_t count = (N + W - 1) / W, last = N - (count - 1) * W;
    const std::int64_t whole = rule(std::min(N, W));
    if (whole > kMaxClusters)
      throw Unsupported(detail::concat("the GPU path has ", kMaxClusters,
                                       " clusters a window at most; a window of ", W, " tokens asks for ",
                                       whole));
    return Windows{.count = static_cast<std::int32_t>(count),
                   .clusters = static_cast<std::int32_t>(whole),
                   .last_clusters = static_cast<std::int32_t>(std::min(whole, rule(last)))};
  };
  plan.windows_k = windows_of(plan.Nk, config.clusters_k.at(fresh));
  plan.windows_q = windows_of(plan.Nq, config.clusters_q.at(fresh));
}

}  // namespace

Plan make_plan(const Shape& shape, const Config& config) {
  check_count("batch", shape.batch, 1 << 20);
  check_count("heads_q", shape.heads_q, 1 << 20);
  check_count("heads_kv", shape.heads_kv, 1 << 20);
  check_count("Nq", shape.Nq, kMostTokens);
  check_count("Nk", shape.Nk, kMostTokens);
  check_dim("D", shape.D);
  check_dim("Dv", shape.Dv);
  MUSE_REQUIRE(shape.heads_q % shape.heads_kv == 0,
               "heads_q: expected a multiple of heads_kv = ", shape.heads_kv, ", found ", shape.heads_q);
  MUSE_REQUIRE(std::isfinite(shape.scale), "scale: expected a finite number, found ", shape.scale);
  const bool causal = config.mode != Mode::acausal;
  if (causal)
    MUSE_REQUIRE(shape.Nq == shape.Nk,
                 "causal attention needs as many queries as keys: expected Nq = Nk, found ", shape.Nq,
                 " and ", shape.Nk);
  MUSE_REQUIRE(config.block >= 1, "block: expected at least one token, found ", config.block);
  MUSE_REQUIRE(config.passes >= 0, "passes: expected at least 0, found ", config.passes);
  MUSE_REQUIRE(config.sample >= 1, "sample: expected at least 1, found ", config.sample);
  MUSE_REQUIRE(config.cluster_window >= 0, "cluster_window: expected at least 0, found ",
               config.cluster_window);
  MUSE_REQUIRE(!config.clusters_q.values.empty() && !config.clusters_k.values.empty() &&
                   !config.retrieve.values.empty(),
               "clusters_q, clusters_k, retrieve: expected a value for one level at least, found none");
  if (config.cluster_by == ClusterBy::balanced)
    throw Unsupported("cluster-by balanced is not on the GPU yet; expected kmeans or spatial");
  if (config.cluster_window > 0 && config.metric == Metric::key_covariance)
    throw Unsupported(
        "cluster-window with the metric key-covariance is not on the GPU yet; expected euclidean");

  Plan plan;
  plan.batch = static_cast<std::int32_t>(shape.batch);
  plan.heads_q = static_cast<std::int32_t>(shape.heads_q);
  plan.heads_kv = static_cast<std::int32_t>(shape.heads_kv);
  narrow("batch times heads_q", shape.batch * shape.heads_q);
  plan.Nq = static_cast<std::int32_t>(shape.Nq);
  plan.Nk = static_cast<std::int32_t>(shape.Nk);
  plan.D = static_cast<std::int32_t>(shape.D);
  plan.Dv = static_cast<std::int32_t>(shape.Dv);
  plan.block = causal ? static_cast<std::int32_t>(std::min(config.block, shape.Nq)) : 0;
  plan.home = config.mode == Mode::causal ? QueryHome::past : QueryHome::self;
  plan.order = expansion_order(config.order);
  if (config.order == Order::dipole_spread)
    plan.spread_factor = static_cast<float>(kSpreadFactor / static_cast<double>(2 * shape.D));
  plan.clustering = config.cluster_by == ClusterBy::spatial ? Clustering::spatial : Clustering::kmeans;
  plan.rank_by_mean_weight = config.retrieve_by == RetrieveBy::mean_weight ? 1 : 0;
  plan.key_metric = config.metric == Metric::key_covariance ? 1 : 0;
  plan.passes = narrow("passes", config.passes);
  plan.sample = narrow("sample", std::min(config.sample, std::max(shape.Nq, shape.Nk)));
  plan.seed = config.seed;
  plan.scale =
      static_cast<float>(shape.scale == 0 ? 1 / std::sqrt(static_cast<double>(shape.D)) : shape.scale);

  // (6.1) The far blocks, level by level; acausal: one of everything.
  const std::int64_t N = causal ? shape.Nq : shape.Nk;
  std::int64_t key_clusters = 0, query_clusters = 0, blocks = 0, query_tiles = 0;
  for (std::int64_t S = causal ? plan.block : N; causal ? S < N : plan.levels == 0; S *= 2) {
    if (plan.levels == kMaxLevels)
      throw Unsupported(detail::concat("the GPU path has ", kMaxLevels,
                                       " levels at most; expected a block of at least ", N >> kMaxLevels,
                                       " tokens, found ", config.block));
    const std::int64_t m = plan.levels;
    MUSE_REQUIRE(config.retrieve.at(m) >= 0, "retrieve: expected at least 0 at level ", m, ", found ",
                 config.retrieve.at(m));
    Level& level = plan.level[m];
    level.S = static_cast<std::int32_t>(S);
    // First keys lie at 0, 2S, 4S, …; a block has a query behind its keys.
    level.blocks = causal ? static_cast<std::int32_t>((N - S + 2 * S - 1) / (2 * S)) : 1;
    const std::int64_t Ck = config.clusters_k.at(m)(S);
    const std::int64_t Cq = std::min(config.clusters_q.at(m)(S), causal ? S : shape.Nq);
    for (const std::int64_t C : {Ck, Cq})
      if (C > kMaxClusters)
        throw Unsupported(detail::concat("the GPU path has ", kMaxClusters,
                                         " clusters a block at most; level ", m, " of ", S,
                                         " tokens asks for ", C));
    level.Ck = static_cast<std::int32_t>(Ck);
    level.Cq = static_cast<std::int32_t>(Cq);
    level.r = static_cast<std::int32_t>(std::min(config.retrieve.at(m), Ck));
    level.key_cluster = narrow("key clusters of a head", key_clusters);
    level.query_cluster = narrow("query clusters of a head", query_clusters);
    level.block = narrow("blocks of a head", blocks);
    level.query_tile = narrow("query tiles of a head", query_tiles);
    level.query_tiles =
        static_cast<std::int32_t>(((causal ? S : shape.Nq) + kQueryTile - 1) / kQueryTile + Cq);
    query_tiles += std::int64_t{level.blocks} * level.query_tiles;
    key_clusters += level.blocks * Ck;
    query_clusters += level.blocks * Cq;
    blocks += level.blocks;
    ++plan.levels;
  }
  plan.key_clusters = narrow("key clusters of a head", key_clusters);
  plan.query_clusters = narrow("query clusters of a head", query_clusters);
  plan.blocks = narrow("blocks of a head", blocks);
  plan.query_tiles = narrow("query tiles of a head", query_tiles);
  place_windows(plan, config);
  // Samples of blocks and windows begin at their first tokens.
  const std::int64_t begins = plan.window > 0 ? plan.window : plan.block;
  if (plan.levels > 0 && plan.block % plan.sample + begins % plan.sample != 0)
    throw Unsupported(detail::concat(
        "the GPU path samples blocks and windows of whole strides: expected a sample that divides ",
        plan.block % plan.sample != 0 ? plan.block : begins, " tokens, found ", plan.sample));
  // Grids are counted in 31 bits; with B = 1 the finest has a thread block a query.
  const std::int64_t heads = shape.batch * shape.heads_q;
  narrow("clusters of all heads", heads * std::max(key_clusters, query_clusters) * 8);
  narrow("tokens of all heads", heads * std::max(shape.Nq, shape.Nk));
  return plan;
}

Plan sample_plan(const Plan& plan) {
  const auto sampled = [&](std::int32_t tokens) { return (tokens + plan.sample - 1) / plan.sample; };
  Plan result = plan;
  result.sample = 1;
  result.Nq = sampled(plan.Nq);
  result.Nk = sampled(plan.Nk);
  result.block = sampled(plan.block);
  result.window = sampled(plan.window);
  for (std::int32_t m = 0; m < plan.levels; ++m) result.level[m].S = sampled(plan.level[m].S);
  result.q.token *= plan.sample;
  result.k.token *= plan.sample;
  return result;
}

Plan window_plan(const Plan& plan, Side side) {
  const Windows& windows = side == Side::keys ? plan.windows_k : plan.windows_q;
  Plan result = plan;
  result.blocks_are_windows = true;
  result.Nk = result.Nq = side == Side::keys ? plan.Nk : plan.Nq;
  result.levels = result.fresh_levels = 1;
  result.blocks = windows.count;
  result.key_clusters = result.query_clusters = windows.count * windows.clusters;
  result.level[0] = {
      .S = plan.window, .blocks = windows.count, .Ck = windows.clusters, .Cq = windows.clusters};
  return result;
}

Plan merge_plan(const Plan& plan, Side side) {
  const Windows& windows = side == Side::keys ? plan.windows_k : plan.windows_q;
  Plan result = plan;
  result.sample = 1;
  result.Nk = result.Nq = (windows.count - 1) * windows.clusters + windows.last_clusters;
  result.levels = result.blocks = result.key_clusters = result.query_clusters = 0;
  for (std::int32_t m = plan.fresh_levels; m < plan.levels; ++m) {
    Level level = plan.level[m];
    level.S = plan.block > 0 ? level.S / plan.window * windows.clusters : result.Nk;
    level.Ck = std::min(level.Ck, level.S);  // as many as there are tokens: each its own
    level.Cq = std::min(level.Cq, level.S);
    level.r = 0;
    level.key_cluster = result.key_clusters;
    level.query_cluster = result.query_clusters;
    level.block = result.blocks;
    result.key_clusters += level.blocks * level.Ck;
    result.query_clusters += level.blocks * level.Cq;
    result.blocks += level.blocks;
    result.level[result.levels++] = level;
  }
  result.fresh_levels = result.levels;
  if (plan.block > 0) result.block = result.level[0].S;
  const std::int64_t head =
      std::int64_t{windows.count} * windows.clusters * plan.D;  // as window_plan has them
  Strides& strides = side == Side::keys ? result.k : result.q;
  strides = {
      .batch = (side == Side::keys ? plan.heads_kv : plan.heads_q) * head, .head = head, .token = plan.D};
  return result;
}

std::int32_t units_of_chunk(const Plan& plan, const Level& level, std::size_t element_bytes,
                            std::size_t summary_bytes) {
  const std::int64_t units = std::int64_t{plan.HQ()} * level.blocks;
  std::size_t pair = 2 * sizeof(float);
  if (plan.spread_factor > 0) pair += sizeof(float);
  if (plan.order != ExpansionOrder::centroid)
    pair += static_cast<std::size_t>(plan.D + plan.Dv) * element_bytes;
  const std::size_t unit = static_cast<std::size_t>(level.Cq) * (static_cast<std::size_t>(level.Ck) * pair +
                                                                 static_cast<std::size_t>(level.r) * 4);
  const auto fit = static_cast<std::int64_t>(summary_bytes / unit);
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(fit, 1, units));
}

namespace {

template <class Element>
WorkspaceBytes bytes_of(const Plan& plan) {
  return {.recommended = lay_out<Element>(plan, nullptr, kSummaryBytes).bytes,
          .least = lay_out<Element>(plan, nullptr, 0).bytes};
}

}  // namespace

WorkspaceBytes workspace_bytes(const Shape& shape, const Config& config) {
  const Plan plan = make_plan(shape, config);
  // Halves take the same space, whichever they are.
  return shape.type == ElementType::float32 ? bytes_of<float>(plan) : bytes_of<std::uint16_t>(plan);
}

std::int64_t level_count(const Shape& shape, const Config& config) {
  return make_plan(shape, config).levels;
}

}  // namespace muse::cuda
