#include "muse/muse_attention.h"

#include <map>
#include <set>
#include <tuple>

#include "helpers.h"
#include "muse/check.h"
#include "muse/exact_attention.h"

using namespace muse;
using namespace muse::test;

namespace {

ClusterRule clusters(std::int64_t C) {
  return {.divisor = 0, .low = C, .high = C};
}

Config make_config(Mode mode, Order order, std::int64_t Cq, std::int64_t Ck, std::int64_t r, std::int64_t B) {
  Config config;
  config.mode = mode;
  config.order = order;
  config.clusters_q.values = {clusters(Cq)};
  config.clusters_k.values = {clusters(Ck)};
  config.retrieve.values = {r};
  config.block = B;
  return config;
}

template <class Scalar>
struct Tensors {
  Matrix<Scalar> q, k, v;
  double scale;
};

template <class Scalar>
Tensors<Scalar> random_tensors(Index Nq, Index Nk, Index D, Index Dv, std::uint64_t seed) {
  return {clumped_matrix<Scalar>(Nq, D, 6, 0.6, seed), clumped_matrix<Scalar>(Nk, D, 6, 0.6, seed + 10),
          random_matrix<Scalar>(Nk, Dv, seed + 20),
          static_cast<double>(static_cast<Scalar>(1 / std::sqrt(static_cast<double>(D))))};
}

template <class Scalar>
MuseResult<Scalar> run(const Tensors<Scalar>& x, const Config& config,
                       const MuseOptions<Scalar>& options = {}) {
  return muse_attention<Scalar>(x.q, x.k, x.v, static_cast<Scalar>(x.scale), config, options);
}

template <class Scalar>
NaiveAttention exact(const Tensors<Scalar>& x, Mode mode) {
  return naive_attention(rows_of(x.q), rows_of(x.k), rows_of(x.v), x.scale,
                         [&](Index t, Index n) { return mode == Mode::acausal || n <= t; });
}

// A rectangle of the attention matrix that is approximated, found without causal_hierarchy: for query t at
// level m with S = B 2^m, half h = t / S; an odd h sees the half before it.
struct NaiveBlock {
  Index level, home_begin, home_end, key_begin, key_end;
};

std::vector<NaiveBlock> naive_blocks_of_query(Index t, Index Nq, Index Nk, const Config& config) {
  if (config.mode == Mode::acausal) return {{0, 0, Nq, 0, Nk}};
  std::vector<NaiveBlock> blocks;
  Index level = 0;
  for (Index S = config.block; S < Nq; S *= 2, ++level) {
    const Index h = t / S;
    if (h % 2 == 0) continue;
    const Index first = (h - 1) * S, second = h * S;
    if (config.mode == Mode::causal) {
      blocks.push_back({level, first, second, first, second});
    } else {
      blocks.push_back({level, second, std::min(second + S, Nq), first, second});
    }
  }
  return blocks;
}

struct NaiveMuse {
  Rows o;
  Row lse;
  OperationCounts operations;  // clustering is left out
};

// The whole method by plain loops, token by token, for given labels: one softmax over the tokens and
// summaries that a query sees.
template <class Scalar>
NaiveMuse naive_muse(const Tensors<Scalar>& x, const Config& config, const LevelLabels& labels_q,
                     const LevelLabels& labels_k) {
  const Rows q = rows_of(x.q), k = rows_of(x.k), v = rows_of(x.v);
  const auto Nq = static_cast<Index>(q.size()), Nk = static_cast<Index>(k.size());
  const double D = static_cast<double>(x.q.cols()), Dv = static_cast<double>(x.v.cols());
  const auto label = [](const LevelLabels& labels, Index level, Index n) {
    return labels.values[static_cast<std::size_t>(level * labels.tokens + n)];
  };
  struct Seen {  // what a query cluster sees
    Row q_bar;
    std::vector<std::vector<Index>> members;  // tokens of each key cluster
    std::vector<NaiveSummary> summaries;
    std::vector<bool> retrieved;
    bool has_queries = false;
  };
  std::map<std::tuple<Index, Index, Index>, Seen> memory;  // by level, first key, query cluster
  NaiveMuse out;
  for (Index t = 0; t < Nq; ++t) {
    std::vector<NaiveTerm> terms;
    // The diagonal block.
    if (config.mode != Mode::acausal) {
      for (Index n = t / config.block * config.block; n <= t; ++n) {
        terms.push_back({x.scale * dot(q[static_cast<std::size_t>(t)], k[static_cast<std::size_t>(n)]),
                         v[static_cast<std::size_t>(n)]});
        out.operations.local += 2 * (D + Dv);
      }
    }
    for (const NaiveBlock& block : naive_blocks_of_query(t, Nq, Nk, config)) {
      // What every centroid of the home would see of every key cluster.
      for (Index home = block.home_begin; home < block.home_end; ++home) {
        const Index i = label(labels_q, block.level, home);
        const auto [entry, is_new] = memory.try_emplace({block.level, block.key_begin, i});
        if (!is_new) continue;
        Seen& seen = entry->second;
        seen.q_bar = Row(q[0].size(), 0.0);
        double count = 0;
        for (Index n = block.home_begin; n < block.home_end; ++n) {
          if (label(labels_q, block.level, n) != i) continue;
          for (std::size_t d = 0; d < seen.q_bar.size(); ++d)
            seen.q_bar[d] += q[static_cast<std::size_t>(n)][d];
          ++count;
        }
        for (double& value : seen.q_bar) value /= count;
        for (Index n = block.key_begin; n < block.key_end; ++n) {
          const auto j = static_cast<std::size_t>(label(labels_k, block.level, n));
          if (j >= seen.members.size()) seen.members.resize(j + 1);
          seen.members[j].push_back(n);
        }
        Row rank;
        for (const auto& members : seen.members) {
          Rows k_j, v_j;
          for (const Index n : members) {
            k_j.push_back(k[static_cast<std::size_t>(n)]);
            v_j.push_back(v[static_cast<std::size_t>(n)]);
          }
          seen.summaries.push_back(naive_summary(seen.q_bar, k_j, v_j, x.scale));
          const NaiveSummary& summary = seen.summaries.back();
          rank.push_back(config.order == Order::centroid
                             ? std::log(summary.count) + x.scale * dot(seen.q_bar, summary.k_mean)
                             : summary.L);
        }
        seen.retrieved.assign(rank.size(), false);
        for (Index round = 0; round < config.retrieve.at(block.level); ++round) {
          std::size_t best = rank.size();
          for (std::size_t j = 0; j < rank.size(); ++j)
            if (!seen.members[j].empty() && !seen.retrieved[j] &&
                (best == rank.size() || rank[j] > rank[best]))
              best = j;
          if (best < rank.size()) seen.retrieved[best] = true;
        }
      }
      Seen& seen = memory.at({block.level, block.key_begin, label(labels_q, block.level, t)});
      for (std::size_t j = 0; j < seen.members.size(); ++j) {
        if (seen.members[j].empty()) continue;
        const auto n_j = static_cast<double>(seen.members[j].size());
        if (seen.retrieved[j]) {
          for (const Index n : seen.members[j])
            terms.push_back({x.scale * dot(q[static_cast<std::size_t>(t)], k[static_cast<std::size_t>(n)]),
                             v[static_cast<std::size_t>(n)]});
          out.operations.retrieval += 2 * (D + Dv) * n_j;
          continue;
        }
        terms.push_back(naive_far_term(q[static_cast<std::size_t>(t)], seen.q_bar, seen.summaries[j], x.scale,
                                       config.order));
        out.operations.far_field += 2 * (D + Dv);
        if (config.order == Order::dipole_value)
          out.operations.far_field += 2 * D * Dv * (seen.has_queries ? 1 : 1 + n_j);
      }
      // Summaries cost once for a centroid that some query uses, and nothing for the others.
      if (!seen.has_queries)
        out.operations.summaries +=
            config.order == Order::centroid
                ? 2 * D * static_cast<double>(seen.members.size())
                : 2 * (2 * D + Dv) * static_cast<double>(block.key_end - block.key_begin);
      seen.has_queries = true;
    }
    double lse = 0;
    out.o.push_back(naive_combine(terms, v[0].size(), lse));
    out.lse.push_back(lse);
  }
  return out;
}

// Bound of far_bound for whole tensors: no coordinate of q, q̄, k is above the largest.
template <class Scalar>
double bound(const Tensors<Scalar>& x, Order order) {
  const double D = static_cast<double>(x.q.cols());
  const double qmax = largest_abs(rows_of(x.q)), kmax = largest_abs(rows_of(x.k));
  const double A = x.scale * D * qmax * kmax;
  return far_bound<Scalar>(D, static_cast<double>(x.k.rows()), A, 2 * A, largest_abs(rows_of(x.v)), order);
}

template <class Scalar>
void check_equal(const Attention<Scalar>& found, const Rows& o, const Row& lse, double tolerance) {
  Rows lse_rows;
  for (const double L : lse) lse_rows.push_back({L});
  check_close(found.o, o, tolerance, "o");
  check_close(found.lse, lse_rows, tolerance, "lse");
}

constexpr Mode kModes[] = {Mode::acausal, Mode::causal, Mode::causal_shared};

}  // namespace

