// k-means on the GPU: seeds, assignment, means, and the sum of squared distances that it reaches.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::cuda::Side;

namespace {

/// Sum over tokens of the squared distance to the mean of their cluster, x [N, D] given in the metric.
double inertia(const Matrix<double>& x, std::span<const std::int32_t> labels, Index C) {
  const Clusters<double> clusters = make_clusters<double>(x, Labels(labels.begin(), labels.end()), C);
  double sum = 0;
  for (Index n = 0; n < x.rows(); ++n)
    sum += (x.row(n) - clusters.centroids.row(labels[static_cast<std::size_t>(n)])).squaredNorm();
  return sum;
}

template <class Element>
void check_seeds(const char* seed) {
  const Config config = config_of({{"clusters", "7"}, {"block", "50"}, {"seed", seed}});
  const Inputs inputs = random_inputs<Element>({.Nq = 333, .Nk = 333, .D = 16, .Dv = 8}, 3);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  MUSE_CUDA_REQUIRE(muse::cuda::launch_seeds(plan, stages.tensors, stages.workspace, Side::keys, nullptr));
  const Matrix<double> centroids = stages.get_rows(stages.workspace.key_centroids, plan.key_clusters, 16);
  Index wrong = 0;
  for (Index m = 0; m < plan.levels; ++m) {
    const muse::cuda::Level& level = plan.level[m];
    const std::vector<Index> tokens = seed_tokens(level.S, level.Ck, config.seed);
    for (std::int32_t t = 0; t < level.blocks; ++t)
      for (Index c = 0; c < level.Ck; ++c)
        wrong += centroids.row(first_cluster(plan, level, 0, t, Side::keys) + c) ==
                         inputs.k[0].row(2 * t * level.S + tokens[static_cast<std::size_t>(c)])
                     ? 0
                     : 1;
  }
  print_line(wrong == 0, "seeds: " + type_name<Element>() + " seed " + seed,
             std::to_string(wrong) + " wrong");
  CHECK(wrong == 0);
  stages.check_sentinels();
}

/// x as a sum of two elements, the second of which is what rounding took from the first.
template <class Element>
struct TwoParts {
  Matrix<double> element, residual;
  explicit TwoParts(const Matrix<double>& x)
      : element(rounded<Element>(x)), residual(rounded<Element>(x - element)) {}
  [[nodiscard]] Matrix<double> sum() const { return element + residual; }
};

/// Every token must be as near to its centroid as to any other, up to the rounding of float32 sums; and equal
/// centroids must tie to the lowest index. Centroids may have residuals, as those of windows.
template <class Element>
void check_assign(const InputSizes& sizes, const Config& config, std::uint64_t seed, bool residuals = false) {
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  auto& w = stages.workspace;
  // Centroids: tokens, the second a copy of the first, so that both tie.
  const Index D = sizes.D;
  Matrix<double> centroids = random_matrix<double>(plan.key_clusters, D, seed + 77);
  for (Index m = 0; m < plan.levels; ++m)
    for (std::int32_t t = 0; t < plan.level[m].blocks; ++t) {
      const Index first = first_cluster(plan, plan.level[m], 0, t, Side::keys);
      if (plan.level[m].Ck > 4) centroids.row(first + plan.level[m].Ck - 1) = centroids.row(first + 2);
    }
  const TwoParts<Element> parts(centroids);
  DeviceArray<Element> key_residuals(packed<Element>({parts.residual}));
  if (residuals) w.key_residuals = key_residuals.data();
  const auto stored = [&](const TwoParts<Element>& of) { return residuals ? of.sum() : of.element; };
  centroids = stored(parts);
  stages.put(w.key_centroids, packed<Element>({parts.element}));
  const Matrix<float> half_norms = (centroids.rowwise().squaredNorm() / -2).cast<float>();
  stages.put(w.key_half_norms, std::vector<float>(half_norms.data(), half_norms.data() + half_norms.size()));
  // Labels alone, then a whole pass, which may make the sums of its means by the same kernel.
  for (const bool pass : {false, true}) {
    MUSE_CUDA_REQUIRE(pass ? muse::cuda::launch_pass(plan, stages.tensors, w, Side::keys, nullptr)
                           : muse::cuda::launch_assign(plan, stages.tensors, w, Side::keys, nullptr));
    const auto labels = stages.get(w.labels_k, plan.levels * sizes.Nk);
    stages.check_sentinels();
    Index too_far = 0, tie_lost = 0, tokens = 0;
    double worst = 0;
    for (Index m = 0; m < plan.levels; ++m) {
      const muse::cuda::Level& level = plan.level[m];
      for (std::int32_t t = 0; t < level.blocks; ++t) {
        const muse::cuda::TokenSpan span = block_tokens(plan, level, t, Side::keys);
        const auto c = centroids.middleRows(first_cluster(plan, level, 0, t, Side::keys), level.Ck);
        const Vector<double> half_squares = c.rowwise().squaredNorm() / 2;
        for (Index n = span.begin; n < span.begin + span.count; ++n, ++tokens) {
          const Vector<double> scores = c * inputs.k[0].row(n).transpose() - half_squares;
          const std::int32_t label = labels[static_cast<std::size_t>(m * sizes.Nk + n)];
          if (label < 0 || label >= level.Ck) {
            ++too_far;
            continue;
          }
          // D or 2 D products of float32, summed one after the other, for each of the two that are compared.
          Index best = 0;
          scores.maxCoeff(&best);
          const auto terms = [&](Index x) {
            return (c.row(x).cwiseAbs() * inputs.k[0].row(n).cwiseAbs().transpose())(0) + half_squares[x];
          };
          const double slack =
              0x1p-24 * static_cast<double>((residuals ? 2 : 1) * D + 4) * (terms(label) + terms(best));
          worst = std::max(worst, (scores.maxCoeff() - scores[label]) / slack);
          too_far += scores.maxCoeff() - scores[label] <= slack ? 0 : 1;
          tie_lost += level.Ck > 4 && label == level.Ck - 1 ? 1 : 0;
        }
      }
    }
    const std::string what = std::string(pass ? "pass: " : "assign: ") + type_name<Element>() +
                             " N=" + std::to_string(sizes.Nk) + " D=" + std::to_string(D) +
                             " Ck=" + get_option(config, "clusters-k") + (residuals ? " residuals" : "");
    print_line(too_far == 0 && tie_lost == 0, what,
               std::to_string(tokens) + " tokens, " + std::to_string(too_far) + " too far, " +
                   std::to_string(tie_lost) + " ties to a higher index, worst " + std::to_string(worst) +
                   " of the bound");
    CHECK(too_far == 0);
    CHECK(tie_lost == 0);
    if (!pass) continue;
    // The means of those labels; an empty cluster keeps its centroid.
    Matrix<double> found = stages.get_rows(w.key_centroids, plan.key_clusters, D);
    if (residuals) found += stages.get_rows(w.key_residuals, plan.key_clusters, D);
    key_residuals.check_sentinels("residuals");
    Matrix<double> truth = centroids;
    for (Index m = 0; m < plan.levels; ++m) {
      const muse::cuda::Level& level = plan.level[m];
      for (std::int32_t t = 0; t < level.blocks; ++t) {
        const muse::cuda::TokenSpan span = block_tokens(plan, level, t, Side::keys);
        const auto* const row = labels.data() + m * sizes.Nk + span.begin;
        const Clusters<double> clusters = make_clusters<double>(
            inputs.k[0].middleRows(span.begin, span.count), Labels(row, row + span.count), level.Ck);
        for (Index c = 0; c < level.Ck; ++c)
          if (clusters.count(c) > 0)
            truth.row(first_cluster(plan, level, 0, t, Side::keys) + c) = clusters.centroids.row(c);
      }
    }
    check_precision<Element>(found, truth, stored(TwoParts<Element>(truth)), what + " means");
  }
}

template <class Element>
void check_means(Index N, Index D, const Config& config, std::uint64_t seed) {
  const Inputs inputs = random_inputs<Element>({.Nq = N, .Nk = N, .D = D, .Dv = D}, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  auto& w = stages.workspace;
  std::vector<std::int32_t> labels;
  for (Index m = 0; m < plan.levels; ++m) {
    const auto some = uneven_labels(N, plan.level[m].Ck, seed + static_cast<std::uint64_t>(m));
    labels.insert(labels.end(), some.begin(), some.end());
  }
  stages.put(w.labels_k, labels);
  const Matrix<double> before = rounded<Element>(random_matrix<double>(plan.key_clusters, D, seed + 5));
  for (const auto empty : {muse::cuda::EmptyCluster::keep, muse::cuda::EmptyCluster::zero}) {
    stages.put(w.key_centroids, packed<Element>({before}));
    MUSE_CUDA_REQUIRE(muse::cuda::launch_sort(plan, stages.tensors, w, Side::keys, plan.levels, nullptr));
    MUSE_CUDA_REQUIRE(
        muse::cuda::launch_means(plan, stages.tensors, w, Side::keys, empty, plan.levels, nullptr));
    const Matrix<double> found = stages.get_rows(w.key_centroids, plan.key_clusters, D);
    stages.check_sentinels();
    Matrix<double> truth(plan.key_clusters, D);
    Index empty_wrong = 0, empties = 0;
    for (Index m = 0; m < plan.levels; ++m) {
      const muse::cuda::Level& level = plan.level[m];
      for (std::int32_t t = 0; t < level.blocks; ++t) {
        const muse::cuda::TokenSpan span = block_tokens(plan, level, t, Side::keys);
        const Index first = first_cluster(plan, level, 0, t, Side::keys);
        const auto* const row = labels.data() + m * N + span.begin;
        const Clusters<double> clusters = make_clusters<double>(
            inputs.k[0].middleRows(span.begin, span.count), Labels(row, row + span.count), level.Ck);
        for (Index c = 0; c < level.Ck; ++c) {
          truth.row(first + c) = clusters.centroids.row(c);
          if (clusters.count(c) > 0) continue;
          ++empties;
          if (empty == muse::cuda::EmptyCluster::keep) truth.row(first + c) = before.row(first + c);
          empty_wrong += found.row(first + c) == truth.row(first + c) ? 0 : 1;
        }
      }
    }
    CHECK(empty_wrong == 0);
    check_precision<Element>(found, truth, rounded<Element>(truth),
                             "means: " + type_name<Element>() + " N=" + std::to_string(N) +
                                 " D=" + std::to_string(D) + " " + std::string(name_of(config.mode)) + " " +
                                 std::to_string(empties) + " empty");
  }
}

/// The expansion points: the means of the home's queries by the labels that they got.
template <class Element>
void check_home_means(const InputSizes& sizes, const Config& config, std::uint64_t seed) {
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  const auto& w = stages.workspace;
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_queries(plan, stages.tensors, w, false, nullptr));
  const auto labels = stages.get(w.labels_q, std::int64_t{plan.HQ()} * plan.levels * plan.Nq);
  const Matrix<double> found =
      stages.get_rows(w.query_centroids, Index{plan.HQ()} * plan.query_clusters, sizes.D);
  stages.check_sentinels();
  Matrix<double> truth(found.rows(), found.cols());
  for (Index head = 0; head < plan.HQ(); ++head)
    for (Index m = 0; m < plan.levels; ++m) {
      const muse::cuda::Level& level = plan.level[m];
      for (std::int32_t t = 0; t < level.blocks; ++t) {
        const muse::cuda::TokenSpan span = block_tokens(plan, level, t, Side::home);
        const auto* const row = labels.data() + (head * plan.levels + m) * plan.Nq + span.begin;
        const Clusters<double> clusters =
            make_clusters<double>(inputs.q[static_cast<std::size_t>(head)].middleRows(span.begin, span.count),
                                  Labels(row, row + span.count), level.Cq);
        truth.middleRows(first_cluster(plan, level, head, t, Side::home), level.Cq) = clusters.centroids;
      }
    }
  check_precision<Element>(found, truth, rounded<Element>(truth),
                           "means of homes: " + type_name<Element>() + " N=" + std::to_string(sizes.Nq) +
                               " D=" + std::to_string(sizes.D) + " Cq=" + get_option(config, "clusters-q") +
                               " " + std::string(name_of(config.mode)));
}

/// The reference's k-means with its centroids rounded to elements, as the passes store them; in the metric of
/// x · root.
template <class Element>
Labels kmeans_of_elements(const Matrix<double>& x, const Matrix<double>& root, Index C,
                          const Config& config) {
  const Matrix<double> sampled =
      x(Eigen::seqN(0, sampled_tokens(x.rows(), config.sample), config.sample), Eigen::all);
  C = std::min(C, sampled.rows());
  const std::vector<Index> seeds = seed_tokens(sampled.rows(), C, config.seed);
  Matrix<double> centroids = sampled(seeds, Eigen::all);
  for (Index pass = 0; pass < config.passes; ++pass) {
    const Clusters<double> clusters =
        make_clusters<double>(sampled, assign_to_nearest<double>(sampled * root, centroids * root), C);
    for (Index c = 0; c < C; ++c)
      if (clusters.count(c) > 0) centroids.row(c) = rounded<Element>(clusters.centroids.row(c));
  }
  return assign_to_nearest<double>(x * root, centroids * root);
}

/// The whole: inertia of every block, keys and homes, within 1 % of the reference's.
template <class Element>
void check_inertia(const Config& config, Index N, Index D, std::uint64_t seed) {
  const Inputs inputs = random_inputs<Element>({.Nq = N, .Nk = N, .D = D, .Dv = D}, seed);
  const CallResult<Element> result = run_cuda<Element>(inputs, config);
  const muse::cuda::Plan plan = muse::cuda::make_plan(inputs.shape(kTypeOf<Element>), config);
  const Index levels = plan.levels, fresh_levels = plan.fresh_levels;
  const LevelLabels found_k = labels_of_head(result.labels_k, 0, levels, N),
                    found_q = labels_of_head(result.labels_q, 0, levels, N);
  const LevelLabels truth_k = cluster_keys<double>(inputs.k[0], N, config),
                    truth_q = cluster_queries<double>(inputs.q[0], inputs.k[0], config);
  double worst = 0, sum_found = 0, sum_truth = 0;
  const auto compare = [&](const Matrix<double>& x, const Matrix<double>& root, const LevelLabels& found,
                           const LevelLabels& truth, Index C, const Block& block, TokenRange range) {
    const auto labels = found.at(block.level, range.begin, range.end);
    REQUIRE(*std::min_element(labels.begin(), labels.end()) >= 0);
    REQUIRE(*std::max_element(labels.begin(), labels.end()) < C);
    const Matrix<double> part = x.middleRows(range.begin, range.size()), mapped = part * root;
    const double sum = inertia(mapped, labels, C),
                 reference = inertia(mapped, truth.at(block.level, range.begin, range.end), C);
    // One block may end in another local optimum where rounding moved a token, as the reference does with
    // centroids of this type. Windows are not rounded so.
    const double expected =
        block.level >= fresh_levels
            ? reference
            : std::max(reference, inertia(mapped, kmeans_of_elements<Element>(part, root, C, config), C));
    worst = std::max(worst, expected > 0 ? sum / expected : (sum > 1e-9 ? 2.0 : 1.0));
    sum_found += sum;
    sum_truth += reference;
  };
  for (const Block& block : approximated_blocks(N, N, config)) {
    const Matrix<double> identity = Matrix<double>::Identity(D, D);
    compare(inputs.k[0], identity, found_k, truth_k, config.clusters_k.at(block.level)(block.keys()), block,
            {block.key_begin, block.key_end});
    // In the metric that the queries are clustered in.
    const Matrix<double> root =
        config.metric == Metric::key_covariance
            ? key_covariance_root<double>(inputs.k[0].middleRows(block.key_begin, block.keys()))
            : identity;
    const Matrix<double> mapped = inputs.q[0] * root;
    const TokenRange home = home_of_query_clusters(block, config);
    compare(inputs.q[0], root, found_q, truth_q, config.clusters_q.at(block.level)(block.keys()), block,
            home);
    if (config.mode == Mode::causal) {
      // (6.2) The block's queries against the means of the home's clusters: distances, not inertia.
      const auto home_labels = found_q.at(block.level, home.begin, home.end);
      const Index C = *std::max_element(home_labels.begin(), home_labels.end()) + 1;
      const Clusters<double> clusters = make_clusters<double>(
          mapped.middleRows(home.begin, home.size()), Labels(home_labels.begin(), home_labels.end()), C);
      double found_sum = 0, best_sum = 0;
      for (Index n = block.query_begin; n < block.query_end; ++n) {
        const std::int32_t label = found_q.at(block.level, n, n + 1)[0];
        REQUIRE(label >= 0);
        REQUIRE(label < C);
        REQUIRE(clusters.count(label) > 0);
        double best = std::numeric_limits<double>::infinity();
        for (Index c = 0; c < C; ++c)
          if (clusters.count(c) > 0)
            best = std::min(best, (mapped.row(n) - clusters.centroids.row(c)).squaredNorm());
        best_sum += best;
        found_sum += (mapped.row(n) - clusters.centroids.row(label)).squaredNorm();
      }
      worst = std::max(worst, found_sum / best_sum);
    }
  }
  const bool good = sum_found <= 1.01 * sum_truth && worst <= 1.1;
  print_line(good,
             "k-means: " + type_name<Element>() + " " + std::string(name_of(config.mode)) +
                 " N=" + std::to_string(N) + " T=" + get_option(config, "passes") + " " +
                 std::string(name_of(config.metric)) + " sample " + get_option(config, "sample"),
             "inertia " + std::to_string(sum_found / sum_truth) + " of the reference's, worst block " +
                 std::to_string(worst));
  CHECK(sum_found <= 1.01 * sum_truth);
  CHECK(worst <= 1.1);
}

}  // namespace

