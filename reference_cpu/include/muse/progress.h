// How far a long computation is, and a way to stop it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>

#include "muse/check.h"

namespace muse {

/// Shared by the caller and a computation. The computation calls `advance` from any thread; `report` gets the
/// fraction done, 0 to 1, one call at a time. Setting `cancel` makes the computation throw `Cancelled` soon.
class Progress {
 public:
  Progress() = default;
  explicit Progress(std::function<void(double fraction)> report) : report_(std::move(report)) {}

  std::atomic<bool> cancel{false};

  /// Announces `units` more of work to come (any unit: only the ratio counts).
  void expect(double units) { expected_.store(expected_.load() + units); }

  /// Notes `units` of work done.
  void advance(double units) {
    const std::lock_guard lock(mutex_);
    done_ += units;
    const double expected = expected_.load();
    if (report_ && expected > 0) report_(done_ < expected ? done_ / expected : 1.0);
  }

 private:
  std::function<void(double)> report_;
  std::atomic<double> expected_{0};
  double done_ = 0;
  std::mutex mutex_;
};

/// Called between stages by long computations; `progress` may be null.
inline void throw_if_cancelled(const Progress* progress) {
  if (progress != nullptr && progress->cancel.load(std::memory_order_relaxed)) throw Cancelled();
}

}  // namespace muse
