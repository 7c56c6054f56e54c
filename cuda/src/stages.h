// The stages of a call and the memory between them. Each concept has a .cu file of the reference's basename,
// which launches its kernels on these structures; nothing here allocates or waits.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "plan.h"

namespace muse::cuda {

/// Inputs and outputs of a call; all device memory. `Element` is float, __half or __nv_bfloat16.
template <class Element>
struct Tensors {
  const Element* q = nullptr;  ///< [batch, heads_q, Nq, D], strides in the plan
  const Element* k = nullptr;  ///< [batch, heads_kv, Nk, D]
  const Element* v = nullptr;  ///< [batch, heads_kv, Nk, Dv]
  Element* o = nullptr;        ///< [batch, heads_q, Nq, Dv]
  float* lse = nullptr;        ///< [batch, heads_q, Nq], dense
};

/// Everything between the stages. HQ = batch · heads_q, HK = batch · heads_kv. A unit is one far block of one
/// head. Tokens are numbered in their head, from 0.
///
/// Tables by cluster: head h, level m, block t, cluster c lies at
///     h · clusters + level.key_cluster + t · Ck + c           (clusters = plan.key_clusters; queries likewise)
/// and the offsets of a block, which has one more entry than clusters, at
///     h · (clusters + blocks) + level.key_cluster + level.block + t · (Ck + 1) + c.
template <class Element>
struct Workspace {
  std::int32_t* labels_k = nullptr;  ///< [HK, levels, Nk] cluster of each key of a block; -1: not a key there
  std::int32_t* labels_q = nullptr;  ///< [HQ, levels, Nq] of home queries and of the block's queries
  /// Tokens of each block by rising cluster, within a cluster by rising position: the range [begin, end) of
  /// level m holds the tokens of that range.
  std::int32_t* key_order = nullptr;      ///< [HK, levels, Nk]
  std::int32_t* query_order = nullptr;    ///< [HQ, levels, Nq] of home queries (past) and of the block's queries
  std::int32_t* key_offsets = nullptr;    ///< [HK, key_clusters + blocks] places in key_order, from the block's first
  std::int32_t* home_offsets = nullptr;   ///< [HQ, query_clusters + blocks] likewise of the home
  std::int32_t* query_offsets = nullptr;  ///< [HQ, query_clusters + blocks] likewise of the block's queries
  Element* key_centroids = nullptr;       ///< [HK, key_clusters, D] during k-means; then k̄ of the `centroid` order
  Element* value_means = nullptr;         ///< [HK, key_clusters, Dv] v̄ of the `centroid` order
  /// q̄ in the type of q: the expansion point may be any, as long as both stages mean the same one.
  Element* query_centroids = nullptr;  ///< [HQ, query_clusters, D]
  /// -|c|²/2 of each centroid, which together with x·c ranks the clusters; -infinity: no candidate.
  float* key_half_norms = nullptr;    ///< [HK, key_clusters]
  float* query_half_norms = nullptr;  ///< [HQ, query_clusters]
  /// What stage 2 works on: entry e of a block is {cluster, first place in the block's query_order}, up to
  /// kQueryTile queries of that cluster; entries beyond the block's last tile have cluster -1. At
  /// head · plan.query_tiles + level.query_tile + block · level.query_tiles + e.
  int2* query_tiles = nullptr;
  /// Of the units of one chunk (stages 1 and 2 go chunk by chunk, so that summaries stay small):
  float* L = nullptr;            ///< [units, Cq, Ck] log-mass L_ij; -infinity for an empty key cluster
  float* bias = nullptr;         ///< [units, Cq, Ck] b_ij = L_ij - s q̄_i·k̃_ij; -infinity also where retrieved
  Element* k_tilde = nullptr;    ///< [units, Cq, Ck, D]
  Element* v_tilde = nullptr;    ///< [units, Cq, Ck, Dv]
  std::int32_t* retrieved = nullptr;  ///< [units, Cq, r] key clusters, rising; -1 beyond the non-empty ones
  /// Attention of each level's queries to their block, to be merged.
  Element* part_o = nullptr;   ///< [HQ, levels, Nq, Dv]
  float* part_lse = nullptr;   ///< [HQ, levels, Nq]
};

/// Units of one level that stages 1 and 2 work on together: [first_unit, first_unit + units), unit = head ·
/// blocks + block.
struct Chunk {
  std::int32_t level = 0;
  std::int32_t first_unit = 0;
  std::int32_t units = 0;
};

}  // namespace muse::cuda
