#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <sstream>

#include "app/export.h"
#include "muse/check.h"
#include "viewer_dumps.h"
#include "views/view.h"

using namespace muse;
using namespace muse::viewer;
using muse::render::Drawn;
using muse::render::FigureOptions;
using muse::render::Point;

namespace {

constexpr FigureOptions kSmall{.width = 900, .height = 560};

ViewState small_state(const Slot& slot = small_slot()) {
  ViewState state;
  state.slots = {slot};
  return state;
}

// Words that an option's type names, such as linear|log.
std::vector<std::string> words_of(const std::string& type) {
  std::vector<std::string> words;
  std::istringstream parts(type);
  for (std::string part; std::getline(parts, part, '|');)
    if (!part.empty() && part.find_first_not_of("abcdefghijklmnopqrstuvwxyz") == std::string::npos)
      words.push_back(part);
  return words;
}

void check_picture(const Drawn& drawn, const FigureOptions& options) {
  CHECK(drawn.image.width == options.width);
  CHECK(drawn.image.height == options.height);
  CHECK_FALSE(drawn.frames.empty());
  for (const auto& text : drawn.texts) {
    CAPTURE(text.text);
    CHECK(text.box.x0 >= -1);
    CHECK(text.box.x1 <= options.width + 1);
    CHECK(text.box.y0 >= -1);
    CHECK(text.box.y1 <= options.height + 1);
  }
}

// Prepares and draws one view, and checks what comes.
std::shared_ptr<const ViewContent> show(const View& view, Analysis& analysis, const ViewState& state,
                                        const FigureOptions& options = kSmall) {
  WatchedTask task;
  const auto content = view.prepare(analysis, state, task);
  check_picture(content->draw(options, state.selection), options);
  const Numbers numbers = content->numbers();
  CHECK_FALSE(numbers.columns.empty());
  CHECK(numbers.values.size() == numbers.rows() * numbers.columns.size());
  CHECK((numbers.labels.empty() || numbers.labels.size() == numbers.rows()));
  return content;
}

Point middle_of(const render::Frame& frame, double x, double y) {
  return frame.to_pixel(x, y);
}

}  // namespace

TEST_CASE("there are nine views, each with a name of its own") {
  std::set<std::string_view> names;
  for (const View* view : all_views()) {
    names.insert(view->name());
    CHECK(&view_named(view->name()) == view);
    CHECK_FALSE(view->title().empty());
    CHECK_FALSE(view->help().empty());
  }
  CHECK(names == std::set<std::string_view>{"clusters", "attention", "error", "blocks", "profile",
                                            "histogram", "tradeoff", "inspector", "kmeans"});
  CHECK_THROWS_AS((void)view_named("pie"), UsageError);
}

TEST_CASE("every view draws with every value of every option") {
  const OpenDump open(random_dump(2, 160, 8));
  Analysis analysis(open.session);
  for (const View* view : all_views()) {
    CAPTURE(view->name());
    for (const ViewOptionInfo& option : view_option_table())
      for (const std::string& word : words_of(option.type)) {
        CAPTURE(option.name);
        CAPTURE(word);
        // The full grid of settings takes long, and only one view has it.
        if (word == "full") continue;
        ViewState state = small_state();
        set_view_option(state.view, option.name, word);
        state.selection.locked = Target{.query = 100};
        (void)show(*view, analysis, state);
      }
    for (const auto& option :
         std::initializer_list<std::pair<const char*, const char*>>{{"range", "1%:99%"},
                                                                    {"range", "1e-3:0.5"},
                                                                    {"level", "0"},
                                                                    {"block-index", "0"},
                                                                    {"up-to-level", "-1"},
                                                                    {"up-to-level", "1"},
                                                                    {"pass", "0"},
                                                                    {"bins", "7"},
                                                                    {"top", "3"},
                                                                    {"zoom", "10:40,60:90"}}) {
      const char *const name = option.first, *const value = option.second;
      CAPTURE(name);
      CAPTURE(value);
      // A zoom is in the units of the view's own axes.
      if (std::string_view(name) == "zoom" && view->name() != "attention" && view->name() != "blocks")
        continue;
      ViewState state = small_state();
      set_view_option(state.view, name, value);
      (void)show(*view, analysis, state);
    }
  }
}

