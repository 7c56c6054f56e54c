// The threads behind the window, and how their results come back to it.
#pragma once

#include <functional>
#include <mutex>
#include <vector>

#include "model/worker.h"

namespace muse::viewer {

/// Closures that other threads hand to the window's thread.
class Inbox {
 public:
  /// `wake` is called, on the poster's thread, after each post: the window may be waiting for events.
  explicit Inbox(std::function<void()> wake) : wake_(std::move(wake)) {}

  void post(std::function<void()> result);
  /// Runs what was posted, on the caller's thread. Whether there was anything.
  bool drain();

 private:
  std::function<void()> wake_;
  std::mutex mutex_;
  std::vector<std::function<void()>> posted_;
};

/// Three threads that compute, and one that draws, so that no view waits for a sweep of settings and no
/// picture for a computation. Those that compute run at a lower priority than the window: with few cores it
/// stays fluent.
class Background {
 public:
  explicit Background(std::function<void()> wake);

  Inbox inbox;
  Worker files;    ///< reads dumps, writes exports
  Worker views;    ///< what the views need
  Worker sweeps;   ///< trade-off: many runs, minutes
  Worker painter;  ///< pictures of what is computed

  /// The worker that computes the content of a view.
  [[nodiscard]] Worker& for_view(std::string_view view) { return view == "tradeoff" ? sweeps : views; }
  /// Whether any thread but the painter has something to do.
  [[nodiscard]] bool computing() const;
  void cancel_computations();
};

}  // namespace muse::viewer
