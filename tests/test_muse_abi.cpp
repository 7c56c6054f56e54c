// The C interface as a program meets it: results on the CPU against the reference, and a status with a
// message for every argument that makes no sense. Nothing here needs a GPU.
#include <array>
#include <functional>
#include <thread>

#include "helpers.h"
#include "muse/muse.h"
#include "muse/muse_attention.h"
#include "muse/tensor.h"

using namespace muse;
using namespace muse::test;

namespace {

// A call on tensors of its own: dense, float32, on the CPU, and right in every respect.
struct Call {
  muse_config config{};
  muse_call call{};
  std::vector<float> q, k, v, o, lse;

  Call(Index batch, Index heads_q, Index heads_kv, Index N, Index D, Index Dv, std::uint64_t seed) {
    REQUIRE(muse_config_init(&config, sizeof config) == MUSE_OK);
    REQUIRE(muse_call_init(&call, sizeof call) == MUSE_OK);
    set("block", "16");
    set("clusters", "4");
    call.batch = batch;
    call.heads_q = heads_q;
    call.heads_kv = heads_kv;
    call.Nq = call.Nk = N;
    call.D = D;
    call.Dv = Dv;
    const auto numbers = [&](Index rows, Index cols, std::uint64_t number) {
      const Matrix<float> x = random_matrix<float>(rows, cols, seed * 10 + number);
      return std::vector<float>(x.data(), x.data() + x.size());
    };
    q = numbers(batch * heads_q * N, D, 1);
    k = numbers(batch * heads_kv * N, D, 2);
    v = numbers(batch * heads_kv * N, Dv, 3);
    o.assign(static_cast<std::size_t>(batch * heads_q * N * Dv), std::nanf(""));
    lse.assign(static_cast<std::size_t>(batch * heads_q * N), std::nanf(""));
    call.q.data = q.data();
    call.k.data = k.data();
    call.v.data = v.data();
    call.o.data = o.data();
    call.lse = lse.data();
  }
  void set(const char* name, const char* text) {
    INFO(muse_last_error());
    REQUIRE(muse_config_set(&config, name, text) == MUSE_OK);
  }
  void run() {
    const muse_status status = muse_attention(&config, &call);
    INFO(muse_last_error());
    REQUIRE(status == MUSE_OK);
  }
};

Matrix<float> rows_at(const std::vector<float>& values, Index first, Index rows, Index cols) {
  return Eigen::Map<const Matrix<float>>(values.data() + first * cols, rows, cols);
}

void check_fails(muse_status found, muse_status expected, const std::string& message) {
  CAPTURE(message);
  const std::string last_error = muse_last_error(), found_name = muse_status_name(found);
  CAPTURE(last_error);
  CHECK(found_name == std::string(muse_status_name(expected)));
  CHECK(last_error.find(message) != std::string::npos);
}

}  // namespace

TEST_CASE("the header and the library are of one version") {
  CHECK(muse_abi_version() == MUSE_ABI_VERSION);
  CHECK(std::string(muse_version()).find('.') != std::string::npos);
  CHECK(std::string(muse_status_name(MUSE_ERROR_WORKSPACE)) == "MUSE_ERROR_WORKSPACE");
  CHECK(std::string(muse_status_name(99)) == "unknown status");
  CHECK(muse_device_status(MUSE_DEVICE_CPU) == MUSE_OK);
}

TEST_CASE("defaults are those of the command line") {
  muse_config config;
  REQUIRE(muse_config_init(&config, sizeof config) == MUSE_OK);
  const Config defaults;
  CHECK(config.mode == MUSE_MODE_CAUSAL);
  CHECK(config.order == MUSE_ORDER_DIPOLE);
  CHECK(config.block == defaults.block);
  CHECK(config.passes == defaults.passes);
  CHECK(config.clusters_q_levels == 1);
  CHECK(config.clusters_q[0].divisor == defaults.clusters_q.at(0).divisor);
  CHECK(config.clusters_k[MUSE_MAX_LEVELS - 1].high == defaults.clusters_k.at(0).high);
  CHECK(config.retrieve[0] == 0);
}

