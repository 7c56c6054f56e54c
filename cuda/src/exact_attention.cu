// Exact attention in the diagonal blocks (docs/math.md, section 1).
#include "exact_attention_scalar.cuh"

namespace muse::cuda {

template <class Element>
Status launch_exact_attention(const Plan& plan, const Tensors<Element>& tensors, cudaStream_t stream) {
  if (plan.block == 0) return cudaSuccess;  // acausal: no diagonal blocks
  return launch_exact_attention_scalar(plan, tensors, stream);
}

#define MUSE_INSTANTIATE(Element) \
  template Status launch_exact_attention<Element>(const Plan&, const Tensors<Element>&, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
