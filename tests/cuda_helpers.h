// What the GPU tests share: skipping where there is no GPU, device memory with sentinels, a whole call as one
// function, and the method in double with every intermediate rounded as the kernels round it.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <chrono>
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

/// A seed that no run had before, unless MUSE_TEST_SEED is set: then that one. The first test prints it.
inline void take_fresh_seed() {
  static const bool done = [] {
    const auto now =
        static_cast<unsigned long long>(std::chrono::system_clock::now().time_since_epoch().count());
    setenv("MUSE_TEST_SEED", std::to_string(now / 1000 % 1000000).c_str(), 0);
    std::printf("     MUSE_TEST_SEED=%llu\n", static_cast<unsigned long long>(base_seed()));
    return true;
  }();
  static_cast<void>(done);
}

/// MUSE_TEST_SEED is `seed` while this lives.
class FixedSeed {
 public:
  explicit FixedSeed(const char* seed) : before_(std::to_string(base_seed())) {
    setenv("MUSE_TEST_SEED", seed, 1);
  }
  FixedSeed(const FixedSeed&) = delete;
  FixedSeed& operator=(const FixedSeed&) = delete;
  ~FixedSeed() { setenv("MUSE_TEST_SEED", before_.c_str(), 1); }

 private:
  std::string before_;
};

