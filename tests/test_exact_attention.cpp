#include "muse/exact_attention.h"

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

constexpr Index kSizes[] = {1, 2, 63, 64, 65, 127, 128, 129, 1025};

// Which keys a query sees, written apart from Mask::keys.
bool mask_sees(const Mask& mask, Index t, Index n) {
  if (mask.causal && n > t) return false;
  return mask.block == 0 || t / mask.block == n / mask.block;
}

template <class Scalar>
struct Tensors {
  Matrix<Scalar> q, k, v;
  double scale;
};

template <class Scalar>
Tensors<Scalar> random_tensors(Index Nq, Index Nk, Index D, Index Dv, double scale, double sigma = 1) {
  const auto seed = static_cast<std::uint64_t>(Nq * 7 + Nk * 3 + D);
  return {random_matrix<Scalar>(Nq, D, seed, sigma), random_matrix<Scalar>(Nk, D, seed + 1, sigma),
          random_matrix<Scalar>(Nk, Dv, seed + 2), static_cast<double>(static_cast<Scalar>(scale))};
}

template <class Scalar>
NaiveAttention naive(const Tensors<Scalar>& x, const Mask& mask) {
  return naive_attention(rows_of(x.q), rows_of(x.k), rows_of(x.v), x.scale,
                         [&](Index t, Index n) { return mask_sees(mask, t, n); });
}

template <class Scalar>
Attention<Scalar> exact(const Tensors<Scalar>& x, const Mask& mask) {
  return exact_attention<Scalar>(x.q, x.k, x.v, static_cast<Scalar>(x.scale), mask);
}

template <class Scalar>
void check_against_naive(const Tensors<Scalar>& x, const Mask& mask) {
  CAPTURE(x.q.rows());
  CAPTURE(x.k.rows());
  CAPTURE(x.q.cols());
  CAPTURE(mask.causal);
  CAPTURE(mask.block);
  check_attention(exact(x, mask), naive(x, mask), static_cast<double>(x.q.cols()), largest_abs(rows_of(x.v)));
}

}  // namespace

TEST_CASE_TEMPLATE("equals three plain loops, acausal and causal, at sizes around its tiles", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Index N : kSizes) {
    const auto x = random_tensors<Scalar>(N, N, 64, 64, 0.125);
    check_against_naive(x, {});
    check_against_naive(x, {.causal = true});
  }
}

TEST_CASE_TEMPLATE("any dim, and values of another dim", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {1, 8, 33, 256}) {
    for (const Index Dv : {1, 5, 64}) {
      for (const Index N : {1, 65, 129}) {
        const auto x = random_tensors<Scalar>(N, N, D, Dv, 1 / std::sqrt(static_cast<double>(D)));
        check_against_naive(x, {});
        check_against_naive(x, {.causal = true});
      }
    }
  }
}

TEST_CASE_TEMPLATE("blocks of sizes that divide nothing, causal and not", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 2, 63, 65, 127, 129, 300}) {
    const auto x = random_tensors<Scalar>(N, N, 8, 5, 0.4);
    for (const Index block : {1, 2, 7, 63, 64, 65, 100, 128, 130, 300, 5000}) {
      check_against_naive(x, {.causal = true, .block = block});
      check_against_naive(x, {.causal = false, .block = block});
    }
  }
}

TEST_CASE_TEMPLATE("another number of keys than of queries", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index Nq : {1, 63, 65, 200})
    for (const Index Nk : {1, 2, 127, 129, 300})
      check_against_naive(random_tensors<Scalar>(Nq, Nk, 33, 17, 0.2), {});
}

TEST_CASE_TEMPLATE("any scale: zero gives means, a negative one turns the order round", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const double scale : {0.0, -0.3, 1e-3, 1.0, 3.0}) {
    CAPTURE(scale);
    check_against_naive(random_tensors<Scalar>(130, 130, 16, 8, scale), {.causal = true});
  }
}