TEST_CASE("k-means: seeds are the reference's tokens") {
  MUSE_NEEDS_GPU();
  check_seeds<float>("0");
  check_seeds<__nv_bfloat16>("0");
  check_seeds<float>("1");
  check_seeds<__half>("123456789");
}

/// |k_n|² of every key of a block, however its label came about.
template <class Element>
void check_norms(const InputSizes& sizes, Config config, bool labels_given, std::uint64_t seed) {
  set_option(config, "order", "dipole_spread");
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  const auto& w = stages.workspace;
  if (labels_given) {
    const auto count = static_cast<std::size_t>(plan.HK() * plan.levels * plan.Nk);
    stages.put(w.labels_k, std::vector<std::int32_t>(count, 0));
  }
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_keys(plan, stages.tensors, w, labels_given, nullptr));
  const std::vector<float> norms = stages.get(w.key_norms, std::int64_t{plan.HK()} * plan.Nk);
  stages.check_sentinels();
  std::vector<double> found, truth;
  for (Index head = 0; head < plan.HK(); ++head)
    for (Index m = 0; m < plan.levels; ++m)
      for (std::int32_t t = 0; t < plan.level[m].blocks; ++t) {
        const muse::cuda::TokenSpan span = block_tokens(plan, plan.level[m], t, Side::keys);
        for (Index n = span.begin; n < span.begin + span.count; ++n) {
          found.push_back(static_cast<double>(norms[static_cast<std::size_t>(head * plan.Nk + n)]));
          truth.push_back(inputs.k[static_cast<std::size_t>(head)].row(n).squaredNorm());
        }
      }
  double worst = 0;
  for (std::size_t n = 0; n < found.size(); ++n)
    worst = std::isfinite(found[n]) ? std::max(worst, std::abs(found[n] / truth[n] - 1)) : 1e9;
  // D squares, summed in float32.
  const double bound = 0x1p-24 * static_cast<double>(sizes.D);
  print_line(
      worst <= bound,
      "norms: " + type_name<Element>() + " D=" + std::to_string(sizes.D) + " " +
          std::string(name_of(config.mode)) + " sample " + get_option(config, "sample") + " window " +
          get_option(config, "cluster-window") + (labels_given ? " labels given" : ""),
      std::to_string(found.size()) + " keys, worst " + std::to_string(worst / bound) + " of the bound");
  CHECK(!found.empty());
  CHECK(worst <= bound);
}

