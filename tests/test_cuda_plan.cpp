// Plans and workspaces, on the CPU: nothing here needs a GPU.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::cuda::Layout;
using muse::cuda::Plan;
using muse::cuda::Shape;
using muse::cuda::Side;

TEST_CASE("plan: blocks, clusters and their tokens are the reference's") {
  for (const Index N : {1, 2, 15, 16, 17, 97, 113, 1025, 4095, 4096, 65536}) {
    for (const Index B : {1, 7, 16, 64, 1024, 100000}) {
      if (N / B > 5000) continue;
      for (const Mode mode : {Mode::causal, Mode::causal_shared, Mode::acausal}) {
        CAPTURE(N);
        CAPTURE(B);
        Config config = config_of({{"clusters-q", "S/8:2:64"}, {"clusters-k", "3,5,9"}, {"retrieve", "1,7"}});
        config.mode = mode;
        config.block = B;
        const Index Nk = mode == Mode::acausal ? N + 5 : N;
        const Plan plan = muse::cuda::make_plan(
            {.Nq = N, .Nk = Nk, .D = 64, .Dv = 64, .type = ElementType::bfloat16}, config);
        const std::vector<Block> blocks = approximated_blocks(N, Nk, config);
        REQUIRE(plan.blocks == static_cast<Index>(blocks.size()));
        std::size_t index = 0;
        std::int64_t key_clusters = 0, query_clusters = 0;
        for (Index m = 0; m < plan.levels; ++m) {
          const muse::cuda::Level& level = plan.level[m];
          for (std::int32_t t = 0; t < level.blocks; ++t, ++index) {
            const Block& block = blocks[index];
            const auto keys = block_tokens(plan, level, t, Side::keys),
                       home = block_tokens(plan, level, t, Side::home),
                       queries = block_tokens(plan, level, t, Side::queries);
            const TokenRange home_range = home_of_query_clusters(block, config);
            CHECK(block.level == m);
            CHECK(keys.begin == block.key_begin);
            CHECK(keys.count == block.keys());
            CHECK(queries.begin == block.query_begin);
            CHECK(queries.count == block.queries());
            CHECK(home.begin == home_range.begin);
            CHECK(home.count == home_range.size());
            CHECK(block_clusters(plan, level, t, Side::keys) == config.clusters_k.at(m)(block.keys()));
            const Index S = mode == Mode::acausal ? Nk : B << m;
            CHECK(block_clusters(plan, level, t, Side::home) ==
                  std::min(config.clusters_q.at(m)(S), home_range.size()));
            CHECK(first_cluster(plan, level, 0, t, Side::keys) == key_clusters);
            CHECK(first_cluster(plan, level, 0, t, Side::home) == query_clusters);
            CHECK(first_offset(plan, level, 0, t, Side::keys) == key_clusters + static_cast<Index>(index));
            CHECK(level.r == std::min<Index>(config.retrieve.at(m), level.Ck));
            key_clusters += level.Ck;
            query_clusters += level.Cq;
          }
        }
        CHECK(plan.key_clusters == key_clusters);
        CHECK(plan.query_clusters == query_clusters);
      }
    }
  }
}

TEST_CASE("plan: heads that share keys") {
  Config config;
  const Plan plan = muse::cuda::make_plan(
      {.batch = 3, .heads_q = 6, .heads_kv = 2, .Nq = 8, .Nk = 8, .D = 8, .Dv = 8}, config);
  const Inputs inputs{.batch = 3, .heads_q = 6, .heads_kv = 2};
  for (std::int32_t hq = 0; hq < 18; ++hq)
    CHECK(plan.key_head(hq) == static_cast<std::int32_t>(inputs.key_head(static_cast<std::size_t>(hq))));
  CHECK(plan.scale == doctest::Approx(1 / std::sqrt(8.0)));
}

