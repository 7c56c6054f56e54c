// What the window shows, as JSON: for tests, which aim and check by it, and for scripts.
#pragma once

#include <chrono>
#include <string>

#include "app/ui.h"

namespace muse::viewer {

/// Writes the state to a file (replaced as a whole), or as one line each to standard output for "-",
/// whenever it differs from what was written last.
class StateWriter {
 public:
  /// An empty destination writes nothing.
  explicit StateWriter(std::string destination) : destination_(std::move(destination)) {}

  /// `width`, `height`: of the framebuffer. At most 20 times a second unless `final`.
  void write_if_changed(const Ui& ui, int width, int height, bool minimised, bool final);

 private:
  std::string destination_, last_;
  std::uint64_t writes_ = 0;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace muse::viewer
