// What the window shows, as JSON: for tests, which aim and check by it, and for scripts.
#pragma once

#include <chrono>
#include <string>

#include "app/ui.h"
#include "app/window.h"

namespace muse::viewer {

/// The window around what `Ui` holds.
struct WindowState {
  int width = 0, height = 0;  ///< of the framebuffer
  bool minimised = false;
  InputTaken input;
};

/// Writes the state to a file (replaced as a whole), or as one line each to standard output for "-",
/// whenever it differs from what was written last.
class StateWriter {
 public:
  /// An empty destination writes nothing.
  explicit StateWriter(std::string destination) : destination_(std::move(destination)) {}

  /// At most 50 times a second unless `final`.
  void write_if_changed(const Ui& ui, const WindowState& window, bool final);
  /// Whether that limit kept something from being written: another call is due.
  [[nodiscard]] bool is_behind() const { return behind_; }

 private:
  std::string destination_, last_;
  bool behind_ = false;
  std::uint64_t writes_ = 0;
  std::chrono::steady_clock::time_point next_{};
};

}  // namespace muse::viewer
