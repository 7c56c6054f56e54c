// The choice of key clusters on the GPU: exactly that of the reference on the same masses.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;

namespace {

void check_choice(Index Cq, Index Ck, Index r, const char* retrieve_by, std::uint64_t seed,
                  const std::vector<std::int32_t>& of_heads = {}) {
  Config config = config_of({{"mode", "acausal"}, {"retrieve-by", retrieve_by}});
  config.clusters_q.values = {{.divisor = 0, .low = Cq, .high = Cq}};
  config.clusters_k.values = {{.divisor = 0, .low = Ck, .high = Ck}};
  config.retrieve.values = {r};
  const Inputs inputs =
      random_inputs<float>({.Nq = Cq, .Nk = std::max(Cq, Ck), .D = 8, .Dv = 8, .heads_q = 3}, seed);
  Stages<float> stages(inputs, config);
  const std::int32_t kept = stages.plan.level[0].r;
  REQUIRE(kept == std::min(r, Ck));
  REQUIRE(stages.plan.level[0].Cq == Cq);
  REQUIRE(stages.plan.level[0].Ck == Ck);
  const Index rows = 3 * Cq;
  // Masses with many ties; some clusters empty, in one row all of them.
  std::mt19937_64 random(base_seed() * 1000003 + seed);
  std::vector<float> L(static_cast<std::size_t>(rows * Ck)), bias(L.size());
  for (std::size_t x = 0; x < L.size(); ++x) {
    const auto number = static_cast<float>(random() % 37);
    L[x] = number == 0 || x < static_cast<std::size_t>(Ck) ? -std::numeric_limits<float>::infinity()
           : random() % 2 == 0                             ? number - 20
                                                           : number / 7;
    bias[x] = L[x] == -std::numeric_limits<float>::infinity() ? L[x] : static_cast<float>(x);
  }
  // 1, 4, 16 or 64 keys a cluster: far enough apart for the logarithms of two
  // libraries.
  SortedKeys<float> keys;
  keys.offsets = {0};
  for (Index j = 0; j < Ck; ++j) keys.offsets.push_back(keys.offsets.back() + (Index{1} << random() % 4 * 2));
  auto& w = stages.workspace;
  const std::vector<std::int32_t> offsets(keys.offsets.begin(), keys.offsets.end());
  stages.put(w.key_offsets, offsets);
  stages.put(w.L, L);
  stages.put(w.bias, bias);
  DeviceArray<std::int32_t> retrieve_heads(of_heads.empty() ? std::vector<std::int32_t>{0} : of_heads);
  if (!of_heads.empty()) w.retrieve_heads = retrieve_heads.data();
  MUSE_CUDA_REQUIRE(muse::cuda::launch_retrieval(stages.plan, w, {0, 0, 3}, nullptr));
  const auto retrieved = stages.get(w.retrieved, rows * kept);
  const auto places = stages.get(w.retrieved_places, rows * kept);
  const auto bias_after = stages.get(w.bias, rows * Ck);
  stages.check_sentinels();
  Index wrong = 0;
  for (Index row = 0; row < rows; ++row) {
    const RowVector<float> L_row = Eigen::Map<const RowVector<float>>(L.data() + row * Ck, Ck);
    const Index r_head =
        of_heads.empty() ? r : std::clamp<Index>(of_heads[static_cast<std::size_t>(row / Cq)], 0, r);
    const std::vector<Index> chosen =
        largest_clusters<float>(retrieval_ranks<float>(L_row, keys, config.retrieve_by), r_head);
    Index tokens = 0;
    std::vector<float> expected(bias.begin() + row * Ck, bias.begin() + (row + 1) * Ck);
    for (std::int32_t x = 0; x < kept; ++x) {
      const bool has = x < static_cast<std::int32_t>(chosen.size());
      const auto j = has ? static_cast<std::int32_t>(chosen[static_cast<std::size_t>(x)]) : -1;
      wrong += retrieved[static_cast<std::size_t>(row * kept + x)] == j ? 0 : 1;
      tokens += has ? keys.count(j) : 0;
      const int2 place = places[static_cast<std::size_t>(row * kept + x)];
      wrong += place.x == (has ? keys.begin(j) : 0) && place.y == tokens ? 0 : 1;
      if (has) expected[static_cast<std::size_t>(j)] = -std::numeric_limits<float>::infinity();
    }
    wrong += std::equal(expected.begin(), expected.end(), bias_after.begin() + row * Ck) ? 0 : 1;
  }
  print_line(wrong == 0,
             "retrieval: Cq=" + std::to_string(Cq) + " Ck=" + std::to_string(Ck) + " r=" + std::to_string(r) +
                 " by " + retrieve_by + (of_heads.empty() ? "" : ", of each head"),
             std::to_string(wrong) + " wrong");
  CHECK(wrong == 0);
}

}  // namespace

TEST_CASE("retrieval: the clusters of largest mass or mean weight, ties to the lowest index") {
  MUSE_NEEDS_GPU();
  std::uint64_t seed = 300;
  for (const Index Ck : {1, 2, 31, 32, 33, 100, 512, 513, 4096})
    for (const Index r : {1, 2, 8, 40, 5000})
      for (const char* by : {"mass", "mean-weight"}) check_choice(7, Ck, r, by, ++seed);
  check_choice(130, 64, 8, "mean-weight", ++seed);
  check_choice(70, 100, 8, "mean-weight", ++seed, {3, 0, 50});
  check_choice(7, 33, 2, "mass", ++seed, {-1, 2, 1});
}
