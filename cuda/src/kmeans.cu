// Lloyd's k-means with evenly strided seeds, of all blocks of all levels at once (docs/math.md, section 2).
#include "kmeans_mma.cuh"
#include "kmeans_scalar.cuh"

namespace muse::cuda {
namespace {

constexpr int kMeansWarps = 4;

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

/// (2.2) Means of the members of each cluster: mean_c = sum over n in c of x_n / |c|.
///   x by order and offsets -> means [heads, clusters, width]
/// Launch: a warp a cluster, 4 a block. Lanes move 16 bytes each, so that a warp reads several rows at once
/// (4 rows of 64 halves); every lane sums its rows in float32 in rising order, then the lanes of one feature
/// are summed in rising order: the bits follow from the list of members alone. Bound by memory: each row is
/// read once, sizeof(Element) · width bytes. Limits: rows begin at multiples of 16 bytes. Reference:
/// make_clusters (clusters.cpp). Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(kMeansWarps* kWarp)
    means_kernel(const __grid_constant__ Plan plan, const Side side, const Element* x, const Strides strides,
                 const int heads, const int width, const std::int32_t* order, const std::int32_t* offsets,
                 Element* means, float* half_norms, const EmptyCluster empty) {
  const bool keys = side == Side::keys;
  const int clusters = keys ? plan.key_clusters : plan.query_clusters, N = keys ? plan.Nk : plan.Nq;
  const std::int64_t index = std::int64_t{blockIdx.x} * kMeansWarps + threadIdx.x / kWarp;
  const int head = static_cast<int>(index / clusters);
  if (head >= plan.batch * heads) return;
  const ClusterPlace place = cluster_place(plan, side, static_cast<int>(index % clusters));
  const Level& level = plan.level[place.level];
  const std::int32_t* const range = offsets + first_offset(plan, level, head, place.t, side) + place.c;
  const std::int32_t* const members = order + (std::int64_t{head} * plan.levels + place.level) * N +
                                      block_tokens(plan, level, place.t, side).begin;
  const int begin = range[0], end = range[1];
  if (begin == end && empty == EmptyCluster::keep) return;

  constexpr int kV = kVector<Element>;
  const Element* const rows = head_rows(x, strides, heads, head);
  const int lane = threadIdx.x % kWarp;
  const int lanes = min(kWarp, width / kV);  // of a row
  const int rows_at_once = kWarp / lanes;
  const int row = lane / lanes;
  float norm = 0;  // |mean|², of the mean as it is stored
  for (int d0 = lane % lanes * kV; d0 < width + lane % lanes * kV; d0 += lanes * kV) {
    float sum[kV] = {};
    if (row < rows_at_once && d0 < width) {
#pragma unroll 4
      for (int p = begin + row; p < end; p += rows_at_once) {
        float x_p[kV];
        load_vector(rows + members[p] * strides.token + d0, x_p);
#pragma unroll
        for (int e = 0; e < kV; ++e) sum[e] += x_p[e];
      }
    }
    // Sum the rows that were read at once.
    for (int other = 1; other < rows_at_once; ++other)
#pragma unroll
      for (int e = 0; e < kV; ++e) {
        const float part = __shfl_sync(kAllLanes, sum[e], (other * lanes + lane % lanes) % kWarp);
        if (row == 0) sum[e] += part;
      }
    if (row == 0 && d0 < width) {
      const float count = end > begin ? static_cast<float>(end - begin) : 1;
#pragma unroll
      for (int e = 0; e < kV; ++e) {
        sum[e] /= count;
        const float rounded = to_float(from_float<Element>(sum[e]));
        norm = fmaf(rounded, rounded, norm);
      }
      store_vector(means + index * width + d0, sum);
    }
  }
  norm = warp_sum(norm);
  if (half_norms != nullptr && lane == 0) half_norms[index] = begin < end ? -0.5f * norm : kMinusInfinity;
}

/// (2.2) First centroids: token floor(c N / C) + floor(N / (2 C)) of the block's N, or for a seed other than
/// 0 a drawn one of each stride. Launch: a warp a cluster, 4 a block. Reference: seed_tokens (kmeans.cpp).
/// Test: test_cuda_kmeans.cpp.
template <class Element>
__global__ void __launch_bounds__(kMeansWarps* kWarp)
    seeds_kernel(const __grid_constant__ Plan plan, const Side side, const Element* x, const Strides strides,
                 const int heads, const std::uint64_t* draws, Element* centroids, float* half_norms) {
  const int clusters = side == Side::keys ? plan.key_clusters : plan.query_clusters;
  const std::int64_t index = std::int64_t{blockIdx.x} * kMeansWarps + threadIdx.x / kWarp;
  const int head = static_cast<int>(index / clusters);
  if (head >= plan.batch * heads) return;
  const ClusterPlace place = cluster_place(plan, side, static_cast<int>(index % clusters));
  const Level& level = plan.level[place.level];
  const TokenSpan tokens = block_tokens(plan, level, place.t, side);
  const std::int64_t N = tokens.count, C = block_clusters(plan, level, place.t, side), c = place.c;
  const std::int64_t begin = c * N / C, end = (c + 1) * N / C;
  std::int64_t token = 0;  // clusters beyond C are never candidates
  if (c < C)
    token = plan.seed == 0
                ? min(begin + N / (2 * C), end - 1)
                : begin + static_cast<std::int64_t>(draws[c] % static_cast<std::uint64_t>(end - begin));
  const Element* const row = head_rows(x, strides, heads, head) + (tokens.begin + token) * strides.token;
  float norm = 0;
  for (int d = threadIdx.x % kWarp; d < plan.D; d += kWarp) {
    centroids[index * plan.D + d] = row[d];
    norm = fmaf(to_float(row[d]), to_float(row[d]), norm);
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

template <class Element>
Status launch_means(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, EmptyCluster empty, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  if (side == Side::keys) {
    means_kernel<Element>
        <<<cluster_grid(std::int64_t{plan.HK()} * plan.key_clusters), kMeansWarps * kWarp, 0, stream>>>(
            plan, side, tensors.k, plan.k, plan.heads_kv, plan.D, workspace.key_order, workspace.key_offsets,
            workspace.key_centroids, workspace.key_half_norms, empty);
    return cudaGetLastError();
  }
  means_kernel<Element>
      <<<cluster_grid(std::int64_t{plan.HQ()} * plan.query_clusters), kMeansWarps * kWarp, 0, stream>>>(
          plan, Side::home, tensors.q, plan.q, plan.heads_q, plan.D, workspace.query_order,
          workspace.home_offsets, workspace.query_centroids, workspace.query_half_norms, empty);
  MUSE_TRY(cudaGetLastError());
  return plan.key_metric != 0 ? launch_metric_centroids(plan, workspace, stream) : cudaSuccess;
}

template <class Element>
Status launch_value_means(const Plan& plan, const Tensors<Element>& tensors,
                          const Workspace<Element>& workspace, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  means_kernel<Element>
      <<<cluster_grid(std::int64_t{plan.HK()} * plan.key_clusters), kMeansWarps * kWarp, 0, stream>>>(
          plan, Side::keys, tensors.v, plan.v, plan.heads_kv, plan.Dv, workspace.key_order,
          workspace.key_offsets, workspace.value_means, nullptr, EmptyCluster::zero);
  return cudaGetLastError();
}

template <class Element>
Status launch_seeds(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    Side side, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  const bool keys = side == Side::keys;
  if (plan.seed != 0) {
    int most = 0;
    for (int m = 0; m < plan.levels; ++m) most = std::max({most, plan.level[m].Ck, plan.level[m].Cq});
    draws_kernel<<<1, 1, 0, stream>>>(plan.seed, most, workspace.draws);
    MUSE_TRY(cudaGetLastError());
  }
  const std::int64_t clusters =
      keys ? std::int64_t{plan.HK()} * plan.key_clusters : std::int64_t{plan.HQ()} * plan.query_clusters;
  seeds_kernel<Element><<<cluster_grid(clusters), kMeansWarps * kWarp, 0, stream>>>(
      plan, side, keys ? tensors.k : tensors.q, keys ? plan.k : plan.q, keys ? plan.heads_kv : plan.heads_q,
      workspace.draws, keys ? workspace.key_centroids : workspace.query_centroids,
      keys ? workspace.key_half_norms : workspace.query_half_norms);
  MUSE_TRY(cudaGetLastError());
  return !keys && plan.key_metric != 0 ? launch_metric_centroids(plan, workspace, stream) : cudaSuccess;
}

template <class Element>
Status launch_assign(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                     Side side, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
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

// (2.2) Labels of the keys, or of the home's queries; sorted, and with the means of the passes.
template <class Element>
Status label_and_sort(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                      Side side, bool labels_given, cudaStream_t stream) {
  if (!labels_given && plan.clustering == Clustering::spatial) {
    MUSE_TRY(launch_spatial_labels(plan, workspace, side, stream));
  } else if (!labels_given) {
    MUSE_TRY(launch_seeds(plan, tensors, workspace, side, stream));
    for (int pass = 0; pass < plan.passes; ++pass) {
      MUSE_TRY(launch_assign(plan, tensors, workspace, side, stream));
      MUSE_TRY(launch_sort(plan, tensors, workspace, side, stream));
      MUSE_TRY(launch_means(plan, tensors, workspace, side, EmptyCluster::keep, stream));
    }
    MUSE_TRY(launch_assign(plan, tensors, workspace, side, stream));
  }
  return launch_sort(plan, tensors, workspace, side, stream);
}

}  // namespace

template <class Element>
Status cluster_keys(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    bool labels_given, cudaStream_t stream) {
  MUSE_TRY(label_and_sort(plan, tensors, workspace, Side::keys, labels_given, stream));
  if (plan.order != ExpansionOrder::centroid) return cudaSuccess;
  MUSE_TRY(launch_means(plan, tensors, workspace, Side::keys, EmptyCluster::zero, stream));
  return launch_value_means(plan, tensors, workspace, stream);
}

template <class Element>
Status cluster_queries(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                       bool labels_given, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  if (plan.key_metric != 0) MUSE_TRY(launch_key_covariance(plan, tensors, workspace, stream));
  MUSE_TRY(label_and_sort(plan, tensors, workspace, Side::home, labels_given, stream));
  MUSE_TRY(launch_means(plan, tensors, workspace, Side::home, EmptyCluster::zero, stream));
  if (plan.home == QueryHome::self)
    return cudaSuccess;  // the block's queries are their own home, sorted already
  if (!labels_given) MUSE_TRY(launch_assign(plan, tensors, workspace, Side::queries, stream));
  return launch_sort(plan, tensors, workspace, Side::queries, stream);
}

#define MUSE_INSTANTIATE(Element)                                                                           \
  template Status launch_means<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        Side, EmptyCluster, cudaStream_t);                                  \
  template Status launch_value_means<Element>(const Plan&, const Tensors<Element>&,                         \
                                              const Workspace<Element>&, cudaStream_t);                     \
  template Status launch_seeds<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        Side, cudaStream_t);                                                \
  template Status launch_assign<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,   \
                                         Side, cudaStream_t);                                               \
  template Status cluster_keys<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&,    \
                                        bool, cudaStream_t);                                                \
  template Status cluster_queries<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                           bool, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
