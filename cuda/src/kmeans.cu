// Lloyd's k-means with evenly strided seeds, of all blocks of all levels at once (docs/math.md, section 2).
#include "kmeans_mma.cuh"
#include "kmeans_scalar.cuh"

namespace muse::cuda {
namespace {

constexpr int kMeansWarps = 4;
constexpr int kMembersWarps = 8;  // that share the members of a cluster

// A cluster of a head among those of all levels: its block, and its index there.
struct ClusterPlace {
  int level, t, c;
};
__device__ ClusterPlace cluster_place(const Plan& plan, Side side, int cluster) {
  const auto first_of = [&](int m) {
    return side == Side::keys ? plan.level[m].key_cluster : plan.level[m].query_cluster;
  };
  int m = 0;
  while (m + 1 < plan.levels && cluster >= first_of(m + 1)) ++m;
  const int C = side == Side::keys ? plan.level[m].Ck : plan.level[m].Cq;
  const int in_level = cluster - first_of(m);
  return {m, in_level / C, in_level % C};
}

// The clusters of the first levels: `of_head` of them a head. Warp w of a launch works on one of them.
struct ClusterIndex {
  int head, cluster;
};
__device__ ClusterIndex warp_cluster(int of_head) {
  const std::int64_t warp = std::int64_t{blockIdx.x} * kMeansWarps + threadIdx.x / kWarp;
  return {static_cast<int>(warp / of_head), static_cast<int>(warp % of_head)};
}

// (2.4) How many tokens each token of a merge_plan stands for: cluster u of window t has offsets[t (C + 1) +
// u + 1] less offsets[t (C + 1) + u] of them. Null: each is one token.
struct Weights {
  const std::int32_t* offsets = nullptr;
  int clusters = 1;          // C, of a window
  std::int64_t of_head = 0;  // entries of a head

