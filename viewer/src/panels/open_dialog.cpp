// A dump by its path, or one of the recent ones.
#include <imgui.h>
#include <imgui_stdlib.h>

#include "panels/panels.h"

namespace muse::viewer {

void draw_open_dialog(Ui& ui) {
  OpenDialog& dialog = ui.open_dialog;
  bool just_opened = false;
  if (dialog.wanted) {
    dialog.wanted = false;
    dialog.shown = just_opened = true;
    if (dialog.path.empty() && ui.workspace.session) dialog.path = ui.workspace.session->path().string();
    ImGui::OpenPopup("Open a dump");
  }
  const ImVec2 screen = ImGui::GetIO().DisplaySize;
  ImGui::SetNextWindowPos({0.5f * screen.x, 0.4f * screen.y}, ImGuiCond_Appearing, {0.5f, 0.5f});
  ImGui::SetNextWindowSize({std::min(ui.px(640), screen.x - ui.px(20)), 0});
  if (!ImGui::BeginPopupModal("Open a dump", &dialog.shown, ImGuiWindowFlags_NoSavedSettings)) return;
  ImGui::PushTextWrapPos(0);
  ImGui::TextDisabled(
      "A folder with meta.json, q.npy, k.npy and v.npy, or an .npz or .safetensors file. Dropping "
      "it on the window opens it too.");
  ImGui::PopTextWrapPos();
  if (just_opened) ImGui::SetKeyboardFocusHere();
  ImGui::SetNextItemWidth(-1);
  const bool entered = ImGui::InputText(
      "##path", &dialog.path, ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_AutoSelectAll);
  ui.controls.note("open.path");
  bool go = button(ui.controls, "open.go", "Open", "read this dump") || entered;
  ImGui::SameLine();
  if (button(ui.controls, "open.close", "Close", "leave things as they are") ||
      ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape)))
    dialog.shown = false;
  ImGui::Spacing();
  ImGui::TextDisabled("Recent");
  if (const std::string* chosen = recent_dumps(ui, "open")) {
    dialog.path = *chosen;
    go = true;
  }
  if (go && !dialog.path.empty()) {
    dialog.shown = false;
    ui.open_dump(dialog.path);
  }
  if (!dialog.shown) ImGui::CloseCurrentPopup();
  ImGui::EndPopup();
}

}  // namespace muse::viewer
