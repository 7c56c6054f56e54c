// The parameters of the method, with one table of their names, units and defaults for the command line,
// config files, JSON and the viewer alike.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muse {

/// Which keys a query sees, and where the query clusters come from (docs/math.md, section 6).
enum class Mode {
  acausal,  ///< every query sees every key; one rectangle
  causal,   ///< strictly causal: query clusters come from the past half of each block (ours; the default)
  causal_shared  ///< causal, but the queries of a block are clustered together: later ones move earlier
                 ///< outputs
};

/// Order of the multipole expansion of a far key cluster (docs/math.md, section 4).
enum class Order { centroid, monopole, dipole, dipole_value, dipole_spread };

/// κ of (4.6). By how much the spread of keys is larger in the directions that δ has than in others;
/// chosen on real heads (docs/math.md, section 4).
inline constexpr double kSpreadFactor = 1.5;

/// How tokens are divided into clusters (docs/math.md, section 2).
enum class ClusterBy { kmeans, balanced, spatial };

/// The distance in which queries are clustered (docs/math.md, section 2).
enum class Metric { euclidean, key_covariance };

/// What key clusters are ranked by for retrieval (docs/math.md, section 5): the mass that the query centroid
/// puts on a cluster, or the mean weight of its keys.
enum class RetrieveBy { mass, mean_weight };

/// How many clusters a span of S tokens gets: a number, or S/divisor clamped to low..high. Never more than S.
struct ClusterRule {
  std::int64_t divisor = 16;  ///< 0: the number is `low`, whatever S
  std::int64_t low = 32;
  std::int64_t high = 512;

  [[nodiscard]] std::int64_t operator()(std::int64_t S) const;
  friend bool operator==(const ClusterRule&, const ClusterRule&) = default;
};

/// A value for each level of the causal hierarchy; the last one stands for all higher levels.
template <class Value>
struct PerLevel {
  std::vector<Value> values;

  [[nodiscard]] const Value& at(std::int64_t level) const {
    const auto last = static_cast<std::int64_t>(values.size()) - 1;
    return values[static_cast<std::size_t>(level < last ? level : last)];
  }
  friend bool operator==(const PerLevel&, const PerLevel&) = default;
};

/// All parameters of the method. `option_table()` documents each one.
struct Config {
  Mode mode = Mode::causal;
  Order order = Order::dipole;
  ClusterBy cluster_by = ClusterBy::kmeans;
  Metric metric = Metric::euclidean;
  PerLevel<ClusterRule> clusters_q{std::vector<ClusterRule>(1)};
  PerLevel<ClusterRule> clusters_k{std::vector<ClusterRule>(1)};
  PerLevel<std::int64_t> retrieve{{0}};
  RetrieveBy retrieve_by = RetrieveBy::mass;
  std::int64_t block = 1024;
  std::int64_t passes = 1;
  std::int64_t sample = 1;
  std::int64_t cluster_window = 0;
  std::uint64_t seed = 0;

  friend bool operator==(const Config&, const Config&) = default;
};

/// One parameter as a person meets it.
struct OptionInfo {
  std::string name;               ///< as on the command line, without the dashes
  std::string type;               ///< what is written after it
  std::string unit;               ///< "tokens", "clusters", … or empty
  std::string default_value;      ///< as text that `set_option` takes
  std::string help;               ///< one sentence
  std::string default_rule = {};  ///< what commands go by in place of default_value, if they know more
};

/// Every parameter of Config, in the order in which help and files show them.
[[nodiscard]] std::span<const OptionInfo> option_table();

/// Sets one parameter from text. Throws UsageError saying what was expected and what was found.
/// `clusters` sets `clusters-q` and `clusters-k` together.
void set_option(Config& config, std::string_view name, std::string_view text);

/// The text of one parameter; `set_option` takes it back.
[[nodiscard]] std::string get_option(const Config& config, std::string_view name);

/// The parameters as a JSON object: option name -> number where the text is one, else text.
[[nodiscard]] nlohmann::json to_json(const Config& config);

/// Parameters for a whole dump: common ones, and heads that have their own (what `muse tune` writes).
struct ConfigSet {
  Config common;
  std::map<std::int64_t, Config> heads;  ///< by 0-based query head index in the dump

  [[nodiscard]] const Config& for_head(std::int64_t head) const {
    const auto own = heads.find(head);
    return own == heads.end() ? common : own->second;
  }
};

/// Reads a config file (docs/formats.md): FileError if it is not one, MisfitError for another version of the
/// format. Keys that the file leaves out keep their value in `defaults`.
[[nodiscard]] ConfigSet read_config(const std::string& path, const Config& defaults = {});

/// Writes a config file that `read_config` takes back. `notes` is kept under "notes" for people to read.
void write_config(const std::string& path, const ConfigSet& configs, const nlohmann::json& notes);

// Names of the enumerators, as options spell them.
[[nodiscard]] std::string_view name_of(Mode mode);
[[nodiscard]] std::string_view name_of(Order order);
[[nodiscard]] std::string_view name_of(ClusterBy cluster_by);
[[nodiscard]] std::string_view name_of(Metric metric);
[[nodiscard]] std::string_view name_of(RetrieveBy retrieve_by);

}  // namespace muse
