#include "muse/tilted_summaries.h"

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

// Labels that leave every fifth cluster empty.
Labels gappy_labels(Index N, Index C, std::uint64_t seed) {
  std::mt19937_64 random(base_seed() * 1000003 + seed);
  Labels labels(static_cast<std::size_t>(N));
  for (auto& label : labels) {
    label = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(C));
    if (C > 1 && label % 5 == 1) --label;
  }
  return labels;
}

template <class Scalar>
struct Case {
  Matrix<Scalar> q_bar, k, v;
  double scale;
  Labels labels;
  Index C;

  [[nodiscard]] Clusters<Scalar> clusters() const { return make_clusters<Scalar>(k, labels, C); }
  [[nodiscard]] SortedKeys<Scalar> sorted() const { return sort_keys<Scalar>(k, v, clusters()); }
  [[nodiscard]] Summaries<Scalar> tilted() const {
    Summaries<Scalar> summaries;
    tilted_summaries<Scalar>(q_bar, sorted(), static_cast<Scalar>(scale), summaries);
    return summaries;
  }
  // Keys, or values, of the members of cluster j.
  [[nodiscard]] Rows members(const Matrix<Scalar>& x, Index j) const {
    const Rows all = rows_of(x);
    Rows rows;
    for (std::size_t n = 0; n < all.size(); ++n)
      if (labels[n] == j) rows.push_back(all[n]);
    return rows;
  }
};

template <class Scalar>
Case<Scalar> random_case(Index Cq, Index N, Index C, Index D, Index Dv, double sigma = 1) {
  const auto seed = static_cast<std::uint64_t>(N * 11 + C * 5 + D);
  return {random_matrix<Scalar>(Cq, D, seed, sigma),
          random_matrix<Scalar>(N, D, seed + 1, sigma),
          random_matrix<Scalar>(N, Dv, seed + 2),
          static_cast<double>(static_cast<Scalar>(1 / std::sqrt(static_cast<double>(D)))),
          gappy_labels(N, C, seed + 3),
          C};
}

// Every L, p, k̃, ṽ, σ̃² and Σ̃ against the definitions.
template <class Scalar>
void check_case(const Case<Scalar>& x, bool gradients) {
  CAPTURE(x.k.rows());
  CAPTURE(x.k.cols());
  CAPTURE(x.v.cols());
  CAPTURE(x.C);
  const auto D = static_cast<double>(x.k.cols());
  const SortedKeys<Scalar> keys = x.sorted();
  const Summaries<Scalar> summaries = x.tilted();
  const Rows q_bar = rows_of(x.q_bar);
  const double kmax = largest_abs(rows_of(x.k)), vmax = largest_abs(rows_of(x.v));
  REQUIRE(summaries.L.cols() == x.C);
  for (Index j = 0; j < x.C; ++j) {
    const Rows k = x.members(x.k, j), v = x.members(x.v, j);
    for (Index i = 0; i < x.q_bar.rows(); ++i) {
      CAPTURE(i);
      CAPTURE(j);
      if (k.empty()) {
        CHECK(summaries.L(i, j) == -std::numeric_limits<Scalar>::infinity());
        CHECK(summaries.k_tilde(i).row(j).allFinite());
        CHECK(summaries.v_tilde(i).row(j).allFinite());
        CHECK(summaries.spread(i, j) == 0);
        continue;
      }
      const Row& q_bar_i = q_bar[static_cast<std::size_t>(i)];
      const NaiveSummary truth = naive_summary(q_bar_i, k, v, x.scale);
      double amplitude = 0;
      for (const Row& k_n : k) amplitude = std::max(amplitude, x.scale * abs_dot(q_bar_i, k_n));
      const double eps = lse_bound<Scalar>(D, truth.count, amplitude);
      check_near(static_cast<double>(summaries.L(i, j)), truth.L, eps, "L");
      check_close(summaries.p.col(i).segment(keys.begin(j), keys.count(j)).transpose(), Rows{truth.p},
                  2 * eps, "p");
      check_close(summaries.k_tilde(i).row(j), Rows{truth.k_tilde}, 2 * kmax * eps, "k_tilde");
      check_close(summaries.v_tilde(i).row(j), Rows{truth.v_tilde}, 2 * vmax * eps, "v_tilde");
      // |k|² <= D kmax², its shares within 2 eps, and |k̃|² within 4 eps of that, and the sums.
      check_near(static_cast<double>(summaries.spread(i, j)), truth.spread, 8 * D * kmax * kmax * eps,
                 "spread");
      // |v - ṽ| |k - k̃| <= 4 vmax kmax, its factors and p each within eps or two.
      if (gradients)
        check_close(value_gradient(keys, summaries, i, j), truth.sigma, 24 * vmax * kmax * eps, "sigma");
    }
  }
}

}  // namespace

