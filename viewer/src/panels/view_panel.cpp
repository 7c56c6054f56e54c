// One panel: name and buttons of a view, its picture, and what the mouse does to it. The same grammar in
// every view: pointing previews, a click locks, the wheel zooms at the cursor, a drag moves, a double click
// fits.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "panels/option_control.h"
#include "panels/panels.h"
#include "panels/zooming.h"
#include "render/scale.h"

namespace muse::viewer {
namespace {

constexpr float kClickSlack = 4;       // logical pixels that the pointer may move within a click
constexpr double kWheelStep = 0.8;     // width of what is seen after one notch
constexpr double kWheelRows = 3;       // rows of a table that one notch scrolls
constexpr double kQuick = 0.3;         // seconds that a computation may take without being announced
constexpr double kMinimapPart = 0.22;  // of the frame's shorter side

// The option that says most about what a view shows: it stands in the panel's head.
const char* main_option(const View& view) {
  const std::string_view name = view.name();
  if (name == "attention") return "map";
  if (name == "error" || name == "histogram") return "per";
  if (name == "blocks") return "color-by";
  if (name == "kmeans") return "side";
  if (name == "tradeoff") return "cost";
  if (name == "clusters") return "basis";
  return "";
}

class PanelDrawer {
 public:
  PanelDrawer(Ui& ui, std::size_t index)
      : ui_(ui),
        w_(ui.workspace),
        index_(index),
        panel_(w_.panels[index]),
        picture_(*ui.pictures[index]),
        id_(fmt::format("panel{}", index + 1)) {}

  void draw(const Area& area) {
    PanelPlace& place = ui_.places[index_];
    place.panel = area;
    place.visible = true;
    ImGui::PushStyleVar(ImGuiStyleVar_WindowPadding, ImVec2(ui_.px(6), ui_.px(4)));
    in_area(
        id_.c_str(), area,
        [&] {
          draw_head();
          const ImVec2 at = ImGui::GetCursorScreenPos(), room = ImGui::GetContentRegionAvail();
          const float x = std::round(at.x), y = std::round(at.y);
          place.picture = {x, y, x + std::max(1.0f, std::floor(room.x)),
                           y + std::max(1.0f, std::floor(room.y))};
          draw_picture(place.picture);
        },
        ImGuiWindowFlags_NoScrollbar | ImGuiWindowFlags_NoScrollWithMouse | ImGuiWindowFlags_NoBackground);
    ImGui::PopStyleVar();
  }

 private:
  // A line of controls
  // ----------------------------------------------------------------------------------------

  void draw_head() {
    const bool focused = w_.focused == index_;
    if (ImGui::IsWindowHovered() && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) w_.focused = index_;
    ImGui::PushStyleColor(ImGuiCol_FrameBg, ImVec4(0, 0, 0, 0));
    if (focused) ImGui::PushStyleColor(ImGuiCol_Text, to_vec4(ui_.appearance.palette().accent));
    ImGui::PushFont(ui_.appearance.bold());
    const std::string title(panel_.view->title());
    ImGui::SetNextItemWidth(ImGui::CalcTextSize(title.c_str()).x + ui_.px(44));
    const bool open = ImGui::BeginCombo("##view", title.c_str(), ImGuiComboFlags_HeightLarge);
    ui_.controls.note(id_ + ".view");
    ImGui::PopFont();
    if (focused) ImGui::PopStyleColor();
    ImGui::PopStyleColor();
    if (open) {
      int number = 0;
      for (const View* view : all_views()) {
        const std::string keys = keys_of(Action::set_view, number++);
        if (ImGui::Selectable(fmt::format("{}   ({})", view->title(), keys).c_str(), view == panel_.view))
          w_.set_view(index_, *view);
        ui_.controls.note(id_ + ".view=" + std::string(view->name()));
        tooltip(std::string(view->help()));
      }
      ImGui::EndCombo();
    } else {
      tooltip(std::string(panel_.view->help()));
    }
    draw_main_option();
    draw_playback();
    draw_buttons();
  }

