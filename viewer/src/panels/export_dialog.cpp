// The focused panel as a picture or its numbers, and the command that makes the same file.
#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <filesystem>

#include "app/command_words.h"
#include "panels/panels.h"

namespace muse::viewer {

void draw_export_dialog(Ui& ui) {
  ExportDialog& dialog = ui.export_dialog;
  bool just_opened = false;
  Workspace& w = ui.workspace;
  if (dialog.wanted) {
    dialog.wanted = false;
    dialog.shown = just_opened = true;
    std::error_code error;
    std::filesystem::path folder = ui.settings.export_folder;
    if (folder.empty()) folder = std::filesystem::current_path(error);
    const std::string ending =
        dialog.path.empty() ? ".png" : std::filesystem::path(dialog.path).extension().string();
    dialog.path =
        (folder / fmt::format("{}_{}{}", w.session->name(), w.focused_panel().view->name(), ending)).string();
    ImGui::OpenPopup("Export");
  }
  const ImVec2 screen = ImGui::GetIO().DisplaySize;
  ImGui::SetNextWindowPos({0.5f * screen.x, 0.4f * screen.y}, ImGuiCond_Appearing, {0.5f, 0.5f});
  ImGui::SetNextWindowSize({std::min(ui.px(680), screen.x - ui.px(20)), 0});
  if (!ImGui::BeginPopupModal("Export", &dialog.shown, ImGuiWindowFlags_NoSavedSettings)) return;
  ImGui::PushTextWrapPos(0);
  ImGui::TextDisabled("%s: .png writes the picture, .csv and .npy its numbers.",
                      std::string(w.focused_panel().view->title()).c_str());
  ImGui::PopTextWrapPos();
  if (just_opened) ImGui::SetKeyboardFocusHere();
  ImGui::SetNextItemWidth(-1);
  const bool entered = ImGui::InputText("##file", &dialog.path, ImGuiInputTextFlags_EnterReturnsTrue);
  ui.controls.note("export.path");
  ImGui::Checkbox("size as on the screen", &dialog.as_on_screen);
  ui.controls.note("export.as_on_screen");
  tooltip("otherwise the size that a picture of this view has by itself");
  std::error_code error;
  const bool there = std::filesystem::is_regular_file(dialog.path, error);
  const bool go = button(ui.controls, "export.go", there ? "Replace" : "Write",
                         "compute what is missing and write the file") ||
                  entered;
  ImGui::SameLine();
  if (button(ui.controls, "export.close", "Close", "write nothing") ||
      ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape)))
    dialog.shown = false;
  if (there) {
    ImGui::SameLine();
    ImGui::TextColored(to_vec4(ui.appearance.palette().warning), "There is a file of this name.");
    ui.controls.note("export.there");
  }
  if (go && !dialog.path.empty()) {
    dialog.shown = false;
    ui.export_focused(dialog.path, dialog.as_on_screen);
  }
  ImGui::Spacing();
  ImGui::TextDisabled("The same without a window:");
  const PanelPlace& place = ui.places[w.focused];
  render::FigureOptions options =
      dialog.as_on_screen ? ui.figure_options(place.picture) : w.focused_panel().view->default_size();
  options.first_row = w.focused_panel().first_row;
  const std::string command =
      export_command(w.session->path().string(), w.state_of(w.focused_panel()), *w.focused_panel().view,
                     dialog.path, options, ui.appearance.dark());
  ImGui::PushTextWrapPos(0);
  ImGui::TextUnformatted(command.c_str());
  ImGui::PopTextWrapPos();
  if (button(ui.controls, "export.copy", "Copy the command", "to the clipboard"))
    ImGui::SetClipboardText(command.c_str());
  if (!dialog.shown) ImGui::CloseCurrentPopup();
  ImGui::EndPopup();
}

}  // namespace muse::viewer
