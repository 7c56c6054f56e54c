// What a call of the method cannot do without: operations and bytes, stage by stage. muse-bench compares the
// times it measures with them. Test: tests/test_cuda_work.cpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "muse/config.h"

namespace muse::bench {

struct StageWork {
  double operations = 0;
  double bytes = 0;  ///< of device memory: each array once, where the caches hold nothing from before
};

/// Work of a call by docs/math.md, section 7, for clusters of average size: stage -> work of all heads.
/// `tokens` of `dim` elements of `element_bytes` each; `heads` query heads, and as many key heads. Heads
/// retrieve at most `of_heads` clusters, one number for each that differs, or none at all: as the config
/// says. Causal: of B 2^x tokens; other lengths are taken as if their blocks were whole.
inline std::map<std::string, StageWork> work_of(const Config& config, std::int64_t tokens, std::int64_t dim,
                                                std::int64_t heads, double element_bytes,
                                                const std::vector<std::int32_t>& of_heads) {
  std::map<std::string, StageWork> work;
  const bool causal = config.mode != Mode::acausal;
  const auto N = static_cast<double>(tokens), D = static_cast<double>(dim), H = static_cast<double>(heads);
  const std::int64_t B = causal ? std::min<std::int64_t>(config.block, tokens) : 0;
  // Passes over all tokens that those over the sample amount to.
  const double passes = static_cast<double>(config.passes) / static_cast<double>(config.sample);
  const double tensor = element_bytes * N * D * H;  // q, k, v or o
  if (causal) work["diagonal blocks"] = {2 * static_cast<double>(B) * N * D * H, 4 * tensor};
  std::int64_t level = 0;
  for (std::int64_t S = causal ? B : tokens; causal ? S < tokens : level == 0; S *= 2, ++level) {
    const auto Cq = static_cast<double>(config.clusters_q.at(level)(S)),
               Ck = static_cast<double>(config.clusters_k.at(level)(S)), keys = static_cast<double>(S);
    auto r = static_cast<double>(config.retrieve.at(level));
    if (!of_heads.empty()) {
      double sum = 0;
      for (const std::int32_t most : of_heads) sum += std::clamp(static_cast<double>(most), 0.0, r);
      r = sum / static_cast<double>(of_heads.size());
    }
    // A level's keys, and its queries, are half of all tokens, or all of them.
    const double part = causal ? 0.5 : 1, features = part * N * D * H, rows = part * tensor;
    const double pairs = Cq * Ck * H * (causal ? N / (2 * keys) : 1);  // of a query and a key cluster
    const double strict = config.mode == Mode::causal ? 1 : 0;
    // Labels: keys and home once each, the block's queries too; means of the home; both in every pass.
    work["clustering"].operations += 2 * ((passes + 1) * (Ck + Cq) + strict * Cq) * features;
    work["clustering"].bytes += (3 + strict + 4 * passes) * rows;
    work["summaries"].operations += 6 * Cq * features;
    work["summaries"].bytes += 2 * rows + 2 * element_bytes * D * pairs;
    work["retrieval"].bytes += 2 * sizeof(float) * pairs;
    work["far field"].operations += 4 * (Ck + r * keys / Ck) * features;
    work["far field"].bytes +=
        (causal ? 3 : 2) * rows + 2 * element_bytes * D * pairs + (r > 0 ? 2 * rows : 0);
  }
  return work;
}

}  // namespace muse::bench
