// Clusters: tokens sorted by label, and labels that need no distances (docs/math.md, section 2).
#include "device.cuh"
#include "softmax_merge.cuh"

namespace muse::cuda {
namespace {

constexpr int kSortThreads = 256;
// Counters of all warps of a thread block: one a warp and cluster. 64 KiB run on every device from 8.0 on.
constexpr int kSortCounters = 16 * 1024;

struct SortTask {
  Side side;
  const std::int32_t* labels;  // [heads, levels, N]
  std::int32_t* counts;        // [heads, run_rows]
  std::int32_t* order;         // [heads, levels, N]
  std::int32_t* offsets;       // [heads, clusters + blocks]
  std::int32_t N;
  std::int32_t levels;  // to sort
  std::int32_t blocks;  // of a head, those of these levels
  std::int32_t runs;    // likewise
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

// Sorting the tokens of each block of each level by label is a stable counting sort in three launches:
//   labels [heads, levels, N] -> order [heads, levels, N], offsets [heads, clusters + blocks]
// Every place follows from the labels alone: integers are added in any order, the bits are the same every
// time. Labels outside of [0, C) are left out; a block's query that has one sees nothing. Limits: C <=
// kMaxClusters. Bound by latency: 2 · 4 bytes read and 4 written a token. Reference: make_clusters
// (clusters.cpp). Test: test_cuda_clusters.cpp.

/// How many tokens of each run have each label. Launch: a thread block a run.
__global__ void __launch_bounds__(kSortThreads)
    count_labels_kernel(const __grid_constant__ Plan plan, const SortTask task) {
  extern __shared__ int counters[];  // [C]
  const int head = blockIdx.x / task.runs;
  const TokenRun run =
      token_run(plan, task.levels, task.side, RunTask::count, kWhole, blockIdx.x % task.runs);
  for (int c = threadIdx.x; c < run.C; c += kSortThreads) counters[c] = 0;
  __syncthreads();
  const std::int32_t* const labels =
      task.labels + (std::int64_t{head} * plan.levels + run.level) * task.N + run.tokens.begin;
  for (int n = threadIdx.x; n < run.tokens.count; n += kSortThreads) {
    const int label = labels[n];
    if (label >= 0 && label < run.C) atomicAdd(counters + label, 1);
  }
  __syncthreads();
  std::int32_t* const counts =
      task.counts + head * run_rows(plan, plan.levels, task.side, RunTask::count) + run.row;
  for (int c = threadIdx.x; c < run.C; c += kSortThreads) counts[c] = counters[c];
}

/// Turns counts into places: clusters one after the other, in each cluster run after run. Launch: a thread
/// block a block of a head.
__global__ void __launch_bounds__(kSortThreads)
    places_kernel(const __grid_constant__ Plan plan, const SortTask task) {
  extern __shared__ int total[];  // [C], then an integer a warp
  const int head = blockIdx.x / task.blocks;
  const BlockPlace place = block_place(plan, blockIdx.x % task.blocks);
  const Level& level = plan.level[place.level];
  const int C = task.side == Side::keys ? level.Ck : level.Cq;
  const int runs = level_runs(plan, level, task.side, RunTask::count).runs;
  std::int32_t* const counts = task.counts + head * run_rows(plan, plan.levels, task.side, RunTask::count) +
                               run_rows(plan, place.level, task.side, RunTask::count) +
                               std::int64_t{place.t} * runs * C;
  for (int c = threadIdx.x; c < C; c += kSortThreads) {
    int sum = 0;
#pragma unroll 8
    for (int run = 0; run < runs; ++run) sum += counts[std::int64_t{run} * C + c];
    total[c] = sum;
  }
  __syncthreads();
  const int placed = exclusive_scan(total, C, total + C);
  std::int32_t* const offsets = task.offsets + first_offset(plan, level, head, place.t, task.side);
  for (int c = threadIdx.x; c < C; c += kSortThreads) {
    int first = total[c];
    offsets[c] = first;
#pragma unroll 8
    for (int run = 0; run < runs; ++run) {
      const int count = counts[std::int64_t{run} * C + c];
      counts[std::int64_t{run} * C + c] = first;
      first += count;
    }
  }
  if (threadIdx.x == 0) offsets[C] = placed;
}

/// Puts the tokens of a run into their places. Each warp takes a segment and counts its labels, so that it
/// knows how many go before; a second walk puts its tokens there, and __match_any_sync ranks equal labels by
/// lane. Launch: a thread block a run; fewer warps where C is large.
template <class Element>
__global__ void __launch_bounds__(kSortThreads)
    place_tokens_kernel(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                        const SortTask task) {
  extern __shared__ int counters[];  // [warps, C]
  const int head = blockIdx.x / task.runs;
  const TokenRun run =
      token_run(plan, task.levels, task.side, RunTask::count, kWhole, blockIdx.x % task.runs);
  const int C = run.C, warps = max(1, min(kSortThreads / kWarp, kSortCounters / C));
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t row = (std::int64_t{head} * plan.levels + run.level) * task.N;
  const std::int32_t* const labels = task.labels + row + run.tokens.begin;
  std::int32_t* const order =
      task.order + row + block_tokens(plan, plan.level[run.level], run.t, task.side).begin;

  // Count the labels of this warp's segment.
  const int segment = ceil_div(ceil_div(run.tokens.count, warps), kWarp) * kWarp;
  const int begin = min(warp * segment, run.tokens.count), end = min(begin + segment, run.tokens.count);
  int* const mine = counters + warp * C;
  for (int x = threadIdx.x; x < warps * C; x += kSortThreads) counters[x] = 0;
  __syncthreads();
  if (warp < warps) {
    for (int n = begin + lane; n < end; n += kWarp) {
      const int label = labels[n];
      if (label >= 0 && label < C) atomicAdd(mine + label, 1);
    }
  }
  __syncthreads();
  const std::int32_t* const counts =
      task.counts + head * run_rows(plan, plan.levels, task.side, RunTask::count) + run.row;
  for (int c = threadIdx.x; c < C; c += kSortThreads) {
    int place = counts[c];
    for (int w = 0; w < warps; ++w) {
      const int count = counters[w * C + c];
      counters[w * C + c] = place;
      place += count;
    }
  }
  __syncthreads();
  if (warp >= warps) return;

  for (int n = begin; n < end; n += kWarp) {
    const int label = n + lane < end ? labels[n + lane] : -1;
    const unsigned equal = __match_any_sync(kAllLanes, label);
    const bool valid = label >= 0 && label < C;
    const int rank = __popc(equal & ((1u << lane) - 1));
    if (valid) order[mine[label] + rank] = run.tokens.begin + n + lane;
    __syncwarp();
    if (valid && rank == 0) mine[label] += __popc(equal);
    __syncwarp();
    // A query that is in no cluster sees nothing of the block: nothing is merged into what it has, if it has
    // any.
    const bool block_queries =
        task.side == Side::queries || (task.side == Side::home && plan.home == QueryHome::self);
    if (block_queries && plan.block == 0 && n + lane < end && !valid) {
      const FarOutput<Element> out = far_output(plan, tensors, head, run.tokens.begin + n + lane);
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
                      .counts = keys ? workspace.key_counts : workspace.query_counts,
                      .order = keys ? workspace.key_order : workspace.query_order,
                      .offsets = keys                 ? workspace.key_offsets
                                 : side == Side::home ? workspace.home_offsets
                                                      : workspace.query_offsets,
                      .N = keys ? plan.Nk : plan.Nq,
                      .levels = levels,
                      .blocks = blocks_in(plan, levels),
                      .runs = runs_of_head(plan, levels, side, RunTask::count, kWhole)};
  int most_clusters = 0, counters = 0;  // of the level that has most
  for (int m = 0; m < levels; ++m) {
    const Level& level = plan.level[m];
    const int C = keys ? level.Ck : level.Cq;
    most_clusters = std::max(most_clusters, C);
    counters = std::max(counters, std::max(1, std::min(kSortThreads / kWarp, kSortCounters / C)) * C);
  }
  const int heads = keys ? plan.HK() : plan.HQ();
  const auto bytes = [](int integers) { return static_cast<std::size_t>(integers) * sizeof(int); };
  if (const Status status = allow_shared_memory(place_tokens_kernel<Element>, bytes(counters));
      status != cudaSuccess)
    return status;
  count_labels_kernel<<<task.runs * heads, kSortThreads, bytes(most_clusters), stream>>>(plan, task);
  places_kernel<<<task.blocks * heads, kSortThreads, bytes(most_clusters + kSortThreads / kWarp), stream>>>(
      plan, task);
  place_tokens_kernel<Element>
      <<<task.runs * heads, kSortThreads, bytes(counters), stream>>>(plan, tensors, task);
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
