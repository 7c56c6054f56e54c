#include <doctest/doctest.h>

#include <Eigen/SVD>
#include <chrono>
#include <cmath>
#include <fstream>
#include <future>
#include <numeric>

#include "model/key_weights.h"
#include "model/path_look.h"
#include "model/worker.h"
#include "muse/check.h"
#include "muse/exact_attention.h"
#include "viewer_dumps.h"

using namespace muse;
using namespace muse::viewer;

namespace {

// Exact and approximate weights of every pair by plain loops: the approximate output is ŵ times the values.
struct PlainWeights {
  Matrix<double> exact, approximate;  // [Nq, Nk]; NaN where the query does not see the key
};

PlainWeights plain_weights(Analysis& analysis, const Slot& slot, Task& task) {
  const auto head = analysis.session().head<double>(slot.batch, slot.head, slot.tokens);
  const auto run = analysis.run(slot, task), exact = analysis.exact(slot, task);
  const Index Nq = head->q.rows(), Nk = head->k.rows();
  PlainWeights weights;
  weights.exact = weights.approximate = Matrix<double>::Constant(Nq, Nk, std::nan(""));
  for (Index t = 0; t < Nq; ++t) {
    const Index keys = slot.causal() ? t + 1 : Nk;
    for (Index n = 0; n < keys; ++n) {
      const double logit = head->scale * head->q.row(t).dot(head->k.row(n));
      weights.exact(t, n) = std::exp(logit - exact->attention.lse[t]);
      weights.approximate(t, n) = std::exp(logit - run->attention.lse[t]);
    }
    if (slot.method != Method::muse) continue;
    for (const Block& block : approximated_blocks(Nq, Nk, slot.config)) {
      if (t < block.query_begin || t >= block.query_end) continue;
      // (3.1)-(3.5), (4.2), (5.1) by hand, for this query alone.
      const TokenRange home = home_of_query_clusters(block, slot.config);
      const auto label_q = [&](Index n) { return run->labels_q.at(block.level, n, n + 1).front(); };
      const auto label_k = [&](Index n) { return run->labels_k.at(block.level, n, n + 1).front(); };
      RowVector<double> q_bar = RowVector<double>::Zero(head->q.cols());
      double members = 0;
      for (Index n = home.begin; n < home.end; ++n)
        if (label_q(n) == label_q(t)) q_bar += head->q.row(n), members += 1;
      q_bar /= members;
      std::int32_t Ck = 0;
      for (Index n = block.key_begin; n < block.key_end; ++n) Ck = std::max(Ck, label_k(n) + 1);
      std::vector<double> mass(static_cast<std::size_t>(Ck), 0), count = mass;
      for (Index n = block.key_begin; n < block.key_end; ++n) {
        mass[static_cast<std::size_t>(label_k(n))] += std::exp(head->scale * q_bar.dot(head->k.row(n)));
        count[static_cast<std::size_t>(label_k(n))] += 1;
      }
      // By mass, or by the mean weight of a token; an empty cluster comes last.
      const bool by_mean = slot.config.retrieve_by == RetrieveBy::mean_weight;
      const auto rank = [&](std::size_t j) { return by_mean && count[j] > 0 ? mass[j] / count[j] : mass[j]; };
      std::vector<std::size_t> order(mass.size());
      std::iota(order.begin(), order.end(), std::size_t{0});
      std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return rank(a) > rank(b); });
      order.resize(std::min(order.size(), static_cast<std::size_t>(slot.config.retrieve.at(block.level))));
      for (std::int32_t j = 0; j < Ck; ++j) {
        if (std::find(order.begin(), order.end(), static_cast<std::size_t>(j)) != order.end()) continue;
        RowVector<double> k_tilde = RowVector<double>::Zero(head->k.cols());
        const double total = mass[static_cast<std::size_t>(j)];
        const auto share = [&](Index n) { return std::exp(head->scale * q_bar.dot(head->k.row(n))) / total; };
        for (Index n = block.key_begin; n < block.key_end; ++n)
          if (label_k(n) == j) k_tilde += share(n) * head->k.row(n);
        const RowVector<double> delta = head->q.row(t) - q_bar;
        double l = std::log(total) + head->scale * delta.dot(k_tilde);
        if (slot.config.order == Order::dipole_spread) {
          double spread = 0;
          for (Index n = block.key_begin; n < block.key_end; ++n)
            if (label_k(n) == j) spread += share(n) * (head->k.row(n) - k_tilde).squaredNorm();
          l += kSpreadFactor / 2 * head->scale * head->scale * delta.squaredNorm() * spread /
               static_cast<double>(head->k.cols());
        }
        for (Index n = block.key_begin; n < block.key_end; ++n) {
          if (label_k(n) != j) continue;
          double weight = std::exp(l - run->attention.lse[t]) * share(n);
          if (slot.config.order == Order::dipole_value)
            weight *= 1 + head->scale * delta.dot(head->k.row(n) - k_tilde);
          weights.approximate(t, n) = weight;
        }
      }
    }
  }
  return weights;
}

