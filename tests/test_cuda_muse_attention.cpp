// The whole of MuSe attention on the GPU against the reference with the same labels.
#include <limits>

#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;

namespace {

std::string text_of(const InputSizes& sizes, const Config& config) {
  const std::string tokens = sizes.Nq == sizes.Nk ? std::to_string(sizes.Nq)
                                                  : std::to_string(sizes.Nq) + "x" + std::to_string(sizes.Nk);
  return "N=" + tokens + " D=" + std::to_string(sizes.D) + "," + std::to_string(sizes.Dv) + " heads " +
         std::to_string(sizes.batch) + "x" + std::to_string(sizes.heads_q) + "/" +
         std::to_string(sizes.heads_kv) + " " + std::string(name_of(config.mode)) + " " +
         std::string(name_of(config.order)) + " Cq=" + get_option(config, "clusters-q") +
         " Ck=" + get_option(config, "clusters-k") + " r=" + get_option(config, "retrieve") +
         " B=" + get_option(config, "block");
}

/// Runs a call, then checks every head against the reference with the labels that the call used.
template <class Element>
void check_call(const InputSizes& sizes, const Config& config, std::uint64_t seed, CallOptions options = {}) {
  const std::string what = type_name<Element>() + " " + text_of(sizes, config);
  CAPTURE(what);
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  const CallResult<Element> result = run_cuda<Element>(inputs, config, options);
  const Index levels = muse::cuda::level_count(inputs.shape(kTypeOf<Element>), config);
  for (std::size_t h = 0; h < inputs.q.size(); ++h) {
    const std::size_t kv = inputs.key_head(h);
    const LevelLabels labels_q = labels_of_head(result.labels_q, h, levels, sizes.Nq),
                      labels_k = labels_of_head(result.labels_k, kv, levels, sizes.Nk);
    const Attention<double> truth =
        muse_attention<double>(inputs.q[h], inputs.k[kv], inputs.v[kv], inputs.scale, config,
                               {.labels_q = &labels_q, .labels_k = &labels_k})
            .attention;
    Attention<double> model(sizes.Nq, sizes.Dv);
    if constexpr (std::is_same_v<Element, float>) {
      const Matrix<float> q = inputs.q[h].cast<float>(), k = inputs.k[kv].cast<float>(),
                          v = inputs.v[kv].cast<float>();
      const auto in_float = muse_attention<float>(q, k, v, static_cast<float>(inputs.scale), config,
                                                  {.labels_q = &labels_q, .labels_k = &labels_k});
      model.o = in_float.attention.o.cast<double>();
      model.lse = in_float.attention.lse.cast<double>();
    } else {
      model = model_attention(inputs.q[h], inputs.k[kv], inputs.v[kv], inputs.scale, config, labels_q,
                              labels_k, ElementRounding<Element>());
    }
    Attention<double> found;
    found.o = result.o[h];
    found.lse = result.lse[h];
    check_working_precision<Element>(found, truth, model, what + (h > 0 ? " head " + std::to_string(h) : ""));
  }
}

template <class Element>
void check_modes_and_sizes() {
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters", "16"}});
  const Config causal = config_of({{"mode", "causal"}, {"clusters", "8"}, {"block", "64"}});
  const Config shared = config_of({{"mode", "causal-shared"}, {"clusters", "8"}, {"block", "64"}});
  check_call<Element>({97, 97, 64, 64}, acausal, 1);
  check_call<Element>({113, 1025, 64, 64}, acausal, 2);
  check_call<Element>({1025, 113, 32, 64}, acausal, 3);
  check_call<Element>({97, 97, 64, 64}, causal, 4);
  check_call<Element>({1025, 1025, 64, 64}, causal, 5);
  check_call<Element>({1025, 1025, 64, 64}, shared, 6);
  check_call<Element>({1, 1, 64, 64}, acausal, 7);
  check_call<Element>({1, 1, 64, 64}, causal, 8);
}

}  // namespace

