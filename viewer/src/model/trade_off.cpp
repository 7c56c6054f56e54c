#include "model/trade_off.h"

#include <fmt/format.h>

#include <algorithm>

#include "muse/check.h"
#include "muse/tune.h"

namespace muse::viewer {
namespace {

constexpr Index kTunedTokens = 8192;             // the quick grid tunes on so many
constexpr Index kMostTokensOfValueOrder = 8192;  // beyond, dipole_value takes minutes

const std::vector<std::string> kRetrieve{"0", "2", "4", "8", "16", "32"};
const std::vector<std::string> kClusters{"S/64:16:128", "S/32:32:256", "S/16:32:512", "S/8:64:1024"};
const std::vector<std::string> kBlocks{"256", "512", "1024", "2048", "4096"};

struct Trial {
  std::string series, name;
  Slot slot;
};

Slot with(const Slot& slot, const std::string& option, const std::string& value) {
  Slot changed = slot;
  changed.method = Method::muse;
  set_option(changed.config, option, value);
  return changed;
}

bool is_new(const std::vector<Trial>& trials, const Slot& slot, const std::string& series) {
  return std::none_of(trials.begin(), trials.end(),
                      [&](const Trial& trial) { return trial.slot == slot && trial.series == series; });
}

// A line through the current setting along each parameter, or all combinations of the main ones.
std::vector<Trial> trials_of(const Slot& current, Grid grid, Index N) {
  std::vector<Trial> trials;
  const auto add = [&](const std::string& series, const std::string& name, const Slot& slot) {
    if (is_new(trials, slot, series)) trials.push_back({series, name, slot});
  };
  const auto fits = [&](const std::string& block) { return current.causal() && std::stoll(block) < N; };
  add("retrieve r", fmt::format("r={}", get_option(current.config, "retrieve")),
      with(current, "retrieve", get_option(current.config, "retrieve")));
  for (const std::string& r : kRetrieve) add("retrieve r", "r=" + r, with(current, "retrieve", r));
  for (const std::string& C : kClusters) add("clusters C", "C=" + C, with(current, "clusters", C));
  for (const std::string& B : kBlocks)
    if (fits(B)) add("block B", "B=" + B, with(current, "block", B));
  for (const char* order : {"centroid", "monopole", "dipole", "dipole_value", "dipole_spread"})
    if (std::string_view(order) != "dipole_value" || N <= kMostTokensOfValueOrder)
      add("order", order, with(current, "order", order));
  if (grid == Grid::quick) return trials;
  for (const std::string& C : kClusters)
    for (const std::string& r : kRetrieve)
      for (const std::string& B : kBlocks) {
        if (current.causal() && !fits(B)) continue;
        if (!current.causal() && B != kBlocks.front()) continue;
        Slot slot = with(with(current, "clusters", C), "retrieve", r);
        if (current.causal()) slot = with(slot, "block", B);
        add("all combinations",
            current.causal() ? fmt::format("C={} r={} B={}", C, r, B) : fmt::format("C={} r={}", C, r), slot);
      }
  return trials;
}

}  // namespace

TradeOff trade_off_of(const DumpSession& session, const Slot& slot, Grid grid, double max_error,
                      const HeadRun& exact, Task& task) {
  Slot current = slot;
  current.method = Method::muse;
  current.device.precision = tools::Precision::single;
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  const Index N = head->q.rows();
  TradeOff result{.on_gpu = current.on_gpu(), .exact_seconds = exact.seconds, .max_error = max_error};

  // The tuner's answer on this head.
  result.tuned_tokens = grid == Grid::quick ? std::min(N, kTunedTokens) : N;
  std::vector<Trial> trials = trials_of(current, grid, N);
  {
    Progress& progress = task.stage("tuning", 1);
    const auto tuned_head = session.head<float>(slot.batch, slot.head, result.tuned_tokens);
    const TuneResult tuned =
        tune<float>(std::span(tuned_head.get(), 1), current.config, max_error, &progress);
    result.tuned_found = tuned.found;
    if (tuned.found) {
      Slot answer = current;
      answer.config = tuned.points[tuned.best].config;
      trials.push_back({"muse tune", fmt::format("tuned: {}", slot_word(answer)), answer});
    }
  }
  for (std::size_t n = 0; n < trials.size(); ++n) {
    const Trial& trial = trials[n];
    TradeOffPoint point{.series = trial.series, .name = trial.name, .slot = trial.slot};
    // A setting that two series share is run once.
    const auto same = std::find_if(result.points.begin(), result.points.end(),
                                   [&](const TradeOffPoint& other) { return other.slot == trial.slot; });
    if (same != result.points.end()) {
      point.error = same->error;
      point.operations = same->operations;
      point.seconds = same->seconds;
    } else {
      HeadRun run;
      try {
        run = run_slot(session, trial.slot, task);
      } catch (const Error& error) {
        // The GPU does not do everything; the current setting has to work.
        if (!result.on_gpu || n == 0 || error.status() != ExitStatus::wrong_use) throw;
        result.left_out.push_back(fmt::format("{} ({})", trial.name, error.what()));
        continue;
      }
      point.error = head_error(run.attention, exact.attention).rel_sq_err;
      point.operations = run.total_operations() / run.exact_operations;
      point.seconds = run.seconds;
    }
    point.tuned = trial.series == "muse tune";
    result.points.push_back(std::move(point));
  }
  return result;
}

}  // namespace muse::viewer
