// Stage 1 on the GPU.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::cuda::Side;

namespace {

/// Summaries of all units of each level against their definition, from the expansion points that the GPU has.
template <class Element>
void check_summaries(const InputSizes& sizes, const Config& config, std::uint64_t seed) {
  const std::string what = "summaries: " + type_name<Element>() + " " + std::string(name_of(config.mode)) +
                           " " + std::string(name_of(config.order)) + " N=" + std::to_string(sizes.Nk) +
                           " D=" + std::to_string(sizes.D) + "," + std::to_string(sizes.Dv) +
                           " C=" + get_option(config, "clusters-q") + "," + get_option(config, "clusters-k");
  CAPTURE(what);
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  auto& w = stages.workspace;
  const Index HK = static_cast<Index>(inputs.k.size()), HQ = static_cast<Index>(inputs.q.size());
  std::vector<std::int32_t> labels_k, labels_q;
  for (Index h = 0; h < std::max(HK, HQ); ++h)
    for (Index m = 0; m < plan.levels; ++m) {
      const auto number = static_cast<std::uint64_t>(h * 40 + m);
      const auto k = uneven_labels(sizes.Nk, plan.level[m].Ck, seed + number),
                 q = uneven_labels(sizes.Nq, plan.level[m].Cq, seed + 2000 + number);
      if (h < HK) labels_k.insert(labels_k.end(), k.begin(), k.end());
      if (h < HQ) labels_q.insert(labels_q.end(), q.begin(), q.end());
    }
  stages.put(w.labels_k, labels_k);
  stages.put(w.labels_q, labels_q);
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_keys(plan, stages.tensors, w, true, nullptr));
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_queries(plan, stages.tensors, w, true, nullptr));
  MUSE_CUDA_REQUIRE(muse::cuda::launch_key_norms(plan, stages.tensors, w, nullptr));
  const Matrix<double> q_bars = stages.get_rows(w.query_centroids, HQ * plan.query_clusters, sizes.D);

  for (std::int32_t m = 0; m < plan.levels; ++m) {
    const muse::cuda::Level& level = plan.level[m];
    const std::int32_t units = static_cast<std::int32_t>(HQ) * level.blocks, Cq = level.Cq, Ck = level.Ck;
    REQUIRE(units <= muse::cuda::units_of_chunk(plan, level, sizeof(Element), muse::cuda::kSummaryBytes));
    MUSE_CUDA_REQUIRE(muse::cuda::launch_summaries(plan, stages.tensors, w, {m, 0, units}, nullptr));
    const Index pairs = Index{units} * Cq * Ck;
    const auto L = stages.get(w.L, pairs), bias = stages.get(w.bias, pairs);
    const bool has_spread = config.order == Order::dipole_spread;
    const auto spread = has_spread ? stages.get(w.spread, pairs) : std::vector<float>();
    Matrix<double> found_spread = Matrix<double>::Zero(pairs, has_spread ? 1 : 0),
                   truth_spread = found_spread, model_spread = found_spread;
    stages.check_sentinels();
    const bool plain = config.order == Order::centroid;
    // The monopole has no product with k̃, whose place may be left as it is.
    const bool has_k = !plain && config.order != Order::monopole;
    const Matrix<double> found_k = has_k ? stages.get_rows(w.k_tilde, pairs, sizes.D) : Matrix<double>(),
                         found_v = plain ? Matrix<double>() : stages.get_rows(w.v_tilde, pairs, sizes.Dv);
    const Matrix<double> k_bars =
        plain ? stages.get_rows(w.key_centroids, HK * plan.key_clusters, sizes.D) : Matrix<double>();
    Matrix<double> truth_k = Matrix<double>::Zero(pairs, sizes.D),
                   truth_v = Matrix<double>::Zero(pairs, sizes.Dv), model_k = truth_k, model_v = truth_v;
    Index wrong_empty = 0;
    double worst_L = 0, worst_bias = 0;  // in units of what float32 sums may err by
    for (std::int32_t unit = 0; unit < units; ++unit) {
      const Index head = unit / level.blocks, t = unit % level.blocks;
      const Index kv = static_cast<Index>(inputs.key_head(static_cast<std::size_t>(head)));
      const muse::cuda::TokenSpan span = block_tokens(plan, level, static_cast<std::int32_t>(t), Side::keys);
      const auto* const row = labels_k.data() + (kv * plan.levels + m) * sizes.Nk + span.begin;
      const Matrix<double> k = inputs.k[static_cast<std::size_t>(kv)].middleRows(span.begin, span.count),
                           v = inputs.v[static_cast<std::size_t>(kv)].middleRows(span.begin, span.count);
      const SortedKeys<double> keys =
          sort_keys<double>(k, v, make_clusters<double>(k, Labels(row, row + span.count), Ck));
      for (Index i = 0; i < Cq; ++i) {
        const RowVector<double> q_bar =
            q_bars.row(first_cluster(plan, level, head, static_cast<std::int32_t>(t), Side::home) + i);
        for (Index j = 0; j < Ck; ++j) {
          const Index at = (unit * Index{Cq} + i) * Ck + j;
          const double L_found = static_cast<double>(L[static_cast<std::size_t>(at)]),
                       bias_found = static_cast<double>(bias[static_cast<std::size_t>(at)]);
          if (keys.count(j) == 0) {
            constexpr double kEmpty = -std::numeric_limits<double>::infinity();
            wrong_empty += L_found == kEmpty && bias_found == kEmpty ? 0 : 1;
            continue;
          }
          const auto k_j = keys.k.middleRows(keys.begin(j), keys.count(j));
          const auto v_j = keys.v.middleRows(keys.begin(j), keys.count(j));
          const RowVector<double> a = inputs.scale * q_bar * k_j.transpose();
          double L_truth = 0, bias_truth = 0, unused = 0, amplitude = 0;
          const double s_q_k_max =
              std::abs(inputs.scale) * (k_j.cwiseAbs() * q_bar.cwiseAbs().transpose()).maxCoeff();
          if (plain) {
            const RowVector<double> k_bar =
                k_bars.row(first_cluster(plan, level, kv, static_cast<std::int32_t>(t), Side::keys) + j);
            bias_truth = std::log(static_cast<double>(keys.count(j)));
            L_truth = bias_truth + inputs.scale * q_bar.dot(k_bar);
          } else {
            truth_k.row(at) = attend_rounded(a, k_j, L_truth, NoRounding());
            truth_v.row(at) = attend_rounded(a, v_j, L_truth, NoRounding());
            model_k.row(at) = attend_rounded(a, k_j, unused, ElementRounding<Element>());
            model_v.row(at) = attend_rounded(a, v_j, unused, ElementRounding<Element>());
            if (has_spread) {
              found_spread(at, 0) = static_cast<double>(spread[static_cast<std::size_t>(at)]);
              const RowVector<double> shares = (a.array() - L_truth).exp();
              truth_spread(at, 0) =
                  shares.dot((k_j.rowwise() - truth_k.row(at)).rowwise().squaredNorm().transpose());
              model_spread(at, 0) = spread_around(model_k.row(at), a, k_j, L_truth);
            }
            bias_truth = has_k ? L_found - inputs.scale * q_bar.dot(found_k.row(at)) : L_found;
          }
          // A product of D terms, its exponential, a sum and a logarithm.
          amplitude = (static_cast<double>(sizes.D) + 8) * s_q_k_max + 16 + 2 * std::abs(L_truth);
          worst_L = std::max(worst_L, std::abs(L_found - L_truth) / (2 * 0x1p-24 * amplitude));
          worst_bias = std::max(worst_bias, std::abs(bias_found - bias_truth) / (2 * 0x1p-24 * amplitude));
          if (!std::isfinite(L_found) || !std::isfinite(bias_found)) worst_L = 1e30;
        }
      }
    }
    const std::string place = what + " level " + std::to_string(m);
    print_line(wrong_empty == 0 && worst_L <= 1 && worst_bias <= 1, place,
               "L " + std::to_string(worst_L) + ", bias " + std::to_string(worst_bias) +
                   " of their bounds, " + std::to_string(wrong_empty) + " empty ones wrong");
    CHECK(wrong_empty == 0);
    CHECK(worst_L <= 1);
    CHECK(worst_bias <= 1);
    if (has_k) check_precision<Element>(found_k, truth_k, rounded<Element>(model_k), place + " k_tilde");
    if (has_spread)
      check_precision<Element>(found_spread, truth_spread, rounded<Element>(model_spread), place + " spread");
    if (!plain) check_precision<Element>(found_v, truth_v, rounded<Element>(model_v), place + " v_tilde");
  }
}