  // Whether a control of that width fits into the line, beside the caption's button and the panel's own.
  [[nodiscard]] bool fits(float width) const {
    const float end = ImGui::GetItemRectMax().x - ImGui::GetWindowPos().x + ImGui::GetStyle().ItemSpacing.x;
    return end + width + ui_.px(6) + least_buttons_width() <= ImGui::GetWindowContentRegionMax().x;
  }

  // What has no room here is in the sidebar too.
  void draw_main_option() {
    const std::string name = main_option(*panel_.view);
    const float width = ImGui::CalcTextSize("approximate").x + ui_.px(34);
    for (const ViewOptionInfo& option : view_option_table()) {
      if (option.name != name || !fits(width)) continue;
      const std::string text = get_view_option(panel_.settings, name);
      ImGui::SameLine();
      ImGui::SetNextItemWidth(width);
      const bool open = ImGui::BeginCombo("##main option", text.c_str());
      ui_.controls.note(id_ + "." + name);
      if (!open) {
        tooltip(option.help);
        continue;
      }
      for (const std::string& word : choices_of(option.type)) {
        if (ImGui::Selectable(word.c_str(), word == text)) ui_.set_view_option(panel_, name, word);
        ui_.controls.note(id_ + "." + name + "=" + word);
      }
      ImGui::EndCombo();
    }
    if (panel_.view->name() != "error" || !fits(button_width("all heads"))) return;
    ImGui::SameLine();
    const bool all = panel_.settings.all_heads;
    if (toggle(ui_.controls, id_ + ".heads", "all heads", all,
               "all heads of the dump, to find the worst one"))
      ui_.set_view_option(panel_, "heads", all ? "one" : "all");
  }

  void draw_playback() {
    Index first = 0, last = 0;
    if (!ui_.playable(panel_, first, last)) return;
    const float gap = ui_.px(2);
    const bool playing = ui_.playback.playing && ui_.playback.panel == index_;
    const auto focus = [&] { w_.focused = index_; };
    auto step = static_cast<int>(ui_.playback_step(panel_));
    const std::string words = panel_.view->name() == "kmeans" ? fmt::format("pass {}", step)
                              : step < 0                      ? std::string("diagonal")
                              : step == last                  ? std::string("all levels")
                                                              : fmt::format("to level {}", step);
    // Slider and words where they leave room for the buttons at the right.
    const float slider = ui_.px(84), spacing = ImGui::GetStyle().ItemSpacing.x;
    if (!fits(button_width("▶"))) return;
    const float buttons = button_width("▶") + button_width("◂") + button_width("▸") + 2 * gap + spacing;
    const float words_width = ImGui::CalcTextSize(words.c_str()).x + spacing;
    const float room = ImGui::GetWindowContentRegionMax().x -
                       (ImGui::GetItemRectMax().x - ImGui::GetWindowPos().x) - buttons - buttons_width() -
                       ui_.px(8);
    const bool with_slider = room >= slider + gap + words_width,
               with_words = with_slider || room >= words_width;
    ImGui::SameLine();
    if (button(ui_.controls, id_ + ".play", playing ? "❚❚" : "▶", "play level by level, or pass by pass",
               keys_of(Action::play))) {
      focus();
      ui_.act(Action::play);
    }
    if (!fits(button_width("◂") + button_width("▸") + gap)) return;
    ImGui::SameLine(0, gap);
    if (button(ui_.controls, id_ + ".step_back", "◂", "one back", keys_of(Action::step_playback, -1))) {
      focus();
      ui_.step_playback(-1);
    }
    if (with_slider) {
      ImGui::SameLine(0, gap);
      ImGui::SetNextItemWidth(slider);
      if (ImGui::SliderInt("##step", &step, static_cast<int>(first), static_cast<int>(last), ""))
        ui_.set_playback_step(panel_, step);
      ui_.controls.note(id_ + ".step");
    }
    ImGui::SameLine(0, gap);
    if (button(ui_.controls, id_ + ".step_on", "▸", "one on", keys_of(Action::step_playback, 1))) {
      focus();
      ui_.step_playback(1);
    }
    if (!with_words) return;
    ImGui::SameLine();
    ImGui::AlignTextToFramePadding();
    ImGui::TextDisabled("%s", words.c_str());
  }

