// Exact attention in the diagonal blocks on the GPU.
#include "cuda_helpers.h"
#include "muse/exact_attention.h"

using namespace muse;
using namespace muse::test;

namespace {

template <class Element>
void check_blocks(const InputSizes& sizes, Index block, std::uint64_t seed, double size = 1) {
  const std::string what = "exact attention: " + type_name<Element>() + " N=" + std::to_string(sizes.Nq) +
                           " D=" + std::to_string(sizes.D) + "," + std::to_string(sizes.Dv) +
                           " B=" + std::to_string(block) +
                           (size == 1 ? "" : " logits times " + std::to_string(size));
  Inputs inputs = random_inputs<Element>(sizes, seed);
  inputs.scale *= size;
  Config config;
  config.block = block;
  Stages<Element> stages(inputs, config);
  MUSE_CUDA_REQUIRE(
      muse::cuda::launch_exact_attention(stages.plan, stages.tensors, stages.workspace, nullptr));
  const Index heads = static_cast<Index>(inputs.q.size());
  const Matrix<double> o = stages.get_rows(stages.tensors.o, heads * sizes.Nq, sizes.Dv);
  const std::vector<float> lse = stages.get(stages.tensors.lse, heads * sizes.Nq);
  stages.check_sentinels();
  for (Index h = 0; h < heads; ++h) {
    const Matrix<double>&q = inputs.q[static_cast<std::size_t>(h)],
          &k = inputs.k[inputs.key_head(static_cast<std::size_t>(h))],
          &v = inputs.v[inputs.key_head(static_cast<std::size_t>(h))];
    const Mask mask{.causal = true, .block = block};
    const Attention<double> truth = exact_attention<double>(q, k, v, inputs.scale, mask);
    Attention<double> found, model(sizes.Nq, sizes.Dv);
    found.o = o.middleRows(h * sizes.Nq, sizes.Nq);
    found.lse = Eigen::Map<const Vector<float>>(lse.data() + h * sizes.Nq, sizes.Nq).cast<double>();
    if constexpr (std::is_same_v<Element, float>) {
      const Matrix<float> qf = q.cast<float>(), kf = k.cast<float>(), vf = v.cast<float>();
      const Attention<float> in_float =
          exact_attention<float>(qf, kf, vf, static_cast<float>(inputs.scale), mask);
      model.o = in_float.o.template cast<double>();
      model.lse = in_float.lse.template cast<double>();
    } else {
      for (Index t = 0; t < sizes.Nq; ++t) {
        const Index begin = t / block * block, count = t + 1 - begin;
        model.o.row(t) = attend_rounded(inputs.scale * q.row(t) * k.middleRows(begin, count).transpose(),
                                        v.middleRows(begin, count), model.lse[t], ElementRounding<Element>())
                             .unaryExpr(ElementRounding<Element>());
      }
    }
    check_working_precision<Element>(found, truth, model, what + (h > 0 ? " head " + std::to_string(h) : ""));
  }
}

template <class Element>
void check_sizes() {
  for (const auto& [N, block] :
       {std::pair<Index, Index>{1, 1}, {97, 97}, {97, 16}, {113, 50}, {1025, 256}, {1025, 4096}})
    check_blocks<Element>({N, N, 64, 64}, block, static_cast<std::uint64_t>(N + block));
  check_blocks<Element>({333, 333, 128, 128, 2, 4, 2}, 128, 7);
  check_blocks<Element>({150, 150, 96, 32}, 128, 8);
  check_blocks<Element>({150, 150, 256, 256}, 64, 9);
  check_blocks<Element>({150, 150, 8, 8}, 64, 10);
  // Logits of some thousands overflow nothing.
  check_blocks<Element>({150, 150, 64, 64}, 64, 11, 300);
}

}  // namespace

TEST_CASE("exact attention: float32") {
  MUSE_NEEDS_GPU();
  check_sizes<float>();
  check_blocks<float>({4095, 4095, 64, 64}, 4095, 1);
}
TEST_CASE("exact attention: float16") {
  MUSE_NEEDS_GPU();
  check_sizes<__half>();
}
TEST_CASE("exact attention: bfloat16") {
  MUSE_NEEDS_GPU();
  check_sizes<__nv_bfloat16>();
  check_blocks<__nv_bfloat16>({4095, 4095, 64, 64}, 1024, 2);
}
