// Every number of the worked example of docs/tour.md, against those that NumPy computed: example16.py,
// example16.json.
#include <fstream>
#include <nlohmann/json.hpp>

#include "example16.h"
#include "helpers.h"
#include "muse/error_metrics.h"
#include "muse/exact_attention.h"
#include "muse/far_field.h"
#include "muse/muse_attention.h"
#include "muse/retrieval.h"

using namespace muse;
using namespace muse::test;
using nlohmann::json;

namespace {

// The file has 6 decimals: half of the last one, and double's rounding.
constexpr double kTolerance = 0.5e-6 + 1e-12;

const json& worked() {
  static const json numbers = [] {
    std::ifstream file(MUSE_EXAMPLE16_JSON);
    REQUIRE(file.good());
    return json::parse(file);
  }();
  return numbers;
}

Rows rows(const json& numbers) {
  return numbers.get<Rows>();
}

Rows column(const json& numbers) {
  Rows result;
  for (const double number : numbers) result.push_back({number});
  return result;
}

template <class Labels>
std::vector<std::int32_t> list(const Labels& labels) {
  return {labels.begin(), labels.end()};
}

struct Example {
  Matrix<double> q = example16::q<double>(), k = example16::k<double>(), v = example16::v<double>();
  Config config = example16::config();
  double s = example16::kScale;
};

}  // namespace

TEST_CASE("the tour's inputs are those that NumPy worked") {
  const Example x;
  const json& inputs = worked().at("inputs");
  check_close(x.q, rows(inputs.at("q")), 0, "q");
  check_close(x.k, rows(inputs.at("k")), 0, "k");
  check_close(x.v, rows(inputs.at("v")), 0, "v");
  CHECK(inputs.at("scale") == x.s);
  CHECK(inputs.at("B") == x.config.block);
  CHECK(inputs.at("r") == x.config.retrieve.at(0));
  CHECK(inputs.at("passes") == x.config.passes);
  CHECK(inputs.at("C") == x.config.clusters_q.at(0)(x.config.block));
  CHECK(inputs.at("C") == x.config.clusters_k.at(0)(x.config.block));
}