TEST_CASE("the model without rounding is the reference") {
  MUSE_SHOW_SEED();
  for (const Order order : kOrders) {
    for (const char* mode : {"acausal", "causal", "causal-shared"}) {
      Config config = config_of({{"mode", mode}, {"clusters", "6"}, {"block", "32"}, {"retrieve", "2"}});
      config.order = order;
      const Inputs inputs = random_inputs<float>({150, 150, 16, 24}, 90);
      const MuseResult<double> truth =
          muse_attention<double>(inputs.q[0], inputs.k[0], inputs.v[0], inputs.scale, config);
      const Attention<double> model = model_attention(inputs.q[0], inputs.k[0], inputs.v[0], inputs.scale,
                                                      config, truth.labels_q, truth.labels_k, NoRounding());
      check_close(model.o, truth.attention.o, 1e-12, std::string(mode) + " " + std::string(name_of(order)));
      CHECK(lse_difference(model.lse, truth.attention.lse) <= 1e-12);
    }
  }
}

TEST_CASE("modes and sizes: float32") {
  MUSE_NEEDS_GPU();
  check_modes_and_sizes<float>();
}
TEST_CASE("modes and sizes: float16") {
  MUSE_NEEDS_GPU();
  check_modes_and_sizes<__half>();
}
TEST_CASE("modes and sizes: bfloat16") {
  MUSE_NEEDS_GPU();
  check_modes_and_sizes<__nv_bfloat16>();
}

TEST_CASE("larger heads") {
  MUSE_NEEDS_GPU();
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters", "64"}, {"retrieve", "4"}});
  const Config causal =
      config_of({{"mode", "causal"}, {"clusters", "S/16:16:64"}, {"block", "256"}, {"retrieve", "4"}});
  check_call<__nv_bfloat16>({4095, 4095, 64, 64}, acausal, 11);
  check_call<__nv_bfloat16>({4095, 4095, 64, 64}, causal, 12);
  check_call<float>({4095, 4095, 64, 64}, causal, 13);
}

TEST_CASE("orders and retrieval") {
  MUSE_NEEDS_GPU();
  for (const char* order : {"centroid", "monopole", "dipole", "dipole_value", "dipole_spread"}) {
    for (const char* r : {"0", "3", "100"}) {
      for (const char* mode : {"acausal", "causal", "causal-shared"}) {
        const Config config = config_of(
            {{"mode", mode}, {"clusters", "12"}, {"block", "50"}, {"retrieve", r}, {"order", order}});
        check_call<float>({333, 333, 32, 40}, config, 21);
        check_call<__nv_bfloat16>({333, 333, 32, 40}, config, 22);
      }
    }
  }
}

TEST_CASE("head dims") {
  MUSE_NEEDS_GPU();
  const Config config = config_of({{"clusters", "8"}, {"block", "32"}, {"retrieve", "2"}});
  for (const auto& [D, Dv] :
       {std::pair<Index, Index>{8, 8}, {24, 56}, {96, 96}, {128, 128}, {136, 72}, {200, 248}, {256, 256}}) {
    check_call<float>({161, 161, D, Dv}, config, 31);
    check_call<__half>({161, 161, D, Dv}, config, 32);
    check_call<__nv_bfloat16>({161, 161, D, Dv}, config, 33);
  }
}

TEST_CASE("batch, grouped heads, strides, numbers of clusters that differ") {
  MUSE_NEEDS_GPU();
  const InputSizes sizes{.Nq = 203, .Nk = 203, .D = 32, .Dv = 64, .batch = 2, .heads_q = 6, .heads_kv = 2};
  const Config causal =
      config_of({{"clusters-q", "9,17"}, {"clusters-k", "5,40"}, {"block", "40"}, {"retrieve", "1,4"}});
  Config acausal = causal;
  acausal.mode = Mode::acausal;
  check_call<float>(sizes, causal, 41);
  check_call<__nv_bfloat16>(sizes, causal, 42, {.spare = 8});
  check_call<__nv_bfloat16>(sizes, acausal, 43, {.spare = 24});
  check_call<__half>(sizes, causal, 44, {.least_workspace = true});
}

