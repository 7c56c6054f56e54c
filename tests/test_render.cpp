#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <random>
#include <set>

#include "muse/check.h"
#include "render/attention_figure.h"
#include "render/compare_figure.h"
#include "render/figure.h"
#include "render/label_placement.h"

using namespace muse::render;
using muse::FileError;
using muse::MisfitError;
using muse::UsageError;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// A folder of its own for each test, gone afterwards.
struct Folder {
  std::filesystem::path path;

  explicit Folder(const char* name) : path(std::filesystem::temp_directory_path() / name) {
    std::filesystem::remove_all(path);
    std::filesystem::create_directories(path);
  }
  ~Folder() { std::filesystem::remove_all(path); }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
};

int channel_distance(Color a, Color b) {
  return std::max({std::abs(a.r - b.r), std::abs(a.g - b.g), std::abs(a.b - b.b)});
}

// What a dichromat sees (Machado, Oliveira and Fernandes 2009), as a linear map of linear RGB.
Color seen_by(const std::array<std::array<double, 3>, 3>& matrix, Color color) {
  const auto linear = [](std::uint8_t byte) {
    const double c = byte / 255.0;
    return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
  };
  const auto encoded = [](double c) {
    c = std::clamp(c, 0.0, 1.0);
    return static_cast<std::uint8_t>(
        std::lround(255 * (c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055)));
  };
  const std::array<double, 3> in{linear(color.r), linear(color.g), linear(color.b)};
  const auto row = [&](std::size_t i) {
    return encoded(matrix[i][0] * in[0] + matrix[i][1] * in[1] + matrix[i][2] * in[2]);
  };
  return {row(0), row(1), row(2)};
}

Matrix random_matrix(std::int64_t rows, std::int64_t cols, unsigned seed, double missing = 0) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_real_distribution<double> uniform;
  Matrix matrix{rows, cols, {}};
  for (std::int64_t i = 0; i < rows * cols; ++i)
    matrix.values.push_back(uniform(random) < missing ? std::nanf("") : normal(random));
  return matrix;
}

// A mantissa of 1, 2 or 5, or a multiple of one such step that all ticks share.
bool is_one_two_five(double step) {
  const double mantissa = step / std::pow(10.0, std::floor(std::log10(step) + 1e-9));
  return std::abs(mantissa - 1) < 1e-6 || std::abs(mantissa - 2) < 1e-6 || std::abs(mantissa - 5) < 1e-6;
}

std::vector<Tick> majors(const std::vector<Tick>& ticks) {
  std::vector<Tick> kept;
  std::copy_if(ticks.begin(), ticks.end(), std::back_inserter(kept),
               [](const Tick& tick) { return tick.major; });
  return kept;
}

void check_ticks(const Scale& scale, const std::vector<Tick>& ticks) {
  const std::vector<Tick> labelled = majors(ticks);
  CAPTURE(scale.range().low);
  CAPTURE(scale.range().high);
  REQUIRE(labelled.size() >= 3);
  REQUIRE(labelled.size() <= 12);
  std::set<std::string> labels;
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    CHECK(ticks[i].value >= scale.range().low);
    CHECK(ticks[i].value <= scale.range().high);
    if (i > 0) CHECK(ticks[i].value > ticks[i - 1].value);
    CHECK(ticks[i].major == !ticks[i].label.empty());
    if (ticks[i].major) CHECK(labels.insert(ticks[i].label).second);
  }
}

CompareFigure sample_compare(FigureOptions options) {
  std::mt19937 random(3);
  std::lognormal_distribution<double> noise(0, 1);
  CompareFigure compare;
  compare.options = options;
  compare.title = "Heads of layer 12";
  compare.dump = "dump.npz";
  compare.mode = "causal";
  compare.settings = "block 1024, clusters S/16:32:512";
  compare.tokens = 16384;
  compare.heads = {"0", "1", "2"};
  for (const char* name : {"centroid", "monopole", "dipole with retrieval"}) {
    CompareMethod method{name, {}};
    for (int head = 0; head < 3; ++head) {
      std::vector<double> errors(256);
      for (double& error : errors) error = 1e-4 * noise(random);
      errors[0] = 0;
      errors[9] = kNaN;
      method.errors.push_back(errors);
    }
    compare.methods.push_back(method);
    for (int k = 0; k < 4; ++k)
      compare.points.push_back(
          {name, "C=" + std::to_string(32 << k), 0.02 * std::pow(2, k), 1e-3 * noise(random)});
  }
  compare.points.push_back({"exact", "exact", 1, 0});
  for (std::int64_t row = 0; row < 16384; row += 2048) {
    compare.blocks.push_back({row, row + 1024, row, row + 1024, 0, true});
    compare.blocks.push_back({row + 1024, row + 2048, row, row + 1024, 1, false});
  }
  return compare;
}

bool shows_text(const Drawn& drawn, std::string_view part) {
  return std::any_of(drawn.texts.begin(), drawn.texts.end(),
                     [&](const TextBox& text) { return text.text.find(part) != std::string::npos; });
}

void check_texts(const Drawn& drawn) {
  const PixelBox picture{0, 0, static_cast<double>(drawn.image.width),
                         static_cast<double>(drawn.image.height)};
  for (std::size_t i = 0; i < drawn.texts.size(); ++i) {
    CAPTURE(drawn.texts[i].text);
    CHECK(picture.grown(1e-6).holds(drawn.texts[i].box));
    for (std::size_t j = 0; j < i; ++j) {
      CAPTURE(drawn.texts[j].text);
      CHECK_FALSE(drawn.texts[i].box.grown(-0.5).overlaps(drawn.texts[j].box.grown(-0.5)));
    }
  }
}

}  // namespace

