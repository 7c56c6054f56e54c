// muse blocks: how the attention matrix is covered, and what each level costs.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "help.h"
#include "muse/check.h"
#include "muse/exact_attention.h"
#include "output.h"
#include "predict.h"
#include "table.h"

namespace muse::tools {
namespace {

constexpr Index kMostDrawn = 32;  // blocks along an edge that the drawing shows
constexpr std::int64_t kMostTokens = std::int64_t{1} << 32;
constexpr double kMostBlocks = 1 << 24;

struct BlocksOptions {
  std::int64_t tokens = 0, dim = 64, dim_v = 0;
  ConfigOptions config;
  std::string json;
};

// One character a diagonal block: '\' on the diagonal, the level's digit or letter where it is far.
std::string drawing(Index N, const Config& config) {
  const Index B = config.block, edge = ceil_div(N, B);
  std::vector<std::string> rows(static_cast<std::size_t>(edge),
                                std::string(static_cast<std::size_t>(edge), '.'));
  for (const Block& block : diagonal_blocks(N, B)) {
    const auto at = static_cast<std::size_t>(block.query_begin / B);
    rows[at][at] = '\\';
  }
  for (const Block& block : far_blocks(N, B))
    for (Index row = block.query_begin / B; row < ceil_div(block.query_end, B); ++row)
      for (Index col = block.key_begin / B; col < block.key_end / B; ++col)
        rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(col)] =
            static_cast<char>('0' + block.level);
  std::string text;
  for (const std::string& row : rows) {
    text += "  ";
    for (const char cell : row) text.append(1, cell).append(" ");
    text.back() = '\n';
  }
  return text +
         fmt::format(
             "  rows: queries, columns: keys, {} tokens a cell; \\ exact and causal, digits: level\n\n", B);
}

struct Coverage {
  double covered = 0, wanted = 0;
  [[nodiscard]] bool whole() const { return covered == wanted; }
};

Coverage coverage_of(const std::vector<LevelPlan>& levels, Index N, const Config& config) {
  Coverage coverage;
  for (const LevelPlan& level : levels) coverage.covered += level.pairs;
  const auto n = static_cast<double>(N);
  coverage.wanted = config.mode == Mode::acausal ? n * n : n * (n + 1) / 2;
  return coverage;
}

std::string to_text(const std::vector<LevelPlan>& levels, const BlocksOptions& options, const Config& config,
                    const Coverage& coverage, double exact_operations, bool colors) {
  const auto left = Table::Align::left;
  std::string text =
      fmt::format("{} tokens, mode {}, B = {}\n\n", options.tokens, name_of(config.mode), config.block);
  if (config.mode != Mode::acausal && ceil_div(options.tokens, config.block) <= kMostDrawn)
    text += drawing(options.tokens, config);
  Table table({{"level", left},
               {"S"},
               {"blocks"},
               {"queries"},
               {"pairs"},
               {"Cq"},
               {"Ck"},
               {"r"},
               {"operations"},
               {"of exact"}});
  for (const LevelPlan& level : levels) {
    const bool far = level.level >= 0;
    const auto count = [&](Index value) { return far ? fmt::format("{}", value) : std::string("-"); };
    table.add({far ? fmt::format("{}", level.level) : "diagonal", fmt::format("{}", level.size),
               fmt::format("{}", level.blocks), fmt::format("{}", level.queries),
               fmt::format("{:.0f}", level.pairs), count(level.clusters_q), count(level.clusters_k),
               count(level.retrieve), operations_text(level.operations.total()),
               ratio_text(level.operations.total() / exact_operations)});
  }
  const OperationCounts sum = planned_operations(levels);
  table.add({"all", "", "", "", fmt::format("{:.0f}", coverage.covered), "", "", "",
             operations_text(sum.total()), ratio_text(sum.total() / exact_operations)});
  text += table.text(colors);
  text += fmt::format("pairs covered: {:.0f} {} {} = {:.0f}: {}\n", coverage.covered,
                      coverage.whole() ? "=" : "≠", config.mode == Mode::acausal ? "N N" : "N(N+1)/2",
                      coverage.wanted, coverage.whole() ? "each pair once" : "NOT COVERED");
  text += fmt::format(
      "operations of a head of dim {} and values of dim {}: clustering {}, summaries {}, far field {}, "
      "retrieval {}, "
      "local {}; exact attention {}\n",
      options.dim, options.dim_v, operations_text(sum.clustering), operations_text(sum.summaries),
      operations_text(sum.far_field), operations_text(sum.retrieval), operations_text(sum.local),
      operations_text(exact_operations));
  return text + "they are those of clusters of equal size; real ones differ where r > 0\n";
}

nlohmann::ordered_json to_json(const OperationCounts& operations) {
  return {{"clustering", operations.clustering}, {"local", operations.local},
          {"summaries", operations.summaries},   {"far_field", operations.far_field},
          {"retrieval", operations.retrieval},   {"total", operations.total()}};
}

nlohmann::ordered_json to_json(const std::vector<LevelPlan>& levels, const BlocksOptions& options,
                               const Config& config, const Coverage& coverage, double exact_operations) {
  nlohmann::ordered_json json;
  json["config"] = muse::to_json(config);
  json["tokens"] = options.tokens;
  json["dim"] = options.dim;
  json["dim_v"] = options.dim_v;
  json["levels"] = nlohmann::ordered_json::array();
  for (const LevelPlan& level : levels)
    json["levels"].push_back({{"level", level.level},
                              {"size", level.size},
                              {"blocks", level.blocks},
                              {"queries", level.queries},
                              {"pairs", level.pairs},
                              {"clusters_q", level.clusters_q},
                              {"clusters_k", level.clusters_k},
                              {"retrieve", level.retrieve},
                              {"operations", to_json(level.operations)}});
  json["pairs_covered"] = coverage.covered;
  json["pairs_wanted"] = coverage.wanted;
  json["covered_once"] = coverage.whole();
  json["operations"] = to_json(planned_operations(levels));
  json["exact_operations"] = exact_operations;
  return json;
}

void run_blocks(BlocksOptions options) {
  if (options.dim_v == 0) options.dim_v = options.dim;
  const Config config = options.config.resolve({}).common;
  if (config.mode != Mode::acausal &&
      static_cast<double>(options.tokens) / static_cast<double>(config.block) > kMostBlocks)
    throw UsageError(fmt::format("--block: expected at least {} for {} tokens, found {}",
                                 std::ceil(static_cast<double>(options.tokens) / kMostBlocks), options.tokens,
                                 config.block));
  const std::vector<LevelPlan> levels =
      plan_levels(options.tokens, options.tokens, options.dim, options.dim_v, config);
  const Coverage coverage = coverage_of(levels, options.tokens, config);
  const double of_exact = exact_operations(coverage.wanted, options.dim, options.dim_v);
  write_results(options.json, to_json(levels, options, config, coverage, of_exact),
                [&](bool colors) { return to_text(levels, options, config, coverage, of_exact, colors); });
}

}  // namespace

