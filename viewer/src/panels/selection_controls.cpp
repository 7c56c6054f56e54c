// What is pointed at and locked, and the range of the histogram.
#include <fmt/format.h>

#include <algorithm>

#include "panels/panels.h"
#include "render/scale.h"

namespace muse::viewer {

std::string target_words(const Ui& ui, const Target& target) {
  std::string words;
  const auto add = [&](const std::string& text) { words += (words.empty() ? "" : " · ") + text; };
  if (target.query) {
    const std::string text = ui.workspace.session ? ui.workspace.session->token_text(*target.query) : "";
    add(fmt::format("query {}{}", *target.query, text.empty() ? "" : fmt::format(" “{}”", text)));
  }
  if (target.key) add(fmt::format("key {}", *target.key));
  if (target.block) {
    const Block& b = *target.block;
    add(b.level < 0 ? fmt::format("diagonal block {}…{}", b.query_begin, b.query_end - 1)
                    : fmt::format("level {}: queries {}…{}, keys {}…{}", b.level, b.query_begin,
                                  b.query_end - 1, b.key_begin, b.key_end - 1));
  }
  if (target.query_cluster) add(fmt::format("query cluster {}", *target.query_cluster));
  if (target.key_cluster) add(fmt::format("key cluster {}", *target.key_cluster));
  if (target.head) add(fmt::format("head {}", *target.head));
  if (target.point) add("a setting");
  return words;
}

void draw_selection_controls(Ui& ui) {
  Workspace& w = ui.workspace;
  Selection& selection = w.selection;
  const bool locked = selection.is_locked();
  ImGui::PushTextWrapPos(0);
  if (locked)
    ImGui::TextUnformatted(("Locked: " + target_words(ui, *selection.locked)).c_str());
  else if (!selection.hovered.empty())
    ImGui::TextUnformatted(target_words(ui, selection.hovered).c_str());
  else
    ImGui::TextDisabled("Point at something; a click locks it.");
  ImGui::PopTextWrapPos();

  // A number locks a query.
  int query = static_cast<int>(selection.shown().query.value_or(0));
  ImGui::AlignTextToFramePadding();
  ImGui::TextDisabled("query");
  ImGui::SameLine();
  if (ui.focus_query_field) {
    ImGui::SetKeyboardFocusHere();
    ui.focus_query_field = false;
  }
  const float unlock = button_width("Unlock");
  ImGui::SetNextItemWidth(ImGui::GetContentRegionAvail().x - unlock - ImGui::GetStyle().ItemSpacing.x);
  if (ImGui::InputInt("##query", &query, 1, 64, ImGuiInputTextFlags_EnterReturnsTrue)) w.lock_query(query);
  ui.controls.note("query");
  tooltip(fmt::format("a query from 0 to {}: Enter locks it\nKeys: G, then ← and →", w.queries() - 1));
  ImGui::SameLine();
  ImGui::BeginDisabled(!locked);
  if (button(ui.controls, "unlock", "Unlock", "follow the pointer again", keys_of(Action::escape)))
    selection.locked.reset();
  ImGui::EndDisabled();

  if (selection.filter) {
    const char* things = selection.filter->per == ErrorPer::query  ? "queries"
                         : selection.filter->per == ErrorPer::pair ? "pairs of clusters"
                                                                   : "blocks";
    ImGui::PushTextWrapPos(0);
    ImGui::TextUnformatted(fmt::format("Only {} with an error of {} to {}.", things,
                                       render::short_number(selection.filter->low),
                                       render::short_number(selection.filter->high))
                               .c_str());
    ImGui::PopTextWrapPos();
    if (button(ui.controls, "filter.drop", "Drop the range", "drop the range selected in the histogram",
               keys_of(Action::escape)))
      selection.filter.reset();
  }
}

}  // namespace muse::viewer
