// Multipole Semantic Attention on a GPU: what muse/muse_attention.h computes, for all heads of all sequences
// at once, in device memory (docs/cuda.md).
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <functional>

#include "muse/check.h"
#include "muse/config.h"

namespace muse::cuda {

/// What q, k, v and o are stored in; sums are float32.
enum class ElementType { float32, float16, bfloat16 };

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(ElementType type);
/// "float32", "float16" or "bfloat16".
[[nodiscard]] const char* name_of(ElementType type);

/// Something that the method has and this path does not. Nothing else is computed in its place.
class Unsupported : public Error {
 public:
  explicit Unsupported(const std::string& message) : Error(ExitStatus::wrong_use, message) {}
};

/// What the CUDA runtime reported.
class DeviceError : public Error {
 public:
  DeviceError(cudaError_t code, const std::string& message)
      : Error(ExitStatus::wrong_use, message), code_(code) {}
  [[nodiscard]] cudaError_t code() const noexcept { return code_; }

 private:
  cudaError_t code_;
};

/// Shapes of a call. Query head h uses key and value head h / (heads_q / heads_kv).
struct Shape {
  std::int64_t batch = 1, heads_q = 1, heads_kv = 1;
  std::int64_t Nq = 0, Nk = 0;  ///< tokens; equal in causal modes
  std::int64_t D = 0, Dv = 0;   ///< multiples of 8 up to 256
  ElementType type = ElementType::bfloat16;
  double scale = 0;  ///< s; 0: 1/sqrt(D)
};

/// A tensor [batch, heads, tokens, dim] in device memory; features lie side by side, strides count elements.
/// Every row begins at a multiple of 16 bytes. Strides of 0 stand for those of a dense tensor.
template <class Pointer>
struct StridedTensor {
  Pointer data = nullptr;
  std::int64_t stride_batch = 0, stride_head = 0, stride_token = 0;
};

/// Inputs, outputs and memory of a call, all on the device.
struct Arguments {
  StridedTensor<const void*> q;  ///< [batch, heads_q, Nq, D]
  StridedTensor<const void*> k;  ///< [batch, heads_kv, Nk, D]
  StridedTensor<const void*> v;  ///< [batch, heads_kv, Nk, Dv]
  StridedTensor<void*> o;        ///< [batch, heads_q, Nq, Dv]
  float* lse = nullptr;          ///< [batch, heads_q, Nq] log-sum-exp (natural logarithm), or null

  /// Labels as LevelLabels has them, to be used instead of clustering, or null. Keys [batch, heads_kv,
  /// levels, Nk], queries [batch, heads_q, levels, Nq]. A label that is no cluster's takes the token out:
  /// such a key is not seen, and such a query sees nothing of that block.
  const std::int32_t* labels_k = nullptr;
  const std::int32_t* labels_q = nullptr;
  /// Where to write the labels that were used, or null.
  std::int32_t* labels_k_out = nullptr;
  std::int32_t* labels_q_out = nullptr;

  /// [heads_q] a query head retrieves at most so many of the config's r clusters, at every level; or null.
  /// What a head needs differs much from head to head.
  const std::int32_t* retrieve_heads = nullptr;

  void* workspace = nullptr;  ///< device memory, a multiple of 256 bytes
  std::size_t workspace_bytes = 0;
  cudaStream_t stream = nullptr;

  /// For measurements: called when all launches of a stage are queued, with its name: "clustering", "diagonal
  /// blocks", then for each chunk "summaries", "retrieval", "far field". Not for captured calls.
  std::function<void(const char* stage)> on_stage = {};
};

/// Levels of the hierarchy: the second extent of labels. 1 for acausal attention.
[[nodiscard]] std::int64_t level_count(const Shape& shape, const Config& config);

/// Bytes of workspace that a call works best with, and the fewest that it takes.
struct WorkspaceBytes {
  std::size_t recommended = 0, least = 0;
};
[[nodiscard]] WorkspaceBytes workspace_bytes(const Shape& shape, const Config& config);

/// (7.1) MuSe attention, queued on the stream: returns before it is done. Nothing is allocated and nothing
/// waits, so a call can be captured in a CUDA graph (run once before, so that its kernels are loaded). Two
/// calls on the same inputs give the same bits. Throws MisfitError or UsageError for arguments that make no
/// sense, Unsupported for what is not on the GPU yet, DeviceError for what CUDA reports.
void muse_attention(const Shape& shape, const Arguments& arguments, const Config& config);

}  // namespace muse::cuda
