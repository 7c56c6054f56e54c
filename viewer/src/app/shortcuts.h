// Every key of the window, in one table: what is dispatched is what the help window shows.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace muse::viewer {

enum class Action {
  open,
  export_view,
  help,
  quit,
  escape,
  step_head,
  step_layer,
  step_query,
  go_to_query,
  show_a,
  show_b,
  show_both,
  flip,
  set_view,
  next_panel,
  maximise,
  use_layout,
  fit,
  zoom_in,
  zoom_out,
  lock_zoom,
  minimap,
  play,
  step_playback,
  recompute,
  cancel,
  theme,
  scale,
  sidebar
};

struct Shortcut {
  int key = 0;   ///< as GLFW numbers them
  int mods = 0;  ///< of GLFW_MOD_SHIFT, GLFW_MOD_CONTROL
  Action action = Action::help;
  int argument = 0;           ///< number of the view or layout, or the step
  std::string keys;           ///< as a person writes them
  std::string what;           ///< what it does
  std::string where;          ///< the visible control that does the same
  bool repeats = false;       ///< also while the key is held
  bool while_typing = false;  ///< also while a text field has the keyboard
};

[[nodiscard]] std::span<const Shortcut> shortcuts();
/// The shortcut of a key press, or null.
[[nodiscard]] const Shortcut* shortcut_for(int key, int mods);
/// "Ctrl+O" of an action, for tooltips; empty if it has none.
[[nodiscard]] std::string keys_of(Action action, int argument = 0);

}  // namespace muse::viewer