TEST_CASE("options as text fill the fields, and a wrong one changes nothing") {
  muse_config config;
  REQUIRE(muse_config_init(&config, sizeof config) == MUSE_OK);
  REQUIRE(muse_config_set(&config, "mode", "causal-shared") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "order", "dipole_spread") == MUSE_OK);
  CHECK(config.order == MUSE_ORDER_DIPOLE_SPREAD);
  REQUIRE(muse_config_set(&config, "order", "dipole_value") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "cluster-by", "spatial") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "metric", "key-covariance") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "clusters-q", "S/8:4:64,100") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "retrieve", "1,2,3") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "seed", "7") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "sample", "4") == MUSE_OK);
  REQUIRE(muse_config_set(&config, "retrieve-by", "mean-weight") == MUSE_OK);
  CHECK(config.mode == MUSE_MODE_CAUSAL_SHARED);
  CHECK(config.order == MUSE_ORDER_DIPOLE_VALUE);
  CHECK(config.cluster_by == MUSE_CLUSTER_BY_SPATIAL);
  CHECK(config.metric == MUSE_METRIC_KEY_COVARIANCE);
  CHECK(config.clusters_q_levels == 2);
  CHECK(config.clusters_q[0].divisor == 8);
  CHECK(config.clusters_q[1].low == 100);
  CHECK(config.clusters_q[5].low == 100);
  CHECK(config.retrieve_levels == 3);
  CHECK(config.retrieve[2] == 3);
  CHECK(config.seed == 7);
  CHECK(config.sample == 4);
  CHECK(config.retrieve_by == MUSE_RETRIEVE_BY_MEAN_WEIGHT);

  const muse_config before = config;
  check_fails(muse_config_set(&config, "clusters", "many"), MUSE_ERROR_ARGUMENT, "--clusters-q: expected");
  check_fails(muse_config_set(&config, "retrieve", "-1"), MUSE_ERROR_ARGUMENT, "at least 0, found '-1'");
  check_fails(muse_config_set(&config, "colour", "red"), MUSE_ERROR_ARGUMENT, "unknown option 'colour'");
  check_fails(muse_config_set(&config, nullptr, "1"), MUSE_ERROR_ARGUMENT,
              "name: expected a pointer, found null");
  check_fails(muse_config_set(&config, "seed", nullptr), MUSE_ERROR_ARGUMENT, "text: expected a pointer");
  CHECK(std::memcmp(&before, &config, sizeof config) == 0);
}

