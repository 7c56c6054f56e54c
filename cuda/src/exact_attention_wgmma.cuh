// Exact attention as exact_attention_mma.cuh, on Hopper's wgmma: `Consumers` warpgroups of 64 queries share
// the keys that one more copies.
//
// Launch:    (tiles of 64 Consumers queries of a head, heads), 128 (Consumers + 1) threads; D 64 or 128.
// Reference: reference_cpu/src/exact_attention.cpp    Test: tests/test_cuda_exact_attention.cpp
#pragma once

#include "attention_pipeline.cuh"
#include "exact_attention_mma.cuh"

namespace muse::cuda {

template <int D, int Consumers, int Stages, int Resident, class Element>
__global__ void MUSE_HOPPER_BOUNDS(128 * Consumers + 128, Resident)
    exact_attention_wgmma_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, ExactShape shape) {
#if MUSE_HOPPER
  using Pipeline = AttentionPipeline<D, Consumers, Stages, Resident, 1, false, Element>;
  constexpr int kKeys = Pipeline::kKeys, kRows = 64 * Consumers;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  Pipeline pipeline{*reinterpret_cast<typename Pipeline::Shared*>(tile_memory)};

  const int tiles_of_block = (shape.block + kRows - 1) / kRows;
  // Begin with the tiles that have the most keys.
  const int tile = gridDim.x - 1 - blockIdx.x;
  const int block_begin = tile / tiles_of_block * shape.block;
  const int row_begin = block_begin + tile % tiles_of_block * kRows;
  const int row_end = min(min(row_begin + kRows, block_begin + shape.block), plan.Nq);
  if (row_begin >= row_end) return;
  const int key_end = shape.causal ? row_end : plan.Nk;
  const int tiles = (key_end - block_begin + kKeys - 1) / kKeys;
  const int head = blockIdx.y, kv = plan.key_head(head);
  pipeline.begin();

  if (!Pipeline::is_consumer()) {
    const Element* k = head_rows(x.k, plan.k, plan.heads_kv, kv);
    const Element* v = head_rows(x.v, plan.v, plan.heads_kv, kv);
    const KeyTables tokens{k + block_begin * plan.k.token, v + block_begin * plan.v.token,
                           static_cast<std::uint32_t>(plan.k.token * 2),
                           static_cast<std::uint32_t>(plan.v.token * 2)};
    pipeline.begin_producing();
    const auto produce = [&] {
      pipeline.produce(
          tiles,
          [&](int place) {  // keys beyond the end are masked below
            return static_cast<std::uint32_t>(min(place, key_end - 1 - block_begin));
          },
          [&](int) { return tokens; });
    };
    produce();
    if (__syncthreads_or(0)) produce();
    return;
  }

  const Element* q = head_rows(x.q, plan.q, plan.heads_q, head);
  Pipeline::begin_consuming();
  const WgmmaEngine<D, Element> engine = pipeline.load_queries(
      [&](int n) {
        const int row = row_begin + Pipeline::group() * 64 + n;
        return row < row_end ? q + row * plan.q.token : nullptr;
      },
      q);
  const int lane = threadIdx.x % 32, first_row = row_begin + threadIdx.x / 32 * 16;  // of this warp
  Element* o = head_rows(x.o, plan.o, plan.heads_q, head);
  typename Pipeline::Rows attention;
  const auto attend = [&]<bool Careful>(std::bool_constant<Careful>) {
    attention.clear();
    pipeline.template consume<Careful>(
        tiles, engine, attention, first_row < row_end, [&](int t, int /*stage*/, float(&s)[1][kKeys / 8][4]) {
          // Mask keys after the query, and those that do not exist.
          const int key = block_begin + t * kKeys;
          if (key + kKeys > key_end || (shape.causal && key + kKeys > first_row + 1)) {
#pragma unroll
            for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
              for (int e = 0; e < 4; ++e) {
                const int row = first_row + lane / 4 + (e / 2) * 8, col = key + n * 8 + lane % 4 * 2 + e % 2;
                if (col >= key_end || (shape.causal && col > row)) s[0][n][e] = -INFINITY;
              }
          }
          return plan.scale * kLog2e;
        });
    attention.finish();
  };
  // Writes the rows that `wanted` names.
  const auto write = [&](const bool(&wanted)[2]) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + lane / 4 + h * 8;
      const float l = attention.l[0][h];
      store_row<D>(o + row * plan.o.token, attention.o[0], h, l > 0 ? 1 / l : 0.f,
                   row < row_end && wanted[h]);
      if (row < row_end && wanted[h] && lane % 4 == 0)
        x.lse[static_cast<std::int64_t>(head) * plan.Nq + row] = (attention.m[0][h] + log2f(l)) * kLn2;
    }
  };
  attend_twice<Element>(attention, attend, write);
#endif
}

/// Nothing, if the present device's code has no such kernel.
template <int D, int Consumers = D == 64 ? 3 : 2, int Stages = D == 64 ? 4 : 3, int Resident = 1,
          class Element>
std::optional<Status> launch_exact_attention_wgmma(const Plan& plan, const Tensors<Element>& x,
                                                   const ExactShape& shape, cudaStream_t stream) {
  constexpr int kRows = 64 * Consumers,
                kBytes =
                    sizeof(typename AttentionPipeline<D, Consumers, Stages, Resident, 1, false, Element>::Shared);
  const auto kernel = exact_attention_wgmma_kernel<D, Consumers, Stages, Resident, Element>;
  if (!has_hopper_code(kernel)) return std::nullopt;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  const int blocks = (plan.Nq + shape.block - 1) / shape.block;
  const dim3 grid(blocks * ((shape.block + kRows - 1) / kRows), plan.HQ());
  kernel<<<grid, 128 * Consumers + 128, kBytes, stream>>>(plan, x, shape);
  return cudaGetLastError();
}

}  // namespace muse::cuda
