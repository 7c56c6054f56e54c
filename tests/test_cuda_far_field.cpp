// Stage 2 on the GPU: far field and retrieved tokens in one softmax.
#include "cuda_helpers.h"

using namespace muse;
using namespace muse::test;
using muse::cuda::Side;

namespace {

/// Stage 2 of every level against its definition, from the summaries and the choice that the GPU made, merged
/// into what o and lse held before. `spread` is that of the log-sum-exps there.
template <class Element>
void check_far(const InputSizes& sizes, const Config& config, std::uint64_t seed, double spread = 3) {
  const std::string what = "far field: " + type_name<Element>() + " " + std::string(name_of(config.mode)) +
                           " " + std::string(name_of(config.order)) + " N=" + std::to_string(sizes.Nq) +
                           " D=" + std::to_string(sizes.D) + "," + std::to_string(sizes.Dv) +
                           " C=" + get_option(config, "clusters-q") + "," + get_option(config, "clusters-k") +
                           " r=" + get_option(config, "retrieve");
  CAPTURE(what);
  const Inputs inputs = random_inputs<Element>(sizes, seed);
  Stages<Element> stages(inputs, config);
  const auto& plan = stages.plan;
  auto& w = stages.workspace;
  const Index HQ = static_cast<Index>(inputs.q.size()), HK = static_cast<Index>(inputs.k.size());
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_keys(plan, stages.tensors, w, false, nullptr));
  MUSE_CUDA_REQUIRE(muse::cuda::cluster_queries(plan, stages.tensors, w, false, nullptr));
  MUSE_CUDA_REQUIRE(muse::cuda::launch_query_tiles(plan, w, nullptr));
  MUSE_CUDA_REQUIRE(muse::cuda::launch_key_norms(plan, stages.tensors, w, nullptr));
  const auto labels_q = stages.get(w.labels_q, HQ * plan.levels * sizes.Nq);
  const auto key_order = stages.get(w.key_order, HK * plan.levels * sizes.Nk);
  const auto key_offsets = stages.get(w.key_offsets, HK * (plan.key_clusters + plan.blocks));
  const bool plain = config.order == Order::centroid, monopole = config.order == Order::monopole;
  const Matrix<double> k_bars = plain ? stages.get_rows(w.key_centroids, HK * plan.key_clusters, sizes.D)
                                      : Matrix<double>(),
                       v_bars = plain ? stages.get_rows(w.value_means, HK * plan.key_clusters, sizes.Dv)
                                      : Matrix<double>();

