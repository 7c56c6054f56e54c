// The attention matrix as a map of any size: exact, approximate, or their difference.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/view_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr Index kMostCells = 720;  // along either side: about the pixels of a map
constexpr std::size_t kMostBorders = 96;
constexpr std::size_t kMostBlocks = 256;

struct Panel {
  Slot slot;
  std::shared_ptr<AttentionPyramid> pyramid;
  MapView view;
};

// Places [begin, end) of one axis.
struct Places {
  Index begin, end;
};

Places places_of(const std::optional<Range>& range, Index N) {
  if (!range) return {0, N};
  const Index begin = std::clamp<Index>(static_cast<Index>(std::floor(range->low)), 0, N - 1);
  return {begin, std::clamp<Index>(static_cast<Index>(std::ceil(range->high)), begin + 1, N)};
}

class AttentionContent : public ViewContent {
 public:
  AttentionContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    const Index level =
        sorted() ? block_in_focus(*session_, state.a(), state.view, state.selection).level : 0;
    counted_ = analysis.counted_queries(state, task);
    const std::optional<Zoom>& zoom = state.view.zoom;
    queries_ = places_of(zoom ? std::optional(zoom->y) : std::nullopt, queries_of(*session_, state.a()));
    keys_ = places_of(zoom ? std::optional(zoom->x) : std::nullopt, keys_of(*session_, state.a()));
    for (const Slot& slot : state.slots) {
      // Two methods side by side: the approximate weights of both, unless differences from exact are asked
      // for.
      const MapKind map =
          state.comparing() && state.view.map == MapKind::exact ? MapKind::approximate : state.view.map;
      Panel panel{.slot = slot,
                  .pyramid = analysis.pyramid(slot, map, state.view.sort, level, task, counted_)};
      panel.view = panel.pyramid->view(queries_.begin, queries_.end, keys_.begin, keys_.end, kMostCells,
                                       state.view.aggregate, metric(), task);
      map_ = map;
      panels_.push_back(std::move(panel));
    }
    if (panels_.size() == 2) {
      const MapView &a = panels_[0].view, &b = panels_[1].view;
      difference_ = a;
      for (std::size_t i = 0; i < a.values.values.size(); ++i)
        difference_.values.values[i] = a.values.values[i] - b.values.values[i];
    }
    level_ = level;
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = title();
    figure.brief_title = fmt::format("Attention: {}", name_of(map_));
    std::vector<float> all;
    for (const Panel& panel : panels_) add_values(panel.view, panel, all);
    const bool is_signed_map = map_ == MapKind::difference &&
                               (metric() == ErrorMetric::signed_difference || metric() == ErrorMetric::value);
    const QuantityScale quantity = quantity_scale(std::span<const float>(all), is_signed_map, state_.view);
    int col = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      Axes& axes = figure.add(0, col++);
      if (panels_.size() > 1) axes.title = s == 0 ? "A" : "B";
      add_map(axes, panels_[s], panels_[s].view, quantity, selection, options.dark, label());
    }
    if (panels_.size() == 2) {
      std::vector<float> differences;
      add_values(difference_, panels_[0], differences);
      Axes& axes = figure.add(0, col++);
      axes.title = "A − B, cell by cell";
      add_map(axes, panels_[0], difference_,
              difference_scale(std::span<const float>(differences), state_.view), selection, options.dark,
              "difference of cells");
    } else if (options.minimap && state_.view.zoom && options.width >= 700 * options.ui_scale) {
      figure.col_weights = {1, 0.22};
      add_minimap(figure.add(0, 1), options.dark);
    }
    figure.caption = caption(quantity);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const bool is_difference = panels_.size() == 2 && hit.frame == 2;
    if (hit.frame >= panels_.size() && !is_difference) return hit;
    const Panel& panel = panels_[is_difference ? 0 : hit.frame];
    const MapView& view = is_difference ? difference_ : panel.view;
    const Frame& f = drawn.frames[hit.frame];
    const auto row = static_cast<Index>(std::floor(f.y.to_value(at.y))),
               col = static_cast<Index>(std::floor(f.x.to_value(at.x)));
    if (row < queries_.begin || row >= queries_.end || col < keys_.begin || col >= keys_.end) return hit;
    const Index query = panel.pyramid->query_order()[static_cast<std::size_t>(row)];
    const Index key = panel.pyramid->key_order()[static_cast<std::size_t>(col)];
    hit.target.query = query;
    hit.target.key = key;
    const float cell = view.values.at((row - view.query0) / view.cell, (col - view.key0) / view.cell);
    hit.readout =
        fmt::format("query {}, key {}: exact weight {}", token_name(*session_, query),
                    token_name(*session_, key), short_number(panel.pyramid->exact_weight(query, key), 4));
    hit.readout +=
        fmt::format(", {} {}", view.cell == 1 ? "cell" : fmt::format("cell of {}×{}", view.cell, view.cell),
                    short_number(cell, 4));
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    // Rows of cells, columns of cells: the map itself, the second one below the first.
    Numbers numbers;
    numbers.label_name = panels_.size() > 1 ? "slot:query" : "query";
    const MapView& first = panels_.front().view;
    for (Index c = 0; c < first.values.cols; ++c)
      numbers.columns.push_back(fmt::format(
          "{}", panels_.front().pyramid->key_order()[static_cast<std::size_t>(first.key0 + c * first.cell)]));
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const Panel& panel = panels_[s];
      for (Index r = 0; r < panel.view.values.rows; ++r) {
        const Index query =
            panel.pyramid->query_order()[static_cast<std::size_t>(panel.view.query0 + r * panel.view.cell)];
        numbers.labels.push_back(panels_.size() > 1 ? fmt::format("{}:{}", s == 0 ? "A" : "B", query)
                                                    : fmt::format("{}", query));
        for (Index c = 0; c < panel.view.values.cols; ++c)
          numbers.values.push_back(static_cast<double>(panel.view.values.at(r, c)));
      }
    }
    return numbers;
  }

 private:
  [[nodiscard]] bool sorted() const { return state_.view.sort == TokenSort::cluster; }
  // A signed difference is what a map shows unless something else is asked for.
  [[nodiscard]] ErrorMetric metric() const { return state_.view.map_metric(); }

  // Values that the range is taken from.
  void add_values(const MapView& view, const Panel& panel, std::vector<float>& all) const {
    // Cells that hold the first token, by row and by column.
    const Index sink_col = (panel.pyramid->place_of_key(0) - view.key0) / view.cell;
    for (Index r = 0; r < view.values.rows; ++r)
      for (Index c = 0; c < view.values.cols; ++c)
        if (!state_.view.leave_sink_out || c != sink_col) all.push_back(view.values.at(r, c));
  }

  [[nodiscard]] std::string label() const {
    const std::string aggregate = panels_.front().view.cell == 1              ? ""
                                  : state_.view.aggregate == Aggregation::max ? "largest "
                                                                              : "mean ";
    switch (map_) {
      case MapKind::exact:
        return aggregate + "attention weight w";
      case MapKind::approximate:
        return aggregate + "approximate weight ŵ";
      case MapKind::difference:
        break;
    }
    switch (metric()) {
      case ErrorMetric::absolute:
        return aggregate + "|ŵ − w|";
      case ErrorMetric::squared:
        return aggregate + "(ŵ − w)²";
      case ErrorMetric::relative:
        return aggregate + "((ŵ − w)/w)²";
      default:
        return panels_.front().view.cell > 1 && state_.view.aggregate == Aggregation::max
                   ? "ŵ − w of largest magnitude"
                   : aggregate + "ŵ − w";
    }
  }

  [[nodiscard]] std::string title() const {
    if (panels_.size() > 1)
      return map_ == MapKind::difference ? "Attention: errors of the weights of A and B"
                                         : "Attention: approximate weights of A and B";
    switch (map_) {
      case MapKind::exact:
        return "Attention: exact weights w = exp(s q·k − L) (1.1)";
      case MapKind::approximate:
        return "Attention: weights ŵ as approximated (3.3), (4.3), (5.2)";
      case MapKind::difference:
        break;
    }
    return fmt::format("Attention: {}, approximate against exact", label());
  }

  void add_map(Axes& axes, const Panel& panel, const MapView& view, const QuantityScale& quantity,
               const Selection& selection, bool dark, const std::string& bar_label) const {
    const Theme theme = Theme::make(dark);
    Heatmap map{.matrix = view.values, .colormap = quantity.colormap, .scale = quantity.scale};
    map.aggregate = state_.view.aggregate == Aggregation::mean   ? Aggregate::mean
                    : quantity.scale.kind() == ScaleKind::symlog ? Aggregate::max_magnitude
                                                                 : Aggregate::max;
    map.numbers = state_.view.numbers && view.cell == 1;
    map.missing_shown = false;
    map.extent = {static_cast<double>(view.key0), static_cast<double>(view.query0),
                  static_cast<double>(view.key0 + view.values.cols * view.cell),
                  static_cast<double>(view.query0 + view.values.rows * view.cell)};
    const std::string order =
        sorted() ? fmt::format(", sorted by cluster of level {} (place)", level_) : " position (tokens)";
    const Range x{static_cast<double>(keys_.begin), static_cast<double>(keys_.end)};
    const Range y{static_cast<double>(queries_.begin), static_cast<double>(queries_.end)};
    axes.aspect = static_cast<double>(panel.pyramid->keys()) / static_cast<double>(panel.pyramid->queries());
    axes.x = {.label = "key" + order, .brief = "key", .range = x, .tick_style = TickStyle::tokens};
    axes.y = {.label = "query" + order,
              .brief = "query",
              .range = y,
              .reversed = true,
              .tick_style = TickStyle::tokens};
    axes.color_bar = color_bar_of(map, bar_label);
    axes.color_bar->missing.clear();
    axes.add(std::move(map));
    add_structure(axes, panel, theme);
    const Target& target = selection.shown();
    if (target.query)
      axes.add(Guide{.at = static_cast<double>(panel.pyramid->place_of_query(*target.query)) + 0.5,
                     .vertical = false,
                     .name = fmt::format("query {}", token_name(*session_, *target.query))});
    if (target.key)
      axes.add(Guide{.at = static_cast<double>(panel.pyramid->place_of_key(*target.key)) + 0.5,
                     .name = fmt::format("key {}", token_name(*session_, *target.key))});
  }

  // The edges of blocks, or of clusters where tokens are sorted by them and there are few enough.
  void add_structure(Axes& axes, const Panel& panel, const Theme& theme) const {
    if (panel.slot.method == Method::exact) return;
    Rects rects{.outline = theme.muted.with_alpha(0.55), .outline_width = 0.8};
    const auto box_of = [](const Block& b) {
      return Box{static_cast<double>(b.key_begin), static_cast<double>(b.query_begin),
                 static_cast<double>(b.key_end), static_cast<double>(b.query_end)};
    };
    if (panel.slot.causal()) {
      const Index N = panel.pyramid->queries();
      for (const Block& block : diagonal_blocks(N, panel.slot.config.block))
        rects.boxes.push_back(box_of(block));
      for (const Block& block : far_blocks(N, panel.slot.config.block)) rects.boxes.push_back(box_of(block));
    }
    if (rects.boxes.size() <= kMostBlocks && !rects.boxes.empty()) {
      rects.label = sorted() ? "blocks, tokens sorted inside" : "blocks (6.1)";
      axes.add(std::move(rects));
    }
    if (!sorted()) return;
    std::vector<Index> queries, keys;
    for (const Index place : panel.pyramid->query_borders())
      if (place >= queries_.begin && place < queries_.end) queries.push_back(place);
    for (const Index place : panel.pyramid->key_borders())
      if (place >= keys_.begin && place < keys_.end) keys.push_back(place);
    if (queries.size() > kMostBorders || keys.size() > kMostBorders) return;
    const Color color = theme.line.with_alpha(0.5);
    for (const Index place : keys)
      axes.add(Line{.x = {static_cast<double>(place), static_cast<double>(place)},
                    .y = {static_cast<double>(queries_.begin), static_cast<double>(queries_.end)},
                    .color = color,
                    .width = 0.6});
    for (const Index place : queries)
      axes.add(Line{.x = {static_cast<double>(keys_.begin), static_cast<double>(keys_.end)},
                    .y = {static_cast<double>(place), static_cast<double>(place)},
                    .color = color,
                    .width = 0.6});
  }

  // Where the part lies in the whole.
  void add_minimap(Axes& axes, bool dark) const {
    const Theme theme = Theme::make(dark);
    const Panel& panel = panels_.front();
    const auto Nq = static_cast<double>(panel.pyramid->queries()),
               Nk = static_cast<double>(panel.pyramid->keys());
    axes.title = "Part shown";
    axes.aspect = Nk / Nq;
    axes.x = {.range = Range{0, Nk}, .tick_style = TickStyle::tokens};
    axes.y = {.range = Range{0, Nq}, .reversed = true, .tick_style = TickStyle::tokens};
    Rects blocks{.fill = theme.grid, .outline = theme.line};
    if (panel.slot.causal()) {
      for (const Block& b : diagonal_blocks(panel.pyramid->queries(), panel.slot.config.block))
        blocks.boxes.push_back({static_cast<double>(b.key_begin), static_cast<double>(b.query_begin),
                                static_cast<double>(b.key_end), static_cast<double>(b.query_end)});
      for (const Block& b : far_blocks(panel.pyramid->queries(), panel.slot.config.block))
        blocks.boxes.push_back({static_cast<double>(b.key_begin), static_cast<double>(b.query_begin),
                                static_cast<double>(b.key_end), static_cast<double>(b.query_end)});
    } else {
      blocks.boxes.push_back({0, 0, Nk, Nq});
    }
    axes.add(std::move(blocks));
    axes.add(Rects{.boxes = {{static_cast<double>(keys_.begin), static_cast<double>(queries_.begin),
                              static_cast<double>(keys_.end), static_cast<double>(queries_.end)}},
                   .fill = Color{220, 60, 40}.with_alpha(0.35),
                   .outline = Color{220, 60, 40},
                   .outline_width = 1.5});
  }

  [[nodiscard]] std::string caption(const QuantityScale& quantity) const {
    std::string text = subject_of(*session_, state_);
    const Index cell = panels_.front().view.cell;
    if (cell == 1)
      text += " Each cell is one pair of tokens.";
    else
      text += fmt::format(" Each cell is the {} of {}×{} pairs, all of them computed.",
                          state_.view.aggregate == Aggregation::mean ? "mean"
                          : map_ == MapKind::difference              ? "value of largest magnitude"
                                                                     : "largest",
                          cell, cell);
    text += fmt::format(" Colours: {}{}.", quantity.words,
                        state_.view.leave_sink_out ? ", the first token left out of the range" : "");
    text += counted_text(counted_, state_.selection);
    if (map_ != MapKind::exact)
      text += " A far cluster's weight is spread over its tokens by their shares (3.3); in float.";
    if (sorted())
      text += fmt::format(
          " Tokens of each block of level {} are sorted by cluster, the others stand where they are{}.",
          level_,
          std::max(panels_.front().pyramid->query_borders().size(),
                   panels_.front().pyramid->key_borders().size()) > kMostBorders &&
                  !state_.view.zoom
              ? "; edges of clusters are too many to draw"
              : "");
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Panel> panels_;
  CountedQueries counted_;
  MapView difference_;
  MapKind map_ = MapKind::exact;
  Places queries_{0, 1}, keys_{0, 1};
  Index level_ = 0;
};

class AttentionView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "attention"; }
  [[nodiscard]] std::string_view title() const override { return "Attention map"; }
  [[nodiscard]] std::string_view help() const override {
    return "attention weights of every pair: exact, approximate or their difference; by position or by "
           "cluster";
  }
  [[nodiscard]] FigureOptions default_size() const override { return {.width = 1000, .height = 900}; }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<AttentionContent>(analysis, state, task);
  }
};

}  // namespace

const View& attention_view() {
  static const AttentionView view;
  return view;
}

}  // namespace muse::viewer
