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
  std::int32_t number;  ///< among the launch's tiles; -1: there are no more
  std::int32_t head, queries;
  std::int32_t tokens;  ///< retrieved ones
};

/// What a copying warp looks up for a tile of queries.
struct FarKeys {
  KeyTables tables[2];            ///< of summaries, of tokens
  const std::int32_t* key_order;  ///< of the block
  const int2* places;             ///< [r] retrieved_places of the query cluster
  const float *bias, *spread;     ///< [Ck] of the query cluster
};

/// Whether all is done with care.
template <class Element>
inline constexpr bool kCarefulFar = !std::is_same_v<Element, __nv_bfloat16>;

/// The tiles of queries that a thread block works on: it takes the next `Batch` of the launch when it has
/// done its own; those without queries are left out. Which thread block works on a tile shows in no bit. By
/// all threads of the copying warpgroup.
template <int Batch, bool OnlyFailed>
class FarTiles {
 public:
  /// Shared memory of the copying warpgroup.
  struct Shared {
    QueryTile seen[4][Batch];  ///< of each warp
    std::int32_t taken[2];
  };
  /// `next_tile` counts the tiles that thread blocks have taken.
  __device__ FarTiles(std::int32_t* next_tile, Shared& shared)
      : next_tile_(next_tile), shared_(shared), seen_(shared.seen[threadIdx.x / kWarp % 4]) {
    if (threadIdx.x % 128 == 0) ahead_ = atomicAdd(next_tile_, Batch);
  }

  /// Goes to the next tile: whether there is one.
  template <class Element>
  __device__ __forceinline__ bool advance(const Plan& plan, const Workspace<Element>& w, const Chunk& chunk) {
    const Level& level = plan.level[chunk.level];
    const int lane = threadIdx.x % kWarp, count = chunk.units * level.query_tiles;
    waiting_ &= waiting_ - 1;
    while (waiting_ == 0) {
      // Thread 0 has asked ahead: the answer takes long.
      if (threadIdx.x % 128 == 0) {
        shared_.taken[turn_] = ahead_;
        ahead_ = atomicAdd(next_tile_, Batch);
      }
      asm volatile("bar.sync 3, 128;" ::: "memory");
      begin_ = shared_.taken[turn_];
      turn_ ^= 1;
      if (begin_ >= count) return false;
      const int mine = begin_ + lane;
      QueryTile tile;
      if (lane < Batch && mine < count) {
        const int unit = chunk.first_unit + mine / level.query_tiles;
        tile = w.query_tiles[std::int64_t{unit / level.blocks} * plan.query_tiles + level.query_tile +
                             unit % level.blocks * level.query_tiles + mine % level.query_tiles];
        if (OnlyFailed && tile.cluster >= 0) {
          unsigned any = 0;
          for (int warp = 0; warp < kQueryTile / 16; ++warp)
            any |= w.failed_rows[mine * (kQueryTile / 16) + warp];
          if (any == 0) tile.cluster = -1;
        }
        seen_[lane] = tile;
      }
      waiting_ = __ballot_sync(kAllLanes, tile.cluster >= 0);
      __syncwarp();
    }
    return true;
  }
  /// Of the tile at hand, among the launch's; unit slowest.
  [[nodiscard]] __device__ int number() const { return begin_ + first_waiting(); }
  [[nodiscard]] __device__ const QueryTile& tile() const { return seen_[first_waiting()]; }

 private:
  [[nodiscard]] __device__ int first_waiting() const { return __ffs(static_cast<int>(waiting_)) - 1; }

  std::int32_t* next_tile_;
  Shared& shared_;
  QueryTile* seen_;
  unsigned waiting_ = 0;  // a bit for each tile of the batch that is to come
  int begin_ = 0, turn_ = 0, ahead_ = 0;
};

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

template <int D, int Stages, int Resident, bool Careful, class Element>
struct FarField {
  using Pipeline = AttentionPipeline<D, kQueryTile / 64, Stages, Resident, 2, true, Element>;
  static constexpr bool kOnlyFailed = Careful && !kCarefulFar<Element>;
  using Tiles = FarTiles<kOnlyFailed ? kWarp : 1, kOnlyFailed>;
  struct Shared {
    typename Pipeline::Shared pipeline;
    typename Tiles::Shared tiles;
    FarKeys keys[4];                    ///< of each copying warp
    std::int32_t query[2][kQueryTile];  ///< tokens of the head
    uint4 q_bar[2][D / 8];              ///< of the order `dipole_spread`
    /// {b_ij, σ̃²_ij} of a tile of summaries; 0 for the second but in the order `dipole_spread`
    float2 terms[Stages][Pipeline::kKeys];
    FarTile tile[2];
  };
};

