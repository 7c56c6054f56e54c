// Merging the parts of a query's attention through their log-sum-exps, where stage 2 writes its results
// (docs/math.md, section 1). A block's attention is merged into what o and lse hold as soon as it is there:
// no part waits in memory. The levels come one after the other, so that the order of the sums is always the
// same. Reference: softmax_merge.cpp. Test: test_cuda_far_field.cpp.
#pragma once

#include "device.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

/// Where the attention of a query goes that stage 2 has made.
template <class Element>
struct FarOutput {
  Element* o;  ///< row
  float* lse;
  bool merges;  ///< with what is there: the diagonal block's, and that of smaller levels. Acausal attention
                ///< has one part.
};
template <class Element>
__device__ inline FarOutput<Element> far_output(const Plan& plan, const Tensors<Element>& tensors, int hq,
                                                int n) {
  return {head_rows(tensors.o, plan.o, plan.heads_q, hq) + n * plan.o.token,
          tensors.lse + std::int64_t{hq} * plan.Nq + n, plan.block > 0};
}

/// Begins to bring what a row will be merged with to this multiprocessor. By one lane a row.
template <class Element>
__device__ __forceinline__ void prefetch(const FarOutput<Element>& out) {
  if (!out.merges) return;
  asm volatile("prefetch.global.L1 [%0];" ::"l"(out.lse));
  asm volatile("prefetch.global.L1 [%0];" ::"l"(out.o));
}

/// (1.3) What the sum so far and a part are multiplied with, and the log-sum-exp of both:
///     L = log(e^{L_1} + e^{L_2}),   o = e^{L_1 - L} o_1 + e^{L_2 - L} o_2
struct MergeWeights {
  float before, part, lse;
};
__device__ inline MergeWeights merge_weights(float lse, float part_lse) {
  if (part_lse == kMinusInfinity) return {1, 0, lse};
  if (lse == kMinusInfinity) return {0, 1, part_lse};
  // Take the larger one out, so that nothing overflows.
  const float larger = fmaxf(lse, part_lse), L = larger + logf(expf(lse - larger) + expf(part_lse - larger));
  return {expf(lse - L), expf(part_lse - L), L};
}

/// Row `h` of a tensor-core tile of attention (SoftmaxRows, after finish()) to where it goes. By all lanes of
/// a warp; rows that are not `valid` are not written, but their places must be readable.
template <int D, class Rows, class Element>
__device__ __forceinline__ void write_far_row(const FarOutput<Element>& out, Rows& attention, int t, int h,
                                              bool valid) {
  const float l = attention.l[t][h],
              part_lse = l > 0 ? (attention.m[t][h] + log2f(l)) * kLn2 : kMinusInfinity;
  const int lane = threadIdx.x % 32;
  float factor = l > 0 ? 1 / l : 0.f, lse = part_lse;
  if (out.merges) {
    const MergeWeights weights = merge_weights(*out.lse, part_lse);
    lse = weights.lse;
    factor *= weights.part;
#pragma unroll
    for (int n = 0; n < D / 8; ++n) {
      const float2 before =
          unpack(*reinterpret_cast<const std::uint32_t*>(out.o + n * 8 + lane % 4 * 2), Element());
      float(&o)[4] = attention.o[t][n];
      o[2 * h] = fmaf(o[2 * h], factor, before.x * weights.before);
      o[2 * h + 1] = fmaf(o[2 * h + 1], factor, before.y * weights.before);
    }
    factor = 1;
  }
  store_row<D>(out.o, attention.o[t], h, factor, valid);
  __syncwarp();  // all lanes of the row have read its log-sum-exp
  if (valid && lane % 4 == 0) *out.lse = lse;
}

}  // namespace muse::cuda