TEST_CASE("on the CPU, heads of a batch are the reference's, in float32") {
  MUSE_SHOW_SEED();
  for (const char* mode : {"acausal", "causal", "causal-shared"}) {
    CAPTURE(mode);
    const Index N = 75, D = 12, Dv = 20;
    Call call(2, 4, 2, N, D, Dv, 5);
    call.set("mode", mode);
    call.set("retrieve", "2");
    std::int64_t levels = 0;
    REQUIRE(muse_level_count(&call.config, &call.call, &levels) == MUSE_OK);
    CHECK(levels == (std::string(mode) == "acausal" ? 1 : 3));
    std::vector<std::int32_t> labels_q(static_cast<std::size_t>(8 * levels * N), -2),
        labels_k(static_cast<std::size_t>(4 * levels * N), -2);
    call.call.labels_q_out = labels_q.data();
    call.call.labels_k_out = labels_k.data();
    const std::vector<std::int32_t> retrieve_heads{1, 0, 7, -3};  // of two; no more, and none
    call.call.retrieve_heads = retrieve_heads.data();
    call.run();

    Config config;
    set_option(config, "mode", mode);
    set_option(config, "block", "16");
    set_option(config, "clusters", "4");
    const float scale = 1 / std::sqrt(static_cast<float>(D));
    for (Index h = 0; h < 8; ++h) {
      const Index kv = h / 4 * 2 + h % 4 / 2;
      const Matrix<float> q = rows_at(call.q, h * N, N, D), k = rows_at(call.k, kv * N, N, D),
                          v = rows_at(call.v, kv * N, N, Dv);
      set_option(config, "retrieve", std::array{"1", "0", "2", "0"}[static_cast<std::size_t>(h % 4)]);
      const MuseResult<float> truth = muse_attention<float>(q, k, v, scale, config);
      CHECK(same_bits(rows_at(call.o, h * N, N, Dv), truth.attention.o));
      CHECK(std::equal(truth.attention.lse.begin(), truth.attention.lse.end(), call.lse.begin() + h * N));
      CHECK(std::equal(truth.labels_q.values.begin(), truth.labels_q.values.end(),
                       labels_q.begin() + h * levels * N));
      CHECK(std::equal(truth.labels_k.values.begin(), truth.labels_k.values.end(),
                       labels_k.begin() + kv * levels * N));
    }

    // Labels given back give the same bits; other labels others.
    const std::vector<float> o = call.o;
    call.call.labels_q = labels_q.data();
    call.call.labels_k = labels_k.data();
    call.call.labels_q_out = call.call.labels_k_out = nullptr;
    call.run();
    CHECK(o == call.o);
    for (std::int32_t& label : labels_k) label = label < 0 ? label : 0;
    call.run();
    CHECK(o != call.o);
  }
}

TEST_CASE("halves and strides on the CPU") {
  MUSE_SHOW_SEED();
  const Index N = 40, D = 8, token = 24;
  for (const auto& [dtype, type] :
       {std::pair{MUSE_FLOAT16, DType::float16}, {MUSE_BFLOAT16, DType::bfloat16}}) {
    Call dense(1, 2, 2, N, D, D, 6);
    dense.set("mode", "acausal");
    // The same numbers, rounded, token-major with both heads and something else side by side: [N, 3, D].
    const auto strided = [&, type = type](const std::vector<float>& from) {
      std::vector<float> numbers(static_cast<std::size_t>(N * token), 9);
      for (Index h = 0; h < 2; ++h)
        for (Index n = 0; n < N; ++n)
          for (Index d = 0; d < D; ++d)
            numbers[static_cast<std::size_t>(n * token + h * D + d)] =
                from[static_cast<std::size_t>((h * N + n) * D + d)];
      return make_array<float>(type, {N, token}, numbers).bytes;
    };
    const auto rounded = [type = type](std::vector<float>& numbers) {
      const Array array = make_array<float>(type, {static_cast<Index>(numbers.size())}, numbers);
      convert<float>(array, 0, numbers);
    };
    std::vector<std::byte> q = strided(dense.q), k = strided(dense.k), v = strided(dense.v),
                           o(q.size(), std::byte{0x5a});
    for (std::vector<float>* numbers : {&dense.q, &dense.k, &dense.v}) rounded(*numbers);
    dense.run();

    muse_call call = dense.call;
    call.dtype = dtype;
    call.lse = nullptr;
    call.q = {q.data(), N * token, D, token};
    call.k = {k.data(), N * token, D, token};
    call.v = {v.data(), N * token, D, token};
    call.o = {o.data(), N * token, D, token};
    REQUIRE(muse_attention(&dense.config, &call) == MUSE_OK);
    Array out{.dtype = type, .shape = {N, token}, .bytes = o};
    std::vector<float> found(static_cast<std::size_t>(N * token));
    convert<float>(out, 0, found);
    rounded(dense.o);
    Index wrong = 0;
    for (Index h = 0; h < 2; ++h)
      for (Index n = 0; n < N; ++n)
        for (Index d = 0; d < D; ++d)
          wrong += found[static_cast<std::size_t>(n * token + h * D + d)] ==
                           dense.o[static_cast<std::size_t>((h * N + n) * D + d)]
                       ? 0
                       : 1;
    CHECK(wrong == 0);
    // What lies between the heads is not touched.
    for (Index n = 0; n < N; ++n)
      CHECK(o[static_cast<std::size_t>(2 * (n * token + 2 * D))] == std::byte{0x5a});
  }
}

