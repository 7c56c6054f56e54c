// The controls on the left, in three sections.
#include <fmt/format.h>

#include "panels/panels.h"

namespace muse::viewer {
namespace {

bool section(Ui& ui, const char* id, const std::string& title) {
  ImGui::PushFont(ui.appearance.bold());
  const bool open = ImGui::CollapsingHeader((title + "###" + id).c_str(), ImGuiTreeNodeFlags_DefaultOpen);
  ImGui::PopFont();
  ui.controls.note(fmt::format("section.{}", id));
  return open;
}

}  // namespace

void draw_sidebar(Ui& ui, const Area& area) {
  in_area("controls", area, [&] {
    if (section(ui, "selection", "Selection")) draw_selection_controls(ui);
    ImGui::Spacing();
    if (section(ui, "method", "Method")) draw_slot_controls(ui);
    ImGui::Spacing();
    const View& view = *ui.workspace.focused_panel().view;
    if (section(ui, "view", fmt::format("View: {}", view.title()))) draw_view_controls(ui);
  });
}

}  // namespace muse::viewer
