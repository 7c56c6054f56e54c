// What every kernel knows about a call: shapes, blocks of the hierarchy, where each thing lies in the workspace.
// Plain data, passed to kernels by value, so that a call needs no copy to the device and can be captured.
#pragma once

#include <cstdint>

namespace muse::cuda {

/// Levels of the causal hierarchy that a plan can hold: B 2^24 tokens.
inline constexpr int kMaxLevels = 24;

/// The far blocks of one level: `blocks` rectangles of S keys each (docs/math.md, 6.1). The method's tables have
/// one entry a *unit*: a block of a head, head slowest. Units of one level lie side by side.
struct Level {
  std::int32_t S = 0;       ///< keys of a block
  std::int32_t blocks = 0;  ///< blocks of a head
  std::int32_t Ck = 0;      ///< key clusters of a block
  std::int32_t Cq = 0;      ///< query clusters of a block
  std::int32_t r = 0;       ///< key clusters retrieved by each query cluster
  std::int32_t key_cluster = 0;    ///< first key cluster of the level's first block, among a head's key clusters
  std::int32_t query_cluster = 0;  ///< first query cluster, among a head's query clusters
  std::int32_t block = 0;          ///< first block, among a head's blocks
  std::int32_t query_tile = 0;     ///< first entry of the table of query tiles, among a head's
  std::int32_t query_tiles = 0;    ///< entries of a block: S / 64 rounded up, and one more a cluster, always enough
};

/// Queries that stage 2 works on together; all of one cluster.
inline constexpr int kQueryTile = 64;

enum class QueryHome : std::int32_t {
  past,  ///< strictly causal: the queries of the first half are clustered, those of the second half assigned
  self   ///< the block's own queries are clustered
};

enum class ExpansionOrder : std::int32_t { centroid, monopole, dipole, dipole_value };

/// Element (batch b, head h, token n, feature d) lies at ((b * stride_batch) + h * stride_head + n *
/// stride_token + d).
struct Strides {
  std::int64_t batch = 0, head = 0, token = 0;
};

struct Plan {
  std::int32_t batch = 1, heads_q = 1, heads_kv = 1;  ///< query head h uses key head h / (heads_q / heads_kv)
  std::int32_t Nq = 0, Nk = 0, D = 0, Dv = 0;
  std::int32_t block = 0;  ///< B; 0: acausal, one far block of everything and no diagonal blocks
  QueryHome home = QueryHome::past;
  ExpansionOrder order = ExpansionOrder::dipole;
  float scale = 0;
  std::int32_t levels = 0;
  std::int32_t key_clusters = 0;    ///< of a head, all blocks of all levels
  std::int32_t query_clusters = 0;  ///< of a head, all blocks of all levels
  std::int32_t blocks = 0;          ///< far blocks of a head, all levels
  std::int32_t query_tiles = 0;     ///< entries of a head's table of query tiles, all levels
  Strides q, k, v, o;
  Level level[kMaxLevels];
};

// ---- Where things lie ----

/// A far block of a head, as kernels meet it.
struct Unit {
  std::int32_t head = 0;   ///< query head over the batch: b · heads_q + h, or key head likewise
  std::int32_t block = 0;  ///< t
  std::int32_t key_begin = 0, key_end = 0;
  std::int32_t query_begin = 0, query_end = 0;
};

#ifdef __CUDACC__
#define MUSE_HOST_DEVICE __host__ __device__
#else
#define MUSE_HOST_DEVICE
#endif

/// (6.1) The block `unit % blocks` of head `unit / blocks`.
MUSE_HOST_DEVICE inline Unit unit_of(const Plan& plan, const Level& level, std::int32_t unit) {
  Unit u;
  u.head = unit / level.blocks;
  u.block = unit % level.blocks;
  if (plan.block == 0) {
    u.key_end = plan.Nk;
    u.query_end = plan.Nq;
  } else {
    u.key_begin = 2 * u.block * level.S;
    u.key_end = u.key_begin + level.S;
    u.query_begin = u.key_end;
    u.query_end = u.key_end + level.S < plan.Nq ? u.key_end + level.S : plan.Nq;
  }
  return u;
}

/// First element of head `head` = b · heads + h.
MUSE_HOST_DEVICE inline std::int64_t head_offset(const Strides& strides, std::int32_t head, std::int32_t heads) {
  return (head / heads) * strides.batch + (head % heads) * strides.head;
}

/// The key head, over the batch, that query head `head` reads.
MUSE_HOST_DEVICE inline std::int32_t key_head(const Plan& plan, std::int32_t head) {
  return head / (plan.heads_q / plan.heads_kv);
}

MUSE_HOST_DEVICE inline std::int64_t key_clusters_at(const Plan& plan, const Level& level, std::int32_t head,
                                                     std::int32_t block) {
  return static_cast<std::int64_t>(head) * plan.key_clusters + level.key_cluster + block * level.Ck;
}
MUSE_HOST_DEVICE inline std::int64_t key_offsets_at(const Plan& plan, const Level& level, std::int32_t head,
                                                    std::int32_t block) {
  return static_cast<std::int64_t>(head) * (plan.key_clusters + plan.blocks) + level.key_cluster + level.block +
         block * (level.Ck + 1);
}
MUSE_HOST_DEVICE inline std::int64_t query_clusters_at(const Plan& plan, const Level& level, std::int32_t head,
                                                       std::int32_t block) {
  return static_cast<std::int64_t>(head) * plan.query_clusters + level.query_cluster + block * level.Cq;
}
MUSE_HOST_DEVICE inline std::int64_t query_offsets_at(const Plan& plan, const Level& level, std::int32_t head,
                                                      std::int32_t block) {
  return static_cast<std::int64_t>(head) * (plan.query_clusters + plan.blocks) + level.query_cluster +
         level.block + block * (level.Cq + 1);
}

}  // namespace muse::cuda