TEST_CASE("the named colour maps meet their known anchor values within two 8-bit steps") {
  struct Anchor {
    int index;
    Color color;
  };
  const auto check = [](ColormapName name, std::initializer_list<Anchor> anchors) {
    const Colormap map(name);
    for (const Anchor& anchor : anchors) {
      CAPTURE(name_of(name));
      CAPTURE(anchor.index);
      CHECK(channel_distance(map(anchor.index / 255.0), anchor.color) <= 2);
      CHECK(map.table()[static_cast<std::size_t>(anchor.index)] == map(anchor.index / 255.0));
    }
  };
  check(ColormapName::viridis, {{0, {68, 1, 84}},
                                {32, {71, 45, 123}},
                                {64, {59, 82, 139}},
                                {96, {44, 114, 142}},
                                {128, {33, 145, 140}},
                                {160, {40, 174, 128}},
                                {192, {94, 201, 98}},
                                {224, {173, 220, 48}},
                                {255, {253, 231, 37}}});
  check(ColormapName::magma, {{0, {0, 0, 4}},
                              {32, {29, 17, 71}},
                              {64, {81, 18, 124}},
                              {96, {131, 38, 129}},
                              {128, {183, 55, 121}},
                              {160, {231, 82, 99}},
                              {192, {252, 137, 97}},
                              {224, {254, 196, 136}},
                              {255, {252, 253, 191}}});
  check(ColormapName::cividis, {{0, {0, 34, 78}},
                                {64, {67, 78, 108}},
                                {128, {125, 124, 120}},
                                {192, {188, 174, 108}},
                                {255, {254, 232, 56}}});
}

TEST_CASE("sequential maps get lighter all the way") {
  for (const ColormapName name :
       {ColormapName::viridis, ColormapName::magma, ColormapName::cividis, ColormapName::gray}) {
    CAPTURE(name_of(name));
    const Colormap map(name);
    const auto table = map.table();
    for (std::size_t i = 4; i < table.size(); i += 4) CHECK(to_lab(table[i]).L > to_lab(table[i - 4]).L);
  }
}

TEST_CASE("the diverging map is white at zero, blue below, red above, and as dark on either side") {
  const Colormap map(ColormapName::diverging);
  CHECK(to_lab(map(0.5)).L > 0.96);
  CHECK(map(0).b > map(0).r + 100);
  CHECK(map(1).r > map(1).b + 100);
  for (int i = 0; i <= 100; ++i) {
    const double t = i / 200.0;
    CAPTURE(t);
    CHECK(to_lab(map(t)).L == doctest::Approx(to_lab(map(1 - t)).L).epsilon(0.012));
    if (i >= 4) CHECK(to_lab(map(t)).L > to_lab(map(t - 0.02)).L);
  }
}

TEST_CASE("missing values have a colour that the map does not have, values beyond the range take its ends") {
  for (std::size_t i = 0; i < colormap_names().size(); ++i) {
    const Colormap map(static_cast<ColormapName>(i));
    CAPTURE(name_of(map.name()));
    CHECK(colormap_from_name(colormap_names()[i]) == map.name());
    CHECK(map(kNaN) == map.missing());
    CHECK(map(-kInfinity) == map(0));
    CHECK(map(7) == map(1));
    for (const Color color : map.table()) CHECK(lab_distance(color, map.missing()) > 0.02);
  }
  CHECK_THROWS_AS(static_cast<void>(colormap_from_name("jet")), UsageError);
}

TEST_CASE("neighbouring clusters and levels are told apart, also by colour-blind eyes") {
  constexpr std::array<std::array<double, 3>, 3> kProtan{
      {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}}};
  constexpr std::array<std::array<double, 3>, 3> kDeutan{
      {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}}};
  for (int i = 0; i + 1 < 60; ++i) {
    CAPTURE(i);
    const Color one = categorical(i), next = categorical(i + 1);
    CHECK(lab_distance(one, next) > 0.18);
    CHECK(lab_distance(seen_by(kProtan, one), seen_by(kProtan, next)) > 0.035);
    CHECK(lab_distance(seen_by(kDeutan, one), seen_by(kDeutan, next)) > 0.035);
    for (int j = 0; j < i && i < 8; ++j) CHECK(lab_distance(one, categorical(j)) > 0.06);
  }
  for (int level = 0; level + 1 < 7; ++level) {
    CHECK(lab_distance(ordinal(level, 7), ordinal(level + 1, 7)) > 0.05);
    CHECK(to_lab(ordinal(level + 1, 7)).L > to_lab(ordinal(level, 7)).L);
  }
}

TEST_CASE("scales go there and back") {
  for (const Scale& scale :
       {Scale(ScaleKind::linear, {-3, 12}), Scale(ScaleKind::log, {1e-9, 4e5}),
        Scale(ScaleKind::symlog, {-50, 2000}, 0.01), Scale(ScaleKind::symlog, {-1, 1})}) {
    CHECK(scale.to_unit(scale.range().low) == doctest::Approx(0));
    CHECK(scale.to_unit(scale.range().high) == doctest::Approx(1));
    for (int i = -10; i <= 110; ++i) {
      const double position = i / 100.0;
      CHECK(scale.to_unit(scale.from_unit(position)) == doctest::Approx(position).epsilon(1e-9));
      CHECK(scale.from_unit(position) < scale.from_unit(position + 0.01));
    }
    CHECK(std::isnan(scale.to_unit(kNaN)));
  }
  CHECK(Scale(ScaleKind::log, {1e-4, 1}).to_unit(1e-2) == doctest::Approx(0.5));
  CHECK(Scale(ScaleKind::log, {1e-4, 1}).to_unit(0) == -kInfinity);
  CHECK(Scale(ScaleKind::symlog, {-8, 8}, 0.1).to_unit(0) == doctest::Approx(0.5));
}

