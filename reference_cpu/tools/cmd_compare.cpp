// muse compare: methods against exact attention, in errors, operations and time.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <memory>

#include "commands.h"
#include "compare_picture.h"
#include "dump_options.h"
#include "help.h"
#include "method_runner.h"
#include "muse/check.h"
#include "muse/error_metrics.h"
#include "output.h"
#include "table.h"
#include "version.h"

namespace muse::tools {
namespace {

struct CompareOptions {
  DumpOptions dump;
  std::string methods = "exact,local,muse";
  std::string json, csv, png;
};

// One method on one head.
struct Row {
  std::size_t method = 0;
  Index batch = 0, head = 0;
  HeadError error;
  double seconds = 0, operations = 0;
  std::vector<StageCost> stages;
  std::vector<double> error_bins;
};

struct Summary {
  double mean_rel_sq_err = 0, max_rel_sq_err = 0, max_abs_err = 0, lse_bias = 0, seconds = 0, operations = 0;
  Index non_finite = 0;
};

struct Comparison {
  std::vector<MethodSpec> methods = {};
  std::vector<Row> rows = {};           // by batch, head, method
  std::vector<Summary> summaries = {};  // by method
  double exact_seconds = 0, exact_operations = 0;
};

// Figures over finite outputs alone would make a method that gives NaN look better than it is.
void spoil_if_not_finite(HeadError& error) {
  if (error.non_finite == 0) return;
  error.rel_sq_err = error.max_abs_err = error.lse_bias = std::numeric_limits<double>::quiet_NaN();
}

template <class Scalar>
Row measured(const HeadResult<Scalar>& result, const HeadResult<Scalar>& exact) {
  Row row;
  row.error = head_error(result.attention, exact.attention);
  spoil_if_not_finite(row.error);
  row.seconds = result.seconds;
  row.operations = result.operations;
  row.stages = result.stages;
  row.error_bins = binned(query_errors(result.attention, exact.attention));
  return row;
}

// std::max would drop a NaN on one side.
double larger(double a, double b) {
  return std::isnan(a) || a > b ? a : b;
}

std::vector<Summary> summarised(const Comparison& comparison) {
  std::vector<Summary> summaries(comparison.methods.size());
  const double heads =
      static_cast<double>(comparison.rows.size()) / static_cast<double>(comparison.methods.size());
  for (const Row& row : comparison.rows) {
    Summary& summary = summaries[row.method];
    summary.mean_rel_sq_err += row.error.rel_sq_err / heads;
    summary.max_rel_sq_err = larger(row.error.rel_sq_err, summary.max_rel_sq_err);
    summary.max_abs_err = larger(row.error.max_abs_err, summary.max_abs_err);
    summary.lse_bias += row.error.lse_bias / heads;
    summary.seconds += row.seconds;
    summary.operations += row.operations;
    summary.non_finite += row.error.non_finite;
  }
  return summaries;
}

template <class Scalar>
Comparison compare(const Job& job, const std::vector<MethodSpec>& methods) {
  Comparison comparison{.methods = methods};
  MethodRunner<Scalar> truth({.word = "exact", .method = Method::exact, .configs = job.configs});
  std::vector<MethodRunner<Scalar>> runners;
  runners.reserve(methods.size());
  for (const MethodSpec& method : methods) runners.emplace_back(method, job.device);

  double expected = 0;
  for (const Index head : job.heads) {
    const auto add = [&](const MethodSpec& spec) {
      expected +=
          static_cast<double>(job.dump.batch()) *
          expected_operations(spec, head, job.queries(), job.keys(), job.dump.dim(), job.dump.dim_v());
    };
    add(truth.spec());
    for (const MethodSpec& method : methods)
      if (method.method != Method::exact) add(method);
  }
  ProgressBar bar(expected);

  for (Index batch = 0; batch < job.dump.batch(); ++batch) {
    for (const Index index : job.heads) {
      const Head<Scalar> head = load_head<Scalar>(job.dump, batch, index, job.tokens);
      // Exact attention is the truth, listed or not; it is run once.
      const HeadResult<Scalar> exact = truth.run(head, bar);
      comparison.exact_seconds += exact.seconds;
      comparison.exact_operations += exact.operations;
      for (std::size_t m = 0; m < runners.size(); ++m) {
        Row row = methods[m].method == Method::exact ? measured(exact, exact)
                                                     : measured(runners[m].run(head, bar), exact);
        row.method = m;
        row.batch = batch;
        row.head = index;
        comparison.rows.push_back(std::move(row));
      }
    }
  }
  bar.finish();
  comparison.summaries = summarised(comparison);
  return comparison;
}

nlohmann::ordered_json to_json(const Comparison& comparison, const Job& job) {
  nlohmann::ordered_json json;
  json["config"] = job.config_json();
  json["rows"] = nlohmann::ordered_json::array();
  for (const Row& row : comparison.rows) {
    nlohmann::ordered_json entry;
    entry["method"] = comparison.methods[row.method].word;
    if (job.dump.has_batch_axis) entry["batch"] = row.batch;
    entry["head"] = row.head;
    entry["rel_sq_err"] = row.error.rel_sq_err;
    entry["max_abs_err"] = row.error.max_abs_err;
    entry["lse_bias"] = row.error.lse_bias;
    entry["non_finite"] = row.error.non_finite;
    entry["seconds"] = row.seconds;
    entry["operations"] = row.operations;
    entry["stages"] = to_json(row.stages);
    json["rows"].push_back(std::move(entry));
  }
  json["summary"] = nlohmann::ordered_json::object();
  for (std::size_t m = 0; m < comparison.methods.size(); ++m) {
    const Summary& summary = comparison.summaries[m];
    json["summary"][comparison.methods[m].word] = {
        {"mean_rel_sq_err", summary.mean_rel_sq_err},
        {"max_rel_sq_err", summary.max_rel_sq_err},
        {"max_abs_err", summary.max_abs_err},
        {"lse_bias", summary.lse_bias},
        {"non_finite", summary.non_finite},
        {"seconds", summary.seconds},
        {"operations", summary.operations},
        {"speedup", comparison.exact_seconds / summary.seconds},
        {"relative_operations", summary.operations / comparison.exact_operations}};
  }
  json["reference"] = {{"method", "exact"},
                       {"seconds", comparison.exact_seconds},
                       {"operations", comparison.exact_operations}};
  json["versions"] = version_json();
  return json;
}

std::string to_csv(const Comparison& comparison) {
  std::string text = "method,batch,head,rel_sq_err,max_abs_err,lse_bias,non_finite,seconds,operations\n";
  for (const Row& row : comparison.rows)
    text += fmt::format("{},{},{},{},{},{},{},{},{}\n", csv_field(comparison.methods[row.method].word),
                        row.batch, row.head, row.error.rel_sq_err, row.error.max_abs_err, row.error.lse_bias,
                        row.error.non_finite, row.seconds, row.operations);
  return text;
}

std::string row_name(const Job& job, Index batch, Index head) {
  const std::string name = job.head_name(head);
  return job.dump.has_batch_axis ? fmt::format("batch {} {}", batch, name) : name;
}

std::string finite_warning(const Comparison& comparison, const Job& job, bool colors) {
  std::string text;
  for (const Row& row : comparison.rows)
    if (row.error.non_finite > 0)
      text +=
          alarm(fmt::format("NOT FINITE: {}, {}: the output or log-sum-exp of {} queries is NaN or infinite",
                            comparison.methods[row.method].word, row_name(job, row.batch, row.head),
                            row.error.non_finite),
                colors) +
          "\n";
  return text;
}

std::string to_table(const Comparison& comparison, const Job& job, bool colors) {
  const auto left = Table::Align::left;
  std::string text = fmt::format(
      "{}: {} tokens, {} heads, mode {}, errors against exact attention in {}\n\n", job.path, job.queries(),
      job.heads.size() * static_cast<std::size_t>(job.dump.batch()), name_of(job.configs.common.mode),
      job.device.precision == Precision::single ? "float" : "double");
  Table table({{"head", left},
               {"", left},
               {"method", left},
               {"rel. sq. error"},
               {"max abs error"},
               {"lse bias"},
               {"seconds"},
               {"operations"}});
  for (const Row& row : comparison.rows) {
    if (row.method == 0 && &row != &comparison.rows.front()) table.add_gap();
    const bool first = row.method == 0;
    const bool named =
        static_cast<std::size_t>(row.head) < job.dump.head_names.size() || job.dump.has_batch_axis;
    table.add({first ? fmt::format("{}", row.head) : "",
               first && named ? row_name(job, row.batch, row.head) : "", comparison.methods[row.method].word,
               number_text(row.error.rel_sq_err), number_text(row.error.max_abs_err),
               number_text(row.error.lse_bias), seconds_text(row.seconds), operations_text(row.operations)});
  }
  text += table.text(colors) + "\n";

  Table summary({{"all heads", left},
                 {"mean error"},
                 {"largest"},
                 {"lse bias"},
                 {"seconds"},
                 {"speed"},
                 {"operations"},
                 {"of exact"}});
  for (std::size_t m = 0; m < comparison.methods.size(); ++m) {
    const Summary& s = comparison.summaries[m];
    summary.add({comparison.methods[m].word, number_text(s.mean_rel_sq_err), number_text(s.max_rel_sq_err),
                 number_text(s.lse_bias), seconds_text(s.seconds),
                 ratio_text(comparison.exact_seconds / s.seconds), operations_text(s.operations),
                 ratio_text(s.operations / comparison.exact_operations)});
  }
  text += summary.text(colors);
  text += fmt::format("exact attention: {}, {}; speed and operations are relative to it\n",
                      seconds_text(comparison.exact_seconds), operations_text(comparison.exact_operations));
  return text + finite_warning(comparison, job, colors);
}

void draw(const std::string& path, const Comparison& comparison, const Job& job) {
  std::vector<std::string> names;
  std::vector<PicturedMethod> methods;
  for (std::size_t m = 0; m < comparison.methods.size(); ++m)
    methods.push_back(
        {.spec = comparison.methods[m],
         .relative_operations = comparison.summaries[m].operations / comparison.exact_operations,
         .mean_rel_sq_err = comparison.summaries[m].mean_rel_sq_err});
  for (const Row& row : comparison.rows) {
    if (row.method == 0) names.push_back(row_name(job, row.batch, row.head));
    methods[row.method].errors.push_back(row.error_bins);
  }
  write_compare_picture(path, job, names, methods);
}

void run_compare(const CompareOptions& options) {
  if (options.json == "-" && options.csv == "-")
    throw UsageError("--json - and --csv -: expected one of them on standard output, found both");
  const Job job = options.dump.load();
  const std::vector<MethodSpec> methods = parse_methods(options.methods, job.configs);
  for (const MethodSpec& method : methods) require_method_fits(method, job);
  const Comparison comparison = job.device.precision == Precision::single ? compare<float>(job, methods)
                                                                          : compare<double>(job, methods);
  if (!options.png.empty()) draw(options.png, comparison, job);
  if (!options.json.empty()) write_text(options.json, json_text(to_json(comparison, job)));
  if (!options.csv.empty()) write_text(options.csv, to_csv(comparison));
  if (options.json != "-" && options.csv != "-")
    print(to_table(comparison, job, wants_colors(stdout)));
  else
    fmt::print(stderr, "{}", finite_warning(comparison, job, wants_colors(stderr)));
}

}  // namespace

void add_compare_command(CLI::App& app) {
  const auto options = std::make_shared<CompareOptions>();
  CLI::App* command = add_command(
      app, "compare",
      "Compare methods with exact attention. Prints the error of each method on each head (relative squared "
      "error "
      "‖ô-o‖²/‖o‖², largest absolute error, mean error of the log-sum-exp), its operations and its time, "
      "clustering "
      "included. Exact attention of the same mode and number type is the reference, listed or not.",
      "muse compare DUMP --clusters S/16:32:512 --methods exact,local,muse,muse:retrieve=8 --png "
      "compare.png");
  options->dump.add_to(*command);
  options->dump.add_device_to(*command);
  command
      ->add_option(
          "--methods", options->methods,
          described(std::string("methods, with a comma between them: ") + kMethodHelp, "", options->methods))
      ->type_name("METHOD[,METHOD…]");
  add_json_option(*command, options->json);
  command
      ->add_option("--csv", options->csv, "write the rows as CSV to FILE, or to standard output alone for -")
      ->type_name("FILE|-");
  command->add_option("--png", options->png, "draw errors along the tokens, and error against operations")
      ->type_name("FILE");
  command->callback([options] { run_compare(*options); });
}

}  // namespace muse::tools
