// Every number of what is selected, with the number of its formula.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "views/block_parts_axes.h"
#include "views/view_parts.h"
#include "views/views.h"

namespace muse::viewer {
namespace {

using namespace render;

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// A quantity of one slot. Section and name together occur once.
struct Item {
  std::string section, name, formula;
  double value = kNaN;
  bool whole = false;  // a count or an index
};

// An indented name as it is written: its subject stands in the row above, "key cluster 15: keys", and is not
// repeated.
std::string without_subject(std::string name, const std::string& row_above) {
  const std::string subject = row_above.substr(0, row_above.find(": "));
  if (subject == row_above) return name;
  for (const std::string& part : {", " + subject, " of " + subject, " up to " + subject})
    if (const std::size_t at = name.find(part); at != std::string::npos) return name.erase(at, part.size());
  return name;
}

std::string number(double value, bool whole) {
  if (std::isnan(value)) return "–";
  return whole ? fmt::format("{:.0f}", value) : short_number(value, 5);
}

class InspectorContent : public ViewContent {
 public:
  InspectorContent(Analysis& analysis, const ViewState& state, Task& task)
      : session_(analysis.shared_session()), state_(state) {
    counted_ = analysis.counted_queries(state, task);
    for (const Slot& slot : state.slots) slots_.push_back(items_of(analysis, slot, task));
  }

  [[nodiscard]] Drawn draw(const FigureOptions& options, const Selection&) const override {
    Figure figure(options);
    figure.title = title_;
    const bool two = slots_.size() > 1;
    // As many columns of tables as keep rows legible.
    std::vector<TextTable::Row> rows = rows_of();
    const double row_height = 18 * options.ui_scale;
    const auto fitting =
        static_cast<std::size_t>(std::max(8.0, (options.height - 150 * options.ui_scale) / row_height));
    const auto most_columns =
        static_cast<std::size_t>(std::max(1.0, options.width / (two ? 470.0 : 330.0) / options.ui_scale));
    std::size_t columns = std::clamp<std::size_t>((rows.size() + fitting - 1) / fitting, 1, most_columns);
    // Two halves that both scroll are harder to read than one table.
    if (columns == 2 && rows.size() > 2 * fitting) columns = 1;
    const std::size_t each = (rows.size() + columns - 1) / columns;
    // Beside two slots and their difference formulas have room only where names have it too.
    const bool formulas = !two || options.width / static_cast<double>(columns) >= 500 * options.ui_scale;
    for (std::size_t c = 0; c < columns; ++c) {
      TextTable table;
      table.headings = {"quantity", two ? "A" : "value"};
      table.aligns = {HAlign::left, HAlign::right};
      if (two) {
        table.headings.insert(table.headings.end(), {"B", "B − A"});
        table.aligns.insert(table.aligns.end(), {HAlign::right, HAlign::right});
      }
      if (formulas) {
        table.headings.emplace_back("formula");
        table.aligns.push_back(HAlign::left);
      }
      for (std::size_t r = c * each; r < std::min(rows.size(), (c + 1) * each); ++r)
        table.rows.push_back(rows[r]);
      if (!formulas)
        for (TextTable::Row& row : table.rows)
          if (!row.heading) row.cells.pop_back();
      figure.add(0, static_cast<int>(c)).table = std::move(table);
    }
    figure.caption =
        subject_of(*session_, state_) +
        " Formula numbers are those of docs/math.md. Log-masses are natural logarithms." +
        (counted_.all() ? ""
                        : counted_text(counted_, state_.selection) + " The section of the head has all.");
    return figure.draw();
  }

  [[nodiscard]] Hit hit(const Drawn& drawn, const Selection&, Point at) const override {
    return hit_of_frame(drawn, at);
  }