void add_blocks_command(CLI::App& app) {
  const auto options = std::make_shared<BlocksOptions>();
  CLI::App* command =
      add_command(app, "blocks",
                  "Print how causal attention is decomposed. Shows the diagonal blocks, which are exact, and "
                  "the far blocks of each "
                  "level, with the pairs that they cover, their numbers of clusters, and the operations to "
                  "be expected; checks that "
                  "each pair is covered once. Draws the matrix when it has at most 32 diagonal blocks.",
                  "muse blocks --tokens 16384 --block 1024 --clusters S/16:32:512 --retrieve 8");
  command->add_option("--tokens", options->tokens, described("queries, and as many keys", "tokens", ""))
      ->type_name("INT")
      ->required()
      ->check(unnamed(CLI::Range(std::int64_t{1}, kMostTokens)));
  options->config.add_to(*command);
  const auto add_dim = [&](const std::string& name, std::int64_t& value, const std::string& help,
                           const std::string& default_value) {
    command->add_option(name, value, described(help, "numbers", default_value))
        ->type_name("INT")
        ->check(unnamed(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20)));
  };
  add_dim("--dim", options->dim, "extent of queries and keys, for the operations", "64");
  add_dim("--dim-v", options->dim_v, "extent of values, for the operations", "as dim");
  add_json_option(*command, options->json);
  command->callback([options] { run_blocks(*options); });
}

}  // namespace muse::tools