TEST_CASE("every view compares two methods, shows one without clusters or says why it cannot") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  for (const View* view : all_views()) {
    CAPTURE(view->name());
    ViewState state = small_state();
    state.slots.push_back(small_slot("4", "32", "0"));
    for (const bool locked : {false, true}) {
      if (locked) state.selection.locked = Target{.query = 70, .key = 20};
      (void)show(*view, analysis, state);
    }
    Slot local = small_slot();
    local.method = Method::local;
    state.slots[1] = local;
    (void)show(*view, analysis, state);
    Slot exact = small_slot();
    exact.method = Method::exact;
    for (const Slot& alone : {local, exact}) {
      try {
        (void)show(*view, analysis, small_state(alone));
        CHECK(view->name() != "kmeans");
      } catch (const Error& error) {
        CHECK(std::string(error.what()).find("clusters") != std::string::npos);
        CHECK((view->name() == "clusters" || view->name() == "kmeans"));
      }
    }
    ViewState acausal = small_state();
    set_option(acausal.slots[0].config, "mode", "acausal");
    (void)show(*view, analysis, acausal);
  }
}

TEST_CASE("the outline of the blocks needs no computation, and is of the blocks that are computed") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  const ViewState state = small_state();
  const auto outline = view_named("blocks").outline(open.session, state);
  REQUIRE(outline);
  check_picture(outline->draw(kSmall, {}), kSmall);
  const Numbers shown = outline->numbers(), computed = show(view_named("blocks"), analysis, state)->numbers();
  REQUIRE(shown.rows() == computed.rows());
  for (std::size_t row = 0; row < shown.rows(); ++row)
    for (std::size_t column = 0; column < shown.columns.size(); ++column) {
      CHECK(shown.columns[column] == computed.columns[column]);
      CHECK(shown.values[row * shown.columns.size() + column] ==
            computed.values[row * computed.columns.size() + column]);
    }
  const Drawn drawn = outline->draw(kSmall, {});
  const Hit hit = outline->hit(drawn, {}, middle_of(drawn.frames.front(), 1.5, 150.5));
  CHECK(hit.target.query == 150);
  CHECK(hit.target.key == 1);
  REQUIRE(hit.target.block);
  CHECK(hit.target.block->level >= 0);
  CHECK(view_named("error").outline(open.session, state) == nullptr);
}

TEST_CASE("per pair and per block: error and histogram show them, alone and compared") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  for (const char* per : {"pair", "block"})
    for (const char* metric : {"value", "signed", "absolute", "squared", "relative"})
      for (const char* view : {"error", "histogram"}) {
        CAPTURE(per);
        CAPTURE(metric);
        ViewState state = small_state();
        set_view_option(state.view, "per", per);
        set_view_option(state.view, "metric", metric);
        (void)show(view_named(view), analysis, state);
        state.slots.push_back(small_slot("4", "32", "0"));
        (void)show(view_named(view), analysis, state);
      }
}

TEST_CASE("pictures of any size, light and dark, the same arguments give the same pixels") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session), another(open.session);
  WatchedTask task;
  ViewState state = small_state();
  state.selection.locked = Target{.query = 100};
  for (const View* view : all_views()) {
    CAPTURE(view->name());
    const auto content = view->prepare(analysis, state, task);
    for (const FigureOptions& options :
         {FigureOptions{.width = 60, .height = 40}, FigureOptions{.width = 300, .height = 900},
          FigureOptions{.width = 1400, .height = 300, .dark = true},
          FigureOptions{.width = 1200, .height = 900, .ui_scale = 2}})
      check_picture(content->draw(options, state.selection), options);
    const Drawn once = content->draw(kSmall, state.selection);
    CHECK(once.image == content->draw(kSmall, state.selection).image);
    // Measured times differ from run to run: nothing else may.
    if (view->name() != "tradeoff" && view->name() != "inspector")
      CHECK(once.image == view->prepare(another, state, task)->draw(kSmall, state.selection).image);
    FigureOptions dark = kSmall;
    dark.dark = true;
    CHECK(once.image != content->draw(dark, state.selection).image);
  }
}

TEST_CASE("what is under a pixel is what was drawn there: maps and blocks") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  for (const char* name : {"attention", "blocks"})
    for (const bool zoomed : {false, true}) {
      CAPTURE(name);
      ViewState state = small_state();
      if (zoomed) set_view_option(state.view, "zoom", "20:60,100:140");
      const auto content = show(view_named(name), analysis, state);
      const Drawn drawn = content->draw(kSmall, {});
      for (const Index query : {101, 120, 139})
        for (const Index key : {20, 33, 59}) {
          const Point at =
              middle_of(drawn.frames[0], static_cast<double>(key) + 0.5, static_cast<double>(query) + 0.5);
          const Hit hit = content->hit(drawn, {}, at);
          CHECK(hit.in_frame);
          CHECK(hit.target.query == query);
          CHECK(hit.target.key == key);
          CHECK_FALSE(hit.readout.empty());
        }
      CHECK(content->hit(drawn, {}, {-5, -5}).target.empty());
    }
}