  [[nodiscard]] Numbers numbers() const override {
    Numbers numbers;
    numbers.label_name = "quantity";
    numbers.columns =
        slots_.size() > 1 ? std::vector<std::string>{"A", "B"} : std::vector<std::string>{"value"};
    for (std::size_t r = 0; r < slots_[0].size(); ++r) {
      numbers.labels.push_back(slots_[0][r].section + ": " + slots_[0][r].name);
      numbers.add({slots_[0][r].value});
      if (slots_.size() > 1) numbers.add({value_in(1, slots_[0][r])});
    }
    return numbers;
  }

 private:
  using Items = std::vector<Item>;

  [[nodiscard]] double value_in(std::size_t slot, const Item& like) const {
    for (const Item& item : slots_[slot])
      if (item.section == like.section && item.name == like.name) return item.value;
    return kNaN;
  }

  [[nodiscard]] std::vector<TextTable::Row> rows_of() const {
    std::vector<TextTable::Row> rows;
    // Quantities of A, and those that only B has.
    Items all = slots_[0];
    if (slots_.size() > 1)
      for (const Item& item : slots_[1]) {
        if (std::any_of(all.begin(), all.end(), [&](const Item& other) {
              return other.section == item.section && other.name == item.name;
            }))
          continue;
        const auto last = std::find_if(all.rbegin(), all.rend(),
                                       [&](const Item& other) { return other.section == item.section; });
        all.insert(last == all.rend() ? all.end() : last.base(), item);
      }
    std::string section, row_above;
    for (const Item& item : all) {
      const bool indented = item.name.starts_with("  ");
      if (!indented) row_above = item.name;
      if (item.section != section) rows.push_back({.cells = {item.section}, .heading = true});
      section = item.section;
      TextTable::Row row{.cells = {indented ? without_subject(item.name, row_above) : item.name,
                                   number(value_in(0, item), item.whole)}};
      if (slots_.size() > 1) {
        const double a = value_in(0, item), b = value_in(1, item);
        row.cells.push_back(number(b, item.whole));
        row.cells.push_back(number(b - a, item.whole));
      }
      row.cells.push_back(item.formula);
      rows.push_back(std::move(row));
    }
    return rows;
  }

  Items items_of(Analysis& analysis, const Slot& slot, Task& task) {
    Items items;
    const Target& target = state_.selection.shown();
    std::string section;
    const auto begin = [&](std::string name) { section = std::move(name); };
    const auto add = [&](std::string name, double value, std::string formula = "", bool whole = false) {
      items.push_back({section, std::move(name), std::move(formula), value, whole});
    };
    const auto add_count = [&](std::string name, Index value, std::string formula = "") {
      add(std::move(name), static_cast<double>(value), std::move(formula), true);
    };
    const bool muse = slot.method == Method::muse;
    if (target.query_cluster || target.key_cluster) {
      title_ = "Inspector: clusters";
      if (muse) add_clusters(analysis, slot, task, begin, add, add_count);
    } else if (target.query) {
      title_ = fmt::format("Inspector: query {}", token_name(*session_, *target.query));
      add_query(analysis, slot, *target.query, task, begin, add, add_count);
    } else if (target.block) {
      title_ = "Inspector: " + block_text(*target.block);
      add_block(analysis, slot, *target.block, task, begin, add, add_count);
    }
    if (title_.empty()) title_ = fmt::format("Inspector: {}", session_->head_name(slot.batch, slot.head));
    if (target.query && target.key) add_pair(analysis, slot, task, begin, add);
    if (!counted_.all()) add_counted(analysis, slot, task, begin, add, add_count);
    add_head(analysis, slot, task, begin, add, add_count);
    return items;
  }

