// Options common to the commands that run the method on a dump: what is typed, and what it means for a dump.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "device.h"
#include "muse/config.h"
#include "muse/matrix.h"
#include "muse/tensor_io.h"

namespace muse::tools {

/// The method's parameters as typed: those of muse::option_table(), and a config file under them.
class ConfigOptions {
 public:
  /// `renamed`: names of options that the command has another use for, and what they are called instead.
  void add_to(CLI::App& command, const std::map<std::string, std::string>& renamed = {});
  /// Defaults, then the config file, then what was typed, which also wins over the file's values for single
  /// heads.
  [[nodiscard]] ConfigSet resolve(const Config& defaults) const;

  [[nodiscard]] const std::string& file() const { return file_; }

 private:
  struct Typed {
    CLI::Option* option = nullptr;
    std::string text;
  };
  std::map<std::string, Typed> typed_;  // by the option's name
  std::string file_;
};

/// Sets one parameter for all heads, those that have their own parameters included.
void set_for_all(ConfigSet& configs, const std::string& name, const std::string& text);

/// A dump, which of it to run, and how.
struct Job {
  std::string path;
  Dump dump;
  ConfigSet configs;
  std::vector<Index> heads;  ///< rising
  Index tokens = 0;          ///< only the first so many queries and keys; 0: all
  Device device;
  std::string config_file;

  [[nodiscard]] Index queries() const { return first(dump.tokens_q()); }
  [[nodiscard]] Index keys() const { return first(dump.tokens_k()); }
  /// "layer 1 head 6", or "head 0" where the dump has no names.
  [[nodiscard]] std::string head_name(Index head) const;
  /// Parameters, dump and selection, as every JSON of results has them under "config".
  [[nodiscard]] nlohmann::ordered_json config_json() const;

 private:
  [[nodiscard]] Index first(Index n) const { return tokens == 0 || tokens > n ? n : tokens; }
};

/// DUMP, the method's parameters, --heads, --tokens, --threads and --dtype.
class DumpOptions {
 public:
  void add_to(CLI::App& command, bool with_heads = true);
  /// --device, after add_to, for commands that can run the method on a GPU.
  void add_device_to(CLI::App& command);
  /// Reads the dump and the config file and fits all together. UsageError, FileError or MisfitError.
  [[nodiscard]] Job load() const;
  /// The same for these heads, whatever --heads says.
  [[nodiscard]] Job load(const std::vector<Index>& heads) const;

 private:
  [[nodiscard]] Job load_with(const std::vector<Index>* heads) const;

  std::string path_, heads_ = "all", device_, dtype_;
  std::int64_t tokens_ = 0, threads_ = 0;
  ConfigOptions config_;
};

/// The argument DUMP.
void add_dump_argument(CLI::App& command, std::string& path);

/// The option --threads.
CLI::Option* add_threads_option(CLI::App& command, std::int64_t& threads);

/// An array's shape as it is in the dump's files: without the batch axis where they have none.
[[nodiscard]] std::vector<std::int64_t> shape_in_files(const Dump& dump, const Array& array);

/// "[3, 16384, 64]" of it.
[[nodiscard]] std::string shape_text(const Dump& dump, const Array& array);

/// Shapes, dtypes, scale and a fingerprint of the bytes of a dump, for files that say what they were made
/// from.
[[nodiscard]] nlohmann::ordered_json dump_json(const std::string& path, const Dump& dump);

/// Refuses a causal mode for a head with another number of keys than queries.
void require_fitting_mode(const Config& config, Index Nq, Index Nk);

/// Sets OpenMP's number of threads; 0 leaves it.
void use_threads(std::int64_t threads);

}  // namespace muse::tools