TEST_CASE("the tour, step by step") {
  const Example x;
  const MuseResult<double> result = muse_attention<double>(x.q, x.k, x.v, x.s, x.config);
  const std::vector<Block> blocks = far_blocks(example16::N, x.config.block);
  REQUIRE(blocks.size() == worked().at("blocks").size());
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    const Block& block = blocks[b];
    const json& expected = worked().at("blocks")[b];
    CAPTURE(b);
    CHECK(expected.at("level") == block.level);
    CHECK(expected.at("query_begin") == block.query_begin);
    CHECK(expected.at("query_end") == block.query_end);
    CHECK(expected.at("key_begin") == block.key_begin);
    CHECK(expected.at("key_end") == block.key_end);
    // Clusters.
    const auto home = result.labels_q.at(block.level, block.key_begin, block.key_end);
    const auto queries = result.labels_q.at(block.level, block.query_begin, block.query_end);
    const auto of_keys = result.labels_k.at(block.level, block.key_begin, block.key_end);
    CHECK(expected.at("labels_home").get<std::vector<std::int32_t>>() == list(home));
    CHECK(expected.at("labels_q").get<std::vector<std::int32_t>>() == list(queries));
    CHECK(expected.at("labels_k").get<std::vector<std::int32_t>>() == list(of_keys));
    const BlockClusters<double> clusters =
        block_clusters<double>(x.q, x.k, block, result.labels_q, result.labels_k, x.config);
    check_close(clusters.home.centroids, rows(expected.at("q_bar")), kTolerance, "q_bar");
    // Stage 1.
    const SortedKeys<double> keys =
        sort_keys<double>(x.k.middleRows(block.key_begin, block.keys()),
                          x.v.middleRows(block.key_begin, block.keys()), clusters.keys);
    Summaries<double> summaries;
    tilted_summaries<double>(clusters.home.centroids, keys, x.s, summaries);
    check_close(summaries.L, rows(expected.at("L")), kTolerance, "L");
    Rows p(static_cast<std::size_t>(summaries.L.rows()), Row(static_cast<std::size_t>(block.keys())));
    for (Index i = 0; i < summaries.L.rows(); ++i)
      for (Index row = 0; row < block.keys(); ++row)
        p[static_cast<std::size_t>(i)][static_cast<std::size_t>(keys.tokens[static_cast<std::size_t>(row)])] =
            summaries.p(row, i);
    const Rows expected_p = rows(expected.at("p"));
    for (std::size_t i = 0; i < p.size(); ++i)
      for (std::size_t n = 0; n < p[i].size(); ++n) check_near(p[i][n], expected_p[i][n], kTolerance, "p");
    std::vector<std::vector<Index>> retrieved;
    for (Index i = 0; i < clusters.home.size(); ++i) {
      const auto row = static_cast<std::size_t>(i);
      check_close(summaries.k_tilde(i), rows(expected.at("k_tilde")[row]), kTolerance, "k_tilde");
      check_close(summaries.v_tilde(i), rows(expected.at("v_tilde")[row]), kTolerance, "v_tilde");
      // Retrieval.
      retrieved.push_back(largest_clusters<double>(summaries.L.row(i), x.config.retrieve.at(block.level)));
      CHECK(expected.at("retrieved")[row].get<std::vector<Index>>() == retrieved.back());
    }
    // Stage 2, query by query.
    OperationCounts operations;
    const Attention<double> part =
        far_attention<double>(x.q, x.k, x.v, block, clusters, x.s, x.config, operations);
    REQUIRE(static_cast<Index>(expected.at("queries").size()) == block.queries());
    for (Index n = 0; n < block.queries(); ++n) {
      const json& query = expected.at("queries")[static_cast<std::size_t>(n)];
      const Index i = queries[static_cast<std::size_t>(n)];
      const Matrix<double> q = x.q.row(block.query_begin + n), q_bar = clusters.home.centroids.row(i);
      CAPTURE(n);
      CHECK(query.at("token") == block.query_begin + n);
      CHECK(query.at("cluster") == i);
      check_close(Matrix<double>(q - q_bar), Rows{query.at("delta").get<Row>()}, kTolerance, "delta");
      std::vector<bool> far(static_cast<std::size_t>(keys.clusters()), true);
      for (const Index j : retrieved[static_cast<std::size_t>(i)]) far[static_cast<std::size_t>(j)] = false;
      for (Index j = 0; j < keys.clusters(); ++j) {
        // One cluster alone: its log-sum-exp is its log-mass.
        std::vector<bool> alone(static_cast<std::size_t>(keys.clusters()), false);
        alone[static_cast<std::size_t>(j)] = true;
        const Attention<double> of_cluster =
            far_field<double>(q, q_bar.row(0), keys, summaries, i, alone, x.s, x.config.order);
        check_near(of_cluster.lse[0], query.at("ell")[static_cast<std::size_t>(j)], kTolerance, "ell");
      }
      const Attention<double> far_part =
          far_field<double>(q, q_bar.row(0), keys, summaries, i, far, x.s, x.config.order);
      check_close(far_part.o, Rows{query.at("far_o").get<Row>()}, kTolerance, "far o");
      check_near(far_part.lse[0], query.at("far_lse"), kTolerance, "far lse");
      const Attention<double> near_part =
          attend_retrieved<double>(q, keys, retrieved[static_cast<std::size_t>(i)], x.s);
      check_close(near_part.o, Rows{query.at("retrieved_o").get<Row>()}, kTolerance, "retrieved o");
      check_near(near_part.lse[0], query.at("retrieved_lse"), kTolerance, "retrieved lse");
      check_close(part.o.row(n), Rows{query.at("o").get<Row>()}, kTolerance, "block o");
      check_near(part.lse[n], query.at("lse"), kTolerance, "block lse");
    }
  }
}

TEST_CASE("the tour's ends: the diagonal, the merged result, the truth, and the error") {
  const Example x;
  Attention<double> diagonal;
  MuseOptions<double> options;
  options.on_part = [&](const Block& block, const Attention<double>& part) {
    if (block.level == -1) diagonal = part;
  };
  const MuseResult<double> result = muse_attention<double>(x.q, x.k, x.v, x.s, x.config, options);
  const Attention<double> exact = exact_attention<double>(x.q, x.k, x.v, x.s, {.causal = true});
  const auto check = [&](const Attention<double>& found, const char* name) {
    CAPTURE(name);
    check_close(found.o, rows(worked().at(name).at("o")), kTolerance, "o");
    check_close(found.lse, column(worked().at(name).at("lse")), kTolerance, "lse");
  };
  check(diagonal, "diagonal");
  check(result.attention, "muse");
  check(exact, "exact");
  check_near(head_error(result.attention, exact).rel_sq_err, worked().at("rel_sq_err"), kTolerance, "error");
}