TEST_CASE(
    "equals the whole method by plain loops: five orders, three modes, r = 0, 1, 3, and counts its "
    "operations") {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 15, 16, 17, 53, 97}) {  // B - 1, B, B + 1 and primes
    const auto x = random_tensors<double>(N, N, 8, 5, 100 + static_cast<std::uint64_t>(N));
    for (const Mode mode : kModes) {
      for (const Order order : kOrders) {
        for (const Index r : {0, 1, 3}) {
          CAPTURE(N);
          CAPTURE(name_of(mode));
          CAPTURE(name_of(order));
          CAPTURE(r);
          const Config config = make_config(mode, order, 5, 7, r, 16);
          Config rule_clamped = config;  // C is at most S
          if (mode == Mode::acausal)
            rule_clamped.clusters_q.values =
                rule_clamped.clusters_k.values = {clusters(std::min<Index>(7, N))};
          const MuseResult<double> result = run(x, rule_clamped);
          const NaiveMuse naive = naive_muse(x, rule_clamped, result.labels_q, result.labels_k);
          check_equal(result.attention, naive.o, naive.lse, bound(x, order));
          CHECK(result.operations.local == naive.operations.local);
          CHECK(result.operations.summaries == naive.operations.summaries);
          CHECK(result.operations.far_field == naive.operations.far_field);
          CHECK(result.operations.retrieval == naive.operations.retrieval);
          CHECK(result.operations.total() == result.operations.clustering + naive.operations.total());
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("labels from outside: any that fit are taken, and equal plain loops", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const Index N = 61, B = 8;
  const auto x = random_tensors<Scalar>(N, N, 8, 8, 200);
  for (const Mode mode : kModes) {
    for (const Order order : kOrders) {
      for (const Index r : {0, 2}) {
        const Config config = make_config(mode, order, 4, 6, r, B);
        const Index levels = mode == Mode::acausal ? 1 : level_count(N, B);
        LevelLabels labels_q(levels, N), labels_k(levels, N);
        // Labels that no clustering made; those of queries repeat every 4 tokens, so that each has a home;
        // clusters 1 and 4 of the keys stay empty.
        for (Index level = 0; level < levels; ++level) {
          for (Index n = 0; n < N; ++n) {
            labels_q.at(level, n, n + 1)[0] = static_cast<std::int32_t>((n + level) % 4);
            const auto j = static_cast<std::int32_t>(n * n % 6);
            labels_k.at(level, n, n + 1)[0] = j == 1 ? 0 : j == 4 ? 5 : j;
          }
        }
        const MuseOptions<Scalar> options{
            .labels_q = &labels_q, .labels_k = &labels_k, .on_part = {}, .progress = nullptr};
        const MuseResult<Scalar> result = run(x, config, options);
        CHECK(result.labels_q.values == labels_q.values);
        CHECK(result.labels_k.values == labels_k.values);
        CHECK(result.operations.clustering == 0);
        CAPTURE(name_of(mode));
        CAPTURE(name_of(order));
        CAPTURE(r);
        const NaiveMuse naive = naive_muse(x, config, labels_q, labels_k);
        check_equal(result.attention, naive.o, naive.lse, bound(x, order));
      }
    }
  }
}

TEST_CASE_TEMPLATE("more query clusters and key clusters than are worked on at a time", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<Scalar>(280, 280, 8, 5, 250);
  for (const Mode mode : kModes) {
    for (const Order order : kOrders) {
      CAPTURE(name_of(mode));
      CAPTURE(name_of(order));
      const Config config = make_config(mode, order, 37, 133, 3, 140);
      const MuseResult<Scalar> result = run(x, config);
      const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
      check_equal(result.attention, naive.o, naive.lse, bound(x, order));
      CHECK(result.operations.summaries == naive.operations.summaries);
      CHECK(result.operations.far_field == naive.operations.far_field);
    }
  }
}

TEST_CASE("each level has its own C and r") {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<double>(97, 97, 8, 5, 300);
  for (const Mode mode : {Mode::causal, Mode::causal_shared}) {
    Config config = make_config(mode, Order::dipole, 1, 1, 0, 8);
    config.clusters_q.values = {clusters(2), clusters(3), clusters(6)};
    config.clusters_k.values = {clusters(8), {.divisor = 4, .low = 1, .high = 100}, clusters(5)};
    config.retrieve.values = {0, 1, 3, 2};
    const MuseResult<double> result = run(x, config);
    const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
    check_equal(result.attention, naive.o, naive.lse, bound(x, Order::dipole));
    for (Index level = 0; level < 4; ++level) {
      const auto largest = [&](const LevelLabels& labels) {
        const auto row = labels.at(level, 0, 97);
        return *std::max_element(row.begin(), row.end());
      };
      CAPTURE(level);
      CHECK(largest(result.labels_q) < (level == 0 ? 2 : level == 1 ? 3 : 6));
      CHECK(largest(result.labels_k) == (level == 0 ? 8 : level == 1 ? 4 : 5) - 1);
    }
  }
}

TEST_CASE("acausal with another number of keys than of queries, values of another dim, any scale") {
  MUSE_SHOW_SEED();
  for (const Index Nq : {1, 7, 40}) {
    for (const Index Nk : {1, 9, 70}) {
      for (const double scale : {0.05, 0.7}) {
        for (const Order order : kOrders) {
          auto x = random_tensors<double>(Nq, Nk, 17, 3, 400);
          x.scale = scale;
          const Config config = make_config(Mode::acausal, order, 4, 6, 1, 16);
          const MuseResult<double> result = run(x, config);
          const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
          CAPTURE(Nq);
          CAPTURE(Nk);
          check_equal(result.attention, naive.o, naive.lse, bound(x, order));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("one cluster a token: exact", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 8, 9, 40, 61}) {
    const auto x = random_tensors<Scalar>(N, N, 8, 5, 500);
    for (const Mode mode : kModes) {
      for (const Order order : kOrders) {
        // Strictly causal, q is not its own centroid: the monopole stays inexact.
        if (mode == Mode::causal && order == Order::monopole) continue;
        CAPTURE(N);
        CAPTURE(name_of(mode));
        CAPTURE(name_of(order));
        const NaiveAttention truth = exact(x, mode);
        check_equal(run(x, make_config(mode, order, 1000, 1000, 0, 8)).attention, truth.o, truth.lse,
                    bound(x, order));
      }
    }
  }
  const auto x = random_tensors<Scalar>(40, 40, 8, 5, 500);
  const Attention<Scalar> monopole =
      run(x, make_config(Mode::causal, Order::monopole, 1000, 1000, 0, 8)).attention;
  CHECK(difference(monopole.o, exact(x, Mode::causal).o).rel_l2 >= 1e-2);
}

TEST_CASE_TEMPLATE("every cluster retrieved: exact, and the empty far part merges without NaN", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Index N : {1, 9, 61}) {
    const auto x = random_tensors<Scalar>(N, N, 8, 5, 600);
    for (const Mode mode : kModes) {
      for (const Order order : kOrders) {
        for (const Index r : {7, 1000}) {
          CAPTURE(N);
          CAPTURE(name_of(mode));
          CAPTURE(name_of(order));
          CAPTURE(r);
          const MuseResult<Scalar> result = run(x, make_config(mode, order, 3, 7, r, 8));
          const NaiveAttention truth = exact(x, mode);
          check_equal(result.attention, truth.o, truth.lse, bound(x, Order::dipole));
          CHECK(result.operations.far_field == 0);
        }
      }
    }
  }
}

TEST_CASE(
    "the dipole's log-sum-exp is never above the exact one, and rises to it as clusters are retrieved") {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<double>(61, 61, 8, 5, 650);
  const double rounding = bound(x, Order::dipole);
  for (const Mode mode : kModes) {
    const NaiveAttention truth = exact(x, mode);
    Row below(61, -std::numeric_limits<double>::infinity());
    for (Index r = 0; r <= 7; ++r) {
      const Attention<double> found = run(x, make_config(mode, Order::dipole, 3, 7, r, 8)).attention;
      double largest_gap = 0;
      for (std::size_t t = 0; t < 61; ++t) {
        const double lse = found.lse[static_cast<Index>(t)];
        CHECK(lse <= truth.lse[t] + rounding);
        CHECK(lse >= below[t] - rounding);
        below[t] = lse;
        largest_gap = std::max(largest_gap, truth.lse[t] - lse);
      }
      CAPTURE(name_of(mode));
      CAPTURE(r);
      if (r == 0) CHECK(largest_gap >= 1e-2);  // something is missing at first
      if (r == 7) CHECK(largest_gap <= rounding);
    }
  }
}

TEST_CASE_TEMPLATE("duplicate tokens, so that most clusters are empty, and logits of ten thousand", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  auto x = random_tensors<Scalar>(61, 61, 8, 5, 700);
  for (Index n = 5; n < 61; ++n) {
    x.q.row(n) = x.q.row(n % 5);
    x.k.row(n) = x.k.row(n % 5);
  }
  auto large = random_tensors<Scalar>(61, 61, 8, 5, 710);
  large.q *= Scalar(60);
  large.k *= Scalar(60);
  for (const Mode mode : kModes) {
    for (const Order order : kOrders) {
      for (const Index r : {0, 2, 100}) {
        const Config config = make_config(mode, order, 20, 30, r, 8);
        for (const auto* tensors : {&x, &large}) {
          const MuseResult<Scalar> result = run(*tensors, config);
          CAPTURE(name_of(mode));
          CAPTURE(name_of(order));
          CAPTURE(r);
          CHECK(result.attention.o.allFinite());
          CHECK(result.attention.lse.allFinite());
        }
        // Keys of a cluster coincide.
        if (order == Order::monopole) continue;
        const NaiveAttention truth = exact(x, mode);
        check_equal(run(x, config).attention, truth.o, truth.lse, bound(x, order));
      }
    }
  }
}

TEST_CASE(
    "strictly causal: an empty cluster of the past is no candidate, even for a query that sits on its "
    "centroid") {
  MUSE_SHOW_SEED();
  // The past has two distinct queries, far from zero, for six clusters; an empty cluster's mean is zero, and
  // so is every later query but for a little.
  auto x = random_tensors<double>(32, 32, 8, 5, 750);
  for (Index n = 0; n < 16; ++n) x.q.row(n).setConstant(n % 2 == 0 ? 5 : -4);
  x.q.bottomRows(16) *= 0.01;
  const Config config = make_config(Mode::causal, Order::dipole, 6, 6, 1, 16);
  const MuseResult<double> result = run(x, config);
  const auto home = result.labels_q.at(0, 0, 16), queries = result.labels_q.at(0, 16, 32);
  for (const std::int32_t label : queries) CHECK(label == home[1]);  // -4 is nearer than 5
  const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
  check_equal(result.attention, naive.o, naive.lse, bound(x, Order::dipole));
}

TEST_CASE("acausal: permuting tokens and labels together permutes the outputs") {
  MUSE_SHOW_SEED();
  const Index N = 50;
  const auto x = random_tensors<double>(N, N, 8, 5, 800);
  std::vector<Index> to(static_cast<std::size_t>(N));
  for (Index n = 0; n < N; ++n) to[static_cast<std::size_t>(n)] = n;
  std::shuffle(to.begin(), to.end(), std::mt19937_64(base_seed()));
  for (const Order order : kOrders) {
    const Config config = make_config(Mode::acausal, order, 6, 9, 2, 16);
    const MuseResult<double> before = run(x, config);
    Tensors<double> y = x;
    LevelLabels labels_q(1, N), labels_k(1, N);
    Rows o(static_cast<std::size_t>(N));
    Row lse(static_cast<std::size_t>(N));
    for (std::size_t n = 0; n < to.size(); ++n) {
      y.q.row(to[n]) = x.q.row(static_cast<Index>(n));
      y.k.row(to[n]) = x.k.row(static_cast<Index>(n));
      y.v.row(to[n]) = x.v.row(static_cast<Index>(n));
      labels_q.values[static_cast<std::size_t>(to[n])] = before.labels_q.values[n];
      labels_k.values[static_cast<std::size_t>(to[n])] = before.labels_k.values[n];
      o[static_cast<std::size_t>(to[n])] = rows_of(before.attention.o)[n];
      lse[static_cast<std::size_t>(to[n])] = before.attention.lse[static_cast<Index>(n)];
    }
    const MuseOptions<double> options{
        .labels_q = &labels_q, .labels_k = &labels_k, .on_part = {}, .progress = nullptr};
    check_equal(run(y, config, options).attention, o, lse, 2 * bound(x, order));
  }
}

TEST_CASE("adding one vector to all keys changes no output, linear in v, constant values come back") {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<double>(61, 61, 8, 5, 900);
  for (const Mode mode : kModes) {
    for (const Order order : kOrders) {
      CAPTURE(name_of(mode));
      CAPTURE(name_of(order));
      const Config config = make_config(mode, order, 5, 6, 1, 8);
      const MuseResult<double> before = run(x, config);
      // Clusters depend on q and k only, and move with the keys: the same labels.
      const MuseOptions<double> same{
          .labels_q = &before.labels_q, .labels_k = &before.labels_k, .on_part = {}, .progress = nullptr};
      auto moved = x;
      const Matrix<double> c = random_matrix<double>(1, 8, 901);
      moved.k.rowwise() += c.row(0);
      const MuseResult<double> after = run(moved, config, same);
      // A monopole's mass is shifted by s q̄·c while a token's is by s q·c: only the other orders are
      // invariant once they meet tokens.
      if (order != Order::monopole) {
        Row lse;
        for (Index t = 0; t < 61; ++t)
          lse.push_back(before.attention.lse[t] +
                        x.scale * dot(rows_of(x.q)[static_cast<std::size_t>(t)], rows_of(c)[0]));
        check_equal(after.attention, rows_of(before.attention.o), lse, bound(x, order) + bound(moved, order));
      }
      auto other = x, sum = x, constant = x;
      other.v = random_matrix<double>(61, 5, 902);
      sum.v = 2 * x.v - 3 * other.v;
      constant.v.rowwise() = x.v.row(0).eval();
      const MuseResult<double> of_sum = run(sum, config), of_other = run(other, config);
      CHECK(same_bits(of_sum.attention.lse, before.attention.lse));
      check_close(of_sum.attention.o, Matrix<double>(2 * before.attention.o - 3 * of_other.attention.o),
                  6 * (bound(x, order) + bound(other, order)), "linear");
      const Matrix<double> expected = x.v.row(0).replicate(61, 1);
      check_close(run(constant, config).attention.o, expected, bound(constant, order), "constant");
    }
  }
}

TEST_CASE_TEMPLATE("any number of threads gives the same bits, labels and counts", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<Scalar>(301, 301, 17, 9, 1000);
  for (const Mode mode : kModes) {
    for (const Order order : kOrders) {
      for (const Metric metric : {Metric::euclidean, Metric::key_covariance}) {
        Config config = make_config(mode, order, 12, 14, 2, 32);
        config.metric = metric;
        const auto with = [&](int count) {
          const Threads threads(count);
          return run(x, config);
        };
        const MuseResult<Scalar> one = with(1);
        for (const int count : {2, 3}) {
          const MuseResult<Scalar> many = with(count);
          CHECK(same_bits(one.attention, many.attention));
          CHECK(one.labels_q.values == many.labels_q.values);
          CHECK(one.labels_k.values == many.labels_k.values);
          CHECK(one.operations.total() == many.operations.total());
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("labels given back reproduce the result bit by bit", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<Scalar>(125, 125, 8, 5, 1100);
  for (const Mode mode : kModes) {
    for (const ClusterBy by : {ClusterBy::kmeans, ClusterBy::balanced, ClusterBy::spatial}) {
      Config config = make_config(mode, Order::dipole, 6, 9, 1, 16);
      config.cluster_by = by;
      const MuseResult<Scalar> first = run(x, config);
      const MuseOptions<Scalar> options{
          .labels_q = &first.labels_q, .labels_k = &first.labels_k, .on_part = {}, .progress = nullptr};
      const MuseResult<Scalar> second = run(x, config, options);
      CHECK(same_bits(first.attention, second.attention));
      CHECK(second.operations.clustering == 0);
      CHECK(first.operations.clustering > (by == ClusterBy::spatial && mode != Mode::causal ? -1 : 0));
    }
  }
}

TEST_CASE("parts: the diagonal first, then each block with its own queries, they merge to the result") {
  MUSE_SHOW_SEED();
  const auto x = random_tensors<double>(97, 97, 8, 5, 1200);
  for (const Mode mode : kModes) {
    const Config config = make_config(mode, Order::dipole, 5, 6, 1, 16);
    std::vector<Block> blocks;
    std::vector<std::vector<NaiveTerm>> terms(97);
    MuseOptions<double> options;
    options.on_part = [&](const Block& block, const Attention<double>& part) {
      blocks.push_back(block);
      REQUIRE(part.o.rows() == block.queries());
      for (Index row = 0; row < block.queries(); ++row)
        terms[static_cast<std::size_t>(block.query_begin + row)].push_back(
            {part.lse[row], rows_of(part.o)[static_cast<std::size_t>(row)]});
    };
    const MuseResult<double> result = run(x, config, options);
    Rows o;
    Row lse(97);
    for (std::size_t t = 0; t < 97; ++t) o.push_back(naive_combine(terms[t], 5, lse[t]));
    check_equal(result.attention, o, lse, bound(x, Order::dipole));

    std::vector<Block> expected = approximated_blocks(97, 97, config);
    if (mode != Mode::acausal) expected.insert(expected.begin(), Block{-1, 0, 97, 0, 97});
    CHECK(blocks == expected);
    if (mode == Mode::acausal) CHECK(expected == std::vector<Block>{Block{0, 0, 97, 0, 97}});
  }
}

namespace {

// x mapped by the square root of the keys' covariance, by plain loops from there on.
Rows mapped(const Rows& x, const Matrix<double>& keys, Metric metric) {
  if (metric == Metric::euclidean) return x;
  const Rows root = rows_of(key_covariance_root<double>(keys));
  Rows out;
  for (const Row& row : x) {
    out.emplace_back(row.size(), 0.0);
    for (std::size_t a = 0; a < row.size(); ++a)
      for (std::size_t b = 0; b < row.size(); ++b) out.back()[b] += row[a] * root[a][b];
  }
  return out;
}

Matrix<double> matrix_of(const Rows& rows) {
  Matrix<double> matrix(static_cast<Index>(rows.size()), static_cast<Index>(rows[0].size()));
  for (std::size_t row = 0; row < rows.size(); ++row)
    for (std::size_t col = 0; col < rows[row].size(); ++col)
      matrix(static_cast<Index>(row), static_cast<Index>(col)) = rows[row][col];
  return matrix;
}

}  // namespace

TEST_CASE(
    "clusters made afresh: keys of each first half, queries of each home, strictly causal, queries go to the "
    "nearest centroid of the past") {
  MUSE_SHOW_SEED();
  const Index N = 77, B = 8;
  const auto x = random_tensors<double>(N, N, 8, 5, 1300);
  const Rows q = rows_of(x.q);
  for (const Mode mode : {Mode::causal, Mode::causal_shared}) {
    for (const ClusterBy by : {ClusterBy::kmeans, ClusterBy::balanced, ClusterBy::spatial}) {
      for (const Metric metric : {Metric::euclidean, Metric::key_covariance}) {
        Config config = make_config(mode, Order::dipole, 5, 6, 0, B);
        config.cluster_by = by;
        config.metric = metric;
        config.passes = 2;
        const LevelLabels labels_k = cluster_keys<double>(x.k, N, config);
        const LevelLabels labels_q = cluster_queries<double>(x.q, x.k, config);
        LevelLabels expected_k(level_count(N, B), N), expected_q = expected_k;
        for (const Block& block : far_blocks(N, B)) {
          const auto put = [&](LevelLabels& labels, Index begin, const Labels& values) {
            for (std::size_t n = 0; n < values.size(); ++n)
              labels.at(block.level, begin + static_cast<Index>(n), begin + static_cast<Index>(n) + 1)[0] =
                  values[n];
          };
          const Matrix<double> keys = x.k.middleRows(block.key_begin, block.keys());
          put(expected_k, block.key_begin, cluster_tokens<double>(keys, 6, config));
          const Index home_begin = mode == Mode::causal ? block.key_begin : block.query_begin;
          const Index home_end = mode == Mode::causal ? block.key_end : block.query_end;
          const Rows home = mapped(Rows(q.begin() + home_begin, q.begin() + home_end), keys, metric);
          const Index C = std::min<Index>(5, home_end - home_begin);
          const Labels home_labels = cluster_tokens<double>(matrix_of(home), C, config);
          put(expected_q, home_begin, home_labels);
          if (mode != Mode::causal) continue;
          Labels assigned;
          for (Index t = block.query_begin; t < block.query_end; ++t) {
            const Row query = mapped({q[static_cast<std::size_t>(t)]}, keys, metric)[0];
            double best = 0;
            std::int32_t best_cluster = -1;
            for (std::int32_t c = 0; c < C; ++c) {
              Row mean(query.size(), 0.0);
              double count = 0, distance = 0;
              for (std::size_t n = 0; n < home.size(); ++n) {
                if (home_labels[n] != c) continue;
                for (std::size_t d = 0; d < mean.size(); ++d) mean[d] += home[n][d];
                ++count;
              }
              if (count == 0) continue;
              for (std::size_t d = 0; d < mean.size(); ++d)
                distance += (query[d] - mean[d] / count) * (query[d] - mean[d] / count);
              if (best_cluster < 0 || distance < best) {
                best = distance;
                best_cluster = c;
              }
            }
            assigned.push_back(best_cluster);
          }
          put(expected_q, block.query_begin, assigned);
        }
        CAPTURE(name_of(mode));
        CAPTURE(name_of(by));
        CAPTURE(name_of(metric));
        CHECK(labels_k.values == expected_k.values);
        CHECK(labels_q.values == expected_q.values);
      }
    }
  }
}

TEST_CASE("operations of clustering: T passes and an assignment, one more in strictly causal mode") {
  const Index N = 61, D = 8, B = 8;
  const auto x = random_tensors<double>(N, N, D, 5, 1400);
  for (const Mode mode : kModes) {
    for (const std::int64_t passes : {0, 1, 3}) {
      Config config = make_config(mode, Order::dipole, 5, 6, 0, B);
      config.passes = passes;
      const auto pass_cost = [&](Index tokens, Index C) { return 2.0 * static_cast<double>(tokens * C * D); };
      const auto T = static_cast<double>(passes);
      double expected = 0;
      if (mode == Mode::acausal) {
        expected = (T + 1) * (pass_cost(N, 5) + pass_cost(N, 6));
      } else {
        for (Index S = B; S < N; S *= 2) {
          for (Index second = S; second < N; second += 2 * S) {
            const Index queries = std::min(S, N - second);
            expected += (T + 1) * pass_cost(S, 6);
            if (mode == Mode::causal) {
              expected += (T + 1) * pass_cost(S, 5) + pass_cost(queries, 5);
            } else {
              expected += (T + 1) * pass_cost(queries, std::min<Index>(5, queries));
            }
          }
        }
      }
      CAPTURE(name_of(mode));
      CAPTURE(passes);
      CHECK(run(x, config).operations.clustering == expected);
    }
  }
}

TEST_CASE(
    "windows: a span's clusters are unions of its windows' clusters, below the window, clusters are made "
    "afresh") {
  MUSE_SHOW_SEED();
  const Index N = 157, B = 8;
  const auto x = random_tensors<double>(N, N, 8, 5, 1500);
  for (const Mode mode : kModes) {
    for (const std::int64_t window : {8, 16, 20, 32, 64}) {
      Config config = make_config(mode, Order::dipole, 5, 6, 1, B);
      config.cluster_window = window;
      config.passes = 2;
      // Causal windows are the largest B 2^m that is not above the option's value.
      Index W = window;
      if (mode != Mode::acausal)
        for (W = B; 2 * W <= window;) W *= 2;
      Config fresh = config;
      fresh.cluster_window = 0;
      const LevelLabels labels = cluster_keys<double>(x.k, N, config),
                        afresh = cluster_keys<double>(x.k, N, fresh);
      const Rows k = rows_of(x.k);
      CAPTURE(name_of(mode));
      CAPTURE(window);
      // 2 operations a token, cluster and dim in each of T passes and the final assignment: of every window,
      // of every span below the window, and of the centroids of every span that has more of them than it may.
      double operations = 0;
      const auto count = [&](auto tokens, auto C) {
        operations += 2.0 * (2 + 1) * static_cast<double>(tokens * C) * 8;
      };
      for (Index begin = 0; begin < N; begin += W)
        count(std::min(W, N - begin), std::min<Index>(6, std::min(W, N - begin)));
      for (const Block& block : approximated_blocks(N, N, config)) {
        CAPTURE(block.level);
        CAPTURE(block.key_begin);
        const auto found = labels.at(block.level, block.key_begin, block.key_end);
        if (mode != Mode::acausal && block.keys() < W) {
          const auto expected = afresh.at(block.level, block.key_begin, block.key_end);
          CHECK(std::equal(found.begin(), found.end(), expected.begin()));
          count(block.keys(), Index{6});
          continue;
        }
        // Clusters of the windows, each made from its tokens alone.
        Labels united;
        Rows centroids;
        Row weights;
        for (Index begin = block.key_begin; begin < block.key_end; begin += W) {
          const Index size = std::min(W, block.key_end - begin);
          const Matrix<double> tokens = x.k.middleRows(begin, size);
          const Index C = std::min<Index>(6, size);
          const Labels in_window = cluster_tokens<double>(tokens, C, config);
          std::map<std::int32_t, std::int32_t> number;  // non-empty ones, numbered on
          for (std::int32_t c = 0; c < C; ++c) {
            Row mean(8, 0.0);
            double count = 0;
            for (Index n = 0; n < size; ++n) {
              if (in_window[static_cast<std::size_t>(n)] != c) continue;
              for (std::size_t d = 0; d < 8; ++d) mean[d] += k[static_cast<std::size_t>(begin + n)][d];
              ++count;
            }
            if (count == 0) continue;
            for (double& value : mean) value /= count;
            number[c] = static_cast<std::int32_t>(centroids.size());
            centroids.push_back(mean);
            weights.push_back(count);
          }
          for (const std::int32_t label : in_window) united.push_back(number.at(label));
        }
        REQUIRE(united.size() == found.size());
        // Every cluster of a window keeps its tokens together.
        std::map<std::int32_t, std::int32_t> merged;
        bool together = true;
        for (std::size_t n = 0; n < united.size(); ++n)
          together = together && merged.try_emplace(united[n], found[n]).first->second == found[n];
        CHECK(together);
        std::set<std::int32_t> used(found.begin(), found.end());
        CHECK(*used.rbegin() < std::max<Index>(6, 1));
        if (centroids.size() <= 6) {
          CHECK(used.size() == centroids.size());
          continue;
        }
        // Merged by a k-means over the centroids, weighted by size.
        const std::size_t M = centroids.size(), C = 6;
        count(M, C);
        Rows means;
        for (std::size_t c = 0; c < C; ++c) means.push_back(centroids[c * M / C + M / (2 * C)]);
        Labels expected(M);
        for (Index pass = 0; pass <= 2; ++pass) {
          for (std::size_t m = 0; m < M; ++m) {
            double best = std::numeric_limits<double>::infinity();
            for (std::size_t c = 0; c < C; ++c) {
              double distance = 0;
              for (std::size_t d = 0; d < 8; ++d)
                distance += (centroids[m][d] - means[c][d]) * (centroids[m][d] - means[c][d]);
              if (distance < best) {
                best = distance;
                expected[m] = static_cast<std::int32_t>(c);
              }
            }
          }
          for (std::size_t c = 0; c < C && pass < 2; ++c) {
            Row sum(8, 0.0);
            double weight = 0;
            for (std::size_t m = 0; m < M; ++m) {
              if (expected[m] != static_cast<std::int32_t>(c)) continue;
              for (std::size_t d = 0; d < 8; ++d) sum[d] += weights[m] * centroids[m][d];
              weight += weights[m];
            }
            for (std::size_t d = 0; weight > 0 && d < 8; ++d) means[c][d] = sum[d] / weight;
          }
        }
        Index wrong = 0;
        for (std::size_t n = 0; n < united.size(); ++n)
          wrong += found[n] == expected[static_cast<std::size_t>(united[n])] ? 0 : 1;
        CHECK(wrong == 0);
      }
      CHECK(labels.operations == operations);
      // And the result with them is what plain loops make of these labels.
      const MuseResult<double> result = run(x, config);
      CHECK(result.labels_k.values == labels.values);
      const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
      check_equal(result.attention, naive.o, naive.lse, bound(x, Order::dipole));
      CHECK(result.operations.clustering > 0);
    }
  }
}

TEST_CASE("windows of queries: the home's clusters are unions of windows, in either metric") {
  MUSE_SHOW_SEED();
  const Index N = 157, B = 8, W = 16;
  const auto x = random_tensors<double>(N, N, 8, 5, 1600);
  for (const Metric metric : {Metric::euclidean, Metric::key_covariance}) {
    Config config = make_config(Mode::causal, Order::dipole, 5, 6, 1, B);
    config.cluster_window = W;
    config.metric = metric;
    const LevelLabels labels = cluster_queries<double>(x.q, x.k, config);
    for (const Block& block : far_blocks(N, B)) {
      if (block.keys() < W) continue;
      for (Index begin = block.key_begin; begin < block.key_end; begin += W) {
        const Rows keys = rows_of(x.k.middleRows(begin, W));
        const Rows window = mapped(rows_of(x.q.middleRows(begin, W)), matrix_of(keys), metric);
        const Labels in_window = cluster_tokens<double>(matrix_of(window), 5, config);
        std::map<std::int32_t, std::int32_t> merged;
        bool together = true;
        const auto found = labels.at(block.level, begin, begin + W);
        for (std::size_t n = 0; n < found.size(); ++n)
          together = together && merged.try_emplace(in_window[n], found[n]).first->second == found[n];
        CHECK(together);
      }
    }
    const MuseResult<double> result = run(x, config);
    const NaiveMuse naive = naive_muse(x, config, result.labels_q, result.labels_k);
    check_equal(result.attention, naive.o, naive.lse, bound(x, Order::dipole));
  }
}

TEST_CASE("what does not fit is refused, cancelling throws") {
  const auto x = random_tensors<float>(40, 40, 8, 5, 1700);
  const Config config = make_config(Mode::causal, Order::dipole, 4, 4, 0, 8);
  const MuseResult<float> result = run(x, config);
  const auto attempt = [&](const LevelLabels& labels_q, const LevelLabels& labels_k) {
    const MuseOptions<float> options{
        .labels_q = &labels_q, .labels_k = &labels_k, .on_part = {}, .progress = nullptr};
    static_cast<void>(run(x, config, options));
  };
  CHECK_NOTHROW(attempt(result.labels_q, result.labels_k));
  CHECK_THROWS_AS(attempt(LevelLabels(2, 40), result.labels_k), MisfitError);
  CHECK_THROWS_AS(attempt(result.labels_q, LevelLabels(3, 39)), MisfitError);
  // A query in a cluster without a centroid, a label below zero, a key without a cluster.
  LevelLabels labels = result.labels_q;
  labels.at(0, 8, 9)[0] = 99;
  CHECK_THROWS_AS(attempt(labels, result.labels_k), MisfitError);
  labels.at(0, 8, 9)[0] = -1;
  CHECK_THROWS_AS(attempt(labels, result.labels_k), MisfitError);
  labels = result.labels_k;
  labels.at(0, 0, 1)[0] = -1;
  CHECK_THROWS_AS(attempt(result.labels_q, labels), MisfitError);

  auto fewer_keys = x;
  fewer_keys.k = x.k.topRows(39);
  CHECK_THROWS_AS(static_cast<void>(run(fewer_keys, config)), MisfitError);
  fewer_keys.v = x.v.topRows(39);
  CHECK_THROWS_AS(static_cast<void>(run(fewer_keys, config)), MisfitError);
  CHECK_NOTHROW(static_cast<void>(run(fewer_keys, make_config(Mode::acausal, Order::dipole, 4, 4, 0, 8))));
  auto narrow = x;
  narrow.k = x.k.leftCols(7);
  CHECK_THROWS_AS(static_cast<void>(run(narrow, config)), MisfitError);
  const Tensors<float> none{Matrix<float>(0, 8), Matrix<float>(0, 8), Matrix<float>(0, 5), 1.0};
  CHECK_THROWS_AS(static_cast<void>(run(none, config)), MisfitError);

  Progress progress;
  progress.cancel = true;
  MuseOptions<float> options;
  options.progress = &progress;
  CHECK_THROWS_AS(static_cast<void>(run(x, config, options)), Cancelled);
}
