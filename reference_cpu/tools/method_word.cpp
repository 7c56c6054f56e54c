#include "method_word.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "dump_options.h"
#include "muse/check.h"

namespace muse::tools {
namespace {

constexpr std::array<std::pair<Method, std::string_view>, 3> kMethods{
    {{Method::exact, "exact"}, {Method::muse, "muse"}, {Method::local, "local"}}};

std::optional<Method> method_named(std::string_view name) {
  for (const auto& [method, method_name] : kMethods)
    if (method_name == name) return method;
  return std::nullopt;
}

// Whether `text` begins with OPTION=.
bool begins_setting(std::string_view text) {
  const std::size_t name = std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"), text.size());
  return name > 0 && name < text.size() && text[name] == '=';
}

// Where the first setting begins behind its colon, or the end.
std::size_t next_setting(std::string_view text, std::size_t from) {
  for (std::size_t colon = text.find(':', from); colon != std::string_view::npos;
       colon = text.find(':', colon + 1))
    if (begins_setting(text.substr(colon + 1))) return colon;
  return text.size();
}

bool is_acausal(Mode mode) {
  return mode == Mode::acausal;
}

void require_same_truth(std::string_view word, const ConfigSet& changed, const ConfigSet& base) {
  const auto require = [&](const Config& a, const Config& b) {
    if (is_acausal(a.mode) != is_acausal(b.mode))
      throw UsageError(
          fmt::format("--methods: '{}': expected a mode with the exact attention of --mode {}, found {}",
                      word, name_of(b.mode), name_of(a.mode)));
  };
  require(changed.common, base.common);
  for (const auto& [head, config] : changed.heads) require(config, base.for_head(head));
}

}  // namespace

MethodSpec parse_method(std::string_view word, const ConfigSet& base, bool own_device) {
  const std::size_t name_end = std::min(word.find(':'), word.size());
  const std::optional<Method> method = method_named(word.substr(0, name_end));
  if (!method)
    throw UsageError(
        fmt::format("expected a method, exact, muse or local, found '{}'", word.substr(0, name_end)));
  MethodSpec spec{.word = std::string(word), .method = *method, .configs = base};
  if (name_end == word.size()) return spec;
  for (std::size_t colon = name_end; colon < word.size();) {
    const std::string_view rest = word.substr(colon + 1);
    if (!begins_setting(rest))
      throw UsageError(fmt::format("'{}': expected OPTION=VALUE behind the colon, found '{}'", word, rest));
    const std::size_t equals = colon + 1 + rest.find('=');
    const std::size_t end = next_setting(word, equals);
    const std::string name(word.substr(colon + 1, equals - colon - 1)),
        value(word.substr(equals + 1, end - equals - 1));
    if (own_device && (name == "device" || name == "dtype"))
      (name == "device" ? spec.device : spec.dtype) = value;
    else if (*method == Method::exact)
      throw UsageError(fmt::format("'{}': exact attention has no settings", word));
    else
      set_for_all(spec.configs, name, value);
    colon = end;
  }
  require_same_truth(word, spec.configs, base);
  return spec;
}

std::vector<MethodSpec> parse_methods(std::string_view list, const ConfigSet& base, bool own_device) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin <= list.size();) {
    const std::size_t end = std::min(list.find(',', begin), list.size());
    const std::string_view part = list.substr(begin, end - begin);
    const bool is_method = method_named(part.substr(0, part.find(':'))).has_value();
    if (!is_method && !words.empty() && words.back().find('=') != std::string::npos)
      words.back().append(",").append(part);
    else
      words.emplace_back(part);
    begin = end + 1;
  }
  std::vector<MethodSpec> specs;
  for (const std::string& word : words) {
    if (std::count(words.begin(), words.end(), word) > 1)
      throw UsageError(fmt::format("--methods: '{}' is listed twice", word));
    specs.push_back(parse_method(word, base, own_device));
  }
  return specs;
}

}  // namespace muse::tools