  // Width of the buttons at the right that there always are, and of all of them.
  [[nodiscard]] float least_buttons_width() const {
    return button_width("i") + button_width("□") + ui_.px(2);
  }
  [[nodiscard]] float buttons_width() const {
    if (!can_zoom()) return least_buttons_width();
    return least_buttons_width() + button_width("−") + button_width("+") + button_width("Fit") +
           3 * ui_.px(2);
  }
  // A picture of nothing but a table has nothing to zoom into.
  [[nodiscard]] bool can_zoom() const {
    const Shot* shot = picture_.shot();
    return shot == nullptr || shot->drawn.frames.empty() || !shot->drawn.frames.front().is_table();
  }

  void draw_buttons() {
    const float gap = ui_.px(2), right = ImGui::GetWindowContentRegionMax().x;
    const float used = ImGui::GetItemRectMax().x - ImGui::GetWindowPos().x + ui_.px(4);
    // With little room zooming is left to the mouse, the keys and the sidebar.
    const bool all = right - buttons_width() >= used;
    const float left = right - (all ? buttons_width() : least_buttons_width());
    if (left < used) return;
    ImGui::SameLine(left);
    draw_caption_button();
    ImGui::SameLine(0, gap);
    if (all && can_zoom()) draw_zoom_buttons(gap);
    if (toggle(ui_.controls, id_ + ".maximise", "□", w_.maximised, "this panel alone, and back",
               keys_of(Action::maximise))) {
      w_.focused = index_;
      ui_.act(Action::maximise);
    }
  }

  void draw_zoom_buttons(float gap) {
    if (button(ui_.controls, id_ + ".zoom_out", "−", "zoom out; or the wheel", keys_of(Action::zoom_out))) {
      w_.focused = index_;
      ui_.act(Action::zoom_out);
    }
    ImGui::SameLine(0, gap);
    if (button(ui_.controls, id_ + ".zoom_in", "+", "zoom in; or the wheel, at the cursor",
               keys_of(Action::zoom_in))) {
      w_.focused = index_;
      ui_.act(Action::zoom_in);
    }
    ImGui::SameLine(0, gap);
    if (button(ui_.controls, id_ + ".fit", "Fit", "everything; or a double click", keys_of(Action::fit)))
      w_.set_zoom(panel_, std::nullopt);
    ImGui::SameLine(0, gap);
  }

  // What the picture's caption says: small pictures have no room for it.
  void draw_caption_button() {
    const Shot* shot = picture_.shot();
    const std::string caption = shot != nullptr ? shot->drawn.caption : "";
    if (button(ui_.controls, id_ + ".caption", "i", caption)) ImGui::OpenPopup("caption");
    ImGui::SetNextWindowSize({ui_.px(460), 0});
    if (!ImGui::BeginPopup("caption")) return;
    ImGui::PushTextWrapPos(0);
    ImGui::TextUnformatted(caption.c_str());
    ui_.controls.note(id_ + ".caption_text");
    ImGui::PopTextWrapPos();
    if (ImGui::IsKeyPressed(ImGui::GetKeyIndex(ImGuiKey_Escape), false)) ImGui::CloseCurrentPopup();
    ImGui::EndPopup();
  }

  // The picture
  // -----------------------------------------------------------------------------------------------

  void draw_picture(const Area& area) {
    ImGui::InvisibleButton("picture", area.size(), ImGuiButtonFlags_MouseButtonLeft);
    ImGui::SetItemAllowOverlap();  // the button over a picture that failed
    const bool hovered = ImGui::IsItemHovered(), active = ImGui::IsItemActive();
    const Shot* shot = picture_.shot();
    ImDrawList& list = *ImGui::GetWindowDrawList();
    list.PushClipRect(area.begin(), area.end(), true);
    if (shot != nullptr) {
      origin_ = area.begin();
      scale_x_ = area.width() / static_cast<float>(std::max(1, shot->drawn.image.width));
      scale_y_ = area.height() / static_cast<float>(std::max(1, shot->drawn.image.height));
      list.AddCallback([](const ImDrawList*, const ImDrawCmd*) { set_blending(false); }, nullptr);
      list.AddImage(texture(picture_, scale_x_ != 1 || scale_y_ != 1), area.begin(), area.end());
      list.AddCallback([](const ImDrawList*, const ImDrawCmd*) { set_blending(true); }, nullptr);
      draw_zoom_preview(*shot, list);
      note_scrolling(*shot);
      const bool over_minimap = draw_minimap(*shot, list, hovered);
      if (!over_minimap) handle_mouse(*shot, list, hovered, active);
    } else if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) {
      w_.focused = index_;
    }
    draw_state(area, list);
    list.PopClipRect();
  }