TEST_CASE("ranges without width are widened, impossible ones refused") {
  CHECK(Scale(ScaleKind::linear, {2, 2}).to_unit(2) == doctest::Approx(0.5));
  CHECK(Scale(ScaleKind::log, {2, 2}).to_unit(2) == doctest::Approx(0.5));
  CHECK(Scale(ScaleKind::linear, {0, 0}).range() == Range{-1, 1});
  CHECK_THROWS_AS(Scale(ScaleKind::linear, {1, 0}), MisfitError);
  CHECK_THROWS_AS(Scale(ScaleKind::log, {0, 1}), MisfitError);
  CHECK_THROWS_AS(Scale(ScaleKind::linear, {0, kNaN}), MisfitError);
  CHECK_THROWS_AS(Scale(ScaleKind::linear, {-1e308, 1e308}), MisfitError);
}

TEST_CASE("ranges leave out what is not finite, and what a log scale cannot show") {
  const std::vector<double> values{kNaN, -2, 0, 1e-3, 5, kInfinity};
  CHECK(finite_range(std::span<const double>(values)) == Range{-2, 5});
  CHECK(finite_range(std::span<const double>(values), ScaleKind::log) == Range{1e-3, 5});
  const std::vector<double> nothing{kNaN, 0};
  CHECK(finite_range(std::span<const double>(nothing), ScaleKind::log) == Range{0.1, 1});
  std::vector<float> hundred;
  for (int i = 100; i >= 0; --i) hundred.push_back(static_cast<float>(i));
  CHECK(percentile_range(std::span<const float>(hundred), 5, 99) == Range{5, 99});
  CHECK(percentile_range(std::span<const float>(hundred), 0, 100) == Range{0, 100});
  CHECK_THROWS_AS(static_cast<void>(percentile_range(std::span<const float>(hundred), 60, 40)), MisfitError);
  CHECK(symmetric({-1, 3}) == Range{-3, 3});
}

TEST_CASE("ticks of random ranges: 3 to 12, inside, ascending, distinct, at round numbers") {
  std::mt19937 random(11);
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::uniform_int_distribution<int> wanted(3, 12);
  for (int trial = 0; trial < 1500; ++trial) {
    const double center = uniform(random) * std::pow(10, 12 * uniform(random));
    const double extent = std::pow(10, 12 * uniform(random));
    const Scale scale(ScaleKind::linear, {center - extent, center + extent});
    const std::vector<Tick> ticks = make_ticks(scale, wanted(random));
    check_ticks(scale, ticks);
    const std::vector<Tick> labelled = majors(ticks);
    if (extent < 1e-5 * std::abs(center))
      continue;  // differences of ticks are no longer exact enough to judge
    CHECK(is_one_two_five(labelled[1].value - labelled[0].value));
  }
  for (int trial = 0; trial < 1500; ++trial) {
    const double low = std::pow(10, 30 * uniform(random));
    const Scale scale(ScaleKind::log, {low, low * std::pow(10, 20 * std::pow(std::abs(uniform(random)), 3))});
    check_ticks(scale, make_ticks(scale, wanted(random)));
  }
  for (int trial = 0; trial < 1500; ++trial) {
    const double magnitude = std::pow(10, 8 * uniform(random));
    const double a = magnitude * uniform(random), b = magnitude * uniform(random);
    if (std::abs(a - b) < 1e-3 * magnitude) continue;
    const Scale scale(ScaleKind::symlog, {std::min(a, b), std::max(a, b)},
                      magnitude * std::pow(10, -2 + 2 * uniform(random)));
    check_ticks(scale, make_ticks(scale, wanted(random)));
  }
}

TEST_CASE("ticks of tokens are multiples of a power of two") {
  std::mt19937 random(12);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int trial = 0; trial < 500; ++trial) {
    const double low = std::floor(uniform(random) * 60000);
    const Scale scale(ScaleKind::linear, {low, low + 3 + std::floor(std::pow(2, 18 * uniform(random)))});
    const std::vector<Tick> ticks = make_ticks(scale, 6, TickStyle::tokens);
    check_ticks(scale, ticks);
    const std::vector<Tick> labelled = majors(ticks);
    const double step = labelled[1].value - labelled[0].value;
    CHECK(std::exp2(std::round(std::log2(step))) == step);
    for (const Tick& tick : labelled) CHECK(std::fmod(tick.value, step) == 0);
  }
  const std::vector<Tick> ticks =
      majors(make_ticks(Scale(ScaleKind::linear, {0, 16384}), 5, TickStyle::tokens));
  REQUIRE(ticks.size() == 5);
  CHECK(ticks[1].label == "4k");
  CHECK(ticks[4].label == "16k");
}

TEST_CASE("decades are labelled as powers, or plainly where that is short") {
  const std::vector<Tick> powers = majors(make_ticks(Scale(ScaleKind::log, {1e-6, 1}), 9));
  REQUIRE(powers.size() == 7);
  CHECK(powers[0].label == "10⁻⁶");
  CHECK(powers[6].label == "10⁰");
  const std::vector<Tick> plain = majors(make_ticks(Scale(ScaleKind::log, {0.01, 100}), 6));
  REQUIRE(plain.size() == 5);
  CHECK(plain[0].label == "0.01");
  CHECK(plain[4].label == "100");
}

