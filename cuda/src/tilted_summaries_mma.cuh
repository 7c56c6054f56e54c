// Stage 1 on the tensor cores: attention of the query centroids to each key cluster by itself, with the keys
// and the values as values (docs/math.md, 3.1 to 3.5, 3.8).
//
// Shapes:    query_centroids [HQ, query_clusters, D]; k, v [batch, heads_kv, Nk, D]; L, bias [units, Cq, Ck];
//            spread likewise, with key_norms [HK, Nk]; k_tilde, v_tilde [units, Cq, Ck, D]; D = Dv 32, 64,
//            96, 128
// Launch:    a thread block (tile of 16 M Warps query clusters, run of key clusters, unit): its warps share
//            the run's tokens, sorted by cluster, 64 at a time, and each looks at them from centroids of its
//            own. A cluster's tokens come 16 rows at a time, its neighbours' in its last 16 masked.
// Floor:     6 D operations a centroid and token; writes 4 D bytes a pair of clusters.
// Reference: reference_cpu/src/tilted_summaries.cpp    Test: tests/test_cuda_tilted_summaries.cpp
#pragma once

#include "device.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

/// Key clusters that one thread block works through.
inline constexpr int kSummaryRun = 8;

/// Writes what a warp's centroids, 16 from `i_begin` on, have found of key cluster j. `k_sum` and `v_sum`
/// hold the weighted sums of keys and values, `square` this lane's part of that of |k_n|² (dipole_spread
/// only), m and l are of their weights; q_bar are the centroids as an A fragment. By whole warps.
template <int D, int KTiles, int VTiles, class Element>
__device__ __forceinline__ void write_summary(const Plan& plan, const Workspace<Element>& w,
                                              const Level& level, int chunk_unit, int i_begin, int j,
                                              const float (&k_sum)[KTiles][4],
                                              const float (&v_sum)[VTiles][4], const float (&m)[2],
                                              const float (&sum)[2], const float (&square)[2],
                                              const std::uint32_t (&q_bar)[D / 16][4]) {
  const int lane = threadIdx.x % 32;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const int i = i_begin + lane / 4 + h * 8;
    const bool valid = i < level.Cq;
    const std::int64_t pair = (std::int64_t{chunk_unit} * level.Cq + i) * level.Ck + j;
    const float l = sum[h], share = l > 0 ? 1 / l : 0.f;
    // (3.2) L_ij = logsumexp_n a_ijn
    const float L = l > 0 ? (m[h] + log2f(l)) * kLn2 : -INFINITY;
    // (4.2) b_ij = L_ij - s q̄_i·k̃_ij, with k̃ as it will be read
    float dot = 0;
    if (plan.order != ExpansionOrder::monopole) {
#pragma unroll
      for (int n = 0; n < D / 8; ++n) {
        const float2 q2 = unpack(q_bar[n / 2][n % 2 * 2 + h], Element());
        const float2 k2 =
            unpack(pack(k_sum[n][2 * h] * share, k_sum[n][2 * h + 1] * share, Element()), Element());
        dot = fmaf(q2.x, k2.x, fmaf(q2.y, k2.y, dot));
      }
      dot += __shfl_xor_sync(0xffffffffu, dot, 1);
      dot += __shfl_xor_sync(0xffffffffu, dot, 2);
    }
    if (valid && lane % 4 == 0) {
      w.L[pair] = L;
      w.bias[pair] = L - plan.scale * dot;
    }
    if (plan.spread_factor > 0) {
      // (3.8) σ̃²_ij = sum_n p_ijn |k_n|² - |k̃_ij|²
      float sigma_sq = square[h] * share;
#pragma unroll
      for (int n = 0; n < D / 8; ++n)
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const float mean = k_sum[n][2 * h + e] * share;
          sigma_sq = fmaf(-mean, mean, sigma_sq);
        }
      sigma_sq += __shfl_xor_sync(0xffffffffu, sigma_sq, 1);
      sigma_sq += __shfl_xor_sync(0xffffffffu, sigma_sq, 2);
      if (valid && lane % 4 == 0) w.spread[pair] = fmaxf(sigma_sq, 0);
    }
    // (3.4), (3.5)
    if (plan.order != ExpansionOrder::monopole) store_row<D>(w.k_tilde + pair * D, k_sum, h, share, valid);
    store_row<D>(w.v_tilde + pair * D, v_sum, h, share, valid);
  }
}

