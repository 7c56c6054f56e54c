#include "cuda_device.h"

#include <fmt/format.h>

#include "muse/check.h"

#if MUSE_HAS_CUDA
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <memory>

#include "muse/cuda/muse_attention.h"
#endif

namespace muse::tools {

const char* name_of(GpuNumbers numbers) {
  switch (numbers) {
    case GpuNumbers::float16:
      return "float16";
    case GpuNumbers::float32:
      return "float";
    case GpuNumbers::bfloat16:
      break;
  }
  return "bfloat16";
}

#if MUSE_HAS_CUDA
namespace {

void check(cudaError_t status, const char* step) {
  if (status != cudaSuccess)
    throw FileError(
        fmt::format("--device cuda: {}: CUDA reports {}, {}; without --device the method runs on the CPU",
                    step, cudaGetErrorName(status), cudaGetErrorString(status)));
}

struct FreeOnDevice {
  void operator()(void* memory) const { cudaFree(memory); }
};
using DeviceMemory = std::unique_ptr<void, FreeOnDevice>;

DeviceMemory allocate(std::size_t bytes) {
  void* memory = nullptr;
  check(cudaMalloc(&memory, bytes), "memory on the GPU");
  return DeviceMemory(memory);
}

template <class Element>
Element to_element(float x) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>)
    return __float2bfloat16(x);
  else if constexpr (std::is_same_v<Element, __half>)
    return __float2half(x);
  else
    return x;
}
template <class Element>
float to_float(Element x) {
  if constexpr (std::is_same_v<Element, __nv_bfloat16>)
    return __bfloat162float(x);
  else if constexpr (std::is_same_v<Element, __half>)
    return __half2float(x);
  else
    return x;
}

template <class Element>
DeviceMemory copy_to_gpu(const Matrix<float>& x) {
  std::vector<Element> elements(static_cast<std::size_t>(x.size()));
  for (std::size_t n = 0; n < elements.size(); ++n) elements[n] = to_element<Element>(x.data()[n]);
  DeviceMemory memory = allocate(elements.size() * sizeof(Element));
  check(cudaMemcpy(memory.get(), elements.data(), elements.size() * sizeof(Element), cudaMemcpyHostToDevice),
        "copying a head to the GPU");
  return memory;
}

template <class T>
void copy_back(std::vector<T>& to, const DeviceMemory& from) {
  check(cudaMemcpy(to.data(), from.get(), to.size() * sizeof(T), cudaMemcpyDeviceToHost),
        "copying from the GPU");
}

template <class Element>
GpuRun run(const Head<float>& head, const Config& config, cuda::ElementType type) {
  const Index Nq = head.q.rows(), Nk = head.k.rows(), Dv = head.v.cols();
  const cuda::Shape shape{
      .Nq = Nq, .Nk = Nk, .D = head.q.cols(), .Dv = Dv, .type = type, .scale = double{head.scale}};
  const Index levels = cuda::level_count(shape, config);
  const std::size_t workspace_bytes = cuda::workspace_bytes(shape, config).recommended;
  const DeviceMemory q = copy_to_gpu<Element>(head.q), k = copy_to_gpu<Element>(head.k),
                     v = copy_to_gpu<Element>(head.v);
  GpuRun result;
  result.attention = Attention<float>(Nq, Dv);
  result.labels_q = LevelLabels(levels, Nq);
  result.labels_k = LevelLabels(levels, Nk);
  std::vector<Element> o(static_cast<std::size_t>(Nq * Dv));
  std::vector<float> lse(static_cast<std::size_t>(Nq));
  const DeviceMemory o_gpu = allocate(o.size() * sizeof(Element)),
                     lse_gpu = allocate(lse.size() * sizeof(float)),
                     labels_q = allocate(std::max<std::size_t>(1, result.labels_q.values.size()) * 4),
                     labels_k = allocate(std::max<std::size_t>(1, result.labels_k.values.size()) * 4),
                     workspace = allocate(workspace_bytes);
  cuda::Arguments arguments{.q = {q.get()},
                            .k = {k.get()},
                            .v = {v.get()},
                            .o = {o_gpu.get()},
                            .lse = static_cast<float*>(lse_gpu.get()),
                            .labels_k_out = static_cast<std::int32_t*>(labels_k.get()),
                            .labels_q_out = static_cast<std::int32_t*>(labels_q.get()),
                            .workspace = workspace.get(),
                            .workspace_bytes = workspace_bytes};
  // The first call loads the kernels; the second is timed.
  cuda::muse_attention(shape, arguments, config);
  cudaEvent_t begin = nullptr, end = nullptr;
  check(cudaEventCreate(&begin), "timing");
  check(cudaEventCreate(&end), "timing");
  check(cudaEventRecord(begin, nullptr), "timing");
  cuda::muse_attention(shape, arguments, config);
  check(cudaEventRecord(end, nullptr), "timing");
  check(cudaDeviceSynchronize(), "attention");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, begin, end), "timing");
  cudaEventDestroy(begin);
  cudaEventDestroy(end);
  result.seconds = 1e-3 * static_cast<double>(milliseconds);

  copy_back(o, o_gpu);
  copy_back(lse, lse_gpu);
  copy_back(result.labels_q.values, labels_q);
  copy_back(result.labels_k.values, labels_k);
  for (std::size_t n = 0; n < o.size(); ++n) result.attention.o.data()[n] = to_float(o[n]);
  for (std::size_t n = 0; n < lse.size(); ++n) result.attention.lse[static_cast<Index>(n)] = lse[n];
  return result;
}

}  // namespace

std::string cuda_runtime() {
  return fmt::format("{}.{}", CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

std::string gpu_problem() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return {};
  return fmt::format("expected an NVIDIA GPU, found none (CUDA reports {}); run where there is one",
                     status == cudaSuccess ? "no device" : cudaGetErrorString(status));
}

GpuRun run_on_gpu(const Head<float>& head, const Config& config, GpuNumbers numbers) {
  switch (numbers) {
    case GpuNumbers::float16:
      return run<__half>(head, config, cuda::ElementType::float16);
    case GpuNumbers::float32:
      return run<float>(head, config, cuda::ElementType::float32);
    case GpuNumbers::bfloat16:
      break;
  }
  return run<__nv_bfloat16>(head, config, cuda::ElementType::bfloat16);
}

#else

std::string cuda_runtime() {
  return "not built";
}

std::string gpu_problem() {
  return "this program was built without CUDA; install the CUDA Toolkit and configure again with "
         "-DMUSE_CUDA=ON";
}

GpuRun run_on_gpu(const Head<float>&, const Config&, GpuNumbers) {
  require_gpu();
  return {};
}

#endif

void require_gpu() {
  if (const std::string problem = gpu_problem(); !problem.empty())
    throw UsageError(fmt::format("--device cuda: {}, or run without --device on the CPU", problem));
}

}  // namespace muse::tools
