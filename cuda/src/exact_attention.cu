// Exact attention in the diagonal blocks (docs/math.md, section 1).
#include "exact_attention_mma.cuh"
#include "exact_attention_scalar.cuh"
#include "exact_attention_wgmma.cuh"

namespace muse::cuda {

template <class Element>
Status launch_exact_attention(const Plan& plan, const Tensors<Element>& tensors,
                              const Workspace<Element>& workspace, cudaStream_t stream) {
  if (plan.block == 0) return cudaSuccess;  // acausal: no diagonal blocks
  if constexpr (has_tensor_cores<Element>) {
    const ExactShape shape{.block = plan.block, .causal = true};
    const std::optional<Status> launched = with_tuned_dim(plan, [&](auto dim) {
      constexpr int D = dim();
      if constexpr (D % 64 == 0)
        if (const std::optional<Status> hopper =
                launch_exact_attention_wgmma<D>(plan, tensors, workspace, shape, stream))
          return *hopper;
      return launch_exact_attention_with<MmaEngine<D, D <= 64 ? 2 : 1, Element>, 4>(plan, tensors, shape,
                                                                                    stream);
    });
    if (launched) return *launched;
  }
  return launch_exact_attention_scalar(plan, tensors, stream);
}

#define MUSE_INSTANTIATE(Element)                                                       \
  template Status launch_exact_attention<Element>(const Plan&, const Tensors<Element>&, \
                                                  const Workspace<Element>&, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