TEST_CASE("numbers are short and keep what counts") {
  CHECK(short_number(0.25) == "0.25");
  CHECK(short_number(1e-3) == "1e-3");
  CHECK(short_number(-1.5e-12) == "−1.5e-12");
  CHECK(short_number(12800) == "12800");
  CHECK(short_number(2.4e9) == "2.4e9");
  CHECK(short_number(0) == "0");
  CHECK(short_number(kNaN) == "no data");
  CHECK(short_number(kInfinity) == "∞");
  CHECK(token_count(16384) == "16k");
  CHECK(token_count(1536) == "1.5k");
  CHECK(token_count(1000) == "1000");
  CHECK(token_count(3 * 1024 * 1024) == "3M");
}

TEST_CASE("one hot cell among 4096 x 4096 is visible on 200 pixels, wherever it is") {
  Matrix matrix{4096, 4096, std::vector<float>(4096 * 4096, 0.0f)};
  std::mt19937 random(5);
  std::uniform_int_distribution<std::int64_t> place(0, 4095);
  for (int trial = 0; trial < 8; ++trial) {
    const std::int64_t row = trial == 0 ? 0 : trial == 1 ? 4095 : place(random);
    const std::int64_t col = trial == 0 ? 4095 : trial == 1 ? 0 : place(random);
    float& cell = matrix.values[static_cast<std::size_t>(row * 4096 + col)];
    cell = trial % 2 == 0 ? 1.0f : -1.0f;
    const Aggregate aggregate = trial % 2 == 0 ? Aggregate::max : Aggregate::max_magnitude;
    const PixelEdges edges = equal_pixels(0, 4096, 200);
    const Resampled shown = resample(matrix, edges, edges, aggregate);
    CHECK(shown.aggregated);
    const auto hot = std::count(shown.pixels.values.begin(), shown.pixels.values.end(), cell);
    CHECK(hot >= 1);
    CHECK(hot <= 4);  // a cell on the edge of a pixel belongs to both sides
    CHECK(shown.pixels.at(row * 200 / 4096, col * 200 / 4096) == cell);
    cell = 0;
  }
}

TEST_CASE("a hot cell is visible in the picture, and the caption names the aggregation") {
  Figure figure({.width = 320, .height = 300});
  Axes& axes = figure.add();
  Heatmap map{.matrix = {4096, 4096, std::vector<float>(4096 * 4096, 0.0f)}, .extent = {0, 0, 4096, 4096}};
  map.matrix.values[1234u * 4096 + 3210] = 1;
  axes.add(std::move(map));
  const Drawn drawn = figure.draw();
  const Colormap viridis;
  int hot = 0;
  const PixelBox& box = drawn.frames[0].box;
  for (int y = static_cast<int>(box.y0); y < box.y1; ++y)
    for (int x = static_cast<int>(box.x0); x < box.x1; ++x) hot += drawn.image.at(x, y) == viridis(1) ? 1 : 0;
  CHECK(hot >= 1);
  CHECK(hot <= 4);
  const Point at = drawn.frames[0].to_pixel(3210.5, 1234.5);
  CHECK(drawn.image.at(static_cast<int>(at.x), static_cast<int>(at.y)) == viridis(1));
  REQUIRE(drawn.notes.size() == 1);
  CHECK(drawn.notes[0].find("maximum") != std::string::npos);
  CHECK(drawn.caption.find("maximum") != std::string::npos);
}

TEST_CASE("a small picture leaves its caption out, but still has it to tell") {
  for (const double ui_scale : {1.0, 2.0})
    for (const int height : {300, 600}) {
      CAPTURE(ui_scale);
      CAPTURE(height);
      Figure figure({.width = static_cast<int>(700 * ui_scale),
                     .height = static_cast<int>(height * ui_scale),
                     .ui_scale = ui_scale});
      figure.caption = "what it is of";
      figure.add().add(Line{.x = {0, 1}, .y = {0, 1}});
      const Drawn drawn = figure.draw();
      CHECK(drawn.caption == "what it is of");
      CHECK(shows_text(drawn, "what it is of") == (height == 600));
    }
}

TEST_CASE("where a title or label does not fit, its brief form is written") {
  for (const int width : {240, 900}) {
    CAPTURE(width);
    Figure figure({.width = width, .height = width / 2});
    figure.title = "a title of many words that tell all there is to tell";
    figure.brief_title = "a title";
    Axes& axes = figure.add();
    axes.add(Line{.x = {0, 1}, .y = {0, 1}});
    axes.y = {.label = "a label of many words that say it all", .brief = "a label"};
    const Drawn drawn = figure.draw();
    for (const char* what : {"a title", "a label"}) {
      CAPTURE(what);
      const bool brief = std::any_of(drawn.texts.begin(), drawn.texts.end(),
                                     [&](const TextBox& text) { return text.text == what; });
      CHECK(brief == (width == 240));
    }
    CHECK(shows_text(drawn, "tell all there is to tell") == (width == 900));
  }
}

TEST_CASE("a table that is cut says how many rows are missing, in its last line and in a note") {
  Figure figure({.width = 300, .height = 200});
  Axes& axes = figure.add();
  axes.table.emplace();
  axes.table->headings = {"n"};
  for (int n = 0; n < 40; ++n) axes.table->rows.push_back({.cells = {"row" + std::to_string(n)}});
  const Drawn drawn = figure.draw();
  int rows = 0;
  for (const TextBox& text : drawn.texts) rows += text.text.starts_with("row") ? 1 : 0;
  CHECK(rows > 0);
  CHECK(rows < 40);
  CHECK(shows_text(drawn, "▾ " + std::to_string(40 - rows) + " more rows"));
  REQUIRE(drawn.notes.size() == 1);
  CHECK(drawn.notes[0].starts_with(std::to_string(40 - rows) + " of 40 rows"));
}

