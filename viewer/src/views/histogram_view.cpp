// How the current error is distributed over queries, pairs of clusters or blocks.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "views/view_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

class HistogramContent : public ViewContent {
 public:
  HistogramContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    const ErrorMetric metric = state.view.error_metric();
    // What a range of queries leaves of pairs and blocks; queries stay, to select another range of them.
    if (state.view.per != ErrorPer::query) counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) {
      std::vector<double> values;
      switch (state.view.per) {
        case ErrorPer::query:
          values = analysis.query_errors(slot, task)->by(metric);
          break;
        case ErrorPer::pair: {
          const Block block = block_in_focus(*session_, slot, state.view, state.selection);
          const auto errors = analysis.pair_errors(slot, block, task, counted_);
          for (const PartError& pair : errors->pairs)
            if (pair.queries > 0) values.push_back(pair.by(metric));
          break;
        }
        case ErrorPer::block:
          for (const BlockPart& part : analysis.block_parts(slot, task, counted_)->blocks)
            if (part.block.level >= 0 && part.error.queries > 0) values.push_back(part.error.by(metric));
          break;
      }
      values_.push_back(std::move(values));
    }
    std::vector<double> all;
    for (const auto& values : values_) all.insert(all.end(), values.begin(), values.end());
    quantity_ = quantity_scale(std::span<const double>(all), is_signed(metric), state.view);
    if (state.view.zoom) quantity_.scale = Scale(quantity_.scale.kind(), state.view.zoom->x);
    for (std::int64_t b = 0; b <= state.view.bins; ++b)
      edges_.push_back(
          quantity_.scale.from_unit(static_cast<double>(b) / static_cast<double>(state.view.bins)));
    for (const auto& values : values_) {
      Counts counts{.bins = std::vector<double>(static_cast<std::size_t>(state.view.bins), 0)};
      for (const double value : values) {
        const double position = quantity_.scale.to_unit(value);
        if (value == 0) ++counts.zeros;
        // The last bin holds its upper edge.
        if (std::isnan(position))
          ++counts.missing;
        else if (position < -1e-9)
          ++counts.below;
        else if (position > 1 + 1e-9)
          ++counts.above;
        else
          counts.bins[static_cast<std::size_t>(
              std::clamp<double>(std::floor(position * static_cast<double>(state.view.bins)), 0,
                                 static_cast<double>(state.view.bins - 1)))] += 1;
      }
      counts_.push_back(std::move(counts));
    }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("How many {} err how much: {}", things(), formula());
    figure.brief_title = fmt::format("How many {} err how much", things());
    Axes& axes = figure.add();
    axes.x = {.label = formula(),
              .brief = std::string(name_of(state_.view.error_metric())),
              .kind = quantity_.scale.kind(),
              .range = quantity_.scale.range()};
    axes.y = {.label = fmt::format("{} in a bin", things()),
              .kind = state_.view.log_counts ? ScaleKind::log : ScaleKind::linear,
              .grid = true};
    double most = 1;
    for (const Counts& counts : counts_)
      most = std::max(most, *std::max_element(counts.bins.begin(), counts.bins.end()));
    axes.y.range = state_.view.log_counts ? Range{0.7, 1.5 * most} : Range{0, 1.06 * most};
    if (state_.view.zoom) axes.y.range = state_.view.zoom->y;
    const Theme theme = Theme::make(options.dark);
    if (selection.filter && selection.filter->per == state_.view.per) {
      const Range y = *axes.y.range;
      axes.add(Rects{.boxes = {{std::max(selection.filter->low, edges_.front()), y.low,
                                std::min(selection.filter->high, edges_.back()), y.high}},
                     .label = "range that filters the other views",
                     .fill = theme.line.with_alpha(0.25),
                     .outline = theme.muted});
    }
    axes.add(Bars{.edges = edges_,
                  .heights = counts_[0].bins,
                  .label = counts_.size() > 1 ? "A" : "",
                  .color = slot_color(0, options.dark).with_alpha(0.85),
                  .base = 0});
    if (counts_.size() > 1) {
      Line steps{.label = "B", .color = slot_color(1, options.dark), .width = 1.8, .steps = true};
      for (std::size_t b = 0; b + 1 < edges_.size(); ++b) {
        steps.x.push_back(edges_[b]);
        steps.y.push_back(state_.view.log_counts ? std::max(0.7, counts_[1].bins[b]) : counts_[1].bins[b]);
      }
      steps.x.push_back(edges_.back());
      steps.y.push_back(steps.y.back());
      axes.add(std::move(steps));
    }
    for (std::size_t s = 0; s < values_.size(); ++s) {
      const double middle = median(values_[s]);
      if (middle >= edges_.front() && middle <= edges_.back())
        axes.add(Guide{.at = middle,
                       .name = fmt::format("median{} {}", values_.size() > 1 ? (s == 0 ? " A" : " B") : "",
                                           short_number(middle))});
    }
    if (const auto& query = selection.shown().query;
        query && state_.view.per == ErrorPer::query && *query < std::ssize(values_[0])) {
      const double value = values_[0][static_cast<std::size_t>(*query)];
      if (value >= edges_.front() && value <= edges_.back())
        axes.add(
            Guide{.at = value,
                  .name = fmt::format("query {}: {}", token_name(*session_, *query), short_number(value))});
    }
    figure.caption = caption(selection);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const double position = quantity_.scale.to_unit(drawn.frames[0].x.to_value(at.x));
    const auto bin =
        static_cast<std::ptrdiff_t>(std::floor(position * static_cast<double>(state_.view.bins)));
    if (bin < 0 || bin >= state_.view.bins) return hit;
    const auto b = static_cast<std::size_t>(bin);
    hit.readout = fmt::format("{} to {}:", short_number(edges_[b], 4), short_number(edges_[b + 1], 4));
    for (std::size_t s = 0; s < counts_.size(); ++s)
      hit.readout += fmt::format("{} {} {}", counts_.size() > 1 ? (s == 0 ? " A" : ", B") : "",
                                 counts_[s].bins[b], things());
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {"low", "high", "count"};
    if (counts_.size() > 1) numbers.columns = {"low", "high", "count A", "count B"};
    for (std::size_t b = 0; b + 1 < edges_.size(); ++b) {
      numbers.add({edges_[b], edges_[b + 1]});
      for (const Counts& counts : counts_) numbers.add({counts.bins[b]});
    }
    return numbers;
  }

 private:
  struct Counts {
    std::vector<double> bins;
    Index zeros = 0, missing = 0, below = 0, above = 0;
  };

  static double median(std::vector<double> values) {
    std::erase_if(values, [](double v) { return !std::isfinite(v); });
    if (values.empty()) return 0;
    const auto middle = values.begin() + std::ssize(values) / 2;
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
  }

  [[nodiscard]] std::string things() const {
    switch (state_.view.per) {
      case ErrorPer::pair:
        return "pairs of clusters";
      case ErrorPer::block:
        return "far blocks";
      case ErrorPer::query:
        break;
    }
    return "queries";
  }
  [[nodiscard]] std::string formula() const {
    return state_.view.per == ErrorPer::query ? query_error_formula(state_.view.error_metric())
                                              : part_error_formula(state_.view.error_metric());
  }

  [[nodiscard]] std::string caption(const Selection& selection) const {
    std::string text = subject_of(*session_, state_);
    text += fmt::format(" {} equal bins on a {}; counts on a {} scale.", state_.view.bins, quantity_.words,
                        state_.view.log_counts ? "log" : "linear");
    for (std::size_t s = 0; s < counts_.size(); ++s) {
      const Counts& counts = counts_[s];
      text += fmt::format(" {}{} {}", counts_.size() > 1 ? (s == 0 ? "A: " : "B: ") : "", values_[s].size(),
                          things());
      if (counts.zeros > 0) text += fmt::format(", {} of them without any error (exactly 0)", counts.zeros);
      // On a log scale zeros are below everything.
      const Index below = counts.below;
      if (below > 0)
        text += fmt::format(
            ", {} below the range{}", below,
            quantity_.scale.kind() == ScaleKind::log && counts.zeros > 0 ? " (zeros included)" : "");
      if (counts.above > 0) text += fmt::format(", {} above", counts.above);
      if (counts.missing > 0) text += fmt::format(", {} not finite", counts.missing);
      text += ".";
    }
    text += counted_text(counted_, state_.selection);
    if (selection.filter && selection.filter->per == state_.view.per) {
      const Index inside = std::count_if(values_[0].begin(), values_[0].end(),
                                         [&](double v) { return selection.filter->holds(v); });
      text += fmt::format(" {} of A lie in the range {} to {}.", inside, short_number(selection.filter->low),
                          short_number(selection.filter->high));
    }
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<std::vector<double>> values_;
  CountedQueries counted_;
  QuantityScale quantity_;
  std::vector<double> edges_;
  std::vector<Counts> counts_;
};

class HistogramView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "histogram"; }
  [[nodiscard]] std::string_view title() const override { return "Histogram"; }
  [[nodiscard]] std::string_view help() const override {
    return "how many queries, pairs of clusters or blocks err how much; a drag selects a range for the other "
           "views";
  }
  [[nodiscard]] FigureOptions default_size() const override { return {.width = 1000, .height = 560}; }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<HistogramContent>(analysis, state, task);
  }
};

}  // namespace

const View& histogram_view() {
  static const HistogramView view;
  return view;
}

}  // namespace muse::viewer
