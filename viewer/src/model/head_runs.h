// What a slot's method makes of its head, and how far each query is from exact attention.
#pragma once

#include <vector>

#include "model/dump_session.h"
#include "model/settings.h"
#include "model/task.h"
#include "muse/error_metrics.h"
#include "muse/muse_attention.h"

namespace muse::viewer {

/// Attention of one head. Outputs are kept in double, whatever they were computed in.
struct HeadRun {
  Attention<double> attention;     ///< o [N, Dv], lse [N]
  LevelLabels labels_q, labels_k;  ///< of method muse only
  OperationCounts operations;      ///< by stage
  double seconds = 0;              ///< wall clock, clustering included; on a GPU its own time, without copies
  double exact_operations = 0;     ///< of exact attention on the same head
  [[nodiscard]] double total_operations() const { return operations.total(); }
};

/// Exact attention (1.1) of the slot's head, whatever its method.
[[nodiscard]] HeadRun run_exact(const DumpSession& session, const Slot& slot, Task& task);
/// Attention by the slot's method, on the slot's device. On a GPU the progress is known only at the end; what
/// the GPU does not do is an Error whose message says so.
[[nodiscard]] HeadRun run_slot(const DumpSession& session, const Slot& slot, Task& task);

/// Errors of each query of a head by every metric, and of the whole head.
struct QueryErrors {
  HeadError head;
  std::vector<double> value;       ///< ‖ô_n‖
  std::vector<double> difference;  ///< L̂_n - L_n, signed: as (8.3) for one query
  std::vector<double> absolute;    ///< ‖ô_n - o_n‖
  std::vector<double> squared;     ///< ‖ô_n - o_n‖²
  std::vector<double> relative;    ///< (8.4)

  [[nodiscard]] const std::vector<double>& by(ErrorMetric metric) const;
};

[[nodiscard]] QueryErrors query_errors_of(const Attention<double>& approximate,
                                          const Attention<double>& exact);

/// The formula of a metric of queries, for captions and tooltips.
[[nodiscard]] std::string query_error_formula(ErrorMetric metric);

/// MisfitError for a causal mode or method local on a head with other numbers of keys than of queries,
/// UsageError for a batch entry, head or number of tokens that the dump does not have.
void require_slot_fits(const DumpSession& session, const Slot& slot);

}  // namespace muse::viewer