TEST_CASE_TEMPLATE("logits of ten thousand, of both signs and all of one sign", Scalar, float, double) {
  MUSE_SHOW_SEED();
  // Standard deviation of a logit: 0.125 sigma² sqrt(64) = sigma²; the largest of 130² is some 4 times that.
  auto x = random_tensors<Scalar>(130, 130, 64, 16, 0.125, 50);
  const Rows q = rows_of(x.q), k = rows_of(x.k);
  double largest = 0, smallest = 0;
  for (const Row& q_t : q) {
    for (const Row& k_n : k) {
      largest = std::max(largest, x.scale * dot(q_t, k_n));
      smallest = std::min(smallest, x.scale * dot(q_t, k_n));
    }
  }
  REQUIRE(largest >= 7e3);
  REQUIRE(smallest <= -7e3);
  check_against_naive(x, {});
  check_against_naive(x, {.causal = true});
  for (const double offset : {1e4, -1e4}) {
    // One more feature, the same for all keys, moves every logit by `offset`.
    auto moved = random_tensors<Scalar>(130, 130, 16, 16, 0.25);
    moved.q.col(0).setConstant(Scalar(40));
    moved.k.col(0).setConstant(static_cast<Scalar>(offset / 10));
    check_against_naive(moved, {});
    check_against_naive(moved, {.causal = true});
  }
}

TEST_CASE("the error of float is at most twice that of plain loops in float") {
  MUSE_SHOW_SEED();
  for (const double sigma : {1.0, 3.0, 20.0}) {
    for (const bool causal : {false, true}) {
      CAPTURE(sigma);
      CAPTURE(causal);
      const auto x = random_tensors<float>(300, 300, 64, 64, 0.125, sigma);
      const Mask mask{.causal = causal};
      const NaiveAttention truth = naive(x, mask);
      // The same loops in float.
      Matrix<float> o = Matrix<float>::Zero(300, 64);
      const float s = static_cast<float>(x.scale);
      for (Index t = 0; t < 300; ++t) {
        std::vector<float> weights;
        float m = -std::numeric_limits<float>::infinity(), sum = 0;
        for (Index n = 0; n < (causal ? t + 1 : 300); ++n) {
          float logit = 0;
          for (Index d = 0; d < 64; ++d) logit += x.q(t, d) * x.k(n, d);
          weights.push_back(s * logit);
          m = std::max(m, weights.back());
        }
        for (float& weight : weights) sum += weight = std::exp(weight - m);
        for (std::size_t n = 0; n < weights.size(); ++n)
          for (Index d = 0; d < 64; ++d) o(t, d) += weights[n] / sum * x.v(static_cast<Index>(n), d);
      }
      const Difference of_loops = difference(o, truth.o);
      const Difference of_library = difference(exact(x, mask).o, truth.o);
      CAPTURE(of_loops.rel_l2);
      CAPTURE(of_library.rel_l2);
      CHECK(of_library.non_finite == 0);
      CHECK(of_library.rel_l2 <= 2 * of_loops.rel_l2);
      CHECK(of_library.max_abs <= 2 * of_loops.max_abs);
    }
  }
}

TEST_CASE_TEMPLATE("one key gives its value and its logit, equal keys the mean value and log N more", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  const double u = unit_roundoff<Scalar>();
  const auto x = random_tensors<Scalar>(70, 1, 8, 4, 0.3);
  const Attention<Scalar> one = exact(x, {});
  for (Index t = 0; t < 70; ++t) CHECK(same_bits(one.o.row(t), x.v.row(0)));
  auto y = random_tensors<Scalar>(70, 200, 8, 4, 0.3);
  y.k.rowwise() = x.k.row(0).eval();
  y.q = x.q;
  const Attention<Scalar> equal = exact(y, {});
  Row mean(4, 0.0);
  const Rows v = rows_of(y.v);
  for (const Row& v_n : v)
    for (std::size_t d = 0; d < 4; ++d) mean[d] += v_n[d] / 200;
  for (Index t = 0; t < 70; ++t) {
    // Weights are all 1: only the sums round.
    check_close(equal.o.row(t), Rows{mean}, 201 * u * largest_abs(v), "mean value");
    const double logit = x.scale * dot(rows_of(x.q)[static_cast<std::size_t>(t)], rows_of(x.k)[0]);
    const double logit_bound =
        10 * u * x.scale * abs_dot(rows_of(x.q)[static_cast<std::size_t>(t)], rows_of(x.k)[0]);
    check_near(static_cast<double>(one.lse[t]), logit, logit_bound, "one logit");
    check_near(static_cast<double>(equal.lse[t]), logit + std::log(200.0), logit_bound + 20 * u,
               "log N more");
  }
}