  // The queries that the histogram's range leaves.
  template <class Begin, class Add, class AddCount>
  void add_counted(Analysis& analysis, const Slot& slot, Task& task, const Begin& begin, const Add& add,
                   const AddCount& add_count) const {
    const auto errors = analysis.query_errors(slot, task);
    const auto exact = analysis.exact(slot, task);
    double squared = 0, norm_sq = 0, bias = 0, of_all = 0;
    const Index N = std::ssize(errors->squared), count = counted_.count(N);
    for (Index n = 0; n < N; ++n) {
      const auto i = static_cast<std::size_t>(n);
      of_all += errors->squared[i];
      if (!counted_.holds(n)) continue;
      squared += errors->squared[i];
      norm_sq += exact->attention.o.row(n).squaredNorm();
      bias += errors->difference[i];
    }
    begin("Queries in the selected range");
    add_count("queries", count);
    add("share of all queries", static_cast<double>(count) / static_cast<double>(N));
    add("relative squared error", norm_sq > 0 ? squared / norm_sq : kNaN, "(8.1)");
    add("share of the head's squared error", of_all > 0 ? squared / of_all : kNaN);
    add("bias of the log-sum-exp", count > 0 ? bias / static_cast<double>(count) : kNaN, "(8.3)");
  }

  template <class Begin, class Add, class AddCount>
  void add_head(Analysis& analysis, const Slot& slot, Task& task, const Begin& begin, const Add& add,
                const AddCount& add_count) const {
    const auto errors = analysis.query_errors(slot, task);
    const auto run = analysis.run(slot, task);
    begin("The head");
    add("relative squared error", errors->head.rel_sq_err, "(8.1)");
    add("largest absolute error", errors->head.max_abs_err, "(8.2)");
    add("bias of the log-sum-exp", errors->head.lse_bias, "(8.3)");
    add_count("outputs not finite", errors->head.non_finite);
    add("operations, of exact", run->total_operations() / run->exact_operations, "section 7");
    add("  diagonal blocks, 10⁹", run->operations.local / 1e9, "(1.1)");
    add("  clustering, 10⁹", run->operations.clustering / 1e9, "(2.1)–(2.4)");
    add("  summaries, 10⁹", run->operations.summaries / 1e9, "(3.1)–(3.7)");
    add("  far field, 10⁹", run->operations.far_field / 1e9, "(4.1)–(4.5)");
    add("  retrieval, 10⁹", run->operations.retrieval / 1e9, "(5.2)");
    add("time, ms", 1e3 * run->seconds);
    if (std::any_of(state_.slots.begin(), state_.slots.end(), [](const Slot& s) { return s.on_gpu(); }))
      add_count("computed on the GPU (1) or the CPU (0)", slot.on_gpu() ? 1 : 0);
    add_count("queries", queries_of(*session_, slot));
    add_count("keys", keys_of(*session_, slot));
    add_count("dimension D", session_->dump().dim());
    add("scale s", session_->dump().scale, "(1.1)");
    const auto parts = analysis.block_parts(slot, task, counted_);
    begin("Parts of the sum");
    for (std::size_t m = 0; m < parts->error_up_to.size(); ++m) {
      const Index level = static_cast<Index>(m) - 1;
      double share = 0;
      for (const BlockPart& part : parts->blocks)
        if (part.block.level == level) share += part.error.share;
      const std::string who = level < 0 ? "diagonal" : fmt::format("level {}", level);
      add(who + ": share of mass", parts->mass_up_to[m] - (m == 0 ? 0 : parts->mass_up_to[m - 1]));
      add("  share of the error of " + who, share, "(8.6)");
      add("  error of the sum up to " + who, parts->error_up_to[m], "(8.1)");
    }
  }

