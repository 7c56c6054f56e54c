// The method on a GPU, for the commands: one head at a time, from and to the memory of the host.
#pragma once

#include <string>

#include "muse/head.h"
#include "muse/muse_attention.h"

namespace muse::tools {

/// What q, k, v and o are stored in on the GPU; sums are float32 there.
enum class GpuNumbers { bfloat16, float16, float32 };
[[nodiscard]] const char* name_of(GpuNumbers numbers);

/// The CUDA runtime of the build, such as "13.0", or "not built".
[[nodiscard]] std::string cuda_runtime();

/// Why the method cannot run on a GPU here, and what would help: the build has no CUDA path, or the machine
/// no GPU for it. Empty: it can.
[[nodiscard]] std::string gpu_problem();
/// UsageError with that problem, if there is one.
void require_gpu();

/// Attention of one head on the present GPU, and the labels that it chose.
struct GpuRun {
  Attention<float> attention;
  LevelLabels labels_q, labels_k;
  double seconds = 0;  ///< of a second call, by events on the GPU: clustering and all stages, without copies
};

/// (7.1) MuSe attention of `head` by libmuse's CUDA path. UsageError or MisfitError for what it does not do,
/// FileError for what CUDA reports.
[[nodiscard]] GpuRun run_on_gpu(const Head<float>& head, const Config& config, GpuNumbers numbers);

}  // namespace muse::tools
