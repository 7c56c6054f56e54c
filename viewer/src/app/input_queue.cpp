#include "app/input_queue.h"

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>

#include <algorithm>

namespace muse::viewer {
namespace {

using Kind = InputEvent::Kind;

// A key that writes a character into a text field.
bool writes(const InputEvent& key) {
  constexpr int kCommands = GLFW_MOD_CONTROL | GLFW_MOD_ALT | GLFW_MOD_SUPER;
  const bool printable = (key.code >= GLFW_KEY_SPACE && key.code <= GLFW_KEY_GRAVE_ACCENT) ||
                         (key.code >= GLFW_KEY_KP_0 && key.code <= GLFW_KEY_KP_ADD) ||
                         key.code == GLFW_KEY_WORLD_1 || key.code == GLFW_KEY_WORLD_2;
  return printable && (key.mods & kCommands) == 0;
}

// What one frame has taken so far.
class Portion {
 public:
  explicit Portion(bool typing) : typing_(typing) {}

  // Whether the frame can still tell `event` from what it has.
  [[nodiscard]] bool has_room_for(const InputEvent& event) const {
    if (event.kind == Kind::character && of_last_key_) return true;
    if (closed_) return false;
    switch (event.kind) {
      case Kind::pointer:
        return !wheel_;
      case Kind::wheel:
        return !keyboard_;
      case Kind::button:
        return !wheel_ && !keyboard_;
      case Kind::character:
        return true;
      case Kind::key:
        break;
    }
    // A text field cares for characters, not for how long their keys are down.
    if (!is_command(event) && !is_modifier(event.code)) return true;
    if (std::find(keys_.begin(), keys_.end(), event.code) != keys_.end()) return false;
    // A modifier that comes later does not belong to what came before.
    if (is_modifier(event.code)) return !keyboard_;
    return !(event.down && keyboard_);
  }

  void take(const InputEvent& event) {
    of_last_key_ = false;
    switch (event.kind) {
      case Kind::pointer:
        break;
      case Kind::wheel:
        wheel_ = true;
        break;
      case Kind::button:
        closed_ = commands_ = true;
        break;
      case Kind::character:
        keyboard_ = true;
        break;
      case Kind::key:
        keys_.push_back(event.code);
        if (!event.down || is_modifier(event.code)) break;
        keyboard_ = of_last_key_ = true;
        if (is_command(event)) closed_ = commands_ = true;
        break;
    }
  }

  // Whether anything was taken that the window may answer by moving the keyboard elsewhere.
  [[nodiscard]] bool commands() const { return commands_; }

 private:
  [[nodiscard]] bool is_command(const InputEvent& key) const { return !typing_ || !writes(key); }

  bool typing_;
  bool wheel_ = false, keyboard_ = false, closed_ = false, commands_ = false;
  bool of_last_key_ = false;  // the last event was the press of a key: its character belongs to it
  std::vector<int> keys_;     // pressed or released
};

}  // namespace

bool is_modifier(int key) {
  return key >= GLFW_KEY_LEFT_SHIFT && key <= GLFW_KEY_RIGHT_SUPER;
}

void InputQueue::push(const InputEvent& event) {
  // Frames slower than a held key repeats, or than the pointer moves, do not fall behind.
  if (!events_.empty()) {
    InputEvent& last = events_.back();
    if (event.kind == Kind::pointer && last.kind == Kind::pointer) {
      last = event;
      return;
    }
    if (event.kind == Kind::key && event.repeated && last.kind == Kind::key && last.repeated &&
        last.code == event.code)
      return;
  }
  events_.push_back(event);
}

std::vector<InputEvent> InputQueue::take_frame(bool typing) {
  std::vector<InputEvent> taken;
  Portion portion(typing);
  if (keyboard_waits_ > 0) --keyboard_waits_;
  while (!events_.empty()) {
    const InputEvent& next = events_.front();
    const bool types = next.kind == Kind::character || (next.kind == Kind::key && next.down);
    if (types && keyboard_waits_ > 0) break;
    if (!portion.has_room_for(next)) break;
    portion.take(next);
    taken.push_back(next);
    events_.pop_front();
  }
  if (portion.commands()) keyboard_waits_ = kFramesToAnswer;
  return taken;
}

}  // namespace muse::viewer
