// Exact attention as exact_attention_mma.cuh, on Hopper's wgmma: `Consumers` warpgroups of 64 queries share
// the keys that one more copies.
//
// Launch:    as many thread blocks as fit, 128 (Consumers + 1) threads each; D 64 or 128. Each takes one tile
//            of 64 Consumers queries after the other; the copying warpgroup is ahead: while the others work
//            on the last keys of one tile and write its results, it copies the next one's.
// Reference: reference_cpu/src/exact_attention.cpp    Test: tests/test_cuda_exact_attention.cpp
#pragma once

#include "attention_pipeline.cuh"
#include "exact_attention_mma.cuh"

namespace muse::cuda {

/// Where a tile's queries and keys are: tiles go head by head, block by block, from a block's last queries,
/// which have most keys, to its first.
struct ExactRows {
  int head, block_begin, row_begin, row_end;
  __device__ ExactRows(const Plan& plan, const ExactShape& shape, int rows, int number) {
    const int tiles_of_block = ceil_div(shape.block, rows), blocks = ceil_div(plan.Nq, shape.block);
    head = number / tiles_of_block / blocks;
    block_begin = number / tiles_of_block % blocks * shape.block;
    row_begin = block_begin + (tiles_of_block - 1 - number % tiles_of_block) * rows;
    row_end = min(min(row_begin + rows, block_begin + shape.block), plan.Nq);
  }
  [[nodiscard]] __device__ int count() const { return row_end - row_begin; }
  /// Keys that the first `rows` of its rows see, from the block's first.
  [[nodiscard]] __device__ int keys(const Plan& plan, const ExactShape& shape, int rows) const {
    return (shape.causal ? min(row_begin + rows, row_end) : plan.Nk) - block_begin;
  }
};

template <int D, int Consumers, int Stages, int Resident, class Element>
struct ExactAttention {
  using Pipeline = AttentionPipeline<D, Consumers, Stages, Resident, 2, false, Element>;
  struct Shared {
    typename Pipeline::Shared pipeline;
    std::int32_t number[2];  ///< of each slot's tile, among the launch's
  };
};

template <int D, int Consumers, int Stages, int Resident, class Element>
__global__ void MUSE_HOPPER_BOUNDS(128 * Consumers + 128, Resident)
    exact_attention_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, ExactShape shape,
                                 int tiles_of_launch, std::int32_t* next_tile) {
#if MUSE_HOPPER
  using Types = ExactAttention<D, Consumers, Stages, Resident, Element>;
  using Pipeline = typename Types::Pipeline;
  constexpr int kKeys = Pipeline::kKeys, kRows = 64 * Consumers;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  typename Types::Shared& shared = *reinterpret_cast<typename Types::Shared*>(tile_memory);
  Pipeline pipeline{shared.pipeline};
  pipeline.begin();

  if (!Pipeline::is_consumer()) {
    pipeline.begin_producing();
    TileCounter counter(next_tile, pipeline.shared.taken);
    int number = 0;  // of the next tile
    pipeline.produce_tiles(
        [&] {
          // A block that the sequence ends in has tiles without queries.
          do number = counter.take();
          while (number < tiles_of_launch && ExactRows(plan, shape, kRows, number).count() <= 0);
          return number < tiles_of_launch;
        },
        [&](int slot) {
          const ExactRows rows(plan, shape, kRows, number);
          pipeline.copy_queries_from(
              rows.count(), head_rows(x.q, plan.q, plan.heads_q, rows.head) + rows.row_begin * plan.q.token,
              static_cast<std::uint32_t>(plan.q.token * 2));
          if (threadIdx.x % 128 == 0) shared.number[slot] = number;
        },
        [&](int slot) {
          const ExactRows rows(plan, shape, kRows, shared.number[slot]);
          const int kv = plan.key_head(rows.head), keys = rows.keys(plan, shape, kRows);
          const KeyTables tokens{head_rows(x.k, plan.k, plan.heads_kv, kv) + rows.block_begin * plan.k.token,
                                 head_rows(x.v, plan.v, plan.heads_kv, kv) + rows.block_begin * plan.v.token,
                                 static_cast<std::uint32_t>(plan.k.token * 2),
                                 static_cast<std::uint32_t>(plan.v.token * 2)};
          pipeline.produce(
              ceil_div(keys, kKeys),
              // Keys beyond the end are masked below.
              [&](int place) { return static_cast<std::uint32_t>(min(place, keys - 1)); },
              [&](int) { return tokens; });
        });
    return;
  }

  Pipeline::begin_consuming();
  const int lane = threadIdx.x % 32;
  // Where the tile at hand is. It is asked for where it is needed, and not kept: registers are short.
  const auto rows_here = [&] { return ExactRows(plan, shape, kRows, shared.number[pipeline.slot.stage]); };
  for (;;) {
    const WgmmaEngine<D, Element> engine = pipeline.await_queries();
    const SlotWork work = pipeline.work();
    if (work == SlotWork::end) return;
    if (work == SlotWork::none) {
      pipeline.release_queries();
      continue;
    }
    // Keys that this warpgroup sees, and this warp's first row among the block's tokens.
    int keys_seen = 0, first_row = 0;
    {
      const ExactRows rows = rows_here();
      if (Pipeline::group() * 64 >= rows.count()) {
        pipeline.skip(ceil_div(rows.keys(plan, shape, kRows), kKeys));
        pipeline.release_queries();
        continue;
      }
      keys_seen = rows.keys(plan, shape, Pipeline::group() * 64 + 64);
      first_row = rows.row_begin - rows.block_begin + threadIdx.x / 32 * 16;
    }
    const bool again = work == SlotWork::again;
    typename Pipeline::Rows attention;
    attention.clear();
    pipeline.consume(ceil_div(keys_seen, kKeys), engine, attention, true, again,
                     [&](int t, int /*stage*/, float(&s)[1][kKeys / 8][4]) {
                       // Mask keys after the query, and those that do not exist.
                       const int key = t * kKeys;
                       if (key + kKeys > keys_seen || (shape.causal && key + kKeys > first_row + 1)) {
#pragma unroll
                         for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
                           for (int e = 0; e < 4; ++e) {
                             const int row = first_row + lane / 4 + (e / 2) * 8,
                                       col = key + n * 8 + lane % 4 * 2 + e % 2;
                             if (col >= keys_seen || (shape.causal && col > row)) s[0][n][e] = -INFINITY;
                           }
                       }
                       return plan.scale * kLog2e;
                     });
    attention.finish();
    const ExactRows rows = rows_here();
    const int mine = threadIdx.x / 32 * 16 + lane / 4;  // this lane's rows: this one, and 8 further on
    bool wanted[2] = {mine < rows.count(), mine + 8 < rows.count()};
    pipeline.judge_rows(attention, again, wanted);
    pipeline.release_queries();
    pipeline.skip(ceil_div(rows.keys(plan, shape, kRows), kKeys) - ceil_div(keys_seen, kKeys));
    Element* const o = head_rows(x.o, plan.o, plan.heads_q, rows.head);
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = rows.row_begin + mine + 8 * h;
      const float l = attention.l[0][h];
      store_row<D>(o + row * plan.o.token, attention.o[0], h, l > 0 ? 1 / l : 0.f, wanted[h]);
      if (wanted[h] && lane % 4 == 0)
        x.lse[static_cast<std::int64_t>(rows.head) * plan.Nq + row] = (attention.m[0][h] + log2f(l)) * kLn2;
    }
  }