  for (std::int32_t m = 0; m < plan.levels; ++m) {
    const muse::cuda::Level& level = plan.level[m];
    const std::int32_t units = static_cast<std::int32_t>(HQ) * level.blocks, Cq = level.Cq, Ck = level.Ck;
    const muse::cuda::Chunk chunk{m, 0, units};
    // What a query has before: something, or, for every seventh, nothing.
    const Matrix<double> o_before =
        rounded<Element>(random_matrix<double>(HQ * sizes.Nq, sizes.Dv, seed + 7));
    std::vector<float> lse_before;
    for (Index x = 0; x < HQ * sizes.Nq; ++x)
      lse_before.push_back(x % 7 == 0 ? -std::numeric_limits<float>::infinity()
                                      : static_cast<float>(spread * std::sin(static_cast<double>(x * x))));
    stages.put(stages.tensors.o, packed<Element>({o_before}));
    stages.put(stages.tensors.lse, lse_before);
    MUSE_CUDA_REQUIRE(muse::cuda::launch_summaries(plan, stages.tensors, w, chunk, nullptr));
    MUSE_CUDA_REQUIRE(muse::cuda::launch_retrieval(plan, w, chunk, nullptr));
    MUSE_CUDA_REQUIRE(muse::cuda::launch_far_field(plan, stages.tensors, w, chunk, nullptr));
    const Index pairs = Index{units} * Cq * Ck;
    const auto bias = stages.get(w.bias, pairs);
    const auto retrieved = stages.get(w.retrieved, Index{units} * Cq * level.r);
    const Matrix<double> k_tilde = plain || monopole ? Matrix<double>()
                                                     : stages.get_rows(w.k_tilde, pairs, sizes.D),
                         v_tilde = plain ? Matrix<double>() : stages.get_rows(w.v_tilde, pairs, sizes.Dv);
    const bool has_spread = config.order == Order::dipole_spread;
    const auto spreads = has_spread ? stages.get(w.spread, pairs) : std::vector<float>();
    const Matrix<double> q_bars = stages.get_rows(w.query_centroids, HQ * plan.query_clusters, sizes.D);
    const bool acausal = config.mode == Mode::acausal;
    const Matrix<double> o = stages.get_rows(stages.tensors.o, HQ * sizes.Nq, sizes.Dv);
    const auto lse = stages.get(stages.tensors.lse, HQ * sizes.Nq);
    stages.check_sentinels();

    std::vector<RowVector<double>> found_rows, truth_rows, model_rows;
    std::vector<double> found_lse, truth_lse, model_lse;
    for (std::int32_t unit = 0; unit < units; ++unit) {
      const Index head = unit / level.blocks;
      const auto t = static_cast<std::int32_t>(unit % level.blocks);
      const auto kv = inputs.key_head(static_cast<std::size_t>(head));
      const muse::cuda::TokenSpan queries = block_tokens(plan, level, t, Side::queries),
                                  keys = block_tokens(plan, level, t, Side::keys);
      const auto first_key =
          static_cast<std::size_t>((static_cast<Index>(kv) * plan.levels + m) * sizes.Nk + keys.begin);
      const auto offset =
          static_cast<std::size_t>(first_offset(plan, level, static_cast<Index>(kv), t, Side::keys));
      const Index key_cluster = first_cluster(plan, level, static_cast<Index>(kv), t, Side::keys);
      for (Index n = queries.begin; n < queries.begin + queries.count; ++n) {
        const Index i = labels_q[static_cast<std::size_t>((head * plan.levels + m) * sizes.Nq + n)];
        REQUIRE(i >= 0);
        REQUIRE(i < Cq);
        const Index seen = unit * Index{Cq} + i;
        // The terms of this query: summaries that are not retrieved, then retrieved tokens.
        std::vector<RowVector<double>> term_keys, term_values;
        std::vector<double> term_bias;
        for (Index j = 0; j < Ck; ++j) {
          const double b = static_cast<double>(bias[static_cast<std::size_t>(seen * Ck + j)]);
          if (b == -std::numeric_limits<double>::infinity()) continue;
          term_keys.push_back(monopole ? RowVector<double>::Zero(sizes.D)
                              : plain  ? RowVector<double>(k_bars.row(key_cluster + j))
                                       : RowVector<double>(k_tilde.row(seen * Ck + j)));
          term_values.push_back(plain ? v_bars.row(key_cluster + j) : v_tilde.row(seen * Ck + j));
          term_bias.push_back(b);
          if (has_spread)
            term_bias.back() +=
                spread_logit(inputs.scale, inputs.q[static_cast<std::size_t>(head)].row(n),
                             q_bars.row(first_cluster(plan, level, head, t, Side::home) + i),
                             static_cast<double>(spreads[static_cast<std::size_t>(seen * Ck + j)]));
        }
        for (Index x = 0; x < level.r; ++x) {
          const std::int32_t j = retrieved[static_cast<std::size_t>(seen * level.r + x)];
          if (j < 0) break;
          for (auto p = static_cast<std::size_t>(key_offsets[offset + static_cast<std::size_t>(j)]);
               p < static_cast<std::size_t>(key_offsets[offset + static_cast<std::size_t>(j) + 1]); ++p) {
            const Index token = key_order[first_key + p];
            term_keys.push_back(inputs.k[kv].row(token));
            term_values.push_back(inputs.v[kv].row(token));
            term_bias.push_back(0);
          }
        }
        const auto terms = static_cast<Index>(term_bias.size());
        Matrix<double> values(terms, sizes.Dv);
        RowVector<double> logits(terms);
        for (Index x = 0; x < terms; ++x) {
          values.row(x) = term_values[static_cast<std::size_t>(x)];
          logits[x] = term_bias[static_cast<std::size_t>(x)] +
                      inputs.scale * inputs.q[static_cast<std::size_t>(head)].row(n).dot(
                                         term_keys[static_cast<std::size_t>(x)]);
        }
        const Index row = head * sizes.Nq + n;
        const auto merged = [&](const auto& round, double& lse_merged) {
          double lse_part = 0;
          const RowVector<double> part = attend_rounded(logits, values, lse_part, round);
          lse_merged = lse_part;
          if (acausal) return part;
          RowVector<double> sum = o_before.row(row);
          lse_merged = static_cast<double>(lse_before[static_cast<std::size_t>(row)]);
          softmax_merge_row(sum, lse_merged, part, lse_part);
          return sum;
        };
        double lse_truth = 0, lse_model = 0;
        truth_rows.push_back(merged(NoRounding(), lse_truth));
        model_rows.push_back(
            merged(ElementRounding<Element>(), lse_model).unaryExpr(ElementRounding<Element>()));
        truth_lse.push_back(lse_truth);
        model_lse.push_back(lse_model);
        found_rows.push_back(o.row(row));
        found_lse.push_back(static_cast<double>(lse[static_cast<std::size_t>(row)]));
      }
    }
    const auto attention = [&](const std::vector<RowVector<double>>& rows,
                               const std::vector<double>& values) {
      Attention<double> result(static_cast<Index>(rows.size()), sizes.Dv);
      for (std::size_t n = 0; n < rows.size(); ++n) {
        result.o.row(static_cast<Index>(n)) = rows[n];
        result.lse[static_cast<Index>(n)] = values[n];
      }
      return result;
    };
    check_working_precision<Element>(attention(found_rows, found_lse), attention(truth_rows, truth_lse),
                                     attention(model_rows, model_lse), what + " level " + std::to_string(m));
  }
}

