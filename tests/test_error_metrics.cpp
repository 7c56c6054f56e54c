#include "muse/error_metrics.h"

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

template <class Scalar>
Attention<Scalar> attention(const std::vector<std::vector<double>>& o, const std::vector<double>& lse) {
  Attention<Scalar> result(static_cast<Index>(o.size()), static_cast<Index>(o[0].size()));
  for (std::size_t n = 0; n < o.size(); ++n) {
    for (std::size_t d = 0; d < o[n].size(); ++d)
      result.o(static_cast<Index>(n), static_cast<Index>(d)) = static_cast<Scalar>(o[n][d]);
    result.lse[static_cast<Index>(n)] = static_cast<Scalar>(lse[n]);
  }
  return result;
}

}  // namespace

TEST_CASE_TEMPLATE("head_error by hand", Scalar, float, double) {
  // Small integers: exact in float.
  const auto exact = attention<Scalar>({{3, 4}, {0, 5}}, {1, 2});
  const auto approximate = attention<Scalar>({{3, 5}, {2, 5}}, {0.5, 1});
  const HeadError error = head_error(approximate, exact);
  CHECK(error.rel_sq_err == (1.0 + 4.0) / (25.0 + 25.0));
  CHECK(error.max_abs_err == 2);
  CHECK(error.lse_bias == -0.75);
  CHECK(error.non_finite == 0);
  const Vector<double> by_query = query_errors(approximate, exact);
  REQUIRE(by_query.size() == 2);
  CHECK(by_query[0] == 1.0 / 25);
  CHECK(by_query[1] == 4.0 / 25);
}

TEST_CASE_TEMPLATE("no error is 0, an error against nothing is infinite, nothing against nothing is 0",
                   Scalar, float, double) {
  const auto zero = attention<Scalar>({{0, 0}, {0, 0}}, {0, 0}),
             one = attention<Scalar>({{1, 0}, {0, 0}}, {0, 0});
  CHECK(head_error(one, one).rel_sq_err == 0);
  CHECK(head_error(one, one).max_abs_err == 0);
  CHECK(head_error(zero, zero).rel_sq_err == 0);
  CHECK(head_error(zero, one).rel_sq_err == 1);
  CHECK(std::isinf(head_error(one, zero).rel_sq_err));
  CHECK(query_errors(one, one) == Vector<double>::Zero(2));
  CHECK(query_errors(zero, one)[0] == 1);
  CHECK(query_errors(zero, one)[1] == 0);
  CHECK(std::isinf(query_errors(one, zero)[0]));
}

TEST_CASE("small errors of float outputs survive: sums are taken in double") {
  // 1e5 tokens of error 2^-24 beside outputs of 1: float sums would lose them.
  Attention<float> exact(100000, 1), approximate(100000, 1);
  exact.o.setOnes();
  exact.lse.setZero();
  approximate.lse.setZero();
  approximate.o.setConstant(1 - std::ldexp(1.0F, -24));
  CHECK(head_error(approximate, exact).rel_sq_err == std::ldexp(1.0, -48));
}

TEST_CASE_TEMPLATE("outputs that are not finite are counted, and leave the figures of the others alone",
                   Scalar, float, double) {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto exact = attention<Scalar>({{3, 4}, {1, 1}, {1, 1}, {1, 1}, {0, 5}}, {1, 0, 0, 0, 2});
  const auto approximate =
      attention<Scalar>({{3, 5}, {kNaN, 1}, {1, infinity}, {1, 1}, {2, 5}}, {0.5, 0, 0, kNaN, 1});
  const HeadError error = head_error(approximate, exact);
  CHECK(error.non_finite == 3);
  CHECK(error.rel_sq_err == (1.0 + 4.0) / (25.0 + 25.0));
  CHECK(error.max_abs_err == 2);
  CHECK(error.lse_bias == -0.75);
  // NaN in what is called exact is no better.
  CHECK(head_error(exact, approximate).non_finite == 3);
  // No token left: no figure.
  const auto nothing = attention<Scalar>({{kNaN, 1}, {1, infinity}}, {0, 0});
  CHECK(head_error(nothing, nothing).non_finite == 2);
  CHECK(std::isnan(head_error(nothing, nothing).rel_sq_err));
  CHECK(std::isnan(head_error(nothing, nothing).max_abs_err));
  CHECK(std::isnan(head_error(nothing, nothing).lse_bias));
  // A query's own error is NaN or infinite, never a small number.
  CHECK(!(query_errors(approximate, exact)[1] <= 1e300));
}

TEST_CASE("shapes that differ are refused") {
  CHECK_THROWS_AS(static_cast<void>(head_error(Attention<float>(3, 2), Attention<float>(4, 2))), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(head_error(Attention<float>(3, 2), Attention<float>(3, 1))), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(query_errors(Attention<float>(3, 2), Attention<float>(4, 2))),
                  MisfitError);
  const Block block{.level = 0, .query_begin = 2, .query_end = 4, .key_begin = 0, .key_end = 2};
  CHECK_THROWS_AS(static_cast<void>(block_error(block, Attention<float>(3, 2), Attention<float>(2, 2),
                                                Attention<float>(4, 2))),
                  MisfitError);
  CHECK_THROWS_AS(static_cast<void>(block_error(block, Attention<float>(2, 2), Attention<float>(3, 2),
                                                Attention<float>(4, 2))),
                  MisfitError);
}

