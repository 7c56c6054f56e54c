// The C interface (muse/muse.h): checks arguments, turns exceptions into statuses, and calls the reference or
// the CUDA path.
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "muse/check.h"
#include "muse/config.h"
#include "muse/muse.h"
#include "muse/muse_attention.h"
#include "muse/tensor.h"

#if MUSE_HAS_CUDA
#include <cuda_runtime_api.h>

#include "muse/cuda/muse_attention.h"
#endif

namespace {

using muse::detail::concat;

// What a function of the interface ends with: a status and its message.
class AbiError : public std::runtime_error {
 public:
  AbiError(muse_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  [[nodiscard]] muse_status status() const noexcept { return status_; }

 private:
  muse_status status_;
};

template <class... Parts>
[[noreturn]] void fail(muse_status status, const Parts&... parts) {
  throw AbiError(status, concat(parts...));
}

std::string& last_error() {
  thread_local std::string message;
  return message;
}

muse_status keep_error(muse_status status, const char* message) noexcept {
  try {
    last_error() = message;
  } catch (...) {
    last_error().clear();
  }
  return status;
}

// Runs `work`; nothing that it throws goes further.
template <class Work>
muse_status guarded(const Work& work) noexcept {
  try {
    work();
    return MUSE_OK;
  } catch (const AbiError& error) {
    return keep_error(error.status(), error.what());
#if MUSE_HAS_CUDA
  } catch (const muse::cuda::Unsupported& error) {
    return keep_error(MUSE_ERROR_UNSUPPORTED, error.what());
  } catch (const muse::cuda::DeviceError& error) {
    return keep_error(MUSE_ERROR_DEVICE, error.what());
#endif
  } catch (const muse::Error& error) {
    return keep_error(MUSE_ERROR_ARGUMENT, error.what());
  } catch (const std::bad_alloc&) {
    return keep_error(MUSE_ERROR_MEMORY, "out of memory");
  } catch (const std::exception& error) {
    return keep_error(MUSE_ERROR_INTERNAL, error.what());
  } catch (...) {
    return keep_error(MUSE_ERROR_INTERNAL, "an unknown exception");
  }
}

// ---- Checks ---------------------------------------------------------------------------------------------

template <class Pointer>
void check_not_null(const char* name, Pointer pointer) {
  if (pointer == nullptr) fail(MUSE_ERROR_ARGUMENT, name, ": expected a pointer, found null");
}

void check_struct_size(const char* name, std::size_t found, std::size_t expected) {
  if (found != expected)
    fail(MUSE_ERROR_ARGUMENT, name, ".struct_size: expected ", expected, " (interface version ",
         MUSE_ABI_VERSION, "), found ", found);
}

void check_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most)
    fail(MUSE_ERROR_ARGUMENT, name, ": expected ", least, " to ", most, ", found ", value);
}

void check_least(const char* name, std::int64_t value, std::int64_t least) {
  if (value < least) fail(MUSE_ERROR_ARGUMENT, name, ": expected at least ", least, ", found ", value);
}

constexpr std::int64_t kLargestCount = std::int64_t{1} << 40;  // keeps products in range

muse::PerLevel<muse::ClusterRule> rules_of(const char* name, const muse_cluster_rule* rules,
                                           std::int32_t levels) {
  check_range(concat(name, "_levels").c_str(), levels, 1, MUSE_MAX_LEVELS);
  muse::PerLevel<muse::ClusterRule> result;
  for (std::int32_t m = 0; m < levels; ++m) {
    const muse_cluster_rule& rule = rules[m];
    const std::string entry = concat(name, "[", m, "]");
    check_range((entry + ".divisor").c_str(), rule.divisor, 0, kLargestCount);
    check_range((entry + ".low").c_str(), rule.low, 1, kLargestCount);
    if (rule.divisor > 0) check_range((entry + ".high").c_str(), rule.high, rule.low, kLargestCount);
    result.values.push_back({.divisor = rule.divisor, .low = rule.low, .high = rule.high});
  }
  return result;
}