TEST_CASE("a table that is cut begins with any row, and its last line and its bar lead to the others") {
  // None is the beginning of another.
  const auto name_of = [](std::size_t n) { return "row " + std::to_string(n) + "."; };
  const auto draw = [&](std::size_t first, std::size_t rows) {
    Figure figure({.width = 300, .height = 200, .first_row = first});
    Axes& axes = figure.add();
    axes.table.emplace();
    axes.table->headings = {"n"};
    for (std::size_t n = 0; n < rows; ++n) axes.table->rows.push_back({.cells = {name_of(n)}});
    return figure.draw();
  };
  CHECK_FALSE(draw(0, 3).frames[0].scrolled);
  CHECK(shows_text(draw(2, 3), "row 0."));  // all fit: nothing to scroll
  std::set<std::string> seen;
  double thumb = -1;
  std::size_t first = 0, pages = 0;
  do {
    const Drawn drawn = draw(first, 40);
    const Frame& frame = drawn.frames[0];
    REQUIRE(frame.scrolled);
    const Scrolled& scrolled = *frame.scrolled;
    CHECK(scrolled.first == first);
    // The rows that it says, each where the frame says.
    for (std::size_t n = 0; n < 40; ++n) {
      const std::string name = name_of(n);
      const bool shown = n >= first && n < first + scrolled.shown;
      CHECK(shows_text(drawn, name) == shown);
      if (!shown) continue;
      seen.insert(name);
      const auto text = std::find_if(drawn.texts.begin(), drawn.texts.end(),
                                     [&](const TextBox& box) { return box.text == name; });
      CHECK(std::floor(frame.y.to_value(0.5 * (text->box.y0 + text->box.y1))) == n);
    }
    CHECK(scrolled.thumb.y0 > thumb);
    CHECK(scrolled.thumb.y1 <= scrolled.track.y1 + 1);
    CHECK(scrolled.thumb.y0 >= scrolled.track.y0);
    thumb = scrolled.thumb.y0;
    first = scrolled.more_leads_to;
  } while (first != 0 && ++pages < 40);
  CHECK(seen.size() == 40);
  // Beyond the end is the end.
  const Drawn last = draw(1000, 40);
  CHECK(shows_text(last, "row 39."));
  CHECK(shows_text(last, "▴ back to the first row"));
}

TEST_CASE("the mean of a pixel is the mean of its cells") {
  const Matrix matrix = random_matrix(96, 60, 8, 0.1);
  // Whole cells: 8 rows and 5 columns a pixel.
  const Resampled shown = resample(matrix, equal_pixels(0, 96, 12), equal_pixels(0, 60, 12), Aggregate::mean);
  for (std::int64_t y = 0; y < 12; ++y)
    for (std::int64_t x = 0; x < 12; ++x) {
      double sum = 0, count = 0;
      for (std::int64_t row = 8 * y; row < 8 * y + 8; ++row)
        for (std::int64_t col = 5 * x; col < 5 * x + 5; ++col)
          if (!std::isnan(matrix.at(row, col))) {
            sum += matrix.at(row, col);
            ++count;
          }
      CHECK(shown.pixels.at(y, x) == doctest::Approx(sum / count).epsilon(1e-5));
    }
  // Cells shared between pixels count by their area, so that the mean over all pixels stays what it was.
  const Matrix full = random_matrix(50, 31, 9);
  const Resampled uneven = resample(full, equal_pixels(0, 50, 7), equal_pixels(0, 31, 9), Aggregate::mean);
  double direct = 0, seen = 0;
  for (const float value : full.values) direct += value / static_cast<double>(full.values.size());
  for (const float value : uneven.pixels.values) seen += value / 63.0;
  CHECK(seen == doctest::Approx(direct).epsilon(1e-4));
}

TEST_CASE("the maximum of a pixel is the maximum of the cells that it touches, backwards too") {
  const Matrix matrix = random_matrix(77, 53, 10, 0.3);
  const int height = 11, width = 6;
  PixelEdges rows = equal_pixels(0, 77, height), cols = equal_pixels(53, 0, width);
  const Resampled shown = resample(matrix, rows, cols, Aggregate::max);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      float largest = -1e30f;
      for (std::int64_t row = 0; row < 77; ++row)
        for (std::int64_t col = 0; col < 53; ++col) {
          const auto touches = [](const PixelEdges& edges, int p, std::int64_t cell) {
            const auto q = static_cast<std::size_t>(p);
            const double low = std::min(edges[q], edges[q + 1]), high = std::max(edges[q], edges[q + 1]);
            return static_cast<double>(cell) < high - 1e-9 && static_cast<double>(cell + 1) > low + 1e-9;
          };
          if (touches(rows, y, row) && touches(cols, x, col) && matrix.at(row, col) > largest)
            largest = matrix.at(row, col);
        }
      CHECK(shown.pixels.at(y, x) == largest);
    }
}

