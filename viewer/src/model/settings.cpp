#include "model/settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "muse/check.h"

namespace muse::viewer {
namespace {

constexpr std::int64_t kLargest = 1'000'000'000;

template <class Enum, std::size_t n>
using Names = std::array<std::pair<Enum, std::string_view>, n>;

constexpr Names<ErrorMetric, 5> kMetrics{{{ErrorMetric::value, "value"},
                                          {ErrorMetric::signed_difference, "signed"},
                                          {ErrorMetric::absolute, "absolute"},
                                          {ErrorMetric::squared, "squared"},
                                          {ErrorMetric::relative, "relative"}}};
constexpr Names<ErrorPer, 3> kPers{
    {{ErrorPer::query, "query"}, {ErrorPer::pair, "pair"}, {ErrorPer::block, "block"}}};
constexpr Names<MapKind, 3> kMaps{
    {{MapKind::exact, "exact"}, {MapKind::approximate, "approximate"}, {MapKind::difference, "difference"}}};
constexpr Names<TokenSort, 2> kSorts{{{TokenSort::position, "position"}, {TokenSort::cluster, "cluster"}}};
constexpr Names<Basis, 2> kBases{{{Basis::separate, "separate"}, {Basis::joint, "joint"}}};
constexpr Names<BlockColoring, 4> kColorings{{{BlockColoring::level, "level"},
                                              {BlockColoring::error, "error"},
                                              {BlockColoring::mass, "mass"},
                                              {BlockColoring::cost, "cost"}}};
constexpr Names<CostKind, 2> kCosts{{{CostKind::operations, "operations"}, {CostKind::time, "time"}}};
constexpr Names<Side, 2> kSides{{{Side::queries, "queries"}, {Side::keys, "keys"}}};
constexpr Names<Aggregation, 2> kAggregations{{{Aggregation::max, "max"}, {Aggregation::mean, "mean"}}};
constexpr Names<Grid, 2> kGrids{{{Grid::quick, "quick"}, {Grid::full, "full"}}};
constexpr Names<TableSort, 4> kTableSorts{{{TableSort::error, "error"},
                                           {TableSort::mass, "mass"},
                                           {TableSort::bias, "bias"},
                                           {TableSort::position, "position"}}};
constexpr Names<bool, 2> kSwitch{{{true, "yes"}, {false, "no"}}};
constexpr Names<bool, 2> kCountScales{{{false, "linear"}, {true, "log"}}};
constexpr Names<bool, 2> kHeads{{{false, "one"}, {true, "all"}}};

template <class Enum, std::size_t n>
std::string_view name_in(const Names<Enum, n>& names, Enum value) {
  for (const auto& [entry, name] : names)
    if (entry == value) return name;
  return "";
}

template <class Enum, std::size_t n>
std::string choices(const Names<Enum, n>& names) {
  std::string text;
  for (const auto& entry : names) text.append(text.empty() ? "" : "|").append(entry.second);
  return text;
}

[[noreturn]] void refuse(std::string_view name, std::string_view expected, std::string_view found) {
  throw UsageError(fmt::format("--{}: expected {}, found '{}'", name, expected, found));
}

template <class Number>
std::optional<Number> number_in(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  if constexpr (std::is_floating_point_v<Number>)
    if (!std::isfinite(value)) return std::nullopt;
  return value;
}

std::int64_t parse_whole(std::string_view name, std::string_view text, std::int64_t least,
                         std::int64_t most = kLargest) {
  const auto value = number_in<std::int64_t>(text);
  if (!value || *value < least || *value > most)
    refuse(name, fmt::format("a whole number from {} to {}", least, most), text);
  return *value;
}

// "LOW:HIGH" with both numbers, low < high or low <= high.
std::optional<render::Range> parse_range(std::string_view text, bool may_be_equal = false) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const auto low = number_in<double>(text.substr(0, colon)), high = number_in<double>(text.substr(colon + 1));
  if (!low || !high || !(may_be_equal ? *low <= *high : *low < *high)) return std::nullopt;
  return render::Range{*low, *high};
}

// One row an option, as in muse::option_table().
struct Row {
  ViewOptionInfo info;
  std::function<void(ViewSettings&, std::string_view)> set;
  std::function<std::string(const ViewSettings&)> get;
};

ViewOptionInfo info_of(std::string name, std::string type, std::string unit, std::string default_value,
                       std::string help, std::string views) {
  ViewOptionInfo info;
  info.name = std::move(name);
  info.type = std::move(type);
  info.unit = std::move(unit);
  info.default_value = std::move(default_value);
  info.help = std::move(help);
  info.views = std::move(views);
  return info;
}

template <class Enum, std::size_t n>
Row choice(std::string name, Enum ViewSettings::*member, const Names<Enum, n>& names, std::string help,
           std::string views) {
  return {info_of(name, choices(names), "", std::string(name_in(names, ViewSettings{}.*member)),
                  std::move(help), std::move(views)),
          [=](ViewSettings& settings, std::string_view text) {
            for (const auto& [value, word] : names)
              if (word == text) {
                settings.*member = value;
                return;
              }
            refuse(name, choices(names), text);
          },
          [=](const ViewSettings& settings) { return std::string(name_in(names, settings.*member)); }};
}

Row whole(std::string name, std::int64_t ViewSettings::*member, std::int64_t least, std::int64_t most,
          std::string unit, std::string help, std::string views) {
  return {info_of(name, "INT", std::move(unit), fmt::format("{}", ViewSettings{}.*member), std::move(help),
                  std::move(views)),
          [=](ViewSettings& settings, std::string_view text) {
            settings.*member = parse_whole(name, text, least, most);
          },
          [=](const ViewSettings& settings) { return fmt::format("{}", settings.*member); }};
}

// A whole number, or a word for its absence.
Row perhaps(std::string name, std::optional<Index> ViewSettings::*member, std::int64_t least,
            std::string word, std::string unit, std::string help, std::string views) {
  return {info_of(name, word + "|INT", std::move(unit), word, std::move(help), std::move(views)),
          [=](ViewSettings& settings, std::string_view text) {
            if (text == word)
              settings.*member = std::nullopt;
            else
              settings.*member = parse_whole(name, text, least);
          },
          [=](const ViewSettings& settings) {
            return settings.*member ? fmt::format("{}", *(settings.*member)) : word;
          }};
}

Row metric_row(std::string help, std::string views) {
  const std::string words = "auto|" + choices(kMetrics);
  return {info_of("metric", words, "", "auto", std::move(help), std::move(views)),
          [=](ViewSettings& settings, std::string_view text) {
            if (text == "auto") {
              settings.metric.reset();
              return;
            }
            for (const auto& [value, word] : kMetrics)
              if (word == text) {
                settings.metric = value;
                return;
              }
            refuse("metric", words, text);
          },
          [](const ViewSettings& settings) {
            return settings.metric ? std::string(name_in(kMetrics, *settings.metric)) : "auto";
          }};
}

Row colormap_row() {
  std::string words = "auto";
  for (const std::string_view name : render::colormap_names()) words.append("|").append(name);
  return {info_of("colormap", words, "", "auto",
                  "colours of values; auto is viridis, and diverging about zero for signed values",
                  "attention error blocks"),
          [=](ViewSettings& settings, std::string_view text) {
            if (text == "auto") {
              settings.colormap.reset();
              return;
            }
            for (const std::string_view name : render::colormap_names())
              if (name == text) {
                settings.colormap = render::colormap_from_name(text);
                return;
              }
            refuse("colormap", words, text);
          },
          [](const ViewSettings& settings) {
            return settings.colormap ? std::string(render::name_of(*settings.colormap)) : "auto";
          }};
}

Row scale_row() {
  return {
      info_of("scale", "auto|linear|log|symlog", "", "auto",
              "scale of the quantity; auto is log for errors, masses and weights, symlog for signed values; "
              "every picture says which",
              "attention error blocks profile histogram"),
      [](ViewSettings& settings, std::string_view text) {
        if (text == "auto")
          settings.scale.reset();
        else if (text == "linear" || text == "log" || text == "symlog")
          settings.scale = render::scale_kind_from_name(text);
        else
          refuse("scale", "auto, linear, log or symlog", text);
      },
      [](const ViewSettings& settings) {
        return settings.scale ? std::string(render::name_of(*settings.scale)) : "auto";
      }};
}

Row range_row() {
  constexpr std::string_view kExpected = "auto, percentiles such as 1%:99%, or values such as 1e-6:1";
  return {
      info_of("range", "auto|LOW:HIGH|P%:P%", "", "auto",
              "range of the quantity: values, or percentiles of what there is; what lies beyond is drawn in "
              "the end's colour, and the bar shows it",
              "attention error blocks profile histogram"),
      [=](ViewSettings& settings, std::string_view text) {
        if (text == "auto") {
          settings.range = {};
          return;
        }
        std::string plain(text);
        const auto marks = std::count(plain.begin(), plain.end(), '%');
        plain.erase(std::remove(plain.begin(), plain.end(), '%'), plain.end());
        const auto range = parse_range(plain);
        const bool placed =
            marks == 0 || (marks == 2 && text.ends_with('%') && text.find("%:") != std::string_view::npos);
        if (!range || !placed || (marks == 2 && (range->low < 0 || range->high > 100)))
          refuse("range", kExpected, text);
        settings.range = {.percentiles = marks == 2, .low = range->low, .high = range->high};
      },
      [](const ViewSettings& settings) -> std::string {
        const RangeRule& r = settings.range;
        if (r == RangeRule{}) return "auto";
        return r.percentiles ? fmt::format("{}%:{}%", r.low, r.high) : fmt::format("{}:{}", r.low, r.high);
      }};
}

Row zoom_row() {
  return {info_of("zoom", "all|X0:X1,Y0:Y1", "units of the axes", "all",
                  "part of the picture: horizontal, then vertical (keys, then queries, in a map)",
                  "clusters attention error blocks profile histogram tradeoff kmeans"),
          [](ViewSettings& settings, std::string_view text) {
            if (text == "all") {
              settings.zoom.reset();
              return;
            }
            const std::size_t comma = text.find(',');
            std::optional<render::Range> x, y;
            if (comma != std::string_view::npos) {
              x = parse_range(text.substr(0, comma));
              y = parse_range(text.substr(comma + 1));
            }
            if (!x || !y) refuse("zoom", "all, or two ranges such as 0:512,1024:1536", text);
            settings.zoom = Zoom{*x, *y};
          },
          [](const ViewSettings& settings) -> std::string {
            if (!settings.zoom) return "all";
            const Zoom& z = *settings.zoom;
            return fmt::format("{:.8g}:{:.8g},{:.8g}:{:.8g}", z.x.low, z.x.high, z.y.low, z.y.high);
          }};
}

Row max_error_row() {
  return {info_of("max-error", "NUMBER", "relative squared error", "0.05",
                  "bound for the answer of 'muse tune' that is marked", "tradeoff"),
          [](ViewSettings& settings, std::string_view text) {
            const auto value = number_in<double>(text);
            if (!value || !(*value > 0)) refuse("max-error", "a number above 0", text);
            settings.max_error = *value;
          },
          [](const ViewSettings& settings) { return fmt::format("{}", settings.max_error); }};
}

const std::vector<Row>& rows() {
  using S = ViewSettings;
  static const std::vector<Row> table = [] {
    std::vector<Row> r;
    r.push_back(
        metric_row("what of an error is shown: the approximation's own value, signed or absolute "
                   "difference, squared, relative squared; the picture states the formula; auto is "
                   "relative, and signed for attention maps",
                   "error attention histogram"));
    r.push_back(
        choice("per", &S::per, kPers,
               "errors of queries, of (query cluster, key cluster) pairs of one block, or of the blocks "
               "of the hierarchy",
               "error histogram"));
    r.push_back(choice("heads", &S::all_heads, kHeads, "one head, or all of the dump side by side", "error"));
    r.push_back(choice("map", &S::map, kMaps,
                       "attention weights: exact, as approximated, or their difference by --metric",
                       "attention"));
    r.push_back(choice("aggregate", &S::aggregate, kAggregations,
                       "what a cell shows that stands for many pairs; max is the largest magnitude of a "
                       "difference",
                       "attention"));
    r.push_back(choice("sort", &S::sort, kSorts,
                       "order of tokens; cluster sorts those of each block of --level by cluster",
                       "attention"));
    r.push_back(
        choice("numbers", &S::numbers, kSwitch, "numbers in cells that are large enough", "attention error"));
    r.push_back(perhaps("level", &S::level, 0, "auto", "level",
                        "level of the hierarchy whose clusters are shown; auto: the largest block that holds "
                        "the selected query, else the highest",
                        "clusters error attention kmeans"));
    r.push_back(
        perhaps("block-index", &S::block, 0, "auto", "index",
                "which far block of the level, from the first token on; auto: the one of the selected "
                "query, else the first",
                "clusters error kmeans"));
    r.push_back(perhaps("up-to-level", &S::up_to, -1, "all", "level",
                        "playback: only the diagonal blocks (-1) and the levels up to this one are summed; "
                        "colours and axes stay those of the whole",
                        "blocks"));
    r.push_back(choice("basis", &S::basis, kBases,
                       "principal axes of queries and keys each for themselves, or of both together",
                       "clusters"));
    r.push_back(choice("ellipses", &S::ellipses, kSwitch, "1σ ellipses of the clusters", "clusters kmeans"));
    r.push_back(choice("hulls", &S::hulls, kSwitch, "convex hulls of the clusters", "clusters"));
    r.push_back(
        choice("color-by", &S::color_by, kColorings, "what the colour of a far block says", "blocks"));
    r.push_back(colormap_row());
    r.push_back(scale_row());
    r.push_back(range_row());
    r.push_back(choice("leave-sink-out", &S::leave_sink_out, kSwitch,
                       "keep the first token, which many heads use as a sink, out of the range",
                       "attention profile"));
    r.push_back(zoom_row());
    r.push_back(whole("bins", &S::bins, 2, 2000, "bins", "bins of the histogram", "histogram"));
    r.push_back(choice("count-scale", &S::log_counts, kCountScales, "scale of the counts", "histogram"));
    r.push_back(whole("top", &S::top, 1, 1000, "rows", "rows of tables, such as the worst offenders",
                      "error inspector"));
    r.push_back(
        choice("table-sort", &S::table_sort, kTableSorts,
               "what the table of the worst is sorted by: error by --metric, mass, bias of the log-mass, "
               "or the worst by position; queries have no mass of their own and take their error",
               "error"));
    r.push_back(choice("cost", &S::cost, kCosts,
                       "cost beside the error: operations, or measured time, both of exact attention's",
                       "tradeoff"));
    r.push_back(choice(
        "grid", &S::grid, kGrids,
        "settings tried: a line through the current one in each parameter, or all combinations", "tradeoff"));
    r.push_back(max_error_row());
    r.push_back(choice("side", &S::side, kSides, "whose clustering is played", "kmeans"));
    r.push_back(perhaps("pass", &S::pass, 0, "last", "passes",
                        "pass of k-means that is shown; 0 is the seeding", "kmeans"));
    return r;
  }();
  return table;
}

const Row& row_of(std::string_view name) {
  for (const Row& row : rows())
    if (row.info.name == name) return row;
  std::string known;
  for (const Row& row : rows()) known.append(known.empty() ? "" : ", ").append(row.info.name);
  throw UsageError(fmt::format("unknown view option '{}': expected {}", name, known));
}

}  // namespace

