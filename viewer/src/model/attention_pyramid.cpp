#include "model/attention_pyramid.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "model/key_weights.h"
#include "muse/check.h"

namespace muse::viewer {
namespace {

constexpr Index kStripQueries = 64;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

float quantity(MapKind map, ErrorMetric metric, float w, float w_hat) {
  if (map == MapKind::exact) return w;
  if (map == MapKind::approximate) return w_hat;
  const float difference = w_hat - w;
  switch (metric) {
    case ErrorMetric::absolute:
      return std::abs(difference);
    case ErrorMetric::squared:
      return difference * difference;
    case ErrorMetric::relative:
      return difference == 0 ? 0 : (difference / w) * (difference / w);
    case ErrorMetric::value:
    case ErrorMetric::signed_difference:
      break;
  }
  return difference;
}

// The tokens [begin, end) sorted by their labels in place; where clusters begin goes to `borders`.
void sort_by_label(std::vector<Index>& order, Index begin, Index end, const LevelLabels& labels, Index level,
                   std::vector<Index>& borders) {
  const auto of_level = labels.at(level, 0, labels.tokens);
  const auto label = [&](Index t) { return of_level[static_cast<std::size_t>(t)]; };
  std::stable_sort(order.begin() + begin, order.begin() + end,
                   [&](Index a, Index b) { return label(a) < label(b); });
  for (Index place = begin; place < end; ++place)
    if (place == begin ||
        label(order[static_cast<std::size_t>(place)]) != label(order[static_cast<std::size_t>(place - 1)]))
      borders.push_back(place);
}

std::vector<Index> inverse(const std::vector<Index>& order) {
  std::vector<Index> places(order.size());
  for (std::size_t place = 0; place < order.size(); ++place)
    places[static_cast<std::size_t>(order[place])] = static_cast<Index>(place);
  return places;
}

}  // namespace

// A row of tiles being filled.
struct AttentionPyramid::Area {
  int z;
  Index query0, query1, key0, key1;                                     // places
  Index cols;                                                           // cells
  std::vector<float> max, sum;                                          // [kTileCells, cols]
  std::vector<std::int32_t> count;                                      // likewise
  std::vector<std::mutex> locks = std::vector<std::mutex>(kTileCells);  // one a row of cells

  Area(int z_, Index query0_, Index key0_, Index cols_, Index Nq, Index Nk)
      : z(z_),
        query0(query0_),
        query1(std::min(Nq, query0_ + (kTileCells << z_))),
        key0(key0_),
        key1(std::min(Nk, key0_ + (cols_ << z_))),
        cols(cols_),
        max(static_cast<std::size_t>(kTileCells * cols_), 0.0F),
        sum(max.size(), 0.0F),
        count(max.size(), 0) {}