TEST_CASE("few cells are crisp: every pixel has the colour of exactly one cell") {
  const Matrix matrix = random_matrix(3, 4, 13);
  const Resampled shown = resample(matrix, equal_pixels(0, 3, 100), equal_pixels(0, 4, 90), Aggregate::mean);
  CHECK_FALSE(shown.aggregated);
  for (int y = 0; y < 100; ++y)
    for (int x = 0; x < 90; ++x)
      CHECK(shown.pixels.at(y, x) == matrix.at(static_cast<std::int64_t>((y + 0.5) * 3 / 100),
                                               static_cast<std::int64_t>((x + 0.5) * 4 / 90)));
  // Nothing is drawn beside the matrix, nor where there is no value.
  const Matrix hole{1, 2, {std::nanf(""), 2.0f}};
  const Resampled around = resample(hole, equal_pixels(0, 1, 1), equal_pixels(-1, 3, 4), Aggregate::max);
  CHECK(std::isnan(around.pixels.values[0]));
  CHECK(std::isnan(around.pixels.values[1]));
  CHECK(around.pixels.values[2] == 2.0f);
  CHECK(std::isnan(around.pixels.values[3]));
  CHECK_THROWS_AS(static_cast<void>(resample({2, 2, {1}}, {0, 1}, {0, 1}, Aggregate::max)), MisfitError);
}

TEST_CASE("row 0 of a heatmap is at the top") {
  Figure figure({.width = 300, .height = 300});
  Heatmap map{.matrix = {2, 1, {1, 0}}, .extent = {0, 0, 1, 2}};
  figure.add().add(map);
  const Drawn drawn = figure.draw();
  const PixelBox& box = drawn.frames[0].box;
  const int x = static_cast<int>(0.5 * (box.x0 + box.x1));
  CHECK(drawn.image.at(x, static_cast<int>(box.y0) + 3) == Colormap()(1));
  CHECK(drawn.image.at(x, static_cast<int>(box.y1) - 3) == Colormap()(0));
  CHECK(drawn.notes.empty());
}

TEST_CASE("frames give the value under a pixel") {
  Figure figure({.width = 500, .height = 400});
  Axes& axes = figure.add();
  axes.x.kind = ScaleKind::log;
  axes.x.range = Range{1e-3, 10};
  axes.y.range = Range{-1, 1};
  const Drawn drawn = figure.draw();
  const Frame& frame = drawn.frames[0];
  CHECK(frame.x.to_value(frame.box.x0) == doctest::Approx(1e-3));
  CHECK(frame.x.to_value(frame.x.to_pixel(0.25)) == doctest::Approx(0.25));
  CHECK(frame.y.to_pixel(1) == doctest::Approx(frame.box.y0));
  CHECK(frame.y.to_value(frame.y.to_pixel(0.5)) == doctest::Approx(0.5));
}

TEST_CASE("no text leaves the picture or covers other text, at any size, scale and length of names") {
  struct Size {
    int width, height;
  };
  for (const Size size : {Size{1400, 640},
                          {1000, 500},
                          {760, 420},
                          {500, 300},
                          {360, 220},
                          {200, 700},
                          {120, 90},
                          {7, 5},
                          {1, 1}})
    for (const double scale : {1.0, 2.0})
      for (const bool long_names : {false, true}) {
        CAPTURE(size.width);
        CAPTURE(size.height);
        CAPTURE(scale);
        CAPTURE(long_names);
        CompareFigure compare =
            sample_compare({.width = size.width, .height = size.height, .ui_scale = scale});
        if (long_names) {
          for (CompareMethod& method : compare.methods)
            method.name += " with a name that goes on and on and on";
          for (ComparePoint& point : compare.points)
            point.series += " with a name that goes on and on and on";
          compare.title += std::string(300, 'W');
          compare.settings +=
              " " + std::string(700, 'm') + " and more words, so that the caption has to break";
          compare.heads[1] = "a head with a long name";
        }
        check_texts(draw_compare_figure(compare));
      }
}

TEST_CASE("a large enough picture shows everything that it was given") {
  const Drawn drawn = draw_compare_figure(sample_compare({.width = 1400, .height = 640}));
  for (const char* part :
       {"Heads of layer 12", "dump.npz", "3 heads", "16384 tokens", "mode causal", "block 1024", "centroid",
        "monopole", "dipole with retrieval", "C=32", "C=256", "exact attention: 1×", "relative squared error",
        "query position", "no data", "operations relative"}) {
    CAPTURE(part);
    CHECK(shows_text(drawn, part));
  }
}

TEST_CASE("text that would stick out is moved in, and shortened if it is too wide") {
  const Theme theme = Theme::make(false);
  for (const bool upright : {false, true}) {
    Canvas canvas(120, 120, 1, theme);
    for (const Point at : {Point{-50, 20}, {300, 60}, {60, -40}, {60, 400}})
      canvas.text("moved", {}, theme.ink, at, HAlign::left, VAlign::top, TextRole::mark, upright);
    canvas.text("much too wide for such a small picture", {}, theme.ink, {0, 90}, HAlign::left, VAlign::top,
                TextRole::mark, upright);
    canvas.text("nowhere", {}, theme.ink, {kNaN, 90}, HAlign::left, VAlign::top, TextRole::mark, upright);
    REQUIRE(canvas.texts().size() == 5);
    for (const TextBox& text : canvas.texts()) CHECK(canvas.bounds().grown(1e-6).holds(text.box));
    CHECK(canvas.texts()[0].text == "moved");
    CHECK(canvas.texts()[4].text.ends_with("…"));
  }
}

TEST_CASE("a picture keeps its margins free, with and without a caption") {
  for (const bool captioned : {true, false}) {
    Figure figure({.width = 700, .height = 500});
    figure.title = "Title";
    if (captioned) figure.caption = "Caption";
    Axes& axes = figure.add();
    axes.x.label = "x";
    axes.y.label = "y";
    axes.add(Line{.x = {0, 1}, .y = {0, 1}, .label = "line"});
    const Drawn drawn = figure.draw();
    for (const TextBox& text : drawn.texts) {
      CAPTURE(text.text);
      CHECK(PixelBox{16, 16, 684, 484}.holds(text.box));
    }
  }
}