  [[nodiscard]] __device__ int of(int head, int n) const {
    if (offsets == nullptr) return 1;
    const std::int32_t* const count = offsets + head * of_head + n / clusters * (clusters + 1) + n % clusters;
    return count[1] - count[0];
  }
};

// Stores feature `at` of a mean, and what rounding takes from it where there is a place for that; returns it
// as it is stored.
template <class Mean>
__device__ float store_mean(float mean, std::int64_t at, Mean* means, Mean* residuals) {
  means[at] = from_float<Mean>(mean);
  const float stored = to_float(means[at]);
  if (residuals == nullptr) return stored;
  residuals[at] = from_float<Mean>(mean - stored);
  return stored + to_float(residuals[at]);
}

/// (2.2) Means of the members of each cluster: mean_c = sum over n in c of w_n x_n / sum of w_n.
///   x by order and offsets -> means [heads, clusters, width], half_norms [heads, clusters] = -|mean|²/2
/// Launch: a thread block of 8 warps a cluster. Lanes move 16 bytes each, so that a warp reads several rows
/// at once (4 rows of 64 halves); every lane sums its rows in float32 in rising order, then the lanes of one
/// feature are summed in rising order, then the warps: the bits follow from the list of members alone. Bound
/// by memory: each row is read once, sizeof(Element) · width bytes. Limits: rows begin at multiples of 16
/// bytes, width <= 256. Reference: make_clusters (clusters.cpp). Test: test_cuda_kmeans.cpp.
template <class Element, class Mean>
__global__ void __launch_bounds__(kMembersWarps* kWarp)
    means_kernel(const __grid_constant__ Plan plan, const Side side, const Element* x, const Strides strides,
                 const int heads, const int width, const std::int32_t* order, const std::int32_t* offsets,
                 Mean* means, Mean* residuals, float* half_norms, const EmptyCluster empty, const int of_head,
                 const Weights weights) {
  __shared__ float sums[kMembersWarps][256];
  const bool keys = side == Side::keys;
  const int clusters = keys ? plan.key_clusters : plan.query_clusters, N = keys ? plan.Nk : plan.Nq;
  const int head = static_cast<int>(blockIdx.x) / of_head, cluster = static_cast<int>(blockIdx.x) % of_head;
  const std::int64_t index = std::int64_t{head} * clusters + cluster;
  const ClusterPlace place = cluster_place(plan, side, cluster);
  const Level& level = plan.level[place.level];
  const std::int32_t* const range = offsets + first_offset(plan, level, head, place.t, side) + place.c;
  const std::int32_t* const members = order + (std::int64_t{head} * plan.levels + place.level) * N +
                                      block_tokens(plan, level, place.t, side).begin;
  const int begin = range[0], end = range[1];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  int count = end - begin;
  if (weights.offsets != nullptr) {
    count = 0;
    for (int p = begin + lane; p < end; p += kWarp) count += weights.of(head, members[p]);
    count = __reduce_add_sync(kAllLanes, count);
  }
  if (count == 0 && empty == EmptyCluster::keep) return;

  constexpr int kV = kVector<Element>;
  const Element* const rows = head_rows(x, strides, heads, head);
  const int lanes = min(kWarp, width / kV);  // of a row
  const int rows_at_once = kWarp / lanes;
  const int row = lane / lanes;
  for (int d0 = lane % lanes * kV; d0 < width + lane % lanes * kV; d0 += lanes * kV) {
    float sum[kV] = {};
    if (row < rows_at_once && d0 < width) {
#pragma unroll 4
      for (int p = begin + warp * rows_at_once + row; p < end; p += kMembersWarps * rows_at_once) {
        float x_p[kV];
        load_vector(rows + members[p] * strides.token + d0, x_p);
        const auto w = static_cast<float>(weights.of(head, members[p]));
#pragma unroll
        for (int e = 0; e < kV; ++e) sum[e] = fmaf(w, x_p[e], sum[e]);
      }
    }
    // Sum the rows that were read at once.
    for (int other = 1; other < rows_at_once; ++other)
#pragma unroll
      for (int e = 0; e < kV; ++e) {
        const float part = __shfl_sync(kAllLanes, sum[e], (other * lanes + lane % lanes) % kWarp);
        if (row == 0) sum[e] += part;
      }
    if (row == 0 && d0 < width)
#pragma unroll
      for (int e = 0; e < kV; ++e) sums[warp][d0 + e] = sum[e];
  }
  __syncthreads();
  if (warp > 0) return;
  float norm = 0;  // |mean|², of the mean as it is stored
  for (int d = lane; d < width; d += kWarp) {
    float sum = sums[0][d];
#pragma unroll
    for (int other = 1; other < kMembersWarps; ++other) sum += sums[other][d];
    const float mean =
        store_mean(sum / static_cast<float>(max(count, 1)), index * width + d, means, residuals);
    norm = fmaf(mean, mean, norm);
  }
  norm = warp_sum(norm);
  if (half_norms != nullptr && lane == 0) half_norms[index] = count > 0 ? -0.5f * norm : kMinusInfinity;
}

/// (2.2) Means from the sums of the runs: mean_c = sum of sums / sum of counts, run after run.
///   sums [heads, run_rows, D + 8] -> centroids [heads, clusters, D], half_norms [heads, clusters]
/// Launch: a warp a cluster, 4 a block. Reference: make_clusters (clusters.cpp). Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(kMeansWarps* kWarp)
    means_of_sums_kernel(const __grid_constant__ Plan plan, const Side side, const int heads,
                         const float* sums, Element* means, Element* residuals, float* half_norms,
                         const EmptyCluster empty, const int of_head) {
  const bool keys = side == Side::keys;
  const auto [head, cluster] = warp_cluster(of_head);
  if (head >= plan.batch * heads) return;
  const std::int64_t index = std::int64_t{head} * (keys ? plan.key_clusters : plan.query_clusters) + cluster;
  const ClusterPlace place = cluster_place(plan, side, cluster);
  const Level& level = plan.level[place.level];
  const int C = keys ? level.Ck : level.Cq, runs = level_runs(plan, level, side, RunTask::sum).runs;
  const int width = plan.D + 8, lane = threadIdx.x % kWarp;
  const float* const first =
      sums + (head * run_rows(plan, plan.levels, side, RunTask::sum) +
              run_rows(plan, place.level, side, RunTask::sum) + std::int64_t{place.t} * runs * C + place.c) *
                 width;
  const auto sum_of = [&](int column) {
    float sum = 0;
#pragma unroll 4
    for (int run = 0; run < runs; ++run) sum += first[std::int64_t{run} * C * width + column];
    return sum;
  };
  const float count = sum_of(plan.D);
  if (count == 0 && empty == EmptyCluster::keep) return;
  float norm = 0;  // |mean|², of the mean as it is stored
  for (int d = lane; d < plan.D; d += kWarp) {
    const float mean = store_mean(sum_of(d) / fmaxf(count, 1), index * plan.D + d, means, residuals);
    norm = fmaf(mean, mean, norm);
  }
  norm = warp_sum(norm);
  if (lane == 0) half_norms[index] = count > 0 ? -0.5f * norm : kMinusInfinity;
}

/// (2.2) First centroids: token floor(c N / C) + floor(N / (2 C)) of the block's N, or for a seed other than
/// 0 a drawn one of each stride. Tokens of weight 0, which stand for empty clusters of windows, do not count.
/// Launch: a warp a cluster, 4 a block. Reference: seed_tokens (kmeans.cpp), merge_windows
/// (muse_attention.cpp). Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(kMeansWarps* kWarp)
    seeds_kernel(const __grid_constant__ Plan plan, const Side side, const Element* x, const Strides strides,
                 const int heads, const std::uint64_t* draws, Element* centroids, Element* residuals,
                 float* half_norms, const int of_head, const Weights weights) {
  const int clusters = side == Side::keys ? plan.key_clusters : plan.query_clusters;
  const auto [head, cluster] = warp_cluster(of_head);
  if (head >= plan.batch * heads) return;
  const std::int64_t index = std::int64_t{head} * clusters + cluster;
  const ClusterPlace place = cluster_place(plan, side, cluster);
  const Level& level = plan.level[place.level];
  const TokenSpan tokens = block_tokens(plan, level, place.t, side);
  // Which of 32 tokens count.
  const auto present = [&](int n0) {
    const int n = n0 + threadIdx.x % kWarp;
    return __ballot_sync(kAllLanes, n < tokens.count && weights.of(head, tokens.begin + n) > 0);
  };
  std::int64_t N = tokens.count;
  if (weights.offsets != nullptr) {
    N = 0;
    for (int n0 = 0; n0 < tokens.count; n0 += kWarp) N += __popc(present(n0));
  }
  const std::int64_t C = min(N, std::int64_t{block_clusters(plan, level, place.t, side)}), c = place.c;
  std::int64_t token = 0;  // clusters beyond C are never candidates
  if (c < C) {
    const std::int64_t begin = c * N / C, end = (c + 1) * N / C;
    token = plan.seed == 0
                ? min(begin + N / (2 * C), end - 1)
                : begin + static_cast<std::int64_t>(draws[c] % static_cast<std::uint64_t>(end - begin));
    if (weights.offsets != nullptr) {
      // The token-th of those that count.
      int n0 = 0, before = 0;
      for (int count; before + (count = __popc(present(n0))) <= token; n0 += kWarp) before += count;
      token = n0 + __fns(present(n0), 0, static_cast<int>(token) - before + 1);
    }
  }
  const Element* const row = head_rows(x, strides, heads, head) + (tokens.begin + token) * strides.token;
  float norm = 0;
  for (int d = threadIdx.x % kWarp; d < plan.D; d += kWarp) {
    const float seed = store_mean(to_float(row[d]), index * plan.D + d, centroids, residuals);
    norm = fmaf(seed, seed, norm);
  }
  norm = warp_sum(norm);
  if (threadIdx.x % kWarp == 0) half_norms[index] = c < C ? -0.5f * norm : kMinusInfinity;
}

/// The first `count` numbers of the standard generator mt19937_64 with this seed, which the reference draws
/// from. Launch: one thread; C numbers in all, once a call. Reference: seed_tokens (kmeans.cpp). Test:
/// test_cuda_kmeans.cpp.
__global__ void draws_kernel(const std::uint64_t seed, const int count, std::uint64_t* draws) {
  constexpr int kWords = 312, kMiddle = 156;
  constexpr std::uint64_t kUpper = 0xffffffff80000000ull, kLower = 0x7fffffffull;
  __shared__ std::uint64_t state[kWords];
  state[0] = seed;
  for (int w = 1; w < kWords; ++w)
    state[w] = 6364136223846793005ull * (state[w - 1] ^ (state[w - 1] >> 62)) + static_cast<std::uint64_t>(w);
  for (int x = 0; x < count; ++x) {
    const int w = x % kWords;
    if (w == 0) {
      for (int i = 0; i < kWords; ++i) {
        const std::uint64_t bits = (state[i] & kUpper) | (state[(i + 1) % kWords] & kLower);
        state[i] =
            state[(i + kMiddle) % kWords] ^ (bits >> 1) ^ ((bits & 1) != 0 ? 0xb5026f5aa96619e9ull : 0);
      }
    }
    std::uint64_t y = state[w];
    y ^= (y >> 29) & 0x5555555555555555ull;
    y ^= (y << 17) & 0x71d67fffeda60000ull;
    y ^= (y << 37) & 0xfff7eee000000000ull;
    draws[x] = y ^ (y >> 43);
  }
}

/// (2.3) Covariance of each block's keys: Cov = sum_n x_n x_nᵀ / N - m mᵀ with x_n = k_n less the block's
/// first key and m the mean of x_n. Subtracting a key first costs nothing and keeps a large common part out
/// of the difference.
///   k -> key_covariance [HK, blocks, D, D]
/// Launch: 256 threads a (block of a head, 16 rows of Cov); keys go through shared memory 32 at a time.
/// Reference: key_covariance_root (clusters.cpp), whose square root is not needed here. Test:
/// test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(256)
    key_covariance_kernel(const __grid_constant__ Plan plan, const Element* k, float* covariance) {
  constexpr int kStrip = 16, kTokens = 32;
  extern __shared__ float x[];  // [kTokens, D]
  const int D = plan.D, strips = ceil_div(D, kStrip);
  const int d0 = blockIdx.x % strips * kStrip, block = blockIdx.x / strips % plan.blocks;
  const int head = blockIdx.x / strips / plan.blocks;
  const BlockPlace place = block_place(plan, block);
  const TokenSpan tokens = block_tokens(plan, plan.level[place.level], place.t, Side::keys);
  const Element* const rows = head_rows(k, plan.k, plan.heads_kv, head) + tokens.begin * plan.k.token;
  // Thread `column` holds the strip's rows of one column of Cov, and the sums of its column and of those
  // rows.
  const int column = threadIdx.x;
  float products[kStrip] = {}, sums[kStrip] = {}, sum = 0;
  for (int n0 = 0; n0 < tokens.count; n0 += kTokens) {
    const int count = min(kTokens, tokens.count - n0);
    __syncthreads();
    for (int e = threadIdx.x; e < count * D; e += blockDim.x)
      x[e] = to_float(rows[(n0 + e / D) * plan.k.token + e % D]) - to_float(rows[e % D]);
    __syncthreads();
    if (column >= D) continue;
    for (int n = 0; n < count; ++n) {
      const float x_n = x[n * D + column];
      sum += x_n;
#pragma unroll
      for (int d = 0; d < kStrip; ++d) {
        const float x_d = d0 + d < D ? x[n * D + d0 + d] : 0;
        sums[d] += x_d;
        products[d] = fmaf(x_d, x_n, products[d]);
      }
    }
  }
  if (column >= D) return;
  const float N = static_cast<float>(tokens.count);
#pragma unroll
  for (int d = 0; d < kStrip; ++d)
    if (d0 + d < D)
      covariance[((std::int64_t{head} * plan.blocks + block) * D + d0 + d) * D + column] =
          products[d] / N - (sums[d] / N) * (sum / N);
}

/// (2.3) The query centroids times their block's key covariance, which assignment in the key metric asks for.
///   query_centroids [HQ, query_clusters, D] -> metric_centroids, likewise in float32
/// Launch: a thread an element, 256 a block. Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(256)
    metric_centroids_kernel(const __grid_constant__ Plan plan, const Workspace<Element> workspace) {
  const std::int64_t index = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const std::int64_t cluster = index / plan.D;  // of all heads
  if (cluster >= std::int64_t{plan.HQ()} * plan.query_clusters) return;
  const int column = static_cast<int>(index % plan.D), head = static_cast<int>(cluster / plan.query_clusters);
  const ClusterPlace place = cluster_place(plan, Side::home, static_cast<int>(cluster % plan.query_clusters));
  const std::int64_t block =
      std::int64_t{plan.key_head(head)} * plan.blocks + plan.level[place.level].block + place.t;
  const float* const covariance = workspace.key_covariance + block * plan.D * plan.D;
  const Element* const c = workspace.query_centroids + cluster * plan.D;
  float dot = 0;
  for (int d = 0; d < plan.D; ++d) dot = fmaf(to_float(c[d]), covariance[d * plan.D + column], dot);
  workspace.metric_centroids[index] = dot;
}

unsigned cluster_grid(std::int64_t clusters) {
  return static_cast<unsigned>((clusters + kMeansWarps - 1) / kMeansWarps);
}

template <class Element>
Status launch_metric_centroids(const Plan& plan, const Workspace<Element>& workspace, cudaStream_t stream) {
  const std::int64_t threads = std::int64_t{plan.HQ()} * plan.query_clusters * plan.D;
  metric_centroids_kernel<Element>
      <<<static_cast<unsigned>((threads + 255) / 256), 256, 0, stream>>>(plan, workspace);
  return cudaGetLastError();
}

template <class Element>
Status launch_key_covariance(const Plan& plan, const Tensors<Element>& tensors,
                             const Workspace<Element>& workspace, cudaStream_t stream) {
  const std::int64_t grid = std::int64_t{plan.HK()} * plan.blocks * ceil_div(plan.D, 16);
  key_covariance_kernel<Element>
      <<<static_cast<unsigned>(grid), 256, sizeof(float) * static_cast<std::size_t>(32 * plan.D), stream>>>(
          plan, tensors.k, workspace.key_covariance);
  return cudaGetLastError();
}

}  // namespace

// Ends a sequence of launches at the first that fails.
#define MUSE_TRY(launch) \
  if (const Status status = (launch); status != cudaSuccess) return status

namespace {

// The means that the sums of runs make.
template <class Element>
Status launch_means_of_sums(const Plan& plan, const Workspace<Element>& workspace, Side side,
                            EmptyCluster empty, std::int32_t levels, cudaStream_t stream) {
  const bool keys = side == Side::keys;
  const int of_head = clusters_in(plan, side, levels);
  means_of_sums_kernel<Element><<<cluster_grid(std::int64_t{keys ? plan.HK() : plan.HQ()} * of_head),
                                  kMeansWarps * kWarp, 0, stream>>>(
      plan, side, keys ? plan.heads_kv : plan.heads_q, keys ? workspace.key_sums : workspace.query_sums,
      keys ? workspace.key_centroids : workspace.query_centroids,
      keys ? workspace.key_residuals : workspace.query_residuals,
      keys ? workspace.key_half_norms : workspace.query_half_norms, empty, of_head);
  return cudaGetLastError();
}

// Means of a k-means pass from labels alone, unsorted, by the tensor cores; nothing where they do not serve.
// Weights, which come with float32 alone, need none.
template <class Element>
std::optional<Status> launch_means_of_labels(const Plan& plan, const Tensors<Element>& tensors,
                                             const Workspace<Element>& workspace, Side side,
                                             cudaStream_t stream) {
  if constexpr (has_tensor_cores<Element>) {
    const std::optional<Status> summed = with_tuned_dim(plan, [&](auto dim) {
      return launch_sums<dim()>(plan, tensors, workspace, side, plan.fresh_levels, stream);
    });
    if (!summed || *summed != cudaSuccess) return summed;
    return launch_means_of_sums(plan, workspace, side, EmptyCluster::keep, plan.fresh_levels, stream);
  }
  return std::nullopt;
}

// Means of sorted tokens, each of which may stand for several, into `means`; into `residuals`, if not null,
// what rounding takes from them.
template <class Element, class Mean>
Status launch_means_of_sorted(const Plan& plan, const Tensors<Element>& tensors,
                              const Workspace<Element>& workspace, Side side, EmptyCluster empty,
                              std::int32_t levels, const Weights& weights, Mean* means, Mean* residuals,
                              cudaStream_t stream) {
  const bool keys = side == Side::keys;
  const int of_head = clusters_in(plan, side, levels);
  means_kernel<Element>
      <<<static_cast<unsigned>(keys ? plan.HK() : plan.HQ()) * of_head, kMembersWarps * kWarp, 0, stream>>>(
          plan, side, keys ? tensors.k : tensors.q, keys ? plan.k : plan.q,
          keys ? plan.heads_kv : plan.heads_q, plan.D, keys ? workspace.key_order : workspace.query_order,
          keys ? workspace.key_offsets : workspace.home_offsets, means, residuals,
          keys ? workspace.key_half_norms : workspace.query_half_norms, empty, of_head, weights);
  return cudaGetLastError();
}
template <class Element>
Status launch_means_of_sorted(const Plan& plan, const Tensors<Element>& tensors,
                              const Workspace<Element>& workspace, Side side, EmptyCluster empty,
                              std::int32_t levels, const Weights& weights, cudaStream_t stream) {
  return launch_means_of_sorted(plan, tensors, workspace, side, empty, levels, weights,
                                side == Side::keys ? workspace.key_centroids : workspace.query_centroids,
                                side == Side::keys ? workspace.key_residuals : workspace.query_residuals,
                                stream);
}

}  // namespace

template <class Element>
Status launch_means(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, EmptyCluster empty, std::int32_t levels, cudaStream_t stream) {
  if (clusters_in(plan, side, levels) == 0) return cudaSuccess;
  MUSE_TRY(launch_means_of_sorted(plan, tensors, workspace, side, empty, levels, Weights(), stream));
  return side != Side::keys && plan.key_metric != 0 ? launch_metric_centroids(plan, workspace, stream)
                                                    : cudaSuccess;
}

template <class Element>
Status launch_value_means(const Plan& plan, const Tensors<Element>& tensors,
                          const Workspace<Element>& workspace, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  means_kernel<Element>
      <<<static_cast<unsigned>(plan.HK()) * plan.key_clusters, kMembersWarps * kWarp, 0, stream>>>(
          plan, Side::keys, tensors.v, plan.v, plan.heads_kv, plan.Dv, workspace.key_order,
          workspace.key_offsets, workspace.value_means, static_cast<Element*>(nullptr), nullptr,
          EmptyCluster::zero, plan.key_clusters, Weights());
  return cudaGetLastError();
}

namespace {

// launch_seeds, with weights.
template <class Element>
Status launch_weighted_seeds(const Plan& plan, const Tensors<Element>& tensors,
                             const Workspace<Element>& workspace, Side side, const Weights& weights,
                             cudaStream_t stream) {
  const bool keys = side == Side::keys;
  const int of_head = clusters_in(plan, side, plan.fresh_levels);
  if (of_head == 0) return cudaSuccess;
  if (plan.seed != 0) {
    int most = 0;
    for (int m = 0; m < plan.fresh_levels; ++m) most = std::max({most, plan.level[m].Ck, plan.level[m].Cq});
    draws_kernel<<<1, 1, 0, stream>>>(plan.seed, most, workspace.draws);
    MUSE_TRY(cudaGetLastError());
  }
  const std::int64_t clusters = std::int64_t{keys ? plan.HK() : plan.HQ()} * of_head;
  seeds_kernel<Element><<<cluster_grid(clusters), kMeansWarps * kWarp, 0, stream>>>(
      plan, side, keys ? tensors.k : tensors.q, keys ? plan.k : plan.q, keys ? plan.heads_kv : plan.heads_q,
      workspace.draws, keys ? workspace.key_centroids : workspace.query_centroids,
      keys ? workspace.key_residuals : workspace.query_residuals,
      keys ? workspace.key_half_norms : workspace.query_half_norms, of_head, weights);
  MUSE_TRY(cudaGetLastError());
  return !keys && plan.key_metric != 0 ? launch_metric_centroids(plan, workspace, stream) : cudaSuccess;
}

}  // namespace

template <class Element>
Status launch_seeds(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, cudaStream_t stream) {
  return launch_weighted_seeds(plan, tensors, workspace, side, Weights(), stream);
}

template <class Element>
Status launch_assign(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                     Side side, cudaStream_t stream) {
  if ((side == Side::queries ? plan.levels : plan.fresh_levels) == 0) return cudaSuccess;
  if constexpr (has_tensor_cores<Element>) {
    if (side == Side::keys || plan.key_metric == 0) {
      const std::optional<Status> launched = with_tuned_dim(
          plan, [&](auto dim) { return launch_assign_mma<dim()>(plan, tensors, workspace, side, stream); });
      if (launched) return *launched;
    }
  }
  return launch_assign_scalar(plan, tensors, workspace, side, stream);
}

namespace {

// Labels, and at once the sums that their means are made of; nothing where the tensor cores do not serve.
template <class Element>
std::optional<Status> launch_assign_and_sum(const Plan& plan, const Tensors<Element>& tensors,
                                            const Workspace<Element>& workspace, Side side,
                                            cudaStream_t stream) {
  if constexpr (has_tensor_cores<Element>) {
    if (side == Side::keys || plan.key_metric == 0)
      return with_tuned_dim(plan, [&](auto dim) {
        return launch_assign_and_sum_mma<dim()>(plan, tensors, workspace, side, stream);
      });
  }
  return std::nullopt;
}

// launch_pass, with weights.
template <class Element>
Status launch_weighted_pass(const Plan& plan, const Tensors<Element>& tensors,
                            const Workspace<Element>& workspace, Side side, const Weights& weights,
                            cudaStream_t stream) {
  const std::optional<Status> launched = launch_assign_and_sum(plan, tensors, workspace, side, stream);
  if (launched) {
    MUSE_TRY(*launched);
    return launch_means_of_sums(plan, workspace, side, EmptyCluster::keep, plan.fresh_levels, stream);
  }
  MUSE_TRY(launch_assign(plan, tensors, workspace, side, stream));
  const std::optional<Status> averaged = launch_means_of_labels(plan, tensors, workspace, side, stream);
  if (averaged) {
    MUSE_TRY(*averaged);
  } else {
    MUSE_TRY(launch_sort(plan, tensors, workspace, side, plan.fresh_levels, stream));
    MUSE_TRY(launch_means_of_sorted(plan, tensors, workspace, side, EmptyCluster::keep, plan.fresh_levels,
                                    weights, stream));
  }
  return side != Side::keys && plan.key_metric != 0 ? launch_metric_centroids(plan, workspace, stream)
                                                    : cudaSuccess;
}

// (2.2) Labels of the tokens of all levels that cluster afresh. `summed`, if not null, asks for the sums of
// those labels too, and becomes whether they are there.
template <class Element>
Status label_afresh(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, const Weights& weights, bool* summed, cudaStream_t stream) {
  if (plan.clustering == Clustering::spatial) return launch_spatial_labels(plan, workspace, side, stream);
  // The passes look at a sample, whose labels and order do not matter afterwards.
  const Plan sampled = plan.sample > 1 ? sample_plan(plan) : plan;
  Workspace<Element> passing = workspace;
  passing.key_norms = nullptr;  // for the final assignment
  if (plan.sample > 1) {
    passing.labels_k = workspace.sample_labels_k;
    passing.labels_q = workspace.sample_labels_q;
  }
  MUSE_TRY(launch_weighted_seeds(sampled, tensors, passing, side, weights, stream));
  for (std::int32_t pass = 0; pass < plan.passes; ++pass)
    MUSE_TRY(launch_weighted_pass(sampled, tensors, passing, side, weights, stream));
  if (summed != nullptr) {
    const std::optional<Status> launched = launch_assign_and_sum(plan, tensors, workspace, side, stream);
    *summed = launched.has_value();
    if (launched) return *launched;
  }
  return launch_assign(plan, tensors, workspace, side, stream);
}

/// (2.4) Labels of the merged levels: what became of the cluster that each token has in its window.
///   labels [H, 1, N] of windows, merged_labels [H, merged levels, windows · clusters] -> labels [H, levels,
///   N]
/// Launch: a thread a token of a level, 256 a block; grid tokens, heads · merged levels.
/// Reference: merge_windows (muse_attention.cpp). Test: test_cuda_kmeans.cpp.
__global__ void __launch_bounds__(256)
    merged_labels_kernel(const __grid_constant__ Plan plan, const Side side, const int clusters,
                         const std::int32_t* window_labels, const std::int32_t* merged_labels,
                         const int merged_tokens, std::int32_t* labels) {
  const int N = side == Side::keys ? plan.Nk : plan.Nq, merged = plan.levels - plan.fresh_levels;
  const int n = blockIdx.x * blockDim.x + threadIdx.x, head = blockIdx.y / merged, x = blockIdx.y % merged;
  if (n >= N) return;
  const int m = plan.fresh_levels + x;
  const Level& level = plan.level[m];
  const int t = plan.block > 0 ? n / (2 * level.S) : 0;
  if (t >= level.blocks) return;
  const TokenSpan tokens = block_tokens(plan, level, t, side);
  if (n < tokens.begin || n >= tokens.begin + tokens.count) return;
  const int u = n / plan.window * clusters + window_labels[std::int64_t{head} * N + n];
  labels[(std::int64_t{head} * plan.levels + m) * N + n] =
      merged_labels[(std::int64_t{head} * merged + x) * merged_tokens + u];
}

// A workspace that has these tables, for `side` alone, and takes the rest from `other`.
template <class Element, class Other>
Workspace<Element> workspace_of(const ClusterTables<Element>& tables, Side side,
                                const Workspace<Other>& other) {
  const bool keys = side == Side::keys;
  Workspace<Element> result;
  result.draws = other.draws;
  result.sample_labels_k = other.sample_labels_k;
  result.sample_labels_q = other.sample_labels_q;
  (keys ? result.labels_k : result.labels_q) = tables.labels;
  (keys ? result.key_order : result.query_order) = tables.order;
  (keys ? result.key_offsets : result.home_offsets) = tables.offsets;
  (keys ? result.key_counts : result.query_counts) = tables.counts;
  (keys ? result.key_sums : result.query_sums) = tables.sums;
  (keys ? result.key_centroids : result.query_centroids) = tables.centroids;
  (keys ? result.key_residuals : result.query_residuals) = tables.residuals;
  (keys ? result.key_half_norms : result.query_half_norms) = tables.half_norms;
  return result;
}

// (2.4) Clusters of all windows, merged upwards into labels of the levels that do not cluster afresh.
template <class Element>
Status label_from_windows(const Plan& plan, const Tensors<Element>& tensors,
                          const Workspace<Element>& workspace, Side side, cudaStream_t stream) {
  const bool keys = side == Side::keys;
  const WindowTables<Element>& w = workspace.windows;
  const Windows& windows = keys ? plan.windows_k : plan.windows_q;
  // Cluster the windows.
  const Plan of_windows = window_plan(plan, side);
  const Workspace<Element> tables = workspace_of(w.of_windows, side, workspace);
  MUSE_TRY(label_afresh(of_windows, tensors, tables, side, Weights(), nullptr, stream));
  MUSE_TRY(launch_sort(of_windows, tensors, tables, side, 1, stream));
  MUSE_TRY(launch_means_of_sorted(of_windows, tensors, tables, side, EmptyCluster::zero, 1, Weights(),
                                  w.means, static_cast<float*>(nullptr), stream));
  // Merge their clusters, each weighted by its tokens: in float32, as means are sums of many numbers.
  Plan of_merging = merge_plan(plan, side);
  of_merging.clustering = Clustering::kmeans;
  Tensors<float> means;
  (keys ? means.k : means.q) = w.means;
  const Workspace<float> merging = workspace_of(w.of_merging, side, workspace);
  const Weights weights{.offsets = w.of_windows.offsets,
                        .clusters = windows.clusters,
                        .of_head = std::int64_t{windows.count} * (windows.clusters + 1)};
  MUSE_TRY(label_afresh(of_merging, means, merging, side, weights, nullptr, stream));
  const int N = keys ? plan.Nk : plan.Nq, merged = plan.levels - plan.fresh_levels;
  const dim3 grid(static_cast<unsigned>(ceil_div(N, 256)),
                  static_cast<unsigned>((keys ? plan.HK() : plan.HQ()) * merged));
  merged_labels_kernel<<<grid, 256, 0, stream>>>(plan, side, windows.clusters, w.of_windows.labels,
                                                 w.of_merging.labels, of_merging.Nk,
                                                 keys ? workspace.labels_k : workspace.labels_q);
  return cudaGetLastError();
}

// Whether the assignment of keys on the tensor cores takes their norms by the way, of all levels.
template <class Element>
bool has_norms_with_labels(const Plan& plan, bool labels_given) {
  if (labels_given || plan.clustering != Clustering::kmeans || plan.window > 0) return false;
  return has_tensor_cores<Element> && with_tuned_dim(plan, [](auto) { return cudaSuccess; }).has_value();
}

// Labels of the keys, or of the home's queries, of all levels; sorted. `summed` as in label_afresh.
template <class Element>
Status label_and_sort(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                      Side side, bool labels_given, bool* summed, cudaStream_t stream) {
  if (!labels_given && plan.fresh_levels > 0)
    MUSE_TRY(label_afresh(plan, tensors, workspace, side, Weights(), summed, stream));
  if (!labels_given && plan.window > 0) MUSE_TRY(label_from_windows(plan, tensors, workspace, side, stream));
  return launch_sort(plan, tensors, workspace, side, plan.levels, stream);
}

}  // namespace

template <class Element>
Status launch_pass(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                   Side side, cudaStream_t stream) {
  return launch_weighted_pass(plan, tensors, workspace, side, Weights(), stream);
}

template <class Element>
Status cluster_keys(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    bool labels_given, cudaStream_t stream) {
  const bool norms_with_labels = has_norms_with_labels<Element>(plan, labels_given);
  Workspace<Element> labelling = workspace;
  if (!norms_with_labels) labelling.key_norms = nullptr;
  MUSE_TRY(label_and_sort(plan, tensors, labelling, Side::keys, labels_given, nullptr, stream));
  if (!norms_with_labels) MUSE_TRY(launch_key_norms(plan, tensors, workspace, stream));
  if (plan.order != ExpansionOrder::centroid) return cudaSuccess;
  MUSE_TRY(launch_means(plan, tensors, workspace, Side::keys, EmptyCluster::zero, plan.levels, stream));
  return launch_value_means(plan, tensors, workspace, stream);
}

template <class Element>
Status cluster_queries(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                       bool labels_given, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  if (plan.key_metric != 0) MUSE_TRY(launch_key_covariance(plan, tensors, workspace, stream));
  bool summed = false;
  MUSE_TRY(label_and_sort(plan, tensors, workspace, Side::home, labels_given,
                          plan.window == 0 ? &summed : nullptr, stream));
  if (summed) {
    MUSE_TRY(launch_means_of_sums(plan, workspace, Side::home, EmptyCluster::zero, plan.levels, stream));
  } else {
    MUSE_TRY(launch_means(plan, tensors, workspace, Side::home, EmptyCluster::zero, plan.levels, stream));
  }
  if (plan.home == QueryHome::self)
    return cudaSuccess;  // the block's queries are their own home, sorted already
  if (!labels_given) MUSE_TRY(launch_assign(plan, tensors, workspace, Side::queries, stream));
  return launch_sort(plan, tensors, workspace, Side::queries, plan.levels, stream);
}

#define MUSE_INSTANTIATE(Element)                                                                           \
  template Status launch_means<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        Side, EmptyCluster, std::int32_t, cudaStream_t);                    \
  template Status launch_value_means<Element>(const Plan&, const Tensors<Element>&,                         \
                                              const Workspace<Element>&, cudaStream_t);                     \
  template Status launch_seeds<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        Side, cudaStream_t);                                                \
  template Status launch_assign<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,   \
                                         Side, cudaStream_t);                                               \
  template Status launch_pass<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,     \
                                       Side, cudaStream_t);                                                 \
  template Status cluster_keys<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        bool, cudaStream_t);                                                \
  template Status cluster_queries<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                           bool, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
