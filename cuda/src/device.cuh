// What the kernels share: element types as floats, rows of tensors, sums over a warp, where a tile of tokens
// lies.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <algorithm>
#include <optional>
#include <type_traits>

#include "stages.h"

namespace muse::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;
inline constexpr float kMinusInfinity = -__builtin_huge_valf();

/// Whether the tensor cores take `Element` at full width.
template <class Element>
inline constexpr bool has_tensor_cores =
    std::is_same_v<Element, __half> || std::is_same_v<Element, __nv_bfloat16>;

// ---- Elements
// -------------------------------------------------------------------------------------------------

__device__ inline float to_float(float x) {
  return x;
}
__device__ inline float to_float(__half x) {
  return __half2float(x);
}
__device__ inline float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

/// Rounds to nearest even.
template <class Element>
__device__ inline Element from_float(float x) {
  if constexpr (std::is_same_v<Element, float>) {
    return x;
  } else if constexpr (std::is_same_v<Element, __half>) {
    return __float2half_rn(x);
  } else {
    return __float2bfloat16_rn(x);
  }
}

/// 16 bytes of elements: what one load moves. Rows begin at multiples of 16 bytes.
template <class Element>
inline constexpr int kVector = 16 / static_cast<int>(sizeof(Element));

template <class Element>
__device__ inline void load_vector(const Element* from, float (&to)[kVector<Element>]) {
  const uint4 bits = *reinterpret_cast<const uint4*>(from);
  const auto* elements = reinterpret_cast<const Element*>(&bits);
#pragma unroll
  for (int e = 0; e < kVector<Element>; ++e) to[e] = to_float(elements[e]);
}

template <class Element>
__device__ inline void store_vector(Element* to, const float (&from)[kVector<Element>]) {
  uint4 bits;
  auto* elements = reinterpret_cast<Element*>(&bits);
#pragma unroll
  for (int e = 0; e < kVector<Element>; ++e) elements[e] = from_float<Element>(from[e]);
  *reinterpret_cast<uint4*>(to) = bits;
}

// ---- Rows
// -----------------------------------------------------------------------------------------------------

/// Token 0 of a head; `head` counts the `heads` heads of each sequence, all sequences.
template <class Element>
__device__ inline Element* head_rows(Element* base, const Strides& strides, int heads, int head) {
  return base + head / heads * strides.batch + head % heads * strides.head;
}

// ---- Warps
// ----------------------------------------------------------------------------------------------------
// Butterflies: every lane gets the same bits, in an order that never changes.

__device__ inline float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  return x;
}
__device__ inline float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, step));
  return x;
}

// ---- Work
// -----------------------------------------------------------------------------------------------------

[[nodiscard]] MUSE_HOST_DEVICE constexpr int ceil_div(int a, int b) {
  return (a + b - 1) / b;
}

/// Tiles of `tile` tokens that cover every block of a head: of all levels for Side::queries, of those that
/// cluster afresh for the other sides. The grid of a kernel that works on all of them at once is
/// tiles_of_head · heads, head slowest.
[[nodiscard]] inline std::int64_t tiles_of_head(const Plan& plan, Side side, int tile) {
  std::int64_t tiles = 0;
  for (int m = 0; m < (side == Side::queries ? plan.levels : plan.fresh_levels); ++m)
    tiles += std::int64_t{plan.level[m].blocks} * ceil_div(longest_block(plan, plan.level[m], side), tile);
  return tiles;
}

/// One of those tiles: the tokens [first, first + count) of block t of `level`; count may be 0.
struct TokenTile {
  int level, t, first, count;
};
__device__ inline TokenTile token_tile(const Plan& plan, Side side, int tile, int index) {
  for (int m = 0; m < plan.levels; ++m) {
    const Level& level = plan.level[m];
    const int tiles = ceil_div(longest_block(plan, level, side), tile);
    if (index < level.blocks * tiles) {
      const int t = index / tiles, skipped = index % tiles * tile;
      const TokenSpan tokens = block_tokens(plan, level, t, side);
      return {m, t, tokens.begin + skipped, max(0, min(tile, tokens.count - skipped))};
    }
    index -= level.blocks * tiles;
  }
  return {0, 0, 0, 0};
}

