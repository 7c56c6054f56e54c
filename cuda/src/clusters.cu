// Clusters: tokens sorted by label, and labels that need no distances (docs/math.md, section 2).
#include "device.cuh"
#include "softmax_merge.cuh"

namespace muse::cuda {
namespace {

constexpr int kSortWarps = 32;
// Counters of all warps of a thread block: one a warp and cluster. 64 KiB run on every device from 8.0 on.
constexpr int kSortCounters = 16 * 1024;

struct SortTask {
  Side side;
  const std::int32_t* labels;  // [heads, levels, N]
  std::int32_t* order;         // [heads, levels, N]
  std::int32_t* offsets;       // [heads, clusters + blocks]
  std::int32_t N;
  std::int32_t blocks;  // of a head, those of the levels to sort
};

// Exclusive prefix sums of total[0 … C - 1], in place, by all threads of the block; returns the sum.
// `warp_sums` holds an integer a warp.
__device__ int exclusive_scan(int* total, int C, int* warp_sums) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp;
  const int each = ceil_div(C, static_cast<int>(blockDim.x)), first = threadIdx.x * each;
  int sum = 0;
  for (int c = first; c < min(first + each, C); ++c) sum += total[c];
  int inclusive = sum;
  for (int step = 1; step < kWarp; step *= 2) {
    const int before = __shfl_up_sync(kAllLanes, inclusive, step);
    if (lane >= step) inclusive += before;
  }
  if (lane == kWarp - 1) warp_sums[warp] = inclusive;
  __syncthreads();
  int before = inclusive - sum, all = 0;
  for (int w = 0; w < warps; ++w) {
    if (w < warp) before += warp_sums[w];
    all += warp_sums[w];
  }
  for (int c = first; c < min(first + each, C); ++c) {
    const int count = total[c];
    total[c] = before;
    before += count;
  }
  __syncthreads();
  return all;
}

/// Sorts the tokens of each block of each level by label: a stable counting sort.
///   labels [heads, levels, N] -> order [heads, levels, N], offsets [heads, clusters + blocks]
/// Launch: a thread block a block of a head; up to 32 warps, fewer where C is large.
/// Each warp takes a segment of the tokens and counts its labels; prefix sums over clusters, then over warps,
/// give each warp its places; a second walk puts the tokens there. Within 32 tokens, __match_any_sync ranks
/// equal labels by lane. Every place follows from the labels alone: no atomics, the same bits every time.
/// Bound by latency: 2 · 4 bytes read and 4 written a token, some 60 cycles a warp and 32 tokens.
/// Limits: C <= kMaxClusters. Labels outside of [0, C) are left out; a block's query that has one sees
/// nothing. Reference: make_clusters (clusters.cpp). Test: test_cuda_clusters.cpp.
template <class Element>
__global__ void __launch_bounds__(kSortWarps* kWarp)
    sort_kernel(const __grid_constant__ Plan plan, const Tensors<Element> tensors, const SortTask task) {
  extern __shared__ int counters[];  // [warps, C], then [C], then [kSortWarps]
  const int head = blockIdx.x / task.blocks;
  const BlockPlace place = block_place(plan, blockIdx.x % task.blocks);
  const Level& level = plan.level[place.level];
  const TokenSpan tokens = block_tokens(plan, level, place.t, task.side);
  const int C = task.side == Side::keys ? level.Ck : level.Cq;
  const int warps = max(1, min(static_cast<int>(blockDim.x) / kWarp, kSortCounters / C));
  int* const total = counters + warps * C;
  int* const warp_sums = total + C;
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;

  const std::int64_t row = (std::int64_t{head} * plan.levels + place.level) * task.N + tokens.begin;
  const std::int32_t* const labels = task.labels + row;
  std::int32_t* const order = task.order + row;
  std::int32_t* const offsets = task.offsets + first_offset(plan, level, head, place.t, task.side);

  // Count the labels of this warp's segment.
  const int segment = ceil_div(ceil_div(tokens.count, warps), kWarp) * kWarp;
  const int begin = min(warp * segment, tokens.count), end = min(begin + segment, tokens.count);
  int* const mine = counters + warp * C;
  for (int x = threadIdx.x; x < warps * C; x += blockDim.x) counters[x] = 0;
  __syncthreads();
  if (warp < warps) {
    for (int n = begin; n < end; n += kWarp) {
      const int label = n + lane < end ? labels[n + lane] : -1;
      const unsigned equal = __match_any_sync(kAllLanes, label);
      if (label >= 0 && label < C && lane == __ffs(equal) - 1) mine[label] += __popc(equal);
      __syncwarp();
    }
  }
  __syncthreads();

  // Turn counts into places: clusters one after the other, in each cluster warp after warp.
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    int sum = 0;
    for (int w = 0; w < warps; ++w) sum += counters[w * C + c];
    total[c] = sum;
  }
  __syncthreads();
  const int placed = exclusive_scan(total, C, warp_sums);
  for (int c = threadIdx.x; c < C; c += blockDim.x) {
    int place_of_warp = total[c];
    offsets[c] = place_of_warp;
    for (int w = 0; w < warps; ++w) {
      const int count = counters[w * C + c];
      counters[w * C + c] = place_of_warp;
      place_of_warp += count;
    }
  }
  if (threadIdx.x == 0) offsets[C] = placed;
  __syncthreads();

