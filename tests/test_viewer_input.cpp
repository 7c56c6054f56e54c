// Input that comes faster than frames are drawn: nothing is lost, and what comes later does not change what
// came before.
#include <doctest/doctest.h>

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>

#include <algorithm>
#include <string>
#include <vector>

#include "app/input_queue.h"

using namespace muse::viewer;
using Kind = InputEvent::Kind;

namespace {

// A person at the keyboard and the mouse, who is quicker than the frames.
struct Person {
  InputQueue queue;

  void key(int code, bool down, int mods = 0, bool repeated = false) {
    queue.push({.kind = Kind::key, .code = code, .mods = mods, .down = down, .repeated = repeated});
  }
  void press(int code, int mods = 0) {
    key(code, true, mods);
    key(code, false, mods);
  }
  void type(const std::string& text) {
    for (const char c : text) {
      const int code = c >= 'a' && c <= 'z' ? c - 'a' + GLFW_KEY_A : c;
      key(code, true);
      queue.push({.kind = Kind::character, .code = c});
      key(code, false);
    }
  }
  void move(double x, double y) { queue.push({.kind = Kind::pointer, .x = x, .y = y}); }
  void button(bool down) { queue.push({.kind = Kind::button, .code = 0, .down = down}); }
  void click() {
    button(true);
    button(false);
  }
  void wheel(double notches) { queue.push({.kind = Kind::wheel, .y = notches}); }
};

// A frame as Dear ImGui knows it: states, and text without its place among them.
struct Frame {
  double x = 0;         // pointer
  bool button = false;  // is down
  bool pressed = false;
  double wheel = 0;
  bool ctrl = false;
  std::string text;
  std::vector<int> keys;  // pressed
};

// Frames until nothing is left. As in the window, letters are text from two frames after the click that
// gives a field the keyboard, and as long as `typing` says so.
std::vector<Frame> frames_of(InputQueue& queue, bool typing, bool click_opens_field = false) {
  std::vector<Frame> frames;
  Frame now;
  int opens_in = -1;
  while (!queue.empty()) {
    REQUIRE(frames.size() < 1000);
    if (opens_in > 0 && --opens_in == 0) typing = true;
    now.pressed = false;
    now.wheel = 0;
    now.text.clear();
    now.keys.clear();
    for (const InputEvent& event : queue.take_frame(typing)) switch (event.kind) {
        case Kind::key:
          if (event.code == GLFW_KEY_LEFT_CONTROL) now.ctrl = event.down;
          if (event.down) now.keys.push_back(event.code);
          break;
        case Kind::character:
          now.text += static_cast<char>(event.code);
          break;
        case Kind::pointer:
          now.x = event.x;
          break;
        case Kind::button:
          now.button = event.down;
          now.pressed = event.down;
          if (click_opens_field) opens_in = 2;
          break;
        case Kind::wheel:
          now.wheel += event.y;
          break;
      }
    frames.push_back(now);
  }
  return frames;
}

// What a text field gets: nothing while Ctrl is down, or before it has the keyboard.
std::string typed_in(const std::vector<Frame>& frames) {
  std::string text;
  for (const Frame& frame : frames)
    if (!frame.ctrl) text += frame.text;
  return text;
}

}  // namespace

TEST_CASE("a click stays where it was, wherever the pointer went then") {
  Person person;
  person.move(10, 0);
  person.click();
  person.move(500, 0);
  person.click();
  std::vector<double> clicks;
  for (const Frame& frame : frames_of(person.queue, false))
    if (frame.pressed) clicks.push_back(frame.x);
  CHECK(clicks == std::vector<double>{10, 500});
}

TEST_CASE("a double click is two clicks") {
  Person person;
  person.click();
  person.click();
  std::vector<bool> downs;
  for (const Frame& frame : frames_of(person.queue, false)) downs.push_back(frame.button);
  CHECK(downs == std::vector<bool>{true, false, true, false});
}

