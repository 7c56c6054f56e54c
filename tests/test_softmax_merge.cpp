#include "muse/softmax_merge.h"

#include <numeric>

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Keys dealt out to parts, attended apart in double, rounded to Scalar.
template <class Scalar>
struct Parts {
  NaiveAttention whole;
  std::vector<Attention<Scalar>> parts;
  double vmax = 0, largest_lse = 0;
};

template <class Scalar>
Parts<Scalar> random_parts(Index N, Index keys, Index count, double sigma, std::uint64_t seed) {
  const Rows q = rows_of(random_matrix<double>(N, 6, seed, sigma));
  const Rows k = rows_of(random_matrix<double>(keys, 6, seed + 1, sigma));
  const Rows v = rows_of(random_matrix<double>(keys, 3, seed + 2));
  Parts<Scalar> result;
  result.whole = naive_attention(q, k, v, 1.0, sees_all);
  result.vmax = largest_abs(v);
  for (Index part = 0; part < count; ++part) {
    const NaiveAttention attention =
        naive_attention(q, k, v, 1.0, [&](Index t, Index n) { return (n + t) % count == part; });
    Attention<Scalar> rounded(N, 3);
    for (Index t = 0; t < N; ++t) {
      rounded.lse[t] = static_cast<Scalar>(attention.lse[static_cast<std::size_t>(t)]);
      for (Index d = 0; d < 3; ++d)
        rounded.o(t, d) =
            static_cast<Scalar>(attention.o[static_cast<std::size_t>(t)][static_cast<std::size_t>(d)]);
      result.largest_lse = std::max(result.largest_lse, std::abs(attention.lse[static_cast<std::size_t>(t)]));
    }
    result.parts.push_back(rounded);
  }
  return result;
}

// A merge rounds L (and was given one rounded): its weights e^{L1-L} err by 3 u |L| + 8 u relative, each, as
// do the outputs; `merges` of them add up.
template <class Scalar>
double merge_bound(const Parts<Scalar>& parts) {
  const auto merges = static_cast<double>(parts.parts.size());
  return merges * 2 * unit_roundoff<Scalar>() * (3 * parts.largest_lse + 8) * std::max(1.0, parts.vmax);
}

template <class Scalar>
void check_merged(const Attention<Scalar>& merged, const Parts<Scalar>& parts) {
  Rows lse;
  for (const double L : parts.whole.lse) lse.push_back({L});
  check_close(merged.o, parts.whole.o, merge_bound(parts), "o");
  check_close(merged.lse, lse, merge_bound(parts), "lse");
}

}  // namespace

TEST_CASE_TEMPLATE("softmax_row gives weights that sum to 1, and the log-sum-exp", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const double u = unit_roundoff<Scalar>();
  for (const Index n : {1, 2, 7, 8, 9, 64, 129}) {
    for (const double offset : {0.0, 1e4, -1e4}) {
      CAPTURE(n);
      CAPTURE(offset);
      Matrix<Scalar> logits = random_matrix<Scalar>(1, n, static_cast<std::uint64_t>(n), 3.0);
      logits.array() += static_cast<Scalar>(offset);
      if (n > 2) logits(0, 1) = -std::numeric_limits<Scalar>::infinity();
      const Row truth_logits = rows_of(logits)[0];
      const double L = logsumexp(truth_logits);
      const Rows truth{softmax(truth_logits)};
      const Scalar found_L = softmax_row<Scalar>(logits.row(0));
      // n terms of relative error 8 u (rounded difference below e^{-x} x, exp), their sum n u, the log, the
      // sum.
      const double tolerance = u * (static_cast<double>(n) + 16);
      check_close(logits, truth, tolerance, "weights");
      check_near(static_cast<double>(found_L), L, tolerance + 2 * u * std::abs(L), "log-sum-exp");
      // No weight: Eigen's exp stops at the smallest normal number, which nothing that is summed here can
      // feel.
      if (n > 2) CHECK(logits(0, 1) <= 2 * std::numeric_limits<Scalar>::min());
    }
  }
}

TEST_CASE_TEMPLATE("logits weighed set by set give the softmax of all, without overflow", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const double u = unit_roundoff<Scalar>();
  for (const std::vector<Index>& sizes : {std::vector<Index>{9}, {1, 64, 7}, {5, 5, 5, 5}}) {
    for (const double drift : {0.0, 5e3, -5e3}) {  // each set's logits above or below those before
      CAPTURE(sizes.size());
      CAPTURE(drift);
      Index n = 0;
      for (const Index size : sizes) n += size;
      Matrix<Scalar> logits = random_matrix<Scalar>(1, n, static_cast<std::uint64_t>(n), 3.0);
      const Matrix<Scalar> v = random_matrix<Scalar>(n, 3, 7);
      RunningAttention<Scalar> sum(1, 3);
      Index begin = 0;
      for (std::size_t set = 0; set < sizes.size(); begin += sizes[set++])
        logits.middleCols(begin, sizes[set]).array() += static_cast<Scalar>(drift * static_cast<double>(set));
      const Row truth_logits = rows_of(logits)[0];
      begin = 0;
      for (const Index size : sizes) {
        sum.weigh(0, logits.row(0).segment(begin, size));
        sum.o += logits.middleCols(begin, size) * v.middleRows(begin, size);
        begin += size;
      }
      const Attention<Scalar> found = std::move(sum).finish();
      const Row weights = softmax(truth_logits);
      Row o(3, 0.0);
      for (Index row = 0; row < n; ++row)
        for (Index d = 0; d < 3; ++d)
          o[static_cast<std::size_t>(d)] +=
              weights[static_cast<std::size_t>(row)] * static_cast<double>(v(row, d));
      // As softmax_row, with two more roundings for each time that the sums are rescaled.
      const double L = logsumexp(truth_logits);
      const double tolerance = u * (static_cast<double>(n + 2 * static_cast<Index>(sizes.size())) + 16);
      check_close(found.o, Rows{o}, 2 * tolerance * largest_abs(rows_of(v)), "o");
      check_near(static_cast<double>(found.lse[0]), L, tolerance + 2 * u * std::abs(L), "log-sum-exp");
    }
  }
  const Attention<Scalar> empty = std::move(RunningAttention<Scalar>(2, 3)).finish();
  CHECK((empty.o.array() == 0).all());
  CHECK((empty.lse.array() == -std::numeric_limits<Scalar>::infinity()).all());
}

