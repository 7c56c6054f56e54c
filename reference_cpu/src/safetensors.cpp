// Hugging Face's .safetensors: the header's length (8 bytes, little-endian), a JSON header, the elements.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <limits>
#include <utility>

#include "muse/check.h"
#include "tensor_parts.h"

namespace muse {
namespace {

using nlohmann::json;

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kLargestHeader = 100'000'000;  // the limit of the format's own library
constexpr std::uint64_t kLargestCount = std::numeric_limits<std::int64_t>::max();
constexpr std::size_t kNamesShown = 8;
constexpr std::size_t kLargestRank = 32;
constexpr std::array<const char*, 4> kKept{"q", "k", "v", "__metadata__"};

std::string dumped(const json& value) {
  return detail::excerpt(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

DType parse_dtype(const json& entry, std::string_view name) {
  const json dtype = entry.value("dtype", json());
  if (dtype == "F16") return DType::float16;
  if (dtype == "BF16") return DType::bfloat16;
  if (dtype == "F32") return DType::float32;
  if (dtype == "F64") return DType::float64;
  throw FileError(
      fmt::format("{}: \"dtype\": expected F16, BF16, F32 or F64, found {}", name, dumped(dtype)));
}

// A list of whole numbers from 0 to 2^63 - 1.
std::vector<std::int64_t> parse_counts(const json& entry, const char* key, std::string_view name) {
  const json list = entry.value(key, json());
  const auto is_count = [](const json& item) {
    return item.is_number_unsigned() && item.get<std::uint64_t>() <= kLargestCount;
  };
  if (!list.is_array() || list.size() > kLargestRank || !std::all_of(list.begin(), list.end(), is_count))
    throw FileError(fmt::format("{}: \"{}\": expected a list of at most {} whole numbers, found {}", name,
                                key, kLargestRank, dumped(list)));
  return list.get<std::vector<std::int64_t>>();
}

Array parse_tensor(const json& header, const char* tensor, std::span<const std::byte> data,
                   const std::string& tensors_found, std::string_view file_name) {
  const auto found = header.find(tensor);
  if (found == header.end())
    throw FileError(fmt::format("{}: expected tensors named q, k and v, found {}", file_name,
                                detail::excerpt(tensors_found)));
  const std::string name = fmt::format("{}: {}", file_name, tensor);
  if (!found->is_object())
    throw FileError(fmt::format("{}: expected an object, found {}", name, dumped(*found)));
  Array array{parse_dtype(*found, name), parse_counts(*found, "shape", name), {}};
  const auto offsets = parse_counts(*found, "data_offsets", name);
  if (offsets.size() != 2 || offsets[0] > offsets[1] || static_cast<std::uint64_t>(offsets[1]) > data.size())
    throw FileError(
        fmt::format("{}: \"data_offsets\": expected [begin, end] within the {} bytes of data, found {}", name,
                    data.size(), dumped((*found)["data_offsets"])));
  const auto size = static_cast<std::uint64_t>(offsets[1] - offsets[0]);
  const auto expected = detail::byte_count(array.dtype, array.shape);
  if (!expected || *expected != size)
    throw FileError(fmt::format("{}: expected {} bytes for shape {} of {}, found {}", name,
                                expected ? std::to_string(*expected) : "more than 2^63", array.shape_text(),
                                name_of(array.dtype), size));
  const auto elements = data.subspan(static_cast<std::size_t>(offsets[0]), size);
  array.bytes.assign(elements.begin(), elements.end());
  return array;
}

// `__metadata__` maps text to text; "format" may be "pt" or "np", which other writers put there.
detail::Meta parse_metadata(const json& metadata, const std::string& name) {
  detail::Meta meta;
  meta.name = name;
  if (metadata.is_null()) return meta;
  if (!metadata.is_object())
    throw FileError(fmt::format("{}: expected an object of text, found {}", name, dumped(metadata)));
  const auto text_at = [&](const char* key) -> std::optional<std::string> {
    const auto found = metadata.find(key);
    if (found == metadata.end()) return std::nullopt;
    if (!found->is_string())
      throw FileError(fmt::format("{}: \"{}\": expected text, found {}", name, key, dumped(*found)));
    return found->get<std::string>();
  };
  if (const auto format = text_at("format"))
    MUSE_REQUIRE(*format == detail::kDumpFormat || !format->starts_with("muse-"), name, ": expected format ",
                 detail::kDumpFormat, ", found ", detail::excerpt(*format));
  if (const auto scale = text_at("scale")) {
    double value = 0;
    const auto [end, error] = std::from_chars(scale->data(), scale->data() + scale->size(), value);
    if (error != std::errc() || end != scale->data() + scale->size())
      throw FileError(
          fmt::format("{}: \"scale\": expected a number, found \"{}\"", name, detail::excerpt(*scale)));
    detail::check_scale(value, name);
    meta.scale = value;
  }
  if (const auto causal = text_at("causal")) {
    // Python writes str(True) as "True".
    const bool is_true = *causal == "true" || *causal == "True";
    if (!is_true && *causal != "false" && *causal != "False")
      throw FileError(fmt::format("{}: \"causal\": expected true or false, found \"{}\"", name,
                                  detail::excerpt(*causal)));
    meta.causal = is_true;
  }
  meta.source = text_at("source").value_or("");
  return meta;
}

}  // namespace

Dump parse_safetensors(std::span<const std::byte> bytes, std::string_view name) {
  if (bytes.size() < kLengthBytes)
    throw FileError(fmt::format("{}: expected a safetensors file, found one of {} bytes; is it cut short?",
                                name, bytes.size()));
  std::uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - kLengthBytes || length > kLargestHeader)
    throw FileError(fmt::format("{}: expected a safetensors header of at most {} bytes, found a length of {}",
                                name, std::min(bytes.size() - kLengthBytes, kLargestHeader), length));

  // Keep four entries of the header, whatever else the file holds, and each of them once.
  std::array<int, kKept.size()> times{};
  std::string tensors_found;
  std::size_t names_shown = 0;
  const auto keep = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth != 1 || event != json::parse_event_t::key) return true;
    const std::string& key = parsed.get_ref<const std::string&>();
    const auto kept = std::find(kKept.begin(), kKept.end(), key);
    if (key != "__metadata__" && names_shown++ < kNamesShown)
      tensors_found.append(tensors_found.empty() ? "" : ", ").append(detail::excerpt(key));
    if (kept == kKept.end()) return false;
    if (++times[static_cast<std::size_t>(kept - kKept.begin())] > 1)
      throw FileError(fmt::format("{}: expected each tensor once, found '{}' twice", name, key));
    return true;
  };
  const json header = detail::parse_json(detail::as_text(bytes.subspan(kLengthBytes, length)), name, keep);
  if (!header.is_object())
    throw FileError(fmt::format("{}: expected a JSON object as header, found {}", name, header.type_name()));
  if (names_shown == 0) tensors_found = "none";

  detail::DumpParts parts;
  parts.meta = parse_metadata(header.value("__metadata__", json()), fmt::format("{}: __metadata__", name));
  const auto data = bytes.subspan(kLengthBytes + length);
  parts.q = parse_tensor(header, "q", data, tensors_found, name);
  parts.k = parse_tensor(header, "k", data, tensors_found, name);
  parts.v = parse_tensor(header, "v", data, tensors_found, name);
  return detail::assemble(std::move(parts), name);
}

}  // namespace muse
