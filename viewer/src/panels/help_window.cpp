// The mouse, all keys, and the control that does what each key does.
#include "panels/panels.h"

namespace muse::viewer {
namespace {

struct MouseRow {
  const char *gesture, *what, *control;
};

constexpr MouseRow kMouse[] = {
    {"point", "previews: all views follow, exact values at the bottom", "query field"},
    {"click", "locks what is under the pointer; once more unlocks", "query field, Unlock"},
    {"click a row of the worst", "locks it and zooms there", "query field, +"},
    {"click a head, a setting", "it becomes the current one", "Head, Method"},
    {"wheel", "zooms at the cursor; Shift: only across, Alt: only upright", "+ and − of the panel"},
    {"wheel over a table", "scrolls its rows", "bar at its right, last line"},
    {"drag", "moves a zoomed picture; in the histogram selects a range", "minimap; Drop the range"},
    {"double click", "fits: everything is seen again", "Fit of the panel"},
    {"drag an edge", "between panels: more room for one", "□ of the panel"},
    {"drop a file", "opens a dump", "Open…"},
};

void row(const char* a, const char* b, const char* c) {
  ImGui::TableNextRow();
  for (const char* text : {a, b, c}) {
    ImGui::TableNextColumn();
    ImGui::TextWrapped("%s", text);
  }
}

bool begin_table(Ui& ui, const char* first) {
  if (!ImGui::BeginTable(first, 3, ImGuiTableFlags_RowBg | ImGuiTableFlags_BordersInnerH)) return false;
  ImGui::TableSetupColumn(first, ImGuiTableColumnFlags_WidthFixed, ui.px(150));
  ImGui::TableSetupColumn("what it does", ImGuiTableColumnFlags_WidthStretch, 1.5f);
  ImGui::TableSetupColumn("control that does the same", ImGuiTableColumnFlags_WidthStretch, 1);
  ImGui::TableHeadersRow();
  return true;
}

}  // namespace

void draw_help_window(Ui& ui) {
  if (!ui.help_shown) return;
  const ImVec2 screen = ImGui::GetIO().DisplaySize;
  ImGui::SetNextWindowPos({0.5f * screen.x, 0.5f * screen.y}, ImGuiCond_Appearing, {0.5f, 0.5f});
  ImGui::SetNextWindowSize({std::min(ui.px(760), screen.x * 0.95f), screen.y * 0.86f}, ImGuiCond_Appearing);
  if (ImGui::Begin("Help: mouse and keys", &ui.help_shown,
                   ImGuiWindowFlags_NoSavedSettings | ImGuiWindowFlags_NoCollapse)) {
    ImGui::TextWrapped(
        "Pointing previews, a click locks, Esc unlocks, in every view. All views show the same "
        "selection. docs/viewer.md walks through a first look.");
    ImGui::Spacing();
    if (begin_table(ui, "mouse")) {
      for (const MouseRow& mouse : kMouse) row(mouse.gesture, mouse.what, mouse.control);
      ImGui::EndTable();
    }
    ImGui::Spacing();
    if (begin_table(ui, "key")) {
      for (const Shortcut& shortcut : shortcuts())
        row(shortcut.keys.c_str(), shortcut.what.c_str(), shortcut.where.c_str());
      ImGui::EndTable();
    }
    if (ImGui::IsWindowAppearing()) ImGui::SetWindowFocus();
  }
  ui.controls.note("help.window");
  ImGui::End();
}

}  // namespace muse::viewer
