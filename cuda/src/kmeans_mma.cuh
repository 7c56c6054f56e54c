// The assignment pass of k-means on the tensor cores: the nearest centroid of each token (docs/math.md, 2.2).
//
// Shapes:    k or q; centroids [heads, clusters, D]; half_norms [heads, clusters]; labels [heads, levels, N]; D 32, 64, 96, 128
// Launch:    all levels together; one thread block a tile of 16 M Warps tokens of a block; a loop over tiles of 64
//            centroids. The accumulator starts at -|c|²/2, so that the product's end is the score.
// Floor:     2 C D operations a token; 2 D bytes.
// Reference: reference_cpu/src/kmeans.cpp    Test: tests/test_cuda_kmeans.cpp
#pragma once

#include "device.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

template <int D, int M, int Warps, class Element>
__global__ void __launch_bounds__(32 * Warps)
    assign_kernel(const __grid_constant__ Plan plan, Tensors<Element> tensors, Workspace<Element> w, Side side, int tiles_of_head) {
  constexpr int kRows = 16 * M * Warps, kClusters = 64, kThreads = 32 * Warps;
  constexpr int kTile = PaddedTile<D, kClusters>::kBytes;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t shared = shared_address(tile_memory);
  float* const norms = reinterpret_cast<float*>(tile_memory + 2 * kTile);  // [2, kClusters]

  const bool keys = side == Side::keys;
  const int head = blockIdx.x / tiles_of_head;
  const TokenTile tile = token_tile(plan, side, kRows, blockIdx.x % tiles_of_head);
  if (tile.count == 0) return;
  const Level& level = plan.level[tile.level];
  const int C = block_clusters(plan, level, tile.t, side), first = tile.first, end = tile.first + tile.count;
  const Element* x = keys ? head_rows(tensors.k, plan.k, plan.heads_kv, head) : head_rows(tensors.q, plan.q, plan.heads_q, head);
  const std::int64_t stride = keys ? plan.k.token : plan.q.token;
  const std::int64_t clusters_at = first_cluster(plan, level, head, tile.t, side);
  const Element* centroids = (keys ? w.key_centroids : w.query_centroids) + clusters_at * D;
  const float* half_norms = (keys ? w.key_half_norms : w.query_half_norms) + clusters_at;

  // Read the tokens through the memory of the first centroids, into registers.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  MmaEngine<D, M, Element> engine;
  static_assert(kRows <= 2 * kClusters, "the tokens have room where the centroids will be");
  copy_rows<PaddedTile, D, kRows, kThreads>(shared, [&](int row) { return first + row < end ? x + (first + row) * stride : nullptr; }, x);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  engine.template load_queries<kRows>(shared, warp * M * 16);
  __syncthreads();

  const auto copy_tile = [&](int c0, int buffer) {
    copy_rows<PaddedTile, D, kClusters, kThreads>(shared + buffer * kTile, [&](int c) { return c0 + c < C ? centroids + (c0 + c) * D : nullptr; }, centroids);
    commit_copies();
    if (threadIdx.x < kClusters) norms[buffer * kClusters + threadIdx.x] = c0 + threadIdx.x < C ? half_norms[c0 + threadIdx.x] : -INFINITY;
  };
  float best[M][2];
  int cluster[M][2];
#pragma unroll
  for (int t = 0; t < M; ++t)
#pragma unroll
    for (int h = 0; h < 2; ++h) best[t][h] = -INFINITY, cluster[t][h] = 0;
  copy_tile(0, 0);
  for (int c0 = 0, buffer = 0; c0 < C; c0 += kClusters, buffer ^= 1) {
    if (c0 + kClusters < C) {
      copy_tile(c0 + kClusters, buffer ^ 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    __syncthreads();
    const int here = min(kClusters, C - c0);
#pragma unroll 2
    for (int n = 0; n * 8 < here; n += 2) {
      float score[M][2][4];
#pragma unroll
      for (int u = 0; u < 2; ++u) {
        const float2 norm = *reinterpret_cast<const float2*>(norms + buffer * kClusters + (n + u) * 8 + lane % 4 * 2);
#pragma unroll
        for (int t = 0; t < M; ++t) score[t][u][0] = score[t][u][2] = norm.x, score[t][u][1] = score[t][u][3] = norm.y;
      }
#pragma unroll
      for (int kk = 0; kk < D / 16; ++kk) {
        std::uint32_t b[4];
        load_matrices(b, shared + buffer * kTile + PaddedTile<D, kClusters>::offset(n * 8 + lane / 16 * 8 + lane % 8, kk * 2 + lane / 8 % 2));
#pragma unroll
        for (int t = 0; t < M; ++t) {
          mma(score[t][0], engine.a[t][kk], b[0], b[1], Element());
          mma(score[t][1], engine.a[t][kk], b[2], b[3], Element());
        }
      }
      // Only a strictly better cluster replaces the best: ties go to the lowest index.
#pragma unroll
      for (int u = 0; u < 2; ++u)
#pragma unroll
        for (int t = 0; t < M; ++t)
#pragma unroll
          for (int e = 0; e < 4; ++e) {
            const bool better = score[t][u][e] > best[t][e / 2];
            best[t][e / 2] = better ? score[t][u][e] : best[t][e / 2];
            cluster[t][e / 2] = better ? c0 + (n + u) * 8 + e % 2 : cluster[t][e / 2];
          }
    }
    __syncthreads();
  }
  // The four lanes of a row looked at columns of their own.
  std::int32_t* labels = (keys ? w.labels_k : w.labels_q) + (std::int64_t{head} * plan.levels + tile.level) * (keys ? plan.Nk : plan.Nq);
#pragma unroll
  for (int t = 0; t < M; ++t)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      cluster[t][h] += lane % 4 * 2;
#pragma unroll
      for (int step = 1; step <= 2; step *= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, best[t][h], step);
        const int other_cluster = __shfl_xor_sync(0xffffffffu, cluster[t][h], step);
        const bool better = other > best[t][h] || (other == best[t][h] && other_cluster < cluster[t][h]);
        best[t][h] = better ? other : best[t][h];
        cluster[t][h] = better ? other_cluster : cluster[t][h];
      }
      const int token = first + (warp * M + t) * 16 + lane / 4 + h * 8;
      if (lane % 4 == 0 && token < end) labels[token] = cluster[t][h];
    }
}

template <int D, class Element>
Status launch_assign_mma(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& w, Side side, cudaStream_t stream) {
  constexpr int kM = 2, kWarps = 4;
  constexpr int kRows = 16 * kM * kWarps, kBytes = 2 * PaddedTile<D, 64>::kBytes + 2 * 64 * 4;
  const auto kernel = assign_kernel<D, kM, kWarps, Element>;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  const std::int64_t tiles = tiles_of_head(plan, side, kRows);
  const std::int64_t grid = tiles * (side == Side::keys ? plan.HK() : plan.HQ());
  kernel<<<static_cast<unsigned>(grid), 32 * kWarps, kBytes, stream>>>(plan, tensors, w, side, static_cast<int>(tiles));
  return cudaGetLastError();
}

}  // namespace muse::cuda