#endif
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Consumers = D == 64 ? 3 : 2, int Stages = D == 64 ? 6 : 4, int Resident = 1,
          class Element>
std::optional<Status> launch_exact_attention_wgmma(const Plan& plan, const Tensors<Element>& x,
                                                   const Workspace<Element>& w, const ExactShape& shape,
                                                   cudaStream_t stream) {
  constexpr int kRows = 64 * Consumers,
                kBytes = sizeof(typename ExactAttention<D, Consumers, Stages, Resident, Element>::Shared);
  const auto kernel = exact_attention_wgmma_kernel<D, Consumers, Stages, Resident, Element>;
  if (!has_hopper_code(kernel)) return std::nullopt;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  if (const Status status = cudaMemsetAsync(w.exact_tiles, 0, sizeof(*w.exact_tiles), stream);
      status != cudaSuccess)
    return status;
  int multiprocessors = 0;
  if (const Status status = count_multiprocessors(multiprocessors); status != cudaSuccess) return status;
  const int tiles = plan.HQ() * ceil_div(plan.Nq, shape.block) * ceil_div(shape.block, kRows);
  kernel<<<std::min(tiles, Resident * multiprocessors), 128 * Consumers + 128, kBytes, stream>>>(
      plan, x, shape, tiles, w.exact_tiles);
  return cudaGetLastError();
}

}  // namespace muse::cuda
