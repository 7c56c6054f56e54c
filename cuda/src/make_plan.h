// From what a caller says to what the kernels are told: the plan, and where everything lies in the workspace.
#pragma once

#include <algorithm>
#include <cstddef>

#include "muse/cuda/muse_attention.h"
#include "stages.h"

namespace muse::cuda {

/// The plan of a call, without strides. Throws as muse_attention does.
[[nodiscard]] Plan make_plan(const Shape& shape, const Config& config);

/// Bytes that the summaries of a chunk may take: a few heads' worth, so that they stay near the level-2
/// cache.
inline constexpr std::size_t kSummaryBytes = std::size_t{256} << 20;

/// Units of `level` whose summaries fit into `summary_bytes`; one at least.
[[nodiscard]] std::int32_t units_of_chunk(const Plan& plan, const Level& level, std::size_t element_bytes,
                                          std::size_t summary_bytes);

/// A workspace laid out in memory from `base` on, which may be null: then only `bytes` means something.
template <class Element>
struct Layout {
  Workspace<Element> workspace;
  float* lse = nullptr;   ///< [HQ, Nq], for callers who want none
  std::size_t bytes = 0;  ///< from `base` to the end
};

/// Lays all arrays of a call one behind the other, each at a multiple of 256 bytes.
template <class Element>
[[nodiscard]] Layout<Element> lay_out(const Plan& plan, std::byte* base, std::size_t summary_bytes) {
  Layout<Element> layout;
  Workspace<Element>& w = layout.workspace;
  std::size_t end = 0;
  const auto place = [&]<class T>(T*& pointer, std::int64_t count) {
    constexpr std::size_t kAlign = 256;
    end = (end + kAlign - 1) / kAlign * kAlign;
    pointer = base == nullptr ? nullptr : reinterpret_cast<T*>(base + end);
    end += static_cast<std::size_t>(count) * sizeof(T);
  };
  const std::int64_t HQ = plan.HQ(), HK = plan.HK(), D = plan.D, Dv = plan.Dv;
  const std::int64_t key_tokens = HK * plan.levels * plan.Nk, query_tokens = HQ * plan.levels * plan.Nq;
  const std::int64_t key_clusters = HK * plan.key_clusters, query_clusters = HQ * plan.query_clusters;
  const Plan sampled = sample_plan(plan);
  place(layout.lse, HQ * plan.Nq);
  place(w.labels_k, key_tokens);
  place(w.labels_q, query_tokens);
  if (plan.sample > 1) {
    place(w.sample_labels_k, HK * plan.levels * sampled.Nk);
    place(w.sample_labels_q, HQ * plan.levels * sampled.Nq);
  }
  place(w.key_order, key_tokens);
  place(w.query_order, query_tokens);
  place(w.key_offsets, key_clusters + HK * plan.blocks);
  place(w.query_offsets, query_clusters + HQ * plan.blocks);
  if (plan.home == QueryHome::past) {
    place(w.home_offsets, query_clusters + HQ * plan.blocks);
  } else {
    w.home_offsets = w.query_offsets;
  }
  const auto rows = [](const Plan& of, Side side, RunTask task) {
    return run_rows(of, of.levels, side, task);
  };
  place(w.key_counts, HK * rows(plan, Side::keys, RunTask::count));
  place(w.query_counts, HQ * rows(plan, Side::home, RunTask::count));
  // Sums are for the means of passes, which look at the sample, and for those of homes; float32 has none.
  const std::int64_t sums_width = sizeof(Element) == 2 ? D + 8 : 0;
  place(w.key_sums, HK * sums_width * rows(sampled, Side::keys, RunTask::sum));
  place(w.query_sums,
        HQ * sums_width *
            std::max(rows(plan, Side::home, RunTask::sum), rows(sampled, Side::home, RunTask::sum)));
  place(w.key_centroids, key_clusters * D);
  place(w.query_centroids, query_clusters * D);
  place(w.key_half_norms, key_clusters);
  place(w.query_half_norms, query_clusters);
  place(w.query_tiles, HQ * plan.query_tiles);
  place(w.far_tiles, HQ * plan.blocks);
  place(w.exact_tiles, 1);
  if (plan.order == ExpansionOrder::centroid) place(w.value_means, key_clusters * Dv);
  if (plan.spread_factor > 0) place(w.key_norms, HK * plan.Nk);
  if (plan.key_metric != 0) {
    place(w.key_covariance, HK * plan.blocks * D * D);
    place(w.metric_centroids, query_clusters * D);
  }
  if (plan.window > 0) {
    // Keys and queries are clustered one after the other, in the same tables.
    const Plan windows[] = {window_plan(plan, Side::keys), window_plan(plan, Side::home)};
    const Plan merging[] = {merge_plan(plan, Side::keys), merge_plan(plan, Side::home)};
    const auto of_both = [&](auto count) {
      return std::max<std::int64_t>(HK * count(windows[0], merging[0]), HQ * count(windows[1], merging[1]));
    };
    const std::int64_t tokens = of_both([](const Plan&p, const Plan&) { return std::int64_t{p.Nk}; }),
                       clusters =
                           of_both([](const Plan&p, const Plan&) { return std::int64_t{p.key_clusters}; }),
                       blocks = of_both([](const Plan&p, const Plan&) { return std::int64_t{p.blocks}; }),
                       merged_tokens =
                           of_both([](const Plan&, const Plan&p) { return std::int64_t{p.levels} * p.Nk; }),
                       merged_clusters = of_both([](const Plan&, const Plan&p) {
                         return std::int64_t{std::max(p.key_clusters, p.query_clusters)};
                       }),
                       merged_blocks =
                           of_both([](const Plan&, const Plan&p) { return std::int64_t{p.blocks}; });
    ClusterTables<Element>& of_windows = w.windows.of_windows;
    place(of_windows.labels, tokens);
    place(of_windows.order, tokens);
    place(of_windows.offsets, clusters + blocks);
    place(of_windows.centroids, clusters * D);
    if (sizeof(Element) == 2) place(of_windows.residuals, clusters * D);
    place(of_windows.half_norms, clusters);
    place(w.windows.means, clusters * D);
    const auto most_rows = [&](const Plan& of, RunTask task) {
      return std::max(rows(of, Side::keys, task), rows(of, Side::home, task));
    };
    place(of_windows.counts, of_both([&](const Plan& p, const Plan& q) {
            return std::max(most_rows(p, RunTask::count), most_rows(q, RunTask::count));
          }));
    place(of_windows.sums,
          of_both([&](const Plan& p, const Plan&) { return most_rows(p, RunTask::sum); }) * sums_width);
    ClusterTables<float>& of_merging = w.windows.of_merging;
    of_merging.counts = of_windows.counts;
    place(of_merging.labels, merged_tokens);
    place(of_merging.order, merged_tokens);
    place(of_merging.offsets, merged_clusters + merged_blocks);
    place(of_merging.centroids, merged_clusters * D);
    place(of_merging.half_norms, merged_clusters);
  }
  // The largest chunk of any level, array by array.
  std::int64_t pairs = 0, retrieved = 0, most_clusters = 0;
  for (int m = 0; m < plan.levels; ++m) {
    const Level& level = plan.level[m];
    const std::int64_t units = units_of_chunk(plan, level, sizeof(Element), summary_bytes);
    pairs = std::max(pairs, units * level.Cq * level.Ck);
    retrieved = std::max(retrieved, units * level.Cq * level.r);
    most_clusters = std::max<std::int64_t>({most_clusters, level.Cq, level.Ck});
  }
  most_clusters = std::max<std::int64_t>({most_clusters, plan.windows_k.clusters, plan.windows_q.clusters});
  if (plan.seed != 0) place(w.draws, most_clusters);
  place(w.L, pairs);
  place(w.bias, pairs);
  if (plan.spread_factor > 0) place(w.spread, pairs);
  place(w.retrieved, retrieved);
  place(w.retrieved_places, retrieved);
  if (plan.order != ExpansionOrder::centroid) {
    place(w.k_tilde, pairs * D);
    place(w.v_tilde, pairs * Dv);
  }
  layout.bytes = std::max<std::size_t>(end, 1);
  return layout;
}

}  // namespace muse::cuda