template <class Element>
void check_types() {
  const Config causal =
      config_of({{"clusters-q", "9"}, {"clusters-k", "17"}, {"block", "100"}, {"retrieve", "3"}});
  const Config acausal =
      config_of({{"mode", "acausal"}, {"clusters-q", "20"}, {"clusters-k", "70"}, {"retrieve", "5"}});
  check_far<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, causal, 400);
  check_far<Element>({.Nq = 97, .Nk = 1025, .D = 64, .Dv = 64}, acausal, 401);
  check_far<Element>({.Nq = 1025, .Nk = 113, .D = 64, .Dv = 64}, acausal, 402);
  check_far<Element>({.Nq = 300, .Nk = 300, .D = 128, .Dv = 128, .batch = 2, .heads_q = 4, .heads_kv = 2},
                     causal, 403);
  check_far<Element>({.Nq = 97, .Nk = 113, .D = 96, .Dv = 32}, acausal, 404);
  check_far<Element>({.Nq = 97, .Nk = 113, .D = 32, .Dv = 256}, acausal, 405);
  check_far<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, causal, 409,
                     200);  // parts vanish beside others
  for (const char* r : {"0", "1000"}) {
    Config other = causal;
    set_option(other, "retrieve", r);
    check_far<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, other, 406);
  }
  for (const char* order : {"centroid", "monopole", "dipole_spread"}) {
    Config other = causal;
    set_option(other, "order", order);
    check_far<Element>({.Nq = 333, .Nk = 333, .D = 64, .Dv = 64}, other, 407);
  }
  Config spread_config = acausal;
  set_option(spread_config, "order", "dipole_spread");
  for (const Index D : {32, 40, 64, 96, 128})
    check_far<Element>({.Nq = 1025, .Nk = 500, .D = D, .Dv = D, .batch = 1, .heads_q = 2, .heads_kv = 1},
                       spread_config, 410 + static_cast<std::uint64_t>(D));
  const Config one =
      config_of({{"mode", "acausal"}, {"clusters-q", "1"}, {"clusters-k", "300"}, {"retrieve", "2"}});
  check_far<Element>({.Nq = 1025, .Nk = 1025, .D = 64, .Dv = 64}, one, 408);
}

}  // namespace

TEST_CASE("far field: float32") {
  MUSE_NEEDS_GPU();
  check_types<float>();
}
TEST_CASE("far field: float16") {
  MUSE_NEEDS_GPU();
  check_types<__half>();
}
TEST_CASE("far field: bfloat16") {
  MUSE_NEEDS_GPU();
  check_types<__nv_bfloat16>();
}
