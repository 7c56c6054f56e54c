// The background thread of the window: it computes while the window goes on drawing.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "model/task.h"

namespace muse::viewer {

/// Runs jobs one after the other on a thread of its own. Each job belongs to a channel (a view, say), and the
/// newest of a channel wins: it replaces one that waits and cancels one that runs.
class Worker {
 public:
  using Job = std::function<void(Task&)>;

  struct Status {
    bool busy = false;         ///< a job runs or waits
    std::string channel = {};  ///< of the job that runs
    std::string stage = {};
    double fraction = 0;                        ///< of the stage
    std::uint64_t finished = 0, cancelled = 0;  ///< jobs so far that ran to their end, and that were stopped
  };

  Worker();
  /// Cancels everything and waits for the thread.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  /// `job` runs on the worker's thread; it hands its result over itself. What it throws, other than
  /// Cancelled, goes to `failed` with the message, on the worker's thread.
  void request(const std::string& channel, Job job, std::function<void(const std::string&)> failed);
  /// Cancels the job of a channel, running or waiting.
  void cancel(const std::string& channel);
  void cancel_all();
  [[nodiscard]] Status status() const;
  /// Returns once nothing runs or waits.
  void wait_until_idle();

 private:
  struct Entry {
    std::string channel;
    Job job;
    std::function<void(const std::string&)> failed;
  };
  void run();

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> waiting_;
  std::string running_;                // channel
  std::shared_ptr<WatchedTask> task_;  // of the job that runs
  std::uint64_t finished_ = 0, cancelled_ = 0;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace muse::viewer
