// Attention weights as a picture of any size: cells of 2^z by 2^z pairs, computed when they are looked at.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <tuple>
#include <vector>

#include "model/counted_queries.h"
#include "model/head_runs.h"
#include "render/matrix.h"

namespace muse::viewer {

/// Cells of a viewport: values [rows, cols] of cells of `cell` by `cell` pairs, from (query0, key0) of the
/// order in which tokens are shown.
struct MapView {
  Index cell = 1;
  Index query0 = 0, key0 = 0;  ///< multiples of `cell`
  render::Matrix values;       ///< NaN: no query of the cell that counts sees any of its keys
};

/// A map shows w (exact), ŵ (approximate), or of their difference, by metric: ŵ - w (value, signed), |ŵ - w|,
/// (ŵ - w)², or ((ŵ - w) / w)². Weights of the approximation are those of key_weights.h. In float.
///
/// Tiles of kTileCells² cells at zoom levels z = 0, 1, …, each computed from the weights of its pairs in
/// strips: never more than a strip of weights at a time, whatever N. Tiles are kept up to a limit, the least
/// recently seen go first. Thread-safe.
class AttentionPyramid {
 public:
  static constexpr Index kTileCells = 256;
  static constexpr std::size_t kMostBytes = 192u << 20;

  /// `exact` and `run` as Analysis gives them; `level`: whose clusters `sort` sorts by.
  /// Other queries than those that count leave their cells empty.
  AttentionPyramid(std::shared_ptr<const Head<float>> head, Slot slot, std::shared_ptr<const HeadRun> exact,
                   std::shared_ptr<const HeadRun> run, MapKind map, TokenSort sort, Index level,
                   CountedQueries counted = {});

  [[nodiscard]] Index queries() const { return Nq_; }
  [[nodiscard]] Index keys() const { return Nk_; }
  /// Token shown at each place, and the places where clusters begin.
  [[nodiscard]] const std::vector<Index>& query_order() const { return query_order_; }
  [[nodiscard]] const std::vector<Index>& key_order() const { return key_order_; }
  [[nodiscard]] const std::vector<Index>& query_borders() const { return query_borders_; }
  [[nodiscard]] const std::vector<Index>& key_borders() const { return key_borders_; }

  /// The finest cells of which at most `most_cells` lie along either side of the viewport (places, not
  /// tokens). Missing tiles are computed.
  [[nodiscard]] MapView view(Index query_begin, Index query_end, Index key_begin, Index key_end,
                             Index most_cells, Aggregation aggregate, ErrorMetric metric, Task& task);
  /// The same from the tiles that are there; NaN elsewhere. `complete`: whether all of them were.
  [[nodiscard]] MapView view_of_ready(Index query_begin, Index query_end, Index key_begin, Index key_end,
                                      Index most_cells, Aggregation aggregate, ErrorMetric metric,
                                      bool& complete);
  /// (1.1) e^{s q·k - L} of one pair of tokens; 0 where the query does not see the key.
  [[nodiscard]] double exact_weight(Index query, Index key) const;
  /// Places of tokens: the reverse of the orders.
  [[nodiscard]] Index place_of_query(Index token) const {
    return query_place_[static_cast<std::size_t>(token)];
  }
  [[nodiscard]] Index place_of_key(Index token) const { return key_place_[static_cast<std::size_t>(token)]; }

 private:
  struct Tile {
    std::vector<float> max, mean;  // [kTileCells, kTileCells]; NaN: nothing seen
  };
  using TilePointer = std::shared_ptr<const Tile>;
  using TileKey = std::tuple<int, Index, Index, ErrorMetric>;  // z, row and column of tiles

  struct Area;
  template <class Make>
  [[nodiscard]] MapView assemble(Index query_begin, Index query_end, Index key_begin, Index key_end,
                                 Index most_cells, Aggregation aggregate, const Make& tile_at) const;
  [[nodiscard]] TilePointer find(const TileKey& key);
  void keep(const TileKey& key, TilePointer tile);
  void compute_row(int z, Index tile_row, Index first_col, Index last_col, ErrorMetric metric,
                   Progress& progress);
  void add_block(const Block& block, Area& area, ErrorMetric metric, Progress& progress) const;

  std::shared_ptr<const Head<float>> head_;
  Slot slot_;
  std::shared_ptr<const HeadRun> exact_, run_;
  MapKind map_;
  CountedQueries counted_;
  Index Nq_ = 0, Nk_ = 0;
  std::vector<Index> query_order_, key_order_, query_borders_, key_borders_;
  std::vector<Index> query_place_, key_place_;

  std::mutex mutex_;
  std::list<std::pair<TileKey, std::shared_ptr<const Tile>>> tiles_;  // the latest first
};

}  // namespace muse::viewer