TEST_CASE("the error map spans the errors' decades, ten at most") {
  CompareFigure compare;
  compare.tokens = 4096;
  compare.heads = {"0"};
  compare.methods = {{"method", {{1e-30, 1e-8, 1e-4, 1e-2}}}};
  const auto colors_of = [&] {
    const Drawn drawn = draw_compare_figure(compare);
    std::vector<Color> colors;
    for (const double token : {500, 1500, 2500, 3500}) {
      const Point at = drawn.frames[0].to_pixel(token, 0.5);
      colors.push_back(drawn.image.at(static_cast<int>(at.x), static_cast<int>(at.y)));
    }
    return colors;
  };
  const Colormap viridis;
  CHECK(colors_of() == std::vector<Color>{viridis(0), viridis(0.4), viridis(0.8), viridis(1)});
  compare.methods[0].errors[0][0] = 1e-7;
  compare.methods[0].errors[0][1] = 1e-7;
  CHECK(colors_of() == std::vector<Color>{viridis(0), viridis(0), viridis(0.6), viridis(1)});
}

TEST_CASE("errors of zero, infinity and NaN do not break the log scales, and are accounted for") {
  CompareFigure compare = sample_compare({.width = 1400, .height = 640});
  for (CompareMethod& method : compare.methods)
    for (std::vector<double>& head : method.errors) std::fill(head.begin(), head.end(), 0.0);
  compare.methods[0].errors[0][0] = kInfinity;
  compare.methods[0].errors[0][1] = kNaN;
  compare.points = {
      {"a", "nan", 0.1, kNaN}, {"a", "zero", 0.2, 0}, {"a", "inf", 0.3, kInfinity}, {"a", "cost", kNaN, 1}};
  const Drawn drawn = draw_compare_figure(compare);
  check_texts(drawn);
  CHECK(shows_text(drawn, "3 of 4 points of “a” without a finite value"));
  CHECK(shows_text(drawn, "zero"));
  // The point of error 0 lies in its band, below the scale.
  const Frame& frame = drawn.frames[1];
  REQUIRE(frame.y.has_zero_band());
  CHECK(frame.y.to_pixel(0) > frame.y.band_edge());
  CHECK(frame.y.to_pixel(0) < frame.box.y1);
  const Color color =
      drawn.image.at(static_cast<int>(frame.x.to_pixel(0.2)), static_cast<int>(frame.y.to_pixel(0)));
  CHECK(color == categorical(0));

  CHECK_NOTHROW(static_cast<void>(draw_compare({})));
  compare.methods[1].errors.pop_back();
  CHECK_THROWS_AS(static_cast<void>(draw_compare(compare)), MisfitError);
}

TEST_CASE("blocks: hatched where exact, the colour of their level elsewhere, over the map or without") {
  BlocksFigure blocks;
  blocks.options = {.width = 500, .height = 500};
  blocks.blocks = {
      {0, 1024, 0, 1024, 0, true}, {1024, 2048, 1024, 2048, 0, true}, {1024, 2048, 0, 1024, 1, false, 2.0}};
  const auto color_at = [](const Drawn& drawn, double key, double query) {
    const Point at = drawn.frames[0].to_pixel(key, query);
    return drawn.image.at(static_cast<int>(at.x), static_cast<int>(at.y));
  };
  const Drawn levels = draw_blocks_figure(blocks);
  check_texts(levels);
  CHECK(shows_text(levels, "exact"));
  CHECK(shows_text(levels, "level 1 (1k queries)"));
  CHECK(color_at(levels, 1500, 500) == Theme::make(false).background);
  CHECK(lab_distance(color_at(levels, 500, 1500), Theme::make(false).background) > 0.1);
  std::set<int> shades;  // a hatched square has ink and paper
  for (int i = 0; i < 40; ++i) shades.insert(color_at(levels, 100 + 10 * i, 500).r);
  CHECK(shades.size() > 2);
  const PixelBox& box = levels.frames[0].box;
  CHECK(std::abs(box.width() - box.height()) <= 1);

  blocks.block_color = BlockColor::value;
  blocks.scale = Scale(ScaleKind::linear, {0, 4});
  CHECK(color_at(draw_blocks_figure(blocks), 500, 1500) == Colormap()(0.5));

  blocks.map = {2, 2, {1, std::nanf(""), 3, 4}};
  const Drawn mapped = draw_blocks_figure(blocks);
  check_texts(mapped);
  CHECK(color_at(mapped, 500, 1500) == Colormap()(0.75));
  CHECK(color_at(mapped, 1500, 500) == Theme::make(false).background);
}

