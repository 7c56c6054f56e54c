#include "model/query_profile.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "model/key_weights.h"
#include "muse/check.h"

namespace muse::viewer {
namespace {

// All, as they are shown.
constexpr Order kOrders[] = {Order::centroid, Order::monopole, Order::dipole, Order::dipole_value,
                             Order::dipole_spread};

// e^{s q·k_n - L} for the keys [0, keys), and L itself.
std::vector<double> exact_weights(const Head<double>& head, Index t, Index keys, double& L) {
  RowVector<double> weights = head.scale * (head.k.topRows(keys) * head.q.row(t).transpose()).transpose();
  L = softmax_row<double>(weights);
  return {weights.data(), weights.data() + weights.size()};
}

// Divides by the weights' sum, and compares their output with the exact one.
void normalise(QueryProfile::Approximate& approximate, const Head<double>& head, const RowVector<double>& o) {
  double sum = 0;
  for (const double weight : approximate.weights) sum += weight;
  RowVector<double> o_hat = RowVector<double>::Zero(o.size());
  for (std::size_t n = 0; n < approximate.weights.size(); ++n) {
    approximate.weights[n] /= sum;
    o_hat += approximate.weights[n] * head.v.row(static_cast<Index>(n));
  }
  const double squared = (o_hat - o).squaredNorm();
  approximate.rel_sq_err = squared == 0 ? 0 : squared / o.squaredNorm();
}

}  // namespace

QueryProfile query_profile_of(const DumpSession& session, const Slot& slot, Index query, const HeadRun& run,
                              Task& task) {
  const auto head = session.head<double>(slot.batch, slot.head, slot.tokens);
  const Index Nq = head->q.rows(), Nk = head->k.rows();
  MUSE_REQUIRE(query >= 0 && query < Nq, "profile: expected a query from 0 to ", Nq - 1, ", found ", query);
  Progress& progress = task.stage("profile", std::size(kOrders));
  QueryProfile profile{.query = query, .keys = slot.causal() ? query + 1 : Nk};
  double L = 0;
  profile.exact = exact_weights(*head, query, profile.keys, L);
  RowVector<double> o = RowVector<double>::Zero(head->v.cols());
  for (Index n = 0; n < profile.keys; ++n) o += profile.exact[static_cast<std::size_t>(n)] * head->v.row(n);

  const Index local_begin = slot.causal() ? query / slot.config.block * slot.config.block : profile.keys;
  if (slot.causal())
    profile.blocks.push_back({.level = -1,
                              .query_begin = local_begin,
                              .query_end = std::min(local_begin + slot.config.block, Nq),
                              .key_begin = local_begin,
                              .key_end = std::min(local_begin + slot.config.block, Nk)});
  for (const Block& block : approximated_blocks(Nq, Nk, slot.config))
    if (query >= block.query_begin && query < block.query_end) profile.blocks.push_back(block);
  // The diagonal block is exact in every order; weights are relative to the exact mass until all are there.
  std::vector<double> local(profile.exact);
  std::fill(local.begin(), local.begin() + local_begin, 0.0);
  if (slot.method == Method::local) {
    if (!slot.causal()) {
      // Without a mask the diagonal block reaches beyond the query.
      const Index begin = query / slot.config.block * slot.config.block;
      local.assign(profile.exact.size(), 0.0);
      for (Index n = begin; n < std::min(begin + slot.config.block, Nk); ++n)
        local[static_cast<std::size_t>(n)] = profile.exact[static_cast<std::size_t>(n)];
    }
    profile.orders.push_back({.name = "local", .weights = std::move(local)});
    normalise(profile.orders.back(), *head, o);
  }
  if (slot.method != Method::muse) return profile;

  const std::vector<double> lse(static_cast<std::size_t>(Nq), L);
  for (const Order order : kOrders) {
    throw_if_cancelled(&progress);
    Config config = slot.config;
    config.order = order;
    QueryProfile::Approximate approximate{.name = std::string(name_of(order)), .weights = local};
    for (const Block& block : profile.blocks) {
      if (block.level < 0) continue;
      const BlockWeights<double> weights(*head, block, run.labels_q, run.labels_k, config);
      weights.visit_cluster(weights.cluster_of(query), std::span(&query, 1), lse,
                            [&](Index, std::span<const double> of_keys, std::span<const char> retrieved) {
                              for (Index n = 0; n < block.keys(); ++n) {
                                const auto i = static_cast<std::size_t>(n);
                                approximate.weights[static_cast<std::size_t>(block.key_begin + n)] =
                                    of_keys[i];
                                if (retrieved[i] != 0 && order == slot.config.order)
                                  profile.retrieved.push_back(block.key_begin + n);
                              }
                            });
    }
    normalise(approximate, *head, o);
    if (order == slot.config.order) profile.current = static_cast<Index>(profile.orders.size());
    profile.orders.push_back(std::move(approximate));
    progress.advance(1);
  }
  std::sort(profile.retrieved.begin(), profile.retrieved.end());
  return profile;
}

}  // namespace muse::viewer
