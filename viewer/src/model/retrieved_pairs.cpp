#include "model/retrieved_pairs.h"

#include <algorithm>
#include <limits>

#include "muse/check.h"
#include "muse/retrieval.h"
#include "muse/tilted_summaries.h"

namespace muse::viewer {
namespace {

constexpr Index kTileClusters = 8;

}  // namespace

RetrievedPairs retrieved_pairs_of(const DumpSession& session, const Slot& slot, Index most_cells,
                                  const HeadRun& run, Task& task) {
  MUSE_REQUIRE(slot.method == Method::muse, "retrieval: only method muse retrieves; found ", slot_word(slot));
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  const Index Nq = head->q.rows(), Nk = head->k.rows();
  const Index rows = std::min(most_cells, Nq), cols = std::min(most_cells, Nk);
  const auto row_of = [&](Index t) { return t * rows / Nq; };
  const auto col_of = [&](Index n) { return n * cols / Nk; };
  std::vector<double> retrieved(static_cast<std::size_t>(rows * cols), 0), all(retrieved);
  const std::vector<Block> blocks = approximated_blocks(Nq, Nk, slot.config);
  Progress& progress = task.stage("retrieved clusters", static_cast<double>(blocks.size()));
  RetrievedPairs result;
  double pairs = 0;
  for (const Block& block : blocks) {
    throw_if_cancelled(&progress);
    const BlockClusters<float> clusters =
        block_clusters<float>(head->q, head->k, block, run.labels_q, run.labels_k, slot.config);
    const SortedKeys<float> keys =
        sort_keys<float>(head->k.middleRows(block.key_begin, block.keys()),
                         head->v.middleRows(block.key_begin, block.keys()), clusters.keys);
    const KeyMeans<float> means = slot.config.order == Order::centroid ? key_means(keys) : KeyMeans<float>();
    const Index Cq = clusters.home.size();
    std::vector<double> keys_of_cell(static_cast<std::size_t>(cols), 0);
    for (Index n = block.key_begin; n < block.key_end; ++n)
      keys_of_cell[static_cast<std::size_t>(col_of(n))] += 1;
    for (Index tile = 0; tile < Cq; tile += kTileClusters) {
      const Index count = std::min(kTileClusters, Cq - tile);
      const Matrix<float> q_bar = clusters.home.centroids.middleRows(tile, count);
      Summaries<float> summaries;
      if (slot.config.order == Order::centroid)
        plain_summaries<float>(q_bar, keys, means, head->scale, summaries);
      else
        tilted_summaries<float>(q_bar, keys, head->scale, summaries);
      for (Index i = tile; i < tile + count; ++i) {
        const std::vector<Index>& members = clusters.queries[static_cast<std::size_t>(i)];
        if (members.empty()) continue;
        std::vector<double> retrieved_of_cell(static_cast<std::size_t>(cols), 0);
        for (const Index j :
             largest_clusters<float>(summaries.L.row(i - tile), slot.config.retrieve.at(block.level)))
          for (const Index n : clusters.keys.members(j))
            retrieved_of_cell[static_cast<std::size_t>(col_of(block.key_begin + n))] += 1;
        for (const Index t : members) {
          const auto row = static_cast<std::size_t>(row_of(block.query_begin + t) * cols);
          for (Index c = col_of(block.key_begin); c <= col_of(block.key_end - 1); ++c) {
            const auto i_c = static_cast<std::size_t>(c);
            retrieved[row + i_c] += retrieved_of_cell[i_c];
            all[row + i_c] += keys_of_cell[i_c];
            result.pairs += retrieved_of_cell[i_c];
            pairs += keys_of_cell[i_c];
          }
        }
      }
    }
    progress.advance(1);
  }
  if (pairs > 0) result.pairs /= pairs;
  result.share = {rows, cols, {}};
  for (std::size_t cell = 0; cell < all.size(); ++cell)
    result.share.values.push_back(all[cell] > 0 ? static_cast<float>(retrieved[cell] / all[cell])
                                                : std::numeric_limits<float>::quiet_NaN());
  return result;
}

}  // namespace muse::viewer