TEST_CASE("passes on a sample, retrieval by mean weight") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    const Config config = config_of({{"mode", mode},
                                     {"clusters", "S/8:4:48"},
                                     {"block", "64"},
                                     {"retrieve", "2"},
                                     {"retrieve-by", "mean-weight"},
                                     {"sample", "4"},
                                     {"passes", "2"}});
    check_call<float>({1025, 1025, 32, 32, 1, 4, 2}, config, 46);
    check_call<__nv_bfloat16>({1023, 1023, 64, 64, 1, 4, 2}, config, 47);
  }
}

TEST_CASE("clusters of windows, merged") {
  MUSE_NEEDS_GPU();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    const Config config = config_of({{"mode", mode},
                                     {"clusters", "S/8:4:48"},
                                     {"block", "64"},
                                     {"retrieve", "2"},
                                     {"cluster-window", "128"},
                                     {"seed", "9"}});
    check_call<float>({1025, 1025, 32, 32, 1, 4, 2}, config, 48);
    check_call<__nv_bfloat16>({1025, 1025, 64, 64, 1, 4, 2}, config, 49);
  }
}

TEST_CASE("logits that rise far beyond the first ones") {
  MUSE_NEEDS_GPU();
  // Keys grow along the sequence: the last logits are some 10, 100 and 10000 times the first, in units of e.
  for (const double growth : {3.0, 30.0, 3000.0}) {
    Inputs inputs = random_inputs<__nv_bfloat16>({700, 700, 64, 64, 1, 2, 2}, 57);
    for (Matrix<double>& k : inputs.k)
      for (Index n = 0; n < k.rows(); ++n) k.row(n) *= 0.1 + growth * static_cast<double>(n) / 700;
    for (Matrix<double>& k : inputs.k) k = rounded<__nv_bfloat16>(k);
    for (const char* mode : {"acausal", "causal"}) {
      const Config config =
          config_of({{"mode", mode}, {"clusters", "8"}, {"block", "256"}, {"retrieve", "3"}});
      const auto result = run_cuda<__nv_bfloat16>(inputs, config);
      const Index levels = muse::cuda::level_count(inputs.shape(kTypeOf<__nv_bfloat16>), config);
      for (std::size_t h = 0; h < 2; ++h) {
        const LevelLabels labels_q = labels_of_head(result.labels_q, h, levels, 700),
                          labels_k = labels_of_head(result.labels_k, h, levels, 700);
        const Attention<double> truth =
            model_attention(inputs.q[h], inputs.k[h], inputs.v[h], inputs.scale, config, labels_q, labels_k,
                            ElementRounding<__nv_bfloat16>());
        REQUIRE(result.o[h].allFinite());
        // Where logits are hundreds of units, their rounding shows: the numbers are those of the model within
        // some %.
        const double error = (result.o[h] - truth.o).squaredNorm() / truth.o.squaredNorm();
        print_line(error < 0.01, std::string("rising logits: ") + mode + " growth " + std::to_string(growth),
                   "relative squared difference from the model " + std::to_string(error));
        CHECK(error < 0.01);
      }
    }
  }
}

