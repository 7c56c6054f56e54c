// What went wrong and what to do: one dialog after the other, until each was read.
#include "panels/panels.h"

namespace muse::viewer {

void draw_message_dialog(Ui& ui) {
  if (ui.messages.empty()) return;
  if (!ImGui::IsPopupOpen("###message")) ImGui::OpenPopup("###message");
  const ImVec2 screen = ImGui::GetIO().DisplaySize;
  ImGui::SetNextWindowPos({0.5f * screen.x, 0.4f * screen.y}, ImGuiCond_Appearing, {0.5f, 0.5f});
  ImGui::SetNextWindowSize({std::min(ui.px(560), screen.x - ui.px(20)), 0});
  const Message& message = ui.messages.front();
  if (!ImGui::BeginPopupModal((message.title + "###message").c_str(), nullptr,
                              ImGuiWindowFlags_NoSavedSettings))
    return;
  ImGui::PushTextWrapPos(0);
  ImGui::TextUnformatted(message.text.c_str());
  ImGui::PopTextWrapPos();
  ImGui::Spacing();
  // The key that led here does not answer too.
  const bool answered =
      !ImGui::IsWindowAppearing() && (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape), false) ||
                                      ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Enter), false));
  const bool read = button(ui.controls, "message.ok", "OK", "") || answered;
  ImGui::SameLine();
  if (button(ui.controls, "message.copy", "Copy", "the text, to the clipboard"))
    ImGui::SetClipboardText((message.title + ": " + message.text).c_str());
  if (read) {
    ImGui::CloseCurrentPopup();
    ui.open_dialog.wanted |= message.leads_to_open;
    ui.messages.pop_front();
  }
  ImGui::EndPopup();
}

}  // namespace muse::viewer