TEST_CASE_TEMPLATE("keys that a query does not see leave its bits alone, however large they are", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  for (const Mask mask : {Mask{.causal = true}, Mask{.causal = true, .block = 50}, Mask{.block = 50}}) {
    const auto x = random_tensors<Scalar>(150, 150, 17, 5, 0.25);
    const Attention<Scalar> before = exact(x, mask);
    auto y = x;
    y.q.bottomRows(50) *= Scalar(-1e6);
    y.k.bottomRows(50) *= Scalar(1e6);
    y.v.bottomRows(50).setConstant(Scalar(1e12));
    CHECK(same_bits_before(100, before, exact(y, mask)));
    CHECK(!same_bits(before, exact(y, mask)));
  }
}

TEST_CASE_TEMPLATE("any number of threads gives the same bits", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<Scalar>(333, 333, 33, 17, 0.2);
  for (const Mask mask : {Mask{}, Mask{.causal = true}, Mask{.causal = true, .block = 100}}) {
    const auto with = [&](int count) {
      const Threads threads(count);
      return exact(x, mask);
    };
    const Attention<Scalar> one = with(1);
    CHECK(same_bits(one, with(2)));
    CHECK(same_bits(one, with(3)));
  }
}

TEST_CASE("pair_count counts the pairs that the masks let through") {
  for (const Index N : {1, 2, 3, 7, 16, 31, 64, 65}) {
    for (const Index block : {0, 1, 2, 3, 7, 16, 30, 64, 100}) {
      for (const bool causal : {false, true}) {
        const Mask mask{.causal = causal, .block = block};
        double pairs = 0;
        for (Index t = 0; t < N; ++t)
          for (Index n = 0; n < N; ++n) pairs += mask_sees(mask, t, n) ? 1 : 0;
        CAPTURE(N);
        CAPTURE(block);
        CAPTURE(causal);
        CHECK(pair_count(N, N, mask) == pairs);
      }
    }
  }
  CHECK(pair_count(3, 5, {}) == 15);
  CHECK(pair_count(65536, 65536, {.causal = true}) == 65536.0 * 65537.0 / 2);
}

TEST_CASE("progress counts every pair once, and cancelling throws") {
  const auto x = random_tensors<float>(300, 300, 8, 8, 0.3);
  for (const Mask mask : {Mask{}, Mask{.causal = true}, Mask{.causal = true, .block = 70}}) {
    double last = 0;
    Index calls = 0;
    Progress progress([&](double fraction) {
      CHECK(fraction >= last);
      last = fraction;
      ++calls;
    });
    // Twice the work is announced: a fraction of one half is left when all of it is done.
    progress.expect(2 * pair_count(300, 300, mask));
    static_cast<void>(exact_attention<float>(x.q, x.k, x.v, 0.3F, mask, &progress));
    CHECK(last == doctest::Approx(0.5));
    CHECK(calls > 1);
    progress.cancel = true;
    CHECK_THROWS_AS(static_cast<void>(exact_attention<float>(x.q, x.k, x.v, 0.3F, mask, &progress)),
                    Cancelled);
  }
}

TEST_CASE("shapes that do not fit are refused") {
  const Matrix<float> a = Matrix<float>::Zero(4, 8), b = Matrix<float>::Zero(4, 7),
                      c = Matrix<float>::Zero(5, 8);
  CHECK_THROWS_AS(static_cast<void>(exact_attention<float>(a, b, a, 1.0F, {})), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(exact_attention<float>(a, a, c, 1.0F, {})), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(exact_attention<float>(a, c, c, 1.0F, {.causal = true})), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(exact_attention<float>(a, c, c, 1.0F, {.block = 2})), MisfitError);
}
