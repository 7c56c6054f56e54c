#include "muse/kmeans.h"

#include <set>

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

double squared_distance(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
  return sum;
}

// The nearest centroid by its definition; ties to the lowest index.
std::size_t nearest(const Row& x, const Rows& centroids, const std::vector<bool>& usable = {}) {
  std::size_t best = centroids.size();
  for (std::size_t c = 0; c < centroids.size(); ++c) {
    if (!usable.empty() && !usable[c]) continue;
    if (best == centroids.size() || squared_distance(x, centroids[c]) < squared_distance(x, centroids[best]))
      best = c;
  }
  return best;
}

// Checks that each label is of a nearest centroid, up to what rounding x·c - |c|²/2 can turn: twice (D + 2) u
// of the sums of absolute values. Returns how many labels differ from the plain loop's.
template <class Scalar>
Index check_nearest(const Labels& labels, const Rows& x, const Rows& centroids,
                    const std::vector<bool>& usable = {}) {
  Index wrong = 0, other = 0;
  for (std::size_t n = 0; n < x.size(); ++n) {
    const auto label = static_cast<std::size_t>(labels[n]);
    REQUIRE(label < centroids.size());
    const std::size_t best = nearest(x[n], centroids, usable);
    if (label == best) continue;
    ++other;
    const double rounding = 2 * (static_cast<double>(x[n].size()) + 2) * unit_roundoff<Scalar>() *
                            (abs_dot(x[n], centroids[label]) + abs_dot(x[n], centroids[best]) +
                             dot(centroids[label], centroids[label]) + dot(centroids[best], centroids[best]));
    const bool candidate = usable.empty() || usable[label];
    const double excess = squared_distance(x[n], centroids[label]) - squared_distance(x[n], centroids[best]);
    wrong += candidate && excess <= rounding ? 0 : 1;
  }
  CHECK(wrong == 0);
  return other;
}

// One averaging step by plain loops; an empty cluster keeps its centroid.
Rows averaged(const Rows& x, const Labels& labels, const Rows& centroids,
              const std::vector<Index>& weights = {}) {
  Rows sums(centroids.size(), Row(centroids[0].size(), 0.0));
  Row totals(centroids.size(), 0.0);
  for (std::size_t n = 0; n < x.size(); ++n) {
    const double weight = weights.empty() ? 1.0 : static_cast<double>(weights[n]);
    const auto c = static_cast<std::size_t>(labels[n]);
    for (std::size_t d = 0; d < x[n].size(); ++d) sums[c][d] += weight * x[n][d];
    totals[c] += weight;
  }
  for (std::size_t c = 0; c < sums.size(); ++c)
    for (std::size_t d = 0; d < sums[c].size(); ++d)
      sums[c][d] = totals[c] > 0 ? sums[c][d] / totals[c] : centroids[c][d];
  return sums;
}

// Lloyd's algorithm as the documents state it.
Labels naive_kmeans(const Rows& x, std::size_t C, Index passes) {
  const std::size_t N = x.size();
  Rows centroids;
  for (std::size_t c = 0; c < C; ++c) centroids.push_back(x[c * N / C + N / (2 * C)]);
  Labels labels(N);
  for (Index pass = 0; pass <= passes; ++pass) {
    for (std::size_t n = 0; n < N; ++n) labels[n] = static_cast<std::int32_t>(nearest(x[n], centroids));
    if (pass < passes) centroids = averaged(x, labels, centroids);
  }
  return labels;
}

}  // namespace

TEST_CASE("cluster c starts at token floor(cN/C) + floor(N/(2C))") {
  for (Index N = 1; N <= 70; ++N) {
    for (Index C = 1; C <= N; ++C) {
      const std::vector<Index> seeds = seed_tokens(N, C, 0);
      REQUIRE(static_cast<Index>(seeds.size()) == C);
      Index wrong = 0;
      for (Index c = 0; c < C; ++c)
        wrong += seeds[static_cast<std::size_t>(c)] == c * N / C + N / (2 * C) ? 0 : 1;
      CAPTURE(N);
      CAPTURE(C);
      CHECK(wrong == 0);
    }
  }
  CHECK(seed_tokens(16, 4, 0) == std::vector<Index>{2, 6, 10, 14});
  CHECK(seed_tokens(7, 3, 0) == std::vector<Index>{1, 3, 5});
}

