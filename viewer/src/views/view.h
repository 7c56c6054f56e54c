// What every view is: it gathers what it shows, then draws it, names what is under the pointer, and gives its
// numbers. On screen and in files, pixels come from the same `draw`.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "model/analysis.h"
#include "render/figure.h"

namespace muse::viewer {

/// What is under a pixel.
struct Hit {
  Target target;          ///< empty: nothing
  std::string readout;    ///< its exact values in words, one line
  std::size_t frame = 0;  ///< of the frames of the picture: the plot that the pixel lies in
  bool in_frame = false;
  std::optional<Zoom> zoom;  ///< a click also zooms there: a row of a table of the worst
  std::optional<std::pair<std::string, std::string>> option;  ///< a click sets this view option instead
};

/// The numbers of a picture: rows of named columns, for .csv and .npy.
struct Numbers {
  std::vector<std::string> columns;
  std::vector<double> values;       ///< [rows, columns]
  std::vector<std::string> labels;  ///< one a row, or none: in .csv a first column `label_name`
  std::string label_name;

  [[nodiscard]] std::size_t rows() const { return columns.empty() ? 0 : values.size() / columns.size(); }
  void add(std::initializer_list<double> row) { values.insert(values.end(), row); }
};

/// Everything that one picture shows, ready to be drawn. Immutable: the window may draw it on any thread,
/// again whenever the pointer moves.
class ViewContent {
 public:
  virtual ~ViewContent() = default;
  /// The pixels that are shown and exported. The same arguments give the same pixels.
  [[nodiscard]] virtual render::Drawn draw(const render::FigureOptions& options,
                                           const Selection& selection) const = 0;
  /// What lies under a pixel of `drawn`, which this content drew with `selection`.
  [[nodiscard]] virtual Hit hit(const render::Drawn& drawn, const Selection& selection,
                                render::Point at) const = 0;
  [[nodiscard]] virtual Numbers numbers() const = 0;
  /// The setting that a target stands for (a point of the trade-off): a click makes it the current one.
  [[nodiscard]] virtual std::optional<Slot> setting_of(const Target&) const { return std::nullopt; }
};

class View {
 public:
  virtual ~View() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;   ///< as --view spells it
  [[nodiscard]] virtual std::string_view title() const = 0;  ///< for people
  [[nodiscard]] virtual std::string_view help() const = 0;   ///< one sentence
  [[nodiscard]] virtual render::FigureOptions default_size() const { return {.width = 1200, .height = 760}; }
  /// Whether pointing at something else changes what has to be computed, and not just how it is drawn.
  [[nodiscard]] virtual bool follows_selection() const { return false; }
  /// Whether the range selected in the histogram changes what has to be computed.
  [[nodiscard]] virtual bool follows_filter() const { return false; }
  /// What can be shown at once, before `prepare` has computed the picture; null: nothing.
  [[nodiscard]] virtual std::shared_ptr<const ViewContent> outline(
      [[maybe_unused]] const std::shared_ptr<const DumpSession>& session,
      [[maybe_unused]] const ViewState& state) const {
    return nullptr;
  }
  /// Computes what the picture needs. Throws Cancelled, or an Error whose message a person can act on.
  [[nodiscard]] virtual std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                                   Task& task) const = 0;
};

/// All views, in the order of their tabs.
[[nodiscard]] std::span<const View* const> all_views();
/// UsageError, listing the names, for any other text.
[[nodiscard]] const View& view_named(std::string_view name);

/// A text that differs whenever `prepare` would give another content: only then the window has to compute
/// anew.
[[nodiscard]] std::string content_key(const View& view, const ViewState& state);

}  // namespace muse::viewer
