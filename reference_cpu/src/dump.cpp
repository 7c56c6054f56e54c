// What every dump has, whatever its container: meta.json, tokens.json, and q, k, v that fit together.
#include <fmt/format.h>

#include <cmath>
#include <limits>
#include <utility>

#include "muse/check.h"
#include "tensor_parts.h"

namespace muse::detail {
namespace {

using nlohmann::json;

// The value of an optional key, or null; a null in the file is as good as no key.
const json& value_at(const json& object, const char* key) {
  static const json kNothing;
  const auto found = object.find(key);
  return found == object.end() ? kNothing : *found;
}

[[noreturn]] void refuse_value(std::string_view name, std::string_view key, std::string_view expected,
                               const json& found) {
  throw FileError(fmt::format("{}: \"{}\": expected {}, found {}", name, key, expected,
                              excerpt(found.dump(-1, ' ', true, json::error_handler_t::replace))));
}

std::optional<std::int64_t> count_at(const json& object, const char* key, std::string_view name) {
  const json& value = value_at(object, key);
  if (value.is_null()) return std::nullopt;
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::numeric_limits<std::int64_t>::max())
    refuse_value(name, key, "a whole number", value);
  return value.get<std::int64_t>();
}

// {"layer": 1, "head": 6}, {"name": "any text"} or "any text".
std::string head_name(const json& head, std::string_view name) {
  if (head.is_string()) return head.get<std::string>();
  if (head.is_object()) {
    const json& own = value_at(head, "name");
    if (own.is_string()) return own.get<std::string>();
    const json& layer = value_at(head, "layer");
    const json& index = value_at(head, "head");
    if (layer.is_number_integer() && index.is_number_integer())
      return fmt::format("layer {} head {}", layer.dump(), index.dump());
  }
  refuse_value(name, "heads", R"({"layer": number, "head": number}, {"name": text} or text)", head);
}

bool all_of_list(const json& list, bool (json::*is_kind)() const noexcept) {
  for (const json& item : list)
    if (!(item.*is_kind)()) return false;
  return true;
}

// `meta.shape` may name the axes or give the extents of q.
void check_stated_shape(const Meta& meta, const std::vector<std::int64_t>& shape_q) {
  if (meta.shape.is_null()) return;
  const bool names_axes = !meta.shape.empty() && all_of_list(meta.shape, &json::is_string);
  const json batched = {"batch", "heads", "tokens", "dim"};
  const json unbatched = {"heads", "tokens", "dim"};
  const json expected = !names_axes ? json(shape_q) : shape_q.size() == 4 ? batched : unbatched;
  MUSE_REQUIRE(meta.shape == expected, meta.name, ": \"shape\": expected ", expected.dump(),
               " as in q, found ", excerpt(meta.shape.dump(-1, ' ', true, json::error_handler_t::replace)));
}

void add_batch_axis(Array& array, std::string_view tensor, std::string_view name) {
  if (array.dtype == DType::int32)
    throw FileError(fmt::format("{}: {}: expected floating-point elements, found int32", name, tensor));
  MUSE_REQUIRE(array.shape.size() == 3 || array.shape.size() == 4, name, ": ", tensor,
               ": expected [heads, tokens, dim] or [batch, heads, tokens, dim], found ", array.shape_text());
  MUSE_REQUIRE(array.size() > 0, name, ": ", tensor,
               ": expected at least one element along each axis, found ", array.shape_text());
  if (array.shape.size() == 3) array.shape.insert(array.shape.begin(), 1);
}

}  // namespace

void check_scale(double scale, std::string_view name) {
  if (!std::isfinite(scale) || scale <= 0)
    throw FileError(fmt::format("{}: \"scale\": expected a finite number above 0, found {}", name, scale));
}

Meta parse_meta(std::string_view text, std::string_view name) {
  if (text.size() > kLargestMeta)
    throw FileError(fmt::format("{}: expected at most {} bytes, found {}", name, kLargestMeta, text.size()));
  const json object = parse_json(text, name);
  if (!object.is_object())
    throw FileError(fmt::format("{}: expected a JSON object, found {}", name, object.type_name()));
  // Check the version before anything that another version may define otherwise.
  const json& format = value_at(object, "format");
  if (!format.is_string()) refuse_value(name, "format", fmt::format("\"{}\"", kDumpFormat), format);
  MUSE_REQUIRE(format == kDumpFormat, name, ": expected format ", kDumpFormat, ", found ",
               excerpt(format.get_ref<const std::string&>()),
               "; write the dump again as docs/formats.md says");

  Meta meta;
  meta.name = name;
  if (const json& scale = value_at(object, "scale"); !scale.is_null()) {
    if (!scale.is_number()) refuse_value(name, "scale", "a number", scale);
    meta.scale = scale.get<double>();
    check_scale(*meta.scale, name);
  }
  if (const json& causal = value_at(object, "causal"); !causal.is_null()) {
    if (!causal.is_boolean()) refuse_value(name, "causal", "true or false", causal);
    meta.causal = causal.get<bool>();
  }
  if (const json& source = value_at(object, "source"); !source.is_null()) {
    if (!source.is_string()) refuse_value(name, "source", "text", source);
    meta.source = source.get<std::string>();
  }
  if (const json& heads = value_at(object, "heads"); !heads.is_null()) {
    if (!heads.is_array()) refuse_value(name, "heads", "a list with an entry for each query head", heads);
    meta.head_names.emplace();
    for (const json& head : heads) meta.head_names->push_back(head_name(head, name));
  }
  if (const json& shape = value_at(object, "shape"); !shape.is_null()) {
    if (!shape.is_array() ||
        !(all_of_list(shape, &json::is_string) || all_of_list(shape, &json::is_number_integer)))
      refuse_value(name, "shape", "a list of axis names or of extents", shape);
    meta.shape = shape;
  }
  meta.tokens = count_at(object, "tokens", name);
  meta.dim = count_at(object, "dim", name);
  return meta;
}