  // `smooth`: shown at another size than its own.
  [[nodiscard]] static ImTextureID texture(Picture& picture, bool smooth) {
    picture.texture().set_smooth(smooth);
    return reinterpret_cast<ImTextureID>(static_cast<std::intptr_t>(picture.texture().id()));
  }

  // Between pixels of the picture and of the window.
  [[nodiscard]] ImVec2 to_window(double x, double y) const {
    return {origin_.x + static_cast<float>(x) * scale_x_, origin_.y + static_cast<float>(y) * scale_y_};
  }
  [[nodiscard]] render::Point to_picture(ImVec2 at) const {
    return {(at.x - origin_.x) / scale_x_, (at.y - origin_.y) / scale_y_};
  }

  // Until the picture of a new zoom is there, the old one is stretched to where it belongs.
  void draw_zoom_preview(const Shot& shot, ImDrawList& list) {
    if (shot.view != panel_.view || shot.view_settings.zoom == panel_.settings.zoom) return;
    const std::optional<Zoom> zoom = panel_.settings.zoom ? panel_.settings.zoom : picture_.whole();
    if (!zoom) return;
    for (std::size_t i = 0; i < shot.drawn.frames.size(); ++i) {
      const Zoomable along = zoomable(shot.drawn, i);
      if (!along.x) continue;
      const render::Frame& old = shot.drawn.frames[i];
      Zoom of_frame = *zoom;
      if (!along.y) of_frame.y = old.y.scale().range();
      const render::Frame now = frame_at_zoom(old, of_frame);
      const auto place = [](const render::AxisMap& from, const render::AxisMap& to, double pixel) {
        return to.to_pixel(from.to_value(pixel));
      };
      const ImVec2 low = to_window(place(old.x, now.x, old.box.x0), place(old.y, now.y, old.box.y0));
      const ImVec2 high = to_window(place(old.x, now.x, old.box.x1), place(old.y, now.y, old.box.y1));
      if (!std::isfinite(low.x) || !std::isfinite(low.y) || !std::isfinite(high.x) || !std::isfinite(high.y))
        continue;
      const ImVec2 begin = to_window(old.box.x0, old.box.y0), end = to_window(old.box.x1, old.box.y1);
      list.PushClipRect(begin, end, true);
      list.AddRectFilled(begin, end, to_u32(ui_.appearance.palette().panel));
      const auto w = static_cast<float>(shot.drawn.image.width),
                 h = static_cast<float>(shot.drawn.image.height);
      list.AddImage(texture(picture_, true), low, high,
                    {static_cast<float>(old.box.x0) / w, static_cast<float>(old.box.y0) / h},
                    {static_cast<float>(old.box.x1) / w, static_cast<float>(old.box.y1) / h});
      list.PopClipRect();
    }
  }

