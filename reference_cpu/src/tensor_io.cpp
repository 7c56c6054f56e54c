#include "muse/tensor_io.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "muse/check.h"
#include "tensor_parts.h"

namespace muse {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kUnderstood =
    "a dump: a folder with meta.json, q.npy, k.npy and v.npy, or an .npz or .safetensors file "
    "(docs/formats.md)";

// A number of an IEEE format is NaN or infinite if all bits of its exponent are set.
template <class Bits>
std::int64_t count_exponent(const Array& array, Bits exponent) {
  std::int64_t count = 0;
  const std::byte* from = array.bytes.data();
  const std::size_t size = array.bytes.size() / sizeof(Bits);
  for (std::size_t i = 0; i < size; ++i) {
    Bits bits = 0;
    std::memcpy(&bits, from + i * sizeof(Bits), sizeof(Bits));
    count += (bits & exponent) == exponent ? 1 : 0;
  }
  return count;
}

void refuse_non_finite(const Array& array, std::string_view name) {
  const std::int64_t count = count_non_finite(array);
  if (count == 0) return;
  // Find the first one and its index [b, h, n, d].
  std::int64_t first = 0;
  double value = 0;
  for (; first < array.size(); ++first) {
    convert<double>(array, first, {&value, 1});
    if (!std::isfinite(value)) break;
  }
  const std::int64_t d = first % array.shape[3];
  const std::int64_t n = first / array.shape[3] % array.shape[2];
  const std::int64_t h = first / array.shape[3] / array.shape[2] % array.shape[1];
  const std::int64_t b = first / array.shape[3] / array.shape[2] / array.shape[1];
  throw FileError(
      fmt::format("{}: expected finite numbers, found {} of {} NaN or infinite; the first one is {} at "
                  "[b, h, n, d] = [{}, {}, {}, {}]",
                  name, count, array.size(), value, b, h, n, d));
}

Dump read_folder(const fs::path& folder) {
  const std::string name = folder.string();
  std::error_code error;
  const fs::path meta_path = folder / "meta.json";
  if (!fs::exists(meta_path, error))
    throw FileError(fmt::format("{}: expected {}, found a folder without meta.json", name, kUnderstood));
  detail::DumpParts parts;
  const auto meta = detail::read_file(meta_path, "the meta.json of a dump");
  parts.meta = detail::parse_meta(detail::as_text(meta), meta_path.string());
  parts.q = read_npy(folder / "q.npy");
  parts.k = read_npy(folder / "k.npy");
  parts.v = read_npy(folder / "v.npy");
  Dump dump = detail::assemble(std::move(parts), name);
  const fs::path tokens_path = folder / "tokens.json";
  if (fs::exists(tokens_path, error)) {
    const auto tokens = detail::read_file(tokens_path, "a list of tokens");
    detail::add_tokens(dump, detail::as_text(tokens), tokens_path.string());
  }
  return dump;
}

// The reverse of what meta.json's "heads" is read as.
nlohmann::ordered_json head_json(const std::string& head) {
  constexpr std::string_view kLayer = "layer ";
  constexpr std::string_view kHead = " head ";
  const std::size_t middle = head.find(kHead);
  std::int64_t layer = 0;
  std::int64_t index = 0;
  const auto read = [&](std::size_t begin, std::size_t end, std::int64_t& value) {
    const auto [stop, error] = std::from_chars(head.data() + begin, head.data() + end, value);
    return error == std::errc() && stop == head.data() + end;
  };
  if (head.starts_with(kLayer) && middle != std::string::npos && middle >= kLayer.size() &&
      read(kLayer.size(), middle, layer) && read(middle + kHead.size(), head.size(), index) &&
      fmt::format("layer {} head {}", layer, index) == head)
    return {{"layer", layer}, {"head", index}};
  return {{"name", head}};
}

void write_json(const fs::path& path, const nlohmann::ordered_json& document) {
  // Text that is not UTF-8 is written with replacement characters: JSON has nothing else to offer.
  detail::write_file(
      path, document.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + '\n', {});
}

}  // namespace

