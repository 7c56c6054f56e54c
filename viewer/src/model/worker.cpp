#include "model/worker.h"

#include <algorithm>
#include <exception>
#include <utility>

namespace muse::viewer {

Worker::Worker() : thread_([this] { run(); }) {}

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    waiting_.clear();
    if (task_) task_->cancel();
  }
  changed_.notify_all();
  thread_.join();
}

void Worker::request(const std::string& channel, Job job, std::function<void(const std::string&)> failed) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](const Entry& entry) { return entry.channel == channel; });
    if (task_ && running_ == channel) task_->cancel();
    waiting_.push_back({channel, std::move(job), std::move(failed)});
  }
  changed_.notify_all();
}

void Worker::cancel(const std::string& channel) {
  {
    const std::lock_guard lock(mutex_);
    std::erase_if(waiting_, [&](const Entry& entry) { return entry.channel == channel; });
    if (task_ && running_ == channel) task_->cancel();
  }
  changed_.notify_all();
}

void Worker::cancel_all() {
  {
    const std::lock_guard lock(mutex_);
    waiting_.clear();
    if (task_) task_->cancel();
  }
  changed_.notify_all();
}

Worker::Status Worker::status() const {
  const std::lock_guard lock(mutex_);
  Status status{.busy = task_ != nullptr || !waiting_.empty(),
                .channel = running_,
                .finished = finished_,
                .cancelled = cancelled_};
  if (task_) {
    const WatchedTask::Status of_task = task_->status();
    status.stage = of_task.stage;
    status.fraction = of_task.fraction;
  }
  return status;
}

void Worker::wait_until_idle() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return task_ == nullptr && waiting_.empty(); });
}

void Worker::run() {
  for (;;) {
    Entry entry;
    std::shared_ptr<WatchedTask> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stop_ || !waiting_.empty(); });
      if (stop_) return;
      entry = std::move(waiting_.front());
      waiting_.pop_front();
      running_ = entry.channel;
      task = task_ = std::make_shared<WatchedTask>();
    }
    bool cancelled = false;
    try {
      entry.job(*task);
    } catch (const Cancelled&) {
      cancelled = true;  // whoever cancelled it knows
    } catch (const std::exception& error) {
      if (entry.failed) entry.failed(error.what());
    }
    {
      const std::lock_guard lock(mutex_);
      ++(cancelled ? cancelled_ : finished_);
      task_.reset();
      running_.clear();
    }
    changed_.notify_all();
  }
}

}  // namespace muse::viewer
