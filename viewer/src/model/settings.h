// What is shown and how: the settings of a slot, and those of the views, each with one table of names, units
// and defaults for the command line, saved state and the window's controls alike.
#pragma once

#include <array>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "model/selection.h"
#include "muse/config.h"
#include "render/colormap.h"
#include "render/scale.h"
#include "tools/device.h"
#include "tools/method_word.h"

namespace muse::viewer {

using tools::Method;

/// One of the two things that can be compared: a head and how its attention is computed.
struct Slot {
  Index batch = 0;
  Index head = 0;
  Index tokens = 0;  ///< only the first so many; 0: all
  Method method = Method::muse;
  Config config;
  tools::Device device;  ///< where method muse runs; exact and local attention run on the CPU

  [[nodiscard]] bool causal() const { return config.mode != Mode::acausal; }
  [[nodiscard]] bool on_gpu() const { return device.gpu && method == Method::muse; }
  /// Whether the CPU computes in double; beside a GPU it computes in float.
  [[nodiscard]] bool in_double() const {
    return !device.gpu && device.precision == tools::Precision::twofold;
  }
  friend bool operator==(const Slot&, const Slot&) = default;
};

/// "exact", "local:block=512", "muse:retrieve=8": the method, and what differs from the defaults; where it
/// runs too: "muse:device=cuda:dtype=float16".
[[nodiscard]] std::string slot_word(const Slot& slot);

/// What of an error is shown (docs/math.md, section 8). What each means for queries, blocks and pairs of
/// clusters: `error_formula`.
enum class ErrorMetric { value, signed_difference, absolute, squared, relative };

enum class MapKind { exact, approximate, difference };
enum class TokenSort { position, cluster };
enum class Basis { separate, joint };
enum class BlockColoring { level, error, mass, cost };
enum class CostKind { operations, time };
enum class Side { queries, keys };
enum class Aggregation { max, mean };
enum class Grid { quick, full };
enum class TableSort { error, mass, bias, position };

/// The ends of a colour scale or axis: values, or percentiles of what there is.
struct RangeRule {
  bool percentiles = true;
  double low = 0, high = 100;
  friend bool operator==(const RangeRule&, const RangeRule&) = default;
};

/// Part of a picture: the horizontal and the vertical axis.
struct Zoom {
  render::Range x, y;
  friend bool operator==(const Zoom&, const Zoom&) = default;
};

/// How the views look. `view_option_table()` documents each one.
struct ViewSettings {
  std::optional<ErrorMetric> metric;  ///< absent: relative for errors, signed for attention maps
  ErrorPer per = ErrorPer::query;
  bool all_heads = false;
  MapKind map = MapKind::exact;
  Aggregation aggregate = Aggregation::max;
  TokenSort sort = TokenSort::position;
  bool numbers = true;
  std::optional<Index>
      level;  ///< of clusters, pairs, sorted maps; absent: the locked one's, else the highest
  std::optional<Index> up_to;  ///< playback: levels that are summed, -1 the diagonal alone; absent: all
  std::optional<Index> block;  ///< t-th far block of the level; absent: the locked query's, else the first
  Basis basis = Basis::separate;
  bool hulls = false, ellipses = true;
  BlockColoring color_by = BlockColoring::level;
  std::optional<render::ColormapName> colormap;  ///< absent: viridis, or diverging for signed values
  std::optional<render::ScaleKind> scale;        ///< absent: what suits the quantity
  RangeRule range;
  bool leave_sink_out = false;
  std::int64_t bins = 60;
  bool log_counts = false;
  std::int64_t top = 20;
  TableSort table_sort = TableSort::error;
  CostKind cost = CostKind::operations;
  Grid grid = Grid::quick;
  double max_error = 0.05;
  Side side = Side::keys;
  std::optional<Index> pass;  ///< of the k-means playback; absent: the last
  std::optional<Zoom> zoom;   ///< absent: everything

  [[nodiscard]] ErrorMetric error_metric() const { return metric.value_or(ErrorMetric::relative); }
  [[nodiscard]] ErrorMetric map_metric() const { return metric.value_or(ErrorMetric::signed_difference); }
  friend bool operator==(const ViewSettings&, const ViewSettings&) = default;
};

/// Every view option, in the order in which help shows them. `views` names those that it matters to.
struct ViewOptionInfo : OptionInfo {
  std::string views;
};
[[nodiscard]] std::span<const ViewOptionInfo> view_option_table();

/// Sets one view option from text; UsageError saying what was expected and what was found.
void set_view_option(ViewSettings& settings, std::string_view name, std::string_view text);
/// The text of one view option; `set_view_option` takes it back.
[[nodiscard]] std::string get_view_option(const ViewSettings& settings, std::string_view name);

/// Everything that decides what a view shows.
struct ViewState {
  std::vector<Slot> slots{Slot{}};  ///< A, or A and B to compare
  ViewSettings view;
  Selection selection;

  [[nodiscard]] const Slot& a() const { return slots.front(); }
  [[nodiscard]] bool comparing() const { return slots.size() > 1; }
};

[[nodiscard]] std::string_view name_of(ErrorMetric metric);
[[nodiscard]] std::string_view name_of(ErrorPer per);
[[nodiscard]] std::string_view name_of(MapKind map);
[[nodiscard]] std::string_view name_of(Side side);
[[nodiscard]] std::string_view name_of(BlockColoring coloring);

}  // namespace muse::viewer
