// Exact attention of each query to the keys of its diagonal block (docs/math.md, 1.1), on the tensor cores.
//
// Shapes:    q [batch, heads_q, N, D], k, v [batch, heads_kv, N, D], o as q, lse [batch, heads_q, N]; D 32,
// 64, 96, 128 Launch:    one thread block a tile of 16 M Warps queries: (tiles of a head, heads); a loop over
// tiles of 64 keys,
//            the next one copied while the warps work on this one.
// Floor:     2 B N D multiply-adds a head, causal, against 8 N D bytes: bound by the tensor cores and by 16
//            exponentials a clock and multiprocessor.
// Reference: reference_cpu/src/exact_attention.cpp    Test: tests/test_cuda_exact_attention.cpp
#pragma once

#include "device.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

/// Attention of the queries of `block` tokens to the keys of the same block up to themselves (`causal`), or
/// of all queries to all keys.
struct ExactShape {
  std::int32_t block = 0;  ///< tokens of a diagonal block; N: one block of everything
  bool causal = true;
};

template <class Engine, int Warps, int kKeys, class Element>
__global__ void __launch_bounds__(32 * Warps)
    exact_attention_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, ExactShape shape) {
  constexpr int D = Engine::D, M = Engine::M;
  constexpr int kRows = 16 * M * Warps, kThreads = 32 * Warps;
  constexpr bool kTogether = Engine::kTogether;
  constexpr int kTile = Engine::template Tile<D, kKeys>::kBytes;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t k_shared = shared_address(tile_memory), v_shared = k_shared + 2 * kTile;

  const int tiles_of_block = (shape.block + kRows - 1) / kRows;
  // Begin with the tiles that have the most keys.
  const int tile = gridDim.x - 1 - blockIdx.x;
  const int block_begin = tile / tiles_of_block * shape.block;
  const int row_begin = block_begin + tile % tiles_of_block * kRows;
  const int row_end = min(min(row_begin + kRows, block_begin + shape.block), plan.Nq);
  if (row_begin >= row_end) return;
  const int key_end = shape.causal ? row_end : plan.Nk;
  const int head = blockIdx.y, kv = plan.key_head(head);
  const Element* q = head_rows(x.q, plan.q, plan.heads_q, head);
  const Element* k = head_rows(x.k, plan.k, plan.heads_kv, kv);
  const Element* v = head_rows(x.v, plan.v, plan.heads_kv, kv);
  Element* o = head_rows(x.o, plan.o, plan.heads_q, head);

  // Read the queries through the memory of the first keys, into registers.
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Engine engine;
  static_assert(kRows <= 4 * kKeys, "the queries have room where the keys and values will be");
  copy_rows<Engine::template Tile, D, kRows, kThreads>(
      k_shared,
      [&](int row) { return row_begin + row < row_end ? q + (row_begin + row) * plan.q.token : nullptr; }, q);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  engine.template load_queries<kRows>(k_shared, warp * M * 16);
  __syncthreads();

  const auto copy_tile = [&](int key, int buffer) {
    copy_rows<Engine::template Tile, D, kKeys, kThreads>(
        k_shared + buffer * kTile,
        [&](int n) { return key + n < key_end ? k + (key + n) * plan.k.token : nullptr; }, k);
    copy_rows<Engine::template Tile, D, kKeys, kThreads>(
        v_shared + buffer * kTile,
        [&](int n) { return key + n < key_end ? v + (key + n) * plan.v.token : nullptr; }, v);
    commit_copies();
  };
  const float scale = plan.scale * kLog2e;
  SoftmaxRows<D, M> attention;
  attention.clear();
  const int first_row = row_begin + warp * M * 16;  // of this warp
  copy_tile(block_begin, 0);
  for (int key = block_begin, buffer = 0; key < key_end; key += kKeys, buffer ^= 1) {
    // Copy the next tile while this one is worked on.
    if (key + kKeys < key_end) {
      copy_tile(key + kKeys, buffer ^ 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    Engine::publish_copies();
    __syncthreads();
    // Warps of one warpgroup work together, needed or not.
    const bool needed = kTogether || (first_row < row_end && (!shape.causal || key < first_row + 16 * M));
    if (needed) {
      float s[M][kKeys / 8][4];
      engine.template dot<kKeys, kKeys>(s, k_shared + buffer * kTile);
      // Mask keys after the query, and those that do not exist.
      if (key + kKeys > key_end || (shape.causal && key + kKeys > first_row + 1)) {
#pragma unroll
        for (int t = 0; t < M; ++t)
#pragma unroll
          for (int n = 0; n < kKeys / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const int row = first_row + t * 16 + lane / 4 + (e / 2) * 8,
                        col = key + n * 8 + lane % 4 * 2 + e % 2;
              if (col >= key_end || (shape.causal && col > row)) s[t][n][e] = -INFINITY;
            }
      }
      attention.template soften<kKeys>(s, scale);
      engine.template accumulate<kKeys, kKeys>(attention.o, s, v_shared + buffer * kTile);
    }
    __syncthreads();
  }

  attention.finish();
#pragma unroll
  for (int t = 0; t < M; ++t)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + t * 16 + lane / 4 + h * 8;
      const float l = attention.l[t][h];
      store_row<D>(o + row * plan.o.token, attention.o[t], h, l > 0 ? 1 / l : 0.f, row < row_end);
      if (row < row_end && lane % 4 == 0)
        x.lse[static_cast<std::int64_t>(head) * plan.Nq + row] = (attention.m[t][h] + log2f(l)) * kLn2;
    }
}

template <class Engine, int Warps, int kKeys = 64, class Element>
Status launch_exact_attention_with(const Plan& plan, const Tensors<Element>& x, const ExactShape& shape,
                                   cudaStream_t stream) {
  constexpr int kRows = 16 * Engine::M * Warps, kBytes = 4 * Engine::template Tile<Engine::D, kKeys>::kBytes;
  const auto kernel = exact_attention_kernel<Engine, Warps, kKeys, Element>;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  const int blocks = (plan.Nq + shape.block - 1) / shape.block;
  const dim3 grid(blocks * ((shape.block + kRows - 1) / kRows), plan.HQ());
  kernel<<<grid, 32 * Warps, kBytes, stream>>>(plan, x, shape);
  return cudaGetLastError();
}

}  // namespace muse::cuda
