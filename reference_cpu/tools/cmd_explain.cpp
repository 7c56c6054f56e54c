// muse explain: one query through every stage, in numbers.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "help.h"
#include "muse/check.h"
#include "muse/explanation.h"
#include "output.h"
#include "progress_bar.h"
#include "table.h"

namespace muse::tools {
namespace {

struct ExplainOptions {
  DumpOptions dump;
  std::int64_t head = 0, query = 0, batch = 0, top = 8;
  std::string json;
};

std::string lse_text(double lse) {
  return std::isinf(lse) ? "none" : fmt::format("{:.4f}", lse);
}

std::string value_formula(Order order) {
  return order == Order::dipole_value ? "(4.5)" : "(4.4)";
}

// Where the block's query clusters come from.
std::string home_text(const LevelView& level, const Config& config) {
  return fmt::format(
      "queries {}..{}{}", level.home.begin, level.home.end - 1,
      config.mode == Mode::causal ? ", all in the past; the query goes to the nearest (6.2)" : "");
}

std::string clusters_table(const LevelView& level, Index top, bool colors) {
  Table table({{"key cluster j"},
               {"tokens n_j"},
               {"L_ij"},
               {"ℓ_j"},
               {"exact"},
               {"exact - ℓ_j"},
               {"exact share"},
               {"", Table::Align::left}});
  const std::size_t shown = std::min(level.clusters.size(), static_cast<std::size_t>(top));
  for (std::size_t row = 0; row < shown; ++row) {
    const ClusterView& cluster = level.clusters[row];
    table.add({fmt::format("{}", cluster.cluster), fmt::format("{}", cluster.tokens), lse_text(cluster.L),
               lse_text(cluster.l), lse_text(cluster.exact),
               fmt::format("{:+.4f}", cluster.exact - cluster.l), percent_text(cluster.exact_share),
               cluster.retrieved ? "retrieved (5.1)" : ""});
  }
  std::string text = table.text(colors, "    ");
  if (shown < level.clusters.size())
    text += fmt::format("    … and {} smaller ones\n", level.clusters.size() - shown);
  return text;
}

std::string level_text(const LevelView& level, const Config& config, Index top, bool colors) {
  const Block& block = level.block;
  std::string text =
      bold(config.mode == Mode::acausal
               ? fmt::format("All keys {}..{} (7.1)", block.key_begin, block.key_end - 1)
               : fmt::format("Level {}, S = {}: queries {}..{}, keys {}..{} (6.1)", block.level, level.size,
                             block.query_begin, block.query_end - 1, block.key_begin, block.key_end - 1),
           colors) +
      "\n";
  text += fmt::format("    query clusters    {}, of {}\n", level.clusters_q, home_text(level, config));
  text += fmt::format("    the query's       i = {}, of {} queries; |δ| = |q - q̄_i| = {} (4.1)\n",
                      level.cluster, level.members, number_text(level.delta_norm));
  text += fmt::format("    key clusters      {}, order {}; those of largest exact mass:\n", level.clusters_k,
                      name_of(config.order));
  text += clusters_table(level, top, colors);
  text += fmt::format("    retrieved         {} tokens, log-sum-exp {} (5.2)\n", level.retrieved_tokens,
                      lse_text(level.lse_retrieved));
  text += fmt::format("    far field         log-sum-exp {} (4.3), output by {}\n", lse_text(level.lse_far),
                      value_formula(config.order));
  text += fmt::format("    both, merged      log-sum-exp {} (1.3), exact {}, difference {:+.4g}\n",
                      lse_text(level.lse), lse_text(level.exact_lse), level.lse - level.exact_lse);
  text += fmt::format("    share of mass     {}, exact {}\n", percent_text(level.share),
                      percent_text(level.exact_share));
  return text + fmt::format("    error of o_b      {} relative, squared\n", number_text(level.rel_sq_err));
}

std::string to_text(const Explanation& e, const Job& job, const Config& config, Index top, bool colors) {
  std::string text =
      bold(fmt::format("{}: {}, query {}", job.path, job.head_name(e.head), e.query), colors) + "\n";
  const auto token = static_cast<std::size_t>(e.query);
  if (token < job.dump.tokens.size())
    text += fmt::format("    token             {}\n", nlohmann::json(job.dump.tokens[token]).dump());
  text += fmt::format("    |q| = {}, s = {}, mode {}, sees {} keys of key head {}\n", number_text(e.q_norm),
                      number_text(e.scale), name_of(config.mode), e.keys, e.kv_head);
  text += fmt::format("    exact log-sum-exp {} (1.1)\n", lse_text(e.exact_lse));
  if (e.has_local) {
    text += bold(fmt::format("Diagonal block: keys {}..{}, exact", e.local.key_begin, e.local.key_end - 1),
                 colors);
    text += fmt::format("\n    log-sum-exp {} (1.1), {} of the mass\n", lse_text(e.local.lse),
                        percent_text(e.local.exact_share));
  }
  for (const LevelView& level : e.levels) text += level_text(level, config, top, colors);
  text += bold("All parts merged (1.3), (7.1)", colors) + "\n";
  text += fmt::format("    log-sum-exp       {}, exact {}, difference {:+.4g}\n", lse_text(e.lse),
                      lse_text(e.exact_lse), e.lse - e.exact_lse);
  text += fmt::format("    error of o        {} relative, squared (8.4); {} at most in one number\n",
                      number_text(e.rel_sq_err), number_text(e.max_abs_err));
  return text;
}

nlohmann::ordered_json to_json(const LevelView& level) {
  nlohmann::ordered_json json = {{"level", level.block.level},
                                 {"size", level.size},
                                 {"queries", {level.block.query_begin, level.block.query_end}},
                                 {"keys", {level.block.key_begin, level.block.key_end}},
                                 {"home", {level.home.begin, level.home.end}},
                                 {"clusters_q", level.clusters_q},
                                 {"clusters_k", level.clusters_k},
                                 {"cluster", level.cluster},
                                 {"members", level.members},
                                 {"delta_norm", level.delta_norm},
                                 {"retrieved_tokens", level.retrieved_tokens},
                                 {"lse_far", level.lse_far},
                                 {"lse_retrieved", level.lse_retrieved},
                                 {"lse", level.lse},
                                 {"exact_lse", level.exact_lse},
                                 {"share", level.share},
                                 {"exact_share", level.exact_share},
                                 {"rel_sq_err", level.rel_sq_err}};
  json["clusters"] = nlohmann::ordered_json::array();
  for (const ClusterView& cluster : level.clusters)
    json["clusters"].push_back({{"cluster", cluster.cluster},
                                {"tokens", cluster.tokens},
                                {"L", cluster.L},
                                {"l", cluster.l},
                                {"exact", cluster.exact},
                                {"mass_error", cluster.exact - cluster.l},
                                {"exact_share", cluster.exact_share},
                                {"retrieved", cluster.retrieved}});
  return json;
}

nlohmann::ordered_json to_json(const Explanation& e, const Job& job, const Config& config, Index batch) {
  nlohmann::ordered_json json;
  json["config"] = muse::to_json(config);
  json["dump"] = dump_json(job.path, job.dump);
  if (job.dump.has_batch_axis) json["batch"] = batch;
  json["head"] = e.head;
  json["kv_head"] = e.kv_head;
  json["query"] = e.query;
  json["q_norm"] = e.q_norm;
  json["scale"] = e.scale;
  json["keys"] = e.keys;
  json["exact"] = {{"lse", e.exact_lse}, {"o", e.exact_o}};
  if (e.has_local)
    json["local"] = {{"keys", {e.local.key_begin, e.local.key_end}},
                     {"lse", e.local.lse},
                     {"exact_share", e.local.exact_share}};
  json["levels"] = nlohmann::ordered_json::array();
  for (const LevelView& level : e.levels) json["levels"].push_back(to_json(level));
  json["merged"] = {{"lse", e.lse}, {"o", e.o}};
  json["lse_error"] = e.lse - e.exact_lse;
  json["rel_sq_err"] = e.rel_sq_err;
  json["max_abs_err"] = e.max_abs_err;
  return json;
}

void require_index(const char* option, std::int64_t index, std::int64_t count) {
  if (index < 0 || index >= count)
    throw UsageError(fmt::format("{}: expected an index from 0 to {}, found {}", option, count - 1, index));
}

template <class Scalar>
Explanation explain(const Job& job, const ExplainOptions& options) {
  const Head<Scalar> head = load_head<Scalar>(job.dump, options.batch, options.head, job.tokens);
  const Config& config = job.configs.for_head(options.head);
  // Cluster as muse_attention does.
  ProgressBar bar(3);
  const LevelLabels labels_k =
      cluster_keys<Scalar>(head.k, head.q.rows(), config, &bar.start("cluster keys", 1, 1));
  const LevelLabels labels_q =
      cluster_queries<Scalar>(head.q, head.k, config, &bar.start("cluster queries", 1, 1));
  return explain_query(head, options.query, config, labels_q, labels_k, &bar.start("explain", 1, 1));
}

void run_explain(const ExplainOptions& options) {
  const Job job = options.dump.load(std::vector<Index>{options.head});
  require_index("--batch", options.batch, job.dump.batch());
  require_index("--query", options.query, job.queries());
  const Config& config = job.configs.for_head(options.head);
  const Explanation explanation = job.device.precision == Precision::single ? explain<float>(job, options)
                                                                            : explain<double>(job, options);
  write_results(options.json, to_json(explanation, job, config, options.batch),
                [&](bool colors) { return to_text(explanation, job, config, options.top, colors); });
}

}  // namespace

void add_explain_command(CLI::App& app) {
  const auto options = std::make_shared<ExplainOptions>();
  CLI::App* command =
      add_command(app, "explain",
                  "Follow one query through every stage. Prints its diagonal block, and at each level its "
                  "block, its query cluster "
                  "and how far it lies from the centroid, the key clusters that matter to it with their "
                  "log-mass as approximated and "
                  "as it is, what is retrieved, and the merged result beside exact attention. Numbers in "
                  "brackets are the formulas "
                  "of docs/math.md; exact figures are computed in double.",
                  "muse explain DUMP --head 0 --query 12000 --clusters S/16:32:512 --retrieve 8");
  command->add_option("--head", options->head, described("query head, 0-based", "index", ""))
      ->type_name("INT")
      ->required();
  command
      ->add_option("--query", options->query,
                   described("token whose query is followed, 0-based", "index", ""))
      ->type_name("INT")
      ->required();
  command
      ->add_option("--batch", options->batch,
                   described("sequence, in a dump with a batch axis", "index", "0"))
      ->type_name("INT");
  command
      ->add_option("--top", options->top,
                   described("key clusters listed at each level; JSON has all", "clusters", "8"))
      ->type_name("INT")
      ->check(unnamed(CLI::NonNegativeNumber));
  options->dump.add_to(*command, false);
  add_json_option(*command, options->json);
  command->callback([options] { run_explain(*options); });
}

}  // namespace muse::tools