TEST_CASE("what is under a pixel is what was drawn there: queries, pairs, tables") {
  const OpenDump open(random_dump(2, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  ViewState state = small_state();
  const auto queries = show(view_named("error"), analysis, state);
  Drawn drawn = queries->draw(kSmall, {});
  for (const Index query : {0, 77, 159}) {
    const render::Frame& frame = drawn.frames[0];
    const Point at{frame.x.to_pixel(static_cast<double>(query) + 0.5), 0.5 * (frame.box.y0 + frame.box.y1)};
    CHECK(queries->hit(drawn, {}, at).target.query == query);
  }
  // The first row of the table is the worst query; its heading sorts.
  const auto errors = analysis.query_errors(state.a(), task);
  const Index worst =
      std::max_element(errors->relative.begin(), errors->relative.end()) - errors->relative.begin();
  const render::Frame& table = drawn.frames.back();
  const Hit row = queries->hit(drawn, {}, {table.box.x0 + 5, table.y.to_pixel(0.5)});
  CHECK(row.target.query == worst);
  REQUIRE(row.zoom);
  CHECK(row.zoom->x.low <= static_cast<double>(worst));
  CHECK(row.zoom->x.high > static_cast<double>(worst));
  const Hit heading = queries->hit(drawn, {}, {table.box.x0 + 5, table.y.to_pixel(-0.5)});
  REQUIRE(heading.option);
  CHECK(heading.option->first == "table-sort");
  set_view_option(state.view, heading.option->first, heading.option->second);

  // A low picture cuts the table: its last line is no row, and after a click on it other rows are hit.
  set_view_option(state.view, "table-sort", "error");
  FigureOptions low = kSmall;
  low.height = 220;
  const auto cut = show(view_named("error"), analysis, state, low);
  drawn = cut->draw(low, {});
  REQUIRE(drawn.frames.back().scrolled);
  const render::Scrolled scrolled = *drawn.frames.back().scrolled;
  const auto row_at = [&](double row) {
    const render::Frame& frame = drawn.frames.back();
    return cut->hit(drawn, {}, {frame.box.x0 + 5, frame.y.to_pixel(row)}).target.query;
  };
  CHECK(row_at(0.5) == worst);
  const auto last_shown = row_at(static_cast<double>(scrolled.shown) - 0.5);
  CHECK(last_shown);
  CHECK_FALSE(row_at(static_cast<double>(scrolled.shown) + 0.5));
  low.first_row = 2;
  drawn = cut->draw(low, {});
  CHECK(row_at(static_cast<double>(scrolled.shown) - 0.5) == last_shown);
  CHECK(row_at(static_cast<double>(scrolled.shown) + 1.5));
  CHECK_FALSE(row_at(1.5));
  CHECK_FALSE(
      cut->hit(drawn, {}, {drawn.frames.back().scrolled->track.x0 + 1, drawn.frames.back().y.to_pixel(3.5)})
          .target.query);

  set_view_option(state.view, "per", "pair");
  set_view_option(state.view, "table-sort", "error");
  const auto content = show(view_named("error"), analysis, state);
  drawn = content->draw(kSmall, {});
  const Hit first = content->hit(drawn, {}, middle_of(drawn.frames[0], 0.5, 0.5));
  REQUIRE(first.target.query_cluster);
  REQUIRE(first.target.key_cluster);
  const Block block = block_in_focus(*open.session, state.a(), state.view, {});
  const auto pairs = analysis.pair_errors(state.a(), block, task);
  // Rows are sorted: no query cluster has a larger sum than the first.
  const auto sum_of = [&](Index i) {
    double sum = 0;
    for (Index j = 0; j < pairs->Ck; ++j) sum += pairs->at(i, j).alone;
    return sum;
  };
  for (Index i = 0; i < pairs->Cq; ++i)
    if (pairs->sizes_q[static_cast<std::size_t>(i)] > 0)
      CHECK(sum_of(i) <= sum_of(*first.target.query_cluster) * (1 + 1e-12));
}

TEST_CASE("what is under a pixel is what was drawn there: points of clusters and of the trade-off") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  const ViewState state = small_state();
  const auto clusters = show(view_named("clusters"), analysis, state);
  Drawn drawn = clusters->draw(kSmall, {});
  const Block block = block_in_focus(*open.session, state.a(), state.view, {});
  const auto projection = analysis.projection(state.a(), block, Basis::separate, task);
  for (const Index n : {0, 5, 31}) {
    const Hit hit = clusters->hit(
        drawn, {}, middle_of(drawn.frames[0], projection->queries.xy(n, 0), projection->queries.xy(n, 1)));
    CHECK(hit.target.query == block.query_begin + n);
    CHECK(hit.target.query_cluster == projection->queries.labels[static_cast<std::size_t>(n)]);
    const Hit key = clusters->hit(
        drawn, {}, middle_of(drawn.frames[1], projection->keys.xy(n, 0), projection->keys.xy(n, 1)));
    CHECK(key.target.key == block.key_begin + n);
  }
  const auto trade = show(view_named("tradeoff"), analysis, state);
  drawn = trade->draw(kSmall, {});
  const auto points = analysis.trade_off(state.a(), Grid::quick, state.view.max_error, task);
  for (std::size_t p = 0; p < points->points.size(); ++p) {
    const TradeOffPoint& point = points->points[p];
    const Hit hit = trade->hit(drawn, {}, middle_of(drawn.frames[0], point.operations, point.error));
    REQUIRE(hit.target.point);
    // Settings may coincide: what is hit lies at the same place.
    CHECK(points->points[*hit.target.point].operations == doctest::Approx(point.operations).epsilon(0.02));
    CHECK(trade->setting_of(hit.target) == points->points[*hit.target.point].slot);
  }
}

TEST_CASE("a filter leaves only its queries, in pictures and numbers") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  ViewState state = small_state();
  const auto errors = analysis.query_errors(state.a(), task);
  std::vector<double> sorted = errors->relative;
  std::sort(sorted.begin(), sorted.end());
  state.selection.filter = ValueFilter{sorted[120], sorted[150]};
  const auto content = show(view_named("error"), analysis, state);
  CHECK(content->numbers().rows() == 31);
  // It reaches every view but the trade-off and the k-means playback, which are of no single query.
  ViewState all = state;
  all.selection.filter.reset();
  for (const View* view : all_views()) {
    CAPTURE(view->name());
    const bool follows = view->name() != "tradeoff" && view->name() != "kmeans";
    CHECK(view->follows_filter() == follows);
    CHECK((content_key(*view, state) != content_key(*view, all)) == follows);
    if (!follows) continue;
    const Drawn filtered = show(*view, analysis, state)->draw(kSmall, state.selection);
    CHECK(filtered.image != show(*view, analysis, all)->draw(kSmall, all.selection).image);
    if (view->name() != "histogram") CHECK(filtered.caption.find("31 of 160 queries") != std::string::npos);
  }
}

