// Which queries count: all of them, or those whose error lies in the range that was selected in the
// histogram.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "muse/matrix.h"

namespace muse::viewer {

struct CountedQueries {
  std::vector<char> flags;  ///< [N] 1: counts; empty: all count
  std::string key;          ///< another text for another range; empty: all count

  [[nodiscard]] bool all() const { return flags.empty(); }
  [[nodiscard]] bool holds(Index query) const { return all() || flags[static_cast<std::size_t>(query)] != 0; }
  /// How many of N count.
  [[nodiscard]] Index count(Index N) const {
    return all() ? N : static_cast<Index>(std::count(flags.begin(), flags.end(), 1));
  }
};

}  // namespace muse::viewer