/// A run of a block's tokens, and its row in the task's table of a head, if it has one: that of cluster 0.
struct TokenRun {
  int level, t, C;
  TokenSpan tokens;  // may be none
  std::int64_t row;
  int piece;  // of the run, if several thread blocks share it
};
/// pieces(C) where a thread block does the whole of a run.
inline constexpr auto kWhole = [](int) { return 1; };
/// Thread blocks of a head for the runs of the first `levels` levels; pieces(C) of them share a run.
template <class Pieces>
[[nodiscard]] int runs_of_head(const Plan& plan, int levels, Side side, RunTask task, Pieces pieces) {
  std::int64_t runs = 0;
  for (int m = 0; m < levels; ++m) {
    const Level& level = plan.level[m];
    runs += std::int64_t{level.blocks} * level_runs(plan, level, side, task).runs *
            pieces(side == Side::keys ? level.Ck : level.Cq);
  }
  return static_cast<int>(runs);
}
/// The run of thread block `index` among those of a head: the largest levels, whose runs take longest, come
/// first.
template <class Pieces>
[[nodiscard]] __device__ TokenRun token_run(const Plan& plan, int levels, Side side, RunTask task,
                                            Pieces pieces, int index) {
  for (int m = levels - 1;; --m) {
    const Level& level = plan.level[m];
    const int C = side == Side::keys ? level.Ck : level.Cq, of_run = pieces(C);
    const LevelRuns cut = level_runs(plan, level, side, task);
    if (index >= level.blocks * cut.runs * of_run) {
      index -= level.blocks * cut.runs * of_run;
      continue;
    }
    const int run = index / of_run, t = run / cut.runs, skipped = run % cut.runs * cut.tokens;
    const TokenSpan tokens = block_tokens(plan, level, t, side);
    return {.level = m,
            .t = t,
            .C = C,
            .tokens = {tokens.begin + skipped, max(0, min(cut.tokens, tokens.count - skipped))},
            .row = run_rows(plan, m, side, task) + std::int64_t{run} * C,
            .piece = index % of_run};
  }
}

/// The level of a block of a head, 0 … plan.blocks - 1, and its place in the level.
struct BlockPlace {
  int level, t;
};
__device__ inline BlockPlace block_place(const Plan& plan, int block) {
  int m = 0;
  while (m + 1 < plan.levels && block >= plan.level[m + 1].block) ++m;
  return {m, block - plan.level[m].block};
}

/// Calls `launch` with the head dim as a constant, if there are tensor-core kernels for it.
template <class Launch>
std::optional<Status> with_tuned_dim(const Plan& plan, Launch launch) {
  if (plan.D != plan.Dv) return std::nullopt;
  switch (plan.D) {
    case 32:
      return launch(std::integral_constant<int, 32>());
    case 64:
      return launch(std::integral_constant<int, 64>());
    case 96:
      return launch(std::integral_constant<int, 96>());
    case 128:
      return launch(std::integral_constant<int, 128>());
    default:
      return std::nullopt;
  }
}

// Kernels for sm_90a alone are empty in the code for other devices, and cannot be launched with more than one
// thread there.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define MUSE_HOPPER_BOUNDS(threads, resident) __launch_bounds__(1)
#define MUSE_HOPPER 0
#else
#define MUSE_HOPPER_BOUNDS(threads, resident) __launch_bounds__(threads, resident)
#define MUSE_HOPPER 1
#endif

/// Whether the code that the present device loads for `kernel` is that for Hopper.
template <class Kernel>
bool has_hopper_code(Kernel* kernel) {
  cudaFuncAttributes attributes;
  const Status status = cudaFuncGetAttributes(&attributes, reinterpret_cast<const void*>(kernel));
  return status == cudaSuccess && attributes.maxThreadsPerBlock > 1;
}

/// Blocks, and clusters, of a head in the first `levels` levels: they come first in the tables of a head.
[[nodiscard]] inline int blocks_in(const Plan& plan, int levels) {
  return levels < plan.levels ? plan.level[levels].block : plan.blocks;
}
[[nodiscard]] inline int clusters_in(const Plan& plan, Side side, int levels) {
  if (side == Side::keys) return levels < plan.levels ? plan.level[levels].key_cluster : plan.key_clusters;
  return levels < plan.levels ? plan.level[levels].query_cluster : plan.query_clusters;
}

/// Lets `kernel` use that much shared memory, which may be more than the 48 KiB that need no asking.
template <class Kernel>
Status allow_shared_memory(Kernel* kernel, std::size_t bytes) {
  if (bytes <= 48 * 1024) return cudaSuccess;
  return cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                              cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes));
}

/// Of the present device.
inline Status count_multiprocessors(int& count) {
  int device = 0;
  if (const Status status = cudaGetDevice(&device); status != cudaSuccess) return status;
  return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
}

}  // namespace muse::cuda