namespace {

// Exact causal attention of 24 tokens, and one block of it exact, approximated, and left out.
struct BlockCase {
  Block block{.level = 1, .query_begin = 8, .query_end = 16, .key_begin = 0, .key_end = 8};
  NaiveAttention exact, part, rest;
  Attention<double> approximate_part{8, 3};
};

BlockCase block_case() {
  const Rows q = rows_of(random_matrix<double>(24, 5, 1)), k = rows_of(random_matrix<double>(24, 5, 2));
  const Rows v = rows_of(random_matrix<double>(24, 3, 3));
  BlockCase x;
  x.exact = naive_attention(q, k, v, 0.5, [](Index t, Index n) { return n <= t; });
  const Rows q_block(q.begin() + 8, q.begin() + 16);
  x.part = naive_attention(q_block, k, v, 0.5, [](Index, Index n) { return n < 8; });
  x.rest = naive_attention(q_block, k, v, 0.5, [](Index t, Index n) { return n >= 8 && n <= t + 8; });
  x.approximate_part.o = random_matrix<double>(8, 3, 4);
  for (Index row = 0; row < 8; ++row)
    x.approximate_part.lse[row] =
        x.part.lse[static_cast<std::size_t>(row)] + 0.3 * std::sin(static_cast<double>(row + 1));
  return x;
}

template <class Scalar>
Attention<Scalar> as_attention(const NaiveAttention& naive) {
  return attention<Scalar>(naive.o, naive.lse);
}

}  // namespace

TEST_CASE("a block replaced by itself has no error, and its share of the mass") {
  MUSE_SHOW_SEED();
  const BlockCase x = block_case();
  const auto part = as_attention<double>(x.part), exact = as_attention<double>(x.exact);
  const BlockError error = block_error(x.block, part, part, exact);
  CHECK(error.block == x.block);
  // o - w o_b + w o_b and 1 - w + w each round by a few u: squared.
  CHECK(error.rel_sq_err <= std::pow(16 * unit_roundoff<double>() * 4, 2));
  CHECK(error.lse_bias == 0);
  double mass = 0;
  for (std::size_t row = 0; row < 8; ++row) mass += std::exp(x.part.lse[row] - x.exact.lse[8 + row]) / 8;
  check_near(error.mass, mass, 64 * unit_roundoff<double>(), "mass");
}

TEST_CASE_TEMPLATE("a block's error equals merging its approximation with the exact rest", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const BlockCase x = block_case();
  Attention<Scalar> approximate_part(8, 3);
  approximate_part.o = x.approximate_part.o.cast<Scalar>();
  approximate_part.lse = x.approximate_part.lse.cast<Scalar>();
  const BlockError error =
      block_error(x.block, approximate_part, as_attention<Scalar>(x.part), as_attention<Scalar>(x.exact));
  double difference_sq = 0, exact_sq = 0, bias = 0;
  for (const Row& o : x.exact.o) exact_sq += dot(o, o);
  for (std::size_t row = 0; row < 8; ++row) {
    double lse = 0;
    const Row mixed =
        naive_combine({{x.rest.lse[row], x.rest.o[row]},
                       {x.approximate_part.lse[static_cast<Index>(row)], rows_of(x.approximate_part.o)[row]}},
                      3, lse);
    for (std::size_t d = 0; d < 3; ++d) difference_sq += std::pow(mixed[d] - x.exact.o[8 + row][d], 2);
    bias += (x.approximate_part.lse[static_cast<Index>(row)] - x.part.lse[row]) / 8;
  }
  REQUIRE(difference_sq / exact_sq >= 1e-3);
  // Inputs rounded to Scalar: log-sum-exps up to 4 and outputs up to 3 err by u of that, and what is divided
  // by, 1 - w + ŵ >= 1/20, blows that up by 20; the squared error by twice its relative error.
  const double tolerance = 2 * 20 * 16 * unit_roundoff<Scalar>();
  check_near(error.rel_sq_err, difference_sq / exact_sq, tolerance, "error");
  check_near(error.lse_bias, bias, 16 * unit_roundoff<Scalar>(), "bias");
}

TEST_CASE("a block without mass has no error, whatever its outputs, a lost block is the exact rest") {
  MUSE_SHOW_SEED();
  BlockCase x = block_case();
  auto part = as_attention<double>(x.part), exact = as_attention<double>(x.exact);
  Attention<double> nothing(8, 3);  // lse = -infinity
  double difference_sq = 0, exact_sq = 0;
  for (const Row& o : x.exact.o) exact_sq += dot(o, o);
  for (std::size_t row = 0; row < 8; ++row)
    for (std::size_t d = 0; d < 3; ++d)
      difference_sq += std::pow(x.rest.o[row][d] - x.exact.o[8 + row][d], 2);
  check_near(block_error(x.block, nothing, part, exact).rel_sq_err, difference_sq / exact_sq,
             2 * 20 * 16 * unit_roundoff<double>(), "lost block");
  CHECK(block_error(x.block, nothing, nothing, exact).rel_sq_err == 0);
  CHECK(block_error(x.block, nothing, nothing, exact).mass == 0);
}
