// MuSe attention of a whole call: the launches, in order (docs/math.md, section 7; docs/cuda.md).
#include "muse/cuda/muse_attention.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <array>
#include <map>

#include "make_plan.h"

namespace muse::cuda {
namespace {

// Throws what CUDA reports, with the step that it was reported in.
void check(Status status, const char* step) {
  if (status != cudaSuccess)
    throw DeviceError(status, detail::concat(step, ": CUDA reports ", cudaGetErrorName(status), ", ",
                                             cudaGetErrorString(status)));
}

/// Two streams beside the caller's. Work forks off the caller's stream and joins it again, so that a capture
/// of the caller's stream has it all.
class SideStreams {
 public:
  /// Of this host thread on the present device: made once, kept until the thread ends. Calls take turns, so
  /// that some on streams of their own do not wait for each other here.
  static SideStreams& of_thread() {
    struct Ring {
      std::array<SideStreams, 4> streams;
      std::size_t turn = 0;
    };
    thread_local std::map<int, Ring> of_device;
    int device = 0;
    check(cudaGetDevice(&device), "present device");
    Ring& ring = of_device[device];
    return ring.streams[ring.turn++ % ring.streams.size()];
  }
  SideStreams() {
    // Making a stream does not belong to a capture that may be going on.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    check(cudaThreadExchangeStreamCaptureMode(&mode), "side streams");
    // Clustering is a chain of short kernels: it goes first where both could.
    int least = 0, greatest = 0;
    check(cudaDeviceGetStreamPriorityRange(&least, &greatest), "side streams");
    for (Side& side : sides_) {
      check(cudaStreamCreateWithPriority(&side.stream, cudaStreamNonBlocking, greatest), "side streams");
      check(cudaEventCreateWithFlags(&side.forked, cudaEventDisableTiming), "side streams");
      check(cudaEventCreateWithFlags(&side.joined, cudaEventDisableTiming), "side streams");
    }
    check(cudaThreadExchangeStreamCaptureMode(&mode), "side streams");
  }
  SideStreams(const SideStreams&) = delete;
  SideStreams& operator=(const SideStreams&) = delete;
  ~SideStreams() {
    for (const Side& side : sides_) {
      cudaEventDestroy(side.joined);
      cudaEventDestroy(side.forked);
      cudaStreamDestroy(side.stream);
    }
  }

  /// Stream `which`, 0 or 1, to which `stream` has given all that it has done so far.
  [[nodiscard]] cudaStream_t fork(int which, cudaStream_t stream) const {
    const Side& side = sides_[which];
    check(cudaEventRecord(side.forked, stream), "fork of the streams");
    check(cudaStreamWaitEvent(side.stream, side.forked), "fork of the streams");
    return side.stream;
  }
  /// What comes on `stream` waits for what is queued on stream `which`.
  void join(int which, cudaStream_t stream) const {
    const Side& side = sides_[which];
    check(cudaEventRecord(side.joined, side.stream), "join of the streams");
    check(cudaStreamWaitEvent(stream, side.joined), "join of the streams");
  }