  // Where the zoomed part lies in the whole; whether the pointer is over it. A click or drag moves there.
  bool draw_minimap(const Shot& shot, ImDrawList& list, bool hovered) {
    const auto& zoom = panel_.settings.zoom;
    if (!zoom || !ui_.settings.minimap || !has_minimap(*panel_.view) || shot.drawn.frames.empty())
      return false;
    Picture& overview = *ui_.overviews[index_];
    const Shot* whole = overview.shot();
    if (whole == nullptr || whole->view != panel_.view || whole->drawn.frames.empty()) return false;
    const render::Frame& source = whole->drawn.frames.front();
    const render::PixelBox& frame = shot.drawn.frames.front().box;
    const double side =
        std::max(std::min(frame.width(), frame.height()) * kMinimapPart, 60.0 * ui_.appearance.scale());
    const double aspect = source.box.width() / std::max(1.0, source.box.height());
    const double width = aspect >= 1 ? side : side * aspect, height = aspect >= 1 ? side / aspect : side;
    const double margin = 8 * ui_.appearance.scale();
    const ImVec2 begin = to_window(frame.x1 - margin - width, frame.y0 + margin);
    const ImVec2 end = to_window(frame.x1 - margin, frame.y0 + margin + height);
    const auto w = static_cast<float>(whole->drawn.image.width),
               h = static_cast<float>(whole->drawn.image.height);
    const Palette& palette = ui_.appearance.palette();
    list.AddRectFilled({begin.x - 3, begin.y - 3}, {end.x + 3, end.y + 3}, to_u32(palette.panel), 3);
    list.AddImage(texture(overview, true), begin, end,
                  {static_cast<float>(source.box.x0) / w, static_cast<float>(source.box.y0) / h},
                  {static_cast<float>(source.box.x1) / w, static_cast<float>(source.box.y1) / h});
    list.AddRect({begin.x - 3, begin.y - 3}, {end.x + 3, end.y + 3}, to_u32(palette.border), 3);
    // From values to the minimap, and back.
    const auto unit_x = [&](double value) {
      return (source.x.to_pixel(value) - source.box.x0) / source.box.width();
    };
    const auto unit_y = [&](double value) {
      return (source.y.to_pixel(value) - source.box.y0) / source.box.height();
    };
    const auto at = [&](double ux, double uy) {
      return ImVec2(begin.x + static_cast<float>(std::clamp(ux, 0.0, 1.0)) * (end.x - begin.x),
                    begin.y + static_cast<float>(std::clamp(uy, 0.0, 1.0)) * (end.y - begin.y));
    };
    ImVec2 low = at(unit_x(zoom->x.low), unit_y(zoom->y.low)),
           high = at(unit_x(zoom->x.high), unit_y(zoom->y.high));
    if (low.x > high.x) std::swap(low.x, high.x);
    if (low.y > high.y) std::swap(low.y, high.y);
    // A tiny part is still seen.
    high = {std::max(high.x, low.x + 3), std::max(high.y, low.y + 3)};
    list.AddRectFilled(low, high, to_u32(palette.accent.with_alpha(0.25)));
    list.AddRect({low.x - 1, low.y - 1}, {high.x + 1, high.y + 1}, to_u32(palette.accent), 0, 0, 2);
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const bool over = hovered && !ui_.drag && mouse.x >= begin.x && mouse.x <= end.x && mouse.y >= begin.y &&
                      mouse.y <= end.y;
    if (over && ImGui::IsMouseDown(ImGuiMouseButton_Left)) {
      w_.focused = index_;
      const double px = source.box.x0 + (mouse.x - begin.x) / (end.x - begin.x) * source.box.width();
      const double py = source.box.y0 + (mouse.y - begin.y) / (end.y - begin.y) * source.box.height();
      const render::Frame now = frame_at_zoom(shot.drawn.frames.front(), zoom);
      const double dx = 0.5 * (now.box.x0 + now.box.x1) - now.x.to_pixel(source.x.to_value(px));
      const double dy = 0.5 * (now.box.y0 + now.box.y1) - now.y.to_pixel(source.y.to_value(py));
      if (std::isfinite(dx) && std::isfinite(dy))
        w_.set_zoom(panel_, moved_by(now, dx, dy, picture_.whole()));
    }
    return over;
  }

  // The mouse
  // -------------------------------------------------------------------------------------------------

