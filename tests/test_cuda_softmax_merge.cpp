// Merging the parts of all levels on the GPU.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;

namespace {

template <class Element>
void check_merge(const InputSizes& sizes, Index block, std::uint64_t seed, double spread) {
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Config config;
  config.block = block;
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  const Index HQ = static_cast<Index>(inputs.q.size()), N = sizes.Nq, rows = HQ * plan.levels * N;
  const Matrix<double> local = rounded<Element>(random_matrix<double>(HQ * N, sizes.Dv, seed + 1)),
                       parts = rounded<Element>(random_matrix<double>(rows, sizes.Dv, seed + 2));
  const Matrix<float> local_lse = random_matrix<float>(HQ * N, 1, seed + 3, spread);
  Matrix<float> part_lse = random_matrix<float>(rows, 1, seed + 4, spread);
  for (Index x = 0; x < rows; x += 7) part_lse(x, 0) = -std::numeric_limits<float>::infinity();
  const auto floats = [](const Matrix<float>& x) {
    return std::vector<float>(x.data(), x.data() + x.size());
  };
  stages.put(stages.tensors.o, packed<Element>({local}));
  stages.put(stages.tensors.lse, floats(local_lse));
  stages.put(stages.workspace.part_o, packed<Element>({parts}));
  stages.put(stages.workspace.part_lse, floats(part_lse));
  MUSE_CUDA_REQUIRE(muse::cuda::launch_merge(plan, stages.tensors, stages.workspace, nullptr));
  Attention<double> found(HQ * N, sizes.Dv), truth(HQ * N, sizes.Dv), model;
  found.o = stages.get_rows(stages.tensors.o, HQ * N, sizes.Dv);
  const auto lse = stages.get(stages.tensors.lse, HQ * N);
  for (Index x = 0; x < HQ * N; ++x) found.lse[x] = static_cast<double>(lse[static_cast<std::size_t>(x)]);
  stages.check_sentinels();
  for (Index h = 0; h < HQ; ++h)
    for (Index n = 0; n < N; ++n) {
      const Index row = h * N + n;
      truth.o.row(row) = local.row(row);
      truth.lse[row] = static_cast<double>(local_lse(row, 0));
      for (const Block& far : approximated_blocks(N, N, config)) {
        if (n < far.query_begin || n >= far.query_end) continue;
        const Index part = (h * plan.levels + far.level) * N + n;
        softmax_merge_row(truth.o.row(row), truth.lse[row], parts.row(part),
                          static_cast<double>(part_lse(part, 0)));
      }
    }
  model.o = rounded<Element>(truth.o);
  model.lse = truth.lse;
  check_working_precision<Element>(found, truth, model,
                                   "merge: " + type_name<Element>() + " N=" + std::to_string(N) +
                                       " Dv=" + std::to_string(sizes.Dv) + " B=" + std::to_string(block) +
                                       " heads " + std::to_string(HQ));
}

template <class Element>
void check_types() {
  std::uint64_t seed = 500;
  for (const Index Dv : {8, 24, 64, 96, 128, 256})
    for (const Index N : {97, 333, 1025}) check_merge<Element>({N, N, 8, Dv, 1, 3, 3}, 50, ++seed, 3);
  check_merge<Element>({4095, 4095, 8, 64}, 16, ++seed, 3);
  check_merge<Element>({333, 333, 8, 64}, 50, ++seed, 200);  // parts that vanish beside others
}

}  // namespace

TEST_CASE("merge: parts of all levels") {
  MUSE_NEEDS_GPU();
  check_types<float>();
  check_types<__half>();
  check_types<__nv_bfloat16>();
}
