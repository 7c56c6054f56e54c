// What the GPU tests share: skipping where there is no GPU, device memory with sentinels, a whole call as one
// function, and the method in double with every intermediate rounded as the kernels round it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdio>
#include <random>

#include "helpers.h"
#include "make_plan.h"
#include "muse/cuda/muse_attention.h"
#include "muse/muse_attention.h"
#include "muse/retrieval.h"

namespace muse::test {

using muse::cuda::ElementType;

// ---- Where there is a GPU -------------------------------------------------------------------------------

/// Opens every GPU test: without a GPU it is skipped, which CTest reports as such; MUSE_REQUIRE_GPU=1 fails
/// it.
inline bool gpu_missing() {
  int devices = 0;
  const cudaError_t status = cudaGetDeviceCount(&devices);
  if (status == cudaSuccess && devices > 0) return false;
  const char* required = std::getenv("MUSE_REQUIRE_GPU");
  if (required != nullptr && std::string(required) == "1") {
    FAIL("MUSE_REQUIRE_GPU=1, but there is no GPU: " << cudaGetErrorString(status));
  }
  std::printf("skipped: no GPU\n");
  return true;
}
#define MUSE_NEEDS_GPU()                   \
  if (::muse::test::gpu_missing()) return; \
  MUSE_SHOW_SEED()

/// Fails the test with what CUDA reports.
#define MUSE_CUDA_REQUIRE(call)                                                                          \
  do {                                                                                                   \
    const cudaError_t muse_status_ = (call);                                                             \
    if (muse_status_ != cudaSuccess)                                                                     \
      FAIL(#call << ": " << cudaGetErrorName(muse_status_) << ", " << cudaGetErrorString(muse_status_)); \
  } while (false)

// ---- Elements -------------------------------------------------------------------------------------------

template <class Element>
constexpr ElementType kTypeOf = std::is_same_v<Element, float>    ? ElementType::float32
                                : std::is_same_v<Element, __half> ? ElementType::float16
                                                                  : ElementType::bfloat16;

/// Rounding to nearest has a relative error of at most this.
template <class Element>
constexpr double kRoundoff = std::is_same_v<Element, float>    ? 0x1p-24
                             : std::is_same_v<Element, __half> ? 0x1p-11
                                                               : 0x1p-9;

template <class Element>
Element to_element(double x) {
  if constexpr (std::is_same_v<Element, float>) {
    return static_cast<float>(x);
  } else if constexpr (std::is_same_v<Element, __half>) {
    return __float2half(static_cast<float>(x));
  } else {
    return __float2bfloat16(static_cast<float>(x));
  }
}
inline double from_element(float x) {
  return x;
}
inline double from_element(__half x) {
  return static_cast<double>(__half2float(x));
}
inline double from_element(__nv_bfloat16 x) {
  return static_cast<double>(__bfloat162float(x));
}

/// x rounded to Element, as a double again.
template <class Element>
Matrix<double> rounded(const Matrix<double>& x) {
  return x.unaryExpr([](double value) { return from_element(to_element<Element>(value)); });
}

// ---- Device memory --------------------------------------------------------------------------------------

/// An array on the device between two sentinels. It starts poisoned: every byte 0xff, which is NaN in all
/// element types and -1 in integers.
template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count) : count_(count) {
    MUSE_CUDA_REQUIRE(cudaMalloc(reinterpret_cast<void**>(&memory_), bytes() + 2 * kGuard));
    MUSE_CUDA_REQUIRE(cudaMemset(memory_, kSentinel, kGuard));
    MUSE_CUDA_REQUIRE(cudaMemset(memory_ + kGuard, 0xff, bytes()));
    MUSE_CUDA_REQUIRE(cudaMemset(memory_ + kGuard + bytes(), kSentinel, kGuard));
  }
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    MUSE_CUDA_REQUIRE(cudaMemcpy(data(), values.data(), bytes(), cudaMemcpyHostToDevice));
  }
  ~DeviceArray() { cudaFree(memory_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;

  [[nodiscard]] T* data() { return reinterpret_cast<T*>(memory_ + kGuard); }
  [[nodiscard]] std::size_t bytes() const { return count_ * sizeof(T); }
  [[nodiscard]] std::vector<T> values() {
    std::vector<T> host(count_);
    MUSE_CUDA_REQUIRE(cudaMemcpy(host.data(), data(), bytes(), cudaMemcpyDeviceToHost));
    return host;
  }
  void poison() { MUSE_CUDA_REQUIRE(cudaMemset(data(), 0xff, bytes())); }
  /// Checks that nothing was written beside the array.
  void check_sentinels(const std::string& what) {
    std::vector<unsigned char> guard(2 * kGuard);
    MUSE_CUDA_REQUIRE(cudaMemcpy(guard.data(), memory_, kGuard, cudaMemcpyDeviceToHost));
    MUSE_CUDA_REQUIRE(
        cudaMemcpy(guard.data() + kGuard, memory_ + kGuard + bytes(), kGuard, cudaMemcpyDeviceToHost));
    INFO("sentinels of " << what);
    CHECK(std::count(guard.begin(), guard.end(), static_cast<unsigned char>(kSentinel)) ==
          static_cast<std::ptrdiff_t>(guard.size()));
  }

 private:
  static constexpr std::size_t kGuard = 256;
  static constexpr int kSentinel = 0xa5;
  std::size_t count_;
  std::byte* memory_ = nullptr;
};

// ---- Inputs ---------------------------------------------------------------------------------------------

/// q, k, v of some heads, rounded to the element type that the device gets.
struct Inputs {
  Index batch = 1, heads_q = 1, heads_kv = 1;
  double scale = 0;
  std::vector<Matrix<double>> q, k, v;  ///< a head each; query heads first, sequence by sequence

  [[nodiscard]] Index Nq() const { return q[0].rows(); }
  [[nodiscard]] Index Nk() const { return k[0].rows(); }
  [[nodiscard]] Index D() const { return q[0].cols(); }
  [[nodiscard]] Index Dv() const { return v[0].cols(); }
  /// The key head of query head hq.
  [[nodiscard]] std::size_t key_head(std::size_t hq) const {
    const auto group = static_cast<std::size_t>(heads_q / heads_kv), Hq = static_cast<std::size_t>(heads_q);
    return hq / Hq * static_cast<std::size_t>(heads_kv) + hq % Hq / group;
  }
  [[nodiscard]] muse::cuda::Shape shape(ElementType type) const {
    return {.batch = batch,
            .heads_q = heads_q,
            .heads_kv = heads_kv,
            .Nq = Nq(),
            .Nk = Nk(),
            .D = D(),
            .Dv = Dv(),
            .type = type,
            .scale = scale};
  }
};

struct InputSizes {
  Index Nq, Nk, D, Dv, batch = 1, heads_q = 1, heads_kv = 1;
};

/// Tokens in clumps, as heads have them: logits spread over some units.
template <class Element>
Inputs random_inputs(const InputSizes& sizes, std::uint64_t seed) {
  Inputs inputs{.batch = sizes.batch, .heads_q = sizes.heads_q, .heads_kv = sizes.heads_kv};
  inputs.scale = 1 / std::sqrt(static_cast<double>(sizes.D));
  const auto tokens = [&](Index N, Index dim, std::uint64_t number) {
    return rounded<Element>(clumped_matrix<double>(N, dim, 12, 0.5, seed * 1000 + number * 10));
  };
  for (Index h = 0; h < sizes.batch * sizes.heads_q; ++h)
    inputs.q.push_back(tokens(sizes.Nq, sizes.D, static_cast<std::uint64_t>(h)));
  for (Index h = 0; h < sizes.batch * sizes.heads_kv; ++h) {
    inputs.k.push_back(tokens(sizes.Nk, sizes.D, static_cast<std::uint64_t>(100 + h)));
    inputs.v.push_back(tokens(sizes.Nk, sizes.Dv, static_cast<std::uint64_t>(200 + h)));
  }
  return inputs;
}

/// Heads laid one behind the other, with `spare` more elements between tokens.
template <class Element>
std::vector<Element> packed(const std::vector<Matrix<double>>& heads, Index spare = 0) {
  std::vector<Element> values;
  for (const Matrix<double>& head : heads)
    for (Index n = 0; n < head.rows(); ++n) {
      for (Index d = 0; d < head.cols(); ++d) values.push_back(to_element<Element>(head(n, d)));
      for (Index d = 0; d < spare; ++d) values.push_back(to_element<Element>(std::nan("")));
    }
  return values;
}

// ---- A call ---------------------------------------------------------------------------------------------

/// Labels of heads, one behind the other, [heads, levels, N].
using HeadLabels = std::vector<std::int32_t>;

struct CallOptions {
  const HeadLabels* labels_q = nullptr;  ///< given labels
  const HeadLabels* labels_k = nullptr;
  Index spare = 0;  ///< elements between tokens beyond dim, of q, k, v and o
  bool least_workspace = false;
  bool graph = false;  ///< capture the second of two calls, poison, replay
};

template <class Element>
struct CallResult {
  std::vector<Matrix<double>> o;    ///< a head each
  std::vector<Vector<double>> lse;  ///< a head each
  std::vector<Element> o_bits;      ///< as on the device
  std::vector<float> lse_bits;
  HeadLabels labels_q, labels_k;  ///< as the call used them
};

/// One call of the host API, with poisoned outputs and workspace, and sentinels around all of them.
template <class Element>
CallResult<Element> run_cuda(const Inputs& inputs, const Config& config, const CallOptions& options = {}) {
  const auto HQ = inputs.q.size(), HK = inputs.k.size();
  const auto Nq = static_cast<std::size_t>(inputs.Nq()), Nk = static_cast<std::size_t>(inputs.Nk());
  const muse::cuda::Shape shape = inputs.shape(kTypeOf<Element>);
  const auto levels = static_cast<std::size_t>(muse::cuda::level_count(shape, config));
  DeviceArray<Element> q(packed<Element>(inputs.q, options.spare)),
      k(packed<Element>(inputs.k, options.spare)), v(packed<Element>(inputs.v, options.spare));
  const auto o_stride = static_cast<std::size_t>(inputs.Dv() + options.spare);
  DeviceArray<Element> o(HQ * Nq * o_stride);
  DeviceArray<float> lse(HQ * Nq);
  DeviceArray<std::int32_t> labels_q(HQ * levels * Nq), labels_k(HK * levels * Nk);
  const muse::cuda::WorkspaceBytes bytes = muse::cuda::workspace_bytes(shape, config);
  DeviceArray<std::byte> workspace(options.least_workspace ? bytes.least : bytes.recommended);
  const auto strided = [&](auto* data, Index heads, Index tokens, Index dim) {
    const Index token = dim + options.spare;
    return muse::cuda::StridedTensor<decltype(data)>{data, heads * tokens * token, tokens * token, token};
  };
  muse::cuda::Arguments arguments{
      .q = strided(static_cast<const void*>(q.data()), inputs.heads_q, inputs.Nq(), inputs.D()),
      .k = strided(static_cast<const void*>(k.data()), inputs.heads_kv, inputs.Nk(), inputs.D()),
      .v = strided(static_cast<const void*>(v.data()), inputs.heads_kv, inputs.Nk(), inputs.Dv()),
      .o = strided(static_cast<void*>(o.data()), inputs.heads_q, inputs.Nq(), inputs.Dv()),
      .lse = lse.data(),
      .labels_k_out = labels_k.data(),
      .labels_q_out = labels_q.data(),
      .workspace = workspace.data(),
      .workspace_bytes = workspace.bytes()};
  DeviceArray<std::int32_t> given_q(options.labels_q != nullptr ? *options.labels_q : HeadLabels(1)),
      given_k(options.labels_k != nullptr ? *options.labels_k : HeadLabels(1));
  if (options.labels_q != nullptr) arguments.labels_q = given_q.data();
  if (options.labels_k != nullptr) arguments.labels_k = given_k.data();

  cudaStream_t stream = nullptr;
  MUSE_CUDA_REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  arguments.stream = stream;
  MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
  muse::cuda::muse_attention(shape, arguments, config);
  if (options.graph) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    MUSE_CUDA_REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    muse::cuda::muse_attention(shape, arguments, config);
    MUSE_CUDA_REQUIRE(cudaStreamEndCapture(stream, &graph));
    MUSE_CUDA_REQUIRE(cudaGraphInstantiate(&executable, graph, 0));
    MUSE_CUDA_REQUIRE(cudaStreamSynchronize(stream));
    o.poison();
    lse.poison();
    workspace.poison();
    labels_q.poison();
    labels_k.poison();
    MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
    MUSE_CUDA_REQUIRE(cudaGraphLaunch(executable, stream));
    MUSE_CUDA_REQUIRE(cudaStreamSynchronize(stream));
    cudaGraphExecDestroy(executable);
    cudaGraphDestroy(graph);
  }
  MUSE_CUDA_REQUIRE(cudaStreamSynchronize(stream));
  cudaStreamDestroy(stream);
  q.check_sentinels("q");
  k.check_sentinels("k");
  v.check_sentinels("v");
  o.check_sentinels("o");
  lse.check_sentinels("lse");
  labels_q.check_sentinels("labels_q");
  labels_k.check_sentinels("labels_k");
  workspace.check_sentinels("workspace");

  CallResult<Element> result;
  result.o_bits = o.values();
  result.lse_bits = lse.values();
  result.labels_q = labels_q.values();
  result.labels_k = labels_k.values();
  for (std::size_t h = 0; h < HQ; ++h) {
    Matrix<double> o_head(inputs.Nq(), inputs.Dv());
    Vector<double> lse_head(inputs.Nq());
    for (std::size_t n = 0; n < Nq; ++n) {
      for (Index d = 0; d < inputs.Dv(); ++d)
        o_head(static_cast<Index>(n), d) =
            from_element(result.o_bits[(h * Nq + n) * o_stride + static_cast<std::size_t>(d)]);
      lse_head[static_cast<Index>(n)] = static_cast<double>(result.lse_bits[h * Nq + n]);
    }
    result.o.push_back(o_head);
    result.lse.push_back(lse_head);
  }
  return result;
}

