// Stage 2: the queries of each query cluster against what their centroid sees (docs/math.md, sections 4 and
// 5).
#include "far_field_mma.cuh"
#include "far_field_scalar.cuh"
#include "far_field_wgmma.cuh"

namespace muse::cuda {

namespace {

/// The table of query tiles of every block: each cluster's queries, up to kQueryTile at a time; none of them
/// is begun. Launch: a warp a block of a head, 32 clusters at a time.
template <class Element>
__global__ void query_tiles_kernel(const __grid_constant__ Plan plan, const Workspace<Element> workspace) {
  const int head = blockIdx.x / plan.blocks, lane = threadIdx.x;
  const BlockPlace place = block_place(plan, blockIdx.x % plan.blocks);
  const Level& level = plan.level[place.level];
  const std::int32_t* const offsets =
      workspace.query_offsets + first_offset(plan, level, head, place.t, Side::queries);
  QueryTile* const tiles = workspace.query_tiles + std::int64_t{head} * plan.query_tiles + level.query_tile +
                           place.t * level.query_tiles;
  if (lane == 0) workspace.far_tiles[blockIdx.x] = 0;
  int written = 0;
  for (int i0 = 0; i0 < level.Cq; i0 += kWarp) {
    const int i = i0 + lane;
    const int begin = i < level.Cq ? offsets[i] : 0, end = i < level.Cq ? offsets[i + 1] : 0;
    const int count = ceil_div(end - begin, kQueryTile);
    int before = count;  // becomes the tiles of this lane's cluster and those of the lanes before it
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const int other = __shfl_up_sync(kAllLanes, before, step);
      if (lane >= step) before += other;
    }
    for (int tile = 0; tile < count; ++tile) {
      const int first = begin + tile * kQueryTile;
      tiles[written + before - count + tile] = {i, first, min(end - first, kQueryTile),
                                                head * level.blocks + place.t};
    }
    written += __shfl_sync(kAllLanes, before, kWarp - 1);
  }
  for (int tile = written + lane; tile < level.query_tiles; tile += kWarp) tiles[tile] = {};
}

}  // namespace

template <class Element>
Status launch_query_tiles(const Plan& plan, const Workspace<Element>& workspace, cudaStream_t stream) {
  if (plan.blocks == 0) return cudaSuccess;
  query_tiles_kernel<Element>
      <<<static_cast<unsigned>(plan.HQ() * plan.blocks), kWarp, 0, stream>>>(plan, workspace);
  return cudaGetLastError();
}

template <class Element>
Status launch_far_field(const Plan& plan, const Tensors<Element>& tensors,
                        const Workspace<Element>& workspace, const Chunk& chunk, cudaStream_t stream) {
  if constexpr (has_tensor_cores<Element>) {
    if (plan.order != ExpansionOrder::dipole_value) {
      const std::optional<Status> launched = with_tuned_dim(plan, [&](auto dim) {
        constexpr int D = dim();
        if constexpr (D % 64 == 0)
          if (const std::optional<Status> hopper =
                  launch_far_field_wgmma<D>(plan, tensors, workspace, chunk, stream))
            return *hopper;
        return launch_far_field_with<MmaEngine<D, 1, Element>>(plan, tensors, workspace, chunk, stream);
      });
      if (launched) return *launched;
    }
  }
  return launch_far_field_scalar(plan, tensors, workspace, chunk, stream);
}

#define MUSE_INSTANTIATE(Element)                                                                            \
  template Status launch_query_tiles<Element>(const Plan&, const Workspace<Element>&, cudaStream_t);         \
  template Status launch_far_field<Element>(const Plan&, const Tensors<Element>&, const Workspace<Element>&, \
                                            const Chunk&, cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
