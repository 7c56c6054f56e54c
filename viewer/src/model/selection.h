// What a person points at and what is locked, shared by all views. Pointing previews, a click locks, Esc
// unlocks: every view shows `selection.shown()`.
#pragma once

#include <optional>
#include <string>

#include "muse/causal_hierarchy.h"

namespace muse::viewer {

/// Something in the pictures. What is absent is not pointed at; a cell of a map has a query and a key, a cell
/// of the cluster pairs a block and two clusters.
struct Target {
  std::optional<Index> query;          ///< token, 0-based
  std::optional<Index> key;            ///< token, 0-based
  std::optional<Block> block;          ///< of the hierarchy
  std::optional<Index> query_cluster;  ///< i, of `block`
  std::optional<Index> key_cluster;    ///< j, of `block`
  std::optional<std::size_t> point;    ///< of the trade-off
  std::optional<Index> head;           ///< of the overview of heads

  [[nodiscard]] bool empty() const { return *this == Target{}; }
  friend bool operator==(const Target&, const Target&) = default;
};

/// What errors are counted of.
enum class ErrorPer { query, pair, block };

/// Queries, pairs of clusters or blocks whose current error lies in [low, high]: what a range selected in the
/// histogram means elsewhere.
struct ValueFilter {
  double low = 0, high = 0;
  ErrorPer per = ErrorPer::query;
  [[nodiscard]] bool holds(double value) const { return value >= low && value <= high; }
  friend bool operator==(const ValueFilter&, const ValueFilter&) = default;
};

struct Selection {
  Target hovered;
  std::optional<Target> locked;
  std::optional<ValueFilter> filter;

  /// What all views show.
  [[nodiscard]] const Target& shown() const { return locked ? *locked : hovered; }
  [[nodiscard]] bool is_locked() const { return locked.has_value(); }

  /// The pointer is over `target`, or over nothing (an empty one).
  void hover(const Target& target) { hovered = target; }
  /// A click locks what is under the pointer. On what is locked already, or on nothing, it unlocks.
  void click(const Target& target) {
    if (target.empty() || locked == target)
      locked.reset();
    else
      locked = target;
  }
  /// Esc: first what is locked, then the range of the histogram. Whether there was anything to undo.
  bool escape() {
    const bool had = locked.has_value() || filter.has_value();
    if (locked)
      locked.reset();
    else
      filter.reset();
    return had;
  }
  friend bool operator==(const Selection&, const Selection&) = default;
};

}  // namespace muse::viewer
