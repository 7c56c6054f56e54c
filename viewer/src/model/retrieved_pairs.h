// Where retrieval attends exactly: which keys each block's query clusters retrieve (5.1).
#pragma once

#include "model/head_runs.h"
#include "render/matrix.h"

namespace muse::viewer {

struct RetrievedPairs {
  /// Share of a cell's pairs whose key is retrieved; NaN where a cell has no pair of a far block. Cells are
  /// equal parts of all queries and keys.
  render::Matrix share;
  double pairs = 0;  ///< retrieved pairs of all far blocks, of all their pairs
};

/// Method muse. At most `most_cells` cells a side. Stage 1 of every block: 6 Cq N D operations a level.
[[nodiscard]] RetrievedPairs retrieved_pairs_of(const DumpSession& session, const Slot& slot,
                                                Index most_cells, const HeadRun& run, Task& task);

}  // namespace muse::viewer