muse::Config checked_config(const muse_config* config) {
  check_not_null("config", config);
  check_struct_size("config", config->struct_size, sizeof(muse_config));
  check_range("config.mode", config->mode, MUSE_MODE_ACAUSAL, MUSE_MODE_CAUSAL_SHARED);
  check_range("config.order", config->order, MUSE_ORDER_CENTROID, MUSE_ORDER_DIPOLE_SPREAD);
  check_range("config.cluster_by", config->cluster_by, MUSE_CLUSTER_BY_KMEANS, MUSE_CLUSTER_BY_SPATIAL);
  check_range("config.metric", config->metric, MUSE_METRIC_EUCLIDEAN, MUSE_METRIC_KEY_COVARIANCE);
  check_range("config.retrieve_by", config->retrieve_by, MUSE_RETRIEVE_BY_MASS, MUSE_RETRIEVE_BY_MEAN_WEIGHT);
  check_range("config.reserved", config->reserved, 0, 0);
  check_range("config.retrieve_levels", config->retrieve_levels, 1, MUSE_MAX_LEVELS);
  check_range("config.block", config->block, 1, kLargestCount);
  check_range("config.passes", config->passes, 0, std::numeric_limits<std::int32_t>::max());
  check_range("config.cluster_window", config->cluster_window, 0, kLargestCount);
  check_range("config.sample", config->sample, 1, kLargestCount);
  muse::Config result;
  result.mode = static_cast<muse::Mode>(config->mode);
  result.order = static_cast<muse::Order>(config->order);
  result.cluster_by = static_cast<muse::ClusterBy>(config->cluster_by);
  result.metric = static_cast<muse::Metric>(config->metric);
  result.clusters_q = rules_of("config.clusters_q", config->clusters_q, config->clusters_q_levels);
  result.clusters_k = rules_of("config.clusters_k", config->clusters_k, config->clusters_k_levels);
  result.retrieve.values.clear();
  for (std::int32_t m = 0; m < config->retrieve_levels; ++m) {
    check_range(concat("config.retrieve[", m, "]").c_str(), config->retrieve[m], 0, kLargestCount);
    result.retrieve.values.push_back(config->retrieve[m]);
  }
  result.retrieve_by = static_cast<muse::RetrieveBy>(config->retrieve_by);
  result.block = config->block;
  result.passes = config->passes;
  result.cluster_window = config->cluster_window;
  result.seed = config->seed;
  result.sample = config->sample;
  return result;
}

void store_config(const muse::Config& from, muse_config& to) {
  const auto store_levels = [](const auto& levels, auto* entries, std::int32_t& count, const auto& convert,
                               const char* name) {
    check_range(concat("levels of ", name).c_str(), static_cast<std::int64_t>(levels.values.size()), 1,
                MUSE_MAX_LEVELS);
    count = static_cast<std::int32_t>(levels.values.size());
    for (std::int32_t m = 0; m < MUSE_MAX_LEVELS; ++m) entries[m] = convert(levels.at(m));
  };
  const auto rule = [](const muse::ClusterRule& r) { return muse_cluster_rule{r.divisor, r.low, r.high}; };
  to.struct_size = sizeof(muse_config);
  to.mode = static_cast<std::int32_t>(from.mode);
  to.order = static_cast<std::int32_t>(from.order);
  to.cluster_by = static_cast<std::int32_t>(from.cluster_by);
  to.metric = static_cast<std::int32_t>(from.metric);
  store_levels(from.clusters_q, to.clusters_q, to.clusters_q_levels, rule, "clusters_q");
  store_levels(from.clusters_k, to.clusters_k, to.clusters_k_levels, rule, "clusters_k");
  store_levels(
      from.retrieve, to.retrieve, to.retrieve_levels, [](std::int64_t r) { return r; }, "retrieve");
  to.block = from.block;
  to.passes = from.passes;
  to.cluster_window = from.cluster_window;
  to.seed = from.seed;
  to.sample = from.sample;
  to.retrieve_by = static_cast<std::int32_t>(from.retrieve_by);
  to.reserved = 0;
}

std::size_t element_bytes(const muse_call& call) {
  return call.dtype == MUSE_FLOAT32 ? 4 : 2;
}

void check_dim(const muse_call& call, const char* name, std::int64_t dim) {
  if (call.device == MUSE_DEVICE_CPU) {
    check_range(name, dim, 1, 1 << 20);
    return;
  }
  check_range(name, dim, 1, std::numeric_limits<std::int64_t>::max());
  if (dim % 8 != 0 || dim > 256)
    fail(MUSE_ERROR_UNSUPPORTED, name, ": CUDA takes multiples of 8 from 8 to 256, found ", dim);
}