TEST_CASE("what a filter leaves of blocks, pairs and maps is what the queries that count make of them") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  ViewState state = small_state();
  const auto errors = analysis.query_errors(state.a(), task);
  const auto exact = analysis.exact(state.a(), task);
  std::vector<double> sorted = errors->relative;
  std::sort(sorted.begin(), sorted.end());
  state.selection.filter = ValueFilter{sorted[100], sorted[150]};
  const CountedQueries counted = analysis.counted_queries(state, task);
  double squared = 0, norm_sq = 0;
  for (Index n = 0; n < 160; ++n) {
    const auto i = static_cast<std::size_t>(n);
    CHECK(counted.holds(n) == state.selection.filter->holds(errors->relative[i]));
    if (!counted.holds(n)) continue;
    squared += errors->squared[i];
    norm_sq += exact->attention.o.row(n).squaredNorm();
  }
  // (8.1) of those queries; shares of the blocks add up to it (8.6), and those of pairs to their block's.
  const auto parts = analysis.block_parts(state.a(), task, counted);
  CHECK(parts->rel_sq_err == doctest::Approx(squared / norm_sq).epsilon(1e-12));
  CHECK(parts->error_up_to.back() == doctest::Approx(squared / norm_sq).epsilon(1e-5));
  double shares = 0;
  for (const BlockPart& part : parts->blocks) {
    shares += part.error.share;
    Index inside = 0;
    for (Index n = part.block.query_begin; n < part.block.query_end; ++n) inside += counted.holds(n) ? 1 : 0;
    CHECK(part.error.queries == inside);
    if (part.block.level < 0) continue;
    const auto pairs = analysis.pair_errors(state.a(), part.block, task, counted);
    double of_pairs = 0;
    for (const PartError& pair : pairs->pairs) of_pairs += pair.share;
    CHECK(of_pairs == doctest::Approx(part.error.share).epsilon(1e-4));
  }
  CHECK(shares == doctest::Approx(squared / norm_sq).epsilon(1e-5));
  // Rows of the map that do not count are empty, the others as they are without a filter.
  const auto map = [&](const CountedQueries& of) {
    return analysis.pyramid(state.a(), MapKind::exact, TokenSort::position, 0, task, of)
        ->view(0, 160, 0, 160, 160, Aggregation::max, ErrorMetric::value, task);
  };
  const MapView whole = map({}), part = map(counted);
  REQUIRE(part.cell == 1);
  for (Index q = 0; q < 160; ++q)
    for (Index k = 0; k <= q; ++k) {
      if (counted.holds(q))
        CHECK(part.values.at(q, k) == doctest::Approx(whole.values.at(q, k)).epsilon(1e-5));
      else
        CHECK(std::isnan(part.values.at(q, k)));
    }
}