TEST_CASE("k-means: norms of keys") {
  MUSE_NEEDS_GPU();
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters", "300"}}),
               causal = config_of({{"clusters", "20"}, {"block", "128"}, {"passes", "2"}, {"sample", "4"}}),
               windows = config_of({{"clusters", "20"}, {"block", "64"}, {"cluster-window", "256"}}),
               spatial = config_of({{"clusters", "20"}, {"block", "128"}, {"cluster-by", "spatial"}});
  for (const bool labels_given : {false, true})
    for (const Config& config : {acausal, causal, windows, spatial})
      for (const Index D : {24, 64, 128}) {
        const InputSizes sizes{.Nq = 1025, .Nk = 1025, .D = D, .Dv = D, .heads_q = 4, .heads_kv = 2};
        check_norms<__nv_bfloat16>(sizes, config, labels_given, 60);
        check_norms<__half>(sizes, config, labels_given, 61);
        check_norms<float>(sizes, config, labels_given, 62);
      }
}

TEST_CASE("k-means: more random numbers than the generator's state holds") {
  MUSE_NEEDS_GPU();
  const Config config = config_of({{"mode", "acausal"}, {"clusters", "1000"}, {"seed", "42"}});
  const Inputs inputs = random_inputs<float>({.Nq = 5000, .Nk = 5000, .D = 8, .Dv = 8}, 4);
  Stages<float> stages(inputs, config);
  MUSE_CUDA_REQUIRE(
      muse::cuda::launch_seeds(stages.plan, stages.tensors, stages.workspace, Side::home, nullptr));
  const Matrix<double> centroids = stages.get_rows(stages.workspace.query_centroids, 1000, 8);
  const std::vector<Index> tokens = seed_tokens(5000, 1000, 42);
  Index wrong = 0;
  for (Index c = 0; c < 1000; ++c)
    wrong += centroids.row(c) == inputs.q[0].row(tokens[static_cast<std::size_t>(c)]) ? 0 : 1;
  CHECK(wrong == 0);
}

