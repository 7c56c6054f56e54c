#include "panels/option_control.h"

#include <fmt/format.h>
#include <imgui.h>
#include <imgui_stdlib.h>

#include <algorithm>
#include <charconv>

namespace muse::viewer {
namespace {

constexpr float kLabelShare = 0.42f;  // of the width

std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

std::int64_t number_or(const std::string& text, std::int64_t otherwise) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : otherwise;
}

std::string help_of(const OptionInfo& info, const OptionHints& hints) {
  std::string text = info.help;
  if (!info.unit.empty()) text += fmt::format("\nUnit: {}.", info.unit);
  text +=
      fmt::format("\nDefault: {}. On the command line: --{} {}", info.default_value, info.name, info.type);
  if (!hints.more_help.empty()) text += "\n\n" + hints.more_help;
  return text;
}

// A text field: the text once Enter was pressed or the field was left. While it is typed, what is typed is
// kept; otherwise the field shows `text`.
std::optional<std::string> text_field(Controls& controls, const std::string& id, const std::string& text,
                                      float width) {
  static std::string edited_id, edited;
  std::string shown = edited_id == id ? edited : text;
  ImGui::SetNextItemWidth(width);
  const bool entered = ImGui::InputText(
      ("##" + id).c_str(), &shown, ImGuiInputTextFlags_EnterReturnsTrue | ImGuiInputTextFlags_AutoSelectAll);
  controls.note(id);
  if (ImGui::IsItemActive()) {
    edited_id = id;
    edited = shown;
  }
  const bool left = ImGui::IsItemDeactivated();
  if (!entered && !left) return std::nullopt;
  const bool abandoned = left && !entered && ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape));
  const std::string typed = edited_id == id ? edited : shown;
  if (edited_id == id) edited_id.clear();
  if (abandoned || typed == text) return std::nullopt;
  return typed;
}

std::optional<std::string> choice(Controls& controls, const std::string& id,
                                  const std::vector<std::string>& words, const std::string& text,
                                  const std::map<std::string, std::string>& refused = {}) {
  std::optional<std::string> chosen;
  ImGui::SetNextItemWidth(-1);
  const bool open = ImGui::BeginCombo(("##" + id).c_str(), text.c_str());
  controls.note(id);
  if (!open) return chosen;
  for (const std::string& word : words) {
    const auto why_not = refused.find(word);
    ImGui::BeginDisabled(why_not != refused.end());
    if (ImGui::Selectable(word.c_str(), word == text)) chosen = word;
    controls.note(id + "=" + word);
    ImGui::EndDisabled();
    if (why_not != refused.end()) tooltip(why_not->second);
  }
  ImGui::EndCombo();
  return chosen;
}

std::optional<std::string> whole_number(Controls& controls, const std::string& id, std::int64_t value,
                                        const OptionHints& hints, float width) {
  const std::string text = fmt::format("{}", value);
  if (hints.most && *hints.most > hints.least && *hints.most - hints.least <= 64) {
    auto slid = static_cast<int>(value);
    ImGui::SetNextItemWidth(width);
    const bool changed = ImGui::SliderInt(("##" + id).c_str(), &slid, static_cast<int>(hints.least),
                                          static_cast<int>(*hints.most));
    controls.note(id);
    if (!changed) return std::nullopt;
    return fmt::format("{}", std::clamp<std::int64_t>(slid, hints.least, *hints.most));
  }
  const float side = ImGui::GetFrameHeight(), gap = ImGui::GetStyle().ItemInnerSpacing.x;
  auto result = text_field(controls, id, text, std::max(1.0f, width - 2 * (side + gap)));
  const auto step = [&](const char* label, const char* suffix, std::int64_t by) {
    ImGui::SameLine(0, gap);
    ImGui::PushButtonRepeat(true);
    if (ImGui::Button((label + ("##" + id)).c_str(), {side, side}))
      result = fmt::format("{}", std::max(hints.least, value + by));
    ImGui::PopButtonRepeat();
    controls.note(id + suffix);
  };
  step("−", ".less", -1);
  step("+", ".more", 1);
  return result;
}

// "auto|INT": a box for the word, a number where it is not ticked.
std::optional<std::string> word_or_number(Controls& controls, const std::string& id, const std::string& word,
                                          const std::string& text, const OptionHints& hints) {
  std::optional<std::string> result;
  bool on = text == word;
  if (ImGui::Checkbox((word + "##" + id).c_str(), &on))
    result = on ? word : fmt::format("{}", hints.most.value_or(hints.least));
  controls.note(id + "=" + word);
  if (text == word) return result;
  ImGui::SameLine();
  if (auto typed =
          whole_number(controls, id, number_or(text, hints.least), hints, ImGui::GetContentRegionAvail().x))
    result = typed;
  return result;
}

