#include "muse/clusters.h"

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

Labels random_labels(Index N, Index C, std::uint64_t seed) {
  std::mt19937_64 random(base_seed() * 1000003 + seed);
  Labels labels(static_cast<std::size_t>(N));
  for (auto& label : labels) label = static_cast<std::int32_t>(random() % static_cast<std::uint64_t>(C));
  return labels;
}

std::vector<Index> sizes_of(const Labels& labels, Index C) {
  std::vector<Index> sizes(static_cast<std::size_t>(C), 0);
  for (const std::int32_t label : labels) {
    REQUIRE(label >= 0);
    REQUIRE(label < C);
    ++sizes[static_cast<std::size_t>(label)];
  }
  return sizes;
}

// Sum over tokens of the squared distance to their cluster's mean.
double scatter(const Rows& x, const Labels& labels, Index C) {
  Rows means(static_cast<std::size_t>(C), Row(x[0].size(), 0.0));
  const std::vector<Index> sizes = sizes_of(labels, C);
  for (std::size_t n = 0; n < x.size(); ++n)
    for (std::size_t d = 0; d < x[n].size(); ++d)
      means[static_cast<std::size_t>(labels[n])][d] +=
          x[n][d] / static_cast<double>(sizes[static_cast<std::size_t>(labels[n])]);
  double sum = 0;
  for (std::size_t n = 0; n < x.size(); ++n)
    for (std::size_t d = 0; d < x[n].size(); ++d) {
      const double gap = x[n][d] - means[static_cast<std::size_t>(labels[n])][d];
      sum += gap * gap;
    }
  return sum;
}

}  // namespace

TEST_CASE_TEMPLATE("labels from outside define members, their order, and their means", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 2, 65, 200}) {
    for (const Index C : {1, 3, 40}) {
      CAPTURE(N);
      CAPTURE(C);
      const Matrix<Scalar> x = random_matrix<Scalar>(N, 7, 1);
      const Rows tokens = rows_of(x);
      const Labels labels = random_labels(N, C, 2);
      const Clusters<Scalar> clusters = make_clusters<Scalar>(x, labels, C);
      CHECK(clusters.labels == labels);
      REQUIRE(clusters.size() == C);
      REQUIRE(static_cast<Index>(clusters.offsets.size()) == C + 1);
      CHECK(clusters.offsets.front() == 0);
      CHECK(clusters.offsets.back() == N);
      Rows means;
      for (Index c = 0; c < C; ++c) {
        std::vector<Index> members;
        Row sum(7, 0.0);
        for (Index n = 0; n < N; ++n) {
          if (labels[static_cast<std::size_t>(n)] != c) continue;
          members.push_back(n);
          for (std::size_t d = 0; d < 7; ++d) sum[d] += tokens[static_cast<std::size_t>(n)][d];
        }
        const auto found = clusters.members(c);
        CHECK(std::vector<Index>(found.begin(), found.end()) == members);
        CHECK(clusters.count(c) == static_cast<Index>(members.size()));
        CHECK(clusters.non_empty()[static_cast<std::size_t>(c)] == !members.empty());
        for (double& value : sum) value = members.empty() ? 0 : value / static_cast<double>(members.size());
        means.push_back(sum);
      }
      // Sums in double err by N u of double, and are rounded once to Scalar.
      const double tolerance =
          largest_abs(tokens) * (unit_roundoff<Scalar>() + static_cast<double>(2 * N) * 1.2e-16);
      check_close(clusters.centroids, means, tolerance, "means");
    }
  }
}

TEST_CASE_TEMPLATE("weights weigh the tokens in the means", Scalar, float, double) {
  Matrix<Scalar> x(4, 1);
  x << 1, 2, 10, 20;
  const std::vector<Index> weights{3, 1, 1, 4};
  const Clusters<Scalar> clusters = make_clusters<Scalar>(x, {0, 0, 2, 2}, 3, weights);
  check_close(clusters.centroids, Rows{{1.25}, {0}, {18}}, 18 * unit_roundoff<Scalar>(), "weighted means");
}