TEST_CASE("k-means: assignment to the nearest centroid") {
  MUSE_NEEDS_GPU();
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters", "100"}});
  const Config causal = config_of({{"clusters", "5,17,64"}, {"block", "60"}});
  for (const Index N : {Index{97}, Index{113}, Index{1025}, Index{4095}}) {
    check_assign<float>({N, N, 64, 64}, causal, 10);
    check_assign<__half>({N, N, 64, 64}, causal, 11);
    check_assign<__nv_bfloat16>({N, N, 64, 64}, causal, 12);
    check_assign<__nv_bfloat16>({N, N, 128, 64}, acausal, 13);
  }
  check_assign<float>({500, 500, 8, 64}, acausal, 14);
  check_assign<__nv_bfloat16>({500, 500, 32, 64}, acausal, 15);
  // As many clusters as are summed with the labels, more than those, more than are in shared memory at a
  // time.
  for (const char* clusters : {"60", "120", "200", "300"}) {
    const Config many = config_of({{"mode", "acausal"}, {"clusters", clusters}});
    check_assign<__nv_bfloat16>({3000, 3000, 64, 64}, many, 18);
    check_assign<__half>({3000, 3000, 128, 64}, many, 19);
  }
  for (const char* clusters : {"5", "60", "120", "200"}) {
    const Config some = config_of({{"mode", "acausal"}, {"clusters", clusters}});
    for (const Index D : {24, 32, 64, 96, 128})
      check_assign<__nv_bfloat16>({3000, 3000, D, 64}, some, 40, true);
    check_assign<__half>({1025, 1025, 64, 64}, some, 41, true);
  }
  check_assign<__nv_bfloat16>({4095, 4095, 64, 64}, causal, 42, true);
  check_assign<__nv_bfloat16>({500, 500, 96, 64}, acausal, 16);
  check_assign<__half>({500, 500, 256, 64}, acausal, 17);
}

