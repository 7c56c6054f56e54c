#include "muse/config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <utility>

#include "muse/check.h"

namespace muse {
namespace {

constexpr std::int64_t kLargestCount = std::int64_t{1}
                                       << 40;  // far above any real size; keeps products in range
constexpr std::string_view kConfigFormat = "muse-config/1";

template <class Enum>
using Names = std::span<const std::pair<Enum, std::string_view>>;

constexpr std::array<std::pair<Mode, std::string_view>, 3> kModes{
    {{Mode::acausal, "acausal"}, {Mode::causal, "causal"}, {Mode::causal_shared, "causal-shared"}}};
constexpr std::array<std::pair<Order, std::string_view>, 5> kOrders{
    {{Order::centroid, "centroid"},
     {Order::monopole, "monopole"},
     {Order::dipole, "dipole"},
     {Order::dipole_value, "dipole_value"},
     {Order::dipole_spread, "dipole_spread"}}};
constexpr std::array<std::pair<ClusterBy, std::string_view>, 3> kClusterBys{
    {{ClusterBy::kmeans, "kmeans"}, {ClusterBy::balanced, "balanced"}, {ClusterBy::spatial, "spatial"}}};
constexpr std::array<std::pair<Metric, std::string_view>, 2> kMetrics{
    {{Metric::euclidean, "euclidean"}, {Metric::key_covariance, "key-covariance"}}};
constexpr std::array<std::pair<RetrieveBy, std::string_view>, 2> kRetrieveBys{
    {{RetrieveBy::mass, "mass"}, {RetrieveBy::mean_weight, "mean-weight"}}};

template <class Enum>
std::string_view name_in(Names<Enum> names, Enum value) {
  return std::find_if(names.begin(), names.end(), [&](const auto& entry) { return entry.first == value; })
      ->second;
}

template <class Enum>
std::string choices(Names<Enum> names) {
  std::string text;
  for (const auto& [value, name] : names) text.append(text.empty() ? "" : "|").append(name);
  return text;
}

template <class Enum>
Enum parse_enum(Names<Enum> names, std::string_view option, std::string_view text) {
  for (const auto& [value, name] : names)
    if (name == text) return value;
  throw UsageError(fmt::format("--{}: expected {}, found '{}'", option, choices(names), text));
}

std::int64_t parse_count(std::string_view option, std::string_view text, std::int64_t least) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < least || value > kLargestCount)
    throw UsageError(
        fmt::format("--{}: expected a whole number of at least {}, found '{}'", option, least, text));
  return value;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(separator, begin), text.size());
    parts.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return parts;
}

ClusterRule parse_rule(std::string_view option, std::string_view text) {
  if (!text.starts_with("S/")) {
    const std::int64_t count = parse_count(option, text, 1);
    return {.divisor = 0, .low = count, .high = count};
  }
  const auto parts = split(text.substr(2), ':');
  if (parts.size() != 1 && parts.size() != 3)
    throw UsageError(
        fmt::format("--{}: expected a number, S/DIVISOR or S/DIVISOR:LOW:HIGH, found '{}'", option, text));
  ClusterRule rule{.divisor = parse_count(option, parts[0], 1), .low = 1, .high = kLargestCount};
  if (parts.size() == 3) {
    rule.low = parse_count(option, parts[1], 1);
    rule.high = parse_count(option, parts[2], 1);
    if (rule.low > rule.high)
      throw UsageError(fmt::format("--{}: expected LOW <= HIGH, found '{}'", option, text));
  }
  return rule;
}

std::string rule_text(const ClusterRule& rule) {
  if (rule.divisor == 0) return fmt::format("{}", rule.low);
  if (rule.low == 1 && rule.high == kLargestCount) return fmt::format("S/{}", rule.divisor);
  return fmt::format("S/{}:{}:{}", rule.divisor, rule.low, rule.high);
}

template <class Value>
PerLevel<Value> parse_levels(std::string_view text, const std::function<Value(std::string_view)>& parse_one) {
  PerLevel<Value> levels;
  for (const std::string_view part : split(text, ',')) levels.values.push_back(parse_one(part));
  return levels;
}

template <class Value>
std::string levels_text(const PerLevel<Value>& levels,
                        const std::function<std::string(const Value&)>& text_of_one) {
  std::string text;
  for (const Value& value : levels.values) text.append(text.empty() ? "" : ",").append(text_of_one(value));
  return text;
}

// One row a parameter: what help says, how text becomes the value, and how the value becomes text.
struct OptionRow {
  OptionInfo info;
  std::function<void(Config&, std::string_view)> set;
  std::function<std::string(const Config&)> get;
};

