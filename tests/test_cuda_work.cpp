// The work that muse-bench compares times with, against a walk over the reference's blocks. Nothing here
// needs a GPU.
#include "work.h"

#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::bench::StageWork;
using muse::bench::work_of;

namespace {

/// Operations, two a multiplication and addition, and bytes of one head, block by block.
std::map<std::string, StageWork> work_of_blocks(const Config& config, Index N, double D, double r_of_heads) {
  std::map<std::string, StageWork> work;
  const double row = 2 * D;  // bytes of a token's q, k, v or o of 16 bits
  const auto add = [&](const char* stage, double operations, double bytes) {
    work[stage].operations += operations;
    work[stage].bytes += bytes;
  };
  const auto passes = static_cast<double>(config.passes) / static_cast<double>(config.sample);
  if (config.mode != Mode::acausal)
    for (const Block& block : diagonal_blocks(N, config.block)) {
      const auto tokens = static_cast<double>(block.queries());
      // Half of all pairs: a dot product and a weighted value each; q, k, v are read, o is written.
      add("diagonal blocks", tokens * tokens / 2 * (2 * D + 2 * D), 4 * tokens * row);
    }
  for (const Block& block : approximated_blocks(N, N, config)) {
    const auto keys = static_cast<double>(block.keys()), queries = static_cast<double>(block.queries()),
               home = static_cast<double>(home_of_query_clusters(block, config).size()),
               Cq = static_cast<double>(config.clusters_q.at(block.level)(block.keys())),
               Ck = static_cast<double>(config.clusters_k.at(block.level)(block.keys()));
    const double r = r_of_heads >= 0 ? r_of_heads : static_cast<double>(config.retrieve.at(block.level));
    // Each token's product with each centroid. A pass reads tokens for that and again for their means.
    add("clustering", (passes + 1) * 2 * D * (keys * Ck + home * Cq), (2 * passes + 1) * (keys + home) * row);
    add("clustering", 0, home * row);  // means of homes
    if (config.mode == Mode::causal) add("clustering", 2 * D * queries * Cq, queries * row);
    // (3.1) to (3.3): a dot product, a weighted key and a weighted value for each key and query cluster.
    const double summaries = Cq * Ck * 2 * row;
    add("summaries", keys * Cq * 6 * D, keys * 2 * row + summaries);
    add("retrieval", 0, Cq * Ck * 8);
    // (4.2) to (4.4): as many keys as summaries and tokens of retrieved clusters; q, and o once or twice.
    const double o = config.mode == Mode::acausal ? 1 : 2;
    add("far field", queries * (Ck + r * keys / Ck) * 4 * D,
        queries * (1 + o) * row + summaries + (r > 0 ? keys * 2 * row : 0));
  }
  return work;
}

void check_work(const Config& config, Index N, Index D, const std::vector<std::int32_t>& of_heads = {},
                double r_of_heads = -1) {
  CAPTURE(N);
  CAPTURE(name_of(config.mode));
  constexpr Index kHeads = 3;
  const auto found = work_of(config, N, D, kHeads, 2, of_heads);
  const auto expected = work_of_blocks(config, N, static_cast<double>(D), r_of_heads);
  REQUIRE(found.size() == expected.size());
  for (const auto& [stage, work] : expected) {
    CAPTURE(stage);
    CHECK(found.at(stage).operations == doctest::Approx(kHeads * work.operations).epsilon(1e-12));
    CHECK(found.at(stage).bytes == doctest::Approx(kHeads * work.bytes).epsilon(1e-12));
  }
}

}  // namespace

TEST_CASE("work: that of the reference's blocks") {
  Config config = config_of({{"clusters-q", "S/16:2:64"},
                             {"clusters-k", "S/8:4:128"},
                             {"retrieve", "5,3,0"},
                             {"block", "64"},
                             {"passes", "2"}});
  for (const Mode mode : {Mode::causal, Mode::causal_shared, Mode::acausal}) {
    config.mode = mode;
    for (const char* sample : {"1", "4"}) {
      set_option(config, "sample", sample);
      for (const Index N : {128, 1024, 4096}) check_work(config, N, 64);
    }
  }
  SUBCASE("heads that retrieve less than the config says") {
    config.retrieve = config_of({{"retrieve", "5"}}).retrieve;
    check_work(config, 1024, 64, {0, 2, 9}, (0 + 2 + 5) / 3.0);
  }
  SUBCASE("a sequence of one block") {
    config.mode = Mode::causal;
    const auto work = work_of(config, 64, 32, 1, 2, {});
    CHECK(work.size() == 1);
    CHECK(work.at("diagonal blocks").operations == 2 * 64 * 64 * 32);
  }
}
