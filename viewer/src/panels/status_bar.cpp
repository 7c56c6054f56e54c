// The row at the bottom: exact values of what is under the pointer, and what is computed.
#include <fmt/format.h>

#include <algorithm>

#include "panels/panels.h"

namespace muse::viewer {
namespace {

std::string work_words(const Ui& ui, double& fraction) {
  if (!ui.opening.empty()) return "reading " + ui.opening;
  std::string words;
  for (const Worker* worker : {&ui.background.files, &ui.background.views, &ui.background.sweeps}) {
    const Worker::Status status = worker->status();
    if (!status.busy || status.stage.empty()) continue;
    if (words.empty()) fraction = status.fraction;
    words += (words.empty() ? "" : "; ") + status.stage;
  }
  return words;
}

}  // namespace

void draw_status_bar(Ui& ui, const Area& area) {
  in_area(
      "status", area,
      [&] {
        double fraction = 0;
        const std::string work = work_words(ui, fraction);
        const bool computing = ui.background.views.status().busy || ui.background.sweeps.status().busy;
        const float cancel = button_width("Cancel") + ImGui::GetStyle().ItemSpacing.x, bar = ui.px(300);
        const float right = computing || !work.empty() ? bar + cancel : 0;
        const float room = ImGui::GetContentRegionAvail().x - right - ui.px(10);
        ImGui::AlignTextToFramePadding();
        const Workspace& w = ui.workspace;
        std::string text = ui.readout;
        if (text.empty() && !ui.notice.empty()) text = ui.notice;
        if (text.empty() && w.selection.is_locked())
          text = "Locked: " + target_words(ui, *w.selection.locked);
        if (text.empty() && w.session)
          text =
              fmt::format("{} · {} heads · {} tokens · {} dimensions", w.session->path().string(),
                          w.session->dump().heads_q(), w.session->dump().tokens_q(), w.session->dump().dim());
        const ImVec2 at = ImGui::GetCursorScreenPos();
        ImGui::PushClipRect(at, {at.x + room, area.y1}, true);
        if (ui.dump_is_gone) {
          ImGui::TextColored(to_vec4(ui.appearance.palette().warning),
                             "The dump's file is gone; what is open stays.");
          ImGui::SameLine();
        }
        ImGui::TextUnformatted(text.c_str());
        ui.controls.note("readout");
        ImGui::PopClipRect();
        if (right == 0) return;
        ImGui::SameLine();
        ImGui::SetCursorPosX(ImGui::GetWindowContentRegionMax().x - right);
        ImGui::ProgressBar(static_cast<float>(fraction), {bar, ImGui::GetFrameHeight()},
                           work.empty() ? "computing …" : work.c_str());
        ui.controls.note("progress");
        tooltip(work);
        if (!computing) return;
        ImGui::SameLine();
        if (button(ui.controls, "cancel", "Cancel", "stop computing; what is shown stays",
                   keys_of(Action::cancel)))
          ui.cancel_computations();
      },
      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
}

}  // namespace muse::viewer
