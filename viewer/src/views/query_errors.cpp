// The error of each query along the positions, with the worst of them in a table; of one head, or of all.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "views/error_parts.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr Index kMostBins = 600;     // points of a line; more queries than that share them
constexpr Index kZoomQueries = 128;  // on either side of a query that is zoomed to
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// Some queries that share a point of the line.
struct Bin {
  Index begin = 0, end = 0;
  double mean = kNaN, largest = kNaN;  // largest in magnitude
  Index worst = -1;
  [[nodiscard]] double middle() const { return 0.5 * static_cast<double>(begin + end); }
};

std::vector<Bin> binned(const std::vector<double>& values, Index begin, Index end,
                        const CountedQueries& counted) {
  const Index bins = std::min(kMostBins, end - begin);
  std::vector<Bin> result;
  for (Index b = 0; b < bins; ++b) {
    Bin bin{.begin = begin + b * (end - begin) / bins, .end = begin + (b + 1) * (end - begin) / bins};
    double sum = 0;
    Index n = 0;
    for (Index t = bin.begin; t < bin.end; ++t) {
      const auto i = static_cast<std::size_t>(t);
      if (!counted.holds(t) || !std::isfinite(values[i])) continue;
      sum += values[i];
      ++n;
      if (bin.worst < 0 || std::abs(values[i]) > std::abs(bin.largest)) {
        bin.largest = values[i];
        bin.worst = t;
      }
    }
    if (n > 0) bin.mean = sum / static_cast<double>(n);
    result.push_back(bin);
  }
  return result;
}

struct SlotErrors {
  Slot slot;
  std::shared_ptr<const QueryErrors> errors;
};