TEST_CASE_TEMPLATE("parts merge to the whole in any order and any association", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const double sigma : {0.5, 2.0, 40.0}) {  // the last: logits of several thousand
    CAPTURE(sigma);
    const Parts<Scalar> parts = random_parts<Scalar>(9, 40, 5, sigma, 10);
    std::vector<std::size_t> order(parts.parts.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    do {
      // From the left: ((((a b) c) d) e).
      Attention<Scalar> left(9, 3);
      for (const std::size_t part : order) softmax_merge(left, parts.parts[part]);
      check_merged(left, parts);
      // From the right: (a (b (c (d e)))).
      Attention<Scalar> right = parts.parts[order.back()];
      for (std::size_t i = order.size() - 1; i-- > 0;) {
        Attention<Scalar> sum = parts.parts[order[i]];
        softmax_merge(sum, right);
        right = sum;
      }
      check_merged(right, parts);
      // In pairs: ((a b) (c d)) e.
      Attention<Scalar> ab = parts.parts[order[0]], cd = parts.parts[order[2]];
      softmax_merge(ab, parts.parts[order[1]]);
      softmax_merge(cd, parts.parts[order[3]]);
      softmax_merge(ab, cd);
      softmax_merge(ab, parts.parts[order[4]]);
      check_merged(ab, parts);
    } while (std::next_permutation(order.begin(), order.end()));
  }
}

TEST_CASE_TEMPLATE("two empty sides stay empty, without NaN", Scalar, float, double) {
  Attention<Scalar> sum(4, 3);
  softmax_merge(sum, Attention<Scalar>(4, 3));
  CHECK((sum.o.array() == Scalar(0)).all());
  CHECK((sum.lse.array() == -std::numeric_limits<Scalar>::infinity()).all());
}

TEST_CASE_TEMPLATE("an empty side changes no bit of the other", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Parts<Scalar> parts = random_parts<Scalar>(9, 12, 1, 2.0, 20);
  const Attention<Scalar> empty(9, 3);
  Attention<Scalar> sum = parts.parts[0];
  softmax_merge(sum, empty);
  CHECK(same_bits(sum, parts.parts[0]));
  Attention<Scalar> from_empty = empty;
  softmax_merge(from_empty, parts.parts[0]);
  CHECK(same_bits(from_empty, parts.parts[0]));
}

TEST_CASE_TEMPLATE("a part e^20000 times lighter changes no bit, on either side", Scalar, float, double) {
  MUSE_SHOW_SEED();
  Attention<Scalar> heavy(5, 3), light(5, 3);
  heavy.o = random_matrix<Scalar>(5, 3, 30);
  light.o = random_matrix<Scalar>(5, 3, 31, 1e6);
  heavy.lse.setConstant(Scalar(1e4));
  light.lse.setConstant(Scalar(-1e4));
  Attention<Scalar> sum = heavy;
  softmax_merge(sum, light);
  CHECK(same_bits(sum, heavy));
  sum = light;
  softmax_merge(sum, heavy);
  CHECK(same_bits(sum, heavy));
}

TEST_CASE_TEMPLATE("two equal parts give their mean, and log 2 more", Scalar, float, double) {
  Attention<Scalar> a(1, 2), b(1, 2);
  for (const double L : {0.0, -1e4, 1e4}) {
    CAPTURE(L);
    a.o << Scalar(1), Scalar(-2);
    b.o << Scalar(3), Scalar(6);
    a.lse[0] = b.lse[0] = static_cast<Scalar>(L);
    softmax_merge(a, b);
    const double tolerance = 8 * unit_roundoff<Scalar>() * (std::abs(L) + 8);
    check_close(a.o, Rows{{2, 2}}, tolerance, "o");
    check_near(static_cast<double>(a.lse[0]), L + std::log(2.0), tolerance, "lse");
  }
}

TEST_CASE("parts of different shapes are refused") {
  Attention<float> sum(4, 3);
  CHECK_THROWS_AS(softmax_merge(sum, Attention<float>(5, 3)), MisfitError);
  CHECK_THROWS_AS(softmax_merge(sum, Attention<float>(4, 2)), MisfitError);
}

TEST_CASE("what no key was seen by is empty") {
  const Attention<double> empty(2, 3);
  CHECK(empty.lse[0] == -kInfinity);
  CHECK((empty.o.array() == 0).all());
}