TEST_CASE("workspace: arrays lie apart, and within its size") {
  Config config = config_of({{"clusters", "S/16:8:64"}, {"block", "128"}, {"retrieve", "4"}, {"seed", "3"}});
  for (const char* mode : {"causal", "causal-shared", "acausal"}) {
    for (const char* order : {"dipole", "centroid"}) {
      for (const char* metric : {"euclidean", "key-covariance"}) {
        set_option(config, "mode", mode);
        set_option(config, "order", order);
        set_option(config, "metric", metric);
        const Plan plan = muse::cuda::make_plan(
            {.batch = 2, .heads_q = 4, .heads_kv = 2, .Nq = 1025, .Nk = 1025, .D = 64, .Dv = 32}, config);
        auto* const base = reinterpret_cast<std::byte*>(std::uintptr_t{1} << 20);
        const Layout<__half> layout = muse::cuda::lay_out<__half>(plan, base, muse::cuda::kSummaryBytes);
        CHECK(layout.bytes == muse::cuda::lay_out<__half>(plan, nullptr, muse::cuda::kSummaryBytes).bytes);
        const auto& w = layout.workspace;
        std::vector<const void*> pointers = {
            layout.lse,        w.labels_k,    w.labels_q,       w.key_order,
            w.query_order,     w.key_offsets, w.query_offsets,  w.key_centroids,
            w.query_centroids, w.value_means, w.key_covariance, w.metric_centroids,
            w.draws,           w.L,           w.bias,           w.retrieved,
            w.k_tilde,         w.v_tilde,     w.query_tiles,    w.retrieved_places,
            w.exact_tiles,     w.far_tiles,   w.key_counts,     w.query_counts,
            w.key_sums,        w.query_sums,  w.key_half_norms, w.query_half_norms};
        if (w.home_offsets != w.query_offsets) pointers.push_back(w.home_offsets);
        CHECK((w.home_offsets == w.query_offsets) == (config.mode != Mode::causal));
        std::erase(pointers, nullptr);
        std::sort(pointers.begin(), pointers.end());
        CHECK(std::adjacent_find(pointers.begin(), pointers.end()) == pointers.end());
        for (const void* pointer : pointers) {
          CHECK(reinterpret_cast<std::uintptr_t>(pointer) % 256 == 0);
          CHECK(static_cast<const std::byte*>(pointer) < base + layout.bytes);
        }
      }
    }
  }
}

TEST_CASE("workspace: under eight times q, k and v at a million tokens") {
  for (const char* mode : {"causal", "acausal"}) {
    for (const char* block : {"1024", "2048"}) {
      const Config config =
          config_of({{"mode", mode}, {"clusters", "S/32:32:512"}, {"block", block}, {"retrieve", "8"}});
      const Shape shape{.heads_q = 8, .heads_kv = 8, .Nq = 1 << 20, .Nk = 1 << 20, .D = 64, .Dv = 64};
      const muse::cuda::WorkspaceBytes bytes = muse::cuda::workspace_bytes(shape, config);
      const double inputs = 3.0 * 8 * (1 << 20) * 64 * 2;
      std::printf(
          "     workspace at 1M tokens, D = 64, 8 heads, bfloat16, %s, B = %s: %.2f GB, %.2f times q, k, v\n",
          mode, block, static_cast<double>(bytes.recommended) * 1e-9,
          static_cast<double>(bytes.recommended) / inputs);
      CHECK(static_cast<double>(bytes.recommended) < 8 * inputs);
      CHECK(bytes.least <= bytes.recommended);
    }
  }
}

TEST_CASE("workspace: chunks hold what the budget allows, one unit at least") {
  const Config config = config_of({{"clusters", "64"}, {"block", "256"}, {"retrieve", "8"}});
  const Plan plan =
      muse::cuda::make_plan({.heads_q = 8, .heads_kv = 8, .Nq = 4096, .Nk = 4096, .D = 64, .Dv = 64}, config);
  const muse::cuda::Level& level = plan.level[0];
  const std::size_t unit = 64 * (64 * (8 + 128 * 2) + 8 * 4);
  CHECK(muse::cuda::units_of_chunk(plan, level, 2, 0) == 1);
  CHECK(muse::cuda::units_of_chunk(plan, level, 2, 5 * unit) == 5);
  CHECK(muse::cuda::units_of_chunk(plan, level, 2, 6 * unit - 1) == 5);
  CHECK(muse::cuda::units_of_chunk(plan, level, 2, std::size_t{1} << 40) == 8 * 8);
}

