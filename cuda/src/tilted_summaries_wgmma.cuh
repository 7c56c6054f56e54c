// Stage 1 as tilted_summaries_mma.cuh, on Hopper's wgmma: 64 query centroids are one warpgroup, and another
// gathers the keys and values of each cluster, 64 at a time, for it.
//
// Launch:    (tiles of 64 query clusters, runs of key clusters, units), 256 threads, 2 thread blocks a
//            multiprocessor. A cluster begins a tile of its own; what its last tile has too many is masked.
// Reference: reference_cpu/src/tilted_summaries.cpp    Test: tests/test_cuda_tilted_summaries.cpp
#pragma once

#include "attention_pipeline.cuh"
#include "tilted_summaries_mma.cuh"

namespace muse::cuda {

/// Thread blocks that share a multiprocessor.
inline constexpr int kSummaryResident = 2;

template <class Pipeline, int Stages>
struct SummaryShared {
  typename Pipeline::Shared pipeline;
  /// Each cluster's first place among the sorted keys, its keys, and the tiles up to and including it.
  int3 clusters[kSummaryRun];
  float norms[Stages][Pipeline::kKeys];  ///< |k_n|², of the order `dipole_spread`
};

template <int D, int Stages, class Element>
__global__ void MUSE_HOPPER_BOUNDS(256, kSummaryResident)
    tilted_summaries_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                                  Chunk chunk, int clusters_at_once) {
#if MUSE_HOPPER
  using Engine = WgmmaEngine<D, Element>;
  using Pipeline = AttentionPipeline<D, 1, Stages, kSummaryResident, 1, true, Element>;
  constexpr int kKeys = Pipeline::kKeys;
  using Shared = SummaryShared<Pipeline, Stages>;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  Shared& shared = *reinterpret_cast<Shared*>(tile_memory);
  Pipeline pipeline{shared.pipeline};
  int3* const clusters = shared.clusters;

  const Level& level = plan.level[chunk.level];
  const int chunk_unit = blockIdx.z;
  const int head = (chunk.first_unit + chunk_unit) / level.blocks,
            block = (chunk.first_unit + chunk_unit) % level.blocks;
  const int kv = plan.key_head(head);
  const int i_begin = blockIdx.x * 64, j_begin = blockIdx.y * clusters_at_once;
  const int run = min(clusters_at_once, level.Ck - j_begin);
  const std::int32_t* key_offsets =
      w.key_offsets + first_offset(plan, level, kv, block, Side::keys) + j_begin;
  static_assert(kSummaryRun <= kWarp);
  if (threadIdx.x < kWarp) {
    const int n = threadIdx.x, begin = n < run ? key_offsets[n] : 0,
              count = n < run ? key_offsets[n + 1] - begin : 0;
    int tiles = ceil_div(count, kKeys);
#pragma unroll
    for (int step = 1; step < kSummaryRun; step *= 2) {
      const int before = __shfl_up_sync(kAllLanes, tiles, step);
      if (n >= step) tiles += before;
    }
    if (n < kSummaryRun) clusters[n] = make_int3(begin, count, tiles);
  }
  pipeline.begin();
  const int tiles = clusters[kSummaryRun - 1].z;
  const bool spread = plan.spread_factor > 0;

  if (!Pipeline::is_consumer()) {
    const std::int32_t* key_order = w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                                    block_tokens(plan, level, block, Side::keys).begin;
    const KeyTables tokens{
        head_rows(x.k, plan.k, plan.heads_kv, kv), head_rows(x.v, plan.v, plan.heads_kv, kv),
        static_cast<std::uint32_t>(plan.k.token * 2), static_cast<std::uint32_t>(plan.v.token * 2)};
    const float* const key_norms = w.key_norms + std::int64_t{kv} * plan.Nk;
    pipeline.begin_producing();
    if (tiles == 0) return;
    // The cluster of this lane's last place, and the places where it begins and ends: places only rise.
    int cluster = -1, begin = 0, end = 0;
    pipeline.produce(
        tiles,
        [&](int place) {
          place = min(place, tiles * kKeys - 1);
          while (place >= end) {
            begin = end;
            end = clusters[++cluster].z * kKeys;
          }
          const int3 c = clusters[cluster];
          return static_cast<std::uint32_t>(key_order[c.x + min(place - begin, c.y - 1)]);
        },
        [&](int) { return tokens; },
        [&](int, int stage, int n, std::uint32_t row) {
          if (spread) copy_async_4(shared_address(&shared.norms[stage][n]), key_norms + row);
        });
    return;
  }
  const Element* q_bar = w.query_centroids + first_cluster(plan, level, head, block, Side::home) * D;
  Pipeline::begin_consuming();
  const Engine engine = pipeline.load_queries(
      [&](int n) { return i_begin + n < level.Cq ? q_bar + (i_begin + n) * D : nullptr; }, q_bar);
  const int lane = threadIdx.x % 32, first_row = threadIdx.x / 32 * 16;  // of this warp
  const bool needed = i_begin + first_row < level.Cq;
  const float scale = plan.scale * kLog2e;
  // m and l are those of k_tilde too. L_ij asks for the sum of weights that are not rounded.
  SoftmaxRows<D, 1> v_tilde;
  float k_tilde[D / 8][4], s[1][kKeys / 8][4], factor[1][2];
  std::uint32_t weights[kKeys / 16][4] = {};
  for (int n = 0; n < run; ++n) {
    const int count = clusters[n].y;
    v_tilde.clear();
#pragma unroll
    for (int d = 0; d < D / 8; ++d)
#pragma unroll
      for (int e = 0; e < 4; ++e) k_tilde[d][e] = 0;
    float square[2] = {};  // sum of weights times |k_n|²
    for (int first = 0; first < count; first += kKeys, pipeline.here.advance()) {
      const int stage = pipeline.here.stage;
      const std::uint32_t k_shared = shared_address(pipeline.shared.k[stage]);
      barrier_wait(shared_address(&pipeline.shared.full[stage]), pipeline.here.parity);
      Engine::publish_copies();
      engine.template begin_dot<kKeys>(s, k_shared);
      wgmma_wait<0>();
      fence_registers(s[0]);
      if (needed) {
        if (first + kKeys > count) {
#pragma unroll
          for (int m = 0; m < kKeys / 8; ++m)
#pragma unroll
            for (int e = 0; e < 4; ++e)
              if (first + m * 8 + lane % 4 * 2 + e % 2 >= count) s[0][m][e] = -INFINITY;
        }
        // (3.1), (3.3)
        if (v_tilde.template weigh<kKeys>(s, scale, factor)) {
          v_tilde.rescale(factor);
#pragma unroll
          for (int d = 0; d < D / 8; ++d)
#pragma unroll
            for (int e = 0; e < 4; ++e) k_tilde[d][e] *= factor[0][e / 2];
          square[0] *= factor[0][0];
          square[1] *= factor[0][1];
        }
        if (spread) {
#pragma unroll
          for (int m = 0; m < kKeys / 8; ++m) {
            const float2 norm = *reinterpret_cast<const float2*>(&shared.norms[stage][m * 8 + lane % 4 * 2]);
#pragma unroll
            for (int h = 0; h < 2; ++h)
              square[h] = fmaf(s[0][m][2 * h], norm.x, fmaf(s[0][m][2 * h + 1], norm.y, square[h]));
          }
        }
#pragma unroll
        for (int kk = 0; kk < kKeys / 16; ++kk)
          pack_weights(weights[kk], s[0][2 * kk], s[0][2 * kk + 1], Element());
      }
      const std::uint32_t ones = shared_address(pipeline.shared.ones);
      Engine::template begin_accumulate<kKeys>(k_tilde, weights, k_shared, ones);
      Engine::template begin_accumulate<kKeys>(v_tilde.o[0], weights,
                                               shared_address(pipeline.shared.v[stage]), ones);
      wgmma_wait<0>();
      fence_registers(k_tilde);
      fence_registers(v_tilde.o[0]);
      pipeline.release(pipeline.here);
    }
    v_tilde.finish();
    if (!needed) continue;
    std::uint32_t q_fragments[D / 16][4];
    load_a<SwizzledTile, D, 64>(q_fragments, engine.q_shared, first_row);
    write_summary<D>(plan, w, level, chunk_unit, i_begin + first_row, j_begin + n, k_tilde, v_tilde.o[0],
                     v_tilde.m[0], v_tilde.l[0], square, q_fragments);
  }
#endif
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Stages = D == 64 ? 5 : 3, class Element>
std::optional<Status> launch_tilted_summaries_wgmma(const Plan& plan, const Tensors<Element>& x,
                                                    const Workspace<Element>& w, const Chunk& chunk,
                                                    cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  constexpr int kBytes =
      sizeof(SummaryShared<AttentionPipeline<D, 1, Stages, kSummaryResident, 1, true, Element>, Stages>);
  const auto kernel = tilted_summaries_wgmma_kernel<D, Stages, Element>;
  if (!has_hopper_code(kernel)) return std::nullopt;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  // Runs of key clusters are shorter where there are few thread blocks otherwise.
  int multiprocessors = 0;
  if (const Status status = count_multiprocessors(multiprocessors); status != cudaSuccess) return status;
  const int others = ceil_div(level.Cq, 64) * chunk.units;
  int run = std::min(kSummaryRun, level.Ck);
  while (run > 1 && others * ceil_div(level.Ck, run / 2) <= kSummaryResident * multiprocessors) run /= 2;
  const dim3 grid(ceil_div(level.Cq, 64), ceil_div(level.Ck, run), chunk.units);
  kernel<<<grid, 256, kBytes, stream>>>(plan, x, w, chunk, run);
  return cudaGetLastError();
}

}  // namespace muse::cuda