  // Values of one query along some keys, already gathered by column of cells.
  void add_row(Index place, const std::vector<float>& row_max, const std::vector<float>& row_sum,
               const std::vector<std::int32_t>& row_count, Index first, Index last) {
    const auto row = static_cast<std::size_t>((place - query0) >> z);
    const std::lock_guard lock(locks[row]);
    for (Index c = first; c <= last; ++c) {
      const auto i = static_cast<std::size_t>(c);
      if (row_count[i] == 0) continue;
      const std::size_t cell = row * static_cast<std::size_t>(cols) + i;
      // Equal magnitudes of both signs: the positive one, whatever the order of threads.
      const float a = std::abs(row_max[i]), b = std::abs(max[cell]);
      if (count[cell] == 0 || a > b || (a == b && row_max[i] > max[cell])) max[cell] = row_max[i];
      sum[cell] += row_sum[i];
      count[cell] += row_count[i];
    }
  }
};

AttentionPyramid::AttentionPyramid(std::shared_ptr<const Head<float>> head, Slot slot,
                                   std::shared_ptr<const HeadRun> exact, std::shared_ptr<const HeadRun> run,
                                   MapKind map, TokenSort sort, Index level, CountedQueries counted)
    : head_(std::move(head)),
      slot_(std::move(slot)),
      exact_(std::move(exact)),
      run_(std::move(run)),
      map_(map),
      counted_(std::move(counted)),
      Nq_(head_->q.rows()),
      Nk_(head_->k.rows()),
      query_order_(static_cast<std::size_t>(Nq_)),
      key_order_(static_cast<std::size_t>(Nk_)) {
  std::iota(query_order_.begin(), query_order_.end(), Index(0));
  std::iota(key_order_.begin(), key_order_.end(), Index(0));
  if (sort == TokenSort::cluster) {
    MUSE_REQUIRE(slot_.method == Method::muse, "--sort cluster: only method muse has clusters; found ",
                 slot_word(slot_));
    for (const Block& block : approximated_blocks(Nq_, Nk_, slot_.config)) {
      if (block.level != level) continue;
      sort_by_label(query_order_, block.query_begin, block.query_end, run_->labels_q, level, query_borders_);
      sort_by_label(key_order_, block.key_begin, block.key_end, run_->labels_k, level, key_borders_);
    }
  }
  query_place_ = inverse(query_order_);
  key_place_ = inverse(key_order_);
}

double AttentionPyramid::exact_weight(Index query, Index key) const {
  if (slot_.causal() && key > query) return 0;
  const double logit = head_->q.row(query).cast<double>().dot(head_->k.row(key).cast<double>());
  return std::exp(static_cast<double>(head_->scale) * logit - exact_->attention.lse[query]);
}

// Adds the pairs of a block that lie in the area: in strips of queries, or query cluster by query cluster.
void AttentionPyramid::add_block(const Block& block, Area& area, ErrorMetric metric,
                                 Progress& progress) const {
  const bool diagonal = block.level < 0;
  // The block's queries and keys in sight.
  std::vector<Index> queries;
  for (Index t = block.query_begin; t < block.query_end; ++t)
    if (const Index place = place_of_query(t);
        counted_.holds(t) && place >= area.query0 && place < area.query1)
      queries.push_back(t);
  bool any_key = false;
  for (Index n = block.key_begin; n < block.key_end && !any_key; ++n)
    any_key = place_of_key(n) >= area.key0 && place_of_key(n) < area.key1;
  if (queries.empty() || !any_key) return;

  // Units of work: queries whose approximate weights are made together.
  const bool expanded = !diagonal && slot_.method == Method::muse && map_ != MapKind::exact;
  std::unique_ptr<BlockWeights<float>> approximate;
  std::vector<std::pair<Index, std::vector<Index>>> units;  // (query cluster or -1, queries)
  if (expanded) {
    approximate =
        std::make_unique<BlockWeights<float>>(*head_, block, run_->labels_q, run_->labels_k, slot_.config);
    std::vector<std::vector<Index>> by_cluster(static_cast<std::size_t>(approximate->clusters().home.size()));
    for (const Index t : queries)
      by_cluster[static_cast<std::size_t>(approximate->cluster_of(t))].push_back(t);
    for (std::size_t i = 0; i < by_cluster.size(); ++i)
      if (!by_cluster[i].empty()) units.emplace_back(static_cast<Index>(i), std::move(by_cluster[i]));
  } else {
    for (std::size_t first = 0; first < queries.size(); first += kStripQueries)
      units.emplace_back(
          -1, std::vector<Index>(queries.begin() + static_cast<std::ptrdiff_t>(first),
                                 queries.begin() + static_cast<std::ptrdiff_t>(
                                                       std::min(queries.size(), first + kStripQueries))));
  }
  const std::span<const double> lse_hat(run_->attention.lse.data(), static_cast<std::size_t>(Nq_));
  const bool needs_exact = map_ != MapKind::approximate || !expanded;

#pragma omp parallel for schedule(dynamic)
  for (std::size_t u = 0; u < units.size(); ++u) {
    if (progress.cancel) continue;
    const std::vector<Index>& members = units[u].second;
    // s q·k of the unit's queries with all keys of the block.
    Matrix<float> logits;
    if (needs_exact) {
      Matrix<float> q(static_cast<Index>(members.size()), head_->q.cols());
      for (Index row = 0; row < q.rows(); ++row)
        q.row(row) = head_->q.row(members[static_cast<std::size_t>(row)]);
      logits = head_->scale * q * head_->k.middleRows(block.key_begin, block.keys()).transpose();
    }
    std::vector<float> row_max(static_cast<std::size_t>(area.cols)), row_sum(row_max.size());
    std::vector<std::int32_t> row_count(row_max.size());
    Index row = 0;
    const auto add_query = [&](Index t, std::span<const float> w_hat) {
      const auto L = static_cast<float>(exact_->attention.lse[t]),
                 L_hat = static_cast<float>(run_->attention.lse[t]);
      std::fill(row_max.begin(), row_max.end(), 0.0F);
      std::fill(row_sum.begin(), row_sum.end(), 0.0F);
      std::fill(row_count.begin(), row_count.end(), 0);
      Index first = area.cols, last = -1;
      const Index end = diagonal ? std::min(block.key_end, t + 1) : block.key_end;
      for (Index n = block.key_begin; n < end; ++n) {
        const Index place = place_of_key(n);
        if (place < area.key0 || place >= area.key1) continue;
        const Index col = (place - area.key0) >> area.z;
        const Index at = n - block.key_begin;
        const float w = needs_exact ? std::exp(logits(row, at) - L) : 0;
        // Diagonal blocks, and methods without expansion: the exact logit under the method's own mass.
        float approximate_w = 0;
        if (!w_hat.empty())
          approximate_w = w_hat[static_cast<std::size_t>(at)];
        else if (diagonal || slot_.method == Method::exact)
          approximate_w = std::exp(logits(row, at) - L_hat);
        else if (slot_.method == Method::local && !slot_.causal() &&
                 n / slot_.config.block == t / slot_.config.block)
          approximate_w = std::exp(logits(row, at) - L_hat);
        const float value = quantity(map_, metric, w, approximate_w);
        const auto i = static_cast<std::size_t>(col);
        const float a = std::abs(value), b = std::abs(row_max[i]);
        if (row_count[i] == 0 || a > b || (a == b && value > row_max[i])) row_max[i] = value;
        row_sum[i] += value;
        ++row_count[i];
        first = std::min(first, col);
        last = std::max(last, col);
      }
      if (last >= 0) area.add_row(place_of_query(t), row_max, row_sum, row_count, first, last);
      ++row;
    };
    if (expanded)
      approximate->visit_cluster(
          units[u].first, members, lse_hat,
          [&](Index t, std::span<const float> w_hat, std::span<const char>) { add_query(t, w_hat); });
    else
      for (const Index t : members) add_query(t, {});
    progress.advance(static_cast<double>(members.size()) * static_cast<double>(block.keys()));
  }
  throw_if_cancelled(&progress);
}

void AttentionPyramid::compute_row(int z, Index tile_row, Index first_col, Index last_col, ErrorMetric metric,
                                   Progress& progress) {
  const Index tile_tokens = kTileCells << z;
  Area area(z, tile_row * tile_tokens, first_col * tile_tokens, (last_col - first_col + 1) * kTileCells, Nq_,
            Nk_);
  if (slot_.causal())
    for (const Block& block : diagonal_blocks(Nq_, slot_.config.block))
      add_block(block, area, metric, progress);
  for (const Block& block : approximated_blocks(Nq_, Nk_, slot_.config))
    add_block(block, area, metric, progress);
  for (Index col = first_col; col <= last_col; ++col) {
    auto tile = std::make_shared<Tile>();
    tile->max.assign(static_cast<std::size_t>(kTileCells * kTileCells), kNaN);
    tile->mean = tile->max;
    for (Index r = 0; r < kTileCells; ++r)
      for (Index c = 0; c < kTileCells; ++c) {
        const auto from = static_cast<std::size_t>(r * area.cols + (col - first_col) * kTileCells + c);
        if (area.count[from] == 0) continue;
        const auto to = static_cast<std::size_t>(r * kTileCells + c);
        tile->max[to] = area.max[from];
        tile->mean[to] = area.sum[from] / static_cast<float>(area.count[from]);
      }
    keep({z, tile_row, col, metric}, std::move(tile));
  }
}

AttentionPyramid::TilePointer AttentionPyramid::find(const TileKey& key) {
  const std::lock_guard lock(mutex_);
  for (auto entry = tiles_.begin(); entry != tiles_.end(); ++entry)
    if (entry->first == key) {
      tiles_.splice(tiles_.begin(), tiles_, entry);
      return entry->second;
    }
  return nullptr;
}

void AttentionPyramid::keep(const TileKey& key, TilePointer tile) {
  const std::lock_guard lock(mutex_);
  tiles_.emplace_front(key, std::move(tile));
  constexpr std::size_t kTileBytes = 2 * sizeof(float) * kTileCells * kTileCells;
  while (tiles_.size() > kMostBytes / kTileBytes) tiles_.pop_back();
}

// The cells of a viewport from the tiles that tile_at(z, row, col) gives; null ones leave NaN.
template <class Make>
MapView AttentionPyramid::assemble(Index query_begin, Index query_end, Index key_begin, Index key_end,
                                   Index most_cells, Aggregation aggregate, const Make& tile_at) const {
  MUSE_REQUIRE(query_begin >= 0 && query_begin < query_end && query_end <= Nq_ && key_begin >= 0 &&
                   key_begin < key_end && key_end <= Nk_ && most_cells >= 2,
               "attention map: expected a part of ", Nq_, " queries and ", Nk_, " keys, found queries ",
               query_begin, " to ", query_end, ", keys ", key_begin, " to ", key_end);
  int z = 0;
  const auto cells = [&](Index begin, Index end) { return ((end - 1) >> z) - (begin >> z) + 1; };
  while (cells(query_begin, query_end) > most_cells || cells(key_begin, key_end) > most_cells) ++z;
  MapView view{.cell = Index(1) << z};
  const Index row0 = query_begin >> z, col0 = key_begin >> z;
  view.query0 = row0 << z;
  view.key0 = col0 << z;
  view.values = {cells(query_begin, query_end), cells(key_begin, key_end), {}};
  view.values.values.assign(static_cast<std::size_t>(view.values.rows * view.values.cols), kNaN);
  const Index last_row = row0 + view.values.rows - 1, last_col = col0 + view.values.cols - 1;
  for (Index tile_row = row0 / kTileCells; tile_row <= last_row / kTileCells; ++tile_row) {
    std::vector<TilePointer> tiles = tile_at(z, tile_row, col0 / kTileCells, last_col / kTileCells);
    for (Index tile_col = col0 / kTileCells; tile_col <= last_col / kTileCells; ++tile_col) {
      const TilePointer& tile = tiles[static_cast<std::size_t>(tile_col - col0 / kTileCells)];
      if (!tile) continue;
      const std::vector<float>& from = aggregate == Aggregation::max ? tile->max : tile->mean;
      for (Index r = std::max(row0, tile_row * kTileCells);
           r <= std::min(last_row, (tile_row + 1) * kTileCells - 1); ++r)
        for (Index c = std::max(col0, tile_col * kTileCells);
             c <= std::min(last_col, (tile_col + 1) * kTileCells - 1); ++c)
          view.values.values[static_cast<std::size_t>((r - row0) * view.values.cols + c - col0)] =
              from[static_cast<std::size_t>((r - tile_row * kTileCells) * kTileCells + c -
                                            tile_col * kTileCells)];
    }
  }
  return view;
}

MapView AttentionPyramid::view(Index query_begin, Index query_end, Index key_begin, Index key_end,
                               Index most_cells, Aggregation aggregate, ErrorMetric metric, Task& task) {
  if (map_ != MapKind::difference) metric = ErrorMetric::value;
  Progress& progress = task.stage("attention map", static_cast<double>(query_end - query_begin) *
                                                       static_cast<double>(key_end - key_begin) *
                                                       (slot_.causal() ? 0.6 : 1.0));
  return assemble(query_begin, query_end, key_begin, key_end, most_cells, aggregate,
                  [&](int z, Index row, Index first, Index last) {
                    std::vector<TilePointer> tiles;
                    Index first_missing = last + 1, last_missing = -1;
                    for (Index col = first; col <= last; ++col) {
                      tiles.push_back(find({z, row, col, metric}));
                      if (tiles.back()) continue;
                      first_missing = std::min(first_missing, col);
                      last_missing = col;
                    }
                    if (last_missing >= 0) {
                      compute_row(z, row, first_missing, last_missing, metric, progress);
                      for (Index col = first_missing; col <= last_missing; ++col)
                        tiles[static_cast<std::size_t>(col - first)] = find({z, row, col, metric});
                    }
                    return tiles;
                  });
}

MapView AttentionPyramid::view_of_ready(Index query_begin, Index query_end, Index key_begin, Index key_end,
                                        Index most_cells, Aggregation aggregate, ErrorMetric metric,
                                        bool& complete) {
  if (map_ != MapKind::difference) metric = ErrorMetric::value;
  complete = true;
  return assemble(query_begin, query_end, key_begin, key_end, most_cells, aggregate,
                  [&](int z, Index row, Index first, Index last) {
                    std::vector<TilePointer> tiles;
                    for (Index col = first; col <= last; ++col) {
                      tiles.push_back(find({z, row, col, metric}));
                      complete = complete && tiles.back() != nullptr;
                    }
                    return tiles;
                  });
}

}  // namespace muse::viewer