std::int64_t count_non_finite(const Array& array) {
  switch (array.dtype) {
    case DType::float16:
      return count_exponent<std::uint16_t>(array, 0x7c00);
    case DType::bfloat16:
      return count_exponent<std::uint16_t>(array, 0x7f80);
    case DType::float32:
      return count_exponent<std::uint32_t>(array, 0x7f800000);
    case DType::float64:
      return count_exponent<std::uint64_t>(array, 0x7ff0000000000000);
    case DType::int32:
      return 0;
  }
  return 0;
}

Dump read_dump(const fs::path& path, NonFinite non_finite) {
  std::error_code error;
  const std::string name = path.string();
  const auto status = fs::status(path, error);
  if (!fs::exists(status))
    throw FileError(fmt::format("{}: expected {}, found nothing there", name, kUnderstood));
  const bool is_folder = fs::is_directory(status);
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  Dump dump;
  if (is_folder)
    dump = read_folder(path);
  else if (extension == ".npz")
    dump = parse_npz(detail::read_file(path, "an .npz dump"), name);
  else if (extension == ".safetensors")
    dump = parse_safetensors(detail::read_file(path, "a .safetensors dump"), name);
  else
    throw FileError(
        fmt::format("{}: expected {}, found a file with the extension '{}'{}", name, kUnderstood,
                    detail::excerpt(extension),
                    extension == ".npy" || path.filename() == "meta.json" ? "; give its folder" : ""));
  if (non_finite == NonFinite::refuse) {
    refuse_non_finite(dump.q, is_folder ? (path / "q.npy").string() : name + ": q");
    refuse_non_finite(dump.k, is_folder ? (path / "k.npy").string() : name + ": k");
    refuse_non_finite(dump.v, is_folder ? (path / "v.npy").string() : name + ": v");
  }
  return dump;
}

void write_dump(const fs::path& folder, const Dump& dump) {
  const std::string name = folder.string();
  const bool has_batch_axis = dump.has_batch_axis || (!dump.q.shape.empty() && dump.q.shape[0] != 1);
  nlohmann::ordered_json meta;
  meta["format"] = detail::kDumpFormat;
  if (has_batch_axis)
    meta["shape"] = {"batch", "heads", "tokens", "dim"};
  else
    meta["shape"] = {"heads", "tokens", "dim"};
  if (!dump.head_names.empty()) {
    meta["heads"] = nlohmann::ordered_json::array();
    for (const std::string& head : dump.head_names) meta["heads"].push_back(head_json(head));
  }

  // Copy the arrays without the batch axis where the file is to have none, and check that they fit together.
  const auto in_file = [&](const Array& array) {
    Array copy = array;
    if (!has_batch_axis && !copy.shape.empty()) copy.shape.erase(copy.shape.begin());
    return copy;
  };
  detail::check_scale(dump.scale, name);
  detail::DumpParts parts{in_file(dump.q), in_file(dump.k), in_file(dump.v), {}};
  parts.meta.name = name;
  if (!dump.head_names.empty()) parts.meta.head_names = dump.head_names;
  const Dump checked = detail::assemble(std::move(parts), name);
  if (!dump.tokens.empty()) detail::check_token_count(checked, dump.tokens.size(), name);

  meta["tokens"] = checked.tokens_k();
  meta["dim"] = checked.dim();
  meta["scale"] = dump.scale;
  if (dump.causal) meta["causal"] = *dump.causal;
  if (!dump.source.empty()) meta["source"] = dump.source;

  std::error_code error;
  fs::create_directories(folder, error);
  if (!fs::is_directory(folder))
    throw FileError(
        fmt::format("{}: expected a folder to write a dump to, found none and cannot create it ({})", name,
                    error.message()));
  // Write meta.json last: a folder that was left half-written is not a dump.
  fs::remove(folder / "meta.json", error);
  fs::remove(folder / "tokens.json", error);
  write_npy(folder / "q.npy", in_file(dump.q));
  write_npy(folder / "k.npy", in_file(dump.k));
  write_npy(folder / "v.npy", in_file(dump.v));
  if (!dump.tokens.empty()) write_json(folder / "tokens.json", dump.tokens);
  write_json(folder / "meta.json", meta);
}

}  // namespace muse