TEST_CASE("plan: what the GPU does not do is said") {
  const Shape good{.Nq = 64, .Nk = 64, .D = 64, .Dv = 64};
  const auto fails = [&](Shape shape, const Config& config, const char* message) {
    CAPTURE(message);
    try {
      static_cast<void>(muse::cuda::make_plan(shape, config));
      FAIL_CHECK("expected an error");
    } catch (const Error& error) {
      CAPTURE(error.what());
      CHECK(std::string(error.what()).find(message) != std::string::npos);
    }
  };
  const auto with = [&](auto change) {
    Shape shape = good;
    change(shape);
    return shape;
  };
  fails(with([](Shape& s) { s.D = 12; }), Config{}, "D: expected a multiple of 8 from 8 to 256, found 12");
  fails(with([](Shape& s) { s.Dv = 264; }), Config{},
        "Dv: expected a multiple of 8 from 8 to 256, found 264");
  fails(with([](Shape& s) { s.Nq = s.Nk = 0; }), Config{}, "Nq: expected 1 to");
  fails(with([](Shape& s) { s.Nk = 63; }), Config{}, "expected Nq = Nk, found 64 and 63");
  fails(with([](Shape& s) { s.heads_q = 3, s.heads_kv = 2; }), Config{},
        "expected a multiple of heads_kv = 2, found 3");
  fails(good, config_of({{"cluster-by", "balanced"}}), "balanced");
  fails(good, config_of({{"cluster-window", "32"}, {"metric", "key-covariance"}}), "cluster-window");
  fails(with([](Shape& s) { s.Nq = s.Nk = 4096; }), config_of({{"block", "64"}, {"sample", "3"}}),
        "sample that divides 64");
  fails(with([](Shape& s) { s.Nq = s.Nk = 1 << 20; }), config_of({{"clusters", "5000"}, {"block", "8192"}}),
        "4096 clusters a block at most; level 0 of 8192 tokens asks for 5000");
  Config negative;
  negative.retrieve.values = {-1};
  fails(with([](Shape& s) { s.Nq = s.Nk = 4096; }), negative,
        "retrieve: expected at least 0 at level 0, found -1");
}

TEST_CASE("plan: windows divide the levels above them, and lie in the past of their queries") {
  for (const char* mode : {"causal", "causal-shared", "acausal"}) {
    for (const Index W : {100, 128, 300, 512, 5000}) {
      CAPTURE(mode);
      CAPTURE(W);
      Config config =
          config_of({{"mode", mode}, {"clusters-q", "S/8:4:64"}, {"clusters-k", "20"}, {"block", "64"}});
      config.cluster_window = W;
      const Index N = 1300;
      const Plan plan = muse::cuda::make_plan({.Nq = N, .Nk = N, .D = 8, .Dv = 8}, config);
      if (config.mode != Mode::acausal && W == 5000) {  // no level is that large: all cluster afresh
        CHECK(plan.window == 0);
        CHECK(plan.fresh_levels == plan.levels);
        continue;
      }
      CHECK(plan.window == (config.mode == Mode::acausal ? std::min(W, N)
                            : W == 100                   ? 64
                            : W == 300                   ? 256
                                                         : W));
      for (const Side side : {Side::keys, Side::home}) {
        const Plan windows = muse::cuda::window_plan(plan, side),
                   merging = muse::cuda::merge_plan(plan, side);
        const muse::cuda::Windows& w = side == Side::keys ? plan.windows_k : plan.windows_q;
        // Windows tile the tokens.
        Index next = 0;
        for (std::int32_t t = 0; t < w.count; ++t) {
          const auto tokens = block_tokens(windows, windows.level[0], t, side);
          CHECK(tokens.begin == next);
          next += tokens.count;
          const auto C = block_clusters(windows, windows.level[0], t, side);
          CHECK(C == (side == Side::keys ? config.clusters_k : config.clusters_q)
                         .at(plan.fresh_levels)(tokens.count));
        }
        CHECK(next == N);
        // A block of a merged level is made of the clusters of the windows that its tokens lie in.
        CHECK(merging.levels == plan.levels - plan.fresh_levels);
        for (std::int32_t x = 0; x < merging.levels; ++x) {
          const muse::cuda::Level& level = plan.level[plan.fresh_levels + x];
          for (std::int32_t t = 0; t < level.blocks; ++t) {
            const auto tokens = block_tokens(plan, level, t, side),
                       merged = block_tokens(merging, merging.level[x], t, side);
            CHECK(merged.begin == tokens.begin / plan.window * w.clusters);
            Index clusters = 0;
            for (Index n = tokens.begin; n < tokens.begin + tokens.count; n += plan.window)
              clusters +=
                  block_clusters(windows, windows.level[0], static_cast<std::int32_t>(n / plan.window), side);
            CHECK(merged.count == clusters);
            CHECK(block_clusters(merging, merging.level[x], t, side) <= merged.count);
            CHECK(block_clusters(merging, merging.level[x], t, side) <= block_clusters(plan, level, t, side));
          }
        }
      }
    }
  }
}
