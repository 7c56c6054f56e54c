// The row at the top: which dump, layer and head, which slots, where the panels are, and how it looks.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "panels/panels.h"

namespace muse::viewer {
namespace {

// Groups of controls from left to right, in as many rows as the window's width makes them take. Widths are
// those of the frame before.
class Rows {
 public:
  explicit Rows(Ui& ui) : ui_(ui), right_(ImGui::GetWindowContentRegionMax().x) {}

  // `at_the_end`: the group stands at the right edge.
  template <class Draw>
  void group(const char* name, const Draw& draw, bool at_the_end = false) {
    float& width = ui_.toolbar_widths[name];
    const float gap = ui_.px(9);
    if (used_ > 0) {
      const float left = used_ + 2 * gap + 1;
      if (left + width <= right_) {
        ImGui::SameLine(0, gap);
        if (!at_the_end) rule();
        ImGui::SameLine(0, gap);
        if (at_the_end) ImGui::SetCursorPosX(std::max(left, right_ - width));
      } else {
        ++count_;
      }
    }
    ImGui::BeginGroup();
    draw();
    ImGui::EndGroup();
    const float begin = ImGui::GetItemRectMin().x - ImGui::GetWindowPos().x;
    width = ImGui::GetItemRectSize().x;
    used_ = begin + width;
  }
  [[nodiscard]] int count() const { return count_; }

 private:
  void rule() const {
    const ImVec2 at = ImGui::GetCursorScreenPos();
    ImGui::GetWindowDrawList()->AddLine({at.x, at.y + ui_.px(3)},
                                        {at.x, at.y + ImGui::GetFrameHeight() - ui_.px(3)},
                                        to_u32(ui_.appearance.palette().border));
    ImGui::Dummy({1, ImGui::GetFrameHeight()});
  }