TEST_CASE("arguments that make no sense") {
  struct Wrong {
    std::function<void(Call&)> change;
    const char* message;
    muse_status status = MUSE_ERROR_ARGUMENT;
  };
  const auto bytes_on = [](void*& pointer, std::ptrdiff_t bytes) {
    pointer = static_cast<char*>(pointer) + bytes;
  };
  const std::vector<Wrong> cases = {
      {[](Call& c) { c.call.q.data = nullptr; }, "call.q.data: expected a pointer, found null"},
      {[](Call& c) { c.call.k.data = nullptr; }, "call.k.data: expected a pointer, found null"},
      {[](Call& c) { c.call.v.data = nullptr; }, "call.v.data: expected a pointer, found null"},
      {[](Call& c) { c.call.o.data = nullptr; }, "call.o.data: expected a pointer, found null"},
      {[&](Call& c) { bytes_on(c.call.q.data, 2); },
       "call.q.data: expected an address that is a multiple of 4"},
      {[&](Call& c) { bytes_on(c.call.o.data, 1); },
       "call.o.data: expected an address that is a multiple of 4"},
      {[](Call& c) { c.call.lse = reinterpret_cast<float*>(reinterpret_cast<char*>(c.call.lse) + 1); },
       "call.lse: expected an address that is a multiple of 4"},
      {[](Call& c) { c.call.retrieve_heads = reinterpret_cast<const std::int32_t*>(std::uintptr_t{6}); },
       "call.retrieve_heads: expected an address that is a multiple of 4"},
      {[](Call& c) { c.call.labels_q_out = reinterpret_cast<std::int32_t*>(std::uintptr_t{6}); },
       "call.labels_q_out: expected an address that is a multiple of 4"},
      {[](Call& c) { c.call.struct_size -= 8; }, "call.struct_size: expected"},
      {[](Call& c) { c.config.struct_size = 0; }, "config.struct_size: expected"},
      {[](Call& c) { c.call.device = 7; }, "call.device: expected 0 to 1, found 7"},
      {[](Call& c) { c.call.dtype = 3; }, "call.dtype: expected 0 to 2, found 3"},
      {[](Call& c) { c.call.dtype = -1; }, "call.dtype: expected 0 to 2, found -1"},
      {[](Call& c) { c.call.reserved = 1; }, "call.reserved: expected 0 to 0, found 1"},
      {[](Call& c) { c.call.batch = 0; }, "call.batch: expected 1 to"},
      {[](Call& c) { c.call.heads_q = 3; }, "call.heads_q: expected a multiple of heads_kv = 2, found 3"},
      {[](Call& c) { c.call.heads_kv = 0; }, "call.heads_kv: expected 1 to"},
      {[](Call& c) { c.call.Nq = c.call.Nk = 0; }, "call.Nq: expected 1 to"},
      {[](Call& c) { c.call.Nk = -5; }, "call.Nk: expected 1 to 268435456, found -5"},
      {[](Call& c) { c.call.Nk = 5; }, "causal attention needs as many queries as keys"},
      {[](Call& c) { c.call.D = 0; }, "call.D: expected 1 to"},
      {[](Call& c) { c.call.Dv = -8; }, "call.Dv: expected 1 to"},
      {[](Call& c) { c.call.scale = std::nan(""); }, "call.scale: expected a finite number, found nan"},
      {[](Call& c) { c.call.q.stride_token = 4; }, "call.q.stride_token: expected at least 8, found 4"},
      {[](Call& c) {
         c.call.k = {c.call.k.data, -1, 8, 8};
       },
       "call.k.stride_batch: expected at least 0, found -1"},
      {[](Call& c) { c.config.mode = 3; }, "config.mode: expected 0 to 2, found 3"},
      {[](Call& c) { c.config.order = 5; }, "config.order: expected 0 to 4, found 5"},
      {[](Call& c) { c.config.cluster_by = -1; }, "config.cluster_by: expected 0 to 2, found -1"},
      {[](Call& c) { c.config.metric = 2; }, "config.metric: expected 0 to 1, found 2"},
      {[](Call& c) { c.config.retrieve[0] = -1; }, "config.retrieve[0]: expected 0 to"},
      {[](Call& c) { c.config.retrieve_levels = 0; }, "config.retrieve_levels: expected 1 to 24, found 0"},
      {[](Call& c) { c.config.clusters_q_levels = 25; },
       "config.clusters_q_levels: expected 1 to 24, found 25"},
      {[](Call& c) { c.config.clusters_k[0].low = 0; }, "config.clusters_k[0].low: expected 1 to"},
      {[](Call& c) {
         c.config.clusters_k[0] = {16, 64, 32};
       },
       "config.clusters_k[0].high: expected 64 to"},
      {[](Call& c) { c.config.clusters_q[0].divisor = -2; }, "config.clusters_q[0].divisor: expected 0 to"},
      {[](Call& c) { c.config.block = 0; }, "config.block: expected 1 to"},
      {[](Call& c) { c.config.passes = -1; }, "config.passes: expected 0 to"},
      {[](Call& c) { c.config.cluster_window = -1; }, "config.cluster_window: expected 0 to"},
      {[](Call& c) { c.config.sample = 0; }, "config.sample: expected 1 to"},
      {[](Call& c) { c.config.retrieve_by = 2; }, "config.retrieve_by: expected 0 to 1, found 2"},
      {[](Call& c) { c.config.reserved = 1; }, "config.reserved: expected 0 to 0, found 1"},
      {[](Call& c) {
         // The home of the first block is tokens 0 to 15; its queries name a cluster without members.
         static std::vector<std::int32_t> labels(4 * 2 * 40, 1);
         for (std::size_t n = 0; n < labels.size(); ++n) labels[n] = n % 40 < 16 ? 0 : 1;
         c.call.labels_q = labels.data();
       },
       "expected the label of a cluster that has a centroid, found 1"},
      // The same on CUDA, whose rules are stricter; none of these gets as far as asking for a GPU.
      {[](Call& c) {
         c.call.device = MUSE_DEVICE_CUDA;
         c.call.D = 12;
       },
       "call.D: CUDA takes multiples of 8 from 8 to 256, found 12", MUSE_ERROR_UNSUPPORTED},
      {[](Call& c) {
         c.call.device = MUSE_DEVICE_CUDA;
         c.call.Dv = 264;
       },
       "call.Dv: CUDA takes multiples of 8 from 8 to 256, found 264", MUSE_ERROR_UNSUPPORTED},
      {[](Call& c) {
         c.call.device = MUSE_DEVICE_CUDA;
         c.call.q.data = reinterpret_cast<void*>(std::uintptr_t{1032});
       },
       "call.q.data: expected an address that is a multiple of 16 bytes"},
      {[](Call& c) {
         c.call.device = MUSE_DEVICE_CUDA;
         for (muse_tensor* x : {&c.call.q, &c.call.k, &c.call.v, &c.call.o})
           *x = {reinterpret_cast<void*>(std::uintptr_t{1024}), 0, 40 * 8, 10};
       },
       "call.q: expected strides that are multiples of 4 elements, found 10"},
  };
  for (const Wrong& wrong : cases) {
    Call call(1, 4, 2, 40, 8, 8, 7);
    wrong.change(call);
    check_fails(muse_attention(&call.config, &call.call), wrong.status, wrong.message);
    // Nothing was written.
    CHECK(std::isnan(call.o[0]));
  }
  Call call(1, 4, 2, 40, 8, 8, 7);
  check_fails(muse_attention(nullptr, &call.call), MUSE_ERROR_ARGUMENT,
              "config: expected a pointer, found null");
  check_fails(muse_attention(&call.config, nullptr), MUSE_ERROR_ARGUMENT,
              "call: expected a pointer, found null");
  check_fails(muse_config_init(nullptr, sizeof(muse_config)), MUSE_ERROR_ARGUMENT,
              "config: expected a pointer");
  check_fails(muse_config_init(&call.config, 12), MUSE_ERROR_ARGUMENT, "found 12");
  check_fails(muse_call_init(nullptr, sizeof(muse_call)), MUSE_ERROR_ARGUMENT, "call: expected a pointer");
  check_fails(muse_call_init(&call.call, 12), MUSE_ERROR_ARGUMENT, "call.struct_size: expected");
  check_fails(muse_level_count(&call.config, &call.call, nullptr), MUSE_ERROR_ARGUMENT,
              "levels: expected a pointer");
  check_fails(muse_device_status(5), MUSE_ERROR_ARGUMENT, "device: expected 0 to 1, found 5");
}

