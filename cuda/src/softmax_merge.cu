// Merging the parts of a call through their log-sum-exps (docs/math.md, section 1).
#include "device.cuh"

namespace muse::cuda {
namespace {

constexpr int kMergeThreads = 256;

/// (1.3) Merges the diagonal blocks with the far blocks of each level that a query has:
///     L = log(sum over parts of e^{L_p}),   o = sum over parts of e^{L_p - L} o_p
///   o, lse of the diagonal blocks; part_o [HQ, levels, Nq, Dv], part_lse [HQ, levels, Nq] -> o, lse
/// Launch: a thread 16 bytes of a row of o; a thread block as many whole rows as 256 threads can take.
/// Bound by memory: o is read and written once, and each part read once, half of the levels a query.
/// Query n has a part of level m where n / S is odd (6.1): the parts and their order follow from n alone.
/// Reference: softmax_merge.cpp. Test: test_cuda_softmax_merge.cpp.
template <class Element>
__global__ void __launch_bounds__(kMergeThreads)
    merge_kernel(const __grid_constant__ Plan plan, const Tensors<Element> tensors,
                 const Workspace<Element> workspace) {
  constexpr int kV = kVector<Element>;
  const int pieces = plan.Dv / kV;  // of a row
  const int rows = kMergeThreads / pieces;
  const std::int64_t row = std::int64_t{blockIdx.x} * rows + threadIdx.x / pieces;  // hq Nq + n
  const int head = static_cast<int>(row / plan.Nq), n = static_cast<int>(row % plan.Nq);
  const int d0 = threadIdx.x % pieces * kV;
  // The first diagonal block has nothing before it.
  const bool works = threadIdx.x < rows * pieces && head < plan.HQ() && n >= plan.block;
  const auto has_part = [&](int m) { return (n / plan.level[m].S & 1) != 0; };

  float largest = 0, sum = 0;
  if (works) {
    // Take the largest L_p out, so that nothing overflows.
    const float local = tensors.lse[row];
    const float* const part_lse = workspace.part_lse + std::int64_t{head} * plan.levels * plan.Nq + n;
    largest = local;
    for (int m = 0; m < plan.levels; ++m)
      if (has_part(m)) largest = fmaxf(largest, part_lse[std::int64_t{m} * plan.Nq]);
    const auto weight = [&](float lse) { return lse == kMinusInfinity ? 0.0f : expf(lse - largest); };

    Element* const o = head_rows(tensors.o, plan.o, plan.heads_q, head) + n * plan.o.token + d0;
    float merged[kV];
    load_vector(o, merged);
    sum = weight(local);
#pragma unroll
    for (int e = 0; e < kV; ++e) merged[e] *= sum;
    for (int m = 0; m < plan.levels; ++m) {
      if (!has_part(m)) continue;
      const float w = weight(part_lse[std::int64_t{m} * plan.Nq]);
      float part[kV];
      load_vector(workspace.part_o + ((std::int64_t{head} * plan.levels + m) * plan.Nq + n) * plan.Dv + d0,
                  part);
      sum += w;
#pragma unroll
      for (int e = 0; e < kV; ++e) merged[e] = fmaf(w, part[e], merged[e]);
    }
#pragma unroll
    for (int e = 0; e < kV; ++e) merged[e] /= sum;
    store_vector(o, merged);
  }
  __syncthreads();  // all threads of a row have read its log-sum-exp
  if (works && d0 == 0) tensors.lse[row] = largest + logf(sum);
}

}  // namespace

template <class Element>
Status launch_merge(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& workspace,
                    cudaStream_t stream) {
  if (plan.block == 0 || plan.levels == 0) return cudaSuccess;  // there is one part
  const int rows = kMergeThreads / (plan.Dv / kVector<Element>);
  const std::int64_t grid = (std::int64_t{plan.HQ()} * plan.Nq + rows - 1) / rows;
  merge_kernel<Element><<<static_cast<unsigned>(grid), kMergeThreads, 0, stream>>>(plan, tensors, workspace);
  return cudaGetLastError();
}

#define MUSE_INSTANTIATE(Element)                                                                        \
  template Status launch_merge<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                        cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
