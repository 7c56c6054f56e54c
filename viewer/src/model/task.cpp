#include "model/task.h"

namespace muse::viewer {

Progress& WatchedTask::stage(const std::string& name, double units) {
  auto progress = std::make_shared<Progress>([this](double fraction) {
    const std::lock_guard lock(mutex_);
    status_.fraction = fraction;
  });
  progress->expect(units);
  const std::lock_guard lock(mutex_);
  if (cancelled_) throw Cancelled();
  status_ = {name, 0};
  progress_ = std::move(progress);
  return *progress_;
}

void WatchedTask::cancel() {
  const std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (progress_) progress_->cancel = true;
}

bool WatchedTask::is_cancelled() const {
  const std::lock_guard lock(mutex_);
  return cancelled_;
}

WatchedTask::Status WatchedTask::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

}  // namespace muse::viewer
