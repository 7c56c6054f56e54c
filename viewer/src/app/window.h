// The window of the desktop: GLFW's events and OpenGL context, with Dear ImGui on it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "render/image.h"

struct GLFWwindow;

namespace muse::viewer {

/// A key as it was pressed, or repeated while held. GLFW's numbers.
struct KeyPress {
  int key = 0;
  int mods = 0;
  bool repeated = false;
};

/// Input that frames have taken so far: a script that sends input knows by it when the window has it.
struct InputTaken {
  std::size_t keys = 0;     ///< presses, modifiers and repeats not counted
  std::size_t clicks = 0;   ///< presses of buttons
  std::size_t notches = 0;  ///< turns of the wheel
  double x = 0, y = 0;      ///< where the pointer is
};

class Window {
 public:
  /// UsageError saying what to do where no window can be opened. `hidden`: for a picture of it alone.
  Window(int width, int height, const std::string& title, bool hidden);
  ~Window();
  Window(const Window&) = delete;
  Window& operator=(const Window&) = delete;

  /// Handles what has happened; waits for it up to `seconds`.
  void wait_events(double seconds);
  /// Ends a wait_events() from any thread.
  static void wake();

  /// Whether anything came from the person since the last call.
  [[nodiscard]] bool take_activity();
  /// Hands the input of the next frame to Dear ImGui, and returns the keys that were pressed. `typing`: a
  /// text field has the keyboard.
  [[nodiscard]] std::vector<KeyPress> take_input(bool typing);
  /// Whether input is left for later frames.
  [[nodiscard]] bool has_input() const;
  [[nodiscard]] std::vector<std::string> take_dropped_files();
  [[nodiscard]] const InputTaken& input_taken() const;
  /// Whether a key is down, as of the input taken so far.
  [[nodiscard]] bool is_down(int key) const;

  [[nodiscard]] bool should_close() const;
  void close();
  void set_title(const std::string& title);

  /// Size of the framebuffer; 0 by 0 while minimised.
  [[nodiscard]] int width() const;
  [[nodiscard]] int height() const;
  /// Pixels of the framebuffer to a unit of the pointer's coordinates: 1 except on some HiDPI screens.
  [[nodiscard]] double pixels_per_unit() const;
  [[nodiscard]] bool is_minimised() const;
  /// What the desktop says of its screen: 1, or 2 on a HiDPI one.
  [[nodiscard]] double content_scale() const;

  void begin_frame();
  /// Draws what Dear ImGui was told since begin_frame(); `captured`, if given, gets the pixels.
  void end_frame(render::Color background, std::optional<render::Image>* captured);
  /// A new font atlas is used from the next frame on.
  void renew_fonts();

 private:
  struct Events;
  GLFWwindow* window_ = nullptr;
  std::unique_ptr<Events> events_;
};

}  // namespace muse::viewer
