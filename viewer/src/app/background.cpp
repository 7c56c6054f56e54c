#include "app/background.h"

#include <sys/resource.h>

#include <utility>

namespace muse::viewer {
namespace {

constexpr int kComputingNiceness =
    8;  // of -20 (first) to 19 (last): behind the window, not behind everything

// The thread of the worker, and those that OpenMP makes for it, give way to the window's.
void give_way(Worker& worker) {
  worker.request(
      "priority", [](Task&) { setpriority(PRIO_PROCESS, 0, kComputingNiceness); }, nullptr);
}

}  // namespace

void Inbox::post(std::function<void()> result) {
  {
    const std::lock_guard lock(mutex_);
    posted_.push_back(std::move(result));
  }
  if (wake_) wake_();
}

bool Inbox::drain() {
  std::vector<std::function<void()>> posted;
  {
    const std::lock_guard lock(mutex_);
    posted.swap(posted_);
  }
  for (const auto& result : posted) result();
  return !posted.empty();
}

Background::Background(std::function<void()> wake) : inbox(std::move(wake)) {
  give_way(files);
  give_way(views);
  give_way(sweeps);
}

bool Background::computing() const {
  return files.status().busy || views.status().busy || sweeps.status().busy;
}

void Background::cancel_computations() {
  views.cancel_all();
  sweeps.cancel_all();
}

}  // namespace muse::viewer
