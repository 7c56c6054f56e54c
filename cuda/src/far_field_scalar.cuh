// Stage 2 in float32, any element type, any head dim (docs/math.md, sections 4 and 5).
#pragma once

#include "attend_scalar.cuh"
#include "softmax_merge.cuh"

namespace muse::cuda {

inline constexpr int kFarSplits = 8;  ///< thread blocks that share the queries of one query cluster

/// (4.1)-(4.5), (5.2) The queries of one query cluster i against the summaries that q̄_i sees, and the tokens
/// of the key clusters that it retrieves, in one softmax:
///     ℓ_j = s q·k̃_ij + b_ij (+ κ/2 s² |δ|² σ̃²_ij / D),   o = (sum_j e^{ℓ_j} ṽ_ij + sum_n e^{s q·k_n} v_n) /
///     (the same with v = 1)
///   q by query_order; k_tilde, v_tilde, bias of the chunk; retrieved; k, v by key_order -> o and lse of the
///   queries
/// Launch: 4 warps a tile of 16 queries; 8 thread blocks share a query cluster. A warp holds 4 queries, a
/// lane a summary, a key or a feature. Arithmetic: 2 (D + Dv) operations a query and term, bound by shared
/// memory as exact attention is; dipole_value goes over all tokens of the far clusters once more, 2 (2 D +
/// Dv) operations a query and token: it costs more than exact attention, and is there to be compared with. A
/// query's bits do not depend on the other queries of its tile. Reference: far_field.cpp, retrieval.cpp.
/// Tests: test_cuda_far_field.cpp, test_cuda_retrieval.cpp.
template <int kFeatures, class Element>
__global__ void __launch_bounds__(scalar::kThreads)
    far_field_scalar(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                     const Workspace<Element> workspace, const Chunk chunk) {
  using namespace scalar;
  extern __shared__ float scalar_memory[];
  const Tiles tiles(scalar_memory, plan.D, plan.Dv);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  // Find this thread block's query cluster.
  const Level& level = plan.level[chunk.level];
  const int split = blockIdx.x % kFarSplits;
  const int i = blockIdx.x / kFarSplits % level.Cq;
  const int unit = blockIdx.x / kFarSplits / level.Cq;
  const int head = (chunk.first_unit + unit) / level.blocks, t = (chunk.first_unit + unit) % level.blocks;
  const int key_head = plan.key_head(head);
  const std::int32_t* const query_offsets =
      workspace.query_offsets + first_offset(plan, level, head, t, Side::queries);
  const std::int32_t* const queries = workspace.query_order +
                                      (std::int64_t{head} * plan.levels + chunk.level) * plan.Nq +
                                      block_tokens(plan, level, t, Side::queries).begin + query_offsets[i];
  const int query_count = query_offsets[i + 1] - query_offsets[i];

  // Its summaries, and the keys by cluster.
  const std::int64_t seen = std::int64_t{unit} * level.Cq + i;
  const float* const bias = workspace.bias + seen * level.Ck;
  const bool plain = plan.order == ExpansionOrder::centroid;
  const std::int64_t first_key_cluster = first_cluster(plan, level, key_head, t, Side::keys);
  const Element* const k_tilde = plain ? workspace.key_centroids + first_key_cluster * plan.D
                                       : workspace.k_tilde + seen * level.Ck * plan.D;
  const Element* const v_tilde = plain ? workspace.value_means + first_key_cluster * plan.Dv
                                       : workspace.v_tilde + seen * level.Ck * plan.Dv;
  const std::int32_t* const key_offsets =
      workspace.key_offsets + first_offset(plan, level, key_head, t, Side::keys);
  const std::int32_t* const keys = workspace.key_order +
                                   (std::int64_t{key_head} * plan.levels + chunk.level) * plan.Nk +
                                   block_tokens(plan, level, t, Side::keys).begin;
  const Element* const q_bar =
      workspace.query_centroids + (first_cluster(plan, level, head, t, Side::home) + i) * plan.D;
  const bool spread = plan.spread_factor > 0;
  const Element* const q = head_rows(tensors.q, plan.q, plan.heads_q, head);
  const Element* const k = head_rows(tensors.k, plan.k, plan.heads_kv, key_head);
  const Element* const v = head_rows(tensors.v, plan.v, plan.heads_kv, key_head);
  const auto load_keys = [&](int begin, int count) {
    __syncthreads();
    load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
              [&](int n) { return k + keys[begin + n] * plan.k.token; });
    load_rows(tiles.v, plan.Dv, plan.Dv, kKeys, count, 1,
              [&](int n) { return v + keys[begin + n] * plan.v.token; });
    __syncthreads();
  };
  const auto load_summaries = [&](int j0, int count) {
    __syncthreads();
    load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
              [&](int j) { return k_tilde + (j0 + j) * plan.D; });
    load_rows(tiles.v, plan.Dv, plan.Dv, kKeys, count, 1,
              [&](int j) { return v_tilde + (j0 + j) * plan.Dv; });
    __syncthreads();
  };

  for (int first = split * kRows; first < query_count; first += kFarSplits * kRows) {
    const int rows = min(kRows, query_count - first);
    __syncthreads();
    load_rows(tiles.q, plan.D, plan.D, kRows, rows, plan.scale,
              [&](int row) { return q + queries[first + row] * plan.q.token; });
    RunningSoftmax softmax[kRowsOfWarp];
    RowSum<kFeatures> o[kRowsOfWarp];
    float dots[kRowsOfWarp];
    float half_sq[kRowsOfWarp] = {};  // κ/2 |s δ|² / D
    if (spread) {
      __syncthreads();
#pragma unroll
      for (int row = 0; row < kRowsOfWarp; ++row) {
        for (int d = lane; d < plan.D; d += kWarp) {
          const float s_delta =
              tiles.q[(warp * kRowsOfWarp + row) * plan.D + d] - plan.scale * to_float(q_bar[d]);
          half_sq[row] = fmaf(s_delta, s_delta, half_sq[row]);
        }
        half_sq[row] = warp_sum(half_sq[row]) * plan.spread_factor;
      }
    }

    // Stage 2 on the far clusters: (4.2) ℓ_j = s q·k̃_ij + b_ij, (4.6) … + κ/2 s² |δ|² σ̃²_ij / D.
    for (int j0 = 0; j0 < level.Ck; j0 += kKeys) {
      const int count = min(kKeys, level.Ck - j0);
      const float b = lane < count ? bias[j0 + lane] : kMinusInfinity;
      const float sigma_sq = spread && lane < count ? workspace.spread[seen * level.Ck + j0 + lane] : 0;
      if (__all_sync(kAllLanes, b == kMinusInfinity)) continue;  // alike in all warps
      load_summaries(j0, count);
      if (plan.order != ExpansionOrder::monopole) dot_rows(tiles, dots);
#pragma unroll
      for (int row = 0; row < kRowsOfWarp; ++row) {
        const float dot = plan.order == ExpansionOrder::monopole ? 0 : dots[row];
        float weight = b == kMinusInfinity ? kMinusInfinity : fmaf(half_sq[row], sigma_sq, b + dot);
        o[row].scale(softmax[row].weigh(weight));
        o[row].add(weight, tiles.v, plan.Dv, plan.Dv, count);
      }
    }
    // Exact attention on the tokens of the retrieved clusters.
    for (int x = 0; x < level.r; ++x) {
      const int j = workspace.retrieved[seen * level.r + x];
      if (j < 0) break;
      for (int n0 = key_offsets[j]; n0 < key_offsets[j + 1]; n0 += kKeys) {
        const int count = min(kKeys, key_offsets[j + 1] - n0);
        load_keys(n0, count);
        dot_rows(tiles, dots);
#pragma unroll
        for (int row = 0; row < kRowsOfWarp; ++row) {
          float weight = lane < count ? dots[row] : kMinusInfinity;
          o[row].scale(softmax[row].weigh(weight));
          o[row].add(weight, tiles.v, plan.Dv, plan.Dv, count);
        }
      }
    }
#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) o[row].scale(softmax[row].one_over_sum());

    // (4.5) … + sum_j w_j Σ̃_ij s δ, with Σ̃_ij s δ = sum_n p_ijn (v_n - ṽ_ij) (s q - s q̄_i)·(k_n - k̃_ij)
    if (plan.order == ExpansionOrder::dipole_value) {
      const float* const L = workspace.L + seen * level.Ck;
      for (int j = 0; j < level.Ck; ++j) {
        if (bias[j] == kMinusInfinity) continue;
        // s q̄·k̃ = L - b; s q·k̃ by a product, spread over the lanes
        const float q_bar_dot_k_tilde = L[j] - bias[j];
        float q_dot_k_tilde[kRowsOfWarp] = {};
        for (int d = lane; d < plan.D; d += kWarp)
#pragma unroll
          for (int row = 0; row < kRowsOfWarp; ++row)
            q_dot_k_tilde[row] = fmaf(tiles.q[(warp * kRowsOfWarp + row) * plan.D + d],
                                      to_float(k_tilde[j * plan.D + d]), q_dot_k_tilde[row]);
        RowSum<kFeatures> moved[kRowsOfWarp];
        float shares[kRowsOfWarp] = {};  // sum of the factors of v_n
#pragma unroll
        for (int row = 0; row < kRowsOfWarp; ++row) q_dot_k_tilde[row] = warp_sum(q_dot_k_tilde[row]);
        for (int n0 = key_offsets[j]; n0 < key_offsets[j + 1]; n0 += kKeys) {
          const int count = min(kKeys, key_offsets[j + 1] - n0);
          load_keys(n0, count);
          dot_rows(tiles, dots);
          float a = 0;  // s q̄·k_n of this lane's key
          for (int d = 0; d < plan.D; ++d)
            a = fmaf(plan.scale * to_float(q_bar[d]), tiles.k[lane * tiles.k_stride() + d], a);
          const float p = lane < count ? expf(a - L[j]) : 0;
#pragma unroll
          for (int row = 0; row < kRowsOfWarp; ++row) {
            const float s_delta_dot_k = (dots[row] - a) - (q_dot_k_tilde[row] - q_bar_dot_k_tilde);
            const float factor = p * s_delta_dot_k;
            shares[row] += warp_sum(factor);
            moved[row].add(factor, tiles.v, plan.Dv, plan.Dv, count);
          }
        }
#pragma unroll
        for (int row = 0; row < kRowsOfWarp; ++row) {
          const float lse = softmax[row].lse();
          const float w_j = lse == kMinusInfinity ? 0 : expf(bias[j] + q_dot_k_tilde[row] - lse);
#pragma unroll
          for (int x = 0; x < kFeatures; ++x) {
            const int d = lane + kWarp * x;
            if (d < plan.Dv)
              o[row].sum[x] += w_j * (moved[row].sum[x] - shares[row] * to_float(v_tilde[j * plan.Dv + d]));
          }
        }
      }
    }

#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) {
      if (warp * kRowsOfWarp + row >= rows) continue;
      const int n = queries[first + warp * kRowsOfWarp + row];
      const FarOutput<Element> out = far_output(plan, tensors, head, n);
      float lse = softmax[row].lse();
      if (out.merges) {
        const MergeWeights weights = merge_weights(*out.lse, lse);
        lse = weights.lse;
#pragma unroll
        for (int x = 0; x < kFeatures; ++x)
          if (lane + kWarp * x < plan.Dv)
            o[row].sum[x] =
                fmaf(weights.part, o[row].sum[x], weights.before * to_float(out.o[lane + kWarp * x]));
      }
      store_row(o[row], 1, out.o, plan.Dv);
      __syncwarp();  // all lanes have read the log-sum-exp
      if (lane == 0) *out.lse = lse;
    }
  }
}

template <class Element>
Status launch_far_field_scalar(const Plan& plan, const Tensors<Element>& tensors,
                               const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  const std::int64_t grid = std::int64_t{chunk.units} * level.Cq * kFarSplits;
  const std::size_t bytes = scalar::Tiles::bytes(plan.D, plan.Dv);
  return scalar::with_features(plan.Dv, [&](auto features) {
    auto* const kernel = far_field_scalar<features(), Element>;
    if (const Status status = allow_shared_memory(kernel, bytes); status != cudaSuccess) return status;
    kernel<<<static_cast<unsigned>(grid), scalar::kThreads, bytes, stream>>>(plan, tensors, workspace, chunk);
    return cudaGetLastError();
  });
}

}  // namespace muse::cuda