TEST_CASE("k-means: means") {
  MUSE_NEEDS_GPU();
  const Config causal = config_of({{"clusters", "9"}, {"block", "60"}});
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters", "40"}});
  for (const Index D : {8, 24, 64, 96, 128, 200, 256}) {
    check_means<float>(500, D, causal, 20);
    check_means<__half>(500, D, causal, 21);
    check_means<__nv_bfloat16>(500, D, acausal, 22);
  }
  check_means<__nv_bfloat16>(20000, 64, acausal, 23);
  check_means<float>(20000, 64, acausal, 24);
}

TEST_CASE("k-means: means of homes") {
  MUSE_NEEDS_GPU();
  // As many clusters as are summed together with the labels, and more.
  for (const char* clusters : {"7", "60", "100", "200"}) {
    for (const char* sample : {"1", "4"}) {
      const Config causal =
          config_of({{"clusters", clusters}, {"block", "500"}, {"passes", "2"}, {"sample", sample}});
      const Config acausal =
          config_of({{"mode", "acausal"}, {"clusters", clusters}, {"passes", "1"}, {"sample", sample}});
      for (const Index N : {Index{1025}, Index{4095}}) {
        check_home_means<float>({.Nq = N, .Nk = N, .D = 64, .Dv = 64}, causal, 50);
        check_home_means<__nv_bfloat16>(
            {.Nq = N, .Nk = N, .D = 64, .Dv = 64, .batch = 2, .heads_q = 4, .heads_kv = 2}, causal, 51);
        check_home_means<__half>({.Nq = N, .Nk = N, .D = 32, .Dv = 32, .heads_q = 3}, acausal, 52);
        check_home_means<__nv_bfloat16>({.Nq = N, .Nk = N, .D = 128, .Dv = 128}, causal, 53);
      }
      check_home_means<__nv_bfloat16>({.Nq = 9000, .Nk = 9000, .D = 64, .Dv = 64}, acausal, 54);
    }
  }
}

