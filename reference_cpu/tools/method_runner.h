// Runs one method on the heads of a dump, one after the other.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "dump_options.h"
#include "method_word.h"
#include "muse/exact_attention.h"
#include "muse/head.h"
#include "muse/muse_attention.h"
#include "progress_bar.h"

namespace muse::tools {

/// What a stage of a method took.
struct StageCost {
  std::string stage;
  double seconds = 0;     ///< wall clock; 0 where another stage's seconds hold it
  double operations = 0;  ///< a multiply and an add count as two
};

/// Attention of one head, and what it took.
template <class Scalar>
struct HeadResult {
  Attention<Scalar> attention;
  LevelLabels labels_q, labels_k;  ///< of muse only
  std::vector<StageCost> stages;
  double seconds = 0;     ///< wall clock of everything, clustering included
  double operations = 0;  ///< of all stages
};

/// {"STAGE": {"seconds": …, "operations": …}, …}
[[nodiscard]] nlohmann::ordered_json to_json(const std::vector<StageCost>& stages);

/// The mask of exact attention, and that of local blocks, for a config.
[[nodiscard]] Mask exact_mask(const Config& config);
[[nodiscard]] Mask local_mask(const Config& config);

/// MisfitError where the method cannot run on the heads of `job`: a causal mode or `local`, with other
/// numbers of keys than of queries.
void require_method_fits(const MethodSpec& spec, const Job& job);

/// Runs `spec` on heads given in rising order. The query heads of a group share their keys: where their
/// parameters agree, the keys are clustered once, with the first of them, which bears the cost. On a GPU each
/// head is a call of its own.
template <class Scalar>
class MethodRunner {
 public:
  explicit MethodRunner(MethodSpec spec, const Device& device = {})
      : spec_(std::move(spec)), device_(device) {}
  [[nodiscard]] HeadResult<Scalar> run(const Head<Scalar>& head, ProgressBar& bar);
  [[nodiscard]] const MethodSpec& spec() const { return spec_; }

 private:
  [[nodiscard]] HeadResult<Scalar> run_muse_on_gpu(const Head<Scalar>& head) const;

  MethodSpec spec_;
  Device device_;
  // Key labels of the group of the last head, and what they were made with.
  LevelLabels group_labels_;
  Config group_config_;
  Index group_batch_ = -1, group_ = -1;
};

/// Weight of running `spec` on one head in a ProgressBar: the operations to be expected.
[[nodiscard]] double expected_operations(const MethodSpec& spec, Index head, Index Nq, Index Nk, Index D,
                                         Index Dv);

}  // namespace muse::tools