  template <class Begin, class Add, class AddCount>
  void add_query(Analysis& analysis, const Slot& slot, Index query, Task& task, const Begin& begin,
                 const Add& add, const AddCount& add_count) const {
    const auto i = static_cast<std::size_t>(query);
    const auto errors = analysis.query_errors(slot, task);
    const auto exact = analysis.exact(slot, task);
    begin("The query");
    if (!counted_.all()) add_count("in the range (1) or not (0)", counted_.holds(query) ? 1 : 0);
    add("relative squared error", errors->relative[i], "(8.4)");
    add("‖ô − o‖", errors->absolute[i]);
    add("‖ô − o‖²", errors->squared[i]);
    add("‖ô‖", errors->value[i], "(7.1)");
    add("‖o‖", exact->attention.o.row(query).norm(), "(1.1)");
    add("L̂ − L", errors->difference[i], "(8.3)");
    add("L, exact log-sum-exp", exact->attention.lse[query], "(1.1)");
    if (slot.method != Method::muse) return;
    const auto explanation = analysis.explanation(slot, query, task);
    add("‖q‖", explanation->q_norm);
    add_count("keys that it sees", explanation->keys);
    if (explanation->has_local) {
      begin(fmt::format("Diagonal block, keys {}",
                        span_text(explanation->local.key_begin, explanation->local.key_end)));
      add("log-sum-exp", explanation->local.lse, "(1.1)");
      add("share of the mass", explanation->local.exact_share);
    }
    for (const LevelView& level : explanation->levels) {
      begin(fmt::format("Level {}, S = {}, keys {}", level.block.level, level.size,
                        span_text(level.block.key_begin, level.block.key_end)));
      add_count("query cluster i", level.cluster, "(2.1)");
      add_count("queries of the home in it", level.members, "(6.2)");
      add_count("query clusters", level.clusters_q, "(2.2)");
      add_count("key clusters", level.clusters_k, "(2.2)");
      add("‖δ‖", level.delta_norm, "(4.1)");
      add("log-sum-exp, far field", level.lse_far, "(4.3)");
      add_count("tokens retrieved", level.retrieved_tokens, "(5.1)");
      add("log-sum-exp, retrieved", level.lse_retrieved, "(5.2)");
      add("log-sum-exp, both", level.lse, "(1.3)");
      add("  exact log-sum-exp", level.exact_lse, "(1.1)");
      add("share of the mass", level.share);
      add("  exact share", level.exact_share);
      add("error of this part's output", level.rel_sq_err);
      const auto most = std::min(level.clusters.size(),
                                 static_cast<std::size_t>(std::min<std::int64_t>(state_.view.top, 4)));
      for (std::size_t c = 0; c < most; ++c) {
        const ClusterView& cluster = level.clusters[c];
        const std::string name = fmt::format("key cluster {}", cluster.cluster);
        add_count(name + ": keys", cluster.tokens, "(2.1)");
        add("  exact share of mass, " + name, cluster.exact_share);
        add_count("  retrieved (1) or not (0), " + name, cluster.retrieved ? 1 : 0, "(5.1)");
        add("  ℓ − exact log-mass, " + name, cluster.retrieved ? 0 : cluster.l - cluster.exact, "(4.2)");
      }
    }
  }

  template <class Begin, class Add>
  void add_pair(Analysis& analysis, const Slot& slot, Task& task, const Begin& begin, const Add& add) const {
    const Target& target = state_.selection.shown();
    const auto profile = analysis.profile(slot, *target.query, task);
    begin(fmt::format("Query {} and key {}", *target.query, token_name(*session_, *target.key)));
    const auto n = static_cast<std::size_t>(*target.key);
    if (*target.key >= profile->keys) {
      add("weight: the query does not see the key", 0);
      return;
    }
    add("exact weight", profile->exact[n], "(1.1)");
    for (const auto& order : profile->orders)
      add("weight by " + order.name, order.weights[n], "(3.3), (4.3)");
  }

  template <class Begin, class Add, class AddCount>
  void add_block(Analysis& analysis, const Slot& slot, const Block& block, Task& task, const Begin& begin,
                 const Add& add, const AddCount& add_count) const {
    const auto parts = analysis.block_parts(slot, task, counted_);
    for (const BlockPart& part : parts->blocks) {
      if (part.block != block) continue;
      begin(block_text(block));
      add_part(part.error, add);
      add("operations, 10⁹", part.operations / 1e9, "section 7");
      add_count("query clusters", part.clusters_q, "(2.2)");
      add_count("key clusters", part.clusters_k, "(2.2)");
    }
  }

  template <class Add>
  void add_part(const PartError& part, const Add& add) const {
    add("error with this part alone approximated", part.alone, "(8.5)");
    add("signed share of the head's error", part.share, "(8.6)");
    add("mean exact mass w", part.exact_mass, "(8.5)");
    add("mean mass ŵ as approximated", part.mass, "(8.5)");
    add("mean log-mass, approximate − exact", part.lse_bias);
  }

