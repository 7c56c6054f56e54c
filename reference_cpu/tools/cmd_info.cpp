// muse info: what a dump holds, and how its heads attend.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "help.h"
#include "muse/head.h"
#include "muse/softmax_merge.h"
#include "output.h"
#include "progress_bar.h"
#include "table.h"

namespace muse::tools {
namespace {

constexpr Index kSampledQueries = 512;
constexpr Index kFar = 1024;

struct InfoOptions {
  std::string path, json;
  std::int64_t threads = 0;
};

struct HeadInfo {
  Index batch = 0, head = 0, kv_head = 0;
  double q_norm = 0, k_norm = 0, v_norm = 0;  // root mean square over tokens
  double entropy = 0;                         // bits, mean over the sampled queries
  double far_mass = 0;                        // mean over the sampled queries
};

double norm_of(const Matrix<double>& x) {
  return std::sqrt(x.squaredNorm() / static_cast<double>(x.rows()));
}

// Entropy in bits and far mass of query t, exact.
struct QueryInfo {
  double entropy = 0, far_mass = 0;
};

QueryInfo look_at_query(const Head<double>& head, Index t, bool causal) {
  const Index keys = causal ? t + 1 : head.k.rows();
  RowVector<double> p = head.scale * (head.q.row(t) * head.k.topRows(keys).transpose());
  (void)softmax_row<double>(p);
  QueryInfo info;
  for (Index n = 0; n < keys; ++n) {
    if (p[n] > 0) info.entropy -= p[n] * std::log2(p[n]);
    if (std::abs(t - n) > kFar) info.far_mass += p[n];
  }
  return info;
}

HeadInfo look_at_head(const Dump& dump, Index batch, Index index, bool causal, Progress& progress) {
  const Head<double> head = load_head<double>(dump, batch, index);
  HeadInfo info{.batch = batch,
                .head = index,
                .kv_head = head.kv_head,
                .q_norm = norm_of(head.q),
                .k_norm = norm_of(head.k),
                .v_norm = norm_of(head.v)};
  if (!head.q.allFinite() || !head.k.allFinite()) {
    info.entropy = info.far_mass = std::numeric_limits<double>::quiet_NaN();
    return info;
  }
  const Index N = head.q.rows(), sampled = std::min(N, kSampledQueries);
  std::vector<QueryInfo> queries(static_cast<std::size_t>(sampled));
#pragma omp parallel for schedule(dynamic, 8)
  for (Index i = 0; i < sampled; ++i) {
    if (progress.cancel) continue;
    queries[static_cast<std::size_t>(i)] = look_at_query(head, (2 * i + 1) * N / (2 * sampled), causal);
    progress.advance(1);
  }
  throw_if_cancelled(&progress);
  for (const QueryInfo& query : queries) {
    info.entropy += query.entropy / static_cast<double>(sampled);
    info.far_mass += query.far_mass / static_cast<double>(sampled);
  }
  return info;
}

struct NonFiniteCounts {
  Index q = 0, k = 0, v = 0;
  [[nodiscard]] Index total() const { return q + k + v; }
};

std::string measured_text(const Dump& dump, bool causal) {
  return fmt::format(
      "entropy and far mass: exact softmax in double, mean over {} evenly spaced queries; far mass is the "
      "share on keys "
      "more than {} tokens {}",
      std::min<Index>(dump.tokens_q(), kSampledQueries), kFar, causal ? "back" : "away");
}

nlohmann::ordered_json to_json(const std::string& path, const Dump& dump, const NonFiniteCounts& non_finite,
                               const std::vector<HeadInfo>& heads, bool causal) {
  nlohmann::ordered_json json = dump_json(path, dump);
  json["batch"] = dump.batch();
  json["heads_q"] = dump.heads_q();
  json["heads_kv"] = dump.heads_kv();
  json["tokens_q"] = dump.tokens_q();
  json["tokens_k"] = dump.tokens_k();
  json["dim"] = dump.dim();
  json["dim_v"] = dump.dim_v();
  json["token_texts"] = dump.tokens.size();
  json["finite"] = non_finite.total() == 0;
  json["non_finite"] = {{"q", non_finite.q}, {"k", non_finite.k}, {"v", non_finite.v}};
  json["measured"] = measured_text(dump, causal);
  json["heads"] = nlohmann::ordered_json::array();
  for (const HeadInfo& head : heads) {
    nlohmann::ordered_json entry;
    if (dump.has_batch_axis) entry["batch"] = head.batch;
    entry["head"] = head.head;
    entry["kv_head"] = head.kv_head;
    entry["q_norm"] = head.q_norm;
    entry["k_norm"] = head.k_norm;
    entry["v_norm"] = head.v_norm;
    entry["entropy_bits"] = head.entropy;
    entry["far_mass"] = head.far_mass;
    json["heads"].push_back(std::move(entry));
  }
  return json;
}

std::string to_text(const std::string& path, const Dump& dump, const NonFiniteCounts& non_finite,
                    const std::vector<HeadInfo>& heads, bool causal, bool colors) {
  const auto left = Table::Align::left;
  std::string text = bold(path, colors) + "\n";
  Table arrays({{"", left}, {"dtype", left}, {"shape", left}, {"NaN or infinite"}});
  const auto add_array = [&](const char* name, const Array& array, Index count) {
    arrays.add({name, name_of(array.dtype), shape_text(dump, array), fmt::format("{}", count)});
  };
  add_array("q", dump.q, non_finite.q);
  add_array("k", dump.k, non_finite.k);
  add_array("v", dump.v, non_finite.v);
  text += arrays.text(colors);
  text += fmt::format("scale    {}\ncausal   {}\n", number_text(dump.scale),
                      dump.causal ? (*dump.causal ? "yes" : "no") : "not said");
  if (dump.heads_q() != dump.heads_kv())
    text += fmt::format("groups   {} query heads share a key head\n", dump.heads_q() / dump.heads_kv());
  if (!dump.tokens.empty()) text += fmt::format("tokens   {} with their text\n", dump.tokens.size());
  if (!dump.source.empty()) text += fmt::format("source   {}\n", dump.source);
  if (non_finite.total() > 0) text += alarm("NOT FINITE: other commands refuse this dump", colors) + "\n";

  Table table({{"head", left},
               {"name", left},
               {"key head"},
               {"rms |q|"},
               {"rms |k|"},
               {"rms |v|"},
               {"entropy"},
               {"far mass"}});
  for (const HeadInfo& head : heads) {
    const auto index = static_cast<std::size_t>(head.head);
    table.add(
        {dump.has_batch_axis ? fmt::format("{}.{}", head.batch, head.head) : fmt::format("{}", head.head),
         index < dump.head_names.size() ? dump.head_names[index] : "", fmt::format("{}", head.kv_head),
         number_text(head.q_norm), number_text(head.k_norm), number_text(head.v_norm),
         std::isnan(head.entropy) ? "NaN" : fmt::format("{:.2f} bits", head.entropy),
         percent_text(head.far_mass)});
  }
  return text + "\n" + table.text(colors) + measured_text(dump, causal) + "\n";
}

void run_info(const InfoOptions& options) {
  use_threads(options.threads);
  const Dump dump = read_dump(options.path, NonFinite::keep);
  const NonFiniteCounts non_finite{
      .q = count_non_finite(dump.q), .k = count_non_finite(dump.k), .v = count_non_finite(dump.v)};
  // A dump that says nothing is looked at causally, if it can be.
  const bool causal = dump.causal.value_or(true) && dump.tokens_q() == dump.tokens_k();
  std::vector<HeadInfo> heads;
  {
    ProgressBar bar(static_cast<double>(dump.batch() * dump.heads_q()));
    for (Index batch = 0; batch < dump.batch(); ++batch) {
      for (Index head = 0; head < dump.heads_q(); ++head) {
        Progress& progress =
            bar.start(fmt::format("head {}", head), 1,
                      static_cast<double>(std::min<Index>(dump.tokens_q(), kSampledQueries)));
        heads.push_back(look_at_head(dump, batch, head, causal, progress));
      }
    }
  }
  write_results(options.json, to_json(options.path, dump, non_finite, heads, causal),
                [&](bool colors) { return to_text(options.path, dump, non_finite, heads, causal, colors); });
}

}  // namespace

void add_info_command(CLI::App& app) {
  const auto options = std::make_shared<InfoOptions>();
  CLI::App* command = add_command(
      app, "info",
      "Describe a dump. Prints shapes, number types, scale, whether all is finite, and for each head the "
      "norms of its queries, keys and values, the entropy of its attention, and the share of its mass on "
      "far tokens. NaN and infinities are counted here; the other commands refuse them.",
      "muse info DUMP --json -");
  add_dump_argument(*command, options->path);
  add_threads_option(*command, options->threads);
  add_json_option(*command, options->json);
  command->callback([options] { run_info(*options); });
}

}  // namespace muse::tools