TEST_CASE("labels outside 0..C-1, and another number of them than of tokens, are refused") {
  const Matrix<float> x = Matrix<float>::Zero(3, 2);
  CHECK_THROWS_AS(static_cast<void>(make_clusters<float>(x, {0, 1, 2}, 2)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(make_clusters<float>(x, {0, -1, 1}, 2)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(make_clusters<float>(x, {0, 1}, 2)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(make_clusters<float>(x, {0, 1, 0, 1}, 2)), MisfitError);
  CHECK_NOTHROW(static_cast<void>(make_clusters<float>(x, {0, 1, 1}, 2)));
}

TEST_CASE("spatial blocks: label_n = floor(n C / N)") {
  for (Index N = 1; N <= 40; ++N) {
    for (Index C = 1; C <= N; ++C) {
      const Labels labels = spatial_blocks(N, C);
      REQUIRE(static_cast<Index>(labels.size()) == N);
      Index wrong = 0;
      for (Index n = 0; n < N; ++n) wrong += labels[static_cast<std::size_t>(n)] == n * C / N ? 0 : 1;
      CHECK(wrong == 0);
      for (const Index size : sizes_of(labels, C)) CHECK(size >= 1);
    }
  }
  CHECK(spatial_blocks(7, 3) == Labels{0, 0, 0, 1, 1, 2, 2});
}

TEST_CASE_TEMPLATE("balanced clusters have equal sizes, within one token", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 2, 7, 64, 65, 127, 200}) {
    for (const Index C : {1, 2, 3, 5, 7, 16, 31, 63, 64, 100, 200}) {
      if (C > N) continue;
      for (const Index passes : {0, 1, 3}) {
        const Matrix<Scalar> x = random_matrix<Scalar>(N, 5, 3);
        const std::vector<Index> sizes = sizes_of(balanced_bisection<Scalar>(x, C, passes), C);
        CAPTURE(N);
        CAPTURE(C);
        CAPTURE(passes);
        const auto [least, most] = std::minmax_element(sizes.begin(), sizes.end());
        CHECK(*least >= 1);
        CHECK(*most - *least <= 1);
      }
    }
  }
}

TEST_CASE_TEMPLATE("balanced clusters split along the direction of largest variance", Scalar, float, double) {
  MUSE_SHOW_SEED();
  // Two clumps on one axis, interleaved in position: halves by position would mix them.
  Matrix<Scalar> x = random_matrix<Scalar>(64, 6, 4, 0.1);
  for (Index n = 0; n < 64; ++n) x(n, 2) += n % 2 == 0 ? Scalar(-3) : Scalar(3);
  for (const Index passes : {0, 1, 3}) {
    const Labels labels = balanced_bisection<Scalar>(x, 2, passes);
    for (std::size_t n = 2; n < 64; ++n) CHECK(labels[n] == labels[n - 2]);
    CHECK(labels[0] != labels[1]);
  }
  // Semantic clusters lie closer together than blocks of positions.
  const Matrix<Scalar> y = clumped_matrix<Scalar>(128, 8, 8, 0.2, 5);
  CHECK(scatter(rows_of(y), balanced_bisection<Scalar>(y, 8, 2), 8) <=
        0.7 * scatter(rows_of(y), spatial_blocks(128, 8), 8));
}

TEST_CASE_TEMPLATE("tokens that all coincide are split evenly all the same", Scalar, float, double) {
  const Matrix<Scalar> x = Matrix<Scalar>::Constant(10, 3, Scalar(0.7));
  for (const Index size : sizes_of(balanced_bisection<Scalar>(x, 5, 2), 5)) CHECK(size == 2);
}

TEST_CASE("balanced: more clusters than tokens, or none, are refused") {
  const Matrix<float> x = Matrix<float>::Zero(4, 3);
  CHECK_THROWS_AS(static_cast<void>(balanced_bisection<float>(x, 5, 1)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(balanced_bisection<float>(x, 0, 1)), MisfitError);
}

TEST_CASE_TEMPLATE("cluster_tokens follows cluster-by, passes and seed", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(90, 4, 6);
  Config config;
  config.passes = 2;
  config.seed = 9;
  CHECK(cluster_tokens<Scalar>(x, 7, config) == kmeans<Scalar>(x, 7, {.passes = 2, .seed = 9}));
  CHECK(cluster_tokens<Scalar>(x, 7, config) != kmeans<Scalar>(x, 7, {.passes = 0, .seed = 9}));
  config.sample = 4;
  CHECK(cluster_tokens<Scalar>(x, 7, config) == kmeans<Scalar>(x, 7, {.passes = 2, .seed = 9, .sample = 4}));
  config.cluster_by = ClusterBy::balanced;
  CHECK(cluster_tokens<Scalar>(x, 7, config) == balanced_bisection<Scalar>(x, 7, 2));
  config.cluster_by = ClusterBy::spatial;
  CHECK(cluster_tokens<Scalar>(x, 7, config) == spatial_blocks(90, 7));
}

TEST_CASE_TEMPLATE("the key-covariance root is symmetric, positive, and its square is the covariance", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {1, 2, 8, 33, 64}) {
    for (const Index N : {1, 5, 100}) {  // 1 and 5: the covariance has rank 0 and at most 4
      CAPTURE(D);
      CAPTURE(N);
      Matrix<Scalar> k = random_matrix<Scalar>(N, D, 7);
      k.col(0) *= Scalar(5);
      k.rowwise() += random_matrix<Scalar>(1, D, 8, 3.0).row(0);  // the mean must not count
      const Rows keys = rows_of(k), root = rows_of(key_covariance_root<Scalar>(k));
      Row mean(static_cast<std::size_t>(D), 0.0);
      for (const Row& key : keys)
        for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += key[d] / static_cast<double>(N);
      Rows covariance(mean.size(), Row(mean.size(), 0.0)), square = covariance;
      for (std::size_t a = 0; a < mean.size(); ++a) {
        for (std::size_t b = 0; b < mean.size(); ++b) {
          for (const Row& key : keys)
            covariance[a][b] += (key[a] - mean[a]) * (key[b] - mean[b]) / static_cast<double>(N);
          square[a][b] = dot(root[a], root[b]);  // R Rᵀ, which is R² if R is symmetric
        }
      }
      // R is rounded to Scalar: R² errs by 2 u |R| |R|; the eigenvalues in double by some D² u of double.
      const double largest = largest_abs(covariance);
      const double tolerance = static_cast<double>(D) * largest *
                               (2 * unit_roundoff<Scalar>() + static_cast<double>(N + 10 * D) * 1.2e-16);
      Matrix<double> found(D, D), transposed(D, D);
      double trace = 0;
      for (Index a = 0; a < D; ++a) {
        for (Index b = 0; b < D; ++b) {
          found(a, b) = square[static_cast<std::size_t>(a)][static_cast<std::size_t>(b)];
          transposed(a, b) = root[static_cast<std::size_t>(b)][static_cast<std::size_t>(a)];
        }
        trace += root[static_cast<std::size_t>(a)][static_cast<std::size_t>(a)];
      }
      check_close(found, covariance, tolerance, "root squared");
      check_close(transposed, root, std::sqrt(largest) * (2 * unit_roundoff<Scalar>() + 1e-14), "symmetry");
      CHECK(trace >= 0);
    }
  }
}

TEST_CASE_TEMPLATE("any number of threads gives the same bits", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> x = random_matrix<Scalar>(700, 17, 9);
  const Labels labels = random_labels(700, 50, 10);
  struct Result {
    Clusters<Scalar> clusters;
    Labels balanced;
    Matrix<Scalar> root;
  };
  const auto with = [&](int count) {
    const Threads threads(count);
    return Result{make_clusters<Scalar>(x, labels, 50), balanced_bisection<Scalar>(x, 23, 2),
                  key_covariance_root<Scalar>(x)};
  };
  const Result one = with(1);
  for (const int count : {2, 3}) {
    const Result other = with(count);
    CHECK(same_bits(other.clusters.centroids, one.clusters.centroids));
    CHECK(other.clusters.order == one.clusters.order);
    CHECK(other.balanced == one.balanced);
    CHECK(same_bits(other.root, one.root));
  }
}

TEST_CASE("operations of clustering: 2 (T + 1) C N D for k-means, none for spatial blocks") {
  Config config;
  config.passes = 3;
  double counted = 0;
  for (Index pass = 0; pass <= 3; ++pass)
    for (Index n = 0; n < 100; ++n)
      for (Index c = 0; c < 8; ++c) counted += 2.0 * 16;
  CHECK(cluster_operations(100, 8, 16, config) == counted);
  config.cluster_by = ClusterBy::spatial;
  CHECK(cluster_operations(100, 8, 16, config) == 0);
  config.cluster_by = ClusterBy::balanced;
  CHECK(cluster_operations(100, 8, 16, config) >=
        2.0 * 100 * 16 * 3 * 4);  // log2(8) levels of T + 1 projections
}