/// Two kernels do this for bfloat16. The first one looks at no maxima once each row has seen a key, which is
/// much of the work, and writes the rows where that went well. `Careful`: the second one does again, looking
/// at every tile's maxima, those rows alone whose logits rose by some 40 units beyond their first ones: a
/// row's bits never depend on other rows. Weights of float16 overflow early: always with care.
template <int D, int Stages, int Resident, bool Careful, class Element>
__global__ void MUSE_HOPPER_BOUNDS(2 * kQueryTile + 128, Resident)
    far_field_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                           const __grid_constant__ Chunk chunk) {
#if MUSE_HOPPER
  using Types = FarField<D, Stages, Resident, Careful, Element>;
  using Pipeline = typename Types::Pipeline;
  using Shared = typename Types::Shared;
  constexpr int kKeys = Pipeline::kKeys;
  constexpr bool kOnlyFailed = Types::kOnlyFailed;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  Shared& shared = *reinterpret_cast<Shared*>(tile_memory);
  Pipeline pipeline{shared.pipeline};
  const Level& level = plan.level[chunk.level];
  if (kOnlyFailed && w.far_tiles->any_failed == 0) return;
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
    typename Types::Tiles next(kOnlyFailed ? &w.far_tiles->taken_again : &w.far_tiles->taken, shared.tiles);
    // What is read of the next tile while this one's keys are copied.
    bool more = true;
    std::int32_t query = 0, tokens = 0;
    const auto look_ahead = [&] {
      more = next.advance(plan, w, chunk);
      if (!more) return;
      const QueryTile tile = next.tile();
      const int unit = tile.unit, chunk_unit = unit - chunk.first_unit;
      const std::int32_t* const query_order =
          w.query_order + (std::int64_t{unit / level.blocks} * plan.levels + chunk.level) * plan.Nq +
          block_tokens(plan, level, unit % level.blocks, Side::queries).begin + tile.begin;
      query = query_order[min(n, tile.count - 1)];
      if (level.r > 0)
        tokens = w.retrieved_places[(std::int64_t{chunk_unit} * level.Cq + tile.cluster + 1) * level.r - 1].y;
    };
    look_ahead();
    while (more) {
      const int unit = next.tile().unit, chunk_unit = unit - chunk.first_unit;
      const int head = unit / level.blocks, block = unit % level.blocks, kv = plan.key_head(head);
      const int i = next.tile().cluster;
      const std::int64_t seen = std::int64_t{chunk_unit} * level.Cq + i;
      pipeline.produce_queries(
          next.tile().count, query, head_rows(x.q, plan.q, plan.heads_q, head),
          static_cast<std::uint32_t>(plan.q.token * 2), [&](int slot) {
            shared.query[slot][n] = query;
            if (spread && n < D / 8)
              copy_async(
                  shared_address(&shared.q_bar[slot][n]),
                  w.query_centroids + (first_cluster(plan, level, head, block, Side::home) + i) * D + n * 8);
            if (n == 0) shared.tile[slot] = {next.number(), head, next.tile().count, tokens};
          });
      // The centroid order expands nothing: all query clusters share the means.
      const bool plain = plan.order == ExpansionOrder::centroid;
      const std::int64_t first_summary =
          (plain ? first_cluster(plan, level, kv, block, Side::keys) : seen * level.Ck) * D;
      const Element* const v_tilde = (plain ? w.value_means : w.v_tilde) + first_summary;
      const Element* const k_tilde =
          shifted ? (plain ? w.key_centroids : w.k_tilde) + first_summary : v_tilde;
      FarKeys& keys = shared.keys[n / kWarp];
      __syncwarp();
      if (n % kWarp == 0)
        keys = {
            {{k_tilde, v_tilde, D * 2, D * 2},
             {head_rows(x.k, plan.k, plan.heads_kv, kv), head_rows(x.v, plan.v, plan.heads_kv, kv),
              static_cast<std::uint32_t>(plan.k.token * 2), static_cast<std::uint32_t>(plan.v.token * 2)}},
            w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                block_tokens(plan, level, block, Side::keys).begin,
            w.retrieved_places + seen * level.r,
            w.bias + seen * level.Ck,
            w.spread + seen * level.Ck};
      __syncwarp();
      const int keys_retrieved = tokens, tiles = tiles_of_keys(tokens);
      look_ahead();
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
    }
    pipeline.produce_queries(0, query, x.q, 0, [&](int slot) {
      if (n == 0) shared.tile[slot] = {-1, 0, 0, 0};
    });
    return;
  }

  Pipeline::begin_consuming();
  const int lane = threadIdx.x % 32, first_row = threadIdx.x / 32 * 16;  // of this warp
  for (;;) {
    const WgmmaEngine<D, Element> engine = pipeline.await_queries();
    const FarTile& tile = shared.tile[pipeline.slot.stage];
    const std::int32_t* const query = shared.query[pipeline.slot.stage];
    if (tile.number < 0) return;
    const int tiles = tiles_of_keys(tile.tokens);
    // One bit for each row that failed: of row 8 h + g of the warp's bit 4 g + h.
    std::uint32_t* const failed_rows = w.failed_rows + tile.number * (kQueryTile / 16) + threadIdx.x / 32;
    if (Pipeline::group() * 64 >= tile.queries) {
      if (!Careful && lane == 0) *failed_rows = 0;
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
    pipeline.consume(tiles, engine, attention, first_row < tile.queries, Careful, look);
    attention.finish();
    const int rows[2] = {first_row + lane / 4, first_row + lane / 4 + 8};
    bool wanted[2] = {rows[0] < tile.queries, rows[1] < tile.queries};
    if constexpr (kOnlyFailed) {
      const std::uint32_t failed = *failed_rows >> lane / 4 * 4;
      for (int h = 0; h < 2; ++h) wanted[h] = wanted[h] && (failed >> h & 1) != 0;
    } else if constexpr (!Careful) {
      bool failed[2];
      for (int h = 0; h < 2; ++h) {
        failed[h] = wanted[h] && attention.overflows(0, h);
        wanted[h] = wanted[h] && !failed[h];
      }
      const std::uint32_t bits =
          __ballot_sync(kAllLanes, (lane % 4 == 0 && failed[0]) || (lane % 4 == 1 && failed[1]));
      if (lane == 0) {
        *failed_rows = bits;
        if (bits != 0) w.far_tiles->any_failed = 1;
      }
    }
#pragma unroll
    for (int h = 0; h < 2; ++h)
      write_far_row<D>(output(min(rows[h], tile.queries - 1)), attention, 0, h, wanted[h]);
    pipeline.release_queries();
  }
#endif
}

