// Error against cost over settings around the current one.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/view_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr double kReach = 12;  // pixels from the pointer to a point that it hits

std::string time_text(double seconds) {
  return seconds < 1 ? fmt::format("{:.3g} ms", 1e3 * seconds) : fmt::format("{:.3g} s", seconds);
}

class TradeoffContent : public ViewContent {
 public:
  TradeoffContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    Slot slot = state.a();
    for (const Slot& candidate : state.slots)
      if (candidate.method == Method::muse) {
        slot = candidate;
        break;
      }
    trade_ = analysis.trade_off(slot, state.view.grid, state.view.max_error, task);
    // Two methods that are compared are marked where they stand.
    if (state.comparing())
      for (const Slot& compared : state.slots) {
        const auto run = analysis.run(compared, task);
        marks_.push_back({.slot = compared,
                          .error = analysis.query_errors(compared, task)->head.rel_sq_err,
                          .operations = run->total_operations() / run->exact_operations,
                          .seconds = run->seconds});
      }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("Error against {}", cost_name());
    figure.brief_title = by_time() ? "Error against time" : "Error against operations";
    const bool wide = options.width >= 820 * options.ui_scale;
    if (wide) figure.col_weights = {1.9, 1};
    add_points(figure.add(0, 0), selection, options.dark);
    if (wide) add_table(figure.add(0, 1), selection);
    figure.caption = caption();
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const Frame& f = drawn.frames[hit.frame];
    if (f.is_table()) {
      const auto order = by_cost();
      if (const auto row = table_row(f, at, order.size())) point_at(hit, order[*row]);
      return hit;
    }
    const auto& points = trade_->points;
    const auto place_of = [&](Index p) {
      const TradeOffPoint& point = points[static_cast<std::size_t>(p)];
      return Point{cost_of(point), point.error};
    };
    if (const auto p = nearest_point(f, at, std::ssize(points), kReach, place_of))
      point_at(hit, static_cast<std::size_t>(*p));
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.label_name = "setting";
    numbers.columns = {"error", "operations_of_exact", "seconds", "tuned"};
    for (const TradeOffPoint& point : trade_->points) {
      numbers.labels.push_back(slot_word(point.slot));
      numbers.add({point.error, point.operations, point.seconds, point.tuned ? 1.0 : 0.0});
    }
    return numbers;
  }

  [[nodiscard]] std::optional<Slot> setting_of(const Target& target) const override {
    if (!target.point || *target.point >= trade_->points.size()) return std::nullopt;
    return trade_->points[*target.point].slot;
  }

 private:
  [[nodiscard]] bool by_time() const { return state_.view.cost == CostKind::time; }
  [[nodiscard]] bool by_gpu_time() const { return by_time() && trade_->on_gpu; }
  [[nodiscard]] std::string cost_name() const {
    return by_gpu_time() ? "time on the GPU, ms"
           : by_time()   ? "time, of exact attention's"
                         : "operations, of exact attention's";
  }
  // Exact attention is timed on the CPU: a GPU's time is no part of that.
  [[nodiscard]] double cost_of(const TradeOffPoint& point) const {
    return by_gpu_time() ? 1e3 * point.seconds
           : by_time()   ? point.seconds / trade_->exact_seconds
                         : point.operations;
  }

  void point_at(Hit& hit, std::size_t p) const {
    const TradeOffPoint& point = trade_->points[p];
    hit.target.point = p;
    hit.readout = fmt::format("{}: error {} (8.1), operations {:.3g} of exact, {}", slot_word(point.slot),
                              short_number(point.error, 4), point.operations, time_text(point.seconds));
  }

  // Each setting once, cheapest first.
  [[nodiscard]] std::vector<std::size_t> by_cost() const {
    std::vector<std::size_t> order;
    for (std::size_t p = 0; p < trade_->points.size(); ++p)
      if (std::none_of(order.begin(), order.end(), [&](std::size_t other) {
            return trade_->points[other].slot == trade_->points[p].slot && !trade_->points[p].tuned;
          }))
        order.push_back(p);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return cost_of(trade_->points[a]) < cost_of(trade_->points[b]);
    });
    return order;
  }

  void add_points(Axes& axes, const Selection& selection, bool dark) const {
    constexpr std::array<Marker, 5> kMarkers{Marker::circle, Marker::square, Marker::diamond,
                                             Marker::triangle_up, Marker::triangle_down};
    axes.x = {.label = cost_name(), .kind = ScaleKind::log, .grid = true};
    axes.y = {.label = "relative squared error of the head (8.1)",
              .brief = "error (8.1)",
              .kind = ScaleKind::log,
              .grid = true};
    if (state_.view.zoom) {
      axes.x.range = state_.view.zoom->x;
      axes.y.range = state_.view.zoom->y;
    }
    if (!by_gpu_time()) axes.add(Guide{.at = 1, .name = "exact attention"});
    axes.add(Guide{
        .at = trade_->max_error, .vertical = false, .name = fmt::format("bound {}", trade_->max_error)});
    std::vector<std::string> series;
    for (const TradeOffPoint& point : trade_->points)
      if (!point.tuned && std::find(series.begin(), series.end(), point.series) == series.end())
        series.push_back(point.series);
    std::vector<Scatter> scatters;
    for (std::size_t s = 0; s < series.size(); ++s) {
      const bool cloud = series[s] == "all combinations";
      const Color color = cloud ? Theme::make(dark).line : categorical(static_cast<Index>(s));
      std::vector<const TradeOffPoint*> points;
      for (const TradeOffPoint& point : trade_->points)
        if (point.series == series[s]) points.push_back(&point);
      std::stable_sort(points.begin(), points.end(),
                       [&](const auto* a, const auto* b) { return cost_of(*a) < cost_of(*b); });
      Scatter scatter{.label = series[s],
                      .color = color,
                      .marker = kMarkers[s % kMarkers.size()],
                      .size = cloud ? 4.0 : 7.0};
      Line line{.color = color.with_alpha(0.5), .width = 1.2};
      for (const TradeOffPoint* point : points) {
        scatter.x.push_back(cost_of(*point));
        scatter.y.push_back(point->error);
        // All series meet at the current setting: one name is enough there.
        const bool current = point->slot == trade_->points.front().slot;
        scatter.names.push_back(cloud || (current && s > 0) ? "" : point->name);
        line.x.push_back(cost_of(*point));
        line.y.push_back(point->error > 0 ? point->error : std::numeric_limits<double>::quiet_NaN());
      }
      if (!cloud && series[s] != "order") axes.add(std::move(line));
      scatters.push_back(std::move(scatter));
    }
    for (Scatter& scatter : scatters) axes.add(std::move(scatter));
    const auto ring = [&](const TradeOffPoint& point, const char* label, Color color, double size,
                          Marker marker) {
      Scatter mark{.label = label, .color = color, .marker = marker, .size = size};
      mark.x = {cost_of(point)};
      mark.y = {point.error};
      axes.add(std::move(mark));
    };
    const Theme theme = Theme::make(dark);
    for (const TradeOffPoint& point : trade_->points)
      if (point.tuned)
        ring(point, "answer of muse tune", dark ? Color{255, 120, 110} : Color{200, 30, 30}, 12,
             Marker::cross);
    if (marks_.empty()) ring(trade_->points.front(), "current setting", theme.ink, 15, Marker::ring);
    for (std::size_t s = 0; s < marks_.size(); ++s)
      ring(marks_[s], s == 0 ? "A" : "B", slot_color(s, dark), 15, Marker::ring);
    if (const auto& p = selection.shown().point; p && *p < trade_->points.size())
      ring(trade_->points[*p], selection.is_locked() ? "locked" : "", theme.muted, 20, Marker::ring);
  }

  void add_table(Axes& axes, const Selection& selection) const {
    axes.title = "Settings, cheapest first";
    TextTable table{.headings = {"setting", "error", "operations", "time"}};
    table.aligns = {HAlign::left, HAlign::right, HAlign::right, HAlign::right};
    for (const std::size_t p : by_cost()) {
      const TradeOffPoint& point = trade_->points[p];
      table.rows.push_back({.cells = {p == 0        ? "current: " + point.name
                                      : point.tuned ? "tuned"
                                                    : point.name,
                                      short_number(point.error), fmt::format("{:.3g}×", point.operations),
                                      time_text(point.seconds)},
                            .highlighted = selection.shown().point == p});
    }
    axes.table = std::move(table);
  }

  [[nodiscard]] std::string caption() const {
    std::string text = subject_of(*session_, state_);
    text += state_.view.grid == Grid::full
                ? " All combinations of C, r and B, and lines through the current setting."
                : " Lines through the current setting: one parameter changes along each.";
    text +=
        " Operations as counted by muse_attention, of exact attention's in the same mode; time is wall "
        "clock, clustering included, ";
    text +=
        trade_->on_gpu ? "of the GPU without copies; muse tune runs on the CPU." : "on the threads at hand.";
    if (!trade_->left_out.empty()) text += fmt::format(" Left out: {}.", fmt::join(trade_->left_out, "; "));
    if (trade_->points.end() ==
        std::find_if(trade_->points.begin(), trade_->points.end(),
                     [](const TradeOffPoint& p) { return p.slot.config.order == Order::dipole_value; }))
      text += " The order dipole_value is left out: it takes long at this length.";
    if (trade_->tuned_found) {
      const auto tuned =
          std::find_if(trade_->points.begin(), trade_->points.end(), [](const auto& p) { return p.tuned; });
      text += fmt::format(" muse tune, asked for an error of at most {} on the first {} tokens, answers {}.",
                          trade_->max_error, trade_->tuned_tokens, slot_word(tuned->slot));
    } else {
      text += fmt::format(" muse tune found no setting with an error of at most {} on the first {} tokens.",
                          trade_->max_error, trade_->tuned_tokens);
    }
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::shared_ptr<const TradeOff> trade_;
  std::vector<TradeOffPoint> marks_;
};

class TradeoffView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "tradeoff"; }
  [[nodiscard]] std::string_view title() const override { return "Trade-off"; }
  [[nodiscard]] std::string_view help() const override {
    return "error against operations or time over C, r, B and the order, with the answer of muse tune";
  }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<TradeoffContent>(analysis, state, task);
  }
};

}  // namespace

const View& tradeoff_view() {
  static const TradeoffView view;
  return view;
}

}  // namespace muse::viewer