 private:
  struct Side {
    cudaStream_t stream = nullptr;
    cudaEvent_t forked = nullptr, joined = nullptr;
  };
  std::array<Side, 2> sides_;
};

template <class Pointer>
Strides strides_of(const char* name, const StridedTensor<Pointer>& tensor, std::int64_t heads,
                   std::int64_t tokens, std::int64_t dim, std::size_t element_bytes) {
  MUSE_REQUIRE(tensor.data != nullptr, name, ": expected a device pointer, found null");
  MUSE_REQUIRE(reinterpret_cast<std::uintptr_t>(tensor.data) % 16 == 0, name,
               ": expected an address that is a multiple of 16, found ", tensor.data);
  if (tensor.stride_batch == 0 && tensor.stride_head == 0 && tensor.stride_token == 0)
    return {.batch = heads * tokens * dim, .head = tokens * dim, .token = dim};
  const Strides strides{
      .batch = tensor.stride_batch, .head = tensor.stride_head, .token = tensor.stride_token};
  for (const std::int64_t stride : {strides.batch, strides.head, strides.token})
    MUSE_REQUIRE(stride >= 0 && stride * static_cast<std::int64_t>(element_bytes) % 16 == 0, name,
                 ": expected strides that are multiples of ", 16 / element_bytes, " elements, found ",
                 stride);
  MUSE_REQUIRE(strides.token >= dim, name, ": expected a token stride of at least ", dim, ", found ",
               strides.token);
  return strides;
}

// The bytes that summaries may take so that everything fits into `bytes`.
template <class Element>
std::size_t summary_budget(const Plan& plan, std::size_t bytes) {
  std::size_t budget = kSummaryBytes;
  while (budget > 0 && lay_out<Element>(plan, nullptr, budget).bytes > bytes) budget /= 2;
  const std::size_t least = lay_out<Element>(plan, nullptr, budget).bytes;
  MUSE_REQUIRE(least <= bytes, "workspace too small: expected at least ", least, " bytes, better ",
               lay_out<Element>(plan, nullptr, kSummaryBytes).bytes, ", found ", bytes);
  return budget;
}

template <class Element>
void run(Plan plan, const Shape& shape, const Arguments& arguments) {
  // Check what is given.
  plan.q = strides_of("q", arguments.q, shape.heads_q, shape.Nq, shape.D, sizeof(Element));
  plan.k = strides_of("k", arguments.k, shape.heads_kv, shape.Nk, shape.D, sizeof(Element));
  plan.v = strides_of("v", arguments.v, shape.heads_kv, shape.Nk, shape.Dv, sizeof(Element));
  plan.o = strides_of("o", arguments.o, shape.heads_q, shape.Nq, shape.Dv, sizeof(Element));
  MUSE_REQUIRE(arguments.workspace != nullptr, "workspace: expected a device pointer, found null");
  MUSE_REQUIRE(reinterpret_cast<std::uintptr_t>(arguments.workspace) % 256 == 0,
               "workspace: expected an address that is a multiple of 256, found ", arguments.workspace);

  // Lay out the workspace.
  const std::size_t budget = summary_budget<Element>(plan, arguments.workspace_bytes);
  const Layout<Element> layout = lay_out<Element>(plan, static_cast<std::byte*>(arguments.workspace), budget);
  Workspace<Element> workspace = layout.workspace;
  workspace.retrieve_heads = arguments.retrieve_heads;
  const Tensors<Element> tensors{.q = static_cast<const Element*>(arguments.q.data),
                                 .k = static_cast<const Element*>(arguments.k.data),
                                 .v = static_cast<const Element*>(arguments.v.data),
                                 .o = static_cast<Element*>(arguments.o.data),
                                 .lse = arguments.lse != nullptr ? arguments.lse : layout.lse};
  cudaStream_t const stream = arguments.stream;

  // Take labels that are given where they lie, and make others where they are asked for.
  const auto place_labels = [&](const char* step, std::int32_t*& labels, const std::int32_t* given,
                                std::int32_t* out, std::int64_t count) {
    const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(std::int32_t);
    if (given != nullptr) {
      labels = const_cast<std::int32_t*>(given);  // never written
      if (out != nullptr && out != given)
        check(cudaMemcpyAsync(out, given, bytes, cudaMemcpyDeviceToDevice, stream), step);
      return;
    }
    if (out == nullptr) return;
    labels = out;
    check(cudaMemsetAsync(out, 0xff, bytes, stream), step);  // -1: takes no part
  };
  place_labels("labels_k", workspace.labels_k, arguments.labels_k, arguments.labels_k_out,
               std::int64_t{plan.HK()} * plan.levels * plan.Nk);
  place_labels("labels_q", workspace.labels_q, arguments.labels_q, arguments.labels_q_out,
               std::int64_t{plan.HQ()} * plan.levels * plan.Nq);

  const auto queued = [&](const char* stage) {
    if (arguments.on_stage) arguments.on_stage(stage);
  };
  // Keys, queries and diagonal blocks have nothing to do with each other, and one's many small launches leave
  // room for another's work. Windows and random numbers are in tables that keys and queries share; and stages
  // that are measured go one after the other.
  const bool side_by_side = plan.levels > 0 && plan.window == 0 && plan.seed == 0 && !arguments.on_stage;
  SideStreams& side_streams = SideStreams::of_thread();
  cudaStream_t const keys_stream = side_by_side ? side_streams.fork(0, stream) : stream,
                     queries_stream = side_by_side ? side_streams.fork(1, stream) : stream;
  // Cluster, sort, average.
  check(cluster_keys(plan, tensors, workspace, arguments.labels_k != nullptr, keys_stream),
        "clustering of keys");
  check(cluster_queries(plan, tensors, workspace, arguments.labels_q != nullptr, queries_stream),
        "clustering of queries");
  check(launch_query_tiles(plan, workspace, queries_stream), "tiles of queries");
  queued("clustering");
  // Attend the diagonal blocks exactly.
  check(launch_exact_attention(plan, tensors, workspace, stream), "diagonal blocks");
  if (side_by_side) {
    side_streams.join(0, stream);
    side_streams.join(1, stream);
  }
  queued("diagonal blocks");
  // Approximate the far blocks, level by level and chunk by chunk; each merges its attention into what is
  // there.
  for (std::int32_t m = 0; m < plan.levels; ++m) {
    const Level& level = plan.level[m];
    const std::int32_t units = plan.HQ() * level.blocks;
    const std::int32_t at_once = units_of_chunk(plan, level, sizeof(Element), budget);
    for (Chunk chunk{.level = m}; chunk.first_unit < units; chunk.first_unit += at_once) {
      chunk.units = std::min(at_once, units - chunk.first_unit);
      check(launch_summaries(plan, tensors, workspace, chunk, stream), "stage 1");
      queued("summaries");
      check(launch_retrieval(plan, workspace, chunk, stream), "retrieval");
      queued("retrieval");
      check(launch_far_field(plan, tensors, workspace, chunk, stream), "stage 2");
      queued("far field");
    }
  }
}

}  // namespace

void muse_attention(const Shape& shape, const Arguments& arguments, const Config& config) {
  const Plan plan = make_plan(shape, config);
  switch (shape.type) {
    case ElementType::float32:
      return run<float>(plan, shape, arguments);
    case ElementType::float16:
      return run<__half>(plan, shape, arguments);
    case ElementType::bfloat16:
      return run<__nv_bfloat16>(plan, shape, arguments);
  }
}

}  // namespace muse::cuda
