#include "app/command_words.h"

#include <fmt/format.h>

#include <algorithm>

namespace muse::viewer {
namespace {

// As a shell takes it.
std::string quoted(const std::string& text) {
  const bool plain = !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("_-./:,+=@%").find(static_cast<char>(c)) != std::string_view::npos;
  });
  if (plain) return text;
  std::string result = "'";
  for (const char c : text) result += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return result + "'";
}

// The view options include one of the name --metric, which is another thing than the method's.
std::string method_option(const std::string& name) {
  return name == "metric" ? "query-metric" : name;
}

}  // namespace

std::string export_command(const std::string& dump, const ViewState& state, const View& view,
                           const std::string& file, const render::FigureOptions& options, bool dark) {
  std::string command =
      fmt::format("muse-viewer {} --export {} --view {}", quoted(dump), quoted(file), view.name());
  const auto add = [&](const std::string& name, const std::string& value) {
    command += fmt::format(" --{} {}", name, quoted(value));
  };
  const Slot& a = state.a();
  if (a.head != 0) add("head", fmt::format("{}", a.head));
  if (a.batch != 0) add("batch", fmt::format("{}", a.batch));
  if (a.tokens != 0) add("tokens", fmt::format("{}", a.tokens));
  if (state.comparing()) {
    add("compare", slot_word(a) + "," + slot_word(state.slots[1]));
  } else if (a.method != Method::muse) {
    add("method", slot_word(a));
  } else {
    if (a.device.gpu) add("device", "cuda");
    if (const char* numbers = tools::dtype_word(a.device);
        numbers != tools::dtype_words(a.device.gpu).front())
      add("dtype", numbers);
    for (const OptionInfo& option : option_table()) {
      const std::string text = get_option(a.config, option.name);
      if (option.name != "mode" && text != option.default_value) add(method_option(option.name), text);
    }
  }
  for (const ViewOptionInfo& option : view_option_table()) {
    const std::string text = get_view_option(state.view, option.name);
    if (text != option.default_value) add(option.name, text);
  }
  if (state.selection.locked) {
    const Target& target = *state.selection.locked;
    if (target.query) add("select", fmt::format("{}", *target.query));
    if (target.key) add("select-key", fmt::format("{}", *target.key));
    if (target.query_cluster) add("select-query-cluster", fmt::format("{}", *target.query_cluster));
    if (target.key_cluster) add("select-key-cluster", fmt::format("{}", *target.key_cluster));
  }
  if (const auto& filter = state.selection.filter)
    add("filter",
        fmt::format("{}{}:{}", filter->per == ErrorPer::query ? "" : fmt::format("{}:", name_of(filter->per)),
                    filter->low, filter->high));
  add("size", fmt::format("{}x{}", options.width, options.height));
  if (options.ui_scale != 1) add("ui-scale", fmt::format("{}", options.ui_scale));
  if (options.first_row != 0) add("first-row", fmt::format("{}", options.first_row));
  if (dark) add("theme", "dark");
  return command;
}

}  // namespace muse::viewer
