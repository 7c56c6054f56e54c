// One bar on standard error for a job of several tasks.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "interrupt.h"
#include "muse/progress.h"

namespace muse::tools {

/// Shows how far a job is, where standard error is a terminal and the job takes over a second; cancels its
/// task when SIGINT comes.
class ProgressBar {
 public:
  /// `total`: the weight of all tasks to come, in any unit.
  explicit ProgressBar(double total);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// Ends the task before and starts another, `weight` of the total, that will advance by `units`. The
  /// reference holds until the next start or finish.
  Progress& start(std::string task, double weight, double units);

  /// Ends the last task and clears the bar, so that results can be printed.
  void finish();

 private:
  void end_task();
  void show(double fraction_of_task);

  using Clock = std::chrono::steady_clock;
  double total_, done_ = 0, weight_ = 0;
  bool on_terminal_, shown_ = false;
  std::string task_;
  Clock::time_point started_ = Clock::now(), last_shown_ = started_;
  std::optional<Progress> progress_;
  std::optional<InterruptWatch> watch_;
};

}  // namespace muse::tools
