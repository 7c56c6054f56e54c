#include "muse/far_field.h"

#include "helpers.h"
#include "muse/exact_attention.h"

using namespace muse;
using namespace muse::test;

namespace {

// One query cluster's queries against key clusters.
template <class Scalar>
struct Case {
  Matrix<Scalar> q, q_bar, k, v;  // [n, D], [1, D], [N, D], [N, Dv]
  Labels labels;
  Index C = 1;
  double scale = 1;
  std::vector<bool> included;

  [[nodiscard]] Attention<Scalar> far(Order order) const {
    const SortedKeys<Scalar> keys = sort_keys<Scalar>(k, v, make_clusters<Scalar>(k, labels, C));
    const auto s = static_cast<Scalar>(scale);
    Summaries<Scalar> summaries;
    if (order == Order::centroid) {
      plain_summaries<Scalar>(q_bar, keys, key_means(keys), s, summaries);
    } else {
      tilted_summaries<Scalar>(q_bar, keys, s, summaries);
    }
    return far_field<Scalar>(q, q_bar.row(0), keys, summaries, 0, included, s, order);
  }

  [[nodiscard]] bool is_far(Index n) const {
    return included[static_cast<std::size_t>(labels[static_cast<std::size_t>(n)])];
  }

  // Exact attention to the tokens of the included clusters.
  [[nodiscard]] NaiveAttention exact() const {
    return naive_attention(rows_of(q), rows_of(k), rows_of(v), scale,
                           [&](Index, Index n) { return is_far(n); });
  }

  // The expansion by plain loops.
  [[nodiscard]] NaiveAttention naive(Order order) const {
    const Rows queries = rows_of(q), keys = rows_of(k), values = rows_of(v);
    const Row centre = rows_of(q_bar)[0];
    std::vector<NaiveSummary> summaries;
    for (Index j = 0; j < C; ++j) {
      Rows k_j, v_j;
      for (std::size_t n = 0; n < keys.size(); ++n) {
        if (labels[n] != j) continue;
        k_j.push_back(keys[n]);
        v_j.push_back(values[n]);
      }
      if (included[static_cast<std::size_t>(j)]) summaries.push_back(naive_summary(centre, k_j, v_j, scale));
    }
    NaiveAttention out;
    for (const Row& query : queries) {
      std::vector<NaiveTerm> terms;
      for (const NaiveSummary& summary : summaries)
        terms.push_back(naive_far_term(query, centre, summary, scale, order));
      double lse = 0;
      out.o.push_back(naive_combine(terms, values[0].size(), lse));
      out.lse.push_back(lse);
    }
    return out;
  }

