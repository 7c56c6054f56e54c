#include "dump_options.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <sstream>

#include "help.h"
#include "muse/check.h"

namespace muse::tools {
namespace {

constexpr std::int64_t kMostThreads = 4096;

// "0,2" -> {0, 2}; "all" -> every head.
std::vector<Index> parse_heads(const std::string& text, Index heads) {
  std::vector<Index> indices;
  if (text == "all") {
    for (Index head = 0; head < heads; ++head) indices.push_back(head);
    return indices;
  }
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    Index head = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), head);
    if (error != std::errc() || end != part.data() + part.size() || head < 0 || head >= heads)
      throw UsageError(
          fmt::format("--heads: expected indices from 0 to {}, such as 0,2, found '{}'", heads - 1, part));
    indices.push_back(head);
  }
  if (indices.empty()) throw UsageError("--heads: expected indices such as 0,2, found nothing");
  std::sort(indices.begin(), indices.end());
  indices.erase(std::unique(indices.begin(), indices.end()), indices.end());
  return indices;
}

// FNV-1a, 64 bits: tells dumps apart, no more.
std::uint64_t fingerprint(const Dump& dump) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const Array* array : {&dump.q, &dump.k, &dump.v})
    for (const std::byte byte : array->bytes)
      hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

void ConfigOptions::add_to(CLI::App& command, const std::map<std::string, std::string>& renamed) {
  const std::string group = "The method";
  const auto add = [&](const OptionInfo& option) {
    Typed& typed = typed_[option.name];
    const auto other = renamed.find(option.name);
    const std::string& name = other == renamed.end() ? option.name : other->second;
    typed.option = command.add_option(
        "--" + name, typed.text,
        described(option.help, option.unit,
                  option.default_rule.empty() ? option.default_value : option.default_rule));
    typed.option->type_name(option.type)->group(group);
  };
  for (const OptionInfo& option : option_table()) {
    if (option.name == "clusters-q")
      add({"clusters", option.type, option.unit, "", "clusters-q and clusters-k together"});
    add(option);
  }
  command
      .add_option("--config", file_,
                  "config file, such as 'muse tune' writes; what is typed here wins over it, for every head")
      ->type_name("FILE")
      ->group(group);
}

ConfigSet ConfigOptions::resolve(const Config& defaults) const {
  ConfigSet configs;
  configs.common = defaults;
  if (!file_.empty()) configs = read_config(file_, defaults);
  // "clusters" stands before clusters-q and clusters-k in the map: the more special ones win.
  for (const auto& [name, typed] : typed_)
    if (typed.option->count() > 0) set_for_all(configs, name, typed.text);
  return configs;
}

void set_for_all(ConfigSet& configs, const std::string& name, const std::string& text) {
  set_option(configs.common, name, text);
  for (auto& [head, config] : configs.heads) set_option(config, name, text);
}

void add_dump_argument(CLI::App& command, std::string& path) {
  command
      .add_option("DUMP", path,
                  "folder with meta.json, q.npy, k.npy and v.npy, or an .npz or .safetensors file")
      ->required()
      ->type_name("");
}

CLI::Option* add_threads_option(CLI::App& command, std::int64_t& threads) {
  return command
      .add_option("--threads", threads,
                  described("threads to run on; results do not depend on it", "threads", "one a core"))
      ->type_name("INT")
      ->check(unnamed(CLI::Range(std::int64_t{1}, kMostThreads)));
}

void DumpOptions::add_to(CLI::App& command, bool with_heads) {
  add_dump_argument(command, path_);
  config_.add_to(command);
  const std::string group = "What to run on";
  if (with_heads)
    command.add_option("--heads", heads_, described("query heads, 0-based, such as 0,2", "indices", "all"))
        ->type_name("INT[,INT…]")
        ->group(group);
  command.add_option("--tokens", tokens_, described("only the first so many tokens", "tokens", "all"))
      ->type_name("INT")
      ->check(unnamed(CLI::PositiveNumber))
      ->group(group);
  add_threads_option(command, threads_)->group(group);
  add_dtype_option(command, dtype_, "numbers to compute in; double is for checking float", "float|double")
      ->group(group);
}

void DumpOptions::add_device_to(CLI::App& command) {
  add_device_option(command, device_)->group("What to run on");
}