/// Head `head` of labels [heads, levels, tokens].
inline LevelLabels labels_of_head(const HeadLabels& labels, std::size_t head, Index levels, Index tokens) {
  LevelLabels result(levels, tokens);
  const auto size = static_cast<std::size_t>(levels * tokens);
  std::copy_n(labels.begin() + static_cast<std::ptrdiff_t>(head * size), size, result.values.begin());
  return result;
}

// ---- The method in working precision --------------------------------------------------------------------

/// MuSe attention of one head by its definition, in double; `round` is applied to all that the kernels keep
/// in the element type: expansion points, weights that multiply keys and values, summaries, parts, the
/// result. With no rounding it is the truth; with the rounding of an element type it shows what that type
/// costs.
template <class Round>
Attention<double> model_attention(const Matrix<double>& q, const Matrix<double>& k, const Matrix<double>& v,
                                  double s, const Config& config, const LevelLabels& labels_q,
                                  const LevelLabels& labels_k, const Round& round) {
  const Index Nq = q.rows(), Dv = v.cols();
  constexpr double kEmpty = -std::numeric_limits<double>::infinity();
  const auto round_all = [&](const Matrix<double>& x) -> Matrix<double> { return x.unaryExpr(round); };
  // The softmax of one query over terms: logits and values.
  const auto attend = [&](const RowVector<double>& logits, const Matrix<double>& values, double& lse) {
    RowVector<double> o = RowVector<double>::Zero(values.cols());
    const double m = logits.size() > 0 ? logits.maxCoeff() : kEmpty;
    lse = kEmpty;
    if (m == kEmpty) return o;
    const RowVector<double> weights = (logits.array() - m).exp();
    o = (weights.unaryExpr(round) * values) / weights.sum();
    lse = m + std::log(weights.sum());
    return o;
  };
  Attention<double> out(Nq, Dv);
  const auto merge = [&](Index n, const RowVector<double>& part, double lse) {
    softmax_merge_row(out.o.row(n), out.lse[n], part.unaryExpr(round), lse);
  };

  // The diagonal blocks.
  if (config.mode != Mode::acausal) {
    for (Index t = 0; t < Nq; ++t) {
      const Index begin = t / config.block * config.block, count = t + 1 - begin;
      const RowVector<double> logits = s * q.row(t) * k.middleRows(begin, count).transpose();
      double lse = 0;
      const RowVector<double> o = attend(logits, v.middleRows(begin, count), lse);
      merge(t, o, lse);
    }
  }
  // The far blocks.
  for (const Block& block : approximated_blocks(Nq, k.rows(), config)) {
    const BlockClusters<double> clusters = block_clusters<double>(q, k, block, labels_q, labels_k, config);
    const SortedKeys<double> keys =
        sort_keys<double>(k.middleRows(block.key_begin, block.keys()),
                          v.middleRows(block.key_begin, block.keys()), clusters.keys);
    const Index Ck = keys.clusters(), D = q.cols();
    for (Index i = 0; i < clusters.home.size(); ++i) {
      const auto& members = clusters.queries[static_cast<std::size_t>(i)];
      if (members.empty()) continue;
      const RowVector<double> q_bar = clusters.home.centroids.row(i).unaryExpr(round);
      // Stage 1.
      Matrix<double> k_tilde = Matrix<double>::Zero(Ck, D), v_tilde = Matrix<double>::Zero(Ck, Dv);
      RowVector<double> L = RowVector<double>::Constant(Ck, kEmpty), bias = L;
      for (Index j = 0; j < Ck; ++j) {
        if (keys.count(j) == 0) continue;
        const auto k_j = keys.k.middleRows(keys.begin(j), keys.count(j));
        const auto v_j = keys.v.middleRows(keys.begin(j), keys.count(j));
        if (config.order == Order::centroid) {
          k_tilde.row(j) = k_j.colwise().mean();
          v_tilde.row(j) = v_j.colwise().mean();
        } else {
          const RowVector<double> a = s * q_bar * k_j.transpose();
          double lse = 0;
          k_tilde.row(j) = attend(a, k_j, lse);
          v_tilde.row(j) = attend(a, v_j, L[j]);
        }
      }
      k_tilde = round_all(k_tilde);
      v_tilde = round_all(v_tilde);
      for (Index j = 0; j < Ck; ++j) {
        if (keys.count(j) == 0) continue;
        const double log_count = std::log(static_cast<double>(keys.count(j)));
        if (config.order == Order::centroid) L[j] = log_count + s * q_bar.dot(k_tilde.row(j));
        bias[j] = L[j] - s * q_bar.dot(k_tilde.row(j));
      }
      // Retrieval.
      const std::vector<Index> retrieved = largest_clusters<double>(L, config.retrieve.at(block.level));
      Index tokens = 0;
      std::vector<Index> far;
      for (Index j = 0; j < Ck; ++j)
        if (keys.count(j) > 0 && std::find(retrieved.begin(), retrieved.end(), j) == retrieved.end())
          far.push_back(j);
      for (const Index j : retrieved) tokens += keys.count(j);
      const auto far_count = static_cast<Index>(far.size());
      Matrix<double> term_keys(far_count + tokens, D), term_values(far_count + tokens, Dv);
      RowVector<double> term_bias = RowVector<double>::Zero(far_count + tokens);
      for (Index x = 0; x < far_count; ++x) {
        const Index j = far[static_cast<std::size_t>(x)];
        term_keys.row(x) = k_tilde.row(j);
        term_values.row(x) = v_tilde.row(j);
        term_bias[x] = bias[j];
        if (config.order == Order::monopole) {
          term_keys.row(x).setZero();
          term_bias[x] = L[j];
        }
      }
      Index row = far_count;
      for (const Index j : retrieved) {
        term_keys.middleRows(row, keys.count(j)) = keys.k.middleRows(keys.begin(j), keys.count(j));
        term_values.middleRows(row, keys.count(j)) = keys.v.middleRows(keys.begin(j), keys.count(j));
        row += keys.count(j);
      }
      // Stage 2.
      for (const Index member : members) {
        const Index n = block.query_begin + member;
        const RowVector<double> logits = s * q.row(n) * term_keys.transpose() + term_bias;
        double lse = 0;
        RowVector<double> o = attend(logits, term_values, lse);
        if (config.order == Order::dipole_value) {
          const RowVector<double> s_delta = s * (q.row(n) - q_bar);
          for (Index x = 0; x < far_count; ++x) {
            const Index j = far[static_cast<std::size_t>(x)];
            const auto k_j = keys.k.middleRows(keys.begin(j), keys.count(j));
            const auto v_j = keys.v.middleRows(keys.begin(j), keys.count(j));
            const RowVector<double> p =
                (s * q_bar * k_j.transpose()).array().unaryExpr([&](double a) { return std::exp(a - L[j]); });
            const RowVector<double> along = (s_delta * k_j.transpose()).array() - s_delta.dot(k_tilde.row(j));
            const RowVector<double> factors = (p.array() * along.array()).matrix();
            o +=
                std::exp(logits[x] - lse) * (factors.unaryExpr(round) * v_j - factors.sum() * v_tilde.row(j));
          }
        }
        merge(n, o, lse);
      }
    }
  }
  out.o = out.o.unaryExpr(round).eval();
  return out;
}

