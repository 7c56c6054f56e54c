// What every kernel knows about a call: shapes, blocks of the hierarchy, where each thing lies in the
// workspace. Plain data, passed to kernels by value, so that a call needs no copy to the device and can be
// captured.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define MUSE_HOST_DEVICE __host__ __device__
#else
#define MUSE_HOST_DEVICE
#endif

namespace muse::cuda {

/// Levels of the causal hierarchy that a plan can hold: B 2^24 tokens.
inline constexpr int kMaxLevels = 24;
/// Clusters of a block that the counting sort can hold in shared memory.
inline constexpr int kMaxClusters = 4096;
/// Head dims are multiples of 8 up to this one.
inline constexpr int kMaxDim = 256;

/// The far blocks of one level: `blocks` rectangles of S keys each (docs/math.md, 6.1). The method's tables
/// have one entry a *unit*: a block of a head, head slowest. Units of one level lie side by side.
struct Level {
  std::int32_t S = 0;       ///< keys of a block
  std::int32_t blocks = 0;  ///< blocks of a head
  std::int32_t Ck = 0;      ///< key clusters of a block
  std::int32_t Cq = 0;      ///< query clusters of a block
  std::int32_t r = 0;       ///< key clusters retrieved by each query cluster
  std::int32_t key_cluster =
      0;  ///< first key cluster of the level's first block, among a head's key clusters
  std::int32_t query_cluster = 0;  ///< first query cluster, among a head's query clusters
  std::int32_t block = 0;          ///< first block, among a head's blocks
  std::int32_t query_tile = 0;     ///< first entry of the table of query tiles, among a head's
  std::int32_t query_tiles =
      0;  ///< entries of a block: S / kQueryTile rounded up, and one more a cluster, always enough
};

/// Queries that stage 2 works on together, at most; all of one cluster.
inline constexpr int kQueryTile = 128;
struct alignas(16) QueryTile {
  std::int32_t cluster = -1;  ///< -1: no queries
  std::int32_t begin = 0;     ///< first place in the block's query_order
  std::int32_t count = 0;
  std::int32_t unit = 0;  ///< of the level: head · blocks + block
};

enum class QueryHome : std::int32_t {
  past,  ///< strictly causal: the queries of the first half are clustered, those of the second half assigned
  self   ///< the block's own queries are clustered
};

enum class ExpansionOrder : std::int32_t { centroid, monopole, dipole, dipole_value, dipole_spread };

/// How tokens get their labels where none are given.
enum class Clustering : std::int32_t { kmeans, spatial };

/// Element (batch b, head h, token n, feature d) lies at ((b * stride_batch) + h * stride_head + n *
/// stride_token + d).
struct Strides {
  std::int64_t batch = 0, head = 0, token = 0;
};

/// The windows of a head's keys or queries: [t W, (t + 1) W), the last one perhaps shorter.
struct Windows {
  std::int32_t count = 0;          ///< windows of a head
  std::int32_t clusters = 0;       ///< clusters of a whole window
  std::int32_t last_clusters = 0;  ///< clusters of the last one, at most `clusters`
};

struct Plan {
  std::int32_t batch = 1, heads_q = 1, heads_kv = 1;  ///< query head h uses key head h / (heads_q / heads_kv)
  std::int32_t Nq = 0, Nk = 0, D = 0, Dv = 0;
  std::int32_t block = 0;  ///< B; 0: acausal, one far block of everything and no diagonal blocks
  QueryHome home = QueryHome::past;
  ExpansionOrder order = ExpansionOrder::dipole;
  float spread_factor = 0;  ///< κ/(2 D) of (4.6) for the order `dipole_spread`, 0 for the others
  Clustering clustering = Clustering::kmeans;
  std::int32_t rank_by_mean_weight = 0;  ///< 1: clusters are retrieved by mean weight instead of mass (5.1)
  std::int32_t key_metric = 0;  ///< 1: queries are clustered in the metric of the key covariance (2.3)
  std::int32_t passes = 0;      ///< T of k-means
  std::int32_t sample = 1;      ///< the passes look at every `sample`-th token of a block
  std::uint64_t seed = 0;       ///< of k-means; 0: the middle token of each stride
  float scale = 0;
  std::int32_t levels = 0;
  /// (2.4) Tokens of a window, 0 if there are none. The first `fresh_levels` levels cluster afresh, the
  /// others take the windows' clusters, merged.
  std::int32_t window = 0;
  std::int32_t fresh_levels = 0;
  Windows windows_k, windows_q;
  bool blocks_are_windows = false;  ///< this plan is that of the windows themselves (window_plan)
  std::int32_t key_clusters = 0;    ///< of a head, all blocks of all levels
  std::int32_t query_clusters = 0;  ///< of a head, all blocks of all levels
  std::int32_t blocks = 0;          ///< far blocks of a head, all levels
  std::int32_t query_tiles = 0;     ///< entries of a head's table of query tiles, all levels
  Strides q, k, v, o;
  Level level[kMaxLevels];

