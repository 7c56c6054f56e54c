// What the readers of tensor files share. Internal to the core: not installed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "muse/tensor.h"
#include "muse/tensor_io.h"

namespace muse::detail {

inline constexpr std::string_view kDumpFormat = "muse-dump/1";

/// A regular file open for reading. `expected` says what should be there, for the message if it is not.
class InputFile {
 public:
  InputFile(const std::filesystem::path& path, std::string_view expected);
  [[nodiscard]] std::uint64_t size() const { return size_; }
  /// Reads the next out.size() bytes; FileError if the file ends before.
  void read(std::span<std::byte> out);

 private:
  std::string name_;
  std::ifstream stream_;
  std::uint64_t size_ = 0;
};

/// `size` bytes; FileError if there is not that much memory.
[[nodiscard]] std::vector<std::byte> allocate(std::uint64_t size, std::string_view name);

/// The whole of a regular file.
[[nodiscard]] std::vector<std::byte> read_file(const std::filesystem::path& path, std::string_view expected);

/// Writes a regular file.
void write_file(const std::filesystem::path& path, std::string_view head, std::span<const std::byte> body);

/// Part of an untrusted text, fit for a message: printable and short.
[[nodiscard]] std::string excerpt(std::string_view text);

[[nodiscard]] inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Bytes of an array, or nothing if an extent is negative or the product is out of range.
[[nodiscard]] std::optional<std::uint64_t> byte_count(DType dtype, std::span<const std::int64_t> shape);

/// Parses JSON nested at most 16 deep. `watch` (if any) sees every event of the parser and may throw; a value
/// or key for which it returns false takes no memory.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string_view name,
                                        const nlohmann::json::parser_callback_t& watch = {});

/// The .npy array in `bytes`, which becomes the array's own memory.
[[nodiscard]] Array take_npy(std::vector<std::byte>&& bytes, std::string_view name);

inline constexpr std::size_t kLargestMeta = std::size_t{4} << 20;  ///< bytes of a meta.json

/// What meta.json may say.
struct Meta {
  std::string name;  ///< stands in messages
  std::optional<double> scale;
  std::optional<bool> causal;
  std::optional<std::int64_t> tokens;
  std::optional<std::int64_t> dim;
  std::optional<std::vector<std::string>> head_names;
  nlohmann::json shape;  ///< list of axis names or of extents, or null
  std::string source;
};

[[nodiscard]] Meta parse_meta(std::string_view text, std::string_view name);

/// Throws FileError unless `scale` is finite and positive.
void check_scale(double scale, std::string_view name);

/// Everything read from a dump, before anyone knows that it fits together.
struct DumpParts {
  Array q, k, v;  ///< as in the file: [heads, tokens, dim] or with a batch axis
  Meta meta;
};

/// Checks that the parts fit together and adds the batch axis where the file has none. `name` is the dump's.
[[nodiscard]] Dump assemble(DumpParts&& parts, std::string_view name);

/// Reads tokens.json into `dump`: a list with one string for each key token.
void add_tokens(Dump& dump, std::string_view text, std::string_view name);
/// Throws MisfitError unless there is one string for each key token.
void check_token_count(const Dump& dump, std::size_t count, std::string_view name);

}  // namespace muse::detail