Job DumpOptions::load() const {
  return load_with(nullptr);
}

Job DumpOptions::load(const std::vector<Index>& heads) const {
  return load_with(&heads);
}

Job DumpOptions::load_with(const std::vector<Index>* heads) const {
  use_threads(threads_);
  Job job;
  job.device = parse_device(device_, dtype_);
  if (job.device.gpu) require_gpu();
  job.path = path_;
  job.dump = read_dump(path_);
  job.heads = heads != nullptr ? *heads : parse_heads(heads_, job.dump.heads_q());
  for (const Index head : job.heads)
    if (head < 0 || head >= job.dump.heads_q())
      throw UsageError(
          fmt::format("--head: expected an index from 0 to {}, found {}", job.dump.heads_q() - 1, head));
  const Index longest = std::max(job.dump.tokens_q(), job.dump.tokens_k());
  if (tokens_ > longest)
    throw UsageError(
        fmt::format("--tokens: expected at most the {} tokens of {}, found {}", longest, path_, tokens_));
  job.tokens = tokens_;
  Config defaults;
  if (job.dump.causal && !*job.dump.causal) defaults.mode = Mode::acausal;
  job.configs = config_.resolve(defaults);
  job.config_file = config_.file();
  if (!job.configs.heads.empty() && job.configs.heads.rbegin()->first >= job.dump.heads_q())
    fmt::print(stderr, "muse: {}: has parameters for head {}, but {} ends with head {}\n", config_.file(),
               job.configs.heads.rbegin()->first, path_, job.dump.heads_q() - 1);
  for (const Index head : job.heads)
    require_fitting_mode(job.configs.for_head(head), job.queries(), job.keys());
  return job;
}

std::string Job::head_name(Index head) const {
  const auto index = static_cast<std::size_t>(head);
  return index < dump.head_names.size() ? dump.head_names[index] : fmt::format("head {}", head);
}

nlohmann::ordered_json Job::config_json() const {
  nlohmann::ordered_json config = to_json(configs.common);
  for (const Index head : heads)
    if (const auto own = configs.heads.find(head); own != configs.heads.end())
      config["own"][std::to_string(head)] = to_json(own->second);
  if (!config_file.empty()) config["config_file"] = config_file;
  if (device.gpu) config["device"] = "cuda";
  config["dtype"] = dtype_word(device);
  config["threads"] = omp_get_max_threads();
  config["heads"] = heads;
  config["tokens"] = queries();
  if (keys() != queries()) config["keys"] = keys();
  config["dump"] = dump_json(path, dump);
  return config;
}

std::vector<std::int64_t> shape_in_files(const Dump& dump, const Array& array) {
  return {array.shape.begin() + (dump.has_batch_axis ? 0 : 1), array.shape.end()};
}

std::string shape_text(const Dump& dump, const Array& array) {
  return fmt::format("[{}]", fmt::join(shape_in_files(dump, array), ", "));
}

nlohmann::ordered_json dump_json(const std::string& path, const Dump& dump) {
  nlohmann::ordered_json json;
  json["path"] = path;
  const auto array_json = [&](const Array& array) {
    return nlohmann::ordered_json{{"dtype", name_of(array.dtype)}, {"shape", shape_in_files(dump, array)}};
  };
  json["q"] = array_json(dump.q);
  json["k"] = array_json(dump.k);
  json["v"] = array_json(dump.v);
  json["scale"] = dump.scale;
  json["causal"] = dump.causal ? nlohmann::ordered_json(*dump.causal) : nlohmann::ordered_json();
  if (!dump.source.empty()) json["source"] = dump.source;
  if (!dump.head_names.empty()) json["head_names"] = dump.head_names;
  json["fnv1a64"] = fmt::format("{:016x}", fingerprint(dump));
  return json;
}

void require_fitting_mode(const Config& config, Index Nq, Index Nk) {
  MUSE_REQUIRE(config.mode == Mode::acausal || Nq == Nk, "mode ", name_of(config.mode),
               " needs as many queries as keys, found ", Nq, " queries and ", Nk,
               " keys; use --mode acausal");
}

void use_threads(std::int64_t threads) {
  if (threads > 0) omp_set_num_threads(static_cast<int>(threads));
}

}  // namespace muse::tools
