// The counting sort and the spatial labels on the GPU.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::cuda::Side;

namespace {

/// Sorts the labels of every block on the GPU, and again by definition.
void check_sort(const Config& config, const InputSizes& sizes, Side side, std::uint64_t seed,
                bool out_of_range) {
  const bool keys = side == Side::keys;
  const Index N = keys ? sizes.Nk : sizes.Nq, heads = sizes.batch * (keys ? sizes.heads_kv : sizes.heads_q);
  const std::string what = std::string(name_of(config.mode)) + " N=" + std::to_string(N) +
                           " C=" + get_option(config, keys ? "clusters-k" : "clusters-q") +
                           " B=" + get_option(config, "block") + " side " +
                           std::to_string(static_cast<int>(side));
  CAPTURE(what);
  const Inputs inputs = random_inputs<float>(sizes, seed);
  Stages<float> stages(inputs, config);
  const muse::cuda::Plan& plan = stages.plan;
  // Labels of all tokens of all levels; those of no block are never looked at.
  std::vector<std::int32_t> labels;
  for (Index h = 0; h < heads; ++h)
    for (Index m = 0; m < plan.levels; ++m) {
      const Index C = keys ? plan.level[m].Ck : plan.level[m].Cq;
      std::vector<std::int32_t> some = uneven_labels(N, C, seed + static_cast<std::uint64_t>(h * 50 + m));
      if (out_of_range) {
        some[0] = -1;
        some[static_cast<std::size_t>(N / 2)] = static_cast<std::int32_t>(C);
        some[static_cast<std::size_t>(N - 1)] = std::numeric_limits<std::int32_t>::min();
      }
      labels.insert(labels.end(), some.begin(), some.end());
    }
  auto& w = stages.workspace;
  stages.put(keys ? w.labels_k : w.labels_q, labels);
  MUSE_CUDA_REQUIRE(muse::cuda::launch_sort(plan, stages.tensors, w, side, plan.levels, nullptr));
  const auto order = stages.get(keys ? w.key_order : w.query_order, heads * plan.levels * N);
  const auto* const table = keys ? w.key_offsets : side == Side::home ? w.home_offsets : w.query_offsets;
  const auto offsets =
      stages.get(table, heads * ((keys ? plan.key_clusters : plan.query_clusters) + plan.blocks));
  stages.check_sentinels();

  Index wrong = 0, blocks = 0;
  for (Index h = 0; h < heads; ++h) {
    for (Index m = 0; m < plan.levels; ++m) {
      const muse::cuda::Level& level = plan.level[m];
      const Index C = keys ? level.Ck : level.Cq;
      for (std::int32_t t = 0; t < level.blocks; ++t, ++blocks) {
        const muse::cuda::TokenSpan tokens = block_tokens(plan, level, t, side);
        const auto row = static_cast<std::size_t>((h * plan.levels + m) * N + tokens.begin);
        const auto first = static_cast<std::size_t>(first_offset(plan, level, h, t, side));
        std::size_t place = 0;
        for (Index c = 0; c < C; ++c) {
          wrong += offsets[first + static_cast<std::size_t>(c)] == static_cast<std::int32_t>(place) ? 0 : 1;
          for (std::int32_t n = 0; n < tokens.count; ++n)
            if (labels[row + static_cast<std::size_t>(n)] == c)
              wrong += order[row + place++] == tokens.begin + n ? 0 : 1;
        }
        wrong += offsets[first + static_cast<std::size_t>(C)] == static_cast<std::int32_t>(place) ? 0 : 1;
      }
    }
  }
  print_line(wrong == 0, "sort: " + what,
             std::to_string(blocks) + " blocks, " + std::to_string(wrong) + " wrong places");
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("clusters: tokens are sorted by label, stably") {
  MUSE_NEEDS_GPU();
  const auto sizes = [](Index N, Index heads_q = 1, Index heads_kv = 1) {
    return InputSizes{
        .Nq = N, .Nk = N, .D = 8, .Dv = 8, .batch = 1, .heads_q = heads_q, .heads_kv = heads_kv};
  };
  std::uint64_t seed = 100;
  for (const char* mode : {"causal", "causal-shared", "acausal"}) {
    for (const Index N : {Index{97}, Index{113}, Index{1025}, Index{4095}}) {
      for (const char* C : {"1", "7", "S/4"}) {
        const Config config = config_of({{"mode", mode}, {"clusters", C}, {"block", "50"}});
        for (const Side side : {Side::keys, Side::home, Side::queries}) {
          ++seed;
          check_sort(config, sizes(N, 2, 1), side, seed, seed % 3 == 0);
        }
      }
    }
  }
  const Config many = config_of({{"mode", "acausal"}, {"clusters", "4096"}});
  check_sort(many, sizes(5000), Side::keys, ++seed, true);
  check_sort(many, sizes(70000), Side::home, ++seed, true);
  const Config large = config_of({{"mode", "acausal"}, {"clusters", "512"}});
  check_sort(large, sizes(300001), Side::keys, ++seed, false);
  const Config two = config_of({{"mode", "causal"}, {"clusters", "S/16:32:512"}, {"block", "1024"}});
  check_sort(two, sizes(40000, 3, 1), Side::queries, ++seed, false);
}

TEST_CASE("clusters: spatial labels") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"causal", "causal-shared", "acausal"}) {
    const Config config =
        config_of({{"mode", mode}, {"clusters", "7"}, {"block", "50"}, {"cluster-by", "spatial"}});
    const Inputs inputs = random_inputs<float>({.Nq = 333, .Nk = 333, .D = 8, .Dv = 8}, 5);
    const CallResult<float> result = run_cuda<float>(inputs, config);
    const Index levels = muse::cuda::level_count(inputs.shape(ElementType::float32), config);
    const LevelLabels keys = cluster_keys<double>(inputs.k[0], 333, config);
    CHECK(labels_of_head(result.labels_k, 0, levels, 333).values == keys.values);
    // Queries of a block, in the strict mode, go to the nearest centroid; those of homes are the reference's.
    const LevelLabels queries = cluster_queries<double>(inputs.q[0], inputs.k[0], config);
    const LevelLabels found = labels_of_head(result.labels_q, 0, levels, 333);
    Index wrong = 0;
    for (const Block& block : approximated_blocks(333, 333, config)) {
      const TokenRange home = home_of_query_clusters(block, config);
      const auto a = queries.at(block.level, home.begin, home.end),
                 b = found.at(block.level, home.begin, home.end);
      wrong += std::equal(a.begin(), a.end(), b.begin()) ? 0 : 1;
    }
    CHECK(wrong == 0);
  }
}
