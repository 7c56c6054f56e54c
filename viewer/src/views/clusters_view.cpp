// Queries and keys of one block in two dimensions, coloured by cluster; what a query cluster tilts.
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
  std::shared_ptr<const Projection> projection;
};

class ClustersContent : public ViewContent {
 public:
  ClustersContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) {
      if (slot.method != Method::muse && state.comparing()) continue;  // said in the caption
      const Block block = block_in_focus(*session_, slot, state.view, state.selection);
      Panel panel{.slot = slot, .projection = analysis.projection(slot, block, state.view.basis, task)};
      panels_.push_back(std::move(panel));
    }
    if (panels_.empty()) throw UsageError("--view clusters: expected a method with clusters, such as muse");
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    const Block& block = panels_.front().projection->block;
    figure.title = fmt::format("Clusters of {}", block_text(block));
    figure.brief_title = fmt::format("Clusters of level {}", block.level);
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const int row = static_cast<int>(s);
      add_queries(figure.add(row, 0), s, selection, options.dark);
      add_keys(figure.add(row, 1), s, selection, options.dark);
    }
    figure.caption = caption(selection);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const Panel& panel = panels_[hit.frame / 2];
    const bool queries = hit.frame % 2 == 0;
    const ProjectedSide& side = queries ? panel.projection->queries : panel.projection->keys;
    const std::optional<Index> found = token_at(drawn.frames[hit.frame], at, side.xy);
    if (!found) return hit;
    const Index token = side.first + *found;
    const Index cluster = side.labels[static_cast<std::size_t>(*found)];
    hit.target.block = panel.projection->block;
    (queries ? hit.target.query : hit.target.key) = token;
    (queries ? hit.target.query_cluster : hit.target.key_cluster) = cluster;
    hit.readout = fmt::format("{} {} · cluster {} of {} tokens", queries ? "query" : "key",
                              token_name(*session_, token), cluster,
                              side.shapes[static_cast<std::size_t>(cluster)].count);
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {"slot", "is_key", "token", "x", "y", "cluster"};
    for (std::size_t s = 0; s < panels_.size(); ++s)
      for (const bool keys : {false, true}) {
        const ProjectedSide& side = keys ? panels_[s].projection->keys : panels_[s].projection->queries;
        for (Index n = 0; n < side.xy.rows(); ++n)
          numbers.add({static_cast<double>(s), keys ? 1.0 : 0.0, static_cast<double>(side.first + n),
                       side.xy(n, 0), side.xy(n, 1),
                       static_cast<double>(side.labels[static_cast<std::size_t>(n)])});
      }
    return numbers;
  }

 private:
  // The query cluster in the light: selected itself, or that of the selected query.
  [[nodiscard]] std::optional<Index> query_cluster(const Panel& panel, const Selection& selection) const {
    const Target& target = selection.shown();
    const ProjectedSide& side = panel.projection->queries;
    if (target.query_cluster && *target.query_cluster < std::ssize(side.shapes)) return target.query_cluster;
    if (target.query && *target.query >= side.first && *target.query < side.first + side.xy.rows())
      return side.labels[static_cast<std::size_t>(*target.query - side.first)];
    return std::nullopt;
  }
  [[nodiscard]] std::optional<Index> key_cluster(const Panel& panel, const Selection& selection) const {
    const Target& target = selection.shown();
    const ProjectedSide& side = panel.projection->keys;
    if (target.key_cluster && *target.key_cluster < std::ssize(side.shapes)) return target.key_cluster;
    if (target.key && *target.key >= side.first && *target.key < side.first + side.xy.rows())
      return side.labels[static_cast<std::size_t>(*target.key - side.first)];
    return std::nullopt;
  }

  void set_axes(Axes& axes, const ProjectedSide& side, const char* what) const {
    axes.x = principal_axis(side.axes, 0, what);
    axes.y = principal_axis(side.axes, 1, what);
    if (state_.view.zoom) {
      axes.x.range = state_.view.zoom->x;
      axes.y.range = state_.view.zoom->y;
    } else if (state_.view.basis == Basis::joint) {
      // Both panels show the same part of the plane.
      Range x{1e300, -1e300}, y = x;
      for (const Panel& panel : panels_)
        for (const ProjectedSide* s : {&panel.projection->queries, &panel.projection->keys}) {
          x = {std::min(x.low, s->xy.col(0).minCoeff()), std::max(x.high, s->xy.col(0).maxCoeff())};
          y = {std::min(y.low, s->xy.col(1).minCoeff()), std::max(y.high, s->xy.col(1).maxCoeff())};
        }
      axes.x.range = padded(x, ScaleKind::linear, 0.04);
      axes.y.range = padded(y, ScaleKind::linear, 0.04);
    }
  }

  // All points; those that are not `lit` lie below, in grey.
  void add_points(Axes& axes, const ProjectedSide& side, const std::vector<char>& lit, bool dark) const {
    const double size = token_size(side.xy.rows());
    const bool all = lit.empty();
    const Color gray = Theme::make(dark).line.with_alpha(0.28);
    Scatter below{.color = gray, .size = size, .halo = false};
    Scatter above{.size = all ? size : size + 1.2, .halo = false};
    for (Index n = 0; n < side.xy.rows(); ++n) {
      const bool shines = all || lit[static_cast<std::size_t>(n)] != 0;
      Scatter& to = shines ? above : below;
      to.x.push_back(side.xy(n, 0));
      to.y.push_back(side.xy(n, 1));
      if (shines) to.colors.push_back(categorical(side.labels[static_cast<std::size_t>(n)]));
    }
    if (!below.x.empty()) axes.add(std::move(below));
    if (!above.x.empty()) axes.add(std::move(above));
  }

  void add_shapes(Axes& axes, const ProjectedSide& side, const std::vector<char>& lit_clusters) const {
    if (state_.view.ellipses) add_ellipses(axes, side.shapes, lit_clusters);
    if (!state_.view.hulls) return;
    for (std::size_t c = 0; c < side.shapes.size(); ++c) {
      const ClusterShape& shape = side.shapes[c];
      if (shape.hull.size() < 3 || (!lit_clusters.empty() && lit_clusters[c] == 0)) continue;
      Line hull{.color = categorical(static_cast<Index>(c)).with_alpha(0.8), .width = 1, .closed = true};
      for (const auto& [x, y] : shape.hull) hull.x.push_back(x), hull.y.push_back(y);
      axes.add(std::move(hull));
    }
  }

  void add_token(Axes& axes, const ProjectedSide& side, const std::optional<Index>& token, const char* what,
                 bool dark) const {
    if (!token || *token < side.first || *token >= side.first + side.xy.rows()) return;
    add_ring(axes, side.xy, *token - side.first, fmt::format("{} {}", what, token_name(*session_, *token)),
             dark);
  }

  void add_queries(Axes& axes, std::size_t s, const Selection& selection, bool dark) const {
    const Panel& panel = panels_[s];
    const ProjectedSide& side = panel.projection->queries;
    axes.title = fmt::format("{}Queries {}", panels_.size() > 1 ? (s == 0 ? "A: " : "B: ") : "",
                             span_text(side.first, side.first + side.xy.rows()));
    set_axes(axes, side, state_.view.basis == Basis::joint ? "joint " : "query ");
    const std::optional<Index> cluster = query_cluster(panel, selection);
    std::vector<char> lit, lit_clusters;
    if (cluster || !counted_.all()) {
      for (Index n = 0; n < side.xy.rows(); ++n) {
        const auto i = static_cast<std::size_t>(n);
        lit.push_back((!cluster || side.labels[i] == *cluster) && counted_.holds(side.first + n) ? 1 : 0);
      }
      lit_clusters.assign(side.shapes.size(), cluster ? 0 : 1);
      if (cluster) lit_clusters[static_cast<std::size_t>(*cluster)] = 1;
    }
    add_shapes(axes, side, lit_clusters);
    add_points(axes, side, lit, dark);
    add_centroids(axes, side.centroids, side.shapes, lit_clusters, "q̄, centroid of the home's queries", dark);
    add_token(axes, side, selection.shown().query, "query", dark);
  }

  void add_keys(Axes& axes, std::size_t s, const Selection& selection, bool dark) const {
    const Panel& panel = panels_[s];
    const Projection& projection = *panel.projection;
    const ProjectedSide& side = projection.keys;
    axes.title = fmt::format("{}Keys {}", panels_.size() > 1 ? (s == 0 ? "A: " : "B: ") : "",
                             span_text(side.first, side.first + side.xy.rows()));
    set_axes(axes, side, state_.view.basis == Basis::joint ? "joint " : "key ");
    const std::optional<Index> i = query_cluster(panel, selection), j = key_cluster(panel, selection);
    const auto Ck = static_cast<Index>(side.shapes.size());
    // In the light: the selected key cluster, else what the query cluster retrieves.
    std::vector<char> lit_clusters, lit;
    if (j) {
      lit_clusters.assign(side.shapes.size(), 0);
      lit_clusters[static_cast<std::size_t>(*j)] = 1;
    } else if (i) {
      const auto first = projection.retrieved.begin() + *i * Ck;
      lit_clusters.assign(first, first + Ck);
      if (std::count(lit_clusters.begin(), lit_clusters.end(), 1) == 0) lit_clusters.clear();
    }
    if (!lit_clusters.empty())
      for (const std::int32_t label : side.labels)
        lit.push_back(lit_clusters[static_cast<std::size_t>(label)]);
    add_shapes(axes, side, lit_clusters);
    add_points(axes, side, lit, dark);
    add_centroids(axes, side.centroids, side.shapes, {}, "k̄, plain centroid", dark);
    if (i) {
      Arrows arrows{.label = fmt::format("to k̃ (3.4), as query cluster {} tilts it", *i),
                    .color = dark ? Color{255, 120, 110} : Color{200, 30, 30},
                    .width = 1};
      for (Index c = 0; c < Ck; ++c) {
        const auto at = static_cast<std::size_t>(*i * Ck + c);
        if (side.shapes[static_cast<std::size_t>(c)].count == 0) continue;
        arrows.arrows.push_back({side.centroids(c, 0), side.centroids(c, 1), projection.tilted[2 * at],
                                 projection.tilted[2 * at + 1]});
      }
      axes.add(std::move(arrows));
    }
    add_token(axes, side, selection.shown().key, "key", dark);
  }

  [[nodiscard]] std::string caption(const Selection& selection) const {
    std::string text = subject_of(*session_, state_);
    const Projection& p = *panels_.front().projection;
    const auto used = [](const ProjectedSide& side) {
      return std::count_if(side.shapes.begin(), side.shapes.end(),
                           [](const ClusterShape& s) { return s.count > 0; });
    };
    text += fmt::format(
        " All {} queries and {} keys of the block are drawn, in {} and {} clusters with tokens (2.2); "
        "colours tell clusters apart and are reused after some tens. Axes: {} (units of q and k).",
        p.queries.xy.rows(), p.keys.xy.rows(), used(p.queries), used(p.keys),
        state_.view.basis == Basis::joint ? "principal axes of queries and keys together"
                                          : "principal axes of each side");
    if (p.home.begin != p.block.query_begin)
      text += fmt::format(" Query centroids are means of the queries {}, which all lie in the past (6.2).",
                          span_text(p.home.begin, p.home.end));
    if (selection.shown().query || selection.shown().query_cluster)
      text +=
          " In colour: the selected query's cluster, and the key clusters that it retrieves (5.1), if any.";
    if (!counted_.all()) text += counted_text(counted_, state_.selection) + " The others are grey.";
    if (panels_.size() < state_.slots.size()) text += " The other method has no clusters.";
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Panel> panels_;
  CountedQueries counted_;
};

class ClustersView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "clusters"; }
  [[nodiscard]] std::string_view title() const override { return "Clusters"; }
  [[nodiscard]] std::string_view help() const override {
    return "queries and keys of a block in their principal axes, coloured by cluster, with tilted centroids";
  }
  [[nodiscard]] FigureOptions default_size() const override { return {.width = 1240, .height = 720}; }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<ClustersContent>(analysis, state, task);
  }
};

}  // namespace

const View& clusters_view() {
  static const ClustersView view;
  return view;
}

}  // namespace muse::viewer
