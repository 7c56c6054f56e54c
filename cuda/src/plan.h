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
};

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
  Strides q, k, v, o;
  Level level[kMaxLevels];
};

}  // namespace muse::cuda