  // Bound on the errors of rounding, see far_bound.
  [[nodiscard]] double bound(Order order) const {
    const double qmax = std::max(largest_abs(rows_of(q)), largest_abs(rows_of(q_bar)));
    double A = 0, G = 0;
    for (const Row& k_n : rows_of(k)) A = std::max(A, scale * abs_dot(Row(k_n.size(), qmax), k_n));
    for (const Row& query : rows_of(q)) {
      double sum = 0;
      for (std::size_t d = 0; d < query.size(); ++d) sum += std::abs(query[d] - rows_of(q_bar)[0][d]);
      G = std::max(G, scale * sum * largest_abs(rows_of(k)));
    }
    return far_bound<Scalar>(static_cast<double>(q.cols()), static_cast<double>(k.rows()), A, G,
                             largest_abs(rows_of(v)), order);
  }
};

template <class Scalar>
Case<Scalar> random_case(Index n, Index N, Index C, Index D, Index Dv, std::uint64_t seed,
                         double spread = 0.5) {
  Case<Scalar> x;
  x.q_bar = random_matrix<Scalar>(1, D, seed);
  x.q = random_matrix<Scalar>(n, D, seed + 1, spread);
  x.q.rowwise() += x.q_bar.row(0).eval();
  x.k = random_matrix<Scalar>(N, D, seed + 2);
  x.v = random_matrix<Scalar>(N, Dv, seed + 3);
  x.C = C;
  x.scale = static_cast<double>(static_cast<Scalar>(1 / std::sqrt(static_cast<double>(D))));
  for (Index token = 0; token < N; ++token) x.labels.push_back(static_cast<std::int32_t>(token * 7 % N % C));
  x.included.assign(static_cast<std::size_t>(C), true);
  return x;
}

void check_equal(const Attention<double>& found, const NaiveAttention& truth, double tolerance) {
  Rows lse;
  for (const double L : truth.lse) lse.push_back({L});
  check_close(found.o, truth.o, tolerance, "o");
  check_close(found.lse, lse, tolerance, "lse");
}

void check_equal(const Attention<float>& found, const NaiveAttention& truth, double tolerance) {
  check_equal(Attention<double>{[&] {
                Attention<double> wide(found.o.rows(), found.o.cols());
                wide.o = found.o.cast<double>();
                wide.lse = found.lse.cast<double>();
                return wide;
              }()},
              truth, tolerance);
}

double squared_error(const Attention<double>& found, const NaiveAttention& truth) {
  double sum = 0;
  for (std::size_t t = 0; t < truth.o.size(); ++t)
    for (std::size_t d = 0; d < truth.o[t].size(); ++d) {
      const double gap = found.o(static_cast<Index>(t), static_cast<Index>(d)) - truth.o[t][d];
      sum += gap * gap;
    }
  return sum;
}

// δ of row t scaled so that s δ·k spreads over `h` at most.
Case<double> with_delta(const Case<double>& x, double h) {
  Case<double> y = x;
  const Rows keys = rows_of(x.k);
  for (Index t = 0; t < x.q.rows(); ++t) {
    const Matrix<double> delta = x.q.row(t) - x.q_bar.row(0);
    double least = 1e300, most = -1e300;
    for (const Row& k_n : keys) {
      const double along = x.scale * dot(rows_of(delta)[0], k_n);
      least = std::min(least, along);
      most = std::max(most, along);
    }
    y.q.row(t) = x.q_bar.row(0) + delta * (h / (most - least));
  }
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("range by range of key clusters, the far field is that of all", Scalar, float, double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(7, 150, 20, 8, 5, 11);
  for (const std::size_t j : {3, 4, 5, 6, 7, 19}) x.included[j] = false;  // the range [4, 7) is empty
  const SortedKeys<Scalar> keys = sort_keys<Scalar>(x.k, x.v, make_clusters<Scalar>(x.k, x.labels, x.C));
  const auto s = static_cast<Scalar>(x.scale);
  for (const Order order : {Order::monopole, Order::dipole, Order::dipole_value, Order::dipole_spread}) {
    CAPTURE(name_of(order));
    Summaries<Scalar> summaries;
    tilt_keys<Scalar>(x.q_bar, keys, s, summaries);
    RunningAttention<Scalar> sum(7, 5);
    for (const ClusterRange range : {ClusterRange{0, 4}, ClusterRange{4, 7}, ClusterRange{7, 20}}) {
      tilted_means<Scalar>(keys, range, summaries);
      add_far_field<Scalar>(x.q, x.q_bar.row(0), keys, summaries, 0, x.included, s, order, sum);
    }
    check_equal(std::move(sum).finish(), x.naive(order), x.bound(order));
  }
}

TEST_CASE_TEMPLATE("a cluster that is not included has no weight at all", Scalar, float, double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(5, 40, 4, 8, 3, 12);
  x.included[2] = false;
  for (const Order order : {Order::monopole, Order::dipole}) {
    CAPTURE(name_of(order));
    const Attention<Scalar> before = x.far(order);
    auto y = x;
    for (Index n = 0; n < 40; ++n)  // the slightest weight would show
      if (!y.is_far(n)) y.v.row(n).setConstant(std::numeric_limits<Scalar>::max() / 64);
    const Attention<Scalar> after = y.far(order);
    CHECK(same_bits(before.o, after.o));
    CHECK(same_bits(before.lse, after.lse));
  }
}

TEST_CASE_TEMPLATE("each order equals its formula by plain loops", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Order order : kOrders) {
    for (const Index D : {1, 8, 17}) {
      for (const Index Dv : {1, 8, 17}) {
        for (const Index n : {1, 3, 9}) {
          auto x = random_case<Scalar>(n, 41, 7, D, Dv, static_cast<std::uint64_t>(D + Dv));
          for (const bool all : {true, false}) {
            CAPTURE(name_of(order));
            CAPTURE(D);
            CAPTURE(Dv);
            CAPTURE(n);
            if (!all) x.included = {true, false, true, true, false, false, true};
            check_equal(x.far(order), x.naive(order), x.bound(order));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("logits of ten thousand stay finite and right", Scalar, float, double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(5, 60, 6, 64, 8, 70, 0.01);
  x.q *= Scalar(35);
  x.q_bar *= Scalar(35);
  x.k *= Scalar(35);
  for (const Order order : kOrders) check_equal(x.far(order), x.naive(order), x.bound(order));
}

TEST_CASE("halving δ divides the squared error by 4, by 16 (dipole_value), and leaves centroid's") {
  MUSE_SHOW_SEED();
  const Case<double> x = random_case<double>(16, 60, 5, 6, 6, 20);
  for (const double h : {std::ldexp(1.0, -6), std::ldexp(1.0, -7), std::ldexp(1.0, -8)}) {
    const Case<double> whole = with_delta(x, h), half = with_delta(x, h / 2);
    for (const Order order : kOrders) {
      const double ratio =
          squared_error(whole.far(order), whole.exact()) / squared_error(half.far(order), half.exact());
      const double expected = order == Order::centroid ? 1 : order == Order::dipole_value ? 16 : 4;
      CAPTURE(name_of(order));
      CAPTURE(h);
      CAPTURE(ratio);
      // The next term of the expansion is h times the leading one, times a number of order 1: 8 h leaves
      // room.
      CHECK(std::abs(ratio / expected - 1) <= 8 * h);
    }
  }
}

TEST_CASE("halving δ divides the log-mass error by 4 (dipole), by 2 (monopole)") {
  MUSE_SHOW_SEED();
  Case<double> x = random_case<double>(16, 40, 1, 6, 2, 30);  // one cluster: its mass is the log-sum-exp
  for (const double h : {std::ldexp(1.0, -4), std::ldexp(1.0, -6), std::ldexp(1.0, -8)}) {
    const Case<double> whole = with_delta(x, h), half = with_delta(x, h / 2);
    const Attention<double> dipole = whole.far(Order::dipole), dipole_half = half.far(Order::dipole);
    const Attention<double> monopole = whole.far(Order::monopole), monopole_half = half.far(Order::monopole);
    const NaiveAttention exact = whole.exact(), exact_half = half.exact();
    double monopole_sq = 0, monopole_half_sq = 0;
    for (Index t = 0; t < 16; ++t) {
      const auto row = static_cast<std::size_t>(t);
      const double ratio = (exact.lse[row] - dipole.lse[t]) / (exact_half.lse[row] - dipole_half.lse[t]);
      CAPTURE(h);
      CAPTURE(ratio);
      // Error = κ2 h²/2 + κ3 h³/6 + …, and |κ3| <= κ2 as the logits spread over 1 (times h): the second term
      // is at most h/3 of the first, and the ratio within 4 (1 ± h/6); twice that for what follows; and
      // rounding, of numbers of size 8, against the error of the half step.
      const double rounding = 4 * lse_bound<double>(6, 40, 20) / (exact_half.lse[row] - dipole_half.lse[t]);
      CHECK(std::abs(ratio / 4 - 1) <= h / 3 + rounding);
      monopole_sq += std::pow(exact.lse[row] - monopole.lse[t], 2);
      monopole_half_sq += std::pow(exact_half.lse[row] - monopole_half.lse[t], 2);
    }
    CHECK(std::abs(std::sqrt(monopole_sq / monopole_half_sq) / 2 - 1) <= 8 * h);
  }
}

TEST_CASE("dipole never over-estimates a cluster's mass: what is missing is KL(p_q_bar || p_q)") {
  MUSE_SHOW_SEED();
  for (const double spread : {0.01, 0.5, 3.0}) {
    const Case<double> x = random_case<double>(50, 30, 1, 8, 2, 40, spread);
    const Attention<double> dipole = x.far(Order::dipole);
    const NaiveAttention exact = x.exact();
    const Rows keys = rows_of(x.k);
    for (Index t = 0; t < 50; ++t) {
      Row a_bar, a;
      for (const Row& k_n : keys) {
        a_bar.push_back(x.scale * dot(rows_of(x.q_bar)[0], k_n));
        a.push_back(x.scale * dot(rows_of(x.q.row(t))[0], k_n));
      }
      const double L_bar = logsumexp(a_bar), L = logsumexp(a);
      double kl = 0;
      for (std::size_t n = 0; n < a.size(); ++n)
        kl += std::exp(a_bar[n] - L_bar) * ((a_bar[n] - L_bar) - (a[n] - L));
      const double gap = exact.lse[static_cast<std::size_t>(t)] - dipole.lse[t];
      const double tolerance = x.bound(Order::dipole);
      CAPTURE(spread);
      CHECK(gap >= -tolerance);
      check_near(gap, kl, 2 * tolerance, "missing mass");
    }
  }
}

TEST_CASE("dipole_spread: keys that spread alike in all directions miss κ times their second order") {
  // Keys at ±1 along every axis, and q̄ = 0: k̃ = 0, σ̃² = 1, and the cluster's log-mass is
  // log(2 sum_d cosh(s q_d)) = log(2 D) + s² |q|² / (2 D) + O(q⁴). (4.6) makes κ of the second term.
  constexpr Index D = 6;
  Case<double> x = random_case<double>(8, 2 * D, 1, D, 2, 31);
  x.q_bar.setZero();
  x.k.setZero();
  for (Index d = 0; d < D; ++d) x.k(2 * d, d) = 1, x.k(2 * d + 1, d) = -1;
  for (const double length : {0.1, 0.01}) {
    x.q = length * x.q.rowwise().normalized();
    const Attention<double> found = x.far(Order::dipole_spread);
    for (Index t = 0; t < 8; ++t) {
      const double z = x.scale * length, second = z * z / (2 * D);
      CAPTURE(length);
      CHECK(std::abs(found.lse[t] - std::log(2.0 * D) - kSpreadFactor * second) <= 1e-14);
      double exact = 0;
      for (Index d = 0; d < D; ++d) exact += 2 * std::cosh(x.scale * x.q(t, d));
      // The fourth order is less than z⁴/8.
      CHECK(std::abs(std::log(exact) - std::log(2.0 * D) - second) <= std::pow(z, 4) / 8 + 1e-14);
    }
  }
}

TEST_CASE("δ = 0: all orders but centroid are exact") {
  MUSE_SHOW_SEED();
  auto x = random_case<double>(1, 60, 5, 8, 4, 50);
  x.q = x.q_bar;
  for (const Order order : {Order::monopole, Order::dipole, Order::dipole_value, Order::dipole_spread})
    check_equal(x.far(order), x.exact(), x.bound(order));
  CHECK(squared_error(x.far(Order::centroid), x.exact()) >= 1e-6);
}

TEST_CASE(
    "keys of a cluster that coincide: all orders but monopole have the mass exactly, one key a cluster too") {
  MUSE_SHOW_SEED();
  auto coincident = random_case<double>(9, 60, 5, 8, 4, 60);
  const Matrix<double> places = random_matrix<double>(5, 8, 61);
  for (Index n = 0; n < 60; ++n)
    coincident.k.row(n) = places.row(coincident.labels[static_cast<std::size_t>(n)]);
  auto single = random_case<double>(9, 30, 30, 8, 4, 62);
  for (const Case<double>& x : {coincident, single}) {
    for (const Order order : {Order::centroid, Order::dipole, Order::dipole_value, Order::dipole_spread})
      check_equal(x.far(order), x.exact(), x.bound(order));
    CHECK(squared_error(x.far(Order::monopole), x.exact()) >= 1e-6);
  }
}

TEST_CASE("adding one vector to all keys changes no output, and the log-sum-exp by s q·c") {
  MUSE_SHOW_SEED();
  const auto x = random_case<double>(9, 60, 5, 8, 4, 80);
  auto moved = x;
  const Matrix<double> c = random_matrix<double>(1, 8, 81, 2.0);
  moved.k.rowwise() += c.row(0);
  for (const Order order : {Order::centroid, Order::dipole, Order::dipole_value, Order::dipole_spread}) {
    NaiveAttention expected = x.naive(order);
    for (std::size_t t = 0; t < 9; ++t) expected.lse[t] += x.scale * dot(rows_of(x.q)[t], rows_of(c)[0]);
    check_equal(moved.far(order), expected, 2 * moved.bound(order));
  }
  // The monopole's mass stays at q̄: it moves with q̄, not with q, and the outputs not at all.
  NaiveAttention expected = x.naive(Order::monopole);
  for (std::size_t t = 0; t < 9; ++t) expected.lse[t] += x.scale * dot(rows_of(x.q_bar)[0], rows_of(c)[0]);
  check_equal(moved.far(Order::monopole), expected, 2 * moved.bound(Order::monopole));
}

TEST_CASE("linear in the values, constant values come back unchanged") {
  MUSE_SHOW_SEED();
  const auto x = random_case<double>(9, 60, 5, 8, 4, 90);
  auto other = x, sum = x, constant = x;
  other.v = random_matrix<double>(60, 4, 95);
  sum.v = 2 * x.v - 3 * other.v;
  constant.v.rowwise() = x.v.row(0).eval();
  for (const Order order : kOrders) {
    CAPTURE(name_of(order));
    const double tolerance = 6 * (x.bound(order) + other.bound(order));
    const Attention<double> combined = sum.far(order);
    check_close(combined.o, Matrix<double>(2 * x.far(order).o - 3 * other.far(order).o), tolerance, "linear");
    CHECK(same_bits(combined.lse, x.far(order).lse));
    const Matrix<double> expected = x.v.row(0).replicate(9, 1);
    check_close(constant.far(order).o, expected, constant.bound(order), "constant");
  }
}

TEST_CASE_TEMPLATE("no cluster included: an empty part, without NaN", Scalar, float, double) {
  auto x = random_case<Scalar>(4, 20, 3, 8, 5, 100);
  x.included = {false, false, false};
  for (const Order order : kOrders) {
    const Attention<Scalar> part = x.far(order);
    CHECK((part.o.array() == Scalar(0)).all());
    CHECK((part.lse.array() == -std::numeric_limits<Scalar>::infinity()).all());
  }
}

TEST_CASE_TEMPLATE("empty clusters count for nothing, included or not", Scalar, float, double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(4, 20, 3, 8, 5, 110);
  auto gappy = x;
  gappy.C = 7;
  for (auto& label : gappy.labels) label = label * 3;  // 0, 3, 6
  for (const Order order : kOrders) {
    gappy.included = {true, false, false, true, false, false, true};
    check_equal(gappy.far(order), x.naive(order), x.bound(order));
    gappy.included = {true, true, false, true, true, false, true};
    check_equal(gappy.far(order), x.naive(order), x.bound(order));
  }
}

TEST_CASE_TEMPLATE("a query's bits do not depend on the other queries of its cluster", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Index D : {8, 17, 64}) {
    for (const Index Dv : {5, 17}) {
      const auto x = random_case<Scalar>(9, 50, 6, D, Dv, 120);
      for (const Order order : kOrders) {
        const Attention<Scalar> all = x.far(order);
        for (Index n = 1; n < 9; ++n) {
          auto first = x;
          first.q = x.q.topRows(n);
          CAPTURE(name_of(order));
          CAPTURE(D);
          CAPTURE(n);
          CHECK(same_bits_before(n, first.far(order), all));
        }
      }
    }
  }
}
