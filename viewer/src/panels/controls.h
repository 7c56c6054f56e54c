// Widgets of the window, each with a name under which a test, or a person's script, finds its place.
#pragma once

#include <imgui.h>

#include <functional>
#include <map>
#include <string>

#include "app/appearance.h"
#include "app/shortcuts.h"

namespace muse::viewer {

/// A rectangle of the window, in pixels.
struct Area {
  float x0 = 0, y0 = 0, x1 = 0, y1 = 0;

  [[nodiscard]] float width() const { return x1 - x0; }
  [[nodiscard]] float height() const { return y1 - y0; }
  [[nodiscard]] ImVec2 begin() const { return {x0, y0}; }
  [[nodiscard]] ImVec2 end() const { return {x1, y1}; }
  [[nodiscard]] ImVec2 size() const { return {width(), height()}; }
};

/// Where the controls of the current frame are.
class Controls {
 public:
  void begin_frame();
  /// The widget that was drawn last is called `name`.
  void note(const std::string& name);
  /// The same for what is part of a picture.
  void note(const std::string& name, const Area& area) { places_[name] = area; }
  [[nodiscard]] const std::map<std::string, Area>& places() const { return places_; }
  /// The text field that has the keyboard; empty: none.
  [[nodiscard]] const std::string& typed_into() const { return typed_into_; }

 private:
  std::map<std::string, Area> places_;
  std::string typed_into_;
};

/// A button with a tooltip, which names the shortcut of `keys`.
bool button(Controls& controls, const std::string& name, const char* label, const std::string& help,
            const std::string& keys = {});
/// A button that looks pressed while `on`.
bool toggle(Controls& controls, const std::string& name, const char* label, bool on, const std::string& help,
            const std::string& keys = {});
/// Text in a bubble over the widget that was drawn last, once the pointer rests on it.
void tooltip(const std::string& text);

/// A window that fills `area` while `content` is drawn into it. It has a border but no background: that is
/// what the frame is cleared to, which costs less than to paint it where no graphics card does.
void in_area(const char* name, const Area& area, const std::function<void()>& content,
             ImGuiWindowFlags more_flags = 0);

/// Puts the next widget on the same line, `gap` pixels on, or on the next line if it would not fit.
void next_to(float width_of_next, float gap = -1);
/// `text`, shortened at its beginning to at most `width` pixels: of a long path the end says most.
[[nodiscard]] std::string fitted_end(const std::string& text, float width);
/// Width of a button with that label.
[[nodiscard]] float button_width(const char* label);

}  // namespace muse::viewer
