#include "interrupt.h"

#include <atomic>
#include <csignal>

namespace muse::tools {
namespace {

std::atomic<bool> interrupted{false};
std::atomic<Progress*> watched{nullptr};
static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<Progress*>::is_always_lock_free,
              "a signal handler may use lock-free atomics only");

extern "C" void on_interrupt(int) {
  interrupted = true;
  if (Progress* progress = watched) progress->cancel = true;
}

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // the second SIGINT has its usual effect
  sigaction(SIGINT, &action, nullptr);
}

void throw_if_interrupted() {
  if (interrupted) throw Cancelled();
}

InterruptWatch::InterruptWatch(Progress& progress) {
  watched = &progress;
  if (interrupted) progress.cancel = true;
}

InterruptWatch::~InterruptWatch() {
  watched = nullptr;
}

}  // namespace muse::tools
