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

/// (2.4) The tables that clustering fills, of the keys or the queries; H is HK or HQ, shapes are those of the
/// plan.
template <class Element>
struct ClusterTables {
  std::int32_t* labels = nullptr;   ///< [H, levels, N]
  std::int32_t* order = nullptr;    ///< [H, levels, N]
  std::int32_t* offsets = nullptr;  ///< [H, clusters + blocks]
  std::int32_t* counts = nullptr;   ///< [H, run_rows]
  float* sums = nullptr;            ///< [H, run_rows, D + 8] of the passes; null for float32
  Element* centroids = nullptr;     ///< [H, clusters, D] of the passes
  Element* residuals = nullptr;     ///< [H, clusters, D] of the centroids, or null
  float* half_norms = nullptr;      ///< [H, clusters]
};

/// (2.4) Clusters of windows and their merging, first of the keys, then of the queries.
template <class Element>
struct WindowTables {
  ClusterTables<Element> of_windows;  ///< of window_plan
  float* means = nullptr;             ///< [H, windows · clusters, D] in the end: the tokens of the merging
  ClusterTables<float> of_merging;    ///< of merge_plan
};

/// Everything between the stages. HQ = batch · heads_q, HK = batch · heads_kv. A unit is one far block of one
/// head. Tokens are numbered in their head, from 0.
///
/// Tables by cluster: head h, level m, block t, cluster c lies at
///     h · clusters + level.key_cluster + t · Ck + c           (clusters = plan.key_clusters; queries
///     likewise)
/// and the offsets of a block, which has one more entry than clusters, at
///     h · (clusters + blocks) + level.key_cluster + level.block + t · (Ck + 1) + c.
template <class Element>
struct Workspace {
  std::int32_t* labels_k = nullptr;  ///< [HK, levels, Nk] cluster of each key of a block; -1: not a key there
  std::int32_t* labels_q = nullptr;  ///< [HQ, levels, Nq] of home queries and of the block's queries
  /// Labels of the sample's tokens, while k-means passes look at them (sample_plan).
  std::int32_t* sample_labels_k = nullptr;  ///< [HK, levels, Nk / sample]
  std::int32_t* sample_labels_q = nullptr;  ///< [HQ, levels, Nq / sample]
  /// Tokens of each block by rising cluster, within a cluster by rising position: the range [begin, end) of
  /// level m holds the tokens of that range.
  std::int32_t* key_order = nullptr;  ///< [HK, levels, Nk]
  std::int32_t* query_order =
      nullptr;  ///< [HQ, levels, Nq] of home queries (past) and of the block's queries
  std::int32_t* key_offsets =
      nullptr;  ///< [HK, key_clusters + blocks] places in key_order, from the block's first
  std::int32_t* home_offsets = nullptr;   ///< [HQ, query_clusters + blocks] likewise of the home
  std::int32_t* query_offsets = nullptr;  ///< [HQ, query_clusters + blocks] likewise of the block's queries
  /// While tokens are sorted: how many of each run have each label, then where the run's first such token
  /// goes.
  std::int32_t* key_counts = nullptr;    ///< [HK, run_rows]
  std::int32_t* query_counts = nullptr;  ///< [HQ, run_rows] of homes or of the blocks' queries
  /// While means are taken: each run's sum of the tokens of each label; in the last 8 columns, how many there
  /// are.
  float* key_sums = nullptr;         ///< [HK, run_rows, D + 8]
  float* query_sums = nullptr;       ///< [HQ, run_rows, D + 8]
  Element* key_centroids = nullptr;  ///< [HK, key_clusters, D] during k-means; then k̄ of the `centroid` order
  /// What rounding took from key_centroids, or null: c = key_centroids + key_residuals. Passes of windows
  /// have them (2.4): a token that changes its cluster there can change the clusters of all levels above.
  Element* key_residuals = nullptr;  ///< [HK, key_clusters, D]
  Element* value_means = nullptr;    ///< [HK, key_clusters, Dv] v̄ of the `centroid` order
  float* key_norms = nullptr;        ///< [HK, Nk] |k_n|² of the order `dipole_spread`
  /// q̄ in the type of q: the expansion point may be any, as long as both stages mean the same one.
  Element* query_centroids = nullptr;  ///< [HQ, query_clusters, D]
  Element* query_residuals = nullptr;  ///< [HQ, query_clusters, D] as key_residuals
  /// -|c|²/2 of each centroid, which together with x·c ranks the clusters; -infinity: no candidate.
  float* key_half_norms = nullptr;    ///< [HK, key_clusters]
  float* query_half_norms = nullptr;  ///< [HQ, query_clusters]
  /// What stage 2 works on, entry e of a block at head · plan.query_tiles + level.query_tile + block ·
  /// level.query_tiles + e; entries beyond the block's last tile have cluster -1.
  QueryTile* query_tiles = nullptr;
  /// Of the units of one chunk (stages 1 and 2 go chunk by chunk, so that summaries stay small):
  float* L = nullptr;  ///< [units, Cq, Ck] log-mass L_ij; -infinity for an empty key cluster
  /// [units, Cq, Ck] what a query adds to s q·k̃_ij to get ℓ_j: b_ij = L_ij - s q̄_i·k̃_ij with k̃ as it is
  /// stored; `centroid`: log n_j; `monopole`, which has no product: L_ij. -infinity for an empty cluster and
  /// a retrieved one.
  float* bias = nullptr;
  float* spread = nullptr;  ///< [units, Cq, Ck] σ̃²_ij of the order `dipole_spread`
  Element* k_tilde =
      nullptr;  ///< [units, Cq, Ck, D], zero for an empty key cluster; not of `centroid`, `monopole`
  Element* v_tilde = nullptr;  ///< [units, Cq, Ck, Dv], likewise; not of `centroid`
  /// [heads_q] at most so many of a level's r clusters are retrieved, or null; the caller's.
  const std::int32_t* retrieve_heads = nullptr;
  std::int32_t* retrieved = nullptr;  ///< [units, Cq, r] key clusters, rising; -1 beyond the last one
  /// [units, Cq, r] of each of them {first place in the block's key_order, retrieved tokens up to and
  /// including it}; {0, all tokens} beyond the last one.
  int2* retrieved_places = nullptr;
  /// Tiles of queries that have been begun: [HQ, blocks] of each chunk of stage 2, in the place of its first
  /// unit; [1] of exact attention.
  std::int32_t *far_tiles = nullptr, *exact_tiles = nullptr;
  std::uint64_t* draws = nullptr;   ///< [most clusters of a block] random numbers of a seed other than 0
  WindowTables<Element> windows;    ///< of plans with windows
  float* key_covariance = nullptr;  ///< [HK, blocks, D, D] of the key metric
  /// [HQ, query_clusters, D] centroids times the key covariance: x·(Cov c) is all that the metric asks for.
  float* metric_centroids = nullptr;
};

