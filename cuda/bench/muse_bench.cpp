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
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "muse/check.h"
#include "muse/cuda/muse_attention.h"
#include "muse/tensor_io.h"
#include "version.h"
#include "work.h"

namespace {

using Element = __nv_bfloat16;
using muse::bench::StageWork;

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

/// What is asked for on the command line.
struct Options {
  std::string dump, json_path, csv_path;
  std::int64_t heads = 64, tokens = 16384, dim = 64;
  int repeats = 20;
  std::vector<std::int32_t> retrieve_heads;  // of each head of the dump
  muse::Config config;
};

void add_options(CLI::App& app, Options& options) {
  app.add_option(
      "dump", options.dump,
      "folder, .npz or .safetensors whose heads are used again and again; without it: random numbers");
  app.add_option("--batch-heads", options.heads, "heads of all sequences together")->capture_default_str();
  app.add_option("--tokens", options.tokens, "tokens of a head")->capture_default_str();
  app.add_option("--dim", options.dim, "head dim")->capture_default_str();
  app.add_option("--repeats", options.repeats, "timed calls")->capture_default_str();
  app.add_option("--retrieve-heads", options.retrieve_heads,
                 "clusters that each head of the dump retrieves at most: a number a head, with commas")
      ->delimiter(',');
  app.add_option("--json", options.json_path, "write the result to this file");
  app.add_option("--csv", options.csv_path, "write the stages to this file");
  options.config.mode = muse::Mode::causal;
  for (const muse::OptionInfo& info : muse::option_table())
    app.add_option_function<std::string>(
        "--" + info.name,
        [&options, &info](const std::string& text) { muse::set_option(options.config, info.name, text); },
        info.help);
  app.add_option_function<std::string>(
      "--clusters",
      [&options](const std::string& text) { muse::set_option(options.config, "clusters", text); },
      "--clusters-q and --clusters-k together");
}

std::vector<std::int32_t> for_all_heads(const Options& options, std::int64_t different) {
  const std::vector<std::int32_t>& given = options.retrieve_heads;
  MUSE_REQUIRE(given.empty() || static_cast<std::int64_t>(given.size()) == different,
               "--retrieve-heads: expected ", different, " numbers, found ", given.size());
  std::vector<std::int32_t> of_all;
  for (std::int64_t h = 0; h < options.heads; ++h)
    of_all.push_back(given.empty() ? 0 : given[static_cast<std::size_t>(h % different)]);
  return of_all;
}

/// A call on the device, and the memory that it works on.
class Call {
 public:
  Call(const Options& options, const Inputs& inputs)
      : shape_{.heads_q = options.heads,
               .heads_kv = options.heads,
               .Nq = options.tokens,
               .Nk = options.tokens,
               .D = options.dim,
               .Dv = options.dim},
        config_(options.config),
        q_(inputs.q),
        k_(inputs.k),
        v_(inputs.v),
        o_(inputs.q.size()),
        retrieve_heads_(for_all_heads(options, inputs.heads)),
        workspace_(muse::cuda::workspace_bytes(shape_, config_).recommended) {
    check(cudaStreamCreate(&stream_));
    check(cudaMemset(o_.get(), 0xff, o_.bytes()));
    arguments_ = {.q = {q_.get()},
                  .k = {k_.get()},
                  .v = {v_.get()},
                  .o = {o_.get()},
                  .retrieve_heads = options.retrieve_heads.empty() ? nullptr : retrieve_heads_.get(),
                  .workspace = workspace_.get(),
                  .workspace_bytes = workspace_.bytes(),
                  .stream = stream_};
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() { cudaStreamDestroy(stream_); }

  [[nodiscard]] const muse::cuda::Shape& shape() const { return shape_; }
  [[nodiscard]] const muse::cuda::Arguments& arguments() const { return arguments_; }
  [[nodiscard]] cudaStream_t stream() const { return stream_; }
  [[nodiscard]] std::vector<Element> o(std::size_t count) const { return o_.host(count); }
  [[nodiscard]] std::size_t workspace_bytes() const { return workspace_.bytes(); }
  void launch(const muse::cuda::Arguments& arguments) const {
    muse::cuda::muse_attention(shape_, arguments, config_);
  }

 private:
  muse::cuda::Shape shape_;
  const muse::Config& config_;
  Buffer<Element> q_, k_, v_, o_;
  Buffer<std::int32_t> retrieve_heads_;
  Buffer<std::byte> workspace_;
  cudaStream_t stream_ = nullptr;
  muse::cuda::Arguments arguments_;
};

/// How far a call is from others, as relative squared errors of the heads that differ.
struct Errors {
  std::vector<double> of_method;  // a head each, from exact attention
  double mean = 0;                // of those
  double of_kernels = 0;          // from float32 with the same labels
  // bf16 rounds weights, summaries, parts and outputs to 8 bits each: a few times 2^-9, squared. Where two
  // clusters' masses are as good as equal, rounding decides which of them is retrieved: a small part of the
  // method's own error.
  [[nodiscard]] double most_of_kernels() const { return 1e-4 + 0.05 * mean; }
  [[nodiscard]] bool good() const { return of_kernels <= most_of_kernels(); }
};

Errors find_errors(const Options& options, const Inputs& inputs, const Call& call) {
  // Run once with labels written, and the same in float32 on the heads that differ.
  const std::size_t labels_count = static_cast<std::size_t>(
      options.heads * muse::cuda::level_count(call.shape(), options.config) * options.tokens);
  const Buffer<std::int32_t> labels_k(std::max<std::size_t>(labels_count, 1)),
      labels_q(std::max<std::size_t>(labels_count, 1));
  muse::cuda::Arguments labelled = call.arguments();
  labelled.labels_k_out = labels_k.get();
  labelled.labels_q_out = labels_q.get();
  call.launch(labelled);
  check(cudaStreamSynchronize(call.stream()));
  const std::size_t head_size = static_cast<std::size_t>(options.tokens * options.dim),
                    checked = static_cast<std::size_t>(inputs.heads) * head_size;
  const auto widen = [&](const std::vector<Element>& x) {
    std::vector<float> y(checked);
    for (std::size_t e = 0; e < checked; ++e) y[e] = __bfloat162float(x[e]);
    return y;
  };
  const Buffer<float> q(widen(inputs.q)), k(widen(inputs.k)), v(widen(inputs.v)), o(checked);
  muse::cuda::Shape shape = call.shape();
  shape.heads_q = shape.heads_kv = inputs.heads;
  shape.type = muse::cuda::ElementType::float32;
  const auto in_float32 = [&](const muse::Config& config, bool same_labels) {
    const Buffer<std::byte> memory(muse::cuda::workspace_bytes(shape, config).recommended);
    muse::cuda::muse_attention(shape,
                               {.q = {q.get()},
                                .k = {k.get()},
                                .v = {v.get()},
                                .o = {o.get()},
                                .labels_k = same_labels ? labels_k.get() : nullptr,
                                .labels_q = same_labels ? labels_q.get() : nullptr,
                                .retrieve_heads = same_labels ? call.arguments().retrieve_heads : nullptr,
                                .workspace = memory.get(),
                                .workspace_bytes = memory.bytes(),
                                .stream = call.stream()},
                               config);
    check(cudaStreamSynchronize(call.stream()));
    return o.host(checked);
  };
  const std::vector<float> found = widen(call.o(checked)), same = in_float32(options.config, true);
  muse::Config exact =
      options.config;  // everything in one diagonal block, or in one cluster that is retrieved
  exact.order = muse::Order::dipole;
  exact.cluster_by = muse::ClusterBy::spatial;
  exact.block = options.tokens;
  muse::set_option(exact, "clusters", "1");
  muse::set_option(exact, "retrieve", "1");
  const std::vector<float> truth = in_float32(exact, false);
  Errors errors;
  errors.of_kernels = relative_squared(found, same, 0, checked);
  for (std::size_t h = 0; h < static_cast<std::size_t>(inputs.heads); ++h) {
    errors.of_method.push_back(relative_squared(found, truth, h * head_size, (h + 1) * head_size));
    errors.mean += errors.of_method.back() / static_cast<double>(inputs.heads);
  }
  return errors;
}

/// An event of CUDA, and the milliseconds between two.
class Event {
 public:
  Event() { check(cudaEventCreate(&event_)); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(event_); }
  void record(cudaStream_t stream) const { check(cudaEventRecord(event_, stream)); }
  [[nodiscard]] double since(const Event& begin) const {
    check(cudaEventSynchronize(event_));
    float milliseconds = 0;
    check(cudaEventElapsedTime(&milliseconds, begin.event_, event_));
    return static_cast<double>(milliseconds);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

/// Milliseconds of the whole call as a graph: the median.
double time_call(const Call& call, int repeats) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  check(cudaStreamBeginCapture(call.stream(), cudaStreamCaptureModeThreadLocal));
  call.launch(call.arguments());
  check(cudaStreamEndCapture(call.stream(), &graph));
  check(cudaGraphInstantiate(&executable, graph, 0));
  const Event begin, end;
  std::vector<double> times;
  for (int repeat = -3; repeat < repeats; ++repeat) {  // the first three warm up
    begin.record(call.stream());
    check(cudaGraphLaunch(executable, call.stream()));
    end.record(call.stream());
    const double milliseconds = end.since(begin);
    if (repeat >= 0) times.push_back(milliseconds);
  }
  check(cudaGraphExecDestroy(executable));
  check(cudaGraphDestroy(graph));
  return median(times);
}

/// Milliseconds of each stage, all levels and chunks together: medians.
std::map<std::string, double> time_stages(const Call& call, int repeats) {
  std::map<std::string, std::vector<double>> times;
  for (int repeat = -1; repeat < repeats; ++repeat) {  // the first warms up
    std::list<Event> events;
    std::vector<std::string> stages;
    muse::cuda::Arguments observed = call.arguments();
    observed.on_stage = [&](const char* stage) {
      stages.emplace_back(stage);
      events.emplace_back().record(call.stream());
    };
    observed.on_stage("");
    call.launch(observed);
    std::map<std::string, double> sums;
    auto before = events.begin();
    for (std::size_t x = 1; x < stages.size(); ++x, ++before)
      sums[stages[x]] += std::next(before)->since(*before);
    if (repeat < 0) continue;
    for (const auto& [stage, sum] : sums) times[stage].push_back(sum);
  }
  std::map<std::string, double> medians;
  for (const auto& [stage, values] : times) medians[stage] = median(values);
  return medians;
}

/// The device, and what it could do.
struct Machine {
  std::string name;
  int driver = 0, runtime = 0;
  double operations_per_second = 0;  // of bf16 on the tensor cores, dense
  double bytes_per_second = 0;       // of device memory
};

Machine this_machine() {
  cudaDeviceProp device;
  check(cudaGetDeviceProperties(&device, 0));
  int clock = 0, memory_clock = 0, memory_bits = 0;  // clocks in kHz
  check(cudaDeviceGetAttribute(&clock, cudaDevAttrClockRate, 0));
  check(cudaDeviceGetAttribute(&memory_clock, cudaDevAttrMemoryClockRate, 0));
  check(cudaDeviceGetAttribute(&memory_bits, cudaDevAttrGlobalMemoryBusWidth, 0));
  Machine machine{.name = device.name};
  check(cudaDriverGetVersion(&machine.driver));
  check(cudaRuntimeGetVersion(&machine.runtime));
  // Operations a clock and multiprocessor.
  const double rate = device.major >= 9 ? 4096 : device.minor == 0 ? 2048 : 1024;
  machine.operations_per_second = rate * device.multiProcessorCount * clock * 1e3;
  machine.bytes_per_second = 2.0 * memory_clock * 1e3 * memory_bits / 8;  // two transfers a clock
  return machine;
}

/// A stage, or all of them.
struct StageTime {
  std::string stage;
  double milliseconds = 0;
  StageWork work;
  double share = 0;  // of the roofline: no less time than operations take at the peak, nor than bytes do
};

StageTime stage_time(const std::string& stage, double milliseconds, const StageWork& work,
                     const Machine& machine) {
  const double floor =
      std::max(work.operations / machine.operations_per_second, work.bytes / machine.bytes_per_second);
  return {stage, milliseconds, work, floor / (milliseconds * 1e-3)};
}

void print_stages(const std::vector<StageTime>& stages) {
  std::printf("%-18s %9s %12s %10s %12s %10s %14s\n", "stage", "ms", "operations", "TFLOP/s", "bytes", "TB/s",
              "of roofline");
  bool cached = false;
  for (const StageTime& x : stages) {
    const double seconds = x.milliseconds * 1e-3;
    std::printf("%-18s %9.3f %12.3g %10.0f %12.3g %10.2f %13.0f%%%s\n", x.stage.c_str(), x.milliseconds,
                x.work.operations, x.work.operations / seconds * 1e-12, x.work.bytes,
                x.work.bytes / seconds * 1e-12, 100 * x.share, x.share > 1 ? " *" : "");
    cached = cached || x.share > 1;
  }
  if (cached) std::printf("* what a stage before it wrote came from the caches, not from memory\n");
}

int run(int argc, char** argv) {
  CLI::App app("Times the CUDA path stage by stage, beside its floor, and checks it in the same run.",
               "muse-bench");
  Options options;
  add_options(app, options);
  CLI11_PARSE(app, argc, argv);

  const Inputs inputs = make_inputs(options.dump, options.heads, options.tokens, options.dim);
  const Call call(options, inputs);
  const Errors errors = find_errors(options, inputs, call);
  if (!errors.good()) {
    std::printf(
        "WRONG: relative squared difference from float32 with the same labels: expected at most %.1e, found "
        "%.2e\n",
        errors.most_of_kernels(), errors.of_kernels);
    return 1;
  }
  const double graph = time_call(call, options.repeats);
  const std::map<std::string, double> times = time_stages(call, std::max(3, options.repeats / 4));

  // Set times beside work.
  const Machine machine = this_machine();
  auto work = muse::bench::work_of(options.config, options.tokens, options.dim, options.heads,
                                   sizeof(Element), options.retrieve_heads);
  std::vector<StageTime> stages;
  double sum = 0;
  StageWork all;
  for (const auto& [stage, milliseconds] : times) {
    const StageWork& done = work[stage];
    stages.push_back(stage_time(stage, milliseconds, done, machine));
    sum += milliseconds;
    all.operations += done.operations;
    all.bytes += done.bytes;
  }
  const double exact_operations = (options.config.mode == muse::Mode::acausal ? 4.0 : 2.0) *
                                  static_cast<double>(options.tokens) * static_cast<double>(options.tokens) *
                                  static_cast<double>(options.dim * options.heads);

  // Report.
  std::printf("%s; %lld heads of %lld tokens, D = %lld, bf16\n", machine.name.c_str(),
              static_cast<long long>(options.heads), static_cast<long long>(options.tokens),
              static_cast<long long>(options.dim));
  nlohmann::json stages_json = nlohmann::json::array();
  std::string csv = "stage,milliseconds,operations,bytes,share_of_roofline\n";
  for (const StageTime& x : stages) {
    stages_json.push_back({{"stage", x.stage},
                           {"milliseconds", x.milliseconds},
                           {"operations", x.work.operations},
                           {"bytes", x.work.bytes},
                           {"share_of_roofline", x.share}});
    csv += x.stage + "," + std::to_string(x.milliseconds) + "," + std::to_string(x.work.operations) + "," +
           std::to_string(x.work.bytes) + "," + std::to_string(x.share) + "\n";
  }
  stages.push_back(stage_time("all", sum, all, machine));
  print_stages(stages);
  std::printf("the whole call as a graph: %.3f ms\n", graph);
  std::printf(
      "exact attention has %.1f times the operations; at the same time it would run at %.0f TFLOP/s\n",
      exact_operations / all.operations, exact_operations / graph * 1e-9);
  std::printf("relative squared error %.4f (heads:", errors.mean);
  for (const double error : errors.of_method) std::printf(" %.4f", error);
  std::printf("), difference from float32 with the same labels %.1e\n", errors.of_kernels);
  std::printf("workspace %.2f times q, k, v\n",
              static_cast<double>(call.workspace_bytes()) /
                  (3.0 * sizeof(Element) * static_cast<double>(inputs.q.size())));
  const nlohmann::json result{{"tool", "muse-bench"},
                              {"version", muse::tools::version_json()},
                              {"device", machine.name},
                              {"driver", machine.driver},
                              {"runtime", machine.runtime},
                              {"heads", options.heads},
                              {"tokens", options.tokens},
                              {"dim", options.dim},
                              {"dtype", "bfloat16"},
                              {"inputs", options.dump.empty() ? "random" : "heads of a dump"},
                              {"config", muse::to_json(options.config)},
                              {"retrieve_heads", options.retrieve_heads},
                              {"repeats", options.repeats},
                              {"milliseconds", graph},
                              {"stages", stages_json},
                              {"peak_operations_per_second", machine.operations_per_second},
                              {"memory_bytes_per_second", machine.bytes_per_second},
                              {"exact_operations", exact_operations},
                              {"operations", all.operations},
                              {"rel_sq_err", errors.of_method},
                              {"mean_rel_sq_err", errors.mean},
                              {"kernel_rel_sq_difference", errors.of_kernels},
                              {"workspace_bytes", call.workspace_bytes()}};
  if (!options.json_path.empty()) std::ofstream(options.json_path) << result.dump(2) << "\n";
  if (!options.csv_path.empty()) std::ofstream(options.csv_path) << csv;
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