// What a cell of `cell` by `cell` pairs should show.
double plain_cell(const Matrix<double>& values, Index query0, Index key0, Index cell, Aggregation aggregate) {
  double largest = std::nan(""), sum = 0, count = 0;
  for (Index t = query0; t < std::min(query0 + cell, values.rows()); ++t)
    for (Index n = key0; n < std::min(key0 + cell, values.cols()); ++n) {
      if (std::isnan(values(t, n))) continue;
      if (count == 0 || std::abs(values(t, n)) > std::abs(largest)) largest = values(t, n);
      sum += values(t, n);
      count += 1;
    }
  return count == 0 ? std::nan("") : aggregate == Aggregation::max ? largest : sum / count;
}

// Largest difference between a map's cells and the plain ones; infinite where one has a value and the other
// not.
double map_difference(const MapView& view, const Matrix<double>& values, Aggregation aggregate) {
  double worst = 0;
  for (Index r = 0; r < view.values.rows; ++r)
    for (Index c = 0; c < view.values.cols; ++c) {
      const double expected =
          plain_cell(values, view.query0 + r * view.cell, view.key0 + c * view.cell, view.cell, aggregate);
      const double found = static_cast<double>(view.values.at(r, c));
      if (std::isnan(expected) != std::isnan(found)) return INFINITY;
      if (!std::isnan(expected)) worst = std::max(worst, std::abs(expected - found));
    }
  return worst;
}

Matrix<double> random_matrix(Index rows, Index cols, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  Matrix<double> x(rows, cols);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = normal(random) * (1 + 3 * static_cast<double>(i % cols == 1));
  return x;
}

}  // namespace