TEST_CASE("any labels: empty clusters, a huge one, one key each") {
  MUSE_NEEDS_GPU();
  const Config config = config_of({{"mode", "acausal"}, {"clusters", "64"}, {"retrieve", "2"}});
  const InputSizes sizes{.Nq = 300, .Nk = 64, .D = 32, .Dv = 32};
  const auto labels = [](Index N, auto label_of) {
    HeadLabels result(static_cast<std::size_t>(N));
    for (Index n = 0; n < N; ++n)
      result[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(label_of(n));
    return result;
  };
  const HeadLabels huge_q = labels(300, [](Index n) { return n == 7 ? 63 : 5; });
  const HeadLabels huge_k = labels(64, [](Index n) { return n == 60 ? 0 : 62; });
  const HeadLabels each_k = labels(64, [](Index n) { return 63 - n; });
  check_call<float>(sizes, config, 51, {.labels_q = &huge_q, .labels_k = &huge_k});
  check_call<__nv_bfloat16>(sizes, config, 52, {.labels_q = &huge_q, .labels_k = &huge_k});
  check_call<float>(sizes, config, 53, {.labels_q = &huge_q, .labels_k = &each_k});
  check_call<__half>(sizes, config, 54, {.labels_q = &huge_q, .labels_k = &each_k});
}

TEST_CASE("labels out of range take a token out") {
  MUSE_NEEDS_GPU();
  const Config config = config_of({{"mode", "acausal"}, {"clusters", "4"}});
  const Inputs inputs = random_inputs<float>({40, 40, 16, 16}, 61);
  HeadLabels labels_q(40, 1), labels_k(40, 2);
  labels_q[3] = -1;
  labels_q[17] = 4;
  labels_k[0] = 1000;
  labels_k[39] = -7;
  const auto result = run_cuda<float>(inputs, config, {.labels_q = &labels_q, .labels_k = &labels_k});
  for (const Index n : {Index{3}, Index{17}}) {
    CHECK(result.lse[0][n] == -std::numeric_limits<double>::infinity());
    CHECK(result.o[0].row(n).cwiseAbs().maxCoeff() == 0);
  }
  CHECK(result.o[0].allFinite());
}

TEST_CASE("two calls, a graph and the smallest workspace give the same bits") {
  MUSE_NEEDS_GPU();
  const Config config = config_of({{"clusters", "16"}, {"block", "64"}, {"retrieve", "2"}});
  const Inputs inputs = random_inputs<__nv_bfloat16>({777, 777, 64, 64, 1, 4, 2}, 71);
  const auto first = run_cuda<__nv_bfloat16>(inputs, config);
  const auto same = [&](const CallResult<__nv_bfloat16>& other, const char* what) {
    CAPTURE(what);
    CHECK(std::memcmp(first.o_bits.data(), other.o_bits.data(),
                      first.o_bits.size() * sizeof(first.o_bits[0])) == 0);
    CHECK(std::memcmp(first.lse_bits.data(), other.lse_bits.data(), first.lse_bits.size() * sizeof(float)) ==
          0);
    CHECK(first.labels_q == other.labels_q);
    CHECK(first.labels_k == other.labels_k);
  };
  same(run_cuda<__nv_bfloat16>(inputs, config), "second call");
  same(run_cuda<__nv_bfloat16>(inputs, config, {.graph = true}), "graph");
  same(run_cuda<__nv_bfloat16>(inputs, config, {.least_workspace = true}), "smallest workspace");
  same(run_cuda<__nv_bfloat16>(inputs, config, {.labels_q = &first.labels_q, .labels_k = &first.labels_k}),
       "labels given back");
}

namespace {

/// Bits of the outputs before t must not depend on what comes from t on, nor on whether anything does.
template <class Element>
void check_strictly_causal(const Config& config, Index N, Index t, std::uint64_t seed) {
  const InputSizes sizes{.Nq = N, .Nk = N, .D = 64, .Dv = 64, .batch = 1, .heads_q = 2, .heads_kv = 1};
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  const auto whole = run_cuda<Element>(inputs, config);
  const auto check_prefix = [&](const Inputs& others, const char* what) {
    const std::string text = type_name<Element>() + ", t = " + std::to_string(t) + ", " + what;
    CAPTURE(text);
    const auto found = run_cuda<Element>(others, config);
    const auto other_N = static_cast<std::size_t>(others.Nq());
    std::size_t different = 0;
    for (std::size_t h = 0; h < 2; ++h)
      for (std::size_t n = 0; n < static_cast<std::size_t>(t); ++n) {
        const std::size_t a = h * static_cast<std::size_t>(N) + n, b = h * other_N + n;
        if (std::memcmp(&whole.o_bits[a * 64], &found.o_bits[b * 64], 64 * sizeof(Element)) != 0 ||
            std::memcmp(&whole.lse_bits[a], &found.lse_bits[b], sizeof(float)) != 0) {
          if (different++ == 0) MESSAGE("first difference: head ", h, ", token ", n);
        }
      }
    std::printf("%s strictly causal, N = %lld, %s: %zu tokens differ\n", different == 0 ? "ok   " : "WRONG",
                static_cast<long long>(N), text.c_str(), different);
    CHECK(different == 0);
  };
  Inputs changed = inputs, poisoned = inputs, shorter = inputs;
  const Inputs noise = random_inputs<Element>(sizes, seed + 1);
  const auto for_all = [&](Inputs& target, auto change) {
    for (auto* heads : {&target.q, &target.k, &target.v})
      for (std::size_t h = 0; h < heads->size(); ++h)
        change((*heads)[h], heads == &target.q ? noise.q[h] : heads == &target.k ? noise.k[h] : noise.v[h]);
  };
  for_all(changed, [&](Matrix<double>& x, const Matrix<double>& other) {
    x.bottomRows(N - t) = 3 * other.bottomRows(N - t);
  });
  // Tensor cores multiply masked weights, which are 0, with values of the same tile, and 0 times NaN is NaN:
  // halves get the largest finite numbers instead. Inputs that are not finite are out of bounds; float32
  // stands them all the same.
  const double worst = std::is_same_v<Element, float>    ? std::nan("")
                       : std::is_same_v<Element, __half> ? 65504
                                                         : 0x1.fep127;
  for_all(poisoned,
          [&](Matrix<double>& x, const Matrix<double>&) { x.bottomRows(N - t).setConstant(worst); });
  for_all(shorter, [&](Matrix<double>& x, const Matrix<double>&) { x.conservativeResize(t, x.cols()); });
  for (auto& head : changed.q) head = rounded<Element>(head);
  for (auto& head : changed.k) head = rounded<Element>(head);
  for (auto& head : changed.v) head = rounded<Element>(head);
  check_prefix(changed, "later tokens changed");
  check_prefix(poisoned, std::isnan(worst) ? "later tokens NaN" : "later tokens the largest numbers");
  check_prefix(shorter, "sequence ends there");
}

}  // namespace

TEST_CASE("strictly causal, bit by bit") {
  MUSE_NEEDS_GPU();
  for (const char* order : {"centroid", "dipole", "dipole_spread"}) {
    const Config config =
        config_of({{"clusters", "S/8:8:64"}, {"block", "64"}, {"retrieve", "3"}, {"order", order}});
    for (const Index t : {Index{65}, Index{200}, Index{511}, Index{513}, Index{640}, Index{1000}}) {
      check_strictly_causal<__nv_bfloat16>(config, 1025, t, 81);
      check_strictly_causal<__half>(config, 1025, t, 83);
      check_strictly_causal<float>(config, 1025, t, 82);
    }
  }
  // Diagonal blocks of several tiles of keys.
  const Config long_blocks = config_of({{"clusters", "16"}, {"block", "400"}, {"retrieve", "3"}});
  for (const Index t : {Index{300}, Index{399}, Index{650}, Index{1000}}) {
    check_strictly_causal<__nv_bfloat16>(long_blocks, 1025, t, 86);
    check_strictly_causal<__half>(long_blocks, 1025, t, 87);
  }
  const Config windows =
      config_of({{"clusters", "S/8:8:64"}, {"block", "64"}, {"retrieve", "3"}, {"cluster-window", "128"}});
  for (const Index t : {Index{65}, Index{511}, Index{640}, Index{1000}}) {
    check_strictly_causal<__nv_bfloat16>(windows, 1025, t, 84);
    check_strictly_causal<float>(windows, 1025, t, 85);
  }
}
