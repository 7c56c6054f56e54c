// The causal decomposition: which block is exact, which is expanded, how the sum is built up level by level.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/block_outline.h"
#include "views/block_parts_axes.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Panel {
  Slot slot;
  std::shared_ptr<const BlockParts> parts;
  std::shared_ptr<const RetrievedPairs> retrieved;  // null where nothing can be
  std::shared_ptr<const QueryProfile> profile;      // of the selected query, for what it retrieves
};

class BlocksContent : public ViewContent {
 public:
  BlocksContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) {
      Panel panel{.slot = slot, .parts = analysis.block_parts(slot, task, counted_)};
      const auto& r = slot.config.retrieve.values;
      if (slot.method == Method::muse &&
          std::any_of(r.begin(), r.end(), [](std::int64_t n) { return n > 0; })) {
        panel.retrieved = analysis.retrieved_pairs(slot, task);
        if (const auto& query = state.selection.shown().query)
          panel.profile = analysis.profile(slot, *query, task);
      }
      panels_.push_back(std::move(panel));
    }
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    figure.title = title();
    figure.brief_title = fmt::format("Blocks by {}", name_of(state_.view.color_by));
    const bool wide = options.width >= (comparing() ? 860 : 640) * options.ui_scale;
    const QuantityScale quantity = scale_of_all();
    int col = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      Axes& axes = figure.add(0, col++, wide ? 2 : 1, 1);
      if (comparing())
        axes.title = fmt::format("{}: error {} (8.1)", s == 0 ? "A" : "B",
                                 short_number(panels_[s].parts->error_up_to[step(panels_[s])]));
      BlockAxes blocks{.parts = panels_[s].parts.get(), .quantity = quantity, .up_to = state_.view.up_to};
      blocks.counts = [this](const BlockPart& part) {
        return part_counts(part.error, ErrorPer::block, state_);
      };
      if (state_.view.color_by != BlockColoring::level) {
        blocks.value = [this, s](const BlockPart& part) { return value_of(part, s); };
        blocks.value_label = value_label();
        blocks.value_brief = name_of(state_.view.color_by);
      }
      add_blocks(axes, blocks, state_, selection, options.dark);
      add_retrieved_keys(axes, panels_[s], selection, options.dark);
    }
    if (wide) {
      figure.col_weights.assign(panels_.size(), comparing() ? 1.2 : 1.6);
      figure.col_weights.push_back(1.0);
      Axes& sum = figure.add(0, col);
      add_sum(sum, options.dark);
      if (panels_.front().retrieved)
        add_retrieved_map(figure.add(1, col));
      else
        add_masses(figure.add(1, col), options.dark);
    }
    figure.caption = caption(quantity);
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    if (hit.frame == panels_.size()) {
      const auto level = static_cast<Index>(std::lround(drawn.frames[hit.frame].x.to_value(at.x)));
      const auto levels = static_cast<Index>(panels_.front().parts->error_up_to.size()) - 1;
      if (level >= -1 && level < levels) {
        hit.option = {"up-to-level", fmt::format("{}", level)};
        hit.readout = fmt::format(
            "error up to level {}: {} (8.1)", level,
            short_number(panels_.front().parts->error_up_to[static_cast<std::size_t>(level + 1)], 4));
      }
    }
    if (hit.frame >= panels_.size()) return hit;
    if (const BlockPart* part = point_at_block(hit, *panels_[hit.frame].parts, drawn.frames[hit.frame], at))
      hit.readout +=
          fmt::format(" · error {} (8.5), share {} (8.6), mass {}", short_number(part->error.alone, 4),
                      short_number(part->error.share, 4), short_number(part->error.exact_mass, 4));
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.columns = {kBlockColumns.begin(), kBlockColumns.end()};
    numbers.columns.insert(numbers.columns.end(),
                           {"error", "share", "mass", "operations", "of_exact_operations", "clusters_q",
                            "clusters_k", "error_up_to_level"});
    for (std::size_t s = 0; s < panels_.size(); ++s)
      for (const BlockPart& part : panels_[s].parts->blocks) {
        add_place(numbers, s, part.block);
        numbers.add({part.error.alone, part.error.share, part.error.exact_mass, part.operations,
                     cost_of(part, s), static_cast<double>(part.clusters_q),
                     static_cast<double>(part.clusters_k),
                     panels_[s].parts->error_up_to[static_cast<std::size_t>(part.block.level + 1)]});
      }
    return numbers;
  }

 private:
  [[nodiscard]] bool comparing() const { return panels_.size() > 1; }

  // Operations of the block, of exact attention's on the same pairs.
  [[nodiscard]] double cost_of(const BlockPart& part, std::size_t slot) const {
    const auto pairs = static_cast<double>(part.block.queries()) * static_cast<double>(part.block.keys());
    const auto D = static_cast<double>(session_->dump().dim() + session_->dump().dim_v());
    const bool diagonal = part.block.level < 0 && panels_[slot].slot.causal();
    return diagonal ? 1 : part.operations / (2 * D * pairs);
  }

  [[nodiscard]] double value_of(const BlockPart& part, std::size_t slot) const {
    if (!part_counts(part.error, ErrorPer::block, state_)) return kNaN;
    switch (state_.view.color_by) {
      case BlockColoring::error:
        return part.error.alone;
      case BlockColoring::mass:
        return part.error.exact_mass;
      case BlockColoring::cost:
        return cost_of(part, slot);
      case BlockColoring::level:
        break;
    }
    return static_cast<double>(part.block.level);
  }

  [[nodiscard]] std::string value_label() const {
    switch (state_.view.color_by) {
      case BlockColoring::error:
        return "relative squared error of the block alone (8.5)";
      case BlockColoring::mass:
        return "mean exact attention weight on the block's keys";
      case BlockColoring::cost:
        return "operations, of exact attention to the block";
      case BlockColoring::level:
        break;
    }
    return "level";
  }

  // Colours stay the same while levels are played: all blocks count.
  [[nodiscard]] QuantityScale scale_of_all() const {
    std::vector<double> values;
    for (std::size_t s = 0; s < panels_.size(); ++s)
      for (const BlockPart& part : panels_[s].parts->blocks)
        if (part.block.level >= 0) values.push_back(value_of(part, s));
    return quantity_scale(std::span<const double>(values), false, state_.view);
  }

  [[nodiscard]] std::size_t step(const Panel& panel) const {
    const auto last = panel.parts->error_up_to.size() - 1;
    return state_.view.up_to ? std::min(last, static_cast<std::size_t>(*state_.view.up_to + 1)) : last;
  }

  [[nodiscard]] std::string sum_text(const Panel& panel) const {
    const std::size_t at = step(panel);
    const std::string parts = at == 0   ? "diagonal blocks alone"
                              : at == 1 ? "diagonal and level 0"
                                        : fmt::format("diagonal and levels 0 to {}", at - 1);
    return fmt::format("{}: error {}, {:.3g} % of the mass", parts,
                       short_number(panel.parts->error_up_to[at]), 100 * panel.parts->mass_up_to[at]);
  }

  [[nodiscard]] std::string title() const {
    const std::string what = fmt::format("Blocks of the hierarchy by {}", name_of(state_.view.color_by));
    return comparing() ? what : what + ": " + sum_text(panels_.front());
  }

  // The tokens that the selected query retrieves, as ticks at its row.
  void add_retrieved_keys(Axes& axes, const Panel& panel, const Selection& selection, bool dark) const {
    if (!panel.profile || selection.shown().query != panel.profile->query) return;
    const double Nq = static_cast<double>(queries_of(*session_, panel.slot));
    const Range rows = state_.view.zoom ? state_.view.zoom->y : Range{0, Nq};
    const double half = 0.008 * (rows.high - rows.low);
    const double at = static_cast<double>(panel.profile->query) + 0.5;
    Rects ticks{.label = fmt::format("{} keys retrieved by query {}", panel.profile->retrieved.size(),
                                     panel.profile->query),
                .fill = dark ? Color{255, 214, 90} : Color{196, 20, 90}};
    for (const Index n : panel.profile->retrieved)
      ticks.boxes.push_back({static_cast<double>(n), at - half, static_cast<double>(n + 1), at + half});
    if (!ticks.boxes.empty()) axes.add(std::move(ticks));
  }

  void add_sum(Axes& axes, bool dark) const {
    axes.title = "How the sum is built up";
    axes.y = {.label = "error of the sum so far (8.1)",
              .brief = "error (8.1)",
              .kind = ScaleKind::log,
              .grid = true};
    axes.x.label = "level added last (d: diagonal blocks)";
    axes.x.brief = "level added last";
    axes.x.ticks.emplace();
    std::size_t most = 0;
    for (const Panel& panel : panels_) most = std::max(most, panel.parts->error_up_to.size());
    axes.x.range = Range{-1.4, static_cast<double>(most) - 1.6};
    for (std::size_t m = 0; m < most; ++m)
      axes.x.ticks->push_back({static_cast<double>(m) - 1, m == 0 ? "d" : fmt::format("{}", m - 1), true});
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const Color color = slot_color(s, dark);
      Line line{.label = comparing() ? (s == 0 ? "A" : "B") : "", .color = color};
      Scatter points{.color = color, .size = 6};
      const auto& errors = panels_[s].parts->error_up_to;
      for (std::size_t m = 0; m < errors.size(); ++m) {
        line.x.push_back(static_cast<double>(m) - 1);
        line.y.push_back(errors[m] > 0 ? errors[m] : kNaN);
        points.x.push_back(static_cast<double>(m) - 1);
        points.y.push_back(errors[m]);
        points.names.push_back(short_number(errors[m]));
      }
      const std::size_t at = step(panels_[s]);
      Scatter now{.color = color, .marker = Marker::ring, .size = 13};
      now.x = {static_cast<double>(at) - 1};
      now.y = {errors[at]};
      axes.add(std::move(line)).add(std::move(points)).add(std::move(now));
    }
  }

  void add_retrieved_map(Axes& axes) const {
    const Panel& panel = panels_.front();
    const render::Matrix& share = panel.retrieved->share;
    axes.title = comparing() ? "Retrieved inside the blocks, A" : "Retrieved inside the blocks";
    Heatmap map{.matrix = share, .colormap = Colormap(ColormapName::magma), .aggregate = Aggregate::mean};
    map.missing_shown = false;
    const auto Nq = static_cast<double>(queries_of(*session_, panel.slot));
    const auto Nk = static_cast<double>(keys_of(*session_, panel.slot));
    map.extent = {0, 0, Nk, Nq};
    map.scale = Scale(ScaleKind::linear,
                      percentile_range(std::span<const float>(share.values), 0, 99.5, ScaleKind::linear));
    axes.aspect = Nk / Nq;
    axes.x = {.label = "key position (tokens)",
              .range = state_.view.zoom ? state_.view.zoom->x : Range{0, Nk},
              .tick_style = TickStyle::tokens};
    axes.y = {.range = state_.view.zoom ? state_.view.zoom->y : Range{0, Nq},
              .reversed = true,
              .tick_style = TickStyle::tokens};
    axes.color_bar = color_bar_of(map, "share of pairs retrieved");
    axes.color_bar->brief = "share";
    axes.add(std::move(map));
  }

  void add_masses(Axes& axes, bool dark) const {
    axes.title = "Where the mass lies";
    axes.y = {.label = "mass of the level, of all", .brief = "mass", .range = Range{0, 1}, .grid = true};
    axes.x.label = "level (d: diagonal blocks)";
    axes.x.ticks.emplace();
    std::size_t most = 0;
    for (std::size_t s = 0; s < panels_.size(); ++s) {
      const auto& mass = panels_[s].parts->mass_up_to;
      most = std::max(most, mass.size());
      Bars bars{.label = comparing() ? (s == 0 ? "A" : "B") : "", .color = slot_color(s, dark)};
      const double width = 0.8 / static_cast<double>(panels_.size());
      for (std::size_t m = 0; m < mass.size(); ++m) {
        const double left = static_cast<double>(m) - 1.4 + width * static_cast<double>(s);
        bars = {.label = bars.label, .color = bars.color};
        bars.edges = {left, left + width};
        bars.heights = {mass[m] - (m == 0 ? 0 : mass[m - 1])};
        axes.add(bars);
      }
    }
    axes.x.range = Range{-1.6, static_cast<double>(most) - 1.4};
    for (std::size_t m = 0; m < most; ++m)
      axes.x.ticks->push_back({static_cast<double>(m) - 1, m == 0 ? "d" : fmt::format("{}", m - 1), true});
  }

  [[nodiscard]] std::string caption(const QuantityScale& quantity) const {
    std::string text = subject_of(*session_, state_);
    text += " Hatched: diagonal blocks, exact and causal; the others are far blocks without a mask (6.1).";
    if (state_.view.color_by != BlockColoring::level)
      text += fmt::format(" Colours: {}, {}.", value_label(), quantity.words);
    if (state_.view.color_by == BlockColoring::cost)
      text += " Stages 1 and 2 and retrieval are counted, clustering is not.";
    for (const Panel& panel : panels_)
      if (panel.retrieved && &panel == &panels_.front())
        text += fmt::format(
            " Retrieval (5.1) attends {:.3g} % of the far pairs exactly; a cell of its map is the "
            "mean over {} queries and keys or so.",
            100 * panel.retrieved->pairs,
            std::max<Index>(1, queries_of(*session_, panel.slot) / panel.retrieved->share.rows));
    text += counted_text(counted_, state_.selection) + counted_parts_text(ErrorPer::block, state_.selection);
    if (state_.view.up_to) text += " Axes and colours are those of all levels.";
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Panel> panels_;
  CountedQueries counted_;
};

class BlocksView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "blocks"; }
  [[nodiscard]] std::string_view title() const override { return "Blocks"; }
  [[nodiscard]] std::string_view help() const override {
    return "the causal decomposition by level, error, mass or cost; it plays level by level";
  }
  [[nodiscard]] std::shared_ptr<const ViewContent> outline(const std::shared_ptr<const DumpSession>& session,
                                                           const ViewState& state) const override {
    return block_outline_content(session, state);
  }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<BlocksContent>(analysis, state, task);
  }
};

}  // namespace

const View& blocks_view() {
  static const BlocksView view;
  return view;
}

}  // namespace muse::viewer