  void handle_mouse(const Shot& shot, ImDrawList& list, bool hovered, bool active) {
    const ImVec2 mouse = ImGui::GetIO().MousePos;
    const bool dragging = ui_.drag && ui_.drag->panel == index_;
    if (!hovered && !active && !dragging) return;
    // What is shown may be the picture of something else still: another view, dump or setting.
    if (shot.view != panel_.view || shot.opened != w_.opened || shot.slots != w_.state_of(panel_).slots)
      return;
    const render::Point at = to_picture(mouse);
    const Hit hit = shot.content->hit(shot.drawn, shot.selection, at);
    if (!dragging || !ui_.drag->moved) {
      ui_.hovers_picture = true;
      w_.selection.hover(hit.target);
      draw_crosshair(shot, hit, at, list);
      say(shot, hit, at);
    }
    if (hovered) handle_wheel(shot, hit, at);
    if (hovered && ImGui::IsMouseClicked(ImGuiMouseButton_Left)) begin_drag(shot, hit, mouse);
    if (ui_.drag && ui_.drag->panel == index_) go_on_dragging(hit, mouse, list);
    if (hovered && ImGui::IsMouseDoubleClicked(ImGuiMouseButton_Left) && hit.in_frame &&
        zoomable(shot.drawn, hit.frame).x)
      w_.set_zoom(panel_, std::nullopt);
  }

  void handle_wheel(const Shot& shot, const Hit& hit, render::Point at) {
    const ImGuiIO& io = ImGui::GetIO();
    if (io.MouseWheel == 0 || !hit.in_frame) return;
    if (const auto& scrolled = shot.drawn.frames[hit.frame].scrolled) {
      w_.focused = index_;
      scroll_to(*scrolled, static_cast<double>(first_row(*scrolled)) -
                               std::round(kWheelRows * static_cast<double>(io.MouseWheel)));
      return;
    }
    const Zoomable along = zoomable(shot.drawn, hit.frame);
    if (!along.x) return;
    w_.focused = index_;
    const double factor = std::pow(kWheelStep, io.MouseWheel);
    const bool only_x = !along.y || io.KeyShift, only_y = io.KeyAlt && along.y;
    const render::Frame frame = frame_at_zoom(shot.drawn.frames.front(), panel_.settings.zoom);
    w_.set_zoom(panel_, zoomed_at(frame, at, only_y ? 1 : factor, only_x ? 1 : factor, picture_.whole()));
  }

  // Rows of tables
  // ------------------------------------------------------------------------------------------------

  // What is asked for; what is drawn may be a notch behind.
  [[nodiscard]] std::size_t first_row(const render::Scrolled& scrolled) const {
    return std::min(panel_.first_row, scrolled.last_first());
  }
  void scroll_to(const render::Scrolled& scrolled, double row) {
    panel_.first_row =
        static_cast<std::size_t>(std::clamp(row, 0.0, static_cast<double>(scrolled.last_first())));
  }

  // The thumb's middle follows the pointer.
  void drag_thumb(const render::Scrolled& scrolled, double y) {
    const double half = 0.5 * scrolled.thumb.height(), room = scrolled.track.height() - 2 * half;
    if (room <= 0) return;
    scroll_to(scrolled,
              std::round((y - scrolled.track.y0 - half) / room * static_cast<double>(scrolled.last_first())));
  }

  void note_scrolling(const Shot& shot) {
    const auto area_of = [&](const render::PixelBox& box) {
      const ImVec2 low = to_window(box.x0, box.y0), high = to_window(box.x1, box.y1);
      return Area{low.x, low.y, high.x, high.y};
    };
    for (const render::Frame& frame : shot.drawn.frames)
      if (const auto& scrolled = frame.scrolled) {
        ui_.controls.note(id_ + ".more_rows", area_of(scrolled->more));
        ui_.controls.note(id_ + ".scroll_bar", area_of(scrolled->track));
        ui_.controls.note(id_ + ".scroll_thumb", area_of(scrolled->thumb));
      }
  }

  void begin_drag(const Shot& shot, const Hit& hit, ImVec2 mouse) {
    w_.focused = index_;
    Drag drag{.panel = index_, .from = mouse};
    const auto scrolled = hit.in_frame ? shot.drawn.frames[hit.frame].scrolled : std::nullopt;
    if (scrolled && to_picture(mouse).x >= scrolled->track.x0 && !scrolled->more.holds(to_picture(mouse))) {
      drag.frame = shot.drawn.frames[hit.frame];
      drag.scrolls = true;
    } else if (hit.in_frame) {
      const bool histogram = panel_.view->name() == "histogram" && hit.frame == 0;
      drag.frame = frame_at_zoom(shot.drawn.frames[hit.frame],
                                 zoomable(shot.drawn, hit.frame).y ? panel_.settings.zoom : std::nullopt);
      drag.selects_range = histogram;
      drag.moves = !histogram && zoomable(shot.drawn, hit.frame).x;
    }
    ui_.drag = drag;
  }