// Checks all that a call's shapes need, whatever the device.
void check_shapes(const muse_call* call, const muse::Config& config) {
  check_not_null("call", call);
  check_struct_size("call", call->struct_size, sizeof(muse_call));
  check_range("call.device", call->device, MUSE_DEVICE_CPU, MUSE_DEVICE_CUDA);
  check_range("call.dtype", call->dtype, MUSE_FLOAT32, MUSE_BFLOAT16);
  check_range("call.reserved", call->reserved, 0, 0);
  check_range("call.batch", call->batch, 1, 1 << 20);
  check_range("call.heads_q", call->heads_q, 1, 1 << 20);
  check_range("call.heads_kv", call->heads_kv, 1, 1 << 20);
  if (call->heads_q % call->heads_kv != 0)
    fail(MUSE_ERROR_ARGUMENT, "call.heads_q: expected a multiple of heads_kv = ", call->heads_kv, ", found ",
         call->heads_q);
  check_range("call.Nq", call->Nq, 1, 1 << 28);
  check_range("call.Nk", call->Nk, 1, 1 << 28);
  if (config.mode != muse::Mode::acausal && call->Nq != call->Nk)
    fail(MUSE_ERROR_ARGUMENT, "causal attention needs as many queries as keys: expected Nq = Nk, found ",
         call->Nq, " and ", call->Nk);
  check_dim(*call, "call.D", call->D);
  check_dim(*call, "call.Dv", call->Dv);
  if (!std::isfinite(call->scale))
    fail(MUSE_ERROR_ARGUMENT, "call.scale: expected a finite number, found ", call->scale);
}

// Checks a tensor, and gives a dense one its strides.
muse_tensor checked_tensor(const muse_call& call, const char* name, const muse_tensor& tensor,
                           std::int64_t heads, std::int64_t tokens, std::int64_t dim) {
  const std::string prefix = concat("call.", name);
  check_not_null((prefix + ".data").c_str(), tensor.data);
  const std::size_t align = call.device == MUSE_DEVICE_CUDA ? 16 : element_bytes(call);
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % align != 0)
    fail(MUSE_ERROR_ARGUMENT, prefix, ".data: expected an address that is a multiple of ", align,
         " bytes, found ", tensor.data);
  if (tensor.stride_batch == 0 && tensor.stride_head == 0 && tensor.stride_token == 0)
    return {tensor.data, heads * tokens * dim, tokens * dim, dim};
  check_least((prefix + ".stride_batch").c_str(), tensor.stride_batch, 0);
  check_least((prefix + ".stride_head").c_str(), tensor.stride_head, 0);
  check_least((prefix + ".stride_token").c_str(), tensor.stride_token, dim);
  const auto step = static_cast<std::int64_t>(align / element_bytes(call));
  for (const std::int64_t stride : {tensor.stride_batch, tensor.stride_head, tensor.stride_token})
    if (stride % step != 0)
      fail(MUSE_ERROR_ARGUMENT, prefix, ": expected strides that are multiples of ", step,
           " elements, found ", stride);
  return tensor;
}

template <class T>
void check_aligned(const char* name, const T* pointer, std::size_t align) {
  if (reinterpret_cast<std::uintptr_t>(pointer) % align != 0)
    fail(MUSE_ERROR_ARGUMENT, name, ": expected an address that is a multiple of ", align, " bytes, found ",
         static_cast<const void*>(pointer));
}

// ---- CPU ------------------------------------------------------------------------------------------------

muse::DType dtype_of(const muse_call& call) {
  switch (call.dtype) {
    case MUSE_FLOAT16:
      return muse::DType::float16;
    case MUSE_BFLOAT16:
      return muse::DType::bfloat16;
    default:
      return muse::DType::float32;
  }
}

std::byte* row_of(const muse_call& call, const muse_tensor& tensor, std::int64_t batch, std::int64_t head,
                  std::int64_t n) {
  return static_cast<std::byte*>(tensor.data) +
         (batch * tensor.stride_batch + head * tensor.stride_head + n * tensor.stride_token) *
             static_cast<std::int64_t>(element_bytes(call));
}

// One head as a matrix of floats.
muse::Matrix<float> read_head(const muse_call& call, const muse_tensor& tensor, std::int64_t batch,
                              std::int64_t head, std::int64_t tokens, std::int64_t dim) {
  const std::size_t row_bytes = static_cast<std::size_t>(dim) * element_bytes(call);
  muse::Array array{.dtype = dtype_of(call), .shape = {tokens, dim}};
  array.bytes.resize(static_cast<std::size_t>(tokens) * row_bytes);
  for (std::int64_t n = 0; n < tokens; ++n)
    std::memcpy(array.bytes.data() + static_cast<std::size_t>(n) * row_bytes,
                row_of(call, tensor, batch, head, n), row_bytes);
  muse::Matrix<float> matrix(tokens, dim);
  muse::convert<float>(array, 0, std::span(matrix.data(), static_cast<std::size_t>(matrix.size())));
  return matrix;
}

