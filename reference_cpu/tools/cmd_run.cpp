// muse run: one method on a dump; outputs, log-sum-exps and labels as files.
#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "help.h"
#include "method_runner.h"
#include "muse/check.h"
#include "output.h"
#include "table.h"
#include "version.h"

namespace muse::tools {
namespace {

namespace fs = std::filesystem;

struct RunOptions {
  DumpOptions dump;
  std::string method = "muse", out, json;
};

// Results of all heads, [batch, heads, …] in C order.
template <class Scalar>
struct Outputs {
  std::vector<Scalar> o, lse;
  std::vector<LevelLabels> labels_q, labels_k;
  Index non_finite = 0;
};

struct HeadCost {
  Index batch = 0, head = 0;
  double seconds = 0, operations = 0;
  std::vector<StageCost> stages;
};

template <class Scalar>
void append(Outputs<Scalar>& outputs, HeadResult<Scalar>&& result) {
  const Attention<Scalar>& attention = result.attention;
  outputs.o.insert(outputs.o.end(), attention.o.data(), attention.o.data() + attention.o.size());
  outputs.lse.insert(outputs.lse.end(), attention.lse.data(), attention.lse.data() + attention.lse.size());
  outputs.labels_q.push_back(std::move(result.labels_q));
  outputs.labels_k.push_back(std::move(result.labels_k));
  for (Index n = 0; n < attention.o.rows(); ++n)
    if (!attention.o.row(n).allFinite()) ++outputs.non_finite;
}

// The extents of an array with an entry for each head run: [batch, heads, rest…], or [heads, rest…].
std::vector<std::int64_t> shape_for(const Job& job, std::initializer_list<std::int64_t> rest) {
  std::vector<std::int64_t> shape;
  if (job.dump.has_batch_axis) shape.push_back(job.dump.batch());
  shape.push_back(static_cast<std::int64_t>(job.heads.size()));
  shape.insert(shape.end(), rest);
  return shape;
}

// Labels of all heads, -1 for the levels that a head does not have.
Array labels_array(const Job& job, const std::vector<LevelLabels>& heads) {
  Index levels = 0;
  for (const LevelLabels& labels : heads) levels = std::max(levels, labels.levels);
  const Index tokens = heads.front().tokens;
  Array array{.dtype = DType::int32, .shape = shape_for(job, {levels, tokens}), .bytes = {}};
  std::vector<std::int32_t> values;
  for (const LevelLabels& labels : heads) {
    values.insert(values.end(), labels.values.begin(), labels.values.end());
    values.insert(values.end(), static_cast<std::size_t>((levels - labels.levels) * tokens), -1);
  }
  const auto bytes = std::as_bytes(std::span(values));
  array.bytes.assign(bytes.begin(), bytes.end());
  return array;
}

void write_array(const fs::path& path, const Array& array) {
  write_in_place(path, [&](const fs::path& temporary) { write_npy(temporary, array); });
}

template <class Scalar>
void write_outputs(const fs::path& folder, const Job& job, Method method, const Outputs<Scalar>& outputs) {
  const DType dtype = job.device.precision == Precision::single ? DType::float32 : DType::float64;
  write_array(folder / "o.npy",
              make_array<Scalar>(dtype, shape_for(job, {job.queries(), job.dump.dim_v()}), outputs.o));
  write_array(folder / "lse.npy", make_array<Scalar>(dtype, shape_for(job, {job.queries()}), outputs.lse));
  // Labels of another run would not belong to these outputs.
  if (method != Method::muse) {
    fs::remove(folder / "labels_q.npy");
    fs::remove(folder / "labels_k.npy");
    return;
  }
  write_array(folder / "labels_q.npy", labels_array(job, outputs.labels_q));
  write_array(folder / "labels_k.npy", labels_array(job, outputs.labels_k));
}

nlohmann::ordered_json to_json(const Job& job, const MethodSpec& spec, const std::vector<HeadCost>& costs,
                               Index non_finite) {
  nlohmann::ordered_json json;
  json["format"] = "muse-run/1";
  json["method"] = spec.word;
  Job with_settings = job;
  with_settings.configs = spec.configs;
  json["config"] = with_settings.config_json();
  json["heads"] = nlohmann::ordered_json::array();
  double seconds = 0, operations = 0;
  for (const HeadCost& cost : costs) {
    nlohmann::ordered_json entry;
    if (job.dump.has_batch_axis) entry["batch"] = cost.batch;
    entry["head"] = cost.head;
    entry["seconds"] = cost.seconds;
    entry["operations"] = cost.operations;
    entry["stages"] = to_json(cost.stages);
    json["heads"].push_back(std::move(entry));
    seconds += cost.seconds;
    operations += cost.operations;
  }
  json["seconds"] = seconds;
  json["operations"] = operations;
  json["non_finite"] = non_finite;
  json["versions"] = version_json();
  return json;
}

std::string to_table(const Job& job, const std::vector<HeadCost>& costs, bool colors) {
  const auto left = Table::Align::left;
  Table table({{"head", left}, {"stage", left}, {"seconds"}, {"operations"}});
  for (const HeadCost& cost : costs) {
    table.add(
        {job.dump.has_batch_axis ? fmt::format("{}.{}", cost.batch, cost.head) : fmt::format("{}", cost.head),
         "all", seconds_text(cost.seconds), operations_text(cost.operations)});
    for (const StageCost& stage : cost.stages)
      table.add({"", "  " + stage.stage,
                 stage.stage.find('.') == std::string::npos ? seconds_text(stage.seconds) : "",
                 operations_text(stage.operations)});
  }
  return table.text(colors);
}

template <class Scalar>
void run_method(const RunOptions& options, const Job& job, const MethodSpec& spec) {
  MethodRunner<Scalar> runner(spec, job.device);
  Outputs<Scalar> outputs;
  std::vector<HeadCost> costs;
  double expected = 0;
  for (const Index head : job.heads)
    expected += static_cast<double>(job.dump.batch()) *
                expected_operations(spec, head, job.queries(), job.keys(), job.dump.dim(), job.dump.dim_v());
  {
    ProgressBar bar(expected);
    for (Index batch = 0; batch < job.dump.batch(); ++batch) {
      for (const Index head : job.heads) {
        HeadResult<Scalar> result = runner.run(load_head<Scalar>(job.dump, batch, head, job.tokens), bar);
        costs.push_back({batch, head, result.seconds, result.operations, result.stages});
        append(outputs, std::move(result));
      }
    }
  }
  // Write only now that everything is computed: an interrupted run leaves the folder as it was.
  throw_if_interrupted();
  fs::create_directories(options.out);
  write_outputs(options.out, job, spec.method, outputs);
  const nlohmann::ordered_json json = to_json(job, spec, costs, outputs.non_finite);
  write_text((fs::path(options.out) / "run.json").string(), json_text(json));
  write_results(options.json, json, [&](bool colors) {
    return to_table(job, costs, colors) + fmt::format("written to {}\n", options.out);
  });
  if (outputs.non_finite > 0)
    fmt::print(
        stderr, "{}\n",
        alarm(fmt::format("muse: NOT FINITE: outputs of {} queries are NaN or infinite", outputs.non_finite),
              wants_colors(stderr)));
}

void run_run(const RunOptions& options) {
  const Job job = options.dump.load();
  const MethodSpec spec = parse_method(options.method, job.configs);
  require_method_fits(spec, job);
  if (job.device.precision == Precision::single)
    run_method<float>(options, job, spec);
  else
    run_method<double>(options, job, spec);
}

}  // namespace

void add_run_command(CLI::App& app) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* command = add_command(app, "run",
                                  "Run one method on a dump and write its results. The folder gets o.npy "
                                  "[heads, tokens, dim], lse.npy [heads, "
                                  "tokens] (natural logarithm), for muse also labels_q.npy and labels_k.npy, "
                                  "int32 [heads, levels, tokens] with -1 "
                                  "where a token takes no part, and run.json with the parameters, the "
                                  "seconds and operations of each stage, "
                                  "versions, and the dump's identity. A batch axis stays in front.",
                                  "muse run DUMP --method muse --clusters 64 --retrieve 4 --out results");
  options->dump.add_to(*command);
  options->dump.add_device_to(*command);
  command->add_option("--method", options->method, described(kMethodHelp, "", options->method))
      ->type_name(kMethodType);
  command->add_option("--out", options->out, "folder for the results; it is made if need be")
      ->type_name("DIR")
      ->required();
  add_json_option(*command, options->json);
  command->callback([options] { run_run(*options); });
}

}  // namespace muse::tools