TEST_CASE("a range of pairs or blocks leaves those in their own views, and no query out") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  ViewState state = small_state();
  const auto parts = analysis.block_parts(state.a(), task);
  std::vector<double> errors;
  for (const BlockPart& part : parts->blocks)
    if (part.block.level >= 0) errors.push_back(part.error.alone);
  std::sort(errors.begin(), errors.end());
  state.selection.filter = ValueFilter{errors.back(), errors.back(), ErrorPer::block};
  CHECK(analysis.counted_queries(state, task).all());
  set_view_option(state.view, "per", "block");
  Selection everything = state.selection;
  everything.filter.reset();
  // The table of the worst has the one block that is left.
  const auto rows_of = [&](const ViewState& of) {
    const Drawn drawn = show(view_named("error"), analysis, of, {.width = 1100, .height = 560})
                            ->draw({.width = 1100, .height = 560}, of.selection);
    return std::count_if(drawn.texts.begin(), drawn.texts.end(), [](const auto& text) {
      return text.text.find("…") != std::string::npos && text.role == muse::render::TextRole::mark;
    });
  };
  ViewState all = state;
  all.selection = everything;
  CHECK(rows_of(state) == 2);  // its queries and its keys
  CHECK(rows_of(all) == 2 * std::ssize(errors));
}

TEST_CASE("numbers of the pictures: as many as are shown, and the right ones") {
  const OpenDump open(random_dump(2, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  ViewState state = small_state();
  const Numbers errors = show(view_named("error"), analysis, state)->numbers();
  CHECK(errors.rows() == 160);
  CHECK(errors.values[2 * 100 + 1] == analysis.query_errors(state.a(), task)->relative[100]);
  const Numbers histogram = show(view_named("histogram"), analysis, state)->numbers();
  double counted = 0;
  for (std::size_t b = 0; b < histogram.rows(); ++b) counted += histogram.values[3 * b + 2];
  const auto& relative = analysis.query_errors(state.a(), task)->relative;
  CHECK(counted == std::count_if(relative.begin(), relative.end(), [](double v) { return v > 0; }));
  set_view_option(state.view, "heads", "all");
  CHECK(show(view_named("error"), analysis, state)->numbers().columns.size() == 3);
  // CSV: names, then rows; what is not a number is left empty.
  Numbers numbers{.columns = {"a", "b,c"},
                  .values = {1, std::nan(""), 0.1, 2},
                  .labels = {"x", "y\"z"},
                  .label_name = "name"};
  CHECK(csv_text(numbers) == "name,a,\"b,c\"\nx,1,\n\"y\"\"z\",0.1,2\n");
}

TEST_CASE("a content's key changes with what it shows, and not with what only the drawing needs") {
  const View &error = view_named("error"), &profile = view_named("profile");
  ViewState state = small_state();
  const std::string key = content_key(error, state), profile_key = content_key(profile, state);
  state.selection.hover(Target{.query = 3});
  CHECK(content_key(error, state) == key);
  CHECK(content_key(profile, state) != profile_key);
  state.view.metric = ErrorMetric::squared;
  CHECK(content_key(error, state) != key);
  state.view.metric.reset();
  set_option(state.slots[0].config, "retrieve", "5");
  CHECK(content_key(error, state) != key);
}