  // Put the tokens there.
  if (warp >= warps) return;
  for (int n = begin; n < end; n += kWarp) {
    const int label = n + lane < end ? labels[n + lane] : -1;
    const unsigned equal = __match_any_sync(kAllLanes, label);
    const bool valid = label >= 0 && label < C;
    const int rank = __popc(equal & ((1u << lane) - 1));
    if (valid) order[mine[label] + rank] = tokens.begin + n + lane;
    __syncwarp();
    if (valid && rank == 0) mine[label] += __popc(equal);
    __syncwarp();
    // A query that is in no cluster sees nothing of the block: nothing is merged into what it has, if it has
    // any.
    const bool block_queries =
        task.side == Side::queries || (task.side == Side::home && plan.home == QueryHome::self);
    if (block_queries && plan.block == 0 && n + lane < end && !valid) {
      const FarOutput<Element> out = far_output(plan, tensors, head, tokens.begin + n + lane);
      *out.lse = kMinusInfinity;
      for (int d = 0; d < plan.Dv; ++d) out.o[d] = from_float<Element>(0);
    }
  }
}

/// Spatial labels, label = floor(n C / N) of the block's tokens, the baseline.
/// Launch: a thread block of 256 threads a block of a head.
/// Reference: spatial_blocks (clusters.cpp). Test: test_cuda_clusters.cpp.
__global__ void spatial_labels_kernel(const __grid_constant__ Plan plan, Side side, std::int32_t* labels,
                                      int N, int blocks) {
  const int head = blockIdx.x / blocks;
  const BlockPlace place = block_place(plan, blockIdx.x % blocks);
  const Level& level = plan.level[place.level];
  const TokenSpan tokens = block_tokens(plan, level, place.t, side);
  const int C = block_clusters(plan, level, place.t, side);
  std::int32_t* const row = labels + (std::int64_t{head} * plan.levels + place.level) * N + tokens.begin;
  for (int n = threadIdx.x; n < tokens.count; n += blockDim.x)
    row[n] = static_cast<std::int32_t>(std::int64_t{n} * C / tokens.count);
}

}  // namespace

template <class Element>
Status launch_sort(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                   Side side, std::int32_t levels, cudaStream_t stream) {
  if (levels == 0) return cudaSuccess;
  const bool keys = side == Side::keys;
  const SortTask task{.side = side,
                      .labels = keys ? workspace.labels_k : workspace.labels_q,
                      .order = keys ? workspace.key_order : workspace.query_order,
                      .offsets = keys                 ? workspace.key_offsets
                                 : side == Side::home ? workspace.home_offsets
                                                      : workspace.query_offsets,
                      .N = keys ? plan.Nk : plan.Nq,
                      .blocks = blocks_in(plan, levels)};
  // Shared memory of the level that needs most; 32 tokens a warp at least.
  int counters = 0, longest = 0;
  for (int m = 0; m < levels; ++m) {
    const int C = keys ? plan.level[m].Ck : plan.level[m].Cq;
    counters = std::max(counters, std::max(1, std::min(kSortWarps, kSortCounters / C)) * C + C);
    longest = std::max(longest, longest_block(plan, plan.level[m], side));
  }
  const int warps = std::clamp(ceil_div(longest, 4 * kWarp), 1, kSortWarps);
  const std::size_t bytes = static_cast<std::size_t>(counters + kSortWarps) * sizeof(int);
  if (const Status status = allow_shared_memory(sort_kernel<Element>, bytes); status != cudaSuccess)
    return status;
  const int heads = keys ? plan.HK() : plan.HQ();
  sort_kernel<Element><<<task.blocks * heads, warps * kWarp, bytes, stream>>>(plan, tensors, task);
  return cudaGetLastError();
}

template <class Element>
Status launch_spatial_labels(const Plan& plan, const Workspace<Element>& workspace, Side side,
                             cudaStream_t stream) {
  const int blocks = blocks_in(plan, plan.fresh_levels);
  if (blocks == 0) return cudaSuccess;
  const bool keys = side == Side::keys;
  spatial_labels_kernel<<<blocks*(keys ? plan.HK() : plan.HQ()), 256, 0, stream>>>(
      plan, side, keys ? workspace.labels_k : workspace.labels_q, keys ? plan.Nk : plan.Nq, blocks);
  return cudaGetLastError();
}

#define MUSE_INSTANTIATE(Element)                                                                       \
  template Status launch_sort<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                       Side, std::int32_t, cudaStream_t);                               \
  template Status launch_spatial_labels<Element>(const Plan&, const Workspace<Element>&, Side, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