TEST_CASE("another seed draws a token of each stride, always the same one") {
  std::set<std::vector<Index>> draws;
  for (std::uint64_t seed = 1; seed < 20; ++seed) {
    const std::vector<Index> seeds = seed_tokens(100, 7, seed);
    for (Index c = 0; c < 7; ++c) {
      CHECK(seeds[static_cast<std::size_t>(c)] >= c * 100 / 7);
      CHECK(seeds[static_cast<std::size_t>(c)] < (c + 1) * 100 / 7);
    }
    CHECK(seeds == seed_tokens(100, 7, seed));
    draws.insert(seeds);
  }
  CHECK(draws.size() == 19);
}

TEST_CASE_TEMPLATE("each token goes to its nearest centroid", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {1, 8, 17, 64}) {
    for (const Index N : {1, 63, 64, 65, 200}) {
      for (const Index C : {1, 2, 5, 33}) {
        CAPTURE(D);
        CAPTURE(N);
        CAPTURE(C);
        const Matrix<Scalar> x = random_matrix<Scalar>(N, D, 1);
        const Matrix<Scalar> centroids = random_matrix<Scalar>(C, D, 2);
        const Index other =
            check_nearest<Scalar>(assign_to_nearest<Scalar>(x, centroids), rows_of(x), rows_of(centroids));
        // Random tokens do not lie half-way, so that "up to rounding" excuses next to nothing.
        CHECK(other <= 1);
      }
    }
  }
}

TEST_CASE_TEMPLATE("ties go to the lowest index", Scalar, float, double) {
  // Small integers: every sum is exact, and every tie a true one.
  Matrix<Scalar> x(5, 2), centroids(4, 2);
  x << 0, 0, 3, 0, 0, 3, -3, -3, 1, 1;
  centroids << 2, 0, 0, 2, 2, 0, -2, 0;
  CHECK(assign_to_nearest<Scalar>(x, centroids) == Labels{0, 0, 1, 3, 0});
  const Matrix<Scalar> same = Matrix<Scalar>::Ones(6, 2);
  CHECK(assign_to_nearest<Scalar>(x, same) == Labels(5, 0));
}

TEST_CASE_TEMPLATE("of centroids that coincide the first gets the token, however many there are", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  // The same score must come out the same wherever a centroid stands among the others.
  for (const Index D : {3, 17, 64}) {
    for (const Index C : {10, 70, 131, 200}) {
      const Matrix<Scalar> x = random_matrix<Scalar>(70, D, 5), distinct = random_matrix<Scalar>(7, D, 6);
      Matrix<Scalar> centroids(C, D);
      for (Index c = 0; c < C; ++c) centroids.row(c) = distinct.row(c % 7);
      CAPTURE(D);
      CAPTURE(C);
      const Labels labels = assign_to_nearest<Scalar>(x, centroids);
      CHECK(*std::max_element(labels.begin(), labels.end()) < 7);
    }
  }
}

TEST_CASE_TEMPLATE("clusters that are not usable get no token", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(130, 8, 3), centroids = random_matrix<Scalar>(9, 8, 4);
  const std::vector<bool> usable{false, true, true, false, true, true, true, false, false};
  check_nearest<Scalar>(assign_to_nearest<Scalar>(x, centroids, usable), rows_of(x), rows_of(centroids),
                        usable);
  // Even where the unusable one sits on the token.
  CHECK(assign_to_nearest<Scalar>(x.topRows(2), x.topRows(2), {false, true}) == Labels{1, 1});
}

