// Stage 1: each query centroid against each key cluster (docs/math.md, section 3).
#include "tilted_summaries_mma.cuh"
#include "tilted_summaries_scalar.cuh"
#include "tilted_summaries_wgmma.cuh"

namespace muse::cuda {
namespace {

/// (3.6) The order `centroid`, without tilting: L_ij = log n_j + s q̄_i·k̄_j ranks the clusters, b_ij = log n_j
/// is what stage 2 adds to s q·k̄_j. k̄ and v̄ stay where launch_means put them.
///   q̄ [HQ, query_clusters, D], k̄ [HK, key_clusters, D] -> L, bias [units, Cq, Ck]
/// Launch: a thread a triple (unit, i, j), 256 a block. 2 D operations each; both rows come from the caches.
/// Reference: plain_summaries (tilted_summaries.cpp). Test: test_cuda_tilted_summaries.cpp.
template <class Element>
__global__ void plain_summaries_kernel(const __grid_constant__ Plan plan, const Workspace<Element> workspace,
                                       const Chunk chunk) {
  const Level& level = plan.level[chunk.level];
  const std::int64_t at = std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x;  // (unit Cq + i) Ck + j
  if (at >= std::int64_t{chunk.units} * level.Cq * level.Ck) return;
  const int j = static_cast<int>(at % level.Ck), i = static_cast<int>(at / level.Ck % level.Cq);
  const int unit = chunk.first_unit + static_cast<int>(at / level.Ck / level.Cq);
  const int head = unit / level.blocks, t = unit % level.blocks, key_head = plan.key_head(head);
  const std::int32_t* const offsets =
      workspace.key_offsets + first_offset(plan, level, key_head, t, Side::keys);
  const Element* const q_bar =
      workspace.query_centroids + (first_cluster(plan, level, head, t, Side::home) + i) * plan.D;
  const Element* const k_bar =
      workspace.key_centroids + (first_cluster(plan, level, key_head, t, Side::keys) + j) * plan.D;
  float dot = 0;
  for (int d = 0; d < plan.D; d += kVector<Element>) {
    float q_d[kVector<Element>], k_d[kVector<Element>];
    load_vector(q_bar + d, q_d);
    load_vector(k_bar + d, k_d);
#pragma unroll
    for (int e = 0; e < kVector<Element>; ++e) dot = fmaf(plan.scale * q_d[e], k_d[e], dot);
  }
  const int count = offsets[j + 1] - offsets[j];
  const float log_count = count > 0 ? logf(static_cast<float>(count)) : kMinusInfinity;
  workspace.L[at] = log_count + dot;
  workspace.bias[at] = log_count;
}

/// |k_n|², which (3.8) averages.
///   k [HK, Nk, D] -> key_norms [HK, Nk]
/// Launch: 8 lanes a key, 256 threads a thread block. Floor: reads k once.
/// Reference: tilted_means (tilted_summaries.cpp). Test: test_cuda_tilted_summaries.cpp.
template <class Element>
__global__ void key_norms_kernel(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                                 const Workspace<Element> workspace) {
  const std::int64_t at = (std::int64_t{blockIdx.x} * blockDim.x + threadIdx.x) / 8;  // head Nk + n
  const std::int64_t row = min(at, std::int64_t{plan.HK()} * plan.Nk - 1);
  const Element* const k = head_rows(tensors.k, plan.k, plan.heads_kv, static_cast<int>(row / plan.Nk)) +
                           row % plan.Nk * plan.k.token;
  float sum = 0;
  for (int d = static_cast<int>(threadIdx.x) % 8 * kVector<Element>; d < plan.D; d += 8 * kVector<Element>) {
    float k_d[kVector<Element>];
    load_vector(k + d, k_d);
#pragma unroll
    for (int e = 0; e < kVector<Element>; ++e) sum = fmaf(k_d[e], k_d[e], sum);
  }
#pragma unroll
  for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
  if (threadIdx.x % 8 == 0 && row == at) workspace.key_norms[at] = sum;
}

}  // namespace

template <class Element>
Status launch_key_norms(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, cudaStream_t stream) {
  if (plan.spread_factor == 0 || plan.levels == 0) return cudaSuccess;
  const std::int64_t threads = std::int64_t{plan.HK()} * plan.Nk * 8;
  key_norms_kernel<Element>
      <<<static_cast<unsigned>((threads + 255) / 256), 256, 0, stream>>>(plan, tensors, workspace);
  return cudaGetLastError();
}

template <class Element>
Status launch_summaries(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream) {
  if (plan.order != ExpansionOrder::centroid) {
    if constexpr (has_tensor_cores<Element>) {
      const std::optional<Status> launched = with_tuned_dim(plan, [&](auto dim) {
        if constexpr (dim() % 64 == 0) {
          const std::optional<Status> status =
              launch_tilted_summaries_wgmma<dim()>(plan, tensors, workspace, chunk, stream);
          if (status) return *status;
        }
        return launch_tilted_summaries_mma<dim()>(plan, tensors, workspace, chunk, stream);
      });
      if (launched) return *launched;
    }
    return launch_tilted_summaries_scalar(plan, tensors, workspace, chunk, stream);
  }
  const Level& level = plan.level[chunk.level];
  const std::int64_t threads = std::int64_t{chunk.units} * level.Cq * level.Ck;
  plain_summaries_kernel<Element>
      <<<static_cast<unsigned>((threads + 255) / 256), 256, 0, stream>>>(plan, workspace, chunk);
  return cudaGetLastError();
}

#define MUSE_INSTANTIATE(Element)                                                                            \
  template Status launch_key_norms<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                            cudaStream_t);                                                   \
  template Status launch_summaries<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                            const Chunk&, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