Dump assemble(DumpParts&& parts, std::string_view name) {
  const Meta& meta = parts.meta;
  const std::vector<std::int64_t> shape_in_file = parts.q.shape;
  MUSE_REQUIRE(parts.q.shape.size() == parts.k.shape.size() && parts.q.shape.size() == parts.v.shape.size(),
               name, ": expected q, k and v with as many axes each, found q ", parts.q.shape_text(), ", k ",
               parts.k.shape_text(), ", v ", parts.v.shape_text());
  for (const auto& [array, tensor] :
       {std::pair(&parts.q, "q"), std::pair(&parts.k, "k"), std::pair(&parts.v, "v")})
    add_batch_axis(*array, tensor, name);

  // Check what the method needs of the shapes.
  const auto require_same = [&](const Array& a, char a_name, const Array& b, char b_name, std::size_t axis,
                                const char* what) {
    MUSE_REQUIRE(a.shape[axis] == b.shape[axis], name, ": expected as many ", what, " in ", a_name, " and ",
                 b_name, ", found ", a_name, " ", a.shape_text(), " and ", b_name, " ", b.shape_text());
  };
  require_same(parts.q, 'q', parts.k, 'k', 0, "batch entries");
  require_same(parts.q, 'q', parts.v, 'v', 0, "batch entries");
  require_same(parts.q, 'q', parts.k, 'k', 3, "dimensions");
  require_same(parts.k, 'k', parts.v, 'v', 1, "heads");
  require_same(parts.k, 'k', parts.v, 'v', 2, "tokens");
  MUSE_REQUIRE(parts.q.shape[1] % parts.k.shape[1] == 0, name,
               ": expected a multiple of the key heads as query heads, found q ", parts.q.shape_text(),
               " and k ", parts.k.shape_text());

  Dump dump;
  dump.has_batch_axis = shape_in_file.size() == 4;
  dump.q = std::move(parts.q);
  dump.k = std::move(parts.k);
  dump.v = std::move(parts.v);

  // Check what the dump says of itself.
  MUSE_REQUIRE(!meta.dim || *meta.dim == dump.dim(), meta.name, ": \"dim\": expected ", dump.dim(),
               " as in q, found ", *meta.dim);
  MUSE_REQUIRE(!meta.tokens || *meta.tokens == dump.tokens_k(), meta.name, ": \"tokens\": expected ",
               dump.tokens_k(), " as in k, found ", *meta.tokens);
  MUSE_REQUIRE(!meta.head_names || static_cast<std::int64_t>(meta.head_names->size()) == dump.heads_q(),
               meta.name, ": \"heads\": expected ", dump.heads_q(), " entries as q has heads, found ",
               meta.head_names->size());
  check_stated_shape(meta, shape_in_file);

  dump.scale = meta.scale.value_or(1 / std::sqrt(static_cast<double>(dump.dim())));
  dump.causal = meta.causal;
  dump.source = meta.source;
  dump.head_names = meta.head_names.value_or(std::vector<std::string>{});

  return dump;
}

void check_token_count(const Dump& dump, std::size_t count, std::string_view name) {
  MUSE_REQUIRE(count == static_cast<std::size_t>(dump.tokens_k()), name, ": expected ", dump.tokens_k(),
               " strings as k has tokens, found ", count);
}

void add_tokens(Dump& dump, std::string_view text, std::string_view name) {
  using Event = json::parse_event_t;
  const auto most = static_cast<std::size_t>(dump.tokens_k());
  // Take the strings out of the parser as they come, and no more of them than k has tokens.
  std::vector<std::string> tokens;
  const auto watch = [&](int depth, Event event, json& value) {
    if (depth == 0 && (event == Event::array_start || event == Event::array_end)) return true;
    if (depth != 1 || event != Event::value || !value.is_string())
      throw FileError(
          fmt::format("{}: expected a JSON list with one string a token, found something else as {}", name,
                      depth == 0 ? "the whole" : fmt::format("token {}", tokens.size())));
    MUSE_REQUIRE(tokens.size() < most, name, ": expected ", most, " strings as k has tokens, found more");
    tokens.push_back(std::move(value.get_ref<std::string&>()));
    return false;
  };
  static_cast<void>(parse_json(text, name, watch));
  check_token_count(dump, tokens.size(), name);
  dump.tokens = std::move(tokens);
}

}  // namespace muse::detail