TEST_CASE_TEMPLATE("well separated tokens: T passes give the labels of a plain Lloyd in double", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {2, 8, 33}) {
    // Six clumps on a grid of step 3, of spread 0.05, strewn over 150 tokens; tokens 12, 37, … are the seeds,
    // one in each clump. No token is near a border, so that float decides as double does.
    Matrix<Scalar> x = random_matrix<Scalar>(150, D, 10, 0.05);
    Labels clumps(150);
    for (Index n = 0; n < 150; ++n) {
      const Index clump = n % 25 == 12 ? n / 25 : n * n % 6;
      x(n, 0) += static_cast<Scalar>(3 * (clump % 3));
      x(n, 1) += static_cast<Scalar>(3 * (clump / 3));
      clumps[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(clump);
    }
    for (const Index passes : {0, 1, 2, 3, 6}) {
      CAPTURE(D);
      CAPTURE(passes);
      const Labels labels = kmeans<Scalar>(x, 6, {.passes = passes});
      CHECK(labels == clumps);
      CHECK(labels == naive_kmeans(rows_of(x), 6, passes));
    }
  }
}

TEST_CASE("overlapping tokens in double: T passes give the labels of a plain Lloyd") {
  MUSE_SHOW_SEED();
  for (const Index N : {17, 64, 129})
    for (const Index C : {1, 5, 17})
      for (const Index passes : {0, 1, 3}) {
        const Matrix<double> x = random_matrix<double>(N, 8, static_cast<std::uint64_t>(N));
        CHECK(kmeans<double>(x, C, {.passes = passes}) ==
              naive_kmeans(rows_of(x), static_cast<std::size_t>(C), passes));
      }
}

TEST_CASE_TEMPLATE("each pass assigns to the nearest, then averages, with weights where given", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const Index N = 200, C = 12, passes = 4;
  const Matrix<Scalar> x = random_matrix<Scalar>(N, 17, 30);
  const Rows tokens = rows_of(x);
  std::vector<Index> weights(static_cast<std::size_t>(N));
  for (std::size_t n = 0; n < weights.size(); ++n) weights[n] = 1 + static_cast<Index>(n * n % 13);
  for (const bool weighted : {false, true}) {
    CAPTURE(weighted);
    Rows expected;
    for (const Index token : seed_tokens(N, C, 0))
      expected.push_back(tokens[static_cast<std::size_t>(token)]);
    Index calls = 0;
    Labels last;
    const auto check_pass = [&](Index pass, const Matrix<Scalar>& centroids, const Labels& given) {
      CHECK(pass == calls++);
      // A mean of numbers up to 4 is rounded once to Scalar, after sums in double.
      check_close(centroids, expected, 4 * 2 * unit_roundoff<Scalar>() * (sizeof(Scalar) == 8 ? 200 : 1),
                  "centroids");
      check_nearest<Scalar>(given, tokens, rows_of(centroids));
      expected = averaged(tokens, given, rows_of(centroids), weighted ? weights : std::vector<Index>());
      last = given;
    };
    const Labels labels =
        kmeans<Scalar>(x, C,
                       {.passes = passes,
                        .weights = weighted ? std::span<const Index>(weights) : std::span<const Index>(),
                        .observe = check_pass});
    CHECK(calls == passes + 1);
    CHECK(labels == last);
  }
}

TEST_CASE_TEMPLATE("a token of weight w counts as w tokens", Scalar, float, double) {
  // 1-D, by hand: seeds -1 and 9; tokens -1, 0 | 4, 9. Pass 1 gives {-1, 0, 4} | {9}; the mean of the first
  // is 1 unweighted, so 4 stays (3 against 5); with weight 99 on -1 it is near -1, so 4 joins 9 where that is
  // nearer.
  Matrix<Scalar> x(4, 1);
  x << -1, 0, 4, Scalar(8.5);
  const std::vector<Index> weights{99, 1, 1, 1};
  CHECK(seed_tokens(4, 2, 0) == std::vector<Index>{1, 3});
  CHECK(kmeans<Scalar>(x, 2, {.passes = 1}) ==
        Labels{0, 0, 0, 1});  // seeds 0, 8.5; means 1, 8.5; cut at 4.75
  // means -0.94, 8.5; cut at 3.78
  CHECK(kmeans<Scalar>(x, 2, {.passes = 1, .weights = weights}) == Labels{0, 0, 1, 1});
}