TEST_CASE("every mark is drawn, in light and dark, and far-away coordinates do no harm") {
  for (const bool dark : {false, true}) {
    Figure figure({.width = 600, .height = 500, .ui_scale = 1, .dark = dark});
    Axes& axes = figure.add();
    axes.x.range = axes.y.range = Range{0, 10};
    // A line whose ends lie 1e12 away still goes through the middle, at 45 degrees in data.
    axes.add(
        Line{.x = {-1e12, 1e12}, .y = {-1e12, 1e12}, .label = "line", .color = Color{255, 0, 0}, .width = 4});
    axes.add(Bars{.edges = {1, 2}, .heights = {1e300}, .color = Color{0, 255, 0}});
    axes.add(Rects{.boxes = {{6, 1, 1e300, 2}}, .fill = Color{0, 0, 255}});
    axes.add(Ellipses{.ellipses = {{3, 8, 1, 0.5, 0.3}}, .color = Color{255, 0, 255}, .fill = 1});
    axes.add(Arrows{.arrows = {{8, 4, 8, 8}, {8, 8, 8, 8}}, .color = Color{0, 128, 128}, .width = 4});
    axes.add(Scatter{.x = {5, kNaN},
                     .y = {2, 1},
                     .names = {"\xff broken \x01 text", ""},
                     .color = Color{128, 0, 0},
                     .size = 12});
    axes.add(Guide{.at = 9, .vertical = false, .name = "guide"});
    axes.add(Annotation{.x = 9.9, .y = 9.9, .text = "a note that would leave the frame"});
    const Drawn drawn = figure.draw();
    check_texts(drawn);
    const auto color_at = [&](double x, double y) {
      const Point at = drawn.frames[0].to_pixel(x, y);
      return drawn.image.at(static_cast<int>(at.x), static_cast<int>(at.y));
    };
    CHECK(color_at(7, 7) == Color{255, 0, 0});
    CHECK(color_at(1.5, 9.5) == Color{0, 255, 0});
    CHECK(color_at(9.5, 1.5) == Color{0, 0, 255});
    CHECK(color_at(3, 8) == Color{255, 0, 255});
    CHECK(color_at(8, 5) == Color{0, 128, 128});
    CHECK(color_at(5, 2) == Color{128, 0, 0});
    CHECK(color_at(0.5, 9.8) == Theme::make(dark).background);
    CHECK(shows_text(drawn, "1 of 2 points without a finite value"));
    CHECK(shows_text(drawn, "broken"));
  }
}

TEST_CASE("labels keep clear of obstacles, of each other and of the frame's edge, or are not placed") {
  std::mt19937 random(4);
  std::uniform_real_distribution<double> uniform(0, 300);
  std::vector<LabelRequest> requests;
  std::vector<PixelBox> obstacles;
  for (int i = 0; i < 120; ++i) {
    const Point at{uniform(random), uniform(random)};
    requests.push_back({at, 40, 12, 8});
    obstacles.push_back({at.x - 4, at.y - 4, at.x + 4, at.y + 4});
  }
  const PixelBox frame{0, 0, 300, 300};
  const auto places = place_labels(requests, frame, obstacles, {});
  REQUIRE(places.size() == requests.size());
  std::size_t placed = 0;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (!places[i]) continue;
    ++placed;
    CHECK(frame.holds(places[i]->box));
    for (const PixelBox& obstacle : obstacles) CHECK_FALSE(places[i]->box.overlaps(obstacle));
    for (std::size_t j = 0; j < i; ++j) CHECK_FALSE((places[j] && places[i]->box.overlaps(places[j]->box)));
  }
  CHECK(placed > 20);
  CHECK(placed < 120);
}

TEST_CASE("the same figure gives the same bytes") {
  const CompareFigure compare = sample_compare({.width = 900, .height = 500});
  const std::string once = encode_png(draw_compare(compare), {{"Software", "MuSe"}});
  CHECK(once == encode_png(draw_compare(compare), {{"Software", "MuSe"}}));
  CompareFigure other = compare;
  other.points[0].error *= 2;
  CHECK(once != encode_png(draw_compare(other), {{"Software", "MuSe"}}));
}

TEST_CASE("a PNG file gives back its pixels, transparent ones too, and its texts") {
  const Folder folder("muse_test_render_png");
  const std::string path = (folder.path / "image.png").string();
  std::mt19937 random(6);
  Image image(37, 23, {});
  for (std::uint8_t& byte : image.pixels) byte = static_cast<std::uint8_t>(random() & 0xff);
  const PngTexts texts{{"Description", "error ≤ 2·10⁻³, 1×"}, {"Software", "MuSe"}};
  write_png(path, image, texts);
  PngTexts read_texts;
  CHECK(read_png(path, &read_texts) == image);
  CHECK(read_texts == texts);
  for (std::size_t alpha = 3; alpha < image.pixels.size(); alpha += 4) image.pixels[alpha] = 255;
  write_png(path, image, texts);
  CHECK(read_png(path) == image);
  CHECK_THROWS_AS(write_png(path, image, {{"", "no keyword"}}), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(Image(0, 3, {})), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(encode_png(Image())), MisfitError);
}

TEST_CASE("files that cannot be written or read are named") {
  const Folder folder("muse_test_render_errors");
  const auto message_of = [](const auto& action) {
    try {
      action();
    } catch (const FileError& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  const Image image(4, 4, {});
  const std::string absent = (folder.path / "no such folder" / "image.png").string();
  CHECK(message_of([&] { write_png(absent, image); }).find(absent) != std::string::npos);
  CHECK(message_of([&] { write_png(folder.path.string(), image); }).find("cannot be written") !=
        std::string::npos);
  CHECK(message_of([&] { static_cast<void>(read_png(absent)); }).find("cannot be opened") !=
        std::string::npos);

  const std::string broken = (folder.path / "broken.png").string();
  std::ofstream(broken) << "not a PNG";
  CHECK(message_of([&] { static_cast<void>(read_png(broken)); }).find("expected a PNG") != std::string::npos);
  const std::string bytes = encode_png(Image(64, 64, {1, 2, 3}));
  std::ofstream(broken, std::ios::binary) << bytes.substr(0, bytes.size() / 2);
  CHECK(message_of([&] { static_cast<void>(read_png(broken)); }).find(broken) != std::string::npos);
}