std::span<const ViewOptionInfo> view_option_table() {
  static const std::vector<ViewOptionInfo> table = [] {
    std::vector<ViewOptionInfo> infos;
    for (const Row& row : rows()) infos.push_back(row.info);
    return infos;
  }();
  return table;
}

void set_view_option(ViewSettings& settings, std::string_view name, std::string_view text) {
  row_of(name).set(settings, text);
}

std::string get_view_option(const ViewSettings& settings, std::string_view name) {
  return row_of(name).get(settings);
}

std::string slot_word(const Slot& slot) {
  std::string where;
  if (slot.on_gpu()) where = ":device=cuda";
  if (slot.on_gpu() && slot.device.gpu_numbers != tools::Device{}.gpu_numbers)
    where += fmt::format(":dtype={}", tools::dtype_word(slot.device));
  if (slot.in_double()) where = ":dtype=double";
  if (slot.method == Method::exact) return "exact" + where;
  if (slot.method == Method::local) return fmt::format("local:block={}{}", slot.config.block, where);
  std::string word = "muse";
  for (const OptionInfo& option : option_table()) {
    const std::string text = get_option(slot.config, option.name);
    if (option.name != "mode" && text != option.default_value)
      word += fmt::format(":{}={}", option.name, text);
  }
  return word + where;
}

std::string_view name_of(ErrorMetric metric) {
  return name_in(kMetrics, metric);
}
std::string_view name_of(ErrorPer per) {
  return name_in(kPers, per);
}
std::string_view name_of(MapKind map) {
  return name_in(kMaps, map);
}
std::string_view name_of(Side side) {
  return name_in(kSides, side);
}
std::string_view name_of(BlockColoring coloring) {
  return name_in(kColorings, coloring);
}

}  // namespace muse::viewer
