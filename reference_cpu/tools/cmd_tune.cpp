// muse tune: the cheapest parameters within an error bound, written to a config file.
#include <fmt/format.h>

#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "help.h"
#include "muse/check.h"
#include "muse/tune.h"
#include "output.h"
#include "progress_bar.h"
#include "table.h"
#include "version.h"

namespace muse::tools {
namespace {

struct TuneOptions {
  DumpOptions dump;
  double max_error = 0;
  bool per_head = false;
  std::string out = "muse-config.json";
  std::string json;
};

// The answer for some heads together: all of them, or one.
struct Answer {
  std::vector<Index> heads;
  TuneResult result;

  [[nodiscard]] const TunePoint& best() const { return result.points[result.best]; }
};

template <class Scalar>
Answer tuned(const Job& job, const std::vector<Index>& heads, double max_error, ProgressBar& bar,
             const std::string& task) {
  std::vector<Head<Scalar>> loaded;
  for (Index batch = 0; batch < job.dump.batch(); ++batch)
    for (const Index head : heads) loaded.push_back(load_head<Scalar>(job.dump, batch, head, job.tokens));
  Progress& progress = bar.start(task, static_cast<double>(heads.size()), 0);
  return {heads, tune<Scalar>(loaded, job.configs.common, max_error, &progress)};
}

// One answer for all heads, and where asked for one more for each head.
template <class Scalar>
std::vector<Answer> tuned_answers(const Job& job, const TuneOptions& options) {
  const bool single = options.per_head && job.heads.size() > 1;
  ProgressBar bar(static_cast<double>(job.heads.size()) * (single ? 2 : 1));
  std::vector<Answer> answers{tuned<Scalar>(job, job.heads, options.max_error, bar, "all heads")};
  if (single)
    for (const Index head : job.heads)
      answers.push_back(tuned<Scalar>(job, {head}, options.max_error, bar, job.head_name(head)));
  bar.finish();
  return answers;
}

nlohmann::ordered_json point_json(const TunePoint& point, const TuneResult& result) {
  return {{"options", to_json(point.config)},
          {"mean_rel_sq_err", point.error},
          {"unseen_rel_sq_err", point.unseen_error},
          {"head_rel_sq_err", point.head_errors},
          {"operations", point.operations},
          {"relative_operations", point.operations / result.exact_operations}};
}

nlohmann::ordered_json spread_json(const HeadSpread& spread) {
  if (!spread.stated) return nullptr;
  return {{"low_5_percent", spread.low}, {"median", spread.median}, {"high_95_percent", spread.high}};
}

nlohmann::ordered_json to_json(const std::vector<Answer>& answers, const Job& job,
                               const TuneOptions& options) {
  nlohmann::ordered_json json;
  json["config"] = job.config_json();
  json["max_error"] = options.max_error;
  json["answers"] = nlohmann::ordered_json::array();
  for (const Answer& answer : answers) {
    nlohmann::ordered_json entry;
    entry["heads"] = answer.heads;
    entry["tried"] = answer.result.points.size();
    entry["best"] = point_json(answer.best(), answer.result);
    entry["other_heads_rel_sq_err"] = spread_json(predict_spread(answer.best().head_errors));
    entry["frontier"] = nlohmann::ordered_json::array();
    for (const std::size_t point : answer.result.frontier)
      entry["frontier"].push_back(point_json(answer.result.points[point], answer.result));
    json["answers"].push_back(std::move(entry));
  }
  json["versions"] = version_json();
  return json;
}

std::string to_text(const Answer& answer, const Job& job, const TuneOptions& options, bool colors) {
  const std::string heads = answer.heads.size() == 1 ? job.head_name(answer.heads.front())
                                                     : fmt::format("{} heads together", answer.heads.size());
  std::string text =
      fmt::format("{}: frontier of {} settings tried, * the answer for an error of at most {}\n\n", heads,
                  answer.result.points.size(), number_text(options.max_error));
  const auto left = Table::Align::left;
  Table table({{"", left},
               {"error"},
               {"unseen text"},
               {"of exact"},
               {"block"},
               {"clusters", left},
               {"retrieve"},
               {"passes"},
               {"metric", left}});
  for (const std::size_t index : answer.result.frontier) {
    const TunePoint& point = answer.result.points[index];
    table.add({index == answer.result.best ? "*" : "", number_text(point.error),
               number_text(point.unseen_error), ratio_text(point.operations / answer.result.exact_operations),
               get_option(point.config, "block"), get_option(point.config, "clusters-k"),
               get_option(point.config, "retrieve"), get_option(point.config, "passes"),
               get_option(point.config, "metric")});
  }
  text += table.text(colors);
  text +=
      "error: mean relative squared error over these heads; unseen text: what it stays below on other text, "
      "95 %;\n"
      "of exact: operations relative to exact attention\n";
  const HeadSpread spread = predict_spread(answer.best().head_errors);
  if (spread.stated)
    text += fmt::format(
        "other heads with these parameters: half are predicted below {}, 90 % between {} and {}\n",
        number_text(spread.median), number_text(spread.low), number_text(spread.high));
  else
    text += "other heads: one head says nothing of their spread; tune on several\n";
  return text;
}

[[noreturn]] void refuse(const Answer& answer, const Job& job, const TuneOptions& options) {
  double least = answer.result.points.empty() ? 0 : answer.result.points.front().error;
  for (const TunePoint& point : answer.result.points) least = std::min(least, point.error);
  throw UsageError(
      fmt::format("--max-error {}: no setting cheaper than exact attention reaches this on {}, with a margin "
                  "for unseen text; the "
                  "smallest error found is {}. Allow a larger error, leave out the hardest heads, or use "
                  "exact attention there",
                  number_text(options.max_error),
                  answer.heads.size() == 1 ? job.head_name(answer.heads.front()) : "these heads together",
                  number_text(least)));
}

void run_tune(const TuneOptions& options) {
  const Job job = options.dump.load();
  if (!(options.max_error > 0))
    throw UsageError(fmt::format("--max-error: expected a number above 0, found {}", options.max_error));
  const std::vector<Answer> answers = job.device.precision == Precision::single
                                          ? tuned_answers<float>(job, options)
                                          : tuned_answers<double>(job, options);
  for (const Answer& answer : answers)
    if (!answer.result.found) refuse(answer, job, options);

  ConfigSet configs;
  configs.common = answers.front().best().config;
  for (std::size_t a = 1; a < answers.size(); ++a)
    configs.heads[answers[a].heads.front()] = answers[a].best().config;
  const nlohmann::ordered_json json = to_json(answers, job, options);
  write_in_place(options.out, [&](const std::filesystem::path& temporary) {
    write_config(temporary.string(), configs, nlohmann::json::parse(json_text(json)));
  });
  write_results(options.json, json, [&](bool colors) {
    std::string text;
    for (const Answer& answer : answers) text += to_text(answer, job, options, colors) + "\n";
    return text + fmt::format("written to {}; use it with --config {}\n", options.out, options.out);
  });
}

}  // namespace

void add_tune_command(CLI::App& app) {
  const auto options = std::make_shared<TuneOptions>();
  CLI::App* command = add_command(app, "tune",
                                  "Choose the parameters. Tries blocks, numbers of clusters, clusters "
                                  "retrieved, passes and metrics on the heads of a "
                                  "dump, reports the frontier of error against operations, and writes the "
                                  "cheapest setting within the bound to a "
                                  "config file that every command takes with --config. Mode, order and the "
                                  "rest stay as given. The error is the mean "
                                  "over heads of the relative squared error; the margin left for other text "
                                  "of the same kind comes from how much the "
                                  "error scatters along this one.",
                                  "muse tune DUMP --max-error 0.03 --out muse-config.json");
  options->dump.add_to(*command);
  command
      ->add_option("--max-error", options->max_error,
                   "largest mean relative squared error ‖ô-o‖²/‖o‖² to allow")
      ->type_name("FLOAT")
      ->required();
  command->add_flag("--per-head", options->per_head,
                    "also give each head parameters of its own, within the same bound");
  command->add_option("--out", options->out, described("config file to write", "", options->out))
      ->type_name("FILE");
  add_json_option(*command, options->json);
  command->callback([options] { run_tune(*options); });
}

}  // namespace muse::tools