template <int D, int M, int Warps, class Element>
__global__ void __launch_bounds__(32 * Warps, D <= 64 ? 3 : 1)
    tilted_summaries_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                            Chunk chunk) {
  constexpr int kRows = 16 * M * Warps, kKeys = 64, kThreads = 32 * Warps;
  constexpr int kTileRows = kKeys + 16;  // a cluster's last 16 rows may reach beyond the tile
  constexpr int kTile = PaddedTile<D, kTileRows>::kBytes;
  using Engine = MmaEngine<D, M, Element>;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t k_shared = shared_address(tile_memory),
                      v_shared = k_shared + 2 * kTile;  // two tiles each

  const Level& level = plan.level[chunk.level];
  const int chunk_unit = blockIdx.z;
  const int head = (chunk.first_unit + chunk_unit) / level.blocks,
            block = (chunk.first_unit + chunk_unit) % level.blocks;
  const int kv = plan.key_head(head);
  const int i_begin = blockIdx.x * kRows, j_begin = blockIdx.y * kSummaryRun;
  const int j_end = min(j_begin + kSummaryRun, level.Ck);
  const Element* q_bar = w.query_centroids + first_cluster(plan, level, head, block, Side::home) * D;
  const std::int32_t* key_order = w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                                  block_tokens(plan, level, block, Side::keys).begin;
  const std::int32_t* key_offsets = w.key_offsets + first_offset(plan, level, kv, block, Side::keys);
  const Element* k = head_rows(x.k, plan.k, plan.heads_kv, kv);
  const Element* v = head_rows(x.v, plan.v, plan.heads_kv, kv);
  const bool spread = plan.spread_factor > 0;
  const float* key_norms = w.key_norms + std::int64_t{kv} * plan.Nk;
  float* const norms = reinterpret_cast<float*>(tile_memory + 4 * kTile);  // [2, kTileRows] |k_n|²

  // Read the centroids through the memory of the first keys, into registers.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Engine engine;
  static_assert(kRows <= 2 * kKeys, "the centroids have room where the keys and values will be");
  copy_rows<PaddedTile, D, kRows, kThreads>(
      k_shared, [&](int row) { return i_begin + row < level.Cq ? q_bar + (i_begin + row) * D : nullptr; },
      q_bar);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  engine.template load_queries<kRows>(k_shared, warp * M * 16);
  __syncthreads();

  const float scale = plan.scale * kLog2e;
  const int place_end = key_offsets[j_end];
  SoftmaxRows<D, M> k_tilde, v_tilde;  // m and l are those of k_tilde
  k_tilde.clear();
  v_tilde.clear();
  float square[M][2] = {};  // sums of weights times |k_n|²
  int j = j_begin;
  int cluster_end = key_offsets[j + 1];
  int place = key_offsets[j_begin];  // next key of cluster j
  // Tiles of kKeys places, two of them in flight; a cluster's last 16 rows may reach into the next tile's
  // places.
  const int place_begin = place;
  int tile = -1;  // the one that is here
  const auto copy_tile = [&](int t) {
    const int first = place_begin + t * kKeys;
    if (first >= place_end) return;
    const auto token = [&](int n) { return first + n < place_end ? key_order[first + n] : -1; };
    copy_rows<PaddedTile, D, kTileRows, kThreads>(
        k_shared + t % 2 * kTile,
        [&](int n) {
          const int row = token(n);
          return row >= 0 ? k + row * plan.k.token : nullptr;
        },
        k);
    copy_rows<PaddedTile, D, kTileRows, kThreads>(
        v_shared + t % 2 * kTile,
        [&](int n) {
          const int row = token(n);
          return row >= 0 ? v + row * plan.v.token : nullptr;
        },
        v);
    if (spread)
      for (int n = threadIdx.x; n < kTileRows; n += kThreads)
        copy_async_4(shared_address(norms + t % 2 * kTileRows + n), key_norms + max(token(n), 0));
  };
  copy_tile(0);
  commit_copies();

  // (3.1), (3.3) The next `count` keys of cluster j, up to Keys of them, in rows from `row` on of the tile
  // that is here.
  const bool needed = i_begin + warp * M * 16 < level.Cq;  // a warp without centroids only copies
  const auto take = [&]<int Keys>(std::integral_constant<int, Keys>, int row, int count) {
    if (!needed) return;
    const std::uint32_t k_here = k_shared + tile % 2 * kTile, v_here = v_shared + tile % 2 * kTile;
    float s[M][Keys / 8][4], factor[M][2];
    engine.template dot<Keys, kTileRows>(s, k_here, row);
    if (count < Keys) {
#pragma unroll
      for (int t = 0; t < M; ++t)
#pragma unroll
        for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (n * 8 + lane % 4 * 2 + e % 2 >= count) s[t][n][e] = -INFINITY;
    }
    if (k_tilde.template weigh<Keys>(s, scale, factor)) {
      k_tilde.rescale(factor);
      v_tilde.rescale(factor);
#pragma unroll
      for (int t = 0; t < M; ++t)
#pragma unroll
        for (int h = 0; h < 2; ++h) square[t][h] *= factor[t][h];
    }
    if (spread) {
#pragma unroll
      for (int t = 0; t < M; ++t)
#pragma unroll
        for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            square[t][e / 2] =
                fmaf(s[t][n][e], norms[tile % 2 * kTileRows + row + n * 8 + lane % 4 * 2 + e % 2],
                     square[t][e / 2]);
    }
    engine.template accumulate<Keys, kTileRows>(k_tilde.o, s, k_here, row);
    engine.template accumulate<Keys, kTileRows>(v_tilde.o, s, v_here, row);
  };
  for (;;) {
    // Write each cluster that has no key left.
    while (place == cluster_end) {
      k_tilde.finish();
#pragma unroll
      for (int t = 0; t < (needed ? M : 0); ++t)
        write_summary<D>(plan, w, level, chunk_unit, i_begin + (warp * M + t) * 16, j, k_tilde.o[t],
                         v_tilde.o[t], k_tilde.m[t], k_tilde.l[t], square[t], engine.a[t]);
      k_tilde.clear();
      v_tilde.clear();
#pragma unroll
      for (int t = 0; t < M; ++t) square[t][0] = square[t][1] = 0;
      if (++j == j_end) return;
      cluster_end = key_offsets[j + 1];
    }
    // Wait for the next tile when one is used up, and copy the one after it.
    if (place >= place_begin + (tile + 1) * kKeys) {
      __syncthreads();  // all warps are done with the tile before
      ++tile;
      copy_tile(tile + 1);
      commit_copies();
      wait_copies<1>();
      __syncthreads();
    }
    const int row = place - place_begin - tile * kKeys;
    const int count = min(cluster_end - place, kKeys - row);
    if (count > 48) {
      take(std::integral_constant<int, 64>(), row, count);
    } else if (count > 32) {
      take(std::integral_constant<int, 48>(), row, count);
    } else if (count > 16) {
      take(std::integral_constant<int, 32>(), row, count);
    } else {
      take(std::integral_constant<int, 16>(), row, count);
    }
    place += count;
  }
}

template <int D, class Element>
Status launch_tilted_summaries_mma(const Plan& plan, const Tensors<Element>& x, const Workspace<Element>& w,
                                   const Chunk& chunk, cudaStream_t stream) {
  constexpr int kM = 1, kWarps = 4;
  constexpr int kRows = 16 * kM * kWarps, kBytes = 4 * PaddedTile<D, 64 + 16>::kBytes + 2 * (64 + 16) * 4;
  const Level& level = plan.level[chunk.level];
  const auto kernel = tilted_summaries_kernel<D, kM, kWarps, Element>;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  const dim3 grid((level.Cq + kRows - 1) / kRows, (level.Ck + kSummaryRun - 1) / kSummaryRun, chunk.units);
  kernel<<<grid, 32 * kWarps, kBytes, stream>>>(plan, x, w, chunk);
  return cudaGetLastError();
}

}  // namespace muse::cuda
