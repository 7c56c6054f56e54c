// The C interface on a GPU gives the same bits as the C++ one, and says what is wrong with a call.
#include "cuda_helpers.h"
#include "muse/muse.h"

using namespace muse;
using namespace muse::test;

TEST_CASE("C interface: the same bits on the GPU as from C++") {
  MUSE_NEEDS_GPU();
  CHECK(muse_device_status(MUSE_DEVICE_CUDA) == MUSE_OK);
  const Config config = config_of({{"clusters", "8"}, {"block", "64"}, {"retrieve", "2"}});
  const Inputs inputs = random_inputs<__nv_bfloat16>(
      {.Nq = 333, .Nk = 333, .D = 64, .Dv = 64, .batch = 2, .heads_q = 4, .heads_kv = 2}, 600);
  const CallResult<__nv_bfloat16> truth = run_cuda<__nv_bfloat16>(inputs, config);

  muse_config c_config;
  muse_call call;
  REQUIRE(muse_config_init(&c_config, sizeof c_config) == MUSE_OK);
  REQUIRE(muse_call_init(&call, sizeof call) == MUSE_OK);
  for (const auto& [name, text] : {std::pair{"clusters", "8"}, {"block", "64"}, {"retrieve", "2"}})
    REQUIRE(muse_config_set(&c_config, name, text) == MUSE_OK);
  call.device = MUSE_DEVICE_CUDA;
  call.dtype = MUSE_BFLOAT16;
  call.batch = 2;
  call.heads_q = 4;
  call.heads_kv = 2;
  call.Nq = call.Nk = 333;
  call.D = call.Dv = 64;
  DeviceArray<__nv_bfloat16> q(packed<__nv_bfloat16>(inputs.q)), k(packed<__nv_bfloat16>(inputs.k)),
      v(packed<__nv_bfloat16>(inputs.v)), o(truth.o_bits.size());
  DeviceArray<float> lse(truth.lse_bits.size());
  std::uint64_t best = 0, least = 0;
  REQUIRE(muse_workspace_size(&c_config, &call, &best, &least) == MUSE_OK);
  DeviceArray<std::byte> workspace(best);
  call.q.data = q.data();
  call.k.data = k.data();
  call.v.data = v.data();
  call.o.data = o.data();
  call.lse = lse.data();
  call.workspace = workspace.data();
  call.workspace_size = best;
  const muse_status status = muse_attention(&c_config, &call);
  const std::string message = muse_last_error();
  CAPTURE(message);
  REQUIRE(status == MUSE_OK);
  MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
  const auto o_bits = o.values();
  CHECK(std::memcmp(o_bits.data(), truth.o_bits.data(), o_bits.size() * sizeof(o_bits[0])) == 0);
  CHECK(lse.values() == truth.lse_bits);
  o.check_sentinels("o");
  lse.check_sentinels("lse");
  workspace.check_sentinels("workspace");

  // A call can be captured, its checks included.
  cudaStream_t stream = nullptr;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t executable = nullptr;
  MUSE_CUDA_REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  MUSE_CUDA_REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  call.stream = stream;
  CHECK(muse_attention(&c_config, &call) == MUSE_OK);
  MUSE_CUDA_REQUIRE(cudaStreamEndCapture(stream, &graph));
  MUSE_CUDA_REQUIRE(cudaGraphInstantiate(&executable, graph, 0));
  o.poison();
  MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
  MUSE_CUDA_REQUIRE(cudaGraphLaunch(executable, stream));
  MUSE_CUDA_REQUIRE(cudaStreamSynchronize(stream));
  const auto replayed = o.values();
  CHECK(std::memcmp(replayed.data(), truth.o_bits.data(), replayed.size() * sizeof(replayed[0])) == 0);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
  call.stream = nullptr;

  // Each head retrieves as many clusters as it is told, but no more than the config says.
  DeviceArray<std::int32_t> retrieve_heads(std::vector<std::int32_t>{1, 0, 7, 2});
  call.retrieve_heads = retrieve_heads.data();
  o.poison();
  REQUIRE(muse_attention(&c_config, &call) == MUSE_OK);
  MUSE_CUDA_REQUIRE(cudaDeviceSynchronize());
  const auto by_head = o.values();
  const std::size_t head_size = by_head.size() / 8;
  for (std::size_t head = 0; head < 8; ++head) {
    Config config_of_head = config;
    config_of_head.retrieve.values = {std::array{1, 0, 2, 2}[head % 4]};
    const CallResult<__nv_bfloat16> alone = run_cuda<__nv_bfloat16>(inputs, config_of_head);
    CHECK(std::memcmp(by_head.data() + head * head_size, alone.o_bits.data() + head * head_size,
                      head_size * sizeof(by_head[0])) == 0);
  }
  call.retrieve_heads = nullptr;

  // Memory of the CPU is found out before a kernel reads it.
  std::vector<float> host(16 * 1024);
  void* const aligned =
      reinterpret_cast<void*>((reinterpret_cast<std::uintptr_t>(host.data()) + 255) / 256 * 256);
  muse_call wrong = call;
  wrong.k.data = aligned;
  CHECK(muse_attention(&c_config, &wrong) == MUSE_ERROR_ARGUMENT);
  CHECK(std::string(muse_last_error()).find("call.k.data: expected device memory") != std::string::npos);
  wrong = call;
  wrong.workspace_size = least - 1;
  CHECK(muse_attention(&c_config, &wrong) == MUSE_ERROR_WORKSPACE);
  wrong = call;
  wrong.D = 12;
  CHECK(muse_attention(&c_config, &wrong) == MUSE_ERROR_UNSUPPORTED);
  CHECK(cudaGetLastError() == cudaSuccess);
}