TEST_CASE("pyramid: every map is that of plain loops, at every zoom and for every metric") {
  const OpenDump open(random_dump(1, 150, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  for (const char* mode : {"causal", "causal-shared", "acausal"})
    for (const char* order : {"dipole", "dipole_value", "dipole_spread", "exact", "local"}) {
      CAPTURE(mode);
      CAPTURE(order);
      Slot slot = small_slot();
      set_option(slot.config, "mode", mode);
      if (std::string_view(order) == "dipole_spread") set_option(slot.config, "retrieve-by", "mean-weight");
      if (std::string_view(order) == "exact") {
        slot.method = Method::exact;
      } else if (std::string_view(order) == "local") {
        if (!slot.causal()) continue;
        slot.method = Method::local;
      } else {
        set_option(slot.config, "order", order);
      }
      const PlainWeights plain = plain_weights(analysis, slot, task);
      Matrix<double> approximate = plain.approximate;
      if (slot.method == Method::local)
        for (Index t = 0; t < 150; ++t)
          for (Index n = 0; n < t / 32 * 32; ++n) approximate(t, n) = 0;
      const Matrix<double> difference = approximate - plain.exact;
      for (const Index most : {200, 60, 10})
        for (const Aggregation aggregate : {Aggregation::max, Aggregation::mean}) {
          const auto map = [&](MapKind kind, ErrorMetric metric) {
            return analysis.pyramid(slot, kind, TokenSort::position, 0, task)
                ->view(0, 150, 0, 150, most, aggregate, metric, task);
          };
          CHECK(map_difference(map(MapKind::exact, ErrorMetric::value), plain.exact, aggregate) < 2e-6);
          CHECK(map_difference(map(MapKind::approximate, ErrorMetric::value), approximate, aggregate) < 2e-6);
          CHECK(map_difference(map(MapKind::difference, ErrorMetric::absolute), difference.cwiseAbs(),
                               aggregate) < 2e-6);
          CHECK(map_difference(map(MapKind::difference, ErrorMetric::squared), difference.cwiseAbs2(),
                               aggregate) < 2e-6);
          if (aggregate == Aggregation::mean)
            CHECK(map_difference(map(MapKind::difference, ErrorMetric::signed_difference), difference,
                                 aggregate) < 2e-6);
        }
      // Weights of the approximation times the values are its output, whatever the order.
      const auto head = open.session->head<double>(0, 0);
      Matrix<double> o = Matrix<double>::Zero(150, 8);
      for (Index t = 0; t < 150; ++t)
        for (Index n = 0; n < 150; ++n)
          if (!std::isnan(approximate(t, n))) o.row(t) += approximate(t, n) * head->v.row(n);
      CHECK((o - analysis.run(slot, task)->attention.o).cwiseAbs().maxCoeff() < 2e-5);
    }
}

TEST_CASE("pyramid: a part of the map is the part of the map, what is ready is told from what is not") {
  const OpenDump open(random_dump(1, 700, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  const Slot slot = small_slot("8", "64");
  const auto pyramid = analysis.pyramid(slot, MapKind::approximate, TokenSort::position, 0, task);
  const MapView part = pyramid->view(300, 420, 40, 500, 460, Aggregation::max, ErrorMetric::value, task);
  CHECK(part.cell == 1);
  const PlainWeights plain = plain_weights(analysis, slot, task);
  CHECK(map_difference(part, plain.approximate, Aggregation::max) < 2e-6);
  bool complete = true;
  (void)pyramid->view_of_ready(0, 700, 0, 700, 350, Aggregation::max, ErrorMetric::value, complete);
  CHECK_FALSE(complete);
  const MapView all = pyramid->view(0, 700, 0, 700, 350, Aggregation::max, ErrorMetric::value, task);
  CHECK(all.cell == 2);
  const MapView again =
      pyramid->view_of_ready(0, 700, 0, 700, 350, Aggregation::max, ErrorMetric::value, complete);
  CHECK(complete);
  CHECK(map_difference(again, plain.approximate, Aggregation::max) < 2e-6);
  CHECK_THROWS_AS((void)pyramid->view(0, 701, 0, 700, 350, Aggregation::max, ErrorMetric::value, task),
                  MisfitError);
}

TEST_CASE("pyramid: sorted by cluster, each place shows the weight of its tokens") {
  const OpenDump open(random_dump(1, 150, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  const Slot slot = small_slot();
  const auto pyramid = analysis.pyramid(slot, MapKind::exact, TokenSort::cluster, 2, task);
  const PlainWeights plain = plain_weights(analysis, slot, task);
  const MapView view = pyramid->view(0, 150, 0, 150, 150, Aggregation::max, ErrorMetric::value, task);
  bool moved = false;
  double worst = 0;
  for (Index r = 0; r < 150; ++r)
    for (Index c = 0; c < 150; ++c) {
      const Index t = pyramid->query_order()[static_cast<std::size_t>(r)];
      const Index n = pyramid->key_order()[static_cast<std::size_t>(c)];
      moved |= t != r || n != c;
      CHECK(pyramid->place_of_query(t) == r);
      const double expected = plain.exact(t, n);
      if (std::isnan(expected))
        CHECK(std::isnan(view.values.at(r, c)));
      else
        worst = std::max(worst, std::abs(expected - static_cast<double>(view.values.at(r, c))));
    }
  CHECK(moved);
  CHECK(worst < 2e-6);
  // Labels rise along the places of the block's keys.
  const auto run = analysis.run(slot, task);
  for (Index place = 1; place < 128; ++place) {
    const auto label = [&](Index p) {
      const Index n = pyramid->key_order()[static_cast<std::size_t>(p)];
      return run->labels_k.at(2, n, n + 1).front();
    };
    CHECK(label(place) >= label(place - 1));
  }
}

TEST_CASE("principal axes are those of Eigen's singular value decomposition") {
  const Matrix<double> x = random_matrix(300, 7, 3);
  const PrincipalAxes axes = principal_axes(x);
  const RowVector<double> mean = x.colwise().mean();
  const Eigen::MatrixXd centred = x.rowwise() - mean;
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(centred, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const double all = svd.singularValues().squaredNorm();
  for (Index a = 0; a < 2; ++a) {
    CHECK(axes.share[static_cast<std::size_t>(a)] ==
          doctest::Approx(svd.singularValues()[a] * svd.singularValues()[a] / all).epsilon(1e-10));
    CHECK(std::abs(axes.axes.row(a).dot(svd.matrixV().col(a))) == doctest::Approx(1).epsilon(1e-10));
    Index largest = 0;
    axes.axes.row(a).cwiseAbs().maxCoeff(&largest);
    CHECK(axes.axes(a, largest) > 0);
    const Eigen::VectorXd expected = centred * axes.axes.row(a).transpose();
    CHECK((axes.project(x).col(a) - expected).cwiseAbs().maxCoeff() < 1e-12);
  }
  CHECK(axes.variance == doctest::Approx(all / 300).epsilon(1e-10));
  // Degenerate: one dimension, no variance.
  CHECK(principal_axes(random_matrix(10, 1, 4)).share[0] == doctest::Approx(1));
  CHECK(principal_axes(Matrix<double>::Constant(5, 3, 2.0)).share[0] == 0);
}

TEST_CASE("cluster shapes: means, half axes and hulls of points known by hand") {
  Matrix<double> xy(6, 2);
  xy << 0, 0, 4, 0, 4, 2, 0, 2, 2, 1, 9, 9;
  const auto shapes = cluster_shapes(xy, {0, 0, 0, 0, 0, 2}, 3);
  CHECK(shapes[0].count == 5);
  CHECK(shapes[0].x == doctest::Approx(2));
  CHECK(shapes[0].rx == doctest::Approx(std::sqrt(16.0 / 5)));
  CHECK(shapes[0].ry == doctest::Approx(std::sqrt(4.0 / 5)));
  CHECK(shapes[0].angle == doctest::Approx(0));
  CHECK(shapes[0].hull.size() == 4);
  CHECK(shapes[1].count == 0);
  CHECK(shapes[2].hull.size() == 1);
}

TEST_CASE("shares of blocks add up to the head's error, those of pairs to their block's (8.6)") {
  const OpenDump open(random_dump(2, 200, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  for (const char* mode : {"causal", "causal-shared", "acausal"})
    for (const char* order : {"centroid", "monopole", "dipole", "dipole_value", "dipole_spread"}) {
      CAPTURE(mode);
      CAPTURE(order);
      Slot slot = small_slot();
      slot.head = 1;
      set_option(slot.config, "mode", mode);
      set_option(slot.config, "order", order);
      if (std::string_view(order) == "dipole_spread") set_option(slot.config, "retrieve-by", "mean-weight");
      const auto parts = analysis.block_parts(slot, task);
      const auto exact = analysis.exact(slot, task), run = analysis.run(slot, task);
      const double error = head_error(run->attention, exact->attention).rel_sq_err;
      REQUIRE(error > 1e-6);
      double sum = 0;
      for (const BlockPart& part : parts->blocks) sum += part.error.share;
      CHECK(sum == doctest::Approx(error).epsilon(1e-4));
      CHECK(parts->rel_sq_err == doctest::Approx(error).epsilon(1e-9));
      CHECK(parts->error_up_to.back() == doctest::Approx(error).epsilon(1e-4));
      CHECK(parts->mass_up_to.back() == doctest::Approx(1).epsilon(1e-4));
      for (const BlockPart& part : parts->blocks) {
        if (part.block.level < 0) continue;
        const auto pairs = analysis.pair_errors(slot, part.block, task);
        double share = 0, mass = 0;
        for (Index i = 0; i < pairs->Cq; ++i)
          for (Index j = 0; j < pairs->Ck; ++j) {
            share += pairs->at(i, j).share;
            mass += pairs->at(i, j).exact_mass * static_cast<double>(pairs->at(i, j).queries);
            if (pairs->retrieved[static_cast<std::size_t>(i * pairs->Ck + j)] != 0)
              CHECK(pairs->at(i, j).share == 0);
          }
        CHECK(share == doctest::Approx(part.error.share).epsilon(1e-3).scale(error));
        CHECK(mass / static_cast<double>(part.block.queries()) ==
              doctest::Approx(part.error.exact_mass).epsilon(1e-4));
      }
    }
}

TEST_CASE("a block's error alone is the library's (8.5)") {
  const OpenDump open(random_dump(1, 100, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  Slot slot = small_slot();
  slot.device = tools::parse_device("cpu", "double");
  const auto parts = analysis.block_parts(slot, task);
  const auto head = open.session->head<double>(0, 0);
  const auto exact = analysis.exact(slot, task);
  std::size_t compared = 0;
  MuseOptions<double> options;
  options.on_part = [&](const Block& block, const Attention<double>& part) {
    if (block.level < 0) return;
    const Attention<double> truth =
        exact_attention<double>(head->q.middleRows(block.query_begin, block.queries()),
                                head->k.middleRows(block.key_begin, block.keys()),
                                head->v.middleRows(block.key_begin, block.keys()), head->scale, {});
    const BlockError expected = block_error(block, part, truth, exact->attention);
    for (const BlockPart& found : parts->blocks)
      if (found.block == block) {
        ++compared;
        CHECK(found.error.alone == doctest::Approx(expected.rel_sq_err).epsilon(1e-9));
        CHECK(found.error.exact_mass == doctest::Approx(expected.mass).epsilon(1e-9));
        CHECK(found.error.lse_bias == doctest::Approx(expected.lse_bias).epsilon(1e-9));
      }
  };
  (void)muse_attention<double>(head->q, head->k, head->v, head->scale, slot.config, options);
  CHECK(compared == far_blocks(100, 32).size());
}

TEST_CASE("profile: weights sum to one and give the outputs of each order") {
  const OpenDump open(random_dump(1, 120, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  Slot slot = small_slot();
  slot.device = tools::parse_device("cpu", "double");
  for (const Index query : {0, 31, 32, 100, 119}) {
    const auto profile = analysis.profile(slot, query, task);
    REQUIRE(profile->orders.size() == 5);
    CHECK(profile->keys == query + 1);
    for (const auto& of : profile->orders) {
      CHECK(std::accumulate(of.weights.begin(), of.weights.end(), 0.0) == doctest::Approx(1));
      Slot same = slot;
      set_option(same.config, "order", of.name);
      const auto errors = analysis.query_errors(same, task);
      CHECK(of.rel_sq_err ==
            doctest::Approx(errors->relative[static_cast<std::size_t>(query)]).epsilon(1e-6).scale(1e-3));
    }
    const PlainWeights plain = plain_weights(analysis, slot, task);
    for (Index n = 0; n <= query; ++n)
      CHECK(profile->exact[static_cast<std::size_t>(n)] == doctest::Approx(plain.exact(query, n)));
  }
}

TEST_CASE("k-means playback ends with the labels that attention uses") {
  const OpenDump open(random_dump(1, 160, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  Slot slot = small_slot();
  for (const char* metric : {"euclidean", "key-covariance"}) {
    set_option(slot.config, "metric", metric);
    set_option(slot.config, "passes", "3");
    const auto run = analysis.run(slot, task);
    for (const Block& block : approximated_blocks(160, 160, slot.config))
      for (const Side side : {Side::keys, Side::queries}) {
        const auto passes = analysis.kmeans_passes(slot, block, side, task);
        REQUIRE(passes->passes.size() == 4);
        const auto expected = (side == Side::keys ? run->labels_k : run->labels_q)
                                  .at(block.level, passes->range.begin, passes->range.end);
        CHECK(std::equal(expected.begin(), expected.end(), passes->passes.back().labels.begin()));
        for (std::size_t p = 1; p < passes->passes.size(); ++p)
          CHECK(passes->passes[p].inertia <= passes->passes[p - 1].inertia * (1 + 1e-6));
      }
  }
}

TEST_CASE("tilted centroids and retrieval of a projection are the library's") {
  const OpenDump open(random_dump(1, 128, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  const Slot slot = small_slot("5", "32", "2");
  const Block block = approximated_blocks(128, 128, slot.config).back();
  const auto projection = analysis.projection(slot, block, Basis::joint, task);
  CHECK((projection->queries.axes.axes - projection->keys.axes.axes).cwiseAbs().maxCoeff() == 0);
  const auto pairs = analysis.pair_errors(slot, block, task);
  CHECK(projection->retrieved == pairs->retrieved);
  for (Index i = 0; i < pairs->Cq; ++i) {
    const auto first = pairs->retrieved.begin() + i * pairs->Ck;
    if (pairs->sizes_q[static_cast<std::size_t>(i)] > 0) CHECK(std::count(first, first + pairs->Ck, 1) == 2);
  }
}

TEST_CASE("selection: hovering previews, a click locks and unlocks, Esc unlocks") {
  Selection selection;
  const Target one{.query = 5}, other{.key = 7};
  CHECK(selection.shown().empty());
  selection.hover(one);
  CHECK(selection.shown() == one);
  selection.click(one);
  selection.hover(other);
  CHECK(selection.is_locked());
  CHECK(selection.shown() == one);
  selection.click(other);
  CHECK(selection.shown() == other);
  selection.click(other);
  CHECK_FALSE(selection.is_locked());
  selection.click(one);
  selection.filter = ValueFilter{0, 1};
  CHECK(selection.escape());
  CHECK_FALSE(selection.is_locked());
  CHECK(selection.filter.has_value());
  CHECK(selection.escape());
  CHECK_FALSE(selection.escape());
  selection.click(one);
  selection.click(Target{});
  CHECK_FALSE(selection.is_locked());
}

TEST_CASE("settings: every option takes back what it says, and refuses what it does not know") {
  ViewSettings settings;
  for (const ViewOptionInfo& option : view_option_table()) {
    CAPTURE(option.name);
    CHECK(get_view_option(settings, option.name) == option.default_value);
    CHECK_FALSE(option.help.empty());
    CHECK_FALSE(option.views.empty());
    set_view_option(settings, option.name, option.default_value);
    for (const char* wrong : {"", "nonsense", "-2", "1:", "nan:1"})
      CHECK_THROWS_AS(set_view_option(settings, option.name, wrong), UsageError);
  }
  CHECK(settings == ViewSettings{});
  for (const auto& [name, text] :
       std::initializer_list<std::pair<const char*, const char*>>{{"range", "1%:99%"},
                                                                  {"range", "-0.5:2"},
                                                                  {"zoom", "0:10,5:6.5"},
                                                                  {"metric", "signed"},
                                                                  {"pass", "3"},
                                                                  {"up-to-level", "-1"},
                                                                  {"colormap", "magma"},
                                                                  {"scale", "symlog"},
                                                                  {"max-error", "0.01"}}) {
    set_view_option(settings, name, text);
    CHECK(get_view_option(settings, name) == text);
  }
  CHECK_THROWS_AS(set_view_option(settings, "range", "50%:2"), UsageError);
  CHECK_THROWS_AS(set_view_option(settings, "range", "5:2"), UsageError);
  CHECK_THROWS_AS(set_view_option(settings, "unknown", "1"), UsageError);
}

TEST_CASE("a slot's word is the method that gives it back") {
  Slot slot;
  CHECK(slot_word(slot) == "muse");
  set_option(slot.config, "retrieve", "8");
  set_option(slot.config, "clusters-q", "64");
  CHECK(slot_word(slot) == "muse:clusters-q=64:retrieve=8");
  const auto spec = tools::parse_method(slot_word(slot), {});
  CHECK(spec.configs.common == slot.config);
  slot.method = Method::exact;
  CHECK(slot_word(slot) == "exact");
}

TEST_CASE("a slot's word says where it runs, and only there, exact attention stays on the CPU") {
  const auto device_of = [](const std::string& word) {
    const auto spec = tools::parse_method(word, {}, true);
    return tools::parse_device(spec.device, spec.dtype);
  };
  for (const bool gpu : {false, true})
    for (const std::string& dtype : tools::dtype_words(gpu)) {
      Slot slot;
      slot.device = tools::parse_device(gpu ? "cuda" : "cpu", dtype);
      CAPTURE(slot_word(slot));
      CHECK(device_of(slot_word(slot)) == slot.device);
      CHECK(tools::dtype_word(slot.device) == dtype);
      slot.method = Method::exact;
      CHECK_FALSE(slot.on_gpu());
      CHECK(tools::parse_method(slot_word(slot), {}, true).method == Method::exact);
      slot.device = tools::parse_device("cuda", "");
      CHECK(slot_word(slot) == "exact");
    }
  // The commands, which have one device for all methods, refuse it.
  CHECK_THROWS_AS((void)tools::parse_method("muse:device=cuda", {}), UsageError);
  CHECK_THROWS_AS((void)tools::parse_device("cpu", "float16"), UsageError);
  CHECK_THROWS_AS((void)tools::parse_device("cuda", "double"), UsageError);
  CHECK_THROWS_AS((void)tools::parse_device("tpu", ""), UsageError);
}

TEST_CASE("on a GPU: outputs, clusters and all that follows from them, without one what to do is said") {
  const OpenDump open(random_dump(1, 512, 16));
  Analysis analysis(open.session);
  WatchedTask task;
  const Slot cpu = small_slot("8", "64", "1");
  Slot gpu = cpu;
  gpu.device = tools::parse_device("cuda", "float");
  CHECK(slot_key(gpu) != slot_key(cpu));
  // The truth is one and the same.
  CHECK(analysis.exact(gpu, task) == analysis.exact(cpu, task));
  if (const std::string problem = tools::gpu_problem(); !problem.empty()) {
    const char* required = std::getenv("MUSE_REQUIRE_GPU");
    REQUIRE_FALSE((required != nullptr && std::string_view(required) == "1"));
    MESSAGE("no GPU: ", problem);
    std::string said;
    try {
      (void)analysis.run(gpu, task);
    } catch (const UsageError& error) {
      said = error.what();
    }
    CHECK(said.find(problem) != std::string::npos);
    CHECK(said.find("on the CPU") != std::string::npos);
    return;
  }
  const auto run = analysis.run(gpu, task), reference = analysis.run(cpu, task);
  CHECK(run->labels_k.values.size() == reference->labels_k.values.size());
  CHECK(run->seconds > 0);
  const double error = analysis.query_errors(gpu, task)->head.rel_sq_err;
  // Labels may tie elsewhere; the error is that of the method all the same.
  CHECK(error == doctest::Approx(analysis.query_errors(cpu, task)->head.rel_sq_err).epsilon(0.1));
  // Parts are the CPU's, from the GPU's clusters: they still add up to the error of the GPU's outputs.
  const auto parts = analysis.block_parts(gpu, task);
  double share = 0;
  for (const BlockPart& part : parts->blocks) share += part.error.share;
  CHECK(share == doctest::Approx(error).epsilon(0.02));
  CHECK_FALSE(analysis.trade_off(gpu, Grid::quick, 0.2, task)->points.empty());
}

TEST_CASE("what lies at a typed path: dumps first, folders, nothing hidden, and in words what is there") {
  namespace fs = std::filesystem;
  const OpenDump open(random_dump(1, 32, 4));
  const fs::path dump = open.session->path(), folder = dump / "around";
  for (const char* name : {"b_folder", "a_folder", ".hidden", "z_dump"})
    fs::create_directories(folder / name);
  for (const char* name : {"z_dump/q.npy", "notes.txt", "heads.npz"}) std::ofstream(folder / name) << "x";
  const auto names = [](const PathLook& look) {
    std::vector<std::string> all;
    for (const PathEntry& entry : look.entries) all.push_back(entry.name + (entry.is_dump ? "!" : ""));
    return all;
  };
  using Names = std::vector<std::string>;
  PathLook look = look_at(folder.string());
  CHECK(names(look) == Names{"heads.npz!", "z_dump!", "a_folder", "b_folder"});
  CHECK_FALSE(look.may_be_dump);
  CHECK(look.has_parent);
  CHECK(names(look_at(folder.string() + "/")) == names(look));
  CHECK(look.words.find("listed below") != std::string::npos);
  CHECK(look.leads_on);
  CHECK(look.folder == fs::absolute(folder).lexically_normal());
  CHECK(look_at(folder.string() + "/").folder == look.folder);
  // A beginning of names, a dump, a file that is none, nothing, and nothing at all.
  CHECK(names(look_at((folder / "a_f").string())) == Names{"a_folder"});
  CHECK(names(look_at((folder / ".h").string())) == Names{".hidden"});
  CHECK(look_at(dump.string()).may_be_dump);
  CHECK(look_at((folder / "heads.npz").string()).may_be_dump);
  CHECK(look_at((folder / "notes.txt").string()).words.find("no dump") != std::string::npos);
  CHECK(look_at((folder / "b_folder").string()).words.find("without a dump") != std::string::npos);
  CHECK(look_at((folder / "nothing").string()).words == "Nothing is there.");
  CHECK_FALSE(look_at((folder / "nothing").string()).leads_on);
  look = look_at((folder / "no" / "thing").string());
  CHECK(look.folder.empty());
  CHECK(look.words.find("nor is its folder") != std::string::npos);
  look = look_at("");
  CHECK(look.words.empty());
  CHECK(look.folder == (fs::current_path()).string());
  CHECK(look_at("/").has_parent == false);
  CHECK(expanded_path("~/x") == std::string(std::getenv("HOME")) + "/x");
  CHECK(expanded_path("~x/y") == "~x/y");
}

TEST_CASE("block in focus: what is named, what is selected, where the query lies, else the largest") {
  const OpenDump open(random_dump(1, 256, 4));
  const Slot slot = small_slot();
  ViewSettings view;
  Selection selection;
  CHECK(block_in_focus(*open.session, slot, view, selection) == far_blocks(256, 32).back());
  selection.locked = Target{.query = 40};
  CHECK(block_in_focus(*open.session, slot, view, selection) == Block{0, 32, 64, 0, 32});
  selection.locked = Target{.query = 100};
  CHECK(block_in_focus(*open.session, slot, view, selection) == Block{1, 64, 128, 0, 64});
  selection.locked->block = Block{0, 96, 128, 64, 96};
  CHECK(block_in_focus(*open.session, slot, view, selection) == Block{0, 96, 128, 64, 96});
  view.level = 0;
  view.block = 3;
  CHECK(block_in_focus(*open.session, slot, view, selection) == Block{0, 224, 256, 192, 224});
  view.block = 4;
  CHECK_THROWS_AS((void)block_in_focus(*open.session, slot, view, selection), UsageError);
  view.level = 3;
  CHECK_THROWS_AS((void)block_in_focus(*open.session, slot, view, selection), UsageError);
  CHECK_THROWS_AS((void)block_in_focus(*open.session, small_slot("6", "256"), {}, {}), MisfitError);
}

TEST_CASE("worker: the newest of a channel wins, others wait their turn, failures are told") {
  Worker worker;
  std::promise<void> started;
  std::atomic<int> cancelled{0}, done{0};
  worker.request("a",
                 [&](Task& task) {
                   Progress& progress = task.stage("long", 1);
                   started.set_value();
                   // What nobody cancels ends by itself, and is seen below.
                   const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
                   while (!progress.cancel && std::chrono::steady_clock::now() < end)
                     std::this_thread::yield();
                   if (progress.cancel) ++cancelled;
                   throw_if_cancelled(&progress);
                 },
                 {});
  started.get_future().wait();
  CHECK(worker.status().busy);
  CHECK(worker.status().stage == "long");
  std::string failure;
  worker.request(
      "b", [&](Task&) { throw UsageError("wrong"); }, [&](const std::string& what) { failure = what; });
  worker.request("a", [&](Task&) { ++done; }, {});
  worker.wait_until_idle();
  CHECK(cancelled == 1);
  CHECK(done == 1);
  CHECK(failure == "wrong");
  CHECK_FALSE(worker.status().busy);
  CHECK(worker.status().cancelled == 1);
  CHECK(worker.status().finished == 2);
}

TEST_CASE("every computation stops when its task is cancelled, and can be asked for again") {
  const OpenDump open(random_dump(1, 200, 8));
  Analysis analysis(open.session);
  WatchedTask cancelled, task;
  cancelled.cancel();
  const Slot slot = small_slot();
  CHECK_THROWS_AS((void)analysis.run(slot, cancelled), Cancelled);
  CHECK_THROWS_AS((void)analysis.block_parts(slot, cancelled), Cancelled);
  CHECK_THROWS_AS((void)analysis.trade_off(slot, Grid::quick, 0.1, cancelled), Cancelled);
  const Block block = approximated_blocks(200, 200, slot.config).back();
  (void)analysis.run(slot, task);
  CHECK_THROWS_AS((void)analysis.pair_errors(slot, block, cancelled), Cancelled);
  CHECK_THROWS_AS((void)analysis.projection(slot, block, Basis::joint, cancelled), Cancelled);
  CHECK(analysis.pair_errors(slot, block, task)->Ck > 0);
}

TEST_CASE(
    "trade-off: the current setting first, errors are those of runs, the tuner's answer keeps its bound") {
  const OpenDump open(random_dump(1, 256, 8));
  Analysis analysis(open.session);
  WatchedTask task;
  const Slot slot = small_slot("S/16:4:32", "64", "0");
  const auto trade = analysis.trade_off(slot, Grid::quick, 0.2, task);
  REQUIRE_FALSE(trade->points.empty());
  CHECK(trade->points.front().slot == slot);
  for (const TradeOffPoint& point : trade->points) {
    CHECK(point.error ==
          doctest::Approx(analysis.query_errors(point.slot, task)->head.rel_sq_err).epsilon(1e-9));
    CHECK(point.operations > 0);
    if (point.tuned) CHECK(point.error <= 0.2);
  }
}