  Ui& ui_;
  float right_, used_ = 0;
  int count_ = 1;
};

void label(const char* text) {
  ImGui::AlignTextToFramePadding();
  ImGui::TextDisabled("%s", text);
  ImGui::SameLine();
}

// A list with arrows on both sides.
template <class Step, class Choose>
void stepper(Ui& ui, const std::string& name, float width, const std::string& shown,
             const std::vector<std::string>& entries, Action action, const Step& step, const Choose& choose) {
  const float gap = ui.px(2);
  if (button(ui.controls, name + ".previous", "◂", "previous " + name, keys_of(action, -1))) step(-1);
  ImGui::SameLine(0, gap);
  ImGui::SetNextItemWidth(width);
  const bool open = ImGui::BeginCombo(("##" + name).c_str(), shown.c_str(), ImGuiComboFlags_HeightLarge);
  ui.controls.note(name);
  if (open) {
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (ImGui::Selectable(entries[i].c_str(), entries[i] == shown)) choose(i);
      ui.controls.note(fmt::format("{}={}", name, i));
    }
    ImGui::EndCombo();
  }
  ImGui::SameLine(0, gap);
  if (button(ui.controls, name + ".next", "▸", "next " + name, keys_of(action, 1))) step(1);
}

void draw_head_selector(Ui& ui) {
  Workspace& w = ui.workspace;
  const Dump& dump = w.session->dump();
  const Index current = w.slots[0].head;
  if (dump.batch() > 1) {
    label("Sequence");
    int batch = static_cast<int>(w.slots[0].batch);
    ImGui::SetNextItemWidth(ui.px(70));
    if (ImGui::InputInt("##sequence", &batch))
      for (Slot& slot : w.slots) slot.batch = std::clamp<Index>(batch, 0, dump.batch() - 1);
    ui.controls.note("sequence");
    ImGui::SameLine();
  }
  if (!w.has_layers()) {
    label("Head");
    std::vector<std::string> names;
    for (Index head = 0; head < dump.heads_q(); ++head)
      names.push_back(w.session->head_name(w.slots[0].batch, head));
    stepper(
        ui, "head", ui.px(130), names[static_cast<std::size_t>(current)], names, Action::step_head,
        [&](Index step) { w.step_head(step); }, [&](std::size_t i) { w.set_head(static_cast<Index>(i)); });
    return;
  }
  const auto at = [&](Index head) { return *layer_head(dump.head_names[static_cast<std::size_t>(head)]); };
  std::set<Index> layers;
  std::vector<Index> heads;  // of the layer
  for (Index head = 0; head < dump.heads_q(); ++head) {
    layers.insert(at(head).layer);
    if (at(head).layer == at(current).layer) heads.push_back(head);
  }
  std::vector<std::string> layer_names, head_names;
  for (const Index layer : layers) layer_names.push_back(fmt::format("{}", layer));
  for (const Index head : heads) head_names.push_back(fmt::format("{}", at(head).head));
  label("Layer");
  stepper(
      ui, "layer", ui.px(58), fmt::format("{}", at(current).layer), layer_names, Action::step_layer,
      [&](Index step) { w.step_layer(step); },
      [&](std::size_t i) {
        for (Index head = 0; head < dump.heads_q(); ++head)
          if (fmt::format("{}", at(head).layer) == layer_names[i]) {
            w.set_head(head);
            return;
          }
      });
  ImGui::SameLine();
  label("Head");
  stepper(
      ui, "head", ui.px(58), fmt::format("{}", at(current).head), head_names, Action::step_head,
      [&](Index step) { w.step_head(step); }, [&](std::size_t i) { w.set_head(heads[i]); });
}

void draw_slot_choice(Ui& ui) {
  Workspace& w = ui.workspace;
  label("Show");
  if (toggle(ui.controls, "show.a", "A", w.shown == Shown::a, "slot A: " + slot_word(w.slots[0]),
             keys_of(Action::show_a)))
    ui.act(Action::show_a);
  ImGui::SameLine(0, ui.px(2));
  if (toggle(ui.controls, "show.b", "B", w.shown == Shown::b, "slot B: " + slot_word(w.slots[1]),
             keys_of(Action::show_b)))
    ui.act(Action::show_b);
  ImGui::SameLine(0, ui.px(2));
  if (toggle(ui.controls, "show.both", "A and B", w.shown == Shown::both,
             "both, and the difference between them", keys_of(Action::show_both)))
    ui.act(Action::show_both);
  ImGui::SameLine();
  button(ui.controls, "flip", "Flip", "hold it down: the other slot", keys_of(Action::flip));
  ui.flip_held_by_button = ImGui::IsItemActive();
}

void draw_layout_choice(Ui& ui) {
  ImGui::SetNextItemWidth(ui.px(168));
  const bool open =
      ImGui::BeginCombo("##layout", ui.workspace.layout.title.c_str(), ImGuiComboFlags_HeightLarge);
  ui.controls.note("layout");
  if (!open) {
    tooltip("which views stand where; edges between them can be dragged");
    return;
  }
  int number = 0;
  for (const Layout& layout : layout_presets()) {
    const std::string keys = keys_of(Action::use_layout, number++);
    if (ImGui::Selectable(fmt::format("{}   ({})", layout.title, keys).c_str(),
                          layout.name == ui.workspace.layout.name))
      ui.use_layout(layout);
    ui.controls.note("layout=" + layout.name);
  }
  ImGui::EndCombo();
}

void draw_files(Ui& ui) {
  if (button(ui.controls, "open", "Open…", "a dump: type or pick its path, or drop it on the window",
             keys_of(Action::open)))
    ui.act(Action::open);
  if (!ui.workspace.session) return;
  ImGui::SameLine();
  if (button(ui.controls, "export", "Export…", "the focused panel as a picture or its numbers",
             keys_of(Action::export_view)))
    ui.act(Action::export_view);
}

void draw_zoom_choice(Ui& ui) {
  if (toggle(ui.controls, "zoom.lock", "Lock zoom", ui.workspace.zoom_locked,
             "all maps (attention, blocks) zoom and move together", keys_of(Action::lock_zoom)))
    ui.act(Action::lock_zoom);
  ImGui::SameLine(0, ui.px(2));
  if (toggle(ui.controls, "minimap", "Minimap", ui.settings.minimap,
             "where you are, in the corner of a zoomed map; click or drag in it", keys_of(Action::minimap)))
    ui.act(Action::minimap);
}

void draw_looks(Ui& ui) {
  const std::string percent = fmt::format("{:.0f} %", ui.appearance.scale() * 100);
  const float gap = ui.px(2);
  if (button(ui.controls, "scale.smaller", "−", "smaller text and lines", keys_of(Action::scale, -1)))
    ui.act(Action::scale, -1);
  ImGui::SameLine(0, 2 * gap);
  ImGui::AlignTextToFramePadding();
  ImGui::TextDisabled("%s", percent.c_str());
  ImGui::SameLine(0, 2 * gap);
  if (button(ui.controls, "scale.larger", "+", "larger text and lines", keys_of(Action::scale, 1)))
    ui.act(Action::scale, 1);
  ImGui::SameLine();
  if (toggle(ui.controls, "theme", "Dark", ui.settings.dark, "light or dark", keys_of(Action::theme)))
    ui.act(Action::theme);
  ImGui::SameLine();
  if (ui.workspace.session) {
    if (toggle(ui.controls, "sidebar", "Controls", ui.settings.sidebar, "controls on the left, or more room",
               keys_of(Action::sidebar)))
      ui.act(Action::sidebar);
    ImGui::SameLine();
  }
  if (toggle(ui.controls, "help", "Help", ui.help_shown, "the mouse, and all keys", keys_of(Action::help)))
    ui.act(Action::help);
}

}  // namespace

void draw_toolbar(Ui& ui, const Area& area) {
  in_area(
      "toolbar", area,
      [&] {
        Rows rows(ui);
        rows.group("files", [&] { draw_files(ui); });
        if (ui.workspace.session) {
          rows.group("head", [&] { draw_head_selector(ui); });
          rows.group("slots", [&] { draw_slot_choice(ui); });
          rows.group("layout", [&] { draw_layout_choice(ui); });
          rows.group("zoom", [&] { draw_zoom_choice(ui); });
        }
        rows.group(
            "looks", [&] { draw_looks(ui); }, true);
        ui.toolbar_rows = rows.count();
      },
      ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse);
}

}  // namespace muse::viewer
