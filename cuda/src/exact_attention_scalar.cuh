// Exact attention in float32, any element type, any head dim (docs/math.md, section 1).
#pragma once

#include "attend_scalar.cuh"

namespace muse::cuda {

/// (1.1) Exact causal attention in the diagonal blocks: o_t = sum_n e^{s q_t·k_n - L_t} v_n, n <= t in t's
/// block.
///   q [batch, heads_q, N, D], k, v [batch, heads_kv, N, D or Dv] -> o like q with Dv, lse [HQ, N]
/// Launch: 4 warps a tile of 16 queries of one diagonal block; a warp holds 4 queries, a lane a key or a
/// feature. Arithmetic: 2 (D + Dv) operations a pair, on the float32 units; each operand comes from shared
/// memory, which bounds it to some tenth of their peak. A query sees its keys in tiles counted from its
/// block's start, and stops at itself: its bits depend on nothing later. Limits: D, Dv <= 256. Reference:
/// exact_attention.cpp. Test: test_cuda_exact_attention.cpp.
template <int kFeatures, class Element>
__global__ void __launch_bounds__(scalar::kThreads)
    exact_attention_scalar(const __grid_constant__ Plan plan, const Tensors<Element> tensors) {
  using namespace scalar;
  extern __shared__ float scalar_memory[];
  const Tiles tiles(scalar_memory, plan.D, plan.Dv);
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  // Find this thread block's queries.
  const int tiles_of_block = ceil_div(plan.block, kRows);
  const int tiles_of_row = ceil_div(plan.Nq, plan.block) * tiles_of_block;
  const int head = blockIdx.x / tiles_of_row, tile = blockIdx.x % tiles_of_row;
  const int block_begin = tile / tiles_of_block * plan.block;
  const int block_end = min(block_begin + plan.block, plan.Nq);
  const int t0 = block_begin + tile % tiles_of_block * kRows;
  const int rows = min(kRows, block_end - t0);
  if (rows <= 0) return;
  const Element* const q = head_rows(tensors.q, plan.q, plan.heads_q, head);
  const Element* const k = head_rows(tensors.k, plan.k, plan.heads_kv, plan.key_head(head));
  const Element* const v = head_rows(tensors.v, plan.v, plan.heads_kv, plan.key_head(head));

  // Scale the queries once: s q.
  load_rows(tiles.q, plan.D, plan.D, kRows, rows, plan.scale,
            [&](int row) { return q + (t0 + row) * plan.q.token; });
  RunningSoftmax softmax[kRowsOfWarp];
  RowSum<kFeatures> o[kRowsOfWarp];

  for (int n0 = block_begin; n0 < t0 + rows; n0 += kKeys) {
    const int count = min(kKeys, t0 + rows - n0);
    __syncthreads();
    load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
              [&](int n) { return k + (n0 + n) * plan.k.token; });
    load_rows(tiles.v, plan.Dv, plan.Dv, kKeys, count, 1, [&](int n) { return v + (n0 + n) * plan.v.token; });
    __syncthreads();
    float dots[kRowsOfWarp];
    dot_rows(tiles, dots);
#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) {
      // Keep the keys that this query sees.
      const int t = t0 + warp * kRowsOfWarp + row;
      const int seen = min(t + 1 - n0, count);
      if (t >= t0 + rows || seen <= 0) continue;
      float weight = lane < seen ? dots[row] : kMinusInfinity;
      o[row].scale(softmax[row].weigh(weight));
      o[row].add(weight, tiles.v, plan.Dv, plan.Dv, seen);
    }
  }

  // Divide by the sum of weights; L = m + log l.
#pragma unroll
  for (int row = 0; row < kRowsOfWarp; ++row) {
    const int t = t0 + warp * kRowsOfWarp + row;
    if (t >= t0 + rows) continue;
    Element* const o_t = head_rows(tensors.o, plan.o, plan.heads_q, head) + t * plan.o.token;
    store_row(o[row], softmax[row].one_over_sum(), o_t, plan.Dv);
    if (lane == 0) tensors.lse[std::int64_t{head} * plan.Nq + t] = softmax[row].lse();
  }
}

template <class Element>
Status launch_exact_attention_scalar(const Plan& plan, const Tensors<Element>& tensors, cudaStream_t stream) {
  const std::int64_t grid =
      std::int64_t{plan.HQ()} * ceil_div(plan.Nq, plan.block) * ceil_div(plan.block, scalar::kRows);
  const std::size_t bytes = scalar::Tiles::bytes(plan.D, plan.Dv);
  return scalar::with_features(plan.Dv, [&](auto features) {
    auto* const kernel = exact_attention_scalar<features(), Element>;
    if (const Status status = allow_shared_memory(kernel, bytes); status != cudaSuccess) return status;
    kernel<<<static_cast<unsigned>(grid), scalar::kThreads, bytes, stream>>>(plan, tensors);
    return cudaGetLastError();
  });
}

}  // namespace muse::cuda
