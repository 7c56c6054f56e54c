// Stage 1 in float32, any element type, any head dim (docs/math.md, section 3).
#pragma once

#include "attend_scalar.cuh"

namespace muse::cuda {

/// (3.1)-(3.5) What 16 query centroids of a unit see of one key cluster:
///     a_ijn = s q̄_i·k_n,  L_ij = logsumexp_n a_ijn,  p_ijn = e^{a_ijn - L_ij},  k̃_ij = sum_n p_ijn k_n,
///     ṽ_ij = sum_n p_ijn v_n,  b_ij = L_ij - s q̄_i·k̃_ij with k̃ as it is stored
/// and for the order `dipole_spread` (3.8) σ̃²_ij = sum_n p_ijn |k_n|² - |k̃_ij|².
///   q̄ [HQ, query_clusters, D], k, v by key_order, key_norms -> L, bias, spread [units, Cq, Ck], k_tilde,
///   v_tilde [units, Cq, Ck, …]
/// Launch: 4 warps a (unit, key cluster, 16 query clusters); a warp holds 4 centroids, a lane a key or a
/// feature. Arithmetic: 2 (2 D + Dv) operations a pair of centroid and key, bound by shared memory as exact
/// attention is. Reference: tilted_summaries.cpp. Test: test_cuda_tilted_summaries.cpp.
template <int kFeatures, class Element>
__global__ void __launch_bounds__(scalar::kThreads)
    tilted_summaries_scalar(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                            const Workspace<Element> workspace, const Chunk chunk) {
  using namespace scalar;
  extern __shared__ float scalar_memory[];
  const Tiles tiles(scalar_memory, plan.D, plan.Dv);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  // Find this thread block's unit, key cluster j and query clusters i0, i0 + 1, ….
  const Level& level = plan.level[chunk.level];
  const int tiles_of_clusters = ceil_div(level.Cq, kRows);
  const int i0 = blockIdx.x % tiles_of_clusters * kRows;
  const int j = blockIdx.x / tiles_of_clusters % level.Ck;
  const int unit = blockIdx.x / tiles_of_clusters / level.Ck;
  const int head = (chunk.first_unit + unit) / level.blocks, t = (chunk.first_unit + unit) % level.blocks;
  const int key_head = plan.key_head(head);
  const int rows = min(kRows, level.Cq - i0);

  // Its keys.
  const std::int32_t* const offsets =
      workspace.key_offsets + first_offset(plan, level, key_head, t, Side::keys);
  const std::int32_t* const members = workspace.key_order +
                                      (std::int64_t{key_head} * plan.levels + chunk.level) * plan.Nk +
                                      block_tokens(plan, level, t, Side::keys).begin + offsets[j];
  const int keys = offsets[j + 1] - offsets[j];
  const Element* const k = head_rows(tensors.k, plan.k, plan.heads_kv, key_head);
  const Element* const v = head_rows(tensors.v, plan.v, plan.heads_kv, key_head);
  const Element* const q_bar =
      workspace.query_centroids + (first_cluster(plan, level, head, t, Side::home) + i0) * plan.D;

  // Scale the centroids once: s q̄.
  load_rows(tiles.q, plan.D, plan.D, kRows, rows, plan.scale, [&](int row) { return q_bar + row * plan.D; });
  RunningSoftmax softmax[kRowsOfWarp];
  RowSum<kFeatures> k_tilde[kRowsOfWarp], v_tilde[kRowsOfWarp];
  const bool spread = plan.spread_factor > 0;
  float square[kRowsOfWarp] = {};  // sum of weights times |k_n|², this lane's keys only
  for (int n0 = 0; n0 < keys; n0 += kKeys) {
    const int count = min(kKeys, keys - n0);
    __syncthreads();
    load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
              [&](int n) { return k + members[n0 + n] * plan.k.token; });
    load_rows(tiles.v, plan.Dv, plan.Dv, kKeys, count, 1,
              [&](int n) { return v + members[n0 + n] * plan.v.token; });
    __syncthreads();
    float a[kRowsOfWarp];  // (3.1)
    dot_rows(tiles, a);
    const float norm = spread && lane < count
                           ? workspace.key_norms[std::int64_t{key_head} * plan.Nk + members[n0 + lane]]
                           : 0;
#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) {
      float p = lane < count ? a[row] : kMinusInfinity;
      const float rescale = softmax[row].weigh(p);
      k_tilde[row].scale(rescale);
      v_tilde[row].scale(rescale);
      square[row] = fmaf(square[row], rescale, p * norm);
      k_tilde[row].add(p, tiles.k, tiles.k_stride(), plan.D, count);
      v_tilde[row].add(p, tiles.v, plan.Dv, plan.Dv, count);
    }
  }
  __syncthreads();  // also if there was no key: the centroids are read below

#pragma unroll
  for (int row = 0; row < kRowsOfWarp; ++row) {
    const int i = i0 + warp * kRowsOfWarp + row;
    if (i >= level.Cq) continue;
    // (3.2), (3.4), (3.5); zeros and -infinity for an empty cluster
    const std::int64_t at = (std::int64_t{unit} * level.Cq + i) * level.Ck + j;
    const float L = softmax[row].lse(), one_over_sum = softmax[row].one_over_sum();
    store_row(k_tilde[row], one_over_sum, workspace.k_tilde + at * plan.D, plan.D);
    store_row(v_tilde[row], one_over_sum, workspace.v_tilde + at * plan.Dv, plan.Dv);
    // b_ij = L_ij - s q̄_i·k̃_ij
    float dot = 0, square_of_mean = 0;
#pragma unroll
    for (int x = 0; x < kFeatures; ++x) {
      const int d = lane + kWarp * x;
      const float mean = one_over_sum * k_tilde[row].sum[x];
      square_of_mean = fmaf(mean, mean, square_of_mean);
      if (d < plan.D)
        dot =
            fmaf(tiles.q[(warp * kRowsOfWarp + row) * plan.D + d], to_float(from_float<Element>(mean)), dot);
    }
    dot = warp_sum(dot);
    if (spread) {
      // (3.8)
      const float sigma_sq = warp_sum(one_over_sum * square[row] - square_of_mean);
      if (lane == 0) workspace.spread[at] = fmaxf(sigma_sq, 0);
    }
    if (lane == 0) {
      workspace.L[at] = L;
      workspace.bias[at] = plan.order == ExpansionOrder::monopole ? L : L - dot;
    }
  }
}

template <class Element>
Status launch_tilted_summaries_scalar(const Plan& plan, const Tensors<Element>& tensors,
                                      const Workspace<Element>& workspace, const Chunk& chunk,
                                      cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  const std::int64_t grid = std::int64_t{chunk.units} * level.Ck * ceil_div(level.Cq, scalar::kRows);
  const std::size_t bytes = scalar::Tiles::bytes(plan.D, plan.Dv);
  return scalar::with_features(std::max(plan.D, plan.Dv), [&](auto features) {
    auto* const kernel = tilted_summaries_scalar<features(), Element>;
    if (const Status status = allow_shared_memory(kernel, bytes); status != cudaSuccess) return status;
    kernel<<<static_cast<unsigned>(grid), scalar::kThreads, bytes, stream>>>(plan, tensors, workspace, chunk);
    return cudaGetLastError();
  });
}

}  // namespace muse::cuda