TEST_CASE_TEMPLATE("keys and values lie sorted by cluster, within a cluster by position", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const auto x = random_case<Scalar>(1, 50, 8, 3, 2);
  const SortedKeys<Scalar> keys = x.sorted();
  REQUIRE(keys.clusters() == 8);
  CHECK(keys.k.cols() == 3);
  Index row = 0;
  for (Index j = 0; j < 8; ++j) {
    CHECK(keys.begin(j) == row);
    for (Index n = 0; n < 50; ++n) {
      if (x.labels[static_cast<std::size_t>(n)] != j) continue;
      CHECK(keys.tokens[static_cast<std::size_t>(row)] == n);
      CHECK(same_bits(keys.k.row(row), x.k.row(n)));
      CHECK(same_bits(keys.v.row(row), x.v.row(n)));
      ++row;
    }
    CHECK(keys.count(j) == row - keys.begin(j));
  }
  CHECK(row == 50);
}

TEST_CASE_TEMPLATE("L, p, k_tilde, v_tilde and the value gradient equal their definitions", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Index D : {1, 8, 17})
    for (const Index Dv : {1, 5, 17})
      for (const Index N : {1, 30, 101})
        for (const Index C : {1, 4, 30}) check_case(random_case<Scalar>(3, N, C, D, Dv), true);
  check_case(random_case<Scalar>(9, 65, 11, 64, 64), true);
}

TEST_CASE_TEMPLATE("many keys: clusters that fill a chunk, that end at one, and that are larger than one",
                   Scalar, float, double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(2, 1301, 6, 8, 4);
  for (Index n = 0; n < 1301; ++n)  // 512, 1, 600, 0, 100, 88 tokens
    x.labels[static_cast<std::size_t>(n)] = n < 512 ? 0 : n < 513 ? 1 : n < 1113 ? 2 : n < 1213 ? 4 : 5;
  check_case(x, false);
  check_case(random_case<Scalar>(2, 1301, 40, 8, 4), false);
}

TEST_CASE_TEMPLATE("logits of ten thousand", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto x = random_case<Scalar>(4, 60, 7, 64, 8, 35);
  double largest = 0;
  for (const Row& q : rows_of(x.q_bar))
    for (const Row& k : rows_of(x.k)) largest = std::max(largest, std::abs(x.scale * dot(q, k)));
  REQUIRE(largest >= 3e3);
  check_case(x, true);
}

TEST_CASE_TEMPLATE("scratch that held something larger gives the same bits", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto large = random_case<Scalar>(9, 300, 40, 17, 9), small = random_case<Scalar>(3, 41, 6, 8, 4);
  Summaries<Scalar> reused = large.tilted();
  tilted_summaries<Scalar>(small.q_bar, small.sorted(), static_cast<Scalar>(small.scale), reused);
  const Summaries<Scalar> fresh = small.tilted();
  CHECK(same_bits(reused.L, fresh.L));
  CHECK(
      same_bits(Matrix<Scalar>(reused.p.leftCols(3)), Matrix<Scalar>(fresh.p.leftCols(3))));  // beyond: spare
  for (Index i = 0; i < 3; ++i) {
    CHECK(same_bits(Matrix<Scalar>(reused.k_tilde(i)), Matrix<Scalar>(fresh.k_tilde(i))));
    CHECK(same_bits(Matrix<Scalar>(reused.v_tilde(i)), Matrix<Scalar>(fresh.v_tilde(i))));
  }
}

TEST_CASE_TEMPLATE("a query cluster's summaries keep every bit beside other query clusters", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const auto x = random_case<Scalar>(21, 90, 12, 17, 9);
  const SortedKeys<Scalar> keys = x.sorted();
  const Summaries<Scalar> together = x.tilted();
  Summaries<Scalar> alone;
  for (Index i = 0; i < 21; ++i) {
    CAPTURE(i);
    tilted_summaries<Scalar>(x.q_bar.row(i), keys, static_cast<Scalar>(x.scale), alone);
    CHECK(same_bits(Matrix<Scalar>(alone.L), Matrix<Scalar>(together.L.row(i))));
    CHECK(same_bits(Matrix<Scalar>(alone.k_tilde(0)), Matrix<Scalar>(together.k_tilde(i))));
    CHECK(same_bits(Matrix<Scalar>(alone.v_tilde(0)), Matrix<Scalar>(together.v_tilde(i))));
  }
}

