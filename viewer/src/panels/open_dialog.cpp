// A dump by its path, by browsing folders, or one of the recent ones.
#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <filesystem>

#include "panels/panels.h"

namespace muse::viewer {
namespace {

constexpr float kMostRows = 7;  // of each list, before it scrolls

// A list of so many rows that scrolls where there are more.
bool begin_list(const char* name, std::size_t rows) {
  const float row = ImGui::GetTextLineHeightWithSpacing();
  const float height =
      row * std::clamp(static_cast<float>(rows), 1.0f, kMostRows) + 2 * ImGui::GetStyle().WindowPadding.y;
  return ImGui::BeginChild(name, {0, height}, true);
}

// What is typed, looked at in the background whenever it changes.
void keep_looking(Ui& ui) {
  OpenDialog& dialog = ui.open_dialog;
  if (dialog.look && dialog.look->typed == dialog.path) return;
  if (dialog.looking_at == dialog.path) return;
  dialog.looking_at = dialog.path;
  ui.background.files.request(
      "look",
      [&ui, path = dialog.path](Task&) {
        ui.background.inbox.post([&ui, look = look_at(path)] {
          ui.open_dialog.look = look;
          ui.open_dialog.looking_at.reset();
        });
      },
      nullptr);
}

// The entries of the folder; a click on a dump opens it, on a folder shows what is in it. What to open.
std::optional<std::string> draw_folder(Ui& ui, const PathLook& look) {
  std::optional<std::string> chosen;
  OpenDialog& dialog = ui.open_dialog;
  const auto go_to = [&](const std::string& folder) { dialog.path = folder == "/" ? folder : folder + "/"; };
  ImGui::TextDisabled("In");
  ImGui::SameLine();
  ImGui::TextUnformatted(fitted_end(look.folder, ImGui::GetContentRegionAvail().x).c_str());
  tooltip(look.folder);
  if (begin_list("folder", std::max<std::size_t>(1, look.entries.size()) + (look.has_parent ? 1 : 0))) {
    if (look.has_parent) {
      if (ImGui::Selectable(".."))
        go_to(std::filesystem::path(look.folder + "/..").lexically_normal().parent_path());
      ui.controls.note("open.up");
      tooltip("the folder around this one");
    }
    for (std::size_t i = 0; i < look.entries.size(); ++i) {
      const PathEntry& entry = look.entries[i];
      const std::string label = entry.is_dump ? entry.name : entry.name + "/";
      ImGui::PushID(static_cast<int>(i));
      if (ImGui::Selectable(label.c_str())) {
        if (entry.is_dump)
          chosen = entry.path;
        else
          go_to(entry.path);
      }
      ui.controls.note("open.entry=" + entry.name);
      tooltip(entry.is_dump ? "open this dump" : "see what is in this folder");
      if (entry.is_dump) {
        ImGui::SameLine(ImGui::GetContentRegionAvail().x - ImGui::CalcTextSize("dump").x);
        ImGui::TextDisabled("dump");
      }
      ImGui::PopID();
    }
    if (look.entries.empty()) ImGui::TextDisabled("No dumps and no folders.");
  }
  ImGui::EndChild();
  return chosen;
}

}  // namespace

void draw_open_dialog(Ui& ui) {
  OpenDialog& dialog = ui.open_dialog;
  if (dialog.wanted && ui.messages.empty()) {
    dialog.wanted = false;
    dialog.shown = dialog.focus_path = true;
    dialog.look.reset();
    dialog.looking_at.reset();
    if (dialog.path.empty() && ui.workspace.session) dialog.path = ui.workspace.session->path().string();
    ImGui::OpenPopup("Open a dump");
  }
  const ImVec2 screen = ImGui::GetIO().DisplaySize;
  ImGui::SetNextWindowPos({0.5f * screen.x, 0.08f * screen.y}, ImGuiCond_Appearing, {0.5f, 0});
  ImGui::SetNextWindowSize({std::min(ui.px(640), screen.x - ui.px(20)), 0});
  if (!ImGui::BeginPopupModal("Open a dump", &dialog.shown, ImGuiWindowFlags_NoSavedSettings)) return;
  keep_looking(ui);
  ImGui::PushTextWrapPos(0);
  ImGui::TextDisabled(
      "A folder with meta.json, q.npy, k.npy and v.npy, or an .npz or .safetensors file. Dropping "
      "it on the window opens it too.");
  ImGui::PopTextWrapPos();
  if (dialog.focus_path) ImGui::SetKeyboardFocusHere();
  dialog.focus_path = false;
  ImGui::SetNextItemWidth(-1);
  bool go =
      ImGui::InputTextWithHint("##path", "path of a dump", &dialog.path,
                               ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_AutoSelectAll);
  ui.controls.note("open.path");
  const PathLook look = dialog.look.value_or(PathLook{});
  // One line, also while nothing is known: the dialog does not jump.
  const bool known = look.typed == dialog.path && !look.words.empty();
  if (known && !look.may_be_dump && !look.leads_on)
    ImGui::TextColored(to_vec4(ui.appearance.palette().warning), "%s", look.words.c_str());
  else
    ImGui::TextDisabled("%s", known ? look.words.c_str() : " ");
  ui.controls.note("open.words");
  ImGui::BeginDisabled(known && !look.may_be_dump);
  go |= button(ui.controls, "open.go", "Open", "read this dump");
  ImGui::EndDisabled();
  ImGui::SameLine();
  if (button(ui.controls, "open.close", "Close", "leave things as they are") ||
      ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape)))
    dialog.shown = false;
  std::optional<std::string> chosen;
  if (!ui.settings.recent.empty()) {
    ImGui::Spacing();
    ImGui::TextDisabled("Recent");
    if (begin_list("recent", ui.settings.recent.size()))
      if (const std::string* recent = recent_dumps(ui, "open")) chosen = *recent;
    ImGui::EndChild();
  }
  if (!look.folder.empty()) {
    ImGui::Spacing();
    if (const auto entry = draw_folder(ui, look)) chosen = entry;
  }
  if (chosen) dialog.path = *chosen;
  if (chosen || (go && !dialog.path.empty())) {
    const std::string path = expanded_path(dialog.path);
    // What cannot be a dump is said in the dialog, which stays.
    if (chosen || may_be_dump(path)) {
      dialog.shown = false;
      ui.open_dump(path);
    } else {
      dialog.look.reset();
      dialog.looking_at.reset();
      dialog.focus_path = true;
    }
  }
  if (!dialog.shown) ImGui::CloseCurrentPopup();
  ImGui::EndPopup();
}

}  // namespace muse::viewer