/// Opens every GPU test: without a GPU it is skipped, which CTest reports as such; MUSE_REQUIRE_GPU=1 fails
/// it.
inline bool gpu_missing() {
  take_fresh_seed();
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

/// The softmax of one query over terms, logits [n] and values [n, width]. The largest logit is taken out,
/// weights are rounded where they multiply values, as tensor cores need them; their sum is not. -infinity: no
/// term.
template <class Round>
RowVector<double> attend_rounded(const RowVector<double>& logits, const Matrix<double>& values, double& lse,
                                 const Round& round) {
  constexpr double kEmpty = -std::numeric_limits<double>::infinity();
  const double m = logits.size() > 0 ? logits.maxCoeff() : kEmpty;
  lse = kEmpty;
  if (m == kEmpty) return RowVector<double>::Zero(values.cols());
  const RowVector<double> weights = (logits.array() - m).exp();
  lse = m + std::log(weights.sum());
  return (weights.unaryExpr(round) * values) / weights.sum();
}

/// (3.8) as the kernels take it: the shares of logits a [n] with log-sum-exp `lse`, not rounded, on |k_n|²,
/// less |k̃|².
inline double spread_around(const RowVector<double>& k_tilde, const RowVector<double>& a,
                            const Matrix<double>& k, double lse) {
  const RowVector<double> p = (a.array() - lse).exp();
  return std::max(0.0, p.dot(k.rowwise().squaredNorm().transpose()) - k_tilde.squaredNorm());
}

/// (4.6) What a cluster's spread adds to its log-mass.
inline double spread_logit(double s, const RowVector<double>& q, const RowVector<double>& q_bar,
                           double spread) {
  return kSpreadFactor / 2 * s * s * (q - q_bar).squaredNorm() * spread / static_cast<double>(q.size());
}

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
  const auto attend = [&](const RowVector<double>& logits, const Matrix<double>& values, double& lse) {
    return attend_rounded(logits, values, lse, round);
  };
  Attention<double> out(Nq, Dv);
  const auto merge = [&](Index n, const RowVector<double>& part, double lse) {
    softmax_merge_row(out.o.row(n), out.lse[n], part, lse);
    out.o.row(n) = out.o.row(n).unaryExpr(round).eval();
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
      RowVector<double> spread = RowVector<double>::Zero(Ck);
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
          spread[j] = spread_around(k_tilde.row(j), a, k_j, lse);
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
        RowVector<double> logits = s * q.row(n) * term_keys.transpose() + term_bias;
        if (config.order == Order::dipole_spread)
          for (Index x = 0; x < far_count; ++x)
            logits[x] += spread_logit(s, q.row(n), q_bar, spread[far[static_cast<std::size_t>(x)]]);
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

/// How far numbers are from the truth, beside how far the same computation in working precision is.
template <class Element>
struct Precision {
  Difference found, model;
  double norm, l2_bound, max_bound;

  Precision(const Matrix<double>& found_, const Matrix<double>& truth, const Matrix<double>& model_)
      : found(difference(found_, rows_of(truth))),
        model(difference(model_, rows_of(truth))),
        norm(truth.norm()) {
    constexpr double u = kRoundoff<Element>;
    constexpr bool kFloat = std::is_same_v<Element, float>;
    // float32 sums of n terms, one after the other, err by some sqrt(n) u at random; n is 4096 at most.
    l2_bound = 2 * model.l2 + (kFloat ? 64 : 0.25) * u * norm;
    max_bound = 2 * model.max_abs + (kFloat ? 64 : 1) * u * truth.cwiseAbs().maxCoeff();
  }
  [[nodiscard]] bool good() const {
    return found.non_finite == 0 && found.l2 <= l2_bound && found.max_abs <= max_bound;
  }
  [[nodiscard]] std::string text() const {
    char line[256];
    std::snprintf(
        line, sizeof line,
        "rel L2 %.2e (working precision %.2e, bound %.2e)  max %.2e (%.2e, bound %.2e)  non-finite %lld",
        found.rel_l2, model.rel_l2, l2_bound / norm, found.max_abs, model.max_abs, max_bound,
        static_cast<long long>(found.non_finite));
    return line;
  }
};

/// Prints a line, so that a run can be judged from its output.
inline void print_line(bool good, const std::string& what, const std::string& text) {
  std::printf("%s %-64s %s\n", good ? "ok   " : "WRONG", what.c_str(), text.c_str());
  std::fflush(stdout);
}

/// Checks that a kernel errs at most twice as much as the same computation in working precision does, plus
/// what one rounding of the result costs: non-finite numbers first, then relative L2, then the largest error.
template <class Element>
void check_precision(const Matrix<double>& found, const Matrix<double>& truth, const Matrix<double>& model,
                     const std::string& what) {
  const Precision<Element> precision(found, truth, model);
  print_line(precision.good(), what, precision.text());
  INFO(what << " " << precision.text());
  CHECK(precision.found.non_finite == 0);
  CHECK(precision.found.l2 <= precision.l2_bound);
  CHECK(precision.found.max_abs <= precision.max_bound);
}

/// The same for attention: outputs and log-sum-exps.
template <class Element>
void check_working_precision(const Attention<double>& found, const Attention<double>& truth,
                             const Attention<double>& model, const std::string& what) {
  const Precision<Element> precision(found.o, truth.o, model.o);
  const double lse_found = lse_difference(found.lse, truth.lse),
               lse_model = lse_difference(model.lse, truth.lse);
  double lse_size = 1;
  for (Index n = 0; n < truth.lse.size(); ++n)
    if (std::isfinite(truth.lse[n])) lse_size = std::max(lse_size, std::abs(truth.lse[n]));
  // Where two clusters have all but the same mass, rounding decides which of them is retrieved, and that may
  // move a log-sum-exp as far as one rounding of a logit does: by u.
  const double lse_bound = 2 * lse_model + 64 * 0x1p-24 * (lse_size + 10) +
                           (std::is_same_v<Element, float> ? 0 : kRoundoff<Element>);
  char lse_text[128];
  std::snprintf(lse_text, sizeof lse_text, "  lse %.2e (%.2e, bound %.2e)", lse_found, lse_model, lse_bound);
  const std::string text = precision.text() + lse_text;
  print_line(precision.good() && lse_found <= lse_bound, what, text);
  INFO(what << " " << text);
  CHECK(precision.found.non_finite == 0);
  CHECK(precision.found.l2 <= precision.l2_bound);
  CHECK(precision.found.max_abs <= precision.max_bound);
  CHECK(lse_found <= lse_bound);
}

/// "bfloat16", …
template <class Element>
std::string type_name() {
  return muse::cuda::name_of(kTypeOf<Element>);
}

/// Parameters from pairs of option and text, as the command line takes them.
inline Config config_of(std::initializer_list<std::pair<const char*, const char*>> options) {
  Config config;
  for (const auto& [name, value] : options) set_option(config, name, value);
  return config;
}

// ---- One stage at a time --------------------------------------------------------------------------------

/// The plan, tensors and workspace of a call on dense inputs, for tests that launch single stages.
template <class Element>
class Stages {
 public:
  Stages(const Inputs& inputs, const Config& config)
      : plan(dense_plan(inputs, config)),
        q_(packed<Element>(inputs.q)),
        k_(packed<Element>(inputs.k)),
        v_(packed<Element>(inputs.v)),
        o_(inputs.q.size() * static_cast<std::size_t>(inputs.Nq() * inputs.Dv())),
        lse_(inputs.q.size() * static_cast<std::size_t>(inputs.Nq())),
        workspace_(muse::cuda::lay_out<Element>(plan, nullptr, muse::cuda::kSummaryBytes).bytes) {
    tensors = {.q = q_.data(), .k = k_.data(), .v = v_.data(), .o = o_.data(), .lse = lse_.data()};
    workspace = muse::cuda::lay_out<Element>(plan, workspace_.data(), muse::cuda::kSummaryBytes).workspace;
  }

  const muse::cuda::Plan plan;
  muse::cuda::Tensors<Element> tensors;
  muse::cuda::Workspace<Element> workspace;

  /// Copies `values` to the device, from `to` on.
  template <class T>
  void put(T* to, const std::vector<T>& values) {
    MUSE_CUDA_REQUIRE(cudaMemcpy(to, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  /// `count` values from the device, after all that was launched.
  template <class T>
  std::vector<T> get(const T* from, std::int64_t count) {
    MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
    std::vector<T> values(static_cast<std::size_t>(count));
    MUSE_CUDA_REQUIRE(cudaMemcpy(values.data(), from, values.size() * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
  /// Rows of elements as doubles.
  Matrix<double> get_rows(const Element* from, Index rows, Index cols) {
    const std::vector<Element> values = get(from, rows * cols);
    Matrix<double> matrix(rows, cols);
    for (Index x = 0; x < matrix.size(); ++x)
      matrix.data()[x] = from_element(values[static_cast<std::size_t>(x)]);
    return matrix;
  }
  void check_sentinels() {
    MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
    q_.check_sentinels("q");
    k_.check_sentinels("k");
    v_.check_sentinels("v");
    o_.check_sentinels("o");
    lse_.check_sentinels("lse");
    workspace_.check_sentinels("workspace");
  }

 private:
  static muse::cuda::Plan dense_plan(const Inputs& inputs, const Config& config) {
    muse::cuda::Plan plan = muse::cuda::make_plan(inputs.shape(kTypeOf<Element>), config);
    const auto dense = [](Index heads, Index tokens, Index dim) {
      return muse::cuda::Strides{.batch = heads * tokens * dim, .head = tokens * dim, .token = dim};
    };
    plan.q = dense(inputs.heads_q, inputs.Nq(), inputs.D());
    plan.k = dense(inputs.heads_kv, inputs.Nk(), inputs.D());
    plan.v = dense(inputs.heads_kv, inputs.Nk(), inputs.Dv());
    plan.o = dense(inputs.heads_q, inputs.Nq(), inputs.Dv());
    return plan;
  }

  DeviceArray<Element> q_, k_, v_, o_;
  DeviceArray<float> lse_;
  DeviceArray<std::byte> workspace_;
};

/// Labels that k-means might give: random ones of 0 … C - 1, some clusters much larger than others, some
/// empty.
inline std::vector<std::int32_t> uneven_labels(Index N, Index C, std::uint64_t seed) {
  std::mt19937_64 random(base_seed() * 1000003 + seed);
  std::vector<std::int32_t> labels(static_cast<std::size_t>(N));
  for (std::int32_t& label : labels) {
    const double x = static_cast<double>(random() >> 11) * 0x1p-53;
    label = static_cast<std::int32_t>(x * x * static_cast<double>(C));  // low clusters are large
    if (C > 3 && label % 5 == 3) label -= 1;                            // one in five is empty
  }
  return labels;
}

}  // namespace muse::test