template <class Enum>
OptionRow enum_row(std::string name, Enum Config::*member, Names<Enum> names, std::string help) {
  return {{name, choices(names), "", std::string(name_in(names, Config{}.*member)), std::move(help)},
          [=](Config& config, std::string_view text) { config.*member = parse_enum(names, name, text); },
          [=](const Config& config) { return std::string(name_in(names, config.*member)); }};
}

OptionRow count_row(std::string name, std::int64_t Config::*member, std::int64_t least, std::string unit,
                    std::string help) {
  return {{name, "INT", std::move(unit), fmt::format("{}", Config{}.*member), std::move(help)},
          [=](Config& config, std::string_view text) { config.*member = parse_count(name, text, least); },
          [=](const Config& config) { return fmt::format("{}", config.*member); }};
}

OptionRow rule_row(std::string name, PerLevel<ClusterRule> Config::*member, std::string help) {
  const auto text_of = [=](const Config& config) {
    return levels_text<ClusterRule>(config.*member, rule_text);
  };
  return {{name, "RULE", "clusters", text_of(Config{}), std::move(help)},
          [=](Config& config, std::string_view text) {
            config.*member = parse_levels<ClusterRule>(
                text, [&](std::string_view part) { return parse_rule(name, part); });
          },
          text_of};
}

const std::vector<OptionRow>& option_rows() {
  static const std::vector<OptionRow> rows = [] {
    std::vector<OptionRow> r;
    r.push_back(
        enum_row<Mode>("mode", &Config::mode, kModes,
                       "which keys a query sees; causal is strict: outputs before t never depend on tokens "
                       "from t on"));
    r.back().info.default_rule = "what the dump says of itself, else causal";
    r.push_back(
        enum_row<Order>("order", &Config::order, kOrders,
                        "order of the expansion of a far key cluster around the query cluster's centroid"));
    r.push_back(enum_row<ClusterBy>("cluster-by", &Config::cluster_by, kClusterBys,
                                    "how tokens are divided into clusters"));
    r.push_back(
        enum_row<Metric>("metric", &Config::metric, kMetrics, "distance in which queries are clustered"));
    r.push_back(
        rule_row("clusters-q", &Config::clusters_q,
                 "query clusters of a span of S tokens: a number, S/16, or S/16:32:512 for S/16 clamped to "
                 "32..512; a comma list gives levels 0, 1, … their own"));
    r.push_back(rule_row("clusters-k", &Config::clusters_k, "key clusters of a span, written likewise"));
    r.push_back(
        {{"retrieve", "INT[,INT…]", "clusters", "0",
          "key clusters of largest weight whose tokens are attended exactly, for each query cluster; a comma "
          "list gives levels their own"},
         [](Config& config, std::string_view text) {
           config.retrieve = parse_levels<std::int64_t>(
               text, [](std::string_view part) { return parse_count("retrieve", part, 0); });
         },
         [](const Config& config) {
           return levels_text<std::int64_t>(config.retrieve,
                                            [](std::int64_t r) { return fmt::format("{}", r); });
         }});
    r.push_back(enum_row<RetrieveBy>(
        "retrieve-by", &Config::retrieve_by, kRetrieveBys,
        "what weight ranks clusters for retrieval: all of a cluster's, or the mean of its "
        "tokens', which favours small clusters and costs less for the same error"));
    r.push_back(
        count_row("block", &Config::block, 1, "tokens", "size B of the diagonal blocks, attended exactly"));
    r.push_back(
        count_row("passes", &Config::passes, 0, "passes", "Lloyd passes T before the final assignment"));
    r.push_back(count_row("sample", &Config::sample, 1, "tokens",
                          "the passes of k-means look at every n-th token; the final assignment at all"));
    r.push_back(
        count_row("cluster-window", &Config::cluster_window, 0, "tokens",
                  "cluster once in windows of this many tokens and merge upwards; 0: afresh at each level"));
    r.push_back({{"seed", "INT", "", "0",
                  "0 seeds k-means with the middle token of each stride; any other number "
                  "draws a token of each stride, the same ones for the same number"},
                 [](Config& config, std::string_view text) {
                   config.seed = static_cast<std::uint64_t>(parse_count("seed", text, 0));
                 },
                 [](const Config& config) { return fmt::format("{}", config.seed); }});
    return r;
  }();
  return rows;
}

const OptionRow& find_row(std::string_view name) {
  for (const OptionRow& row : option_rows())
    if (row.info.name == name) return row;
  std::string known;
  for (const OptionRow& row : option_rows()) known.append(known.empty() ? "" : ", ").append(row.info.name);
  throw UsageError(fmt::format("unknown option '{}': expected clusters, {}", name, known));
}