TEST_CASE_TEMPLATE("means of a range of key clusters are those of all of them", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto x = random_case<Scalar>(5, 90, 12, 8, 9);
  const SortedKeys<Scalar> keys = x.sorted();
  const auto scale = static_cast<Scalar>(x.scale);
  const KeyMeans<Scalar> means = key_means(keys);
  for (const bool tilted : {true, false}) {
    CAPTURE(tilted);
    Summaries<Scalar> all, part;
    if (tilted) {
      tilted_summaries<Scalar>(x.q_bar, keys, scale, all);
      tilt_keys<Scalar>(x.q_bar, keys, scale, part);
    } else {
      plain_summaries<Scalar>(x.q_bar, keys, means, scale, all);
      plain_masses<Scalar>(x.q_bar, keys, means, scale, part);
    }
    CHECK(same_bits(part.L, all.L));
    for (const ClusterRange range : {ClusterRange{0, 5}, ClusterRange{5, 6}, ClusterRange{6, 12}}) {
      if (tilted) {
        tilted_means<Scalar>(keys, range, part);
      } else {
        plain_means<Scalar>(means, range, part);
      }
      for (Index i = 0; i < 5; ++i) {
        CHECK(same_bits(Matrix<Scalar>(part.k_tilde(i)),
                        Matrix<Scalar>(all.k_tilde(i).middleRows(range.begin, range.size()))));
        CHECK(same_bits(Matrix<Scalar>(part.v_tilde(i)),
                        Matrix<Scalar>(all.v_tilde(i).middleRows(range.begin, range.size()))));
        if (!tilted) continue;
        for (Index j = range.begin; j < range.end; ++j)
          if (keys.count(j) > 0)
            CHECK(same_bits(value_gradient(keys, part, i, j), value_gradient(keys, all, i, j)));
      }
    }
  }
}

TEST_CASE_TEMPLATE("keys of a cluster that coincide: L = log n + s q·k, and no gradient", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  auto x = random_case<Scalar>(5, 48, 6, 8, 4);
  const Matrix<Scalar> places = random_matrix<Scalar>(6, 8, 90);
  for (Index n = 0; n < 48; ++n) x.k.row(n) = places.row(x.labels[static_cast<std::size_t>(n)]);
  const SortedKeys<Scalar> keys = x.sorted();
  const Summaries<Scalar> summaries = x.tilted();
  for (Index i = 0; i < 5; ++i) {
    for (Index j = 0; j < 6; ++j) {
      if (keys.count(j) == 0) continue;
      const Row q = rows_of(x.q_bar)[static_cast<std::size_t>(i)],
                k = rows_of(places)[static_cast<std::size_t>(j)];
      const double eps = lse_bound<Scalar>(8, static_cast<double>(keys.count(j)), x.scale * abs_dot(q, k));
      check_near(static_cast<double>(summaries.L(i, j)),
                 std::log(static_cast<double>(keys.count(j))) + x.scale * dot(q, k), eps, "L");
      check_close(summaries.k_tilde(i).row(j), Rows{k}, 2 * eps * largest_abs({k}), "k_tilde");
      check_close(value_gradient(keys, summaries, i, j), Rows(4, Row(8, 0.0)), 24 * 4 * 4 * eps, "sigma");
    }
  }
}

TEST_CASE("adding one vector to all keys moves L by s q·c and k_tilde by c, and nothing else") {
  MUSE_SHOW_SEED();
  const auto x = random_case<double>(4, 60, 7, 8, 5);
  auto moved = x;
  const Matrix<double> c = random_matrix<double>(1, 8, 91, 2.0);
  moved.k.rowwise() += c.row(0);
  const Summaries<double> before = x.tilted(), after = moved.tilted();
  const SortedKeys<double> keys = x.sorted(), moved_keys = moved.sorted();
  // Coordinates up to 4 + 8: logits up to s 8 · 4 · 12.
  const double eps = lse_bound<double>(8, 60, x.scale * 8 * 4 * 12);
  for (Index i = 0; i < 4; ++i) {
    const double shift = x.scale * dot(rows_of(x.q_bar)[static_cast<std::size_t>(i)], rows_of(c)[0]);
    for (Index j = 0; j < 7; ++j) {
      if (keys.count(j) == 0) continue;
      check_near(after.L(i, j), before.L(i, j) + shift, 2 * eps, "L");
      check_close(after.k_tilde(i).row(j), before.k_tilde(i).row(j) + c, 4 * 12 * eps, "k_tilde");
      check_close(after.v_tilde(i).row(j), before.v_tilde(i).row(j), 4 * 4 * eps, "v_tilde");
      check_close(value_gradient(moved_keys, after, i, j), value_gradient(keys, before, i, j),
                  48 * 4 * 12 * eps, "sigma");
    }
  }
}

