// What there is to do before a dump is open.
#include <fmt/format.h>

#include <filesystem>

#include "panels/panels.h"

namespace muse::viewer {

const std::string* recent_dumps(Ui& ui, const std::string& name) {
  const std::string* chosen = nullptr;
  if (ui.settings.recent.empty()) {
    ImGui::TextDisabled("None yet.");
    return chosen;
  }
  int number = 0;
  for (const std::string& path : ui.settings.recent) {
    std::error_code error;
    const bool there = std::filesystem::exists(path, error);
    ImGui::BeginDisabled(!there);
    const std::string label = fitted_end(path, ImGui::GetContentRegionAvail().x);
    if (ImGui::Selectable(fmt::format("{}##{}{}", label, name, number).c_str())) chosen = &path;
    ui.controls.note(fmt::format("{}.recent={}", name, number++));
    ImGui::EndDisabled();
    tooltip(path + (there ? "\nopen it" : "\nnot there any more"));
  }
  return chosen;
}

void draw_start_page(Ui& ui, const Area& area) {
  in_area("start", area, [&] {
    const float width = std::min(area.width() - ui.px(40), ui.px(640));
    ImGui::SetCursorPos({0.5f * (area.width() - width), area.height() * 0.2f});
    ImGui::BeginChild("start page", {width, 0}, false, ImGuiWindowFlags_NoBackground);
    ImGui::PushFont(ui.appearance.bold());
    ImGui::TextUnformatted("Multipole Semantic Attention");
    ImGui::PopFont();
    ImGui::PushTextWrapPos(0);
    ImGui::TextDisabled(
        "See the clusters of queries and keys, what the approximation does with them, and where it errs.");
    ImGui::Spacing();
    ImGui::TextUnformatted(
        "Drop a dump of q, k and v on this window: a folder with meta.json, q.npy, k.npy and "
        "v.npy, or an .npz or .safetensors file.");
    ImGui::TextDisabled(
        "None at hand? The repository brings one along, notebooks_data/source16k_slice; docs/formats.md says "
        "how "
        "to make others.");
    ImGui::PopTextWrapPos();
    ImGui::Spacing();
    if (!ui.opening.empty())
      ImGui::TextUnformatted(("Reading " + ui.opening + " …").c_str());
    else if (button(ui.controls, "start.open", "Open…", "type or pick a path", keys_of(Action::open)))
      ui.act(Action::open);
    ImGui::Spacing();
    ImGui::Separator();
    ImGui::Spacing();
    ImGui::TextDisabled("Recent dumps");
    // The list changes as a dump is opened.
    const std::string* chosen = recent_dumps(ui, "start");
    if (chosen != nullptr) ui.open_dump(std::string(*chosen));
    ImGui::EndChild();
  });
}

}  // namespace muse::viewer
