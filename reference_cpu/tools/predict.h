// Operations of the method before it is run.
#pragma once

#include <vector>

#include "muse/muse_attention.h"

namespace muse::tools {

/// One level of the hierarchy, all of its blocks together.
struct LevelPlan {
  Index level = -1;  ///< -1: the diagonal blocks
  Index size = 0;    ///< S, or B on the diagonal
  Index blocks = 0;
  Index queries = 0;  ///< of all blocks
  double pairs = 0;   ///< (query, key) pairs that the blocks cover
  Index clusters_q = 0, clusters_k = 0, retrieve = 0;
  OperationCounts operations = {};  ///< as they are if all clusters of a block are of one size
};

/// The diagonal, then the levels, of Nq queries and Nk keys of dim D, values of dim Dv.
[[nodiscard]] std::vector<LevelPlan> plan_levels(Index Nq, Index Nk, Index D, Index Dv, const Config& config);

/// Operations of all levels together.
[[nodiscard]] OperationCounts planned_operations(const std::vector<LevelPlan>& levels);

}  // namespace muse::tools