TEST_CASE("workspace: none on the CPU, on CUDA its size, or a clear status") {
  Call call(1, 2, 2, 40, 8, 8, 8);
  std::uint64_t best = 1, least = 1;
  REQUIRE(muse_workspace_size(&call.config, &call.call, &best, &least) == MUSE_OK);
  CHECK(best == 0);
  CHECK(least == 0);
  call.call.device = MUSE_DEVICE_CUDA;
  const muse_status status = muse_workspace_size(&call.config, &call.call, &best, nullptr);
  if (status == MUSE_ERROR_NO_DEVICE) {
    check_fails(status, MUSE_ERROR_NO_DEVICE, "built without CUDA");
    check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_NO_DEVICE, "built without CUDA");
    check_fails(muse_device_status(MUSE_DEVICE_CUDA), MUSE_ERROR_NO_DEVICE, "built without CUDA");
    return;
  }
  // Built with CUDA: sizes need no GPU.
  REQUIRE(status == MUSE_OK);
  REQUIRE(muse_workspace_size(&call.config, &call.call, nullptr, &least) == MUSE_OK);
  CHECK(best >= least);
  CHECK(least > 0);
  for (muse_tensor* x : {&call.call.q, &call.call.k, &call.call.v, &call.call.o})
    x->data = reinterpret_cast<void*>(std::uintptr_t{1024});
  check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_ARGUMENT,
              "call.workspace: expected a pointer, found null");
  call.call.workspace = reinterpret_cast<void*>(std::uintptr_t{1024 + 16});
  check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_ARGUMENT,
              "call.workspace: expected an address that is a multiple of 256");
  call.call.workspace = reinterpret_cast<void*>(std::uintptr_t{1024});
  call.call.workspace_size = least - 1;
  check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_WORKSPACE,
              "call.workspace_size: expected at least");
  call.call.workspace_size = least;
  if (muse_device_status(MUSE_DEVICE_CUDA) == MUSE_OK) {
    check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_ARGUMENT, "expected device memory");
  } else {
    check_fails(muse_attention(&call.config, &call.call), MUSE_ERROR_NO_DEVICE,
                "expected a CUDA device, found none");
  }
  // What the GPU does not do is said before anything else is done.
  call.set("cluster-by", "balanced");
  check_fails(muse_workspace_size(&call.config, &call.call, &best, &least), MUSE_ERROR_UNSUPPORTED,
              "balanced");
}

TEST_CASE("each thread has its own message") {
  check_fails(muse_device_status(5), MUSE_ERROR_ARGUMENT, "device: expected 0 to 1, found 5");
  std::thread([] {
    CHECK(std::string(muse_last_error()).empty());
    CHECK(muse_device_status(6) == MUSE_ERROR_ARGUMENT);
  }).join();
  CHECK(std::string(muse_last_error()).find("found 5") != std::string::npos);
}