TEST_CASE("the value gradient is the derivative of the tilted value, and k_tilde that of L") {
  MUSE_SHOW_SEED();
  auto x = random_case<double>(1, 40, 1, 6, 6);
  const Matrix<double> q_bar = x.q_bar;
  const Matrix<double> direction = random_matrix<double>(1, 6, 92);
  const Summaries<double> at = x.tilted();
  const Matrix<double> gradient = value_gradient(x.sorted(), at, 0, 0);
  constexpr double h = 1e-4;
  x.q_bar = q_bar + h * direction;
  const Summaries<double> up = x.tilted();
  x.q_bar = q_bar - h * direction;
  const Summaries<double> down = x.tilted();
  // x_n = s δ·k_n has spread M. A central difference errs by h²/6 times the third derivative: a joint
  // cumulant of value and x, at most 4 · 2 vmax M³ (for L: 4 M³, with L itself for ṽ: its third is at most 2
  // M³); and by the rounding of what it subtracts.
  Row along;
  for (const Row& k : rows_of(x.k)) along.push_back(x.scale * dot(rows_of(direction)[0], k));
  const auto [least, most] = std::minmax_element(along.begin(), along.end());
  const double M = *most - *least, vmax = largest_abs(rows_of(x.v));
  const double tolerance = h * h / 6 * 8 * vmax * M * M * M + 4 * vmax * lse_bound<double>(6, 40, 20) / h;
  const Matrix<double> slope = (up.v_tilde(0) - down.v_tilde(0)) / (2 * h);
  check_close(slope, Matrix<double>(x.scale * direction * gradient.transpose()), tolerance,
              "slope of v_tilde");
  check_near((up.L(0, 0) - down.L(0, 0)) / (2 * h),
             x.scale * dot(rows_of(direction)[0], rows_of(at.k_tilde(0))[0]),
             h * h / 6 * 2 * M * M * M + 2 * lse_bound<double>(6, 40, 20) / h, "slope of L");
}

TEST_CASE_TEMPLATE("plain summaries: log n + s q·k of the mean key, and means", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index C : {1, 6, 30}) {
    const auto x = random_case<Scalar>(4, 50, C, 8, 5);
    const SortedKeys<Scalar> keys = x.sorted();
    const KeyMeans<Scalar> means = key_means(keys);
    Summaries<Scalar> summaries;
    plain_summaries<Scalar>(x.q_bar, keys, means, static_cast<Scalar>(x.scale), summaries);
    const double kmax = largest_abs(rows_of(x.k)), vmax = largest_abs(rows_of(x.v));
    for (Index j = 0; j < C; ++j) {
      const Rows k = x.members(x.k, j), v = x.members(x.v, j);
      const NaiveSummary truth = naive_summary(Row(8, 0.0), k, v, 0.0);
      const double mean_error = unit_roundoff<Scalar>() * (truth.count + 2);
      if (k.empty()) {
        CHECK((means.k_bar.row(j).array() == Scalar(0)).all());
        CHECK((means.v_bar.row(j).array() == Scalar(0)).all());
      } else {
        check_close(means.k_bar.row(j), Rows{truth.k_mean}, kmax * mean_error, "mean key");
        check_close(means.v_bar.row(j), Rows{truth.v_mean}, vmax * mean_error, "mean value");
      }
      for (Index i = 0; i < 4; ++i) {
        if (k.empty()) {
          CHECK(summaries.L(i, j) == -std::numeric_limits<Scalar>::infinity());
          continue;
        }
        const Row q = rows_of(x.q_bar)[static_cast<std::size_t>(i)];
        double q_sum = 0;
        for (const double value : q) q_sum += std::abs(value);
        check_near(static_cast<double>(summaries.L(i, j)),
                   std::log(truth.count) + x.scale * dot(q, truth.k_mean),
                   x.scale * q_sum * kmax * (mean_error + 12 * unit_roundoff<Scalar>()) +
                       8 * unit_roundoff<Scalar>(),
                   "L");
        CHECK(same_bits(Matrix<Scalar>(summaries.k_tilde(i).row(j)), Matrix<Scalar>(means.k_bar.row(j))));
        CHECK(same_bits(Matrix<Scalar>(summaries.v_tilde(i).row(j)), Matrix<Scalar>(means.v_bar.row(j))));
      }
    }
  }
}

TEST_CASE("keys and values of different numbers are refused") {
  const Matrix<float> k = Matrix<float>::Zero(3, 2);
  const Clusters<float> clusters = make_clusters<float>(k, {0, 0, 0}, 1);
  CHECK_THROWS_AS(static_cast<void>(sort_keys<float>(k, Matrix<float>::Zero(4, 2), clusters)), MisfitError);
}
