#include "panels/controls.h"

namespace muse::viewer {
namespace {

constexpr double kRest = 0.35;  // seconds before a tooltip shows

}  // namespace

void Controls::begin_frame() {
  places_.clear();
  typed_into_.clear();
}

void Controls::note(const std::string& name) {
  const ImVec2 low = ImGui::GetItemRectMin(), high = ImGui::GetItemRectMax();
  if (ImGui::IsItemVisible()) places_[name] = {low.x, low.y, high.x, high.y};
  if (ImGui::IsItemActive() && ImGui::GetIO().WantTextInput) typed_into_ = name;
}

bool button(Controls& controls, const std::string& name, const char* label, const std::string& help,
            const std::string& keys) {
  const bool pressed = ImGui::Button((label + ("##" + name)).c_str());
  controls.note(name);
  tooltip(keys.empty() ? help : help + "\nKey: " + keys);
  return pressed;
}

bool toggle(Controls& controls, const std::string& name, const char* label, bool on, const std::string& help,
            const std::string& keys) {
  if (on) {
    ImGui::PushStyleColor(ImGuiCol_Button, ImGui::GetStyleColorVec4(ImGuiCol_CheckMark));
    ImGui::PushStyleColor(ImGuiCol_ButtonHovered, ImGui::GetStyleColorVec4(ImGuiCol_CheckMark));
    ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_WindowBg));
  }
  const bool pressed = ImGui::Button((label + ("##" + name)).c_str());
  if (on) ImGui::PopStyleColor(3);
  controls.note(name);
  tooltip(keys.empty() ? help : help + "\nKey: " + keys);
  return pressed;
}

void tooltip(const std::string& text) {
  if (text.empty() || !ImGui::IsItemHovered(ImGuiHoveredFlags_AllowWhenDisabled)) return;
  // Only once the pointer rests.
  static double moved_at = 0;
  const ImVec2 moved = ImGui::GetIO().MouseDelta;
  if (moved.x != 0 || moved.y != 0) moved_at = ImGui::GetTime();
  if (ImGui::GetTime() - moved_at < kRest) return;
  ImGui::BeginTooltip();
  ImGui::PushTextWrapPos(ImGui::GetFontSize() * 28);
  ImGui::TextUnformatted(text.c_str());
  ImGui::PopTextWrapPos();
  ImGui::EndTooltip();
}

void in_area(const char* name, const Area& area, const std::function<void()>& content,
             ImGuiWindowFlags more_flags) {
  ImGui::SetNextWindowPos(area.begin());
  ImGui::SetNextWindowSize(area.size());
  ImGui::PushStyleVar(ImGuiStyleVar_WindowRounding, 0);
  ImGui::PushStyleVar(ImGuiStyleVar_WindowMinSize, ImVec2(1, 1));
  const bool open =
      ImGui::Begin(name, nullptr,
                   ImGuiWindowFlags_NoTitleBar | ImGuiWindowFlags_NoResize | ImGuiWindowFlags_NoMove |
                       ImGuiWindowFlags_NoCollapse | ImGuiWindowFlags_NoSavedSettings |
                       ImGuiWindowFlags_NoBringToFrontOnFocus | ImGuiWindowFlags_NoNav |
                       ImGuiWindowFlags_NoBackground | more_flags);
  ImGui::PopStyleVar(2);
  if (ImGui::GetStyle().WindowBorderSize > 0) {
    ImDrawList& list = *ImGui::GetWindowDrawList();
    list.PushClipRect(area.begin(), area.end());
    list.AddRect(area.begin(), area.end(), ImGui::GetColorU32(ImGuiCol_Border));
    list.PopClipRect();
  }
  if (open) content();
  ImGui::End();
}

void next_to(float width_of_next, float gap) {
  const float used = ImGui::GetItemRectMax().x;
  const float space = gap >= 0 ? gap : ImGui::GetStyle().ItemSpacing.x;
  const float right = ImGui::GetWindowPos().x + ImGui::GetWindowContentRegionMax().x;
  if (used + space + width_of_next <= right) ImGui::SameLine(0, space);
}

std::string fitted_end(const std::string& text, float width) {
  if (ImGui::CalcTextSize(text.c_str()).x <= width) return text;
  for (std::size_t cut = 1; cut < text.size(); ++cut) {
    // Not within a character.
    if ((static_cast<unsigned char>(text[cut]) & 0xC0U) == 0x80U) continue;
    const std::string shorter = "…" + text.substr(cut);
    if (ImGui::CalcTextSize(shorter.c_str()).x <= width) return shorter;
  }
  return "…";
}

float button_width(const char* label) {
  return ImGui::CalcTextSize(label, nullptr, true).x + 2 * ImGui::GetStyle().FramePadding.x;
}

}  // namespace muse::viewer