  void go_on_dragging(const Hit& hit, ImVec2 mouse, ImDrawList& list) {
    Drag& drag = *ui_.drag;
    const float dx = mouse.x - drag.from.x, dy = mouse.y - drag.from.y;
    if (std::hypot(dx, dy) > ui_.px(kClickSlack)) drag.moved = true;
    if (drag.moved && drag.moves) {
      w_.set_zoom(panel_, moved_by(drag.frame, dx / scale_x_, dy / scale_y_, picture_.whole()));
      ImGui::SetMouseCursor(ImGuiMouseCursor_ResizeAll);
    }
    if (drag.scrolls) drag_thumb(*drag.frame.scrolled, to_picture(mouse).y);
    if (drag.moved && drag.selects_range) select_range(drag, mouse, list);
    if (ImGui::IsMouseDown(ImGuiMouseButton_Left)) return;
    if (!drag.moved && !drag.scrolls) click(hit, to_picture(mouse));
    ui_.drag.reset();
  }

  // The range of values between where the drag began and where it is.
  void select_range(const Drag& drag, ImVec2 mouse, ImDrawList& list) {
    const render::PixelBox& box = drag.frame.box;
    const double from = std::clamp(to_picture(drag.from).x, box.x0, box.x1);
    const double to = std::clamp(to_picture(mouse).x, box.x0, box.x1);
    list.AddRectFilled(to_window(std::min(from, to), box.y0), to_window(std::max(from, to), box.y1),
                       to_u32(ui_.appearance.palette().accent.with_alpha(0.2)));
    const double a = drag.frame.x.to_value(from), b = drag.frame.x.to_value(to);
    if (std::isfinite(a) && std::isfinite(b) && a != b)
      w_.selection.filter = ValueFilter{std::min(a, b), std::max(a, b), panel_.settings.per};
  }

  void click(const Hit& hit, render::Point at) {
    const Shot* shot = picture_.shot();
    if (const auto& scrolled =
            shot->drawn.frames.empty() ? std::nullopt : shot->drawn.frames[hit.frame].scrolled;
        hit.in_frame && scrolled && scrolled->more.holds(at)) {
      panel_.first_row = scrolled->more_leads_to;
      return;
    }
    if (hit.option) {
      ui_.set_view_option(panel_, hit.option->first, hit.option->second);
      return;
    }
    if (const auto setting = shot->content->setting_of(hit.target)) {
      w_.take_setting(*setting);
      ui_.notice = fmt::format("Slot {} is now {}", w_.edited_slot == 0 ? "A" : "B",
                               slot_word(w_.slots[w_.edited_slot]));
      return;
    }
    if (hit.target.head) {
      w_.set_head(*hit.target.head);
      return;
    }
    w_.selection.click(hit.target);
    if (hit.zoom && w_.selection.is_locked()) w_.set_zoom(panel_, hit.zoom);
  }

  void draw_crosshair(const Shot& shot, const Hit& hit, render::Point at, ImDrawList& list) const {
    if (!hit.in_frame) return;
    const render::Frame& frame = shot.drawn.frames[hit.frame];
    if (frame.is_table()) return;
    const ImU32 color = to_u32(ui_.appearance.palette().muted.with_alpha(0.55));
    const ImVec2 low = to_window(frame.box.x0, frame.box.y0), high = to_window(frame.box.x1, frame.box.y1);
    const ImVec2 here = to_window(at.x, at.y);
    list.AddLine({here.x, low.y}, {here.x, high.y}, color);
    list.AddLine({low.x, here.y}, {high.x, here.y}, color);
  }