void write_head(const muse_call& call, const muse_tensor& tensor, std::int64_t batch, std::int64_t head,
                const muse::Matrix<float>& matrix) {
  const muse::Array array =
      muse::make_array<float>(dtype_of(call), {matrix.rows(), matrix.cols()},
                              std::span(matrix.data(), static_cast<std::size_t>(matrix.size())));
  const std::size_t row_bytes = static_cast<std::size_t>(matrix.cols()) * element_bytes(call);
  for (std::int64_t n = 0; n < matrix.rows(); ++n)
    std::memcpy(row_of(call, tensor, batch, head, n),
                array.bytes.data() + static_cast<std::size_t>(n) * row_bytes, row_bytes);
}

std::int64_t levels_of(const muse_call& call, const muse::Config& config) {
  return config.mode == muse::Mode::acausal ? 1 : muse::level_count(call.Nq, config.block);
}

// Head `head` of labels [heads, levels, tokens].
muse::LevelLabels read_labels(const std::int32_t* labels, std::int64_t head, std::int64_t levels,
                              std::int64_t tokens) {
  muse::LevelLabels result(levels, tokens);
  std::copy_n(labels + head * levels * tokens, levels * tokens, result.values.begin());
  return result;
}

void run_on_cpu(const muse_call& call, const muse::Config& config, const muse_tensor& q, const muse_tensor& k,
                const muse_tensor& v, const muse_tensor& o) {
  const std::int64_t levels = levels_of(call, config), shared = call.heads_q / call.heads_kv;
  const auto scale =
      static_cast<float>(call.scale == 0 ? 1 / std::sqrt(static_cast<double>(call.D)) : call.scale);
  for (std::int64_t b = 0; b < call.batch; ++b) {
    for (std::int64_t kv = 0; kv < call.heads_kv; ++kv) {
      const std::int64_t key_head = b * call.heads_kv + kv;
      const muse::Matrix<float> k_head = read_head(call, k, b, kv, call.Nk, call.D),
                                v_head = read_head(call, v, b, kv, call.Nk, call.Dv);
      // The key clusters serve all query heads of the group.
      const muse::LevelLabels labels_k = call.labels_k != nullptr
                                             ? read_labels(call.labels_k, key_head, levels, call.Nk)
                                             : muse::cluster_keys<float>(k_head, call.Nq, config);
      if (call.labels_k_out != nullptr)
        std::copy(labels_k.values.begin(), labels_k.values.end(),
                  call.labels_k_out + key_head * levels * call.Nk);
      for (std::int64_t h = kv * shared; h < (kv + 1) * shared; ++h) {
        const std::int64_t head = b * call.heads_q + h;
        muse::Config config_of_head = config;
        if (call.retrieve_heads != nullptr)
          for (std::int64_t& r : config_of_head.retrieve.values)
            r = std::clamp<std::int64_t>(call.retrieve_heads[h], 0, r);
        const muse::Matrix<float> q_head = read_head(call, q, b, h, call.Nq, call.D);
        muse::LevelLabels labels_q;
        if (call.labels_q != nullptr) labels_q = read_labels(call.labels_q, head, levels, call.Nq);
        const muse::MuseResult<float> result = muse::muse_attention<float>(
            q_head, k_head, v_head, scale, config_of_head,
            {.labels_q = call.labels_q != nullptr ? &labels_q : nullptr, .labels_k = &labels_k});
        write_head(call, o, b, h, result.attention.o);
        if (call.lse != nullptr) std::copy_n(result.attention.lse.data(), call.Nq, call.lse + head * call.Nq);
        if (call.labels_q_out != nullptr)
          std::copy(result.labels_q.values.begin(), result.labels_q.values.end(),
                    call.labels_q_out + head * levels * call.Nq);
      }
    }
  }
}

// ---- CUDA -----------------------------------------------------------------------------------------------

#if MUSE_HAS_CUDA