void apply_json(Config& config, const nlohmann::json& object, const std::string& path) {
  if (!object.is_object())
    throw FileError(fmt::format("{}: expected an object of options, found {}", path, object.type_name()));
  for (const auto& [name, value] : object.items()) {
    if (!value.is_string() && !value.is_number_integer())
      throw FileError(fmt::format("{}: option '{}': expected text or a whole number, found {}", path, name,
                                  value.type_name()));
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    try {
      set_option(config, name, text);
    } catch (const UsageError& error) {
      throw FileError(fmt::format("{}: {}", path, error.what()));
    }
  }
}

}  // namespace

std::int64_t ClusterRule::operator()(std::int64_t S) const {
  const std::int64_t count = divisor == 0 ? low : std::clamp(S / divisor, low, high);
  return std::clamp<std::int64_t>(count, 1, std::max<std::int64_t>(S, 1));
}

std::span<const OptionInfo> option_table() {
  static const std::vector<OptionInfo> table = [] {
    std::vector<OptionInfo> infos;
    for (const OptionRow& row : option_rows()) infos.push_back(row.info);
    return infos;
  }();
  return table;
}

void set_option(Config& config, std::string_view name, std::string_view text) {
  if (name == "clusters") {
    find_row("clusters-q").set(config, text);
    find_row("clusters-k").set(config, text);
  } else {
    find_row(name).set(config, text);
  }
}

std::string get_option(const Config& config, std::string_view name) {
  return find_row(name).get(config);
}

nlohmann::json to_json(const Config& config) {
  nlohmann::json object;
  for (const OptionRow& row : option_rows()) {
    const std::string text = row.get(config);
    const bool is_number = text.find_first_not_of("0123456789") == std::string::npos;
    object[row.info.name] = is_number ? nlohmann::json(std::stoll(text)) : nlohmann::json(text);
  }
  return object;
}

ConfigSet read_config(const std::string& path, const Config& defaults) {
  std::ifstream file(path);
  if (!file)
    throw FileError(fmt::format("{}: cannot be opened; expected a config file written by 'muse tune'", path));
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(file);
  } catch (const nlohmann::json::exception& error) {
    throw FileError(fmt::format("{}: expected JSON, found {}", path, error.what()));
  }
  if (!document.is_object() || !document.contains("format") || !document["format"].is_string())
    throw FileError(fmt::format("{}: expected an object with \"format\": \"{}\"", path, kConfigFormat));
  if (document["format"] != kConfigFormat)
    throw MisfitError(fmt::format("{}: expected format {}, found {}", path, kConfigFormat,
                                  document["format"].get<std::string>()));
  ConfigSet configs;
  configs.common = defaults;
  if (document.contains("common")) apply_json(configs.common, document["common"], path);
  if (document.contains("heads")) {
    if (!document["heads"].is_object())
      throw FileError(fmt::format("{}: \"heads\": expected an object of head index -> options", path));
    for (const auto& [key, value] : document["heads"].items()) {
      std::int64_t head = 0;
      try {
        head = parse_count("heads", key, 0);
      } catch (const UsageError& error) {
        throw FileError(fmt::format("{}: {}", path, error.what()));
      }
      Config& config = configs.heads[head];
      config = configs.common;
      apply_json(config, value, path);
    }
  }
  return configs;
}

void write_config(const std::string& path, const ConfigSet& configs, const nlohmann::json& notes) {
  nlohmann::ordered_json document;
  document["format"] = kConfigFormat;
  document["common"] = to_json(configs.common);
  document["heads"] = nlohmann::json::object();
  for (const auto& [head, config] : configs.heads) document["heads"][std::to_string(head)] = to_json(config);
  document["notes"] = notes;
  std::ofstream file(path);
  file << document.dump(1) << '\n';
  file.close();
  if (!file)
    throw FileError(fmt::format("{}: cannot be written; is the folder there and the disk not full?", path));
}

std::string_view name_of(Mode mode) {
  return name_in<Mode>(kModes, mode);
}
std::string_view name_of(Order order) {
  return name_in<Order>(kOrders, order);
}
std::string_view name_of(ClusterBy cluster_by) {
  return name_in<ClusterBy>(kClusterBys, cluster_by);
}
std::string_view name_of(Metric metric) {
  return name_in<Metric>(kMetrics, metric);
}
std::string_view name_of(RetrieveBy retrieve_by) {
  return name_in<RetrieveBy>(kRetrieveBys, retrieve_by);
}

}  // namespace muse
