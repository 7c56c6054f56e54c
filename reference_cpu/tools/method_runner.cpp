#include "method_runner.h"

#include <fmt/format.h>

#include <chrono>

#include "muse/check.h"
#include "predict.h"

namespace muse::tools {
namespace {

// Whether both parameters give keys the same clusters.
bool same_key_clusters(const Config& a, const Config& b) {
  return a.mode == b.mode && a.cluster_by == b.cluster_by && a.clusters_k == b.clusters_k &&
         a.block == b.block && a.passes == b.passes && a.sample == b.sample &&
         a.cluster_window == b.cluster_window && a.seed == b.seed;
}

Mask mask_of(Method method, const Config& config) {
  return method == Method::local ? local_mask(config) : exact_mask(config);
}

std::vector<StageCost> stages_of(const StageSeconds& seconds, const OperationCounts& operations) {
  return {{"clustering", seconds.clustering, operations.clustering},
          {"local", seconds.local, operations.local},
          {"far", seconds.far, operations.summaries + operations.far_field + operations.retrieval},
          {"far.summaries", 0, operations.summaries},
          {"far.far_field", 0, operations.far_field},
          {"far.retrieval", 0, operations.retrieval}};
}

}  // namespace

nlohmann::ordered_json to_json(const std::vector<StageCost>& stages) {
  nlohmann::ordered_json json = nlohmann::ordered_json::object();
  for (const auto& [stage, seconds, operations] : stages) {
    const std::size_t dot = stage.find('.');
    if (dot == std::string::npos)
      json[stage] = {{"seconds", seconds}, {"operations", operations}};
    else
      json[stage.substr(0, dot)][stage.substr(dot + 1)] = {{"operations", operations}};
  }
  return json;
}

Mask exact_mask(const Config& config) {
  return {.causal = config.mode != Mode::acausal};
}

Mask local_mask(const Config& config) {
  return {.causal = config.mode != Mode::acausal, .block = config.block};
}

void require_method_fits(const MethodSpec& spec, const Job& job) {
  for (const Index head : job.heads)
    require_fitting_mode(spec.configs.for_head(head), job.queries(), job.keys());
  MUSE_REQUIRE(spec.method != Method::local || job.queries() == job.keys(), "method '", spec.word,
               "' needs as many queries as keys, found ", job.queries(), " queries and ", job.keys(),
               " keys");
}

template <class Scalar>
HeadResult<Scalar> MethodRunner<Scalar>::run(const Head<Scalar>& head, ProgressBar& bar) {
  const Config& config = spec_.configs.for_head(head.head);
  const Index Nq = head.q.rows(), Nk = head.k.rows(), D = head.q.cols(), Dv = head.v.cols();
  const std::string task = fmt::format("head {} {}", head.head, spec_.word);
  const double weight = expected_operations(spec_, head.head, Nq, Nk, D, Dv);
  HeadResult<Scalar> result;
  if (spec_.method != Method::muse) {
    const Mask mask = mask_of(spec_.method, config);
    const double pairs = pair_count(Nq, Nk, mask);
    Progress& progress = bar.start(task, weight, pairs);
    const auto start = std::chrono::steady_clock::now();
    result.attention = exact_attention<Scalar>(head.q, head.k, head.v, head.scale, mask, &progress);
    result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    result.operations = exact_operations(pairs, D, Dv);
    result.stages = {{spec_.method == Method::local ? "local" : "exact", result.seconds, result.operations}};
    return result;
  }

  if (device_.gpu) {
    bar.start(task, weight, 1).advance(1);
    return run_muse_on_gpu(head);
  }
  const bool shared =
      group_batch_ == head.batch && group_ == head.kv_head && same_key_clusters(group_config_, config);
  Progress& progress = bar.start(task, weight, progress_units(Nq, Nk, config));
  MuseOptions<Scalar> options;
  options.labels_k = shared ? &group_labels_ : nullptr;
  options.progress = &progress;
  const auto start = std::chrono::steady_clock::now();
  MuseResult<Scalar> muse = muse_attention<Scalar>(head.q, head.k, head.v, head.scale, config, options);
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.operations = muse.operations.total();
  result.stages = stages_of(muse.seconds, muse.operations);
  if (!shared) {
    group_labels_ = muse.labels_k;
    group_config_ = config;
    group_batch_ = head.batch;
    group_ = head.kv_head;
  }
  result.attention = std::move(muse.attention);
  result.labels_q = std::move(muse.labels_q);
  result.labels_k = std::move(muse.labels_k);
  return result;
}

template <class Scalar>
HeadResult<Scalar> MethodRunner<Scalar>::run_muse_on_gpu(const Head<Scalar>& head) const {
  const Config& config = spec_.configs.for_head(head.head);
  HeadResult<Scalar> result;
  if constexpr (std::is_same_v<Scalar, float>) {
    GpuRun run = run_on_gpu(head, config, device_.gpu_numbers);
    result.attention = std::move(run.attention);
    result.labels_q = std::move(run.labels_q);
    result.labels_k = std::move(run.labels_k);
    result.seconds = run.seconds;
  }
  // Counted as the reference would: sizes of single clusters differ a little.
  result.operations =
      planned_operations(plan_levels(head.q.rows(), head.k.rows(), head.q.cols(), head.v.cols(), config))
          .total();
  result.stages = {{"gpu", result.seconds, result.operations}};
  return result;
}

double expected_operations(const MethodSpec& spec, Index head, Index Nq, Index Nk, Index D, Index Dv) {
  const Config& config = spec.configs.for_head(head);
  if (spec.method == Method::muse) return planned_operations(plan_levels(Nq, Nk, D, Dv, config)).total();
  return exact_operations(pair_count(Nq, Nk, mask_of(spec.method, config)), D, Dv);
}

template class MethodRunner<float>;
template class MethodRunner<double>;

}  // namespace muse::tools
