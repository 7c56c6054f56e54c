// What a person did since the last frame, handed to frames in portions that a frame can tell apart.
//
// A frame of Dear ImGui knows where the pointer is, which keys and buttons are down and which characters were
// typed, but not in which order. Where frames are slow, a click and the move after it, or Ctrl+A and the text
// that replaces what it selected, would fall into one frame: the click would land elsewhere, the text would
// be lost.
#pragma once

#include <deque>
#include <vector>

namespace muse::viewer {

/// Something from the keyboard or the mouse. Numbers of keys, buttons and modifiers are those of GLFW.
struct InputEvent {
  enum class Kind { key, character, pointer, button, wheel };
  Kind kind = Kind::key;
  int code = 0;           ///< key, character or button
  int scancode = 0;       ///< of a key
  int mods = 0;           ///< of a key or button
  bool down = false;      ///< pressed, not released
  bool repeated = false;  ///< a key that is held
  double x = 0, y = 0;    ///< pointer: where; wheel: notches
};

/// Shift, Ctrl, Alt and the like.
[[nodiscard]] bool is_modifier(int key);

class InputQueue {
 public:
  /// Frames after a click or a command key in which the keyboard waits: a text field that they open takes
  /// what is typed from then on.
  static constexpr int kFramesToAnswer = 3;

  void push(const InputEvent& event);
  /// The events of the next frame, oldest first. Call once a frame. `typing`: a text field has the keyboard,
  /// so that letters are text and not commands.
  [[nodiscard]] std::vector<InputEvent> take_frame(bool typing);
  [[nodiscard]] bool empty() const { return events_.empty(); }

 private:
  std::deque<InputEvent> events_;
  int keyboard_waits_ = 0;  // frames
};

}  // namespace muse::viewer
