// The error of each (query cluster, key cluster) of one block, worst clusters first.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "views/error_parts.h"

namespace muse::viewer {
namespace {

using namespace render;

using Pair = std::pair<Index, Index>;  // query cluster, key cluster

// One slot's pairs, with clusters in the order in which they are drawn.
struct Panel {
  Slot slot;
  std::shared_ptr<const PairErrors> errors;
  std::vector<Index> rows, cols;  // clusters that have tokens, by falling sum of what is shown
};

std::vector<Index> worst_first(const std::vector<double>& sums, const std::vector<Index>& sizes) {
  std::vector<Index> order;
  for (std::size_t c = 0; c < sums.size(); ++c)
    if (sizes[c] > 0) order.push_back(static_cast<Index>(c));
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) {
    return sums[static_cast<std::size_t>(a)] > sums[static_cast<std::size_t>(b)];
  });
  return order;
}

class PairErrorContent : public ViewContent {
 public:
  PairErrorContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) {
      const Block block = block_in_focus(*session_, slot, state.view, state.selection);
      Panel panel{.slot = slot, .errors = analysis.pair_errors(slot, block, task, counted_)};
      std::vector<double> row_sums(static_cast<std::size_t>(panel.errors->Cq)),
          col_sums(static_cast<std::size_t>(panel.errors->Ck));
      for (Index i = 0; i < panel.errors->Cq; ++i)
        for (Index j = 0; j < panel.errors->Ck; ++j) {
          const double value = std::abs(panel.errors->at(i, j).by(metric()));
          row_sums[static_cast<std::size_t>(i)] += value;
          col_sums[static_cast<std::size_t>(j)] += value;
        }
      panel.rows = worst_first(row_sums, panel.errors->sizes_q);
      panel.cols = worst_first(col_sums, panel.errors->sizes_k);
      head_error_.push_back(analysis.query_errors(slot, task)->head.rel_sq_err);
      panels_.push_back(std::move(panel));
    }
    worst_ = find_worst();
    if (panels_.size() == 2 && panels_[0].errors->block == panels_[1].errors->block &&
        panels_[0].slot.head == panels_[1].slot.head) {
      const auto a = analysis.run(panels_[0].slot, task), b = analysis.run(panels_[1].slot, task);
      same_clusters_ = a->labels_q.values == b->labels_q.values && a->labels_k.values == b->labels_k.values;
    }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("Error of each pair of clusters: {}", part_error_formula(metric()));
    figure.brief_title = "Error of each pair of clusters";
    // The table has room beside the maps, or is left out: the numbers have all pairs.
    const auto maps = static_cast<double>(panels_.size() + (same_clusters() ? 1 : 0));
    const bool wide = options.width >= (480 * maps + 280) * options.ui_scale;
    std::vector<float> all;
    for (const Panel& panel : panels_)
      for (const float value : matrix_of(panel).values) all.push_back(value);
    const QuantityScale quantity =
        quantity_scale(std::span<const float>(all), is_signed(metric()), state_.view);
    int col = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s)
      add_map(figure.add(0, col++), panels_[s], matrix_of(panels_[s]), quantity,
              panels_.size() == 1 ? ""
              : s == 0            ? "A"
                                  : "B",
              s + 1 == panels_.size() ? quantity_name() : "", selection, options.dark);
    if (same_clusters()) {
      const PairErrors& b = *panels_[1].errors;
      render::Matrix difference = matrix_of(panels_[0]);
      std::size_t cell = 0;
      for (const Index i : panels_[0].rows)
        for (const Index j : panels_[0].cols) difference.values[cell++] -= value_of(b.at(i, j));
      const QuantityScale signed_scale =
          difference_scale(std::span<const float>(difference.values), state_.view);
      Axes& axes = figure.add(0, col++);
      add_map(axes, panels_[0], std::move(difference), signed_scale, "A − B", "difference", selection,
              options.dark);
    }
    if (wide) {
      figure.col_weights.assign(static_cast<std::size_t>(col), 1.15);
      figure.col_weights.push_back(1.0);
      add_table(figure.add(0, col), selection);
    }
    figure.caption = caption(quantity);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const Frame& f = drawn.frames[hit.frame];
    const std::size_t maps = panels_.size() + (same_clusters() ? 1 : 0);
    if (hit.frame >= maps) {
      if (const auto row = table_row(f, at, worst_.size())) {
        const auto [i, j] = worst_[*row];
        const Panel& panel = panels_.front();
        point_at(hit, panel, {i, j});
        hit.zoom = Zoom{around(panel.cols, j), around(panel.rows, i)};
      }
      constexpr std::array<const char*, 8> kWords{"position", "position", "",     "",
                                                  "error",    "mass",     "mass", "bias"};
      hit.option = heading_option(f, at, kWords);
      return hit;
    }
    const Panel& panel = panels_[hit.frame < panels_.size() ? hit.frame : 0];
    const auto row = static_cast<Index>(std::floor(f.y.to_value(at.y)));
    const auto column = static_cast<Index>(std::floor(f.x.to_value(at.x)));
    if (row < 0 || row >= std::ssize(panel.rows) || column < 0 || column >= std::ssize(panel.cols))
      return hit;
    point_at(hit, panel,
             {panel.rows[static_cast<std::size_t>(row)], panel.cols[static_cast<std::size_t>(column)]});
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {"slot", "query_cluster", "key_cluster", "queries", "keys", "retrieved"};
    numbers.columns.insert(numbers.columns.end(), kPartColumns.begin(), kPartColumns.end());
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const PairErrors& errors = *panels_[s].errors;
      for (const Index i : panels_[s].rows)
        for (const Index j : panels_[s].cols) {
          numbers.add({static_cast<double>(s), static_cast<double>(i), static_cast<double>(j),
                       static_cast<double>(errors.sizes_q[static_cast<std::size_t>(i)]),
                       static_cast<double>(errors.sizes_k[static_cast<std::size_t>(j)]),
                       static_cast<double>(errors.retrieved[static_cast<std::size_t>(i * errors.Ck + j)])});
          add_part(numbers, errors.at(i, j));
        }
    }
    return numbers;
  }

 private:
  [[nodiscard]] ErrorMetric metric() const { return state_.view.error_metric(); }

  // What a cell shows; nothing where the selected range leaves nothing of it.
  [[nodiscard]] float value_of(const PartError& pair) const {
    return part_counts(pair, ErrorPer::pair, state_) ? static_cast<float>(pair.by(metric()))
                                                     : std::numeric_limits<float>::quiet_NaN();
  }

  [[nodiscard]] render::Matrix matrix_of(const Panel& panel) const {
    render::Matrix matrix{std::ssize(panel.rows), std::ssize(panel.cols), {}};
    for (const Index i : panel.rows)
      for (const Index j : panel.cols) matrix.values.push_back(value_of(panel.errors->at(i, j)));
    return matrix;
  }

  void add_map(Axes& axes, const Panel& panel, render::Matrix matrix, const QuantityScale& quantity,
               const std::string& title, const std::string& bar_label, const Selection& selection,
               bool dark) const {
    const Block& block = panel.errors->block;
    axes.title = title;
    Heatmap map{.matrix = std::move(matrix), .colormap = quantity.colormap, .scale = quantity.scale};
    map.aggregate = quantity.scale.range().low < 0 ? Aggregate::max_magnitude : Aggregate::max;
    map.numbers = state_.view.numbers;
    map.extent = {0, 0, static_cast<double>(map.matrix.cols), static_cast<double>(map.matrix.rows)};
    const auto axis_of = [&](const char* what, const std::vector<Index>& order, Index begin, Index end) {
      Axis axis{.label = fmt::format("{} of tokens {}, worst first", what, span_text(begin, end)),
                .brief = fmt::format("{}, worst first", what),
                .range = Range{0, static_cast<double>(order.size())}};
      axis.ticks.emplace();
      for (std::size_t place = 0; place < order.size(); ++place)
        axis.ticks->push_back({static_cast<double>(place) + 0.5, fmt::format("{}", order[place]), true});
      return axis;
    };
    axes.x = axis_of("key cluster j", panel.cols, block.key_begin, block.key_end);
    axes.y = axis_of("query cluster i", panel.rows, block.query_begin, block.query_end);
    axes.y.reversed = true;
    if (state_.view.zoom) {
      axes.x.range = state_.view.zoom->x;
      axes.y.range = state_.view.zoom->y;
    }
    if (!bar_label.empty()) {
      axes.color_bar = color_bar_of(map, bar_label);
      axes.color_bar->brief = name_of(metric());
    }
    axes.add(std::move(map));
    Rects retrieved{.label = "retrieved (5.1)", .outline = dark ? Color{255, 255, 255} : Color{210, 40, 40}};
    for (std::size_t row = 0; row < panel.rows.size(); ++row)
      for (std::size_t column = 0; column < panel.cols.size(); ++column)
        if (panel.errors->retrieved[static_cast<std::size_t>(panel.rows[row] * panel.errors->Ck +
                                                             panel.cols[column])] != 0)
          retrieved.boxes.push_back({static_cast<double>(column), static_cast<double>(row),
                                     static_cast<double>(column + 1), static_cast<double>(row + 1)});
    if (!retrieved.boxes.empty()) axes.add(std::move(retrieved));
    const auto guide = [&](const std::vector<Index>& order, Index cluster, bool vertical, const char* name) {
      const auto place = std::find(order.begin(), order.end(), cluster);
      if (place != order.end())
        axes.add(Guide{.at = static_cast<double>(place - order.begin()) + 0.5,
                       .vertical = vertical,
                       .name = fmt::format("{} {}", name, cluster)});
    };
    if (selection.shown().query_cluster) guide(panel.rows, *selection.shown().query_cluster, false, "i");
    if (selection.shown().key_cluster) guide(panel.cols, *selection.shown().key_cluster, true, "j");
  }

  [[nodiscard]] std::string quantity_name() const {
    switch (metric()) {
      case ErrorMetric::value:
        return "mean mass";
      case ErrorMetric::signed_difference:
        return "share of the head's error";
      case ErrorMetric::absolute:
        return "absolute error (output units)";
      case ErrorMetric::squared:
        return "squared error (output units²)";
      case ErrorMetric::relative:
        break;
    }
    return "relative squared error";
  }

  // Whether A and B have the same clusters: then their pairs can be subtracted.
  [[nodiscard]] bool same_clusters() const { return same_clusters_; }

  // Some clusters on either side of one.
  [[nodiscard]] static Range around(const std::vector<Index>& order, Index cluster) {
    constexpr double kSide = 8;
    const auto place = static_cast<double>(std::find(order.begin(), order.end(), cluster) - order.begin());
    return {std::max(0.0, place - kSide), std::min(static_cast<double>(order.size()), place + kSide + 1)};
  }

  // What the table is sorted by.
  [[nodiscard]] double key_of(const PartError& pair) const {
    if (state_.view.table_sort == TableSort::mass) return pair.exact_mass;
    if (state_.view.table_sort == TableSort::bias) return std::abs(pair.lse_bias);
    return std::abs(pair.by(metric()));
  }

  [[nodiscard]] std::vector<Pair> find_worst() const {
    const Panel& panel = panels_.front();
    std::vector<std::pair<double, Pair>> pairs;
    for (const Index i : panel.rows)
      for (const Index j : panel.cols)
        if (part_counts(panel.errors->at(i, j), ErrorPer::pair, state_))
          pairs.push_back({-key_of(panel.errors->at(i, j)), {i, j}});
    const auto most = std::min(pairs.size(), static_cast<std::size_t>(state_.view.top));
    std::partial_sort(pairs.begin(), pairs.begin() + static_cast<std::ptrdiff_t>(most), pairs.end());
    std::vector<Pair> worst;
    for (std::size_t p = 0; p < most; ++p) worst.push_back(pairs[p].second);
    if (state_.view.table_sort == TableSort::position) std::sort(worst.begin(), worst.end());
    return worst;
  }

  void point_at(Hit& hit, const Panel& panel, const Pair& pair) const {
    const auto [i, j] = pair;
    const PartError& error = panel.errors->at(i, j);
    hit.target = {.block = panel.errors->block, .query_cluster = i, .key_cluster = j};
    hit.readout = fmt::format(
        "query cluster {} ({} queries), key cluster {} ({} keys): {} {}, exact mass {}, approximate {}", i,
        panel.errors->sizes_q[static_cast<std::size_t>(i)], j,
        panel.errors->sizes_k[static_cast<std::size_t>(j)], name_of(metric()),
        short_number(error.by(metric()), 4), short_number(error.exact_mass, 4), short_number(error.mass, 4));
  }

  void add_table(Axes& axes, const Selection& selection) const {
    const Panel& panel = panels_.front();
    axes.title = panels_.size() > 1 ? "Worst pairs of A" : "Worst pairs";
    TextTable table{
        .headings = {"i", "j", "queries", "keys", std::string(name_of(metric())), "mass", "ŵ", "bias"}};
    table.aligns.assign(table.headings.size(), HAlign::right);
    for (const auto& [i, j] : worst_) {
      const PartError& error = panel.errors->at(i, j);
      table.rows.push_back(
          {.cells = {fmt::format("{}", i), fmt::format("{}", j),
                     fmt::format("{}", panel.errors->sizes_q[static_cast<std::size_t>(i)]),
                     fmt::format("{}", panel.errors->sizes_k[static_cast<std::size_t>(j)]),
                     short_number(error.by(metric())), short_number(error.exact_mass),
                     short_number(error.mass), short_number(error.lse_bias)},
           .highlighted = selection.shown().query_cluster == i && selection.shown().key_cluster == j});
    }
    axes.table = std::move(table);
  }

  [[nodiscard]] std::string caption(const QuantityScale& quantity) const {
    std::string text = subject_of(*session_, state_);
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const PairErrors& errors = *panels_[s].errors;
      double share = 0;
      for (const PartError& pair : errors.pairs) share += pair.share;
      text += fmt::format(
          " {}Level {}, queries {} against keys {}: {} query and {} key clusters with tokens; their pairs "
          "bear {} of "
          "the head's error {} (8.6), (8.1).",
          panels_.size() > 1 ? (s == 0 ? "A: " : "B: ") : "", errors.block.level,
          span_text(errors.block.query_begin, errors.block.query_end),
          span_text(errors.block.key_begin, errors.block.key_end), panels_[s].rows.size(),
          panels_[s].cols.size(), short_number(share, 4), short_number(head_error_[s], 4));
    }
    if (same_clusters()) text += " A − B: below zero A errs less.";
    text += counted_text(counted_, state_.selection) + counted_parts_text(ErrorPer::pair, state_.selection);
    return text + fmt::format(
                      " Colours: {}. mass: mean exact weight; ŵ: as approximated; bias: mean ℓ − exact "
                      "log-mass (nats).",
                      quantity.words);
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Panel> panels_;
  std::vector<Pair> worst_;  // of the first slot, as the table has them
  bool same_clusters_ = false;
  std::vector<double> head_error_;
  CountedQueries counted_;
};

}  // namespace

std::shared_ptr<const ViewContent> pair_error_content(Analysis& analysis, const ViewState& state,
                                                      Task& task) {
  return std::make_shared<PairErrorContent>(analysis, state, task);
}

}  // namespace muse::viewer
