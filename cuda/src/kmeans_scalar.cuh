// Assignment to centroids in float32, any element type, any head dim (docs/math.md, section 2).
#pragma once

#include "attend_scalar.cuh"

namespace muse::cuda {

/// (2.1) The nearest centroid of every token of `side`: label_n = argmax_c (x_n·c'_c - c_c·c'_c / 2), ties to
/// the lowest index; c' = c, or Cov(k,k) c where queries are clustered in the key metric, for
/// |(x - c) Cov^½|² = x Cov x - 2 (x·Cov c - c·Cov c / 2).
///   k or q, centroids [heads, clusters, D] -> labels [heads, levels, N]
/// Launch: all levels together; 4 warps a tile of 16 tokens; a warp holds 4 tokens, a lane a centroid.
/// Arithmetic: 2 D operations a token and centroid, bound by shared memory.
/// For Side::queries only home clusters with members are candidates (6.2). Equal centroids have equal bits
/// and tie. Reference: assign_to_nearest (kmeans.cpp). Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(scalar::kThreads)
    assign_scalar(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                  const Workspace<Element> workspace, const Side side, const int tiles_of_head) {
  using namespace scalar;
  extern __shared__ float scalar_memory[];
  const Tiles tiles(scalar_memory, plan.D, plan.D + 1);  // v holds the plain centroids, with k's stride
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const bool keys = side == Side::keys, mapped = !keys && plan.key_metric != 0;

  // Find this thread block's tokens and their candidates.
  const int head = blockIdx.x / tiles_of_head;
  const TokenTile tile = token_tile(plan, side, kRows, blockIdx.x % tiles_of_head);
  if (tile.count == 0) return;
  const Level& level = plan.level[tile.level];
  const int C = block_clusters(plan, level, tile.t, side);
  const std::int64_t first = first_cluster(plan, level, head, tile.t, side);
  const Element* const c = (keys ? workspace.key_centroids : workspace.query_centroids) + first * plan.D;
  const Element* const residuals = keys ? workspace.key_residuals : workspace.query_residuals;
  const float* const c_mapped = workspace.metric_centroids + (mapped ? first * plan.D : 0);
  const std::int32_t* const members =
      side == Side::queries ? workspace.home_offsets + first_offset(plan, level, head, tile.t, Side::home)
                            : nullptr;
  const Element* const x = keys ? head_rows(tensors.k, plan.k, plan.heads_kv, head)
                                : head_rows(tensors.q, plan.q, plan.heads_q, head);
  const std::int64_t stride = keys ? plan.k.token : plan.q.token;

  load_rows(tiles.q, plan.D, plan.D, kRows, tile.count, 1,
            [&](int row) { return x + (tile.first + row) * stride; });
  float best[kRowsOfWarp];
  int best_c[kRowsOfWarp];
#pragma unroll
  for (int row = 0; row < kRowsOfWarp; ++row) {
    best[row] = kMinusInfinity;
    best_c[row] = C;
  }
  for (int c0 = 0; c0 < C; c0 += kKeys) {
    const int count = min(kKeys, C - c0);
    __syncthreads();
    if (mapped) {
      load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
                [&](int n) { return c_mapped + (c0 + n) * plan.D; });
      load_rows(tiles.v, tiles.k_stride(), plan.D, kKeys, count, 1,
                [&](int n) { return c + (c0 + n) * plan.D; });
    } else {
      load_rows(tiles.k, tiles.k_stride(), plan.D, kKeys, count, 1,
                [&](int n) { return c + (c0 + n) * plan.D; });
      if (residuals != nullptr)
        for (int n = warp; n < count; n += kWarps)  // as load_rows shares them out
          for (int d = lane; d < plan.D; d += kWarp)
            tiles.k[n * tiles.k_stride() + d] += to_float(residuals[(first + c0 + n) * plan.D + d]);
    }
    __syncthreads();
    // -c·c'/2 of this lane's centroid
    const float* const k = tiles.k + lane * tiles.k_stride();
    const float* const v = (mapped ? tiles.v : tiles.k) + lane * tiles.k_stride();
    float bias = 0;
    for (int d = 0; d < plan.D; ++d) bias = fmaf(-0.5f * v[d], k[d], bias);
    const bool usable = lane < count && (members == nullptr || members[c0 + lane] < members[c0 + lane + 1]);
    float dots[kRowsOfWarp];
    dot_rows(tiles, dots);
#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) {
      const float score = dots[row] + bias;
      if (usable && (score > best[row] || best_c[row] == C)) {
        best[row] = score;
        best_c[row] = c0 + lane;
      }
    }
  }
#pragma unroll
  for (int row = 0; row < kRowsOfWarp; ++row) {
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(kAllLanes, best[row], step);
      const int other_c = __shfl_xor_sync(kAllLanes, best_c[row], step);
      if (other_c < C &&
          (best_c[row] == C || other > best[row] || (other == best[row] && other_c < best_c[row]))) {
        best[row] = other;
        best_c[row] = other_c;
      }
    }
    const int n = warp * kRowsOfWarp + row;
    if (lane == 0 && n < tile.count)
      (keys ? workspace.labels_k : workspace.labels_q)[(std::int64_t{head} * plan.levels + tile.level) *
                                                           (keys ? plan.Nk : plan.Nq) +
                                                       tile.first + n] = best_c[row] == C ? 0 : best_c[row];
  }
}

template <class Element>
Status launch_assign_scalar(const Plan& plan, const Tensors<Element>& tensors,
                            const Workspace<Element>& workspace, Side side, cudaStream_t stream) {
  const std::int64_t tiles = tiles_of_head(plan, side, scalar::kRows);
  const std::int64_t grid = tiles * (side == Side::keys ? plan.HK() : plan.HQ());
  const std::size_t bytes = scalar::Tiles::bytes(plan.D, plan.D + 1);
  if (const Status status = allow_shared_memory(assign_scalar<Element>, bytes); status != cudaSuccess)
    return status;
  assign_scalar<Element><<<static_cast<unsigned>(grid), scalar::kThreads, bytes, stream>>>(
      plan, tensors, workspace, side, static_cast<int>(tiles));
  return cudaGetLastError();
}

}  // namespace muse::cuda