void check_cuda() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return;
  static_cast<void>(cudaGetLastError());
  fail(MUSE_ERROR_NO_DEVICE, "expected a CUDA device, found none (", cudaGetErrorString(status),
       "); use MUSE_DEVICE_CPU");
}

muse::cuda::Shape shape_of(const muse_call& call) {
  constexpr muse::cuda::ElementType kTypes[] = {
      muse::cuda::ElementType::float32, muse::cuda::ElementType::float16, muse::cuda::ElementType::bfloat16};
  return {.batch = call.batch,
          .heads_q = call.heads_q,
          .heads_kv = call.heads_kv,
          .Nq = call.Nq,
          .Nk = call.Nk,
          .D = call.D,
          .Dv = call.Dv,
          .type = kTypes[call.dtype],
          .scale = call.scale};
}

// Kernels cannot read what lies in the CPU's own memory; found out here, it is a message instead of a lost
// device.
void check_on_device(const char* name, const void* pointer) {
  if (pointer == nullptr) return;
  cudaPointerAttributes attributes{};
  const cudaError_t status = cudaPointerGetAttributes(&attributes, pointer);
  if (status != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    fail(MUSE_ERROR_DEVICE, name, ": CUDA reports ", cudaGetErrorString(status));
  }
  if (attributes.type == cudaMemoryTypeUnregistered)
    fail(MUSE_ERROR_ARGUMENT, name, ": expected device memory, found memory that CUDA does not know");
}

void run_on_cuda(const muse_call& call, const muse::Config& config, const muse_tensor& q,
                 const muse_tensor& k, const muse_tensor& v, const muse_tensor& o) {
  const muse::cuda::Shape shape = shape_of(call);
  const muse::cuda::WorkspaceBytes bytes = muse::cuda::workspace_bytes(shape, config);
  check_not_null("call.workspace", call.workspace);
  check_aligned("call.workspace", static_cast<const std::byte*>(call.workspace), 256);
  if (call.workspace_size < bytes.least)
    fail(MUSE_ERROR_WORKSPACE, "call.workspace_size: expected at least ", bytes.least, " bytes, better ",
         bytes.recommended, ", found ", call.workspace_size);
  check_cuda();
  check_on_device("call.q.data", q.data);
  check_on_device("call.k.data", k.data);
  check_on_device("call.v.data", v.data);
  check_on_device("call.o.data", o.data);
  check_on_device("call.lse", call.lse);
  check_on_device("call.labels_q", call.labels_q);
  check_on_device("call.labels_k", call.labels_k);
  check_on_device("call.labels_q_out", call.labels_q_out);
  check_on_device("call.labels_k_out", call.labels_k_out);
  check_on_device("call.retrieve_heads", call.retrieve_heads);
  check_on_device("call.workspace", call.workspace);
  const auto strided = [](auto* data, const muse_tensor& tensor) {
    return muse::cuda::StridedTensor<decltype(data)>{data, tensor.stride_batch, tensor.stride_head,
                                                     tensor.stride_token};
  };
  const muse::cuda::Arguments arguments{.q = strided(static_cast<const void*>(q.data), q),
                                        .k = strided(static_cast<const void*>(k.data), k),
                                        .v = strided(static_cast<const void*>(v.data), v),
                                        .o = strided(o.data, o),
                                        .lse = call.lse,
                                        .labels_k = call.labels_k,
                                        .labels_q = call.labels_q,
                                        .labels_k_out = call.labels_k_out,
                                        .labels_q_out = call.labels_q_out,
                                        .retrieve_heads = call.retrieve_heads,
                                        .workspace = call.workspace,
                                        .workspace_bytes = call.workspace_size,
                                        .stream = static_cast<cudaStream_t>(call.stream)};
  muse::cuda::muse_attention(shape, arguments, config);
}

#else

void check_cuda() {
  fail(MUSE_ERROR_NO_DEVICE,
       "this library was built without CUDA; use MUSE_DEVICE_CPU, or build with MUSE_CUDA=ON");
}

#endif

}  // namespace

// ---- The interface --------------------------------------------------------------------------------------

uint32_t muse_abi_version(void) {
  return MUSE_ABI_VERSION;
}

const char* muse_version(void) {
  return MUSE_VERSION_TEXT;
}

const char* muse_last_error(void) {
  return last_error().c_str();
}

