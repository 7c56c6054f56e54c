// Retrieval: the key clusters that matter most to a query cluster (docs/math.md, section 5). Their tokens are
// attended in far_field.cu, in one softmax with the summaries.
#include "device.cuh"

namespace muse::cuda {
namespace {

constexpr int kRetrievalWarps = 4;

// (rank, j) comes before (other_rank, other_j): larger first, ties to the lower index.
__device__ inline bool precedes(float rank, int j, float other_rank, int other_j) {
  return rank > other_rank || (rank == other_rank && j < other_j);
}

/// (5.1) S_i: the r non-empty key clusters of largest L_ij, or L_ij - log n_j, or all of them; ties to the
/// lowest index. A head may have a smaller r (retrieve_heads).
///   L [units, Cq, Ck] -> retrieved [units, Cq, r], rising, -1 beyond, and retrieved_places, where their
///   tokens are; bias = -infinity there
/// Launch: a warp a query cluster, 4 a block. r rounds, each of which finds the next cluster in falling
/// order: the largest of those that come after the last one found. r Ck / 32 comparisons a lane on a row that
/// stays in shared memory; a bit a cluster found, read out in rising order at the end. Reference:
/// largest_clusters (retrieval.cpp). Test: test_cuda_retrieval.cpp.
template <class Element>
__global__ void __launch_bounds__(kRetrievalWarps* kWarp)
    retrieval_kernel(const __grid_constant__ Plan plan, const Workspace<Element> workspace,
                     const Chunk chunk) {
  extern __shared__ float memory[];
  const Level& level = plan.level[chunk.level];
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const std::int64_t row = std::int64_t{blockIdx.x} * kRetrievalWarps + warp;  // unit Cq + i
  if (row >= std::int64_t{chunk.units} * level.Cq) return;
  const int words = ceil_div(level.Ck, kWarp);
  float* const ranks = memory + warp * (level.Ck + words);
  auto* const found = reinterpret_cast<unsigned*>(ranks + level.Ck);  // a bit a cluster

  const int unit = chunk.first_unit + static_cast<int>(row / level.Cq);
  const std::int32_t* const offsets =
      workspace.key_offsets +
      first_offset(plan, level, plan.key_head(unit / level.blocks), unit % level.blocks, Side::keys);
  for (int j = lane; j < level.Ck; j += kWarp) {
    ranks[j] = workspace.L[row * level.Ck + j];
    if (plan.rank_by_mean_weight != 0 && ranks[j] > kMinusInfinity)
      ranks[j] -= logf(static_cast<float>(offsets[j + 1] - offsets[j]));
  }
  for (int word = lane; word < words; word += kWarp) found[word] = 0;
  __syncwarp();

  float last_rank = __builtin_huge_valf();
  int last_j = -1;
  int r = level.r;
  if (workspace.retrieve_heads != nullptr)
    r = min(r, workspace.retrieve_heads[unit / level.blocks % plan.heads_q]);
  for (int round = 0; round < r; ++round) {
    // The first, in falling order, of this lane's clusters that come after the last one found.
    float best_rank = kMinusInfinity;
    int best_j = level.Ck;
    for (int j = lane; j < level.Ck; j += kWarp)
      if (ranks[j] > kMinusInfinity && precedes(last_rank, last_j, ranks[j], j) &&
          precedes(ranks[j], j, best_rank, best_j)) {
        best_rank = ranks[j];
        best_j = j;
      }
#pragma unroll
    for (int step = kWarp / 2; step > 0; step /= 2) {
      const float other_rank = __shfl_xor_sync(kAllLanes, best_rank, step);
      const int other_j = __shfl_xor_sync(kAllLanes, best_j, step);
      if (precedes(other_rank, other_j, best_rank, best_j)) {
        best_rank = other_rank;
        best_j = other_j;
      }
    }
    if (best_j == level.Ck) break;  // no non-empty cluster is left
    if (lane == 0) found[best_j / kWarp] |= 1u << (best_j % kWarp);
    last_rank = best_rank;
    last_j = best_j;
  }
  __syncwarp();

  // Write them in rising order, with their tokens, and take them out of the far field.
  std::int32_t* const retrieved = workspace.retrieved + row * level.r;
  int2* const places = workspace.retrieved_places + row * level.r;
  int written = 0, tokens = 0;
  for (int word = 0; word < words; ++word) {
    const unsigned bits = found[word];
    if (bits == 0) continue;
    const int j = word * kWarp + lane;
    const bool chosen = (bits >> lane & 1u) != 0;
    const int begin = chosen ? offsets[j] : 0;
    int up_to =
        chosen ? offsets[j + 1] - begin : 0;  // becomes the tokens of this cluster and those before it
#pragma unroll
    for (int step = 1; step < kWarp; step *= 2) {
      const int before = __shfl_up_sync(kAllLanes, up_to, step);
      if (lane >= step) up_to += before;
    }
    if (chosen) {
      const int x = written + __popc(bits & ((1u << lane) - 1));
      retrieved[x] = j;
      places[x] = make_int2(begin, tokens + up_to);
      workspace.bias[row * level.Ck + j] = kMinusInfinity;
    }
    written += __popc(bits);
    tokens += __shfl_sync(kAllLanes, up_to, kWarp - 1);
  }
  for (int x = written + lane; x < level.r; x += kWarp) {
    retrieved[x] = -1;
    places[x] = make_int2(0, tokens);
  }
}

}  // namespace

template <class Element>
Status launch_retrieval(const Plan& plan, const Workspace<Element>& workspace, const Chunk& chunk,
                        cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  if (level.r == 0) return cudaSuccess;
  const std::size_t bytes =
      sizeof(float) * static_cast<std::size_t>(kRetrievalWarps * (level.Ck + ceil_div(level.Ck, kWarp)));
  if (const Status status = allow_shared_memory(retrieval_kernel<Element>, bytes); status != cudaSuccess)
    return status;
  const int grid = ceil_div(chunk.units * level.Cq, kRetrievalWarps);
  retrieval_kernel<Element><<<grid, kRetrievalWarps * kWarp, bytes, stream>>>(plan, workspace, chunk);
  return cudaGetLastError();
}

#define MUSE_INSTANTIATE(Element)                                                                 \
  template Status launch_retrieval<Element>(const Plan&, const Workspace<Element>&, const Chunk&, \
                                            cudaStream_t);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(__half)
MUSE_INSTANTIATE(__nv_bfloat16)
#undef MUSE_INSTANTIATE

}  // namespace muse::cuda
