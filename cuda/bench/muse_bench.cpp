// muse-bench: what each stage of the CUDA path takes, beside the least it could take, with its correctness in
// the same run. Inputs are the heads of a dump, tiled over as many heads as asked for, or random numbers.
//   1. Time: the whole call, captured in a graph, median of `--repeats`; the stages by events in calls of
//   their own.
//   2. Correctness: the same call in float32 by the scalar kernels, with the same labels, on a few heads.
//   3. Error of the method: against exact attention of the same mode, by the scalar kernels, on the same
//   heads.
// A wrong result prints WRONG and no time.
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "muse/check.h"
#include "muse/cuda/muse_attention.h"
#include "muse/tensor_io.h"
#include "version.h"

namespace {

using Element = __nv_bfloat16;

void check(cudaError_t status) {
  if (status != cudaSuccess)
    throw muse::FileError(std::string("CUDA reports: ") + cudaGetErrorString(status));
}

/// Device memory of `count` Ts.
template <class T>
class Buffer {
 public:
  explicit Buffer(std::size_t count) : count_(count) { check(cudaMalloc(&data_, count * sizeof(T))); }
  explicit Buffer(const std::vector<T>& host) : Buffer(host.size()) {
    check(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() { cudaFree(data_); }
  [[nodiscard]] T* get() const { return static_cast<T*>(data_); }
  [[nodiscard]] std::size_t bytes() const { return count_ * sizeof(T); }
  [[nodiscard]] std::vector<T> host(std::size_t count) const {
    std::vector<T> values(count);
    check(cudaMemcpy(values.data(), data_, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  void* data_ = nullptr;
  std::size_t count_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

struct Inputs {
  std::vector<Element> q, k, v;  // [heads, tokens, dim]
  std::int64_t heads = 0;        // that differ
};

// The dump's heads, again and again until there are `heads`; or random ones.
Inputs make_inputs(const std::string& dump_path, std::int64_t heads, std::int64_t tokens, std::int64_t dim) {
  Inputs inputs;
  if (dump_path.empty()) {
    inputs.heads = std::min<std::int64_t>(heads, 4);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (auto* x : {&inputs.q, &inputs.k, &inputs.v}) {
      x->resize(static_cast<std::size_t>(heads * tokens * dim));
      const std::size_t fresh = static_cast<std::size_t>(inputs.heads * tokens * dim);
      for (std::size_t e = 0; e < x->size(); ++e)
        (*x)[e] = e < fresh ? __float2bfloat16(normal(random)) : (*x)[e - fresh];
    }
    return inputs;
  }
  const muse::Dump dump = muse::read_dump(dump_path);
  inputs.heads = dump.heads_q();
  MUSE_REQUIRE(dump.heads_q() == dump.heads_kv() && dump.dim() == dim && dump.tokens_q() >= tokens &&
                   dump.dim_v() == dim,
               "muse-bench: expected a dump of at least ", tokens, " tokens, head dim ", dim,
               ", as many key heads as query heads");
  const auto tile = [&](const muse::Array& tensor, std::vector<Element>& x) {
    x.resize(static_cast<std::size_t>(heads * tokens * dim));
    for (std::int64_t h = 0; h < heads; ++h) {
      std::vector<float> rows(static_cast<std::size_t>(tokens * dim));
      muse::convert<float>(tensor, h % inputs.heads * tensor.shape[2] * dim, rows);
      for (std::size_t e = 0; e < rows.size(); ++e)
        x[static_cast<std::size_t>(h * tokens * dim) + e] = __float2bfloat16(rows[e]);
    }
  };
  tile(dump.q, inputs.q);
  tile(dump.k, inputs.k);
  tile(dump.v, inputs.v);
  return inputs;
}

// What a stage cannot do without.
struct Work {
  double operations = 0;
  double bytes = 0;  // of device memory: each array once, where the caches hold nothing from before
};

// Work of a call by docs/math.md, section 7, for clusters of average size: stage -> work of all heads. Heads
// retrieve at most `of_heads` clusters, one number for each that differs, or none at all: as the config says.
std::map<std::string, Work> work_of(const muse::Config& config, double N, double D, double heads,
                                    const std::vector<std::int32_t>& of_heads) {
  std::map<std::string, Work> work;
  const bool causal = config.mode != muse::Mode::acausal;
  const double B = causal ? std::min(static_cast<double>(config.block), N) : 0;
  // Passes over all tokens that those over the sample amount to.
  const double passes = static_cast<double>(config.passes) / static_cast<double>(config.sample);
  const double tensor = sizeof(Element) * N * D * heads;  // q, k, v or o
  if (causal) work["diagonal blocks"] = {2 * B * N * D * heads, 4 * tensor};
  int level = 0;
  for (double S = causal ? B : N; causal ? S < N : level == 0; S *= 2, ++level) {
    const double Cq = static_cast<double>(config.clusters_q.at(level)(static_cast<std::int64_t>(S)));
    const double Ck = static_cast<double>(config.clusters_k.at(level)(static_cast<std::int64_t>(S)));
    double r = static_cast<double>(config.retrieve.at(level));
    if (!of_heads.empty()) {
      double sum = 0;
      for (const std::int32_t most : of_heads) sum += std::clamp(static_cast<double>(most), 0.0, r);
      r = sum / static_cast<double>(of_heads.size());
    }
    // A level's keys, and its queries, are half of all tokens, or all of them.
    const double part = causal ? 0.5 : 1, tokens = part * N * D * heads, rows = part * tensor;
    const double pairs = Cq * Ck * heads * (causal ? N / (2 * S) : 1);  // of a query and a key cluster
    const double strict = config.mode == muse::Mode::causal ? 1 : 0;
    // Labels: keys and home once each, the block's queries too; means of the home; both in every pass.
    work["clustering"].operations += 2 * ((passes + 1) * (Ck + Cq) + strict * Cq) * tokens;
    work["clustering"].bytes += (3 + strict + 4 * passes) * rows;
    work["summaries"].operations += 6 * Cq * tokens;
    work["summaries"].bytes += 2 * rows + 2 * sizeof(Element) * D * pairs;
    work["retrieval"].bytes += 2 * sizeof(float) * pairs;
    work["far field"].operations += 4 * (Ck + r * S / Ck) * tokens;
    work["far field"].bytes +=
        (causal ? 3 : 2) * rows + 2 * sizeof(Element) * D * pairs + (r > 0 ? 2 * rows : 0);
  }
  return work;
}

double relative_squared(const std::vector<float>& found, const std::vector<float>& expected,
                        std::size_t begin, std::size_t end) {
  double difference = 0, norm = 0;
  for (std::size_t e = begin; e < end; ++e) {
    if (!std::isfinite(found[e])) return std::numeric_limits<double>::infinity();
    const double d = static_cast<double>(found[e]) - static_cast<double>(expected[e]);
    difference += d * d;
    norm += static_cast<double>(expected[e]) * static_cast<double>(expected[e]);
  }
  return difference / norm;
}

int run(int argc, char** argv) {
  CLI::App app("Times the CUDA path stage by stage, beside its floor, and checks it in the same run.",
               "muse-bench");
  std::string dump, json_path, csv_path;
  std::int64_t heads = 64, tokens = 16384, dim = 64;
  int repeats = 20;
  std::vector<std::int32_t> of_heads;
  app.add_option(
      "dump", dump,
      "folder, .npz or .safetensors whose heads are used again and again; without it: random numbers");
  app.add_option("--batch-heads", heads, "heads of all sequences together")->capture_default_str();
  app.add_option("--tokens", tokens, "tokens of a head")->capture_default_str();
  app.add_option("--dim", dim, "head dim")->capture_default_str();
  app.add_option("--repeats", repeats, "timed calls")->capture_default_str();
  app.add_option("--retrieve-heads", of_heads,
                 "clusters that each head of the dump retrieves at most: a number a head, with commas")
      ->delimiter(',');
  app.add_option("--json", json_path, "write the result to this file");
  app.add_option("--csv", csv_path, "write the stages to this file");
  muse::Config config;
  config.mode = muse::Mode::causal;
  for (const muse::OptionInfo& info : muse::option_table())
    app.add_option_function<std::string>(
        "--" + info.name,
        [&config, &info](const std::string& text) { muse::set_option(config, info.name, text); }, info.help);
  app.add_option_function<std::string>(
      "--clusters", [&config](const std::string& text) { muse::set_option(config, "clusters", text); },
      "--clusters-q and --clusters-k together");
  CLI11_PARSE(app, argc, argv);

  // Prepare a call.
  const Inputs inputs = make_inputs(dump, heads, tokens, dim);
  MUSE_REQUIRE(of_heads.empty() || static_cast<std::int64_t>(of_heads.size()) == inputs.heads,
               "--retrieve-heads: expected ", inputs.heads, " numbers, found ", of_heads.size());
  std::vector<std::int32_t> of_all_heads;
  for (std::int64_t h = 0; h < heads; ++h)
    of_all_heads.push_back(of_heads.empty() ? 0 : of_heads[static_cast<std::size_t>(h % inputs.heads)]);
  const Buffer<std::int32_t> retrieve_heads(of_all_heads);
  const std::size_t elements = inputs.q.size();
  const Buffer<Element> q(inputs.q), k(inputs.k), v(inputs.v), o(elements);
  const muse::cuda::Shape shape{
      .heads_q = heads, .heads_kv = heads, .Nq = tokens, .Nk = tokens, .D = dim, .Dv = dim};
  const std::size_t labels_count =
      static_cast<std::size_t>(heads * muse::cuda::level_count(shape, config) * tokens);
  const Buffer<std::int32_t> labels_k(std::max<std::size_t>(labels_count, 1)),
      labels_q(std::max<std::size_t>(labels_count, 1));
  const Buffer<std::byte> workspace(muse::cuda::workspace_bytes(shape, config).recommended);
  cudaStream_t stream;
  check(cudaStreamCreate(&stream));
  muse::cuda::Arguments call{.q = {q.get()},
                             .k = {k.get()},
                             .v = {v.get()},
                             .o = {o.get()},
                             .retrieve_heads = of_heads.empty() ? nullptr : retrieve_heads.get(),
                             .workspace = workspace.get(),
                             .workspace_bytes = workspace.bytes(),
                             .stream = stream};
  check(cudaMemset(o.get(), 0xff, o.bytes()));

  // Check: once with labels written, and the same in float32 on the heads that differ.
  muse::cuda::Arguments labelled = call;
  labelled.labels_k_out = labels_k.get();
  labelled.labels_q_out = labels_q.get();
  muse::cuda::muse_attention(shape, labelled, config);
  check(cudaStreamSynchronize(stream));
  const std::size_t head_size = static_cast<std::size_t>(tokens * dim),
                    checked = static_cast<std::size_t>(inputs.heads) * head_size;
  const auto widen = [&](const std::vector<Element>& x) {
    std::vector<float> y(checked);
    for (std::size_t e = 0; e < checked; ++e) y[e] = __bfloat162float(x[e]);
    return y;
  };
  const Buffer<float> q32(widen(inputs.q)), k32(widen(inputs.k)), v32(widen(inputs.v)), o32(checked);
  muse::cuda::Shape shape32 = shape;
  shape32.heads_q = shape32.heads_kv = inputs.heads;
  shape32.type = muse::cuda::ElementType::float32;
  const auto in_float32 = [&](const muse::Config& settings, bool same_labels) {
    const Buffer<std::byte> memory(muse::cuda::workspace_bytes(shape32, settings).recommended);
    muse::cuda::muse_attention(shape32,
                               {.q = {q32.get()},
                                .k = {k32.get()},
                                .v = {v32.get()},
                                .o = {o32.get()},
                                .labels_k = same_labels ? labels_k.get() : nullptr,
                                .labels_q = same_labels ? labels_q.get() : nullptr,
                                .retrieve_heads = same_labels ? call.retrieve_heads : nullptr,
                                .workspace = memory.get(),
                                .workspace_bytes = memory.bytes(),
                                .stream = stream},
                               settings);
    check(cudaStreamSynchronize(stream));
    return o32.host(checked);
  };
  const std::vector<float> found = widen(o.host(checked)), same = in_float32(config, true);
  muse::Config exact = config;  // everything in one diagonal block, or in one cluster that is retrieved
  exact.order = muse::Order::dipole;
  exact.cluster_by = muse::ClusterBy::spatial;
  exact.block = tokens;
  muse::set_option(exact, "clusters", "1");
  muse::set_option(exact, "retrieve", "1");
  const std::vector<float> truth = in_float32(exact, false);
  const double kernel_error = relative_squared(found, same, 0, checked);
  std::vector<double> errors;
  double mean_error = 0;
  for (std::size_t h = 0; h < static_cast<std::size_t>(inputs.heads); ++h) {
    errors.push_back(relative_squared(found, truth, h * head_size, (h + 1) * head_size));
    mean_error += errors.back() / static_cast<double>(inputs.heads);
  }
  // bf16 rounds weights, summaries, parts and outputs to 8 bits each: a few times 2^-9, squared. Where two
  // clusters' masses are as good as equal, rounding decides which of them is retrieved: a small part of the
  // method's own error.
  const double most_kernel_error = 1e-4 + 0.05 * mean_error;
  if (!(kernel_error <= most_kernel_error)) {
    std::printf(
        "WRONG: relative squared difference from float32 with the same labels: expected at most %.1e, found "
        "%.2e\n",
        most_kernel_error, kernel_error);
    return 1;
  }

  // Time the whole call as a graph.
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  muse::cuda::muse_attention(shape, call, config);
  check(cudaStreamEndCapture(stream, &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  cudaEvent_t start, end;
  check(cudaEventCreate(&start));
  check(cudaEventCreate(&end));
  std::vector<double> times;
  for (int repeat = -3; repeat < repeats; ++repeat) {
    check(cudaEventRecord(start, stream));
    check(cudaGraphLaunch(executable, stream));
    check(cudaEventRecord(end, stream));
    check(cudaEventSynchronize(end));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, start, end));
    if (repeat >= 0) times.push_back(milliseconds);
  }
  const double total = median(times);

  // Time the stages.
  std::map<std::string, std::vector<double>> stage_times;
  for (int repeat = -1; repeat < std::max(3, repeats / 4); ++repeat) {
    std::vector<std::pair<std::string, cudaEvent_t>> marks;
    const auto mark = [&](const char* stage) {
      cudaEvent_t event;
      check(cudaEventCreate(&event));
      check(cudaEventRecord(event, stream));
      marks.emplace_back(stage, event);
    };
    muse::cuda::Arguments observed = call;
    observed.on_stage = mark;
    mark("");
    muse::cuda::muse_attention(shape, observed, config);
    check(cudaStreamSynchronize(stream));
    std::map<std::string, double> sums;
    for (std::size_t m = 1; m < marks.size(); ++m) {
      float milliseconds = 0;
      check(cudaEventElapsedTime(&milliseconds, marks[m - 1].second, marks[m].second));
      sums[marks[m].first] += static_cast<double>(milliseconds);
    }
    for (auto& [stage, event] : marks) cudaEventDestroy(event);
    if (repeat >= 0)
      for (const auto& [stage, sum] : sums) stage_times[stage].push_back(sum);
  }

  // Report.
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0));
  int clock = 0, driver = 0, runtime = 0;
  check(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  check(cudaDriverGetVersion(&driver));
  check(cudaRuntimeGetVersion(&runtime));
  // bf16 operations a clock and multiprocessor, dense.
  const double rate = device.major >= 9 ? 4096 : device.minor == 0 ? 2048 : 1024;
  const double peak = rate * device.multiProcessorCount * clock * 1e3;
  int memory_clock = 0, memory_bits = 0;
  check(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, 0));
  check(cudaDeviceGetAttribute(&memory_bits, cudaDevAttrGlobalMemoryBusWidth, 0));
  const double bandwidth = 2.0 * memory_clock * 1e3 * memory_bits / 8;  // two transfers a clock
  auto work = work_of(config, static_cast<double>(tokens), static_cast<double>(dim),
                      static_cast<double>(heads), of_heads);
  const double exact_operations = (config.mode == muse::Mode::acausal ? 4.0 : 2.0) *
                                  static_cast<double>(tokens) * static_cast<double>(tokens) *
                                  static_cast<double>(dim * heads);
  std::printf("%s; %lld heads of %lld tokens, D = %lld, bf16\n", device.name, static_cast<long long>(heads),
              static_cast<long long>(tokens), static_cast<long long>(dim));
  // The roofline: no less time than the operations take at the peak, nor than the bytes at the memory's rate.
  std::printf("%-18s %9s %12s %10s %12s %10s %14s\n", "stage", "ms", "operations", "TFLOP/s", "bytes", "TB/s",
              "of roofline");
  nlohmann::json stages = nlohmann::json::array();
  std::string csv = "stage,milliseconds,operations,bytes,share_of_roofline\n";
  const auto report = [&](const std::string& stage, double milliseconds, const Work& done) {
    const double seconds = milliseconds * 1e-3,
                 share = std::max(done.operations / peak, done.bytes / bandwidth) / seconds;
    std::printf("%-18s %9.3f %12.3g %10.0f %12.3g %10.2f %13.0f%%", stage.c_str(), milliseconds,
                done.operations, done.operations / seconds * 1e-12, done.bytes, done.bytes / seconds * 1e-12,
                100 * share);
    return share;
  };
  double sum = 0, all_operations = 0;
  for (const auto& [stage, values] : stage_times) {
    const double milliseconds = median(values);
    const Work& done = work[stage];
    const double share = report(stage, milliseconds, done);
    std::printf("\n");
    stages.push_back({{"stage", stage},
                      {"milliseconds", milliseconds},
                      {"operations", done.operations},
                      {"bytes", done.bytes},
                      {"share_of_roofline", share}});
    csv += stage + "," + std::to_string(milliseconds) + "," + std::to_string(done.operations) + "," +
           std::to_string(done.bytes) + "," + std::to_string(share) + "\n";
    sum += milliseconds;
    all_operations += done.operations;
  }
  Work all;
  for (const auto& [stage, done] : work) {
    all.operations += done.operations;
    all.bytes += done.bytes;
  }
  (void)report("all", sum, all);
  std::printf("   (as a graph %.3f ms)\n", total);
  std::printf(
      "exact attention has %.1f times the operations; at the same time it would run at %.0f TFLOP/s\n",
      exact_operations / all_operations, exact_operations / total * 1e-9);
  std::printf("relative squared error %.4f (heads:", mean_error);
  for (const double error : errors) std::printf(" %.4f", error);
  std::printf("), difference from float32 with the same labels %.1e\n", kernel_error);
  std::printf("workspace %.2f times q, k, v\n",
              static_cast<double>(workspace.bytes()) / (3.0 * static_cast<double>(q.bytes())));
  const nlohmann::json result{{"tool", "muse-bench"},
                              {"version", muse::tools::version_json()},
                              {"device", device.name},
                              {"driver", driver},
                              {"runtime", runtime},
                              {"heads", heads},
                              {"tokens", tokens},
                              {"dim", dim},
                              {"dtype", "bfloat16"},
                              {"inputs", dump.empty() ? "random" : "heads of a dump"},
                              {"config", muse::to_json(config)},
                              {"retrieve_heads", of_heads},
                              {"repeats", repeats},
                              {"milliseconds", total},
                              {"stages", stages},
                              {"peak_operations_per_second", peak},
                              {"memory_bytes_per_second", bandwidth},
                              {"exact_operations", exact_operations},
                              {"operations", all_operations},
                              {"rel_sq_err", errors},
                              {"mean_rel_sq_err", mean_error},
                              {"kernel_rel_sq_difference", kernel_error},
                              {"workspace_bytes", workspace.bytes()}};
  if (!json_path.empty()) std::ofstream(json_path) << result.dump(2) << "\n";
  if (!csv_path.empty()) std::ofstream(csv_path) << csv;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const muse::Error& error) {
    std::fprintf(stderr, "muse-bench: %s\n", error.what());
    return static_cast<int>(error.status());
  }
}
