#include "muse/kmeans.h"

#include <algorithm>
#include <limits>
#include <random>

#include "muse/check.h"
#include "muse/clusters.h"

namespace muse {
namespace {

// A tile of scores stays in the second-level cache: 128 x 256 floats are 128 KiB. Smaller ones spend more of
// their time on rearranging the operands for Eigen's product.
constexpr Index kTileTokens = 256;
constexpr Index kTileClusters = 128;

}  // namespace

std::vector<Index> seed_tokens(Index N, Index C, std::uint64_t seed) {
  std::vector<Index> tokens(static_cast<std::size_t>(C));
  std::mt19937_64 random(seed);
  for (Index c = 0; c < C; ++c) {
    const Index begin = c * N / C, end = (c + 1) * N / C;
    const Index middle = std::min(begin + N / (2 * C), end - 1);
    const auto drawn = static_cast<Index>(random() % static_cast<std::uint64_t>(end - begin));
    tokens[static_cast<std::size_t>(c)] = seed == 0 ? middle : begin + drawn;
  }
  return tokens;
}

template <class Scalar>
Labels assign_to_nearest(const MatrixView<Scalar>& x, const MatrixView<Scalar>& centroids,
                         const std::vector<bool>& usable) {
  MUSE_REQUIRE_EQ(x.cols(), centroids.cols(), "assign_to_nearest: tokens and centroids differ in dim");
  const Index N = x.rows(), C = centroids.rows();
  // -|c|²/2, or -infinity where a cluster is no candidate.
  Vector<Scalar> bias = centroids.rowwise().squaredNorm() / Scalar(-2);
  for (Index c = 0; c < C; ++c)
    if (!usable.empty() && !usable[static_cast<std::size_t>(c)])
      bias[c] = -std::numeric_limits<Scalar>::infinity();

  // Centroids in whole groups of 8: Eigen sums those left over in another order, and equal ones must tie.
  const Matrix<Scalar> c_padded = padded_rows<Scalar>(centroids, 0, C, ceil_div(C, 8) * 8);

  Labels labels(static_cast<std::size_t>(N));
#pragma omp parallel
  {
    Matrix<Scalar> scores(kTileClusters, kTileTokens);  // x_n·c_c, a row a cluster, a column a token
    Scalar best[kTileTokens];
    std::int32_t best_cluster[kTileTokens];
#pragma omp for schedule(static)
    for (Index n0 = 0; n0 < N; n0 += kTileTokens) {
      const Index count = std::min(kTileTokens, N - n0);
      const Matrix<Scalar> x_tile = padded_rows<Scalar>(x, n0, count, kTileTokens);
      std::fill_n(best, kTileTokens, -std::numeric_limits<Scalar>::infinity());
      std::fill_n(best_cluster, kTileTokens, 0);
      for (Index c0 = 0; c0 < C; c0 += kTileClusters) {
        const Index clusters = std::min(kTileClusters, C - c0);
        const Index rows = std::min(kTileClusters, c_padded.rows() - c0);
        scores.topRows(rows).noalias() = c_padded.middleRows(c0, rows) * x_tile.transpose();
        // Keep the best cluster of each token; only a strictly better one replaces it: ties go to the lowest
        // index.
        for (Index c = c0; c < c0 + clusters; ++c) {
          const Scalar* x_dot_c = scores.row(c - c0).data();
          for (Index n = 0; n < kTileTokens; ++n) {
            const Scalar score = x_dot_c[n] + bias[c];
            best_cluster[n] = score > best[n] ? static_cast<std::int32_t>(c) : best_cluster[n];
            best[n] = std::max(best[n], score);
          }
        }
      }
      std::copy_n(best_cluster, count, labels.begin() + n0);
    }
  }
  return labels;
}

template <class Scalar>
Labels kmeans(const MatrixView<Scalar>& x, Index C, const KmeansOptions<Scalar>& options) {
  MUSE_REQUIRE(C >= 1 && C <= x.rows(), "kmeans: expected 1 to ", x.rows(),
               " clusters, one a token at most, found ", C);
  MUSE_REQUIRE(options.sample >= 1, "kmeans: expected a sample of every token or fewer, found every ",
               options.sample);
  MUSE_REQUIRE(options.sample == 1 || options.weights.empty(), "kmeans: a sample has no weights");
  // Look at every sample-th token: the same rows, farther apart.
  const Eigen::Map<const Matrix<Scalar>, 0, Eigen::OuterStride<>> sampled(
      x.data(), sampled_tokens(x.rows(), options.sample), x.cols(),
      Eigen::OuterStride<>(x.outerStride() * options.sample));
  // Seed with evenly strided ones of them.
  C = std::min(C, sampled.rows());
  Matrix<Scalar> centroids(C, x.cols());
  const std::vector<Index> seeds = seed_tokens(sampled.rows(), C, options.seed);
  for (Index c = 0; c < C; ++c) centroids.row(c) = sampled.row(seeds[static_cast<std::size_t>(c)]);

  const auto show = [&](Index pass) {
    if (options.observe) options.observe(pass, centroids, assign_to_nearest<Scalar>(x, centroids));
  };
  for (Index pass = 0; pass < options.passes; ++pass) {
    show(pass);
    // Assign, then average; an empty cluster keeps its centroid.
    const Clusters<Scalar> clusters =
        make_clusters<Scalar>(sampled, assign_to_nearest<Scalar>(sampled, centroids), C, options.weights);
    for (Index c = 0; c < C; ++c)
      if (clusters.count(c) > 0) centroids.row(c) = clusters.centroids.row(c);
  }
  show(options.passes);
  return assign_to_nearest<Scalar>(x, centroids);
}

double kmeans_operations(Index N, Index C, Index D, Index passes, Index sample) {
  const Index looked_at = passes * sampled_tokens(N, sample) + N;
  return 2 * static_cast<double>(looked_at) * static_cast<double>(C * D);
}

#define MUSE_INSTANTIATE(Scalar)                                                                  \
  template Labels assign_to_nearest<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&, \
                                            const std::vector<bool>&);                            \
  template Labels kmeans<Scalar>(const MatrixView<Scalar>&, Index, const KmeansOptions<Scalar>&);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
