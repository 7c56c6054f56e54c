// Ctrl-C: a computation stops soon, nothing half-done is written, the exit status is 130.
#pragma once

#include "muse/progress.h"

namespace muse::tools {

inline constexpr int kInterruptedStatus = 130;  // as shells have it: 128 + SIGINT

/// From now on SIGINT cancels the watched computation; a second one ends the process at once.
void catch_interrupts();

/// Throws Cancelled if SIGINT has come. Call between the steps of long work.
void throw_if_interrupted();

/// Lets SIGINT cancel `progress` as long as this object lives. One at a time.
class InterruptWatch {
 public:
  explicit InterruptWatch(Progress& progress);
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
};

}  // namespace muse::tools