template <bool Careful, int D, int Stages, int Resident, class Element>
Status start_far_field_wgmma(const Plan& plan, const Tensors<Element>& x, const Workspace<Element>& w,
                             const Chunk& chunk, cudaStream_t stream) {
  const auto kernel = far_field_wgmma_kernel<D, Stages, Resident, Careful, Element>;
  int multiprocessors = 0;
  if (const Status status = count_multiprocessors(multiprocessors); status != cudaSuccess) return status;
  using Types = FarField<D, Stages, Resident, Careful, Element>;
  const int grid = std::min(chunk.units * plan.level[chunk.level].query_tiles, Resident * multiprocessors);
  constexpr std::size_t kBytes = sizeof(typename Types::Shared);
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  kernel<<<grid, 2 * kQueryTile + 128, kBytes, stream>>>(plan, x, w, chunk);
  return cudaGetLastError();
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Stages = 4, int Resident = D == 64 ? 2 : 1, class Element>
std::optional<Status> launch_far_field_wgmma(const Plan& plan, const Tensors<Element>& x,
                                             const Workspace<Element>& w, const Chunk& chunk,
                                             cudaStream_t stream) {
  if (!has_hopper_code(far_field_wgmma_kernel<D, Stages, Resident, true, Element>)) return std::nullopt;
  if (const Status status = cudaMemsetAsync(w.far_tiles, 0, sizeof(*w.far_tiles), stream);
      status != cudaSuccess)
    return status;
  if constexpr (!kCarefulFar<Element>)
    if (const Status status = start_far_field_wgmma<false, D, Stages, Resident>(plan, x, w, chunk, stream);
        status != cudaSuccess)
      return status;
  return start_far_field_wgmma<true, D, Stages, Resident>(plan, x, w, chunk, stream);
}

}  // namespace muse::cuda
