// k-means pass by pass: where tokens and centroids go.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "muse/check.h"
#include "views/block_parts_axes.h"
#include "views/cluster_marks.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

struct Panel {
  Slot slot;
  std::shared_ptr<const KmeansPasses> passes;
};

class KmeansContent : public ViewContent {
 public:
  KmeansContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    for (const Slot& slot : state.slots) {
      if (slot.method != Method::muse && state.comparing()) continue;  // said in the caption
      const Block block = block_in_focus(*session_, slot, state.view, state.selection);
      panels_.push_back({slot, analysis.kmeans_passes(slot, block, state.view.side, task)});
    }
    if (panels_.empty()) throw UsageError("--view kmeans: expected a method with clusters, such as muse");
    const auto last = static_cast<Index>(panels_.front().passes->passes.size()) - 1;
    if (state.view.pass && *state.view.pass > last)
      throw UsageError(fmt::format("--pass: expected a pass from 0 to {} (--passes has {}), found {}", last,
                                   panels_.front().slot.config.passes, *state.view.pass));
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = fmt::format("k-means of {} {}: {}", panels_.front().passes->range.size(),
                               name_of(state_.view.side), pass_text(panels_.front()));
    const bool wide = options.width >= 700 * options.ui_scale;
    int col = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s)
      add_tokens(figure.add(0, col++, wide ? 2 : 1, 1), s, selection, options.dark);
    if (wide) {
      figure.col_weights.assign(panels_.size(), 1.9);
      figure.col_weights.push_back(1.0);
      add_inertia(figure.add(0, col), options.dark);
      add_moved(figure.add(1, col), options.dark);
    }
    figure.caption = caption();
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    if (hit.frame >= panels_.size()) {
      const auto pass = static_cast<std::ptrdiff_t>(std::lround(drawn.frames[hit.frame].x.to_value(at.x)));
      if (pass >= 0 && pass < std::ssize(panels_.front().passes->passes)) {
        hit.option = {"pass", fmt::format("{}", pass)};
        hit.readout = fmt::format("pass {}: {} tokens changed cluster", pass,
                                  panels_.front().passes->passes[static_cast<std::size_t>(pass)].moved);
      }
      return hit;
    }
    const Panel& panel = panels_[hit.frame];
    const std::optional<Index> found = token_at(drawn.frames[hit.frame], at, panel.passes->xy);
    if (!found) return hit;
    const Index token = panel.passes->range.begin + *found;
    const Index cluster = shown(panel).labels[static_cast<std::size_t>(*found)];
    const bool keys = state_.view.side == Side::keys;
    (keys ? hit.target.key : hit.target.query) = token;
    hit.target.block = panel.passes->block;
    (keys ? hit.target.key_cluster : hit.target.query_cluster) = cluster;
    hit.readout = fmt::format("{} {} · cluster {} after {}", keys ? "key" : "query",
                              token_name(*session_, token), cluster, pass_text(panel));
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {"slot", "pass", "token", "x", "y", "cluster"};
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const KmeansPasses& passes = *panels_[s].passes;
      for (Index n = 0; n < passes.xy.rows(); ++n)
        numbers.add({static_cast<double>(s), static_cast<double>(index(panels_[s])),
                     static_cast<double>(passes.range.begin + n), passes.xy(n, 0), passes.xy(n, 1),
                     static_cast<double>(shown(panels_[s]).labels[static_cast<std::size_t>(n)])});
    }
    return numbers;
  }

 private:
  [[nodiscard]] std::size_t index(const Panel& panel) const {
    const std::size_t last = panel.passes->passes.size() - 1;
    return state_.view.pass ? std::min(last, static_cast<std::size_t>(*state_.view.pass)) : last;
  }
  [[nodiscard]] const KmeansPass& shown(const Panel& panel) const {
    return panel.passes->passes[index(panel)];
  }

  [[nodiscard]] std::string pass_text(const Panel& panel) const {
    const std::size_t p = index(panel), last = panel.passes->passes.size() - 1;
    return p == 0 ? fmt::format("the seeding (pass 0 of {})", last) : fmt::format("pass {} of {}", p, last);
  }

  void add_tokens(Axes& axes, std::size_t s, const Selection& selection, bool dark) const {
    const Panel& panel = panels_[s];
    const KmeansPasses& passes = *panel.passes;
    const KmeansPass& pass = shown(panel);
    if (panels_.size() > 1) axes.title = fmt::format("{}: {}", s == 0 ? "A" : "B", pass_text(panel));
    axes.x = principal_axis(passes.axes, 0, "");
    axes.y = principal_axis(passes.axes, 1, "");
    // The axes stay while passes are played.
    axes.x.range = state_.view.zoom ? state_.view.zoom->x
                                    : padded({passes.xy.col(0).minCoeff(), passes.xy.col(0).maxCoeff()},
                                             ScaleKind::linear, 0.04);
    axes.y.range = state_.view.zoom ? state_.view.zoom->y
                                    : padded({passes.xy.col(1).minCoeff(), passes.xy.col(1).maxCoeff()},
                                             ScaleKind::linear, 0.04);
    if (state_.view.ellipses) add_ellipses(axes, pass.shapes, {});
    Scatter tokens{.size = token_size(passes.xy.rows()), .halo = false};
    for (Index n = 0; n < passes.xy.rows(); ++n) {
      tokens.x.push_back(passes.xy(n, 0));
      tokens.y.push_back(passes.xy(n, 1));
      tokens.colors.push_back(categorical(pass.labels[static_cast<std::size_t>(n)]));
    }
    axes.add(std::move(tokens));
    if (index(panel) > 0) {
      const Matrix_& before = passes.passes[index(panel) - 1].centroids;
      Arrows moves{.label = "centroid, from the pass before",
                   .color = dark ? Color{255, 120, 110} : Color{200, 30, 30},
                   .width = 1};
      for (Index c = 0; c < before.rows(); ++c)
        moves.arrows.push_back({before(c, 0), before(c, 1), pass.centroids(c, 0), pass.centroids(c, 1)});
      axes.add(std::move(moves));
    }
    add_centroids(axes, pass.centroids, pass.shapes, {}, "centroids", dark);
    const auto& token = state_.view.side == Side::keys ? selection.shown().key : selection.shown().query;
    if (token && *token >= passes.range.begin && *token < passes.range.end) {
      add_ring(axes, passes.xy, *token - passes.range.begin, token_name(*session_, *token), dark);
    }
  }

  using Matrix_ = muse::Matrix<double>;

  // A line over the passes with the current one ringed.
  template <class Value>
  void add_course(Axes& axes, bool dark, const Value& value_of) const {
    axes.x.label = "pass (0: seeding)";
    axes.x.ticks.emplace();
    std::size_t most = 0;
    double most_value = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const auto& passes = panels_[s].passes->passes;
      most = std::max(most, passes.size());
      const Color color = slot_color(s, dark);
      Line line{.label = panels_.size() > 1 ? (s == 0 ? "A" : "B") : "", .color = color};
      Scatter points{.color = color, .size = 6};
      for (std::size_t p = 0; p < passes.size(); ++p) {
        const double value = value_of(*panels_[s].passes, p);
        if (std::isnan(value)) continue;
        line.x.push_back(static_cast<double>(p)), line.y.push_back(value);
        points.x.push_back(static_cast<double>(p)), points.y.push_back(value);
        points.names.push_back(short_number(value));
      }
      Scatter now{.color = color, .marker = Marker::ring, .size = 13};
      now.x = {static_cast<double>(index(panels_[s]))};
      now.y = {value_of(*panels_[s].passes, index(panels_[s]))};
      if (std::isnan(now.y[0])) now.x.clear(), now.y.clear();
      for (const double value : points.y) most_value = std::max(most_value, value);
      axes.add(std::move(line)).add(std::move(points)).add(std::move(now));
    }
    axes.y.range = Range{0, most_value > 0 ? 1.12 * most_value : 1};
    axes.x.range = Range{-0.4, static_cast<double>(most) - 0.6};
    for (std::size_t p = 0; p < most; ++p)
      axes.x.ticks->push_back({static_cast<double>(p), fmt::format("{}", p), true});
  }

  void add_inertia(Axes& axes, bool dark) const {
    axes.title = "Distance from centroids";
    axes.y = {.label = "mean squared, of the variance", .grid = true};
    add_course(axes, dark, [](const KmeansPasses& of, std::size_t p) {
      return of.variance > 0 ? of.passes[p].inertia / of.variance : 0;
    });
  }
  void add_moved(Axes& axes, bool dark) const {
    axes.title = "Tokens that change cluster";
    axes.y = {.label = "share of the tokens", .grid = true};
    add_course(axes, dark, [](const KmeansPasses& of, std::size_t p) {
      return p == 0 ? std::numeric_limits<double>::quiet_NaN()
                    : static_cast<double>(of.passes[p].moved) / static_cast<double>(of.xy.rows());
    });
  }

  [[nodiscard]] std::string caption() const {
    std::string text = subject_of(*session_, state_);
    if (state_.a().on_gpu()) text += " The passes are played on the CPU.";
    const KmeansPasses& first = *panels_.front().passes;
    const KmeansPass& pass = shown(panels_.front());
    text += fmt::format(
        " {} {} of {}, all drawn, in their principal axes; {} clusters, {} of them empty (2.1), (2.2). "
        "Centroids are "
        "those that the tokens were assigned to. The last pass is what attention uses.",
        state_.view.side == Side::keys ? "Keys" : "Queries", span_text(first.range.begin, first.range.end),
        block_text(first.block), pass.shapes.size(), pass.empty);
    if (state_.view.side == Side::queries && panels_.front().slot.config.metric == Metric::key_covariance)
      text +=
          " Clustered in the metric of the key covariance (2.3): distances are in it, centroids shown are "
          "means of "
          "their members.";
    if (panels_.size() < state_.slots.size()) text += " The other method has no clusters.";
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Panel> panels_;
};

class KmeansView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "kmeans"; }
  [[nodiscard]] std::string_view title() const override { return "k-means playback"; }
  [[nodiscard]] std::string_view help() const override {
    return "the clusters of a block's keys or queries, pass by pass";
  }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<KmeansContent>(analysis, state, task);
  }
};

}  // namespace

const View& kmeans_view() {
  static const KmeansView view;
  return view;
}

}  // namespace muse::viewer