  /// Query heads and key heads of all sequences: HQ and HK. A head's index is batch · heads + head.
  [[nodiscard]] MUSE_HOST_DEVICE std::int32_t HQ() const { return batch * heads_q; }
  [[nodiscard]] MUSE_HOST_DEVICE std::int32_t HK() const { return batch * heads_kv; }
  /// The key head of query head hq < HQ, of all sequences.
  [[nodiscard]] MUSE_HOST_DEVICE std::int32_t key_head(std::int32_t hq) const {
    return hq / heads_q * heads_kv + hq % heads_q / (heads_q / heads_kv);
  }
};

/// Some tokens of a head: [begin, begin + count).
struct TokenSpan {
  std::int32_t begin = 0, count = 0;
};

/// Which tokens of a block: its keys, its queries, or the queries whose clusters give it its expansion
/// points.
enum class Side : std::int32_t { keys, home, queries };

/// The tokens of block t of `level` (6.1), (6.2).
[[nodiscard]] MUSE_HOST_DEVICE inline TokenSpan block_tokens(const Plan& plan, const Level& level,
                                                             std::int32_t t, Side side) {
  if (plan.blocks_are_windows) {
    const std::int32_t N = side == Side::keys ? plan.Nk : plan.Nq, begin = t * level.S;
    return {begin, N - begin < level.S ? N - begin : level.S};
  }
  if (plan.block == 0) return {0, side == Side::keys ? plan.Nk : plan.Nq};
  const std::int32_t first = 2 * t * level.S, second = first + level.S;
  if (side == Side::keys || (side == Side::home && plan.home == QueryHome::past)) return {first, level.S};
  return {second, plan.Nq - second < level.S ? plan.Nq - second : level.S};
}

/// Tokens of the longest block of `level`.
[[nodiscard]] MUSE_HOST_DEVICE inline std::int32_t longest_block(const Plan& plan, const Level& level,
                                                                 Side side) {
  if (plan.block > 0 || plan.blocks_are_windows) return level.S;
  return side == Side::keys ? plan.Nk : plan.Nq;
}

/// Clusters of block t of `level` that k-means may fill: no more than there are tokens.
[[nodiscard]] MUSE_HOST_DEVICE inline std::int32_t block_clusters(const Plan& plan, const Level& level,
                                                                  std::int32_t t, Side side) {
  const bool keys = side == Side::keys;
  std::int32_t C = keys ? level.Ck : level.Cq;
  if (plan.blocks_are_windows && t + 1 == level.blocks)
    C = keys ? plan.windows_k.last_clusters : plan.windows_q.last_clusters;
  const std::int32_t tokens = block_tokens(plan, level, t, keys ? Side::keys : Side::home).count;
  return tokens < C ? tokens : C;
}

/// Where the clusters of block t begin in a table by cluster, [heads, clusters].
[[nodiscard]] MUSE_HOST_DEVICE inline std::int64_t first_cluster(const Plan& plan, const Level& level,
                                                                 std::int64_t head, std::int32_t t,
                                                                 Side side) {
  return side == Side::keys ? head * plan.key_clusters + level.key_cluster + std::int64_t{t} * level.Ck
                            : head * plan.query_clusters + level.query_cluster + std::int64_t{t} * level.Cq;
}

/// Where the offsets of block t begin in a table of offsets, [heads, clusters + blocks].
[[nodiscard]] MUSE_HOST_DEVICE inline std::int64_t first_offset(const Plan& plan, const Level& level,
                                                                std::int64_t head, std::int32_t t,
                                                                Side side) {
  return first_cluster(plan, level, head, t, side) + head * plan.blocks + level.block + t;
}

/// What is done with a block's tokens run by run: a thread block works on one, others on others. Counts and
/// sums have a table with a row for each (block, run, cluster) of a head, whose runs are put together
/// afterwards, in order.
enum class RunTask : std::int32_t { label, count, sum };

/// How the blocks of a level are cut into runs. It follows from the level alone: bits of one level do not
/// depend on how many others there are.
struct LevelRuns {
  std::int32_t tokens = 0;  ///< of a run; the last one of a block may have fewer
  std::int32_t runs = 0;    ///< of a block
};
[[nodiscard]] MUSE_HOST_DEVICE inline LevelRuns level_runs(const Plan& plan, const Level& level, Side side,
                                                           RunTask task) {
  // A token's label takes as long as there are clusters. Sums take 4 D bytes a cluster: runs of 4 C tokens
  // and more keep them small beside the 2 D bytes of each token that they are made of. Long blocks have
  // enough runs of twice that for all multiprocessors; short ones of many clusters, as samples are, have too
  // few.
  const std::int32_t C = side == Side::keys ? level.Ck : level.Cq;
  const std::int32_t longest = longest_block(plan, level, side);
  const std::int32_t tokens = task == RunTask::label   ? (C < 256 ? 512 : 256)
                              : task == RunTask::count ? 2048
                              : longest <= 16384 && C > 128
                                  ? 512
                                  : (C + 127) / 128 * 512 * (longest >= 8192 ? 2 : 1);
  return {tokens, (longest + tokens - 1) / tokens};
}

/// Rows of the first `levels` levels among a head's: the first row of the level behind them.
[[nodiscard]] MUSE_HOST_DEVICE inline std::int64_t run_rows(const Plan& plan, std::int32_t levels, Side side,
                                                            RunTask task) {
  std::int64_t rows = 0;
  for (std::int32_t m = 0; m < levels; ++m) {
    const Level& level = plan.level[m];
    rows += std::int64_t{level.blocks} * level_runs(plan, level, side, task).runs *
            (side == Side::keys ? level.Ck : level.Cq);
  }
  return rows;
}

/// (2.2) The plan of a sample: every `plan.sample`-th token of every block, which are the same rows farther
/// apart. Tables by cluster are those of `plan`.
[[nodiscard]] Plan sample_plan(const Plan& plan);

/// (2.4) The plan of the windows of the keys (Side::keys) or queries: one level whose blocks are windows.
[[nodiscard]] Plan window_plan(const Plan& plan, Side side);

/// (2.4) The plan of merging them: the levels beyond `fresh_levels`, with a token for each cluster of each
/// window. Cluster u of window t is token t · clusters + u.
[[nodiscard]] Plan merge_plan(const Plan& plan, Side side);

}  // namespace muse::cuda
