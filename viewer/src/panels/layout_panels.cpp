// All panels of the layout, in columns, with edges that can be dragged.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "panels/panels.h"

namespace muse::viewer {
namespace {

constexpr double kGap = 5;            // logical pixels between panels: the edge that can be dragged
constexpr double kLeastExtent = 120;  // logical pixels of a panel

// An edge between two panels of extents `before` and `after`: a drag moves weight from one to the other.
void edge(Ui& ui, const std::string& name, const Area& area, bool upright, double& weight_before,
          double& weight_after, float before, float after) {
  ImGui::SetCursorScreenPos(area.begin());
  ImGui::InvisibleButton(name.c_str(), area.size());
  ui.controls.note(name);
  if (ImGui::IsItemHovered() || ImGui::IsItemActive()) {
    ImGui::SetMouseCursor(upright ? ImGuiMouseCursor_ResizeEW : ImGuiMouseCursor_ResizeNS);
    ImGui::GetWindowDrawList()->AddRectFilled(area.begin(), area.end(),
                                              to_u32(ui.appearance.palette().accent.with_alpha(0.5)));
  }
  if (!ImGui::IsItemActive() || before + after <= 0) return;
  const ImVec2 delta = ImGui::GetIO().MouseDelta;
  const float by = upright ? delta.x : delta.y, least = ui.px(kLeastExtent);
  if (by == 0 || before + by < least || after - by < least) return;
  const double sum = weight_before + weight_after;
  weight_before = sum * (before + by) / (before + after);
  weight_after = sum - weight_before;
}

// The gaps around and between panels are darker than what the frame was cleared to.
void fill_gap(const Ui& ui, const Area& area) {
  ImGui::GetBackgroundDrawList()->AddRectFilled(area.begin(), area.end(),
                                                to_u32(ui.appearance.palette().window));
}

void fill_gaps_around(const Ui& ui, const Area& area, float gap) {
  fill_gap(ui, {area.x0 - gap, area.y0 - gap, area.x1 + gap, area.y0});
  fill_gap(ui, {area.x0 - gap, area.y1, area.x1 + gap, area.y1 + gap});
  fill_gap(ui, {area.x0 - gap, area.y0, area.x0, area.y1});
  fill_gap(ui, {area.x1, area.y0, area.x1 + gap, area.y1});
}

}  // namespace

void draw_panels(Ui& ui, const Area& area) {
  Workspace& w = ui.workspace;
  ui.places.resize(w.panels.size());
  for (PanelPlace& place : ui.places) place.visible = false;
  const float gap = std::max(3.0f, std::round(ui.px(kGap)));
  fill_gaps_around(ui, area, gap);
  if (w.maximised) {
    draw_view_panel(ui, w.focused, area);
    return;
  }
  std::vector<Column>& columns = w.layout.columns;
  double weights = 0;
  for (const Column& column : columns) weights += column.weight;
  const float room = area.width() - gap * static_cast<float>(columns.size() - 1);
  struct Edge {
    std::string name;
    Area area;
    bool upright;
    double *before_weight, *after_weight;
    float before, after;
  };
  std::vector<Edge> edges;
  std::size_t index = 0;
  float x = area.x0;
  for (std::size_t c = 0; c < columns.size(); ++c) {
    const float width = c + 1 == columns.size()
                            ? area.x1 - x
                            : std::round(room * static_cast<float>(columns[c].weight / weights));
    std::vector<Place>& places = columns[c].places;
    double place_weights = 0;
    for (const Place& place : places) place_weights += place.weight;
    const float high = area.height() - gap * static_cast<float>(places.size() - 1);
    float y = area.y0;
    for (std::size_t r = 0; r < places.size(); ++r, ++index) {
      const float height = r + 1 == places.size()
                               ? area.y1 - y
                               : std::round(high * static_cast<float>(places[r].weight / place_weights));
      draw_view_panel(ui, index, {x, y, x + std::max(1.0f, width), y + std::max(1.0f, height)});
      y += height;
      if (r + 1 < places.size())
        edges.push_back({fmt::format("edge.{}.{}", c, r),
                         {x, y, x + width, y + gap},
                         false,
                         &places[r].weight,
                         &places[r + 1].weight,
                         height,
                         high * static_cast<float>(places[r + 1].weight / place_weights)});
      y += gap;
    }
    x += width;
    if (c + 1 < columns.size())
      edges.push_back({fmt::format("edge.{}", c),
                       {x, area.y0, x + gap, area.y1},
                       true,
                       &columns[c].weight,
                       &columns[c + 1].weight,
                       width,
                       room * static_cast<float>(columns[c + 1].weight / weights)});
    x += gap;
  }
  for (const Edge& e : edges) fill_gap(ui, e.area);
  ImGui::PushStyleVar(ImGuiStyleVar_WindowBorderSize, 0);
  ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(0, 0));
  for (const Edge& e : edges)
    in_area(e.name.c_str(), e.area, [&] {
      edge(ui, e.name, e.area, e.upright, *e.before_weight, *e.after_weight, e.before, e.after);
    });
  ImGui::PopStyleVar(2);
}

}  // namespace muse::viewer
