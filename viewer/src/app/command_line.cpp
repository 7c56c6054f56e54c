#include "app/command_line.h"

#include <fmt/format.h>

#include <charconv>
#include <tuple>

#include "app/layout.h"
#include "model/analysis.h"
#include "muse/check.h"
#include "tools/help.h"
#include "views/view_parts.h"

namespace muse::viewer {
namespace {

using tools::described;
using tools::unnamed;

constexpr double kLargestUiScale = 8;

// "1200x800" -> two extents of 1 to the largest that an image can have.
std::pair<int, int> parse_size(const std::string& text) {
  int width = 0, height = 0;
  const char* end = text.data() + text.size();
  const auto [cross, error] = std::from_chars(text.data(), end, width);
  const bool crossed = error == std::errc() && cross != end && *cross == 'x';
  const auto [stop, second] =
      crossed ? std::from_chars(cross + 1, end, height) : std::from_chars_result{cross, error};
  const auto fits = [](int extent) { return extent >= 1 && extent <= render::kLargestExtent; };
  if (!crossed || second != std::errc() || stop != end || !fits(width) || !fits(height))
    throw UsageError(
        fmt::format("--size: expected WIDTHxHEIGHT, each from 1 to {}, such as 1200x800, found '{}'",
                    render::kLargestExtent, text));
  return {width, height};
}

ValueFilter parse_filter(const std::string& text) {
  ValueFilter filter;
  std::string range = text;
  for (const ErrorPer per : {ErrorPer::query, ErrorPer::pair, ErrorPer::block})
    if (const std::string prefix = fmt::format("{}:", name_of(per)); range.starts_with(prefix)) {
      filter.per = per;
      range.erase(0, prefix.size());
      break;
    }
  // The same two numbers as a range of values.
  ViewSettings settings;
  try {
    set_view_option(settings, "range", range);
  } catch (const UsageError&) {
    settings.range.percentiles = true;
  }
  if (settings.range.percentiles)
    throw UsageError(
        fmt::format("--filter: expected LOW:HIGH, such as 0.1:10 or block:0.1:10, found '{}'", text));
  filter.low = settings.range.low;
  filter.high = settings.range.high;
  return filter;
}

}  // namespace

void CommandLine::add_to(CLI::App& app) {
  app.add_option(
         "DUMP", dump_,
         "folder with meta.json, q.npy, k.npy and v.npy, or an .npz or .safetensors file; a window can "
         "be opened without one")
      ->type_name("");
  const std::string output = "What to write";
  app.add_option("--export", export_,
                 "write the picture (.png) or its numbers (.npy, .csv), without a window")
      ->type_name("FILE")
      ->group(output);
  std::string names, help = "which view:";
  for (const View* view : all_views()) {
    names.append(names.empty() ? "" : "|").append(view->name());
    help += fmt::format(" {}: {};", view->name(), view->help());
  }
  help.back() = '.';
  view_typed_ = app.add_option("--view", view_, described(help, "", view_))->type_name(names)->group(output);
  app.add_option("--size", size_,
                 described("size of the picture, or of the window", "pixels", "the view's own"))
      ->type_name("WIDTHxHEIGHT")
      ->group(output);
  ui_scale_typed_ = app.add_option("--ui-scale", ui_scale_,
                                   described("size of text and lines; 2 on a HiDPI screen", "times", "1"))
                        ->type_name("NUMBER")
                        ->check(unnamed(CLI::Range(0.25, kLargestUiScale)))
                        ->group(output);
  theme_typed_ = app.add_option("--theme", theme_, described("background", "", theme_))
                     ->type_name("light|dark")
                     ->check(unnamed(CLI::IsMember({"light", "dark"})))
                     ->group(output);

  app.add_option("--first-row", first_row_,
                 described("row that tables begin with where not all rows fit", "index", "0"))
      ->type_name("INT")
      ->check(unnamed(CLI::NonNegativeNumber))
      ->group(output);

  const std::string window = "The window (without --export)";
  std::vector<std::string> layouts;
  std::string layout_words;
  for (const Layout& layout : layout_presets()) {
    layouts.push_back(layout.name);
    layout_words.append(layout_words.empty() ? "" : "|").append(layout.name);
  }
  app.add_option("--layout", layout_,
                 described("which views stand where; --view alone shows that one", "", "as last time"))
      ->type_name(layout_words)
      ->check(unnamed(CLI::IsMember(layouts)))
      ->group(window);
  app.add_option(
         "--screenshot", screenshot_,
         "draw the whole window, save it as .png once everything is computed, and close it; settings of "
         "earlier runs do not count")
      ->type_name("FILE")
      ->group(window);
  app.add_option("--frames", frames_,
                 "close the window after so many frames, computed or not; with --screenshot save it then")
      ->type_name("INT")
      ->check(unnamed(CLI::Range(1, 1000000)))
      ->group(window);
  app.add_option(
         "--state-json", state_json_,
         "write what the window shows, and where, whenever it changes: to a file, which always holds the "
         "latest, or as lines to standard output for -")
      ->type_name("FILE|-")
      ->group(window);

  const std::string what = "What to look at";
  app.add_option("--head", head_, described("query head, 0-based", "index", "0"))
      ->type_name("INT")
      ->group(what);
  app.add_option("--batch", batch_, described("sequence, in a dump with a batch axis", "index", "0"))
      ->type_name("INT")
      ->group(what);
  app.add_option("--tokens", tokens_, described("only the first so many tokens", "tokens", "all"))
      ->type_name("INT")
      ->check(unnamed(CLI::PositiveNumber))
      ->group(what);
  app.add_option("--method", method_, described(tools::kMethodHelp, "", method_))
      ->type_name(tools::kMethodType)
      ->group(what);
  app.add_option(
         "--compare", compare_,
         "two methods, A and B, with a comma between them, written as for --method: both are shown, and "
         "their difference; each may run elsewhere: muse,muse:device=cuda:dtype=float16")
      ->type_name("A,B")
      ->group(what);
  tools::add_device_option(app, device_)->group(what);
  tools::add_dtype_option(
      app, dtype_,
      "numbers to compute attention in: float or double on the CPU, bfloat16 (the default "
      "there), float16 or float with --device cuda",
      "float|double|bfloat16|float16")
      ->group(what);
  app.add_option("--threads", threads_, described("threads to run on", "threads", "one a core"))
      ->type_name("INT")
      ->check(unnamed(CLI::Range(std::int64_t{1}, std::int64_t{4096})))
      ->group(what);
  const auto add_index = [&](const char* name, std::optional<std::int64_t>& index, const char* help_text) {
    app.add_option(name, index, described(help_text, "index", "none"))->type_name("INT")->group(what);
  };
  add_index("--select", query_, "query that is locked, 0-based");
  add_index("--select-key", key_, "key that is locked, 0-based");
  add_index("--select-query-cluster", query_cluster_,
            "query cluster i that is locked, of the block in focus");
  add_index("--select-key-cluster", key_cluster_, "key cluster j that is locked, of the block in focus");
  app.add_option("--filter", filter_,
                 "only queries, pairs of clusters or blocks whose error by --metric lies in this range")
      ->type_name("[query|pair|block:]LOW:HIGH")
      ->group(what);

  for (const ViewOptionInfo& option : view_option_table()) {
    Typed& typed = view_options_[option.name];
    typed.option = app.add_option(
        "--" + option.name, typed.text,
        described(fmt::format("{} ({})", option.help, option.views), option.unit, option.default_value));
    typed.option->type_name(option.type)->group("How it is shown (views that use it)");
  }
  config_.add_to(app, {{"metric", "query-metric"}});
}

WindowOptions CommandLine::window_options() const {
  WindowOptions options{
      .screenshot = screenshot_, .frames = frames_, .state_json = state_json_, .layout = layout_};
  options.view_typed = view_typed_->count() > 0;
  if (!screenshot_.empty() && !screenshot_.ends_with(".png"))
    throw UsageError(fmt::format("--screenshot: expected a file ending in .png, found '{}'", screenshot_));
  if (!size_.empty())
    std::tie(options.width, options.height) = parse_size(size_);
  else if (!screenshot_.empty())
    std::tie(options.width, options.height) = std::pair(1600, 1000);
  if (ui_scale_typed_->count() > 0) options.ui_scale = ui_scale_;
  if (theme_typed_->count() > 0) options.dark = theme_ == "dark";
  return options;
}

void CommandLine::set_typed_view_options(ViewSettings& settings) const {
  for (const auto& [name, typed] : view_options_)
    if (typed.option->count() > 0) set_view_option(settings, name, typed.text);
}

void CommandLine::use_threads() const {
  tools::use_threads(threads_);
}

ViewState CommandLine::state(const DumpSession& session) const {
  ViewState state;
  Config defaults;
  if (session.dump().causal && !*session.dump().causal) defaults.mode = Mode::acausal;
  const ConfigSet configs = config_.resolve(defaults);
  std::vector<tools::MethodSpec> methods;
  if (!compare_.empty()) {
    methods = tools::parse_methods(compare_, configs, true);
    if (methods.size() != 2)
      throw UsageError(
          fmt::format("--compare: expected two methods, found {} in '{}'", methods.size(), compare_));
  } else {
    methods.push_back(tools::parse_method(method_, configs, true));
  }
  state.slots.clear();
  for (const tools::MethodSpec& method : methods) {
    Slot slot{.batch = batch_, .head = head_, .tokens = tokens_, .method = method.method};
    slot.config = method.configs.for_head(head_);
    slot.device = device_of(method);
    require_slot_fits(session, slot);
    state.slots.push_back(std::move(slot));
  }
  set_typed_view_options(state.view);
  state.selection = selection(session, state);
  return state;
}

tools::Device CommandLine::device_of(const tools::MethodSpec& method) const {
  // A device of its own does not take the numbers that were meant for the other one.
  const bool same = method.device.empty() || method.device == (device_.empty() ? "cpu" : device_);
  return tools::parse_device(same ? device_ : method.device,
                             method.dtype.empty() && same ? dtype_ : method.dtype);
}

Selection CommandLine::selection(const DumpSession& session, const ViewState& state) const {
  const auto require_index = [](const char* option, std::optional<std::int64_t> index, Index count) {
    if (index && (*index < 0 || *index >= count))
      throw UsageError(
          fmt::format("{}: expected an index from 0 to {}, found {}", option, count - 1, *index));
  };
  require_index("--select", query_, queries_of(session, state.a()));
  require_index("--select-key", key_, keys_of(session, state.a()));
  Selection selection;
  Target target{.query = query_, .key = key_, .query_cluster = query_cluster_, .key_cluster = key_cluster_};
  if (query_cluster_ || key_cluster_) {
    Selection so_far;
    so_far.locked = Target{.query = query_};
    target.block = block_in_focus(session, state.a(), state.view, so_far);
    const auto& rules = state.a().config;
    require_index("--select-query-cluster", query_cluster_,
                  rules.clusters_q.at(target.block->level)(target.block->keys()));
    require_index("--select-key-cluster", key_cluster_,
                  rules.clusters_k.at(target.block->level)(target.block->keys()));
  }
  if (!target.empty()) selection.locked = target;
  if (!filter_.empty()) selection.filter = parse_filter(filter_);
  return selection;
}

render::FigureOptions CommandLine::figure_options(render::FigureOptions options) const {
  // A picture of the view's own size grows with its text.
  options.width = static_cast<int>(options.width * ui_scale_);
  options.height = static_cast<int>(options.height * ui_scale_);
  if (!size_.empty()) std::tie(options.width, options.height) = parse_size(size_);
  options.ui_scale = ui_scale_;
  options.dark = theme_ == "dark";
  options.first_row = static_cast<std::size_t>(first_row_);
  return options;
}

}  // namespace muse::viewer