// "auto|LOW:HIGH|P%:P%": which of them, and two numbers.
std::optional<std::string> value_range(Controls& controls, const std::string& id, const std::string& text) {
  const bool automatic = text == "auto", percent = text.find('%') != std::string::npos;
  const std::vector<std::string> kinds = {"auto", "percentiles", "values"};
  const std::string& kind = kinds[automatic ? 0 : percent ? 1 : 2];
  if (const auto chosen = choice(controls, id, kinds, kind)) {
    if (*chosen == kind) return std::nullopt;
    return *chosen == "auto" ? "auto" : *chosen == "percentiles" ? "1%:99%" : "0.001:1";
  }
  if (automatic) return std::nullopt;
  std::string numbers = text;
  std::erase(numbers, '%');
  const std::vector<std::string> ends = parts_of(numbers, ':');
  if (ends.size() != 2) return std::nullopt;
  const float width = 0.5f * (ImGui::GetContentRegionAvail().x - ImGui::GetStyle().ItemInnerSpacing.x);
  const std::string mark = percent ? "%" : "";
  const auto low = text_field(controls, id + ".low", ends[0], width);
  ImGui::SameLine(0, ImGui::GetStyle().ItemInnerSpacing.x);
  const auto high = text_field(controls, id + ".high", ends[1], -1);
  if (!low && !high) return std::nullopt;
  return low.value_or(ends[0]) + mark + ":" + high.value_or(ends[1]) + mark;
}

std::optional<std::string> free_text(Controls& controls, const std::string& id, const std::string& text,
                                     const OptionHints& hints) {
  if (hints.presets.empty()) return text_field(controls, id, text, -1);
  const float side = ImGui::GetFrameHeight(), gap = ImGui::GetStyle().ItemInnerSpacing.x;
  auto result = text_field(controls, id, text, std::max(1.0f, ImGui::GetContentRegionAvail().x - side - gap));
  ImGui::SameLine(0, gap);
  const bool open = ImGui::BeginCombo(("##presets of " + id).c_str(), "", ImGuiComboFlags_NoPreview);
  controls.note(id + ".presets");
  if (open) {
    for (const std::string& preset : hints.presets) {
      if (ImGui::Selectable(preset.c_str(), preset == text)) result = preset;
      controls.note(id + "=" + preset);
    }
    ImGui::EndCombo();
  }
  return result;
}

}  // namespace

std::vector<std::string> choices_of(const std::string& type) {
  const bool words = type.find('|') != std::string::npos &&
                     std::none_of(type.begin(), type.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  return words ? parts_of(type, '|') : std::vector<std::string>();
}

std::optional<std::string> option_control(Controls& controls, const std::string& id, const OptionInfo& info,
                                          const std::string& text, const OptionHints& hints) {
  std::optional<std::string> result;
  ImGui::PushID(id.c_str());
  const float width = ImGui::GetContentRegionAvail().x, left = ImGui::GetCursorPosX();
  ImGui::AlignTextToFramePadding();
  // Options that differ from their default stand out.
  const bool changed = text != info.default_value;
  if (!changed) ImGui::PushStyleColor(ImGuiCol_Text, ImGui::GetStyleColorVec4(ImGuiCol_TextDisabled));
  ImGui::TextUnformatted(info.name.c_str());
  if (!changed) ImGui::PopStyleColor();
  tooltip(help_of(info, hints));
  ImGui::SameLine(left + width * kLabelShare);
  ImGui::BeginGroup();
  const std::vector<std::string> words = choices_of(info.type);
  if (words == std::vector<std::string>{"yes", "no"}) {
    bool on = text == "yes";
    if (ImGui::Checkbox(("##" + id).c_str(), &on)) result = on ? "yes" : "no";
    controls.note(id);
  } else if (!words.empty()) {
    result = choice(controls, id, words, text, hints.refused);
  } else if (info.type == "INT") {
    result =
        whole_number(controls, id, number_or(text, hints.least), hints, ImGui::GetContentRegionAvail().x);
  } else if (info.type.ends_with("|INT")) {
    result = word_or_number(controls, id, info.type.substr(0, info.type.size() - 4), text, hints);
  } else if (info.type == "auto|LOW:HIGH|P%:P%") {
    result = value_range(controls, id, text);
  } else {
    result = free_text(controls, id, text, hints);
  }
  ImGui::EndGroup();
  if (!ImGui::IsAnyItemActive()) tooltip(help_of(info, hints));
  ImGui::PopID();
  return result;
}

}  // namespace muse::viewer