TEST_CASE("k-means: inertia within 1 % of the reference") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    for (const char* passes : {"0", "1", "3"}) {
      for (const char* metric : {"euclidean", "key-covariance"}) {
        const Config config = config_of({{"mode", mode},
                                         {"clusters", "S/8:4:64"},
                                         {"block", "128"},
                                         {"passes", passes},
                                         {"metric", metric}});
        check_inertia<float>(config, 1025, 32, 30);
        check_inertia<__nv_bfloat16>(config, 1025, 64, 31);
        check_inertia<__half>(config, 777, 64, 32);
      }
    }
  }
}

TEST_CASE("k-means: passes on a sample, inertia within 1 % of the reference") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    for (const char* sample : {"2", "4", "32"}) {
      for (const char* metric : {"euclidean", "key-covariance"}) {
        const Config config = config_of({{"mode", mode},
                                         {"clusters", "S/8:4:64"},
                                         {"block", "128"},
                                         {"passes", "2"},
                                         {"sample", sample},
                                         {"metric", metric}});
        check_inertia<float>(config, 1025, 32, 33);
        check_inertia<__nv_bfloat16>(config, 1026, 64, 34);
      }
      const Config windows = config_of({{"mode", mode},
                                        {"clusters", "S/8:4:48"},
                                        {"block", "64"},
                                        {"sample", sample},
                                        {"cluster-window", "128"}});
      check_inertia<__half>(windows, 1300, 64, 35);
    }
  }
}

TEST_CASE("k-means: windows merged upwards, inertia within 1 % of the reference") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    for (const char* passes : {"1", "3"}) {
      for (const char* window : {"64", "200", "256", "512"}) {
        for (const char* clusters : {"S/8:4:64", "24", "S/2:1:40"}) {
          const Config config = config_of({{"mode", mode},
                                           {"clusters", clusters},
                                           {"block", "64"},
                                           {"passes", passes},
                                           {"cluster-window", window}});
          check_inertia<float>(config, 1300, 32, 40);
          check_inertia<__nv_bfloat16>(config, 1300, 64, 41);
          // Where centroids of windows without their residuals would change the clusters above.
          for (const char* seed : {"724444", "296412"}) {
            const FixedSeed fixed(seed);
            check_inertia<__nv_bfloat16>(config, 1300, 64, 41);
          }
        }
      }
    }
  }
}
