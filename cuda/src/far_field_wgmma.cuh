// Stage 2 and retrieval in one pass as far_field_mma.cuh, on Hopper's wgmma: each 64 of a tile's queries are
// one warpgroup, and a warpgroup of its own gathers queries, summaries and retrieved tokens for all of them.
//
// Launch:    as many thread blocks as fit, 384 threads each; D = 64: 2 a multiprocessor, 128: one. Each takes
//            one tile of queries after the other. The copying warpgroup is ahead of the others: while they
//            work on the last keys of one tile and write its results, it looks up and copies the next one's.
// Reference: reference_cpu/src/far_field.cpp, retrieval.cpp    Test: tests/test_cuda_far_field.cpp
#pragma once

#include "attention_pipeline.cuh"
#include "softmax_merge.cuh"

namespace muse::cuda {

/// What the copying warpgroup tells the others of a tile of queries. They read it where they need it, and
/// keep none of it: registers are short.
struct FarTile {
  std::int32_t head, queries;
  std::int32_t tokens;  ///< retrieved ones
};

/// What the copying warpgroup looks up for a tile of queries.
struct FarKeys {
  KeyTables tables[2];            ///< of summaries, of tokens
  const std::int32_t* key_order;  ///< of the block
  const int2* places;             ///< [r] retrieved_places of the query cluster
  const float *bias, *spread;     ///< [Ck] of the query cluster
};

/// How many tiles of queries of the chunk have been begun.
template <class Element>
__device__ std::int32_t* tiles_begun(const Plan& plan, const Workspace<Element>& w, const Chunk& chunk) {
  const Level& level = plan.level[chunk.level];
  return w.far_tiles + std::int64_t{chunk.first_unit / level.blocks} * plan.blocks + level.block +
         chunk.first_unit % level.blocks;
}

/// (4.1) |q - q̄|² of row `row` of a tile of queries in shared memory, by the four lanes of its quad.
template <int D, class Element>
__device__ __forceinline__ float squared_distance(const unsigned char* queries, int row,
                                                  const uint4 (&q_bar)[D / 8]) {
  float sum = 0;
#pragma unroll
  for (int piece = threadIdx.x % 4; piece < D / 8; piece += 4) {
    const uint4 q = *reinterpret_cast<const uint4*>(queries + SwizzledTile<D, 64>::offset(row, piece));
    const std::uint32_t x[4] = {q.x, q.y, q.z, q.w};
    const std::uint32_t c[4] = {q_bar[piece].x, q_bar[piece].y, q_bar[piece].z, q_bar[piece].w};
#pragma unroll
    for (int pair = 0; pair < 4; ++pair) sum = add_squared_difference(sum, x[pair], c[pair], Element());
  }
  return quad_sum(sum);
}

template <int D, int Stages, int Resident, class Element>
struct FarField {
  using Pipeline = AttentionPipeline<D, kQueryTile / 64, Stages, Resident, 2, true, Element>;
  struct Shared {
    typename Pipeline::Shared pipeline;
    // Of each slot:
    FarTile tile[2];
    FarKeys keys[2];
    std::int32_t query[2][kQueryTile];  ///< tokens of the head
    uint4 q_bar[2][D / 8];              ///< of the order `dipole_spread`
    /// {b_ij, σ̃²_ij} of a tile of summaries; 0 for the second but in the order `dipole_spread`
    float2 terms[Stages][Pipeline::kKeys];
  };
};

template <int D, int Stages, int Resident, class Element>
__global__ void MUSE_HOPPER_BOUNDS(2 * kQueryTile + 128, Resident)
    far_field_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                           const __grid_constant__ Chunk chunk) {
#if MUSE_HOPPER
  using Types = FarField<D, Stages, Resident, Element>;
  using Pipeline = typename Types::Pipeline;
  using Shared = typename Types::Shared;
  constexpr int kKeys = Pipeline::kKeys;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  Shared& shared = *reinterpret_cast<Shared*>(tile_memory);
  Pipeline pipeline{shared.pipeline};
  const Level& level = plan.level[chunk.level];
  const bool spread = plan.spread_factor > 0;
  if (!spread)
    for (int x = threadIdx.x; x < Stages * kKeys; x += Pipeline::kThreads)
      shared.terms[x / kKeys][x % kKeys].y = 0;
  pipeline.begin();

  // The monopole's mass does not depend on δ: it has no k̃, and its products, with any numbers, count nothing.
  const bool shifted = plan.order != ExpansionOrder::monopole;
  const int summary_tiles = ceil_div(level.Ck, kKeys);
  const auto tiles_of_keys = [&](int tokens) { return summary_tiles + ceil_div(tokens, kKeys); };

  if (!Pipeline::is_consumer()) {
    pipeline.begin_producing();
    const int n = threadIdx.x % 128;  // this thread's query
    TileCounter counter(tiles_begun(plan, w, chunk), pipeline.shared.taken);
    // Of the next tile: what it is, this thread's query, tokens of its retrieved clusters.
    QueryTile next;
    std::int32_t query = 0, tokens = 0;
    pipeline.produce_tiles(
        [&] {
          do {
            const int number = counter.take();
            if (number >= chunk.units * level.query_tiles) return false;
            const int unit = chunk.first_unit + number / level.query_tiles;
            next = w.query_tiles[std::int64_t{unit / level.blocks} * plan.query_tiles + level.query_tile +
                                 unit % level.blocks * level.query_tiles + number % level.query_tiles];
          } while (next.cluster < 0);
          query =
              w.query_order[(std::int64_t{next.unit / level.blocks} * plan.levels + chunk.level) * plan.Nq +
                            block_tokens(plan, level, next.unit % level.blocks, Side::queries).begin +
                            next.begin + min(n, next.count - 1)];
          if (level.r > 0)
            tokens =
                w.retrieved_places
                    [(std::int64_t{next.unit - chunk.first_unit} * level.Cq + next.cluster + 1) * level.r - 1]
                        .y;
          return true;
        },
        [&](int slot) {
          const int head = next.unit / level.blocks, block = next.unit % level.blocks;
          pipeline.copy_queries_of(next.count, query, head_rows(x.q, plan.q, plan.heads_q, head),
                                   static_cast<std::uint32_t>(plan.q.token * 2));
          shared.query[slot][n] = query;
          if (spread && n < D / 8)
            copy_async(shared_address(&shared.q_bar[slot][n]),
                       w.query_centroids +
                           (first_cluster(plan, level, head, block, Side::home) + next.cluster) * D + n * 8);
          if (n != 0) return;
          shared.tile[slot] = {head, next.count, tokens};
          const int kv = plan.key_head(head);
          const std::int64_t seen = std::int64_t{next.unit - chunk.first_unit} * level.Cq + next.cluster;
          // The centroid order expands nothing: all query clusters share the means.
          const bool plain = plan.order == ExpansionOrder::centroid;
          const std::int64_t first_summary =
              (plain ? first_cluster(plan, level, kv, block, Side::keys) : seen * level.Ck) * D;
          const Element* const v_tilde = (plain ? w.value_means : w.v_tilde) + first_summary;
          const Element* const k_tilde =
              shifted ? (plain ? w.key_centroids : w.k_tilde) + first_summary : v_tilde;
          shared.keys[slot] = {
              {{k_tilde, v_tilde, D * 2, D * 2},
               {head_rows(x.k, plan.k, plan.heads_kv, kv), head_rows(x.v, plan.v, plan.heads_kv, kv),
                static_cast<std::uint32_t>(plan.k.token * 2), static_cast<std::uint32_t>(plan.v.token * 2)}},
              w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                  block_tokens(plan, level, block, Side::keys).begin,
              w.retrieved_places + seen * level.r,
              w.bias + seen * level.Ck,
              w.spread + seen * level.Ck};
        },
        [&](int slot) {
          const FarKeys& keys = shared.keys[slot];
          const int keys_retrieved = shared.tile[slot].tokens, tiles = tiles_of_keys(keys_retrieved);
          // The retrieved cluster of this lane's last place, where it ends, and its first place less the
          // tokens before it: places only rise.
          int cluster = -1, end = 0, before_cluster = 0;
          pipeline.produce(
              tiles,
              [&](int place) {
                place = min(place, tiles * kKeys - 1);
                if (place < summary_tiles * kKeys) {
                  return static_cast<std::uint32_t>(min(place, level.Ck - 1));
                }
                place = min(place - summary_tiles * kKeys, keys_retrieved - 1);
                while (place >= end) {
                  const int2 of_cluster = keys.places[++cluster];
                  before_cluster = of_cluster.x - end;
                  end = of_cluster.y;
                }
                return static_cast<std::uint32_t>(keys.key_order[before_cluster + place]);
              },
              [&](int t) { return keys.tables[t < summary_tiles ? 0 : 1]; },
              [&](int t, int stage, int n, std::uint32_t row) {
                if (t >= summary_tiles) return;
                copy_async_4(shared_address(&shared.terms[stage][n].x), keys.bias + row);
                if (spread) copy_async_4(shared_address(&shared.terms[stage][n].y), keys.spread + row);
              });
        });
    return;
  }

  Pipeline::begin_consuming();
  const int lane = threadIdx.x % 32, first_row = threadIdx.x / 32 * 16;  // of this warp
  for (;;) {
    const WgmmaEngine<D, Element> engine = pipeline.await_queries();
    const FarTile& tile = shared.tile[pipeline.slot.stage];
    const std::int32_t* const query = shared.query[pipeline.slot.stage];
    const SlotWork work = pipeline.work();
    if (work == SlotWork::end) return;
    if (work == SlotWork::none) {
      pipeline.release_queries();
      continue;
    }
    const int tiles = tiles_of_keys(tile.tokens);
    if (Pipeline::group() * 64 >= tile.queries) {
      pipeline.skip(tiles);
      pipeline.release_queries();
      continue;
    }
    const auto output = [&](int row) { return far_output(plan, x, tile.head, query[row]); };
    if (lane < 16 && first_row + lane < tile.queries) prefetch(output(first_row + lane));
    // (4.6) κ/2 s² |δ|² / D of this lane's rows
    float half_sq[2] = {};
    if (spread) {
#pragma unroll
      for (int h = 0; h < 2; ++h)
        half_sq[h] =
            spread_weight(plan, squared_distance<D, Element>(
                                    shared.pipeline.q[pipeline.slot.stage][Pipeline::group()],
                                    first_row % 64 + lane / 4 + h * 8, shared.q_bar[pipeline.slot.stage]));
    }
    // The dot products of tile t become logits.
    const auto look = [&](int t, int stage, float(&s)[1][kKeys / 8][4]) {
      const bool summaries = t < summary_tiles;
      if (summaries) {
        // (4.2) ℓ_j = s q·k̃_ij + b_ij, (4.6) … + κ/2 s² |δ|² σ̃²_ij / D
        const float factor = shifted ? plan.scale : 0;
        const float2* const terms = shared.terms[stage];
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n) {
          // of this lane's two keys
          const float4 term = *reinterpret_cast<const float4*>(terms + n * 8 + lane % 4 * 2);
#pragma unroll
          for (int e = 0; e < 4; ++e)
            s[0][n][e] = fmaf(
                s[0][n][e], factor,
                e % 2 == 0 ? fmaf(half_sq[e / 2], term.y, term.x) : fmaf(half_sq[e / 2], term.w, term.z));
        }
      }
      // The last tile of summaries, and that of tokens, have keys that do not exist.
      const int end = summaries ? level.Ck : tile.tokens + summary_tiles * kKeys;
      if ((t + 1) * kKeys > end) {
        const int first = t * kKeys + lane % 4 * 2;  // this lane's first key
#pragma unroll
        for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            if (first + n * 8 + e % 2 >= end) s[0][n][e] = -INFINITY;
      }
      return summaries ? kLog2e : plan.scale * kLog2e;
    };
    typename Pipeline::Rows attention;
    attention.clear();
    const bool again = work == SlotWork::again;
    pipeline.consume(tiles, engine, attention, first_row < tile.queries, again, look);
    attention.finish();
    const int rows[2] = {first_row + lane / 4, first_row + lane / 4 + 8};
    bool wanted[2] = {rows[0] < tile.queries, rows[1] < tile.queries};
    pipeline.judge_rows(attention, again, wanted);
#pragma unroll
    for (int h = 0; h < 2; ++h)
      write_far_row<D>(output(min(rows[h], tile.queries - 1)), attention, 0, h, wanted[h]);
    pipeline.release_queries();
  }
#endif
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Stages = 4, int Resident = D == 64 ? 2 : 1, class Element>
std::optional<Status> launch_far_field_wgmma(const Plan& plan, const Tensors<Element>& x,
                                             const Workspace<Element>& w, const Chunk& chunk,
                                             cudaStream_t stream) {
  const auto kernel = far_field_wgmma_kernel<D, Stages, Resident, Element>;
  constexpr std::size_t kBytes = sizeof(typename FarField<D, Stages, Resident, Element>::Shared);
  if (!has_hopper_code(kernel)) return std::nullopt;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  int multiprocessors = 0;
  if (const Status status = count_multiprocessors(multiprocessors); status != cudaSuccess) return status;
  const int grid = std::min(chunk.units * plan.level[chunk.level].query_tiles, Resident * multiprocessors);
  kernel<<<grid, 2 * kQueryTile + 128, kBytes, stream>>>(plan, x, w, chunk);
  return cudaGetLastError();
}

}  // namespace muse::cuda
