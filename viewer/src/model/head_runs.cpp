#include "model/head_runs.h"

#include <fmt/format.h>

#include <chrono>
#include <mutex>

#include "muse/check.h"
#include "muse/exact_attention.h"
#include "tools/cuda_device.h"
#include "tools/predict.h"

namespace muse::viewer {
namespace {

Attention<double> in_double(Attention<double>&& attention) {
  return std::move(attention);
}
Attention<double> in_double(const Attention<float>& attention) {
  Attention<double> result;
  result.o = attention.o.cast<double>();
  result.lse = attention.lse.cast<double>();
  return result;
}

template <class Scalar>
HeadRun masked(const Head<Scalar>& head, const Mask& mask, const char* stage, Task& task) {
  HeadRun run;
  const double pairs = pair_count(head.q.rows(), head.k.rows(), mask);
  Progress& progress = task.stage(stage, pairs);
  const auto start = std::chrono::steady_clock::now();
  run.attention = in_double(exact_attention<Scalar>(head.q, head.k, head.v, head.scale, mask, &progress));
  run.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  run.operations.local = 2 * static_cast<double>(head.q.cols() + head.v.cols()) * pairs;
  return run;
}

template <class Scalar>
double exact_operations(const Head<Scalar>& head, const Slot& slot) {
  return 2 * static_cast<double>(head.q.cols() + head.v.cols()) *
         pair_count(head.q.rows(), head.k.rows(), {.causal = slot.causal()});
}

template <class Scalar>
HeadRun run(const DumpSession& session, const Slot& slot, bool exact, Task& task) {
  const auto head = session.head<Scalar>(slot.batch, slot.head, slot.tokens);
  HeadRun result;
  if (exact || slot.method == Method::exact) {
    result = masked<Scalar>(*head, {.causal = slot.causal()}, "exact attention", task);
  } else if (slot.method == Method::local) {
    result =
        masked<Scalar>(*head, {.causal = slot.causal(), .block = slot.config.block}, "local attention", task);
  } else {
    MuseOptions<Scalar> options;
    options.progress =
        &task.stage("MuSe attention", progress_units(head->q.rows(), head->k.rows(), slot.config));
    MuseResult<Scalar> muse =
        muse_attention<Scalar>(head->q, head->k, head->v, head->scale, slot.config, options);
    result.attention = in_double(std::move(muse.attention));
    result.labels_q = std::move(muse.labels_q);
    result.labels_k = std::move(muse.labels_k);
    result.operations = muse.operations;
    result.seconds = muse.seconds.total();
  }
  result.exact_operations = exact_operations(*head, slot);
  return result;
}

// The method on the GPU, which runs one head at a time: views and sweeps take turns.
HeadRun run_muse_on_gpu(const DumpSession& session, const Slot& slot, Task& task) {
  static std::mutex turn;
  tools::require_gpu();
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  Progress& progress = task.stage("MuSe attention on the GPU", 1);
  const std::lock_guard lock(turn);
  throw_if_cancelled(&progress);
  tools::GpuRun gpu = tools::run_on_gpu(*head, slot.config, slot.device.gpu_numbers);
  progress.advance(1);
  HeadRun result;
  result.attention = in_double(gpu.attention);
  result.labels_q = std::move(gpu.labels_q);
  result.labels_k = std::move(gpu.labels_k);
  result.seconds = gpu.seconds;
  // Counted as the reference would with clusters of one size.
  result.operations = tools::planned_operations(
      tools::plan_levels(head->q.rows(), head->k.rows(), head->q.cols(), head->v.cols(), slot.config));
  result.exact_operations = exact_operations(*head, slot);
  return result;
}

}  // namespace

void require_slot_fits(const DumpSession& session, const Slot& slot) {
  const Dump& dump = session.dump();
  const auto require_index = [](const char* option, Index index, Index count) {
    if (index < 0 || index >= count)
      throw UsageError(fmt::format("{}: expected an index from 0 to {}, found {}", option, count - 1, index));
  };
  require_index("--batch", slot.batch, dump.batch());
  require_index("--head", slot.head, dump.heads_q());
  const Index longest = std::max(dump.tokens_q(), dump.tokens_k());
  if (slot.tokens > longest)
    throw UsageError(fmt::format("--tokens: expected at most the {} tokens of {}, found {}", longest,
                                 session.path().string(), slot.tokens));
  const auto first = [&](Index n) { return slot.tokens == 0 ? n : std::min(slot.tokens, n); };
  const Index Nq = first(dump.tokens_q()), Nk = first(dump.tokens_k());
  MUSE_REQUIRE(Nq == Nk || (!slot.causal() && slot.method != Method::local), "mode ",
               name_of(slot.config.mode), slot.method == Method::local ? ", method local," : "",
               " needs as many queries as keys, found ", Nq, " queries and ", Nk,
               " keys; use --mode acausal and another method than local");
}

HeadRun run_exact(const DumpSession& session, const Slot& slot, Task& task) {
  return slot.in_double() ? run<double>(session, slot, true, task) : run<float>(session, slot, true, task);
}

HeadRun run_slot(const DumpSession& session, const Slot& slot, Task& task) {
  if (slot.on_gpu()) return run_muse_on_gpu(session, slot, task);
  return slot.in_double() ? run<double>(session, slot, false, task) : run<float>(session, slot, false, task);
}

const std::vector<double>& QueryErrors::by(ErrorMetric metric) const {
  switch (metric) {
    case ErrorMetric::value:
      return value;
    case ErrorMetric::signed_difference:
      return difference;
    case ErrorMetric::absolute:
      return absolute;
    case ErrorMetric::squared:
      return squared;
    case ErrorMetric::relative:
      break;
  }
  return relative;
}

QueryErrors query_errors_of(const Attention<double>& approximate, const Attention<double>& exact) {
  QueryErrors errors{.head = head_error(approximate, exact)};
  const Vector<double> relative = query_errors(approximate, exact);
  for (Index n = 0; n < exact.o.rows(); ++n) {
    const double squared = (approximate.o.row(n) - exact.o.row(n)).squaredNorm();
    errors.value.push_back(approximate.o.row(n).norm());
    errors.difference.push_back(approximate.lse[n] - exact.lse[n]);
    errors.absolute.push_back(std::sqrt(squared));
    errors.squared.push_back(squared);
    errors.relative.push_back(relative[n]);
  }
  return errors;
}

std::string query_error_formula(ErrorMetric metric) {
  switch (metric) {
    case ErrorMetric::value:
      return "‖ô‖, norm of the approximate output (7.1)";
    case ErrorMetric::signed_difference:
      return "L̂ − L, error of the log-mass (8.3)";
    case ErrorMetric::absolute:
      return "‖ô − o‖, absolute error";
    case ErrorMetric::squared:
      return "‖ô − o‖², squared error";
    case ErrorMetric::relative:
      break;
  }
  return "‖ô − o‖²/‖o‖², relative squared error (8.4)";
}

}  // namespace muse::viewer
