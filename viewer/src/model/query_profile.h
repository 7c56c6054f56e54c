// The attention weights of one query along the keys: exact, and as each order has them.
#pragma once

#include <string>
#include <vector>

#include "model/head_runs.h"

namespace muse::viewer {

struct QueryProfile {
  Index query = 0;
  Index keys = 0;             ///< that the query sees
  std::vector<double> exact;  ///< [keys] e^{s q·k_n - L}
  struct Approximate {
    std::string name;             ///< "dipole", …; "local" for method local
    std::vector<double> weights;  ///< [keys] ŵ_n, in units of the approximation's own mass
    double rel_sq_err = 0;        ///< (8.4)
  };
  std::vector<Approximate> orders;  ///< all five of method muse; one of local; none of exact
  Index current = 0;                ///< which of `orders` is the slot's
  std::vector<Index> retrieved;     ///< tokens, rising: attended exactly by the slot's order
  std::vector<Block> blocks;        ///< that hold the query: the diagonal one, then by level
};

/// In double, with the labels of `run`.
[[nodiscard]] QueryProfile query_profile_of(const DumpSession& session, const Slot& slot, Index query,
                                            const HeadRun& run, Task& task);

}  // namespace muse::viewer