template <class Element>
void check_types() {
  const Config causal = config_of({{"clusters-q", "9"}, {"clusters-k", "17"}, {"block", "100"}});
  const Config acausal = config_of({{"mode", "acausal"}, {"clusters-q", "20"}, {"clusters-k", "33"}});
  check_summaries<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, causal, 200);
  check_summaries<Element>({.Nq = 97, .Nk = 1025, .D = 64, .Dv = 64}, acausal, 201);
  check_summaries<Element>(
      {.Nq = 300, .Nk = 300, .D = 128, .Dv = 128, .batch = 2, .heads_q = 4, .heads_kv = 2}, causal, 202);
  check_summaries<Element>({.Nq = 97, .Nk = 113, .D = 96, .Dv = 32}, acausal, 203);
  check_summaries<Element>({.Nq = 97, .Nk = 113, .D = 32, .Dv = 256}, acausal, 204);
  // One cluster has nearly all keys.
  const Config one = config_of({{"mode", "acausal"}, {"clusters-q", "2"}, {"clusters-k", "1"}});
  check_summaries<Element>({.Nq = 97, .Nk = 4095, .D = 64, .Dv = 64}, one, 205);
  for (const char* order : {"centroid", "monopole", "dipole_spread"}) {
    Config other = causal;
    set_option(other, "order", order);
    check_summaries<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, other, 206);
  }
  Config spread = acausal;
  set_option(spread, "order", "dipole_spread");
  check_summaries<Element>({.Nq = 97, .Nk = 4095, .D = 64, .Dv = 64}, spread, 207);
  check_summaries<Element>(
      {.Nq = 97, .Nk = 1025, .D = 128, .Dv = 128, .batch = 2, .heads_q = 4, .heads_kv = 2}, spread, 208);
  check_summaries<Element>({.Nq = 97, .Nk = 113, .D = 40, .Dv = 32}, spread, 209);
}

}  // namespace

TEST_CASE("tilted summaries: float32") {
  MUSE_NEEDS_GPU();
  check_types<float>();
}
TEST_CASE("tilted summaries: float16") {
  MUSE_NEEDS_GPU();
  check_types<__half>();
}
TEST_CASE("tilted summaries: bfloat16") {
  MUSE_NEEDS_GPU();
  check_types<__nv_bfloat16>();
}