class QueryErrorContent : public ViewContent {
 public:
  QueryErrorContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    for (const Slot& slot : state.slots) slots_.push_back({slot, analysis.query_errors(slot, task)});
    if (state.view.all_heads)
      for (Index head = 0; head < session_->dump().heads_q(); ++head) {
        Slot slot = state.a();
        slot.head = head;
        heads_.push_back({slot, analysis.query_errors(slot, task)});
      }
    N_ = static_cast<Index>(values(0).size());
    counted_ = analysis.counted_queries(state, task);
    const Zoom* zoom = state.view.zoom ? &*state.view.zoom : nullptr;
    first_ = zoom ? std::clamp<Index>(static_cast<Index>(zoom->x.low), 0, N_ - 1) : 0;
    last_ = zoom ? std::clamp<Index>(static_cast<Index>(std::ceil(zoom->x.high)), first_ + 1, N_) : N_;
    if (comparing())
      for (std::size_t n = 0; n < values(0).size(); ++n)
        difference_.push_back(n < values(1).size() ? values(0)[n] - values(1)[n] : kNaN);
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection& selection) const override {
    Figure figure(options);
    // The table gets what its columns need, where the curves still have room.
    const double width = options.width / options.ui_scale,
                 table = session_->dump().tokens.empty() ? 190 : 260;
    const double curves = width - table - (heads_.empty() ? 130 : 290);
    const bool wide = curves >= 240;
    const bool strip = (!heads_.empty() || comparing()) && options.height >= 320 * options.ui_scale;
    figure.title = fmt::format("Error of each query: {}", query_error_formula(metric()));
    figure.brief_title = fmt::format("Error of each query: {}", name_of(metric()));
    if (wide) figure.col_weights = {curves / table, 1};
    // A line of text for each head, where the curve still has room. Titles, labels and a caption take the
    // rest.
    const double height = options.height / options.ui_scale, heads = 17 * static_cast<double>(heads_.size());
    const double rest = std::max(60.0, height - heads - (height >= 440 ? 270 : 190));
    figure.row_weights = {1, heads_.empty() ? 0.6 : std::clamp(heads / rest, 0.2, 1.5)};
    // Two slots: their difference, and all heads of A where there is room for both.
    const bool difference = strip && comparing();
    const bool strips_of_heads =
        strip && !heads_.empty() && (!difference || options.height >= 460 * options.ui_scale);
    if (difference && strips_of_heads) figure.row_weights.insert(figure.row_weights.begin() + 1, 0.6);
    if (difference && !strips_of_heads) figure.row_weights = {1, 0.6};
    const QuantityScale quantity = scale_of_all();
    add_lines(figure.add(0, 0), selection, quantity, options.dark);
    int row = 1;
    if (difference) add_difference(figure.add(row++, 0), selection);
    if (strips_of_heads) add_heads(figure.add(row++, 0), quantity);
    if (wide) add_table(figure.add(0, 1, row, 1), selection);
    figure.caption = caption(quantity);
    if (strip && !heads_.empty() && !strips_of_heads)
      figure.caption += " All heads are shown where there is more room.";
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    Hit hit = hit_of_frame(drawn, at);
    if (!hit.in_frame) return hit;
    const Frame& f = drawn.frames[hit.frame];
    // Below the curves: of two slots their difference, then the heads.
    const bool of_heads = !f.is_table() && hit.frame > (comparing() ? 1U : 0U);
    if (f.is_table()) {
      const std::vector<Index> worst = worst_of();
      if (const auto row = table_row(f, at, worst.size())) {
        const Index query = worst[*row];
        point_at(hit, query);
        const Range y = drawn.frames[0].y.scale().range();
        hit.zoom = Zoom{{static_cast<double>(std::max<Index>(0, query - kZoomQueries)),
                         static_cast<double>(std::min(N_, query + kZoomQueries))},
                        y};
      }
      std::vector<const char*> words;
      for (const Column& column : table_columns()) words.push_back(column.sort_word);
      hit.option = heading_option(f, at, words);
    } else if (of_heads) {
      const auto head = static_cast<Index>(std::floor(f.y.to_value(at.y)));
      if (head >= 0 && head < static_cast<Index>(heads_.size())) {
        hit.target.head = head;
        const SlotErrors& of = heads_[static_cast<std::size_t>(head)];
        hit.readout =
            fmt::format("{}: relative squared error {} (8.1)", session_->head_name(of.slot.batch, head),
                        short_number(of.errors->head.rel_sq_err, 4));
      }
    } else {
      // The worst query of those that share the point.
      const double x = f.x.to_value(at.x);
      for (const Bin& bin : binned(values(0), first_, last_, counted_))
        if (x >= static_cast<double>(bin.begin) && x < static_cast<double>(bin.end) && bin.worst >= 0)
          point_at(hit, bin.worst);
    }
    return hit;
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    if (!heads_.empty()) {
      numbers.columns = {"query"};
      for (const SlotErrors& of : heads_)
        numbers.columns.push_back(session_->head_name(of.slot.batch, of.slot.head));
      for (Index t = first_; t < last_; ++t) {
        numbers.add({static_cast<double>(t)});
        for (const SlotErrors& of : heads_)
          numbers.add({of.errors->by(metric())[static_cast<std::size_t>(t)]});
      }
      return numbers;
    }
    const std::string name(name_of(metric()));
    numbers.columns = comparing() ? std::vector<std::string>{"query", name + " A", name + " B", "A - B"}
                                  : std::vector<std::string>{"query", name};
    for (Index t = first_; t < last_; ++t) {
      const auto i = static_cast<std::size_t>(t);
      if (!counted_.holds(t)) continue;
      numbers.add({static_cast<double>(t), values(0)[i]});
      if (comparing()) numbers.add({i < values(1).size() ? values(1)[i] : kNaN, difference_[i]});
    }
    return numbers;
  }

 private:
  [[nodiscard]] ErrorMetric metric() const { return state_.view.error_metric(); }
  [[nodiscard]] bool comparing() const { return slots_.size() > 1; }
  [[nodiscard]] const std::vector<double>& values(std::size_t slot) const {
    return slots_[slot].errors->by(metric());
  }

  [[nodiscard]] std::vector<Index> worst_of() const {
    const std::vector<double>& errors = comparing() ? difference_ : values(0);
    const std::vector<double>& of =
        state_.view.table_sort == TableSort::bias ? slots_[0].errors->difference : errors;
    std::vector<Index> queries;
    for (Index t = first_; t < last_; ++t)
      if (counted_.holds(t) && std::isfinite(of[static_cast<std::size_t>(t)])) queries.push_back(t);
    const auto most = std::min(queries.size(), static_cast<std::size_t>(state_.view.top));
    std::partial_sort(queries.begin(), queries.begin() + static_cast<std::ptrdiff_t>(most), queries.end(),
                      [&](Index a, Index b) {
                        const double va = std::abs(of[static_cast<std::size_t>(a)]);
                        const double vb = std::abs(of[static_cast<std::size_t>(b)]);
                        return va != vb ? va > vb : a < b;
                      });
    queries.resize(most);
    if (state_.view.table_sort == TableSort::position) std::sort(queries.begin(), queries.end());
    return queries;
  }

  void point_at(Hit& hit, Index query) const {
    hit.target.query = query;
    hit.readout = fmt::format("query {}", token_name(*session_, query));
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      const auto i = static_cast<std::size_t>(query);
      if (i < values(s).size())
        hit.readout += fmt::format("{}: {} {}", comparing() ? (s == 0 ? " A" : " B") : "", name_of(metric()),
                                   short_number(values(s)[i], 4));
    }
  }

  [[nodiscard]] QuantityScale scale_of_all() const {
    std::vector<double> all;
    const auto add = [&](const std::vector<double>& of) {
      for (Index t = first_; t < std::min<Index>(last_, static_cast<Index>(of.size())); ++t)
        all.push_back(of[static_cast<std::size_t>(t)]);
    };
    for (std::size_t s = 0; s < slots_.size(); ++s) add(values(s));
    for (const SlotErrors& of : heads_) add(of.errors->by(metric()));
    return quantity_scale(std::span<const double>(all), is_signed(metric()), state_.view);
  }

  [[nodiscard]] Axis position_axis() const {
    return {.label = "query position (tokens)",
            .brief = "query",
            .range = Range{static_cast<double>(first_), static_cast<double>(last_)},
            .tick_style = TickStyle::tokens};
  }

  void add_lines(Axes& axes, const Selection& selection, const QuantityScale& quantity, bool dark) const {
    axes.x = position_axis();
    axes.y = {
        .label = fmt::format("{} error", name_of(metric())), .kind = quantity.scale.kind(), .grid = true};
    if (metric() == ErrorMetric::value) axes.y.label = "norm of the output";
    if (metric() == ErrorMetric::signed_difference) axes.y.label = "log-mass, approximate − exact (nats)";
    axes.y.range =
        state_.view.zoom ? state_.view.zoom->y : padded(quantity.scale.range(), quantity.scale.kind(), 0.04);
    if (is_signed(metric())) axes.add(Guide{.at = 0, .vertical = false, .name = "exact"});
    for (std::size_t s = 0; s < slots_.size(); ++s) {
      const Color color = slot_color(s, dark);
      const std::string who = comparing() ? (s == 0 ? "A: " : "B: ") : "";
      const std::vector<Bin> bins =
          binned(values(s), first_, std::min<Index>(last_, static_cast<Index>(values(s).size())), counted_);
      const bool shared = last_ - first_ > kMostBins;
      Line mean{
          .label = who + (shared ? "mean of the queries of a point" : "error"), .color = color, .width = 1.8};
      Line largest{.label = who + "worst of them", .color = color.with_alpha(0.45), .width = 1};
      for (const Bin& bin : bins) {
        mean.x.push_back(shared ? bin.middle() : static_cast<double>(bin.begin) + 0.5);
        mean.y.push_back(bin.mean);
        largest.x.push_back(bin.middle());
        largest.y.push_back(bin.largest);
      }
      if (shared) axes.add(std::move(largest));
      axes.add(std::move(mean));
    }
    if (const auto& query = selection.shown().query; query && *query >= first_ && *query < last_) {
      axes.add(Guide{.at = static_cast<double>(*query) + 0.5,
                     .name = fmt::format("query {}{}", token_name(*session_, *query),
                                         selection.is_locked() ? ", locked" : "")});
      Scatter point{.color = slot_color(0, dark), .marker = Marker::ring, .size = 10};
      point.x = {static_cast<double>(*query) + 0.5};
      point.y = {values(0)[static_cast<std::size_t>(*query)]};
      axes.add(std::move(point));
    }
  }

  void add_difference(Axes& axes, const Selection& selection) const {
    axes.title = "A − B: below zero A errs less";
    axes.x = position_axis();
    const QuantityScale quantity = difference_scale(std::span<const double>(difference_), state_.view);
    axes.y = {
        .label = "difference", .kind = ScaleKind::symlog, .range = quantity.scale.range(), .grid = true};
    axes.add(Guide{.at = 0, .vertical = false});
    Line line{.color = Color{140, 90, 160}, .width = 1.4};
    for (const Bin& bin : binned(difference_, first_, last_, counted_)) {
      line.x.push_back(bin.middle());
      line.y.push_back(bin.mean);
    }
    axes.add(std::move(line));
    if (const auto& query = selection.shown().query; query && *query >= first_ && *query < last_)
      axes.add(Guide{.at = static_cast<double>(*query) + 0.5});
  }

  void add_heads(Axes& axes, const QuantityScale& quantity) const {
    axes.title = fmt::format("All heads{}: mean over the queries of a cell", comparing() ? " of A" : "");
    axes.x = position_axis();
    Heatmap map{.colormap = quantity.colormap, .scale = quantity.scale, .aggregate = Aggregate::mean};
    const auto rows = static_cast<std::int64_t>(heads_.size());
    const std::int64_t cols = std::min<Index>(256, last_ - first_);
    map.matrix = {rows, cols, {}};
    map.extent = {static_cast<double>(first_), 0, static_cast<double>(last_), static_cast<double>(rows)};
    axes.y.range = Range{0, static_cast<double>(rows)};
    axes.y.ticks.emplace();
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      const std::vector<double>& of = heads_[h].errors->by(metric());
      for (Index c = 0; c < cols; ++c) {
        const Index begin = first_ + c * (last_ - first_) / cols,
                    end = first_ + (c + 1) * (last_ - first_) / cols;
        double sum = 0;
        Index counts = 0;
        for (Index t = begin; t < end; ++t)
          if (counted_.holds(t)) {
            sum += of[static_cast<std::size_t>(t)];
            ++counts;
          }
        map.matrix.values.push_back(static_cast<float>(sum / static_cast<double>(counts)));
      }
      axes.y.ticks->push_back(
          {static_cast<double>(h) + 0.5,
           fmt::format("{}: {}", session_->head_name(heads_[h].slot.batch, heads_[h].slot.head),
                       short_number(heads_[h].errors->head.rel_sq_err)),
           true});
    }
    axes.color_bar = color_bar_of(map, std::string(name_of(metric())));
    axes.add(std::move(map));
  }

  // A column of the table of the worst: what it shows, and what a click on its heading sorts by.
  struct Column {
    std::string heading;
    const char* sort_word;
    HAlign align;
    std::function<std::string(Index query)> cell;
  };

  [[nodiscard]] std::vector<Column> table_columns() const {
    std::vector<Column> columns;
    columns.push_back({"query", "position", HAlign::right, [](Index t) { return fmt::format("{}", t); }});
    if (!session_->dump().tokens.empty())
      columns.push_back({"token", "", HAlign::left, [this](Index t) { return session_->token_text(t); }});
    const auto add = [&](std::string heading, const char* sort_word, const std::vector<double>& of) {
      columns.push_back({std::move(heading), sort_word, HAlign::right, [&of](Index t) {
                           const auto i = static_cast<std::size_t>(t);
                           return short_number(i < of.size() ? of[i] : kNaN);
                         }});
    };
    if (comparing()) {
      add("A", "error", values(0));
      add("B", "error", values(1));
      add("A − B", "error", difference_);
      return columns;
    }
    const QueryErrors& errors = *slots_[0].errors;
    add(std::string(name_of(metric())), "error", values(0));
    if (metric() != ErrorMetric::relative) add("relative", "", errors.relative);
    if (metric() != ErrorMetric::signed_difference) add("L̂ − L", "bias", errors.difference);
    return columns;
  }

  void add_table(Axes& axes, const Selection& selection) const {
    axes.title = comparing() ? "Largest differences" : "Worst queries";
    TextTable table;
    const std::vector<Column> columns = table_columns();
    for (const Column& column : columns) {
      table.headings.push_back(column.heading);
      table.aligns.push_back(column.align);
    }
    for (const Index t : worst_of()) {
      TextTable::Row row{.highlighted = selection.shown().query == t};
      for (const Column& column : columns) row.cells.push_back(column.cell(t));
      table.rows.push_back(std::move(row));
    }
    axes.table = std::move(table);
  }

  [[nodiscard]] std::string caption(const QuantityScale& quantity) const {
    std::string text = subject_of(*session_, state_);
    for (std::size_t s = 0; s < slots_.size(); ++s)
      text += fmt::format(" {}Error of the head {} (8.1).", comparing() ? (s == 0 ? "A: " : "B: ") : "",
                          short_number(slots_[s].errors->head.rel_sq_err, 4));
    text += fmt::format(" {}, {}.", query_error_formula(metric()), quantity.words);
    const Index shown = last_ - first_;
    if (shown > kMostBins)
      text += fmt::format(" Each point of a line stands for {} to {} queries, all of them counted.",
                          shown / kMostBins, (shown + kMostBins - 1) / kMostBins);
    text += counted_text(counted_, state_.selection);
    if (shown < N_) text += fmt::format(" Queries {} of {}.", span_text(first_, last_), N_);
    return text;
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<SlotErrors> slots_, heads_;
  std::vector<double> difference_;
  CountedQueries counted_;
  Index N_ = 0, first_ = 0, last_ = 0;
};

}  // namespace

std::shared_ptr<const ViewContent> query_error_content(Analysis& analysis, const ViewState& state,
                                                       Task& task) {
  return std::make_shared<QueryErrorContent>(analysis, state, task);
}

}  // namespace muse::viewer