struct NoRounding {
  double operator()(double x) const { return x; }
};
template <class Element>
struct ElementRounding {
  double operator()(double x) const { return from_element(to_element<Element>(x)); }
};

// ---- Comparing ------------------------------------------------------------------------------------------

/// Largest difference of log-sum-exps; infinite if one is not finite where the truth is.
inline double lse_difference(const Vector<double>& found, const Vector<double>& truth) {
  double largest = 0;
  for (Index n = 0; n < found.size(); ++n) {
    if (!std::isfinite(truth[n]) && found[n] == truth[n]) continue;
    const double difference = std::abs(found[n] - truth[n]);
    largest =
        std::isfinite(difference) ? std::max(largest, difference) : std::numeric_limits<double>::infinity();
  }
  return largest;
}

/// Checks that the kernels err at most twice as much as the same computation in working precision does, plus
/// what one rounding of the result costs: non-finite numbers first, then relative L2, then the largest error.
/// Prints a line, so that a run can be judged from its output.
template <class Element>
void check_working_precision(const Attention<double>& found, const Attention<double>& truth,
                             const Attention<double>& model, const std::string& what) {
  constexpr double u = kRoundoff<Element>;
  constexpr bool kFloat = std::is_same_v<Element, float>;
  const Difference of_found = difference(found.o, rows_of(truth.o)),
                   of_model = difference(model.o, rows_of(truth.o));
  const double norm = truth.o.norm(), largest = truth.o.cwiseAbs().maxCoeff();
  // float32 sums of up to some thousand terms, one after the other, err by some 16 u at random.
  const double l2_bound = 2 * of_model.l2 + (kFloat ? 16 : 0.25) * u * norm;
  const double max_bound = 2 * of_model.max_abs + (kFloat ? 64 : 1) * u * largest;
  const double lse_found = lse_difference(found.lse, truth.lse),
               lse_model = lse_difference(model.lse, truth.lse);
  double lse_size = 1;
  for (Index n = 0; n < truth.lse.size(); ++n)
    if (std::isfinite(truth.lse[n])) lse_size = std::max(lse_size, std::abs(truth.lse[n]));
  const double lse_limit = 2 * lse_model + 64 * 0x1p-24 * (lse_size + 10);
  const bool good = of_found.non_finite == 0 && of_found.l2 <= l2_bound && of_found.max_abs <= max_bound &&
                    lse_found <= lse_limit;
  char line[512];
  std::snprintf(
      line, sizeof line,
      "%s %-64s rel L2 %.2e (working precision %.2e, bound %.2e)  max %.2e (%.2e, bound %.2e)  lse %.2e "
      "(%.2e, bound %.2e)  non-finite %lld",
      good ? "ok   " : "WRONG", what.c_str(), of_found.rel_l2, of_model.rel_l2, l2_bound / norm,
      of_found.max_abs, of_model.max_abs, max_bound, lse_found, lse_model, lse_limit,
      static_cast<long long>(of_found.non_finite));
  std::printf("%s\n", line);
  std::fflush(stdout);
  INFO(line);
  CHECK(of_found.non_finite == 0);
  CHECK(of_found.l2 <= l2_bound);
  CHECK(of_found.max_abs <= max_bound);
  CHECK(lse_found <= lse_limit);
}

/// "bfloat16", …
template <class Element>
std::string type_name() {
  return muse::cuda::name_of(kTypeOf<Element>);
}

}  // namespace muse::test
