#include "muse/tune.h"

#include <cmath>

#include "helpers.h"
#include "muse/check.h"
#include "muse/error_metrics.h"
#include "muse/exact_attention.h"
#include "muse/muse_attention.h"

using namespace muse;
using namespace muse::test;

namespace {

// A head whose queries, keys and values gather around a few centres, so that far clusters can be summarised.
Head<float> clumped_head(Index N, Index D, std::uint64_t seed) {
  Head<float> head;
  head.q = 2 * clumped_matrix<float>(N, D, 12, 0.2, seed);
  head.k = 2 * clumped_matrix<float>(N, D, 12, 0.2, seed + 3);
  head.v = clumped_matrix<float>(N, D, 12, 0.2, seed + 6);
  head.scale = 1 / std::sqrt(static_cast<float>(D));
  return head;
}

double error_of(const Head<float>& head, const Config& config) {
  const auto exact = exact_attention<float>(head.q, head.k, head.v, head.scale, {.causal = true});
  const auto muse = muse_attention<float>(head.q, head.k, head.v, head.scale, config);
  return head_error(muse.attention, exact).rel_sq_err;
}

}  // namespace

TEST_CASE("the answer keeps its bound, is the cheapest that does, and says the error that it has") {
  MUSE_SHOW_SEED();
  const std::vector<Head<float>> heads{clumped_head(1200, 16, 10), clumped_head(1200, 16, 20)};
  const double max_error = 0.02;
  const TuneResult result = tune<float>(heads, Config{}, max_error);
  REQUIRE(result.found);
  const TunePoint& best = result.points[result.best];
  // Run afresh, clustering included, by the functions that every command calls.
  const double error = (error_of(heads[0], best.config) + error_of(heads[1], best.config)) / 2;
  CHECK(error == doctest::Approx(best.error).epsilon(1e-6));
  CHECK(error <= max_error);
  CHECK(best.unseen_error <= 1.25 * max_error);
  CHECK(best.unseen_error >= best.error);
  CHECK(best.operations < result.exact_operations);
  for (const TunePoint& point : result.points) {
    const bool within = point.error <= max_error && point.unseen_error <= 1.25 * max_error;
    CHECK((!within || point.operations >= best.operations));
  }
  // 2 (D + Dv) operations for each of N (N + 1) / 2 pairs and two heads
  CHECK(result.exact_operations == 2 * 2 * 32 * (1200.0 * 1201 / 2));
}

TEST_CASE("the answer holds on other text of the same heads, within 1.25 of the bound") {
  MUSE_SHOW_SEED();
  // One sequence, cut in two: tuned on the first half, tried on the second.
  const Head<float> whole = clumped_head(4000, 16, 30);
  Head<float> seen = whole, other = whole;
  for (auto member : {&Head<float>::q, &Head<float>::k, &Head<float>::v}) {
    seen.*member = (whole.*member).topRows(2000);
    other.*member = (whole.*member).bottomRows(2000);
  }
  const double max_error = 0.01;
  const TuneResult result = tune<float>(std::vector<Head<float>>{seen}, Config{}, max_error);
  REQUIRE(result.found);
  CHECK(error_of(other, result.points[result.best].config) <= 1.25 * max_error);
}

TEST_CASE("no point of the frontier is beaten, and every other point is") {
  MUSE_SHOW_SEED();
  const std::vector<Head<float>> heads{clumped_head(700, 8, 40)};
  const TuneResult result = tune<float>(heads, Config{}, 0.05);
  REQUIRE(!result.frontier.empty());
  std::vector<bool> on_frontier(result.points.size());
  for (const std::size_t i : result.frontier) on_frontier[i] = true;
  for (std::size_t a = 0; a < result.points.size(); ++a) {
    bool beaten = false;
    for (std::size_t b = 0; b < result.points.size(); ++b) {
      const TunePoint &p = result.points[a], &q = result.points[b];
      beaten = beaten ||
               (q.operations <= p.operations && q.error <= p.error &&
                (q.operations < p.operations || q.error < p.error || (on_frontier[b] && !on_frontier[a])));
    }
    CHECK(beaten == !on_frontier[a]);
  }
}

TEST_CASE("a bound out of reach is said to be, and a bound of nothing refused") {
  MUSE_SHOW_SEED();
  const std::vector<Head<float>> heads{clumped_head(600, 8, 50)};
  CHECK(!tune<float>(heads, Config{}, 1e-12).found);
  CHECK_THROWS_AS(static_cast<void>(tune<float>(heads, Config{}, 0)), UsageError);
  CHECK_THROWS_AS(static_cast<void>(tune<float>(heads, Config{}, std::nan(""))), UsageError);
  CHECK_THROWS_AS(static_cast<void>(tune<float>(std::span<const Head<float>>(), Config{}, 0.1)), MisfitError);
}

TEST_CASE("a cancelled search throws") {
  const std::vector<Head<float>> heads{clumped_head(600, 8, 60)};
  Progress progress;
  progress.cancel = true;
  CHECK_THROWS_AS(static_cast<void>(tune<float>(heads, Config{}, 0.1, &progress)), Cancelled);
}

TEST_CASE("the spread over heads is the prediction interval of log errors") {
  // Two heads: one degree of freedom, t(95 %) = 6.314; logs ±1 around log 0.01, deviation sqrt(2).
  const std::vector<double> errors{0.01 * std::exp(1.0), 0.01 * std::exp(-1.0)};
  const HeadSpread spread = predict_spread(errors);
  REQUIRE(spread.stated);
  const double reach = 6.314 * std::sqrt(2.0) * std::sqrt(1.5);
  CHECK(spread.median == doctest::Approx(0.01));
  CHECK(spread.high == doctest::Approx(0.01 * std::exp(reach)));
  CHECK(spread.low == doctest::Approx(0.01 * std::exp(-reach)));
  CHECK(!predict_spread(std::vector<double>{0.01}).stated);
  CHECK(!predict_spread(std::vector<double>{0.01, 0}).stated);
}
