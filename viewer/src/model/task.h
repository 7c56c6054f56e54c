// A long computation as its caller sees it: named stages, each with a progress, and one way to stop them all.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "muse/progress.h"

namespace muse::viewer {

/// Given to everything that takes long. The window shows and cancels it, a command draws a bar.
class Task {
 public:
  virtual ~Task() = default;
  /// Begins the next stage, which will advance by `units`. The reference holds until the next stage begins.
  /// Throws Cancelled if the task was cancelled.
  virtual Progress& stage(const std::string& name, double units) = 0;
};

/// A task that any thread may watch and cancel.
class WatchedTask : public Task {
 public:
  struct Status {
    std::string stage;
    double fraction = 0;  ///< of the stage, 0 to 1
  };

  Progress& stage(const std::string& name, double units) override;
  void cancel();
  [[nodiscard]] bool is_cancelled() const;
  [[nodiscard]] Status status() const;

 private:
  mutable std::mutex mutex_;
  Status status_;
  bool cancelled_ = false;
  std::shared_ptr<Progress> progress_;
};

}  // namespace muse::viewer