/// Units of one level that stages 1 and 2 work on together: [first_unit, first_unit + units), unit = head ·
/// blocks + block.
struct Chunk {
  std::int32_t level = 0;
  std::int32_t first_unit = 0;
  std::int32_t units = 0;
};

/// What the launches below return: cudaSuccess, or why a kernel could not be started.
using Status = cudaError_t;

/// clusters.cu: (2.1) sorts the tokens of every block by their labels; fills key_order and key_offsets, or
/// query_order and home_offsets or query_offsets. A token whose label is out of range is left out. Of the
/// first `levels` levels.
template <class Element>
Status launch_sort(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                   Side side, std::int32_t levels, cudaStream_t stream);

/// clusters.cu: spatial labels, label = floor(n C / N) in each block.
template <class Element>
Status launch_spatial_labels(const Plan& plan, const Workspace<Element>& workspace, Side side,
                             cudaStream_t stream);

/// kmeans.cu: means of the members of every cluster of the first `levels` levels, of k or q into
/// key_centroids or query_centroids; from labels, order and offsets. An empty cluster keeps what is there, or
/// is set to zero.
enum class EmptyCluster { keep, zero };
template <class Element>
Status launch_means(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, EmptyCluster empty, std::int32_t levels, cudaStream_t stream);
/// The same of v, into value_means.
template <class Element>
Status launch_value_means(const Plan& plan, const Tensors<Element>& tensors,
                          const Workspace<Element>& workspace, cudaStream_t stream);

/// kmeans.cu: first centroids, of the levels that cluster afresh: tokens at even distances.
template <class Element>
Status launch_seeds(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, cudaStream_t stream);

/// kmeans.cu: (2.1) the nearest centroid of every token of `side`, of the levels that cluster afresh; for
/// Side::queries of all levels, and only home clusters with members are candidates.
template <class Element>
Status launch_assign(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                     Side side, cudaStream_t stream);

/// kmeans.cu: (2.2) a Lloyd pass of the levels that cluster afresh: each token's nearest centroid, then the
/// means of what belongs to each; an empty cluster keeps its centroid.
template <class Element>
Status launch_pass(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                   Side side, cudaStream_t stream);

/// kmeans.cu: (2.2) labels, order, offsets and centroids of the keys, or of the queries of homes and blocks.
/// `labels_given`: the labels are there already. Of keys also the norms, for the order `dipole_spread`.
template <class Element>
Status cluster_keys(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    bool labels_given, cudaStream_t stream);
template <class Element>
Status cluster_queries(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                       bool labels_given, cudaStream_t stream);

/// exact_attention.cu: (1.1) the diagonal blocks, into o and lse of the call.
template <class Element>
Status launch_exact_attention(const Plan& plan, const Tensors<Element>& tensors,
                              const Workspace<Element>& workspace, cudaStream_t stream);

/// tilted_summaries.cu: |k_n|² into key_norms, for (3.8); of the order `dipole_spread`, nothing otherwise.
template <class Element>
Status launch_key_norms(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, cudaStream_t stream);

/// tilted_summaries.cu: (3.1)-(3.6), (3.8) stage 1 of a chunk: L, bias, k_tilde, v_tilde, spread.
template <class Element>
Status launch_summaries(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream);

/// retrieval.cu: (5.1) the r clusters of largest L_ij of each query cluster of a chunk; marks them in `bias`.
template <class Element>
Status launch_retrieval(const Plan& plan, const Workspace<Element>& workspace, const Chunk& chunk,
                        cudaStream_t stream);

/// far_field.cu: what stage 2 works on, tile by tile of queries; once the queries are sorted.
template <class Element>
Status launch_query_tiles(const Plan& plan, const Workspace<Element>& workspace, cudaStream_t stream);

/// far_field.cu: (4.1)-(4.5) and (5.2) stage 2 of a chunk: its queries against summaries and retrieved
/// tokens, merged (1.3) into what o and lse hold; acausal attention is the first to write there.
template <class Element>
Status launch_far_field(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream);

}  // namespace muse::cuda
