#include "app/shortcuts.h"

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>
#include <fmt/format.h>

#include <vector>

#include "app/layout.h"
#include "views/view.h"

namespace muse::viewer {

std::span<const Shortcut> shortcuts() {
  static const std::vector<Shortcut> table = [] {
    constexpr int kCtrl = GLFW_MOD_CONTROL, kShift = GLFW_MOD_SHIFT;
    std::vector<Shortcut> t;
    const auto add = [&](int key, int mods, Action action, int argument, std::string keys, std::string what,
                         std::string where, bool repeats = false, bool while_typing = false) {
      t.push_back({key, mods, action, argument, std::move(keys), std::move(what), std::move(where), repeats,
                   while_typing});
    };
    add(GLFW_KEY_O, kCtrl, Action::open, 0, "Ctrl+O", "open a dump", "Open…", false, true);
    add(GLFW_KEY_E, kCtrl, Action::export_view, 0, "Ctrl+E", "export the focused panel", "Export…", false,
        true);
    add(GLFW_KEY_F1, 0, Action::help, 0, "F1", "this window", "Help", false, true);
    add(GLFW_KEY_Q, kCtrl, Action::quit, 0, "Ctrl+Q", "close the program", "the window's own button", false,
        true);
    add(GLFW_KEY_ESCAPE, 0, Action::escape, 0, "Esc",
        "close a dialog; else unlock the selection; else drop the histogram's range", "Unlock", false, true);
    add(GLFW_KEY_LEFT_BRACKET, 0, Action::step_head, -1, "[", "previous head", "Head ◂", true);
    add(GLFW_KEY_RIGHT_BRACKET, 0, Action::step_head, 1, "]", "next head", "Head ▸", true);
    add(GLFW_KEY_PAGE_UP, 0, Action::step_layer, -1, "Page Up", "previous layer", "Layer ◂", true);
    add(GLFW_KEY_PAGE_DOWN, 0, Action::step_layer, 1, "Page Down", "next layer", "Layer ▸", true);
    add(GLFW_KEY_LEFT, 0, Action::step_query, -1, "←", "lock the query before", "Query −", true);
    add(GLFW_KEY_RIGHT, 0, Action::step_query, 1, "→", "lock the next query", "Query +", true);
    add(GLFW_KEY_LEFT, kShift, Action::step_query, -64, "Shift+←", "64 queries back", "Query −", true);
    add(GLFW_KEY_RIGHT, kShift, Action::step_query, 64, "Shift+→", "64 queries on", "Query +", true);
    add(GLFW_KEY_G, 0, Action::go_to_query, 0, "G", "type the number of a query", "Query field");
    add(GLFW_KEY_A, 0, Action::show_a, 0, "A", "show slot A", "Show: A");
    add(GLFW_KEY_B, 0, Action::show_b, 0, "B", "show slot B", "Show: B");
    add(GLFW_KEY_D, 0, Action::show_both, 0, "D", "show both slots and their difference", "Show: A and B");
    add(GLFW_KEY_F, 0, Action::flip, 0, "F (hold)", "the other slot while the key is held", "Flip (hold)");
    int number = 0;
    for (const View* view : all_views()) {
      ++number;
      if (number > 9) break;
      add(GLFW_KEY_0 + number, 0, Action::set_view, number - 1, fmt::format("{}", number),
          fmt::format("{} in the focused panel", view->title()), "name of the panel");
    }
    add(GLFW_KEY_TAB, 0, Action::next_panel, 1, "Tab", "focus the next panel", "a click on a panel");
    add(GLFW_KEY_M, 0, Action::maximise, 0, "M", "the focused panel alone, and back", "□ of the panel");
    number = 0;
    for (const Layout& layout : layout_presets()) {
      ++number;
      add(GLFW_KEY_0 + number, kCtrl, Action::use_layout, number - 1, fmt::format("Ctrl+{}", number),
          fmt::format("layout “{}”", layout.title), "Layout");
    }
    add(GLFW_KEY_HOME, 0, Action::fit, 0, "Home", "fit: everything is seen again (or double click)",
        "Fit of the panel");
    add(GLFW_KEY_EQUAL, 0, Action::zoom_in, 0, "=", "zoom in (or wheel up, at the cursor)", "+ of the panel",
        true);
    add(GLFW_KEY_MINUS, 0, Action::zoom_out, 0, "-", "zoom out (or wheel down)", "− of the panel", true);
    add(GLFW_KEY_L, 0, Action::lock_zoom, 0, "L", "all maps zoom together", "Lock zoom");
    add(GLFW_KEY_N, 0, Action::minimap, 0, "N", "minimap where a map is zoomed", "Minimap");
    add(GLFW_KEY_SPACE, 0, Action::play, 0, "Space", "play levels or k-means passes, or pause",
        "▶ of the panel");
    add(GLFW_KEY_COMMA, 0, Action::step_playback, -1, ",", "one level or pass back", "◂ of the panel", true);
    add(GLFW_KEY_PERIOD, 0, Action::step_playback, 1, ".", "one level or pass on", "▸ of the panel", true);
    add(GLFW_KEY_F5, 0, Action::recompute, 0, "F5", "compute again what was cancelled or failed",
        "Compute again");
    add(GLFW_KEY_BACKSPACE, 0, Action::cancel, 0, "Backspace", "cancel what is computed",
        "Cancel, beside the progress");
    add(GLFW_KEY_T, 0, Action::theme, 0, "T", "light or dark", "Dark");
    add(GLFW_KEY_EQUAL, kCtrl, Action::scale, 1, "Ctrl+=", "larger text and lines", "Size");
    add(GLFW_KEY_MINUS, kCtrl, Action::scale, -1, "Ctrl+-", "smaller text and lines", "Size");
    add(GLFW_KEY_S, 0, Action::sidebar, 0, "S", "controls on the left, or more room", "Controls");
    return t;
  }();
  return table;
}

const Shortcut* shortcut_for(int key, int mods) {
  // The number block, and + with Shift.
  if (key == GLFW_KEY_KP_ADD) key = GLFW_KEY_EQUAL;
  if (key == GLFW_KEY_KP_SUBTRACT) key = GLFW_KEY_MINUS;
  if (key >= GLFW_KEY_KP_1 && key <= GLFW_KEY_KP_9) key = key - GLFW_KEY_KP_0 + GLFW_KEY_0;
  if (key == GLFW_KEY_EQUAL) mods &= ~GLFW_MOD_SHIFT;
  constexpr int kCounted = GLFW_MOD_SHIFT | GLFW_MOD_CONTROL | GLFW_MOD_ALT | GLFW_MOD_SUPER;
  for (const Shortcut& shortcut : shortcuts())
    if (shortcut.key == key && shortcut.mods == (mods & kCounted)) return &shortcut;
  return nullptr;
}

std::string keys_of(Action action, int argument) {
  for (const Shortcut& shortcut : shortcuts())
    if (shortcut.action == action && shortcut.argument == argument) return shortcut.keys;
  return {};
}

}  // namespace muse::viewer