  template <class Begin, class Add, class AddCount>
  void add_clusters(Analysis& analysis, const Slot& slot, Task& task, const Begin& begin, const Add& add,
                    const AddCount& add_count) const {
    const Target& target = state_.selection.shown();
    const Block block = block_in_focus(*session_, slot, state_.view, state_.selection);
    const auto pairs = analysis.pair_errors(slot, block, task, counted_);
    const auto projection = analysis.projection(slot, block, state_.view.basis, task);
    begin(block_text(block));
    const bool has_i = target.query_cluster && *target.query_cluster < pairs->Cq;
    const bool has_j = target.key_cluster && *target.key_cluster < pairs->Ck;
    if (has_i) {
      add_count("query cluster i", *target.query_cluster);
      add_count("  queries of the block in it",
                pairs->sizes_q[static_cast<std::size_t>(*target.query_cluster)], "(6.2)");
    }
    if (has_j) {
      add_count("key cluster j", *target.key_cluster);
      add_count("  keys in it", pairs->sizes_k[static_cast<std::size_t>(*target.key_cluster)], "(2.1)");
    }
    if (has_i && has_j) {
      const Index i = *target.query_cluster, j = *target.key_cluster;
      add("log-mass L_ij, seen from q̄_i", projection->log_mass[static_cast<std::size_t>(i * pairs->Ck + j)],
          "(3.2)");
      add_count("retrieved (1) or expanded (0)",
                pairs->retrieved[static_cast<std::size_t>(i * pairs->Ck + j)], "(5.1)");
      add_part(pairs->at(i, j), add);
      return;
    }
    // One cluster: its sums over all clusters of the other side.
    PartError sum;
    Index retrieved = 0;
    const auto add_one = [&](Index i, Index j) {
      const PartError& pair = pairs->at(i, j);
      sum.share += pair.share;
      sum.alone += pair.alone;
      sum.exact_mass += pair.exact_mass;
      sum.mass += pair.mass;
      retrieved += pairs->retrieved[static_cast<std::size_t>(i * pairs->Ck + j)];
    };
    if (has_i) {
      for (Index j = 0; j < pairs->Ck; ++j) add_one(*target.query_cluster, j);
      add_count("key clusters that it retrieves", retrieved, "(5.1)");
      add("mean exact mass on the block", sum.exact_mass, "(8.5)");
      add("  as approximated", sum.mass, "(8.5)");
    } else if (has_j) {
      for (Index i = 0; i < pairs->Cq; ++i) add_one(i, *target.key_cluster);
      add_count("query clusters that retrieve it", retrieved, "(5.1)");
    }
    add("signed share of the head's error", sum.share, "(8.6)");
    add("sum of the errors of its pairs", sum.alone, "(8.5)");
  }

  std::shared_ptr<const DumpSession> session_;
  ViewState state_;
  std::vector<Items> slots_;
  CountedQueries counted_;
  std::string title_;
};

class InspectorView : public View {
 public:
  [[nodiscard]] std::string_view name() const override { return "inspector"; }
  [[nodiscard]] std::string_view title() const override { return "Inspector"; }
  [[nodiscard]] std::string_view help() const override {
    return "every number of the selected query, pair, cluster or block, with its formula";
  }
  [[nodiscard]] FigureOptions default_size() const override { return {.width = 1240, .height = 820}; }
  [[nodiscard]] bool follows_selection() const override { return true; }
  [[nodiscard]] bool follows_filter() const override { return true; }
  [[nodiscard]] std::shared_ptr<const ViewContent> prepare(Analysis& analysis, const ViewState& state,
                                                           Task& task) const override {
    return std::make_shared<InspectorContent>(analysis, state, task);
  }
};

}  // namespace

const View& inspector_view() {
  static const InspectorView view;
  return view;
}

}  // namespace muse::viewer