  void say(const Shot& shot, const Hit& hit, render::Point at) {
    ui_.readout.clear();
    if (!hit.readout.empty()) {
      ui_.readout = fmt::format("{}: {}", panel_.view->title(), hit.readout);
    } else if (hit.in_frame && !shot.drawn.frames[hit.frame].is_table()) {
      const render::Frame& frame = shot.drawn.frames[hit.frame];
      ui_.readout =
          fmt::format("{}: x {}, y {}", panel_.view->title(), render::short_number(frame.x.to_value(at.x), 5),
                      render::short_number(frame.y.to_value(at.y), 5));
    }
  }

  // What is going on with the picture
  // -------------------------------------------------------------------------

  void draw_state(const Area& area, ImDrawList& list) {
    const Palette& palette = ui_.appearance.palette();
    if (!picture_.failure().empty()) {
      draw_failure(area, list);
      return;
    }
    if (!picture_.is_computing()) return;
    const Worker::Status status = ui_.background.for_view(panel_.view->name()).status();
    const bool mine = status.channel == picture_.channel();
    const std::string text =
        mine ? fmt::format("{} … {:.0f} %", status.stage.empty() ? "computing" : status.stage,
                           100 * status.fraction)
             : "waiting for its turn …";
    // A veil over what is out of date, once it takes long enough to be read.
    if (picture_.shot() == nullptr || picture_.seconds_computing() > kQuick) {
      if (picture_.shot() != nullptr && !picture_.is_outline())
        list.AddRectFilled(area.begin(), area.end(), to_u32(palette.panel.with_alpha(0.55)));
      const ImVec2 size = ImGui::CalcTextSize(text.c_str());
      const ImVec2 at{area.x0 + 0.5f * (area.width() - size.x), area.y0 + 0.5f * (area.height() - size.y)};
      const float pad = ui_.px(10);
      list.AddRectFilled({at.x - pad, at.y - pad}, {at.x + size.x + pad, at.y + size.y + pad},
                         to_u32(palette.panel), ui_.px(5));
      list.AddRect({at.x - pad, at.y - pad}, {at.x + size.x + pad, at.y + size.y + pad},
                   to_u32(palette.border), ui_.px(5));
      list.AddText(at, to_u32(palette.ink), text.c_str());
      if (mine)
        list.AddRectFilled(
            {at.x - pad, at.y + size.y + pad - ui_.px(3)},
            {at.x - pad + (size.x + 2 * pad) * static_cast<float>(status.fraction), at.y + size.y + pad},
            to_u32(palette.accent), ui_.px(2));
    }
  }

  void draw_failure(const Area& area, ImDrawList& list) {
    const Palette& palette = ui_.appearance.palette();
    list.AddRectFilled(area.begin(), area.end(), to_u32(palette.panel.with_alpha(0.88)));
    const float width = std::min(area.width() * 0.8f, ui_.px(520));
    ImGui::SetCursorScreenPos({area.x0 + 0.5f * (area.width() - width), area.y0 + area.height() * 0.36f});
    ImGui::BeginGroup();
    ImGui::PushTextWrapPos(ImGui::GetCursorPosX() + width);
    ImGui::PushStyleColor(ImGuiCol_Text, to_vec4(palette.warning));
    ImGui::TextUnformatted(picture_.was_cancelled() ? "Cancelled" : "This cannot be shown");
    ImGui::PopStyleColor();
    ImGui::TextUnformatted(picture_.failure().c_str());
    ImGui::PopTextWrapPos();
    ImGui::EndGroup();
    ImGui::SetCursorScreenPos(
        {area.x0 + 0.5f * (area.width() - width), ImGui::GetItemRectMax().y + ui_.px(8)});
    if (button(ui_.controls, id_ + ".again", "Compute again", "try it once more", keys_of(Action::recompute)))
      picture_.retry();
  }

  Ui& ui_;
  Workspace& w_;
  std::size_t index_;
  Panel& panel_;
  Picture& picture_;
  std::string id_;
  ImVec2 origin_{0, 0};
  float scale_x_ = 1, scale_y_ = 1;
};

}  // namespace

void draw_view_panel(Ui& ui, std::size_t index, const Area& area) {
  PanelDrawer(ui, index).draw(area);
}

}  // namespace muse::viewer