TEST_CASE("the wheel turns where the pointer was, notches at one place add up in one frame") {
  Person person;
  person.move(10, 0);
  for (int i = 0; i < 4; ++i) person.wheel(1);
  person.move(500, 0);
  const auto frames = frames_of(person.queue, false);
  REQUIRE(frames.size() == 2);
  CHECK(frames[0].x == 10);
  CHECK(frames[0].wheel == 4);
  CHECK(frames[1].x == 500);
}

TEST_CASE("text that follows Ctrl+A arrives whole and in order") {
  Person person;
  person.key(GLFW_KEY_LEFT_CONTROL, true);
  person.press(GLFW_KEY_A, GLFW_MOD_CONTROL);
  person.key(GLFW_KEY_LEFT_CONTROL, false, GLFW_MOD_CONTROL);
  person.type("hello");
  person.press(GLFW_KEY_ENTER);
  const auto frames = frames_of(person.queue, true);
  CHECK(typed_in(frames) == "hello");
  for (std::size_t n = 0; n < frames.size(); ++n) {
    CAPTURE(n);
    const auto& keys = frames[n].keys;
    // Ctrl is down in the frame of its letter, and Enter comes in a frame after all text.
    if (frames[n].ctrl) CHECK(frames[n].text.empty());
    if (std::find(keys.begin(), keys.end(), GLFW_KEY_ENTER) != keys.end()) {
      CHECK(n + 1 >= frames.size() - 1);
      CHECK(frames[n].text.empty());
    }
  }
}

TEST_CASE("Backspace between letters takes the one before it") {
  Person person;
  person.type("ab");
  person.press(GLFW_KEY_BACKSPACE);
  person.type("c");
  std::string field;
  for (const Frame& frame : frames_of(person.queue, true)) {
    const bool back = std::find(frame.keys.begin(), frame.keys.end(), GLFW_KEY_BACKSPACE) != frame.keys.end();
    CHECK_FALSE((back && !frame.text.empty()));
    if (back) field.pop_back();
    field += frame.text;
  }
  CHECK(field == "ac");
}

TEST_CASE("what is typed right after a click goes into the field that the click opens") {
  Person person;
  person.move(10, 0);
  person.click();
  person.type("300");
  bool after_click = false;
  std::size_t waited = 0;
  for (const Frame& frame : frames_of(person.queue, false, true)) {
    if (frame.pressed) after_click = true;
    if (after_click && frame.text.empty()) ++waited;
    if (!frame.text.empty()) after_click = false;
  }
  CHECK(waited >= static_cast<std::size_t>(InputQueue::kFramesToAnswer));
}

TEST_CASE("a letter that opens a text field is not typed into it") {
  Person person;
  person.type("g7");
  const auto frames = frames_of(person.queue, false);
  REQUIRE_FALSE(frames.empty());
  CHECK(frames.front().text == "g");  // with its key, before the field is there
  std::size_t digit = 0;
  while (frames[digit].text != "7") ++digit;
  CHECK(digit >= static_cast<std::size_t>(InputQueue::kFramesToAnswer));
}

TEST_CASE("text of any length is typed in a few frames, doubled letters included") {
  Person person;
  std::string text;
  for (int i = 0; i < 20; ++i) text += "path/too/";
  person.type(text);
  const auto frames = frames_of(person.queue, true);
  CHECK(typed_in(frames) == text);
  CHECK(frames.size() < text.size());
}

TEST_CASE("a held key and a moving pointer do not pile up behind slow frames") {
  Person person;
  person.key(GLFW_KEY_RIGHT, true);
  for (int i = 0; i < 100; ++i) person.key(GLFW_KEY_RIGHT, true, 0, true);
  CHECK(frames_of(person.queue, false).size() <= 2 + InputQueue::kFramesToAnswer);
  for (int i = 0; i < 100; ++i) person.move(i, 0);
  const auto frames = frames_of(person.queue, false);
  REQUIRE(frames.size() == 1);
  CHECK(frames[0].x == 99);
}