TEST_CASE_TEMPLATE("duplicate tokens leave clusters empty, which keep their centroid and harm nothing",
                   Scalar, float, double) {
  // Five distinct tokens, many times each; 20 clusters.
  const Matrix<Scalar> distinct = random_matrix<Scalar>(5, 6, 40);
  Matrix<Scalar> x(60, 6);
  for (Index n = 0; n < 60; ++n) x.row(n) = distinct.row(n % 5);
  Rows before;
  std::set<std::int32_t> used;  // by the labels that the centroids are the means of
  const auto check_pass = [&](Index pass, const Matrix<Scalar>& centroids, const Labels& given) {
    CHECK(centroids.allFinite());
    for (std::size_t c = 0; pass > 0 && c < 20; ++c)
      if (used.count(static_cast<std::int32_t>(c)) == 0) CHECK(rows_of(centroids)[c] == before[c]);
    before = rows_of(centroids);
    used = {given.begin(), given.end()};
    CHECK(used.size() == 5);
  };
  const Labels labels = kmeans<Scalar>(x, 20, {.passes = 3, .observe = check_pass});
  for (std::size_t n = 5; n < 60; ++n) CHECK(labels[n] == labels[n - 5]);
  // All tokens alike: one cluster, the first, whatever the number asked for.
  CHECK(kmeans<Scalar>(Matrix<Scalar>::Constant(9, 3, Scalar(0.3)), 9, {.passes = 2}) == Labels(9, 0));
}

TEST_CASE_TEMPLATE("a sample: k-means of every third token, then all tokens to its centroids", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(200, 9, 45);
  Matrix<Scalar> third(67, 9);
  for (Index n = 0; n < 67; ++n) third.row(n) = x.row(3 * n);
  for (const Index passes : {0, 1, 4}) {
    for (const std::uint64_t seed : {0, 8}) {
      Rows centroids;  // the last ones
      const auto keep = [&](Index, const Matrix<Scalar>& c, const Labels&) { centroids = rows_of(c); };
      static_cast<void>(kmeans<Scalar>(third, 10, {.passes = passes, .seed = seed, .observe = keep}));
      const Labels labels = kmeans<Scalar>(x, 10, {.passes = passes, .seed = seed, .sample = 3});
      check_nearest<Scalar>(labels, rows_of(x), centroids);
    }
  }
  // Fewer tokens in the sample than clusters asked for: one a token.
  const Labels few = kmeans<Scalar>(x, 50, {.passes = 1, .sample = 100});
  CHECK(*std::max_element(few.begin(), few.end()) == 1);
  CHECK(kmeans_operations(200, 10, 9, 4, 3) == 2.0 * (4 * 67 + 200) * 10 * 9);
  CHECK_THROWS_AS(static_cast<void>(kmeans<Scalar>(x, 5, {.sample = 0})), MisfitError);
}

TEST_CASE_TEMPLATE("one cluster a token keeps distinct tokens apart", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(100, 8, 50);
  Labels expected(100);
  for (std::size_t n = 0; n < 100; ++n) expected[n] = static_cast<std::int32_t>(n);
  CHECK(kmeans<Scalar>(x, 100, {.passes = 2}) == expected);
}

TEST_CASE_TEMPLATE("any number of threads gives the same labels", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(777, 17, 60);
  const auto with = [&](int count) {
    const Threads threads(count);
    return kmeans<Scalar>(x, 40, {.passes = 3});
  };
  const Labels one = with(1);
  CHECK(with(2) == one);
  CHECK(with(3) == one);
}

TEST_CASE("more clusters than tokens, none, and centroids of another dim are refused") {
  const Matrix<float> x = Matrix<float>::Zero(4, 3);
  CHECK_THROWS_AS(static_cast<void>(kmeans<float>(x, 5)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(kmeans<float>(x, 0)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(assign_to_nearest<float>(x, Matrix<float>::Zero(2, 4))), MisfitError);
}
