// The weights of one query along the keys, exact and by each order, and how its mass adds up.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/view_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr Index kMostPoints = 700;

class ProfileContent : public ViewContent {
 public:
  ProfileContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    Index query = 0;
    if (const auto& selected = state.selection.shown().query) {
      query = *selected;
    } else {
      chosen_ = true;
      const auto errors = analysis.query_errors(state.a(), task);
      double worst = -1;
      for (Index n = 0; n < std::ssize(errors->relative); ++n)
        if (const double error = errors->relative[static_cast<std::size_t>(n)];
            counted_.holds(n) && error > worst) {
          worst = error;
          query = n;
        }
    }
    counts_ = counted_.holds(query);
    for (const Slot& slot : state.slots)
      profiles_.push_back(analysis.profile(slot, std::min(query, queries_of(*session_, slot) - 1), task));
    first_ = 0;
    last_ = front().keys;
    if (const auto& zoom = state.view.zoom) {
      first_ = std::clamp<Index>(static_cast<Index>(zoom->x.low), 0, last_ - 1);
      last_ = std::clamp<Index>(static_cast<Index>(std::ceil(zoom->x.high)), first_ + 1, last_);
    }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("Query {}{}: its weights along the keys", token_name(*session_, front().query),
                               counts_ ? "" : ", outside of the selected range");
    figure.brief_title = fmt::format("Weights of query {}", front().query);
    figure.row_weights = {1, 0.55};
    add_weights(figure.add(0, 0), selection, options.dark);
    if (options.height >= 380 * options.ui_scale) add_cumulative(figure.add(1, 0), options.dark);
    figure.caption = caption();
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    // The key of largest exact weight among those of the point.
    const double x = drawn.frames[hit.frame].x.to_value(at.x);
    for (const auto& [begin, end] : points()) {
      if (x < static_cast<double>(begin) || x >= static_cast<double>(end)) continue;
      const auto& exact = front().exact;
      const Index key = std::max_element(exact.begin() + begin, exact.begin() + end) - exact.begin();
      hit.target.query = front().query;
      hit.target.key = key;
      hit.readout = fmt::format("key {}: exact {}", token_name(*session_, key),
                                short_number(exact[static_cast<std::size_t>(key)], 4));
      for (const auto& of : front().orders)
        hit.readout +=
            fmt::format(", {} {}", of.name, short_number(of.weights[static_cast<std::size_t>(key)], 4));
    }
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {"key", "exact"};
    for (std::size_t s = 0; s < profiles_.size(); ++s)
      for (const auto& of : profiles_[s]->orders)
        numbers.columns.push_back(profiles_.size() > 1 ? fmt::format("{} {}", s == 0 ? "A" : "B", of.name)
                                                       : of.name);
    numbers.columns.emplace_back("retrieved");
    for (Index n = first_; n < last_; ++n) {
      const auto i = static_cast<std::size_t>(n);
      numbers.add({static_cast<double>(n), front().exact[i]});
      for (const auto& profile : profiles_)
        for (const auto& of : profile->orders)
          numbers.add({i < of.weights.size() ? of.weights[i] : std::numeric_limits<double>::quiet_NaN()});
      numbers.add({std::binary_search(front().retrieved.begin(), front().retrieved.end(), n) ? 1.0 : 0.0});
    }
    return numbers;
  }

 private:
  [[nodiscard]] const QueryProfile& front() const { return *profiles_.front(); }

  // Keys that share a point of the lines.
  [[nodiscard]] std::vector<std::pair<Index, Index>> points() const {
    const Index count = std::min(kMostPoints, last_ - first_);
    std::vector<std::pair<Index, Index>> result;
    for (Index p = 0; p < count; ++p)
      result.emplace_back(first_ + p * (last_ - first_) / count, first_ + (p + 1) * (last_ - first_) / count);
    return result;
  }

  [[nodiscard]] Line line_of(const std::vector<double>& weights) const {
    Line line;
    for (const auto& [begin, end] : points()) {
      line.x.push_back(0.5 * static_cast<double>(begin + end));
      line.y.push_back(*std::max_element(weights.begin() + begin, weights.begin() + end));
    }
    return line;
  }

  [[nodiscard]] Axis key_axis() const {
    return {.label = "key position (tokens)",
            .brief = "key",
            .range = Range{static_cast<double>(first_), static_cast<double>(last_)},
            .tick_style = TickStyle::tokens};
  }

  // Where each part of the sum begins.
  void add_blocks(Axes& axes, bool named) const {
    for (const Block& block : front().blocks) axes.add(Guide{.at = static_cast<double>(block.key_begin)});
    if (!named) return;
    // Names at two heights, so that those of narrow blocks keep apart.
    const Scale scale(axes.y.kind, *axes.y.range);
    std::vector<Block> blocks = front().blocks;
    std::sort(blocks.begin(), blocks.end(),
              [](const Block& a, const Block& b) { return a.key_begin < b.key_begin; });
    bool low = false;
    for (const Block& block : blocks) {
      const double begin = std::max(static_cast<double>(block.key_begin), static_cast<double>(first_));
      const double end = std::min(static_cast<double>(block.key_end), static_cast<double>(last_));
      if (begin >= end) continue;
      axes.add(Annotation{.x = 0.5 * (begin + end),
                          .y = scale.from_unit(low ? 0.92 : 0.985),
                          .text = block.level < 0 ? "diagonal, exact" : fmt::format("level {}", block.level),
                          .h = HAlign::center,
                          .v = VAlign::top});
      low = !low;
    }
  }

  // What is drawn of each slot: all orders of one, the current one of two.
  [[nodiscard]] bool shown(std::size_t slot, Index order) const {
    return profiles_.size() == 1 || order == profiles_[slot]->current;
  }
  [[nodiscard]] Color color_of(std::size_t slot, Index order, bool dark) const {
    if (profiles_.size() > 1) return slot_color(slot, dark);
    if (front().orders.size() == 1) return slot_color(0, dark);
    constexpr std::array<Color, 5> kLight{
        {{196, 88, 0}, {150, 60, 170}, {0, 94, 184}, {0, 128, 96}, {190, 20, 60}}};
    constexpr std::array<Color, 5> kDark{
        {{255, 166, 77}, {206, 140, 230}, {102, 178, 255}, {70, 204, 160}, {255, 110, 130}}};
    return (dark ? kDark : kLight).at(static_cast<std::size_t>(order));
  }

  [[nodiscard]] std::string name_of_line(std::size_t slot, const QueryProfile::Approximate& of) const {
    const std::string who = profiles_.size() > 1 ? (slot == 0 ? "A: " : "B: ") : "";
    return fmt::format("{}{}, error {} (8.4)", who, of.name, short_number(of.rel_sq_err));
  }

  void add_weights(Axes& axes, const Selection& selection, bool dark) const {
    axes.x = key_axis();
    axes.y = {
        .label = last_ - first_ > kMostPoints ? "largest weight of the keys of a point" : "attention weight",
        .brief = last_ - first_ > kMostPoints ? "largest weight" : "weight",
        .kind = state_.view.scale.value_or(ScaleKind::log),
        .grid = true};
    std::vector<double> values;
    for (Index n = first_; n < last_; ++n)
      if (!state_.view.leave_sink_out || n != 0) values.push_back(front().exact[static_cast<std::size_t>(n)]);
    const double largest = *std::max_element(values.begin(), values.end());
    const QuantityScale quantity = quantity_scale(std::span<const double>(values), false, state_.view);
    axes.y.kind = quantity.scale.kind();
    axes.y.range = padded(quantity.scale.range(), axes.y.kind, 0.05);
    // What the points show decides, not the least of all keys.
    double least = largest;
    for (const double y : line_of(front().exact).y)
      if (y > 0) least = std::min(least, y);
    if (axes.y.kind == ScaleKind::log && state_.view.range == RangeRule{})
      axes.y.range = Range{std::max(least / 8, largest * 1e-8), largest * 6};
    if (state_.view.zoom) axes.y.range = state_.view.zoom->y;
    add_blocks(axes, true);
    Line exact = line_of(front().exact);
    exact.label = "exact (1.1)";
    exact.color = Theme::make(dark).ink;
    exact.width = 2.2;
    axes.add(std::move(exact));
    for (std::size_t s = 0; s < profiles_.size(); ++s)
      for (Index o = 0; o < std::ssize(profiles_[s]->orders); ++o) {
        if (!shown(s, o)) continue;
        const auto& of = profiles_[s]->orders[static_cast<std::size_t>(o)];
        const bool current = o == profiles_[s]->current;
        Line line = line_of(of.weights);
        line.label = name_of_line(s, of);
        line.color = color_of(s, o, dark);
        line.width = current ? 1.6 : 1;
        if (!current) line.dashes = {4, 3};
        axes.add(std::move(line));
      }
    const Scale scale(axes.y.kind, *axes.y.range);
    Rects retrieved{.label = fmt::format("{} retrieved tokens (5.1)", front().retrieved.size()),
                    .fill = dark ? Color{255, 120, 110} : Color{200, 30, 30}};
    for (const Index n : front().retrieved)
      if (n >= first_ && n < last_)
        retrieved.boxes.push_back(
            {static_cast<double>(n), scale.from_unit(0), static_cast<double>(n + 1), scale.from_unit(0.03)});
    if (!retrieved.boxes.empty()) axes.add(std::move(retrieved));
    if (const auto& key = selection.shown().key; key && *key >= first_ && *key < last_)
      axes.add(Guide{.at = static_cast<double>(*key) + 0.5,
                     .name = fmt::format("key {}", token_name(*session_, *key))});
  }

  void add_cumulative(Axes& axes, bool dark) const {
    axes.title = "Cumulative mass, from the first key on";
    axes.x = key_axis();
    axes.y = {.label = "share of the mass", .brief = "share", .range = Range{0, 1.02}, .grid = true};
    add_blocks(axes, false);
    const auto cumulative = [&](const std::vector<double>& weights) {
      std::vector<double> sums;
      double sum = 0;
      for (const double weight : weights) sums.push_back(sum += weight);
      Line line;
      for (const auto& [begin, end] : points()) {
        line.x.push_back(static_cast<double>(end));
        line.y.push_back(sums[static_cast<std::size_t>(end - 1)]);
      }
      return line;
    };
    Line exact = cumulative(front().exact);
    exact.color = Theme::make(dark).ink;
    exact.width = 2.2;
    axes.add(std::move(exact));
    for (std::size_t s = 0; s < profiles_.size(); ++s)
      for (Index o = 0; o < std::ssize(profiles_[s]->orders); ++o) {
        if (!shown(s, o)) continue;
        Line line = cumulative(profiles_[s]->orders[static_cast<std::size_t>(o)].weights);
        line.color = color_of(s, o, dark);
        const bool current = o == profiles_[s]->current;
        line.width = current ? 1.6 : 1;
        if (!current) line.dashes = {4, 3};
        axes.add(std::move(line));
      }
  }

  [[nodiscard]] std::string caption() const {
    std::string text = subject_of(*session_, state_);
    if (chosen_)
      text += fmt::format(" No query is selected: this is the one of largest error (8.4) of A{}.",
                          counted_.all() ? "" : " among those that count");
    text += counted_text(counted_, state_.selection);
    const Index shown_keys = last_ - first_;
    if (shown_keys > kMostPoints)
      text += fmt::format(
          " Each point of a line stands for {} to {} keys and shows the largest weight; the cumulative "
          "mass counts all.",
          shown_keys / kMostPoints, (shown_keys + kMostPoints - 1) / kMostPoints);
    text += fmt::format(" Keys {} of {} that the query sees.", span_text(first_, last_), front().keys);
    if (!front().orders.empty())
      text +=
          " A cluster's weight is spread over its tokens by their shares (3.3), (4.3); weights of the same "
          "labels "
          "in all orders; in double.";
    if (profiles_.size() == 1 && front().orders.size() > 1)
      text += fmt::format(" Solid: the current order, {}.",
                          front().orders[static_cast<std::size_t>(front().current)].name);
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<std::shared_ptr<const QueryProfile>> profiles_;
  CountedQueries counted_;
  bool chosen_ = false;  // by its error, not by a person
  bool counts_ = true;   // lies in the range selected in the histogram
  Index first_ = 0, last_ = 0;
};

class ProfileView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "profile"; }
  [[nodiscard]] std::string_view title() const override { return "Profile"; }
  [[nodiscard]] std::string_view help() const override {
    return "weights of the selected query along the keys, exact and by each order, and its cumulative mass";
  }
  [[nodiscard]] bool follows_selection() const override { return true; }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<ProfileContent>(analysis, state, task);
  }
};

}  // namespace

const View& profile_view() {
  static const ProfileView view;
  return view;
}

}  // namespace muse::viewer
