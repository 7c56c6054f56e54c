// Stage 2: the queries of each query cluster against what their centroid sees (docs/math.md, sections 4 and
// 5).
#include "far_field_scalar.cuh"

namespace muse::cuda {

template <class Element>
Status launch_far_field(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream) {
  return launch_far_field_scalar(plan, tensors, workspace, chunk, stream);
}

#define MUSE_INSTANTIATE(Element)                                                                            \
  template Status launch_far_field<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                            const Chunk&, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