const char* muse_status_name(int32_t status) {
  switch (status) {
    case MUSE_OK:
      return "MUSE_OK";
    case MUSE_ERROR_ARGUMENT:
      return "MUSE_ERROR_ARGUMENT";
    case MUSE_ERROR_UNSUPPORTED:
      return "MUSE_ERROR_UNSUPPORTED";
    case MUSE_ERROR_WORKSPACE:
      return "MUSE_ERROR_WORKSPACE";
    case MUSE_ERROR_NO_DEVICE:
      return "MUSE_ERROR_NO_DEVICE";
    case MUSE_ERROR_DEVICE:
      return "MUSE_ERROR_DEVICE";
    case MUSE_ERROR_MEMORY:
      return "MUSE_ERROR_MEMORY";
    case MUSE_ERROR_INTERNAL:
      return "MUSE_ERROR_INTERNAL";
    default:
      return "unknown status";
  }
}

muse_status muse_device_status(int32_t device) {
  return guarded([&] {
    check_range("device", device, MUSE_DEVICE_CPU, MUSE_DEVICE_CUDA);
    if (device == MUSE_DEVICE_CUDA) check_cuda();
  });
}

muse_status muse_config_init(muse_config* config, uint32_t struct_size) {
  return guarded([&] {
    check_not_null("config", config);
    check_struct_size("config", struct_size, sizeof(muse_config));
    *config = muse_config{};
    store_config(muse::Config{}, *config);
  });
}

muse_status muse_call_init(muse_call* call, uint32_t struct_size) {
  return guarded([&] {
    check_not_null("call", call);
    check_struct_size("call", struct_size, sizeof(muse_call));
    *call = muse_call{};
    call->struct_size = sizeof(muse_call);
    call->batch = call->heads_q = call->heads_kv = 1;
  });
}

muse_status muse_config_set(muse_config* config, const char* name, const char* text) {
  return guarded([&] {
    check_not_null("name", name);
    check_not_null("text", text);
    muse::Config changed = checked_config(config);
    muse::set_option(changed, name, text);
    muse_config stored = *config;
    store_config(changed, stored);
    *config = stored;
  });
}

muse_status muse_level_count(const muse_config* config, const muse_call* call, int64_t* levels) {
  return guarded([&] {
    const muse::Config checked = checked_config(config);
    check_shapes(call, checked);
    check_not_null("levels", levels);
    *levels = levels_of(*call, checked);
  });
}

muse_status muse_workspace_size(const muse_config* config, const muse_call* call, uint64_t* best,
                                uint64_t* least) {
  return guarded([&] {
    const muse::Config checked = checked_config(config);
    check_shapes(call, checked);
    std::uint64_t best_bytes = 0, least_bytes = 0;  // the CPU needs none
    if (call->device == MUSE_DEVICE_CUDA) {
#if MUSE_HAS_CUDA
      const muse::cuda::WorkspaceBytes bytes = muse::cuda::workspace_bytes(shape_of(*call), checked);
      best_bytes = bytes.recommended;
      least_bytes = bytes.least;
#else
      check_cuda();
#endif
    }
    if (best != nullptr) *best = best_bytes;
    if (least != nullptr) *least = least_bytes;
  });
}

muse_status muse_attention(const muse_config* config, const muse_call* call) {
  return guarded([&] {
    const muse::Config checked = checked_config(config);
    check_shapes(call, checked);
    const muse_tensor q = checked_tensor(*call, "q", call->q, call->heads_q, call->Nq, call->D),
                      k = checked_tensor(*call, "k", call->k, call->heads_kv, call->Nk, call->D),
                      v = checked_tensor(*call, "v", call->v, call->heads_kv, call->Nk, call->Dv),
                      o = checked_tensor(*call, "o", call->o, call->heads_q, call->Nq, call->Dv);
    check_aligned("call.lse", call->lse, alignof(float));
    check_aligned("call.labels_q", call->labels_q, alignof(std::int32_t));
    check_aligned("call.labels_k", call->labels_k, alignof(std::int32_t));
    check_aligned("call.labels_q_out", call->labels_q_out, alignof(std::int32_t));
    check_aligned("call.labels_k_out", call->labels_k_out, alignof(std::int32_t));
    check_aligned("call.retrieve_heads", call->retrieve_heads, alignof(std::int32_t));
    if (call->device == MUSE_DEVICE_CPU) {
      run_on_cpu(*call, checked, q, k, v, o);
    } else {
#if MUSE_HAS_CUDA
      run_on_cuda(*call, checked, q, k, v, o);
#else
      check_cuda();
#endif
    }
  });
}
