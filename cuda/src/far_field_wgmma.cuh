// Stage 2 and retrieval in one pass as far_field_mma.cuh, on Hopper's wgmma: each 64 of the tile's queries
// are one warpgroup, and a warpgroup of its own gathers summaries and retrieved tokens for all of them.
//
// Launch:    (tiles of a block, units), 384 threads; D = 64: 2 thread blocks a multiprocessor, 128: one.
// Reference: reference_cpu/src/far_field.cpp, retrieval.cpp    Test: tests/test_cuda_far_field.cpp
#pragma once

#include "attention_pipeline.cuh"
#include "softmax_merge.cuh"

namespace muse::cuda {

template <int D, int Stages, int Resident, class Element>
__global__ void MUSE_HOPPER_BOUNDS(128 + 2 * kQueryTile, Resident)
    far_field_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                           Chunk chunk) {
#if MUSE_HOPPER
  using Pipeline = AttentionPipeline<D, kQueryTile / 64, Stages, Resident, Element>;
  constexpr int kKeys = Pipeline::kKeys;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  Pipeline pipeline{*reinterpret_cast<typename Pipeline::Shared*>(tile_memory)};
  const Level& level = plan.level[chunk.level];
  // [r] each retrieved cluster's first place among the sorted keys; retrieved tokens up to and including it
  int2* const places = reinterpret_cast<int2*>(tile_memory + sizeof(typename Pipeline::Shared));

  const int chunk_unit = blockIdx.y;
  const int head = (chunk.first_unit + chunk_unit) / level.blocks,
            block = (chunk.first_unit + chunk_unit) % level.blocks;
  const int2 tile = w.query_tiles[std::int64_t{head} * plan.query_tiles + level.query_tile +
                                  block * level.query_tiles + blockIdx.x];
  const int i = tile.x;
  if (i < 0) return;
  const int kv = plan.key_head(head);
  // The monopole's mass does not depend on δ: it has no k̃, and its products, with any numbers, count nothing.
  const bool shifted = plan.order != ExpansionOrder::monopole;
  const std::int64_t pair = (std::int64_t{chunk_unit} * level.Cq + i) * level.Ck;  // of j = 0
  const std::int32_t* key_offsets = w.key_offsets + first_offset(plan, level, kv, block, Side::keys);
  const int query_end = w.query_offsets[first_offset(plan, level, head, block, Side::queries) + i + 1];
  const int queries = min(query_end - tile.y, kQueryTile);
  const int consumers = ceil_div(queries, 64);

  // List the retrieved clusters: their first places, and how many tokens there are up to each.
  const std::int32_t* retrieved = w.retrieved + (std::int64_t{chunk_unit} * level.Cq + i) * level.r;
  if (threadIdx.x < 32) {
    int sum = 0;
    for (int n0 = 0; n0 < level.r; n0 += 32) {
      const int n = n0 + threadIdx.x, j = n < level.r ? retrieved[n] : -1;
      const int begin = j < 0 ? 0 : key_offsets[j];
      int count = j < 0 ? 0 : key_offsets[j + 1] - begin;
#pragma unroll
      for (int step = 1; step < 32; step *= 2) {
        const int before = __shfl_up_sync(0xffffffffu, count, step);
        if (threadIdx.x >= step) count += before;
      }
      if (n < level.r) places[n] = make_int2(begin, sum + count);
      sum += __shfl_sync(0xffffffffu, count, 31);
    }
  }
  pipeline.begin(consumers);
  const int summary_tiles = (level.Ck + kKeys - 1) / kKeys;
  const int tokens = level.r > 0 ? places[level.r - 1].y : 0;
  const int tiles = summary_tiles + (tokens + kKeys - 1) / kKeys;

  if (!Pipeline::is_consumer()) {
    const std::int32_t* key_order = w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                                    block_tokens(plan, level, block, Side::keys).begin;
    const Element* k = head_rows(x.k, plan.k, plan.heads_kv, kv);
    const Element* v = head_rows(x.v, plan.v, plan.heads_kv, kv);
    // The centroid order expands nothing: all query clusters share the means.
    const bool plain = plan.order == ExpansionOrder::centroid;
    const Element* k_tilde = plain ? w.key_centroids + first_cluster(plan, level, kv, block, Side::keys) * D
                             : shifted ? w.k_tilde + pair * D
                                       : w.v_tilde + pair * D;
    const Element* v_tilde =
        plain ? w.value_means + first_cluster(plan, level, kv, block, Side::keys) * D : w.v_tilde + pair * D;
    const KeyTables summaries{k_tilde, v_tilde, D * 2, D * 2};
    const KeyTables all_tokens{k, v, static_cast<std::uint32_t>(plan.k.token * 2),
                               static_cast<std::uint32_t>(plan.v.token * 2)};
    pipeline.begin_producing();
    const auto produce = [&] {
      // The retrieved cluster of this lane's last place, where it ends, and its first place less the tokens
      // before it: places only rise.
      int cluster = -1, end = 0, before_cluster = 0;
      pipeline.produce(
          tiles,
          [&](int place) {
            place = min(place, tiles * kKeys - 1);
            if (place < summary_tiles * kKeys) {
              return static_cast<std::uint32_t>(min(place, level.Ck - 1));
            }
            place -= summary_tiles * kKeys;
            const int n = min(place, tokens - 1);
            while (n >= end) {
              before_cluster = places[++cluster].x - end;
              end = places[cluster].y;
            }
            return static_cast<std::uint32_t>(key_order[before_cluster + n]);
          },
          [&](int t) { return t < summary_tiles ? summaries : all_tokens; });
    };
    produce();
    if (__syncthreads_or(0)) produce();
    return;
  }
  if (Pipeline::group() >= consumers) {
    __syncthreads_or(0);
    return;
  }
  const std::int32_t* query_order = w.query_order +
                                    (std::int64_t{head} * plan.levels + chunk.level) * plan.Nq +
                                    block_tokens(plan, level, block, Side::queries).begin + tile.y;
  const Element* q = head_rows(x.q, plan.q, plan.heads_q, head);
  const WgmmaEngine<D, Element> engine = pipeline.begin_consuming(
      [&](int n) {
        const int row = Pipeline::group() * 64 + n;
        return row < queries ? q + query_order[row] * plan.q.token : nullptr;
      },
      q);
  const int lane = threadIdx.x % 32, first_row = threadIdx.x / 32 * 16;  // of this warp
  if (lane < 16 && first_row + lane < queries)
    prefetch(far_output(plan, x, head, query_order[first_row + lane]));
  const float scale = plan.scale * kLog2e;
  const float* const bias = w.bias + pair;
  typename Pipeline::Rows attention;
  const auto attend = [&]<bool Careful>(std::bool_constant<Careful>) {
    attention.clear();
    pipeline.template consume<Careful>(tiles, engine, attention, scale, first_row < queries,
                                       [&](int t, float(&s)[1][kKeys / 8][4]) {
                                         const int first = t * kKeys + lane % 4 * 2;  // this lane's first key
                                         if (t < summary_tiles) {
                                           // (4.2) ℓ_j = s q·k̃_ij + b_ij
                                           const float factor = shifted ? scale : 0;
#pragma unroll
                                           for (int n = 0; n < kKeys / 8; ++n) {
                                             float b[2];
#pragma unroll
                                             for (int e = 0; e < 2; ++e) {
                                               const int j = first + n * 8 + e;
                                               b[e] = j < level.Ck ? bias[j] * kLog2e : -INFINITY;
                                             }
#pragma unroll
                                             for (int e = 0; e < 4; ++e)
                                               s[0][n][e] = fmaf(s[0][n][e], factor, b[e % 2]);
                                           }
                                           return true;
                                         }
                                         // Retrieved tokens have no bias; the last tile has keys that do not
                                         // exist.
                                         const int end = tokens + summary_tiles * kKeys;
                                         if ((t + 1) * kKeys > end) {
#pragma unroll
                                           for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
                                             for (int e = 0; e < 4; ++e)
                                               if (first + n * 8 + e % 2 >= end) s[0][n][e] = -INFINITY;
                                         }
                                         return false;
                                       });
    attention.finish();
  };
  // Writes the rows that `wanted` names.
  const auto write = [&](const bool(&wanted)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + lane / 4 + h * 8;
      const bool valid = row < queries && wanted[h];
      write_far_row<D>(far_output(plan, x, head, query_order[min(row, queries - 1)]), attention, 0, h, valid);
    }
  };
  attend_twice<Element>(attention, attend, write);
#endif
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Stages = D == 64 ? 5 : 4, int Resident = D == 64 ? 2 : 1, class Element>
std::optional<Status> launch_far_field_wgmma(const Plan& plan, const Tensors<Element>& x,
                                             const Workspace<Element>& w, const Chunk& chunk,
                                             cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  const int bytes =
      sizeof(typename AttentionPipeline<D, kQueryTile / 64, Stages, Resident, Element>::Shared) + level.r * 8;
  const auto kernel = far_field_wgmma_kernel<D, Stages, Resident, Element>;
  if (!has_hopper_code(kernel)) return std::nullopt;
  if (const Status status = allow_shared_memory(kernel, bytes); status != cudaSuccess) return status;
  kernel<<<dim3(level.query_tiles, chunk.units), 128 + 2 * kQueryTile, bytes, stream>>>(plan, x, w, chunk);
  return cudaGetLastError();
}

}  // namespace muse::cuda
