#include "app/state_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "tools/output.h"

namespace muse::viewer {
namespace {

using Json = nlohmann::ordered_json;

constexpr auto kLeastPause = std::chrono::milliseconds(20);

Json json_of(const Area& area) {
  const auto whole = [](float x) { return static_cast<int>(std::lround(x)); };
  return {whole(area.x0), whole(area.y0), whole(area.x1), whole(area.y1)};
}

template <class Value>
void add(Json& object, const char* name, const std::optional<Value>& value) {
  if (value) object[name] = *value;
}

Json json_of(const Target& target) {
  Json object = Json::object();
  add(object, "query", target.query);
  add(object, "key", target.key);
  if (target.block) {
    const Block& b = *target.block;
    object["block"] = {
        {"level", b.level}, {"queries", {b.query_begin, b.query_end}}, {"keys", {b.key_begin, b.key_end}}};
  }
  add(object, "query_cluster", target.query_cluster);
  add(object, "key_cluster", target.key_cluster);
  add(object, "point", target.point);
  add(object, "head", target.head);
  return object;
}

Json json_of(const Selection& selection) {
  Json object{{"hovered", json_of(selection.hovered)},
              {"locked", selection.locked ? json_of(*selection.locked) : Json()},
              {"shown", json_of(selection.shown())}};
  object["filter"] = Json();
  if (const auto& filter = selection.filter)
    object["filter"] = {{"low", filter->low}, {"high", filter->high}, {"per", name_of(filter->per)}};
  return object;
}

Json json_of(const Slot& slot) {
  Json options = Json::object();
  for (const OptionInfo& option : option_table()) options[option.name] = get_option(slot.config, option.name);
  return {{"word", slot_word(slot)},
          {"batch", slot.batch},
          {"head", slot.head},
          {"tokens", slot.tokens},
          {"device", slot.on_gpu() ? "cuda" : "cpu"},
          {"dtype", tools::dtype_word(slot.device)},
          {"options", options}};
}

Json json_of(const render::Range& range) {
  return {range.low, range.high};
}

Json json_of(const std::optional<Zoom>& zoom) {
  return zoom ? Json{{"x", json_of(zoom->x)}, {"y", json_of(zoom->y)}} : Json();
}

// A picture's box in pixels of the window.
Json in_window(const render::PixelBox& box, const Area& picture, const render::Image& image) {
  const double sx = picture.width() / std::max(1, image.width),
               sy = picture.height() / std::max(1, image.height);
  return json_of(
      Area{static_cast<float>(picture.x0 + box.x0 * sx), static_cast<float>(picture.y0 + box.y0 * sy),
           static_cast<float>(picture.x0 + box.x1 * sx), static_cast<float>(picture.y0 + box.y1 * sy)});
}

Json json_of(const Shot& shot, const Area& picture) {
  Json frames = Json::array();
  for (const render::Frame& frame : shot.drawn.frames) {
    const auto axis = [](const render::AxisMap& map, double first, double last) {
      return Json{{"scale", render::name_of(map.scale().kind())},
                  {"at_begin", map.to_value(first)},
                  {"at_end", map.to_value(last)}};
    };
    frames.push_back({{"box", in_window(frame.box, picture, shot.drawn.image)},
                      {"x", axis(frame.x, frame.box.x0, frame.box.x1)},
                      {"y", axis(frame.y, frame.box.y0, frame.box.y1)}});
  }
  Json texts = Json::array();
  for (const render::TextBox& text : shot.drawn.texts)
    if (text.role != render::TextRole::tick) texts.push_back(text.text);
  return {{"view", shot.view->name()},
          {"selection", json_of(shot.selection)},
          {"zoom", json_of(shot.view_settings.zoom)},
          {"frames", frames},
          {"texts", texts},
          {"caption", shot.drawn.caption},
          {"draw_ms", std::round(shot.draw_ms * 10) / 10}};
}

Json panel_json(const Ui& ui, std::size_t index) {
  const Panel& panel = ui.workspace.panels[index];
  Json object{{"view", panel.view->name()}, {"title", panel.view->title()}};
  const bool placed = index < ui.places.size() && ui.places[index].visible;
  object["visible"] = placed;
  object["zoom"] = json_of(panel.settings.zoom);
  if (!placed || index >= ui.pictures.size()) return object;
  const Picture& picture = *ui.pictures[index];
  object["area"] = json_of(ui.places[index].panel);
  object["picture"] = json_of(ui.places[index].picture);
  object["current"] = picture.is_current();
  object["computing"] = picture.is_computing();
  object["failure"] = picture.failure();
  Json options = Json::object();
  const ViewSettings settings = ui.workspace.state_of(panel).view;
  for (const ViewOptionInfo& option : view_option_table())
    if (const std::string text = get_view_option(settings, option.name); text != option.default_value)
      options[option.name] = text;
  object["options"] = options;
  if (const Shot* shot = picture.shot()) object["shown"] = json_of(*shot, ui.places[index].picture);
  return object;
}

Json state_of(const Ui& ui, const WindowState& window) {
  const Workspace& w = ui.workspace;
  Json state{
      {"window", {{"width", window.width}, {"height", window.height}, {"minimised", window.minimised}}}};
  state["input"] = {{"keys", window.input.keys},
                    {"clicks", window.input.clicks},
                    {"notches", window.input.notches},
                    {"pointer", {window.input.x, window.input.y}},
                    {"typed_into", ui.controls.typed_into()}};
  if (w.session)
    state["dump"] = {{"path", w.session->path().string()},
                     {"heads", w.session->dump().heads_q()},
                     {"tokens", w.session->dump().tokens_q()},
                     {"gone", ui.dump_is_gone}};
  else
    state["dump"] = nullptr;
  state["gpu_problem"] = ui.gpu_problem ? Json(*ui.gpu_problem) : Json();
  state["opening"] = ui.opening;
  state["ready"] = ui.all_current();
  state["selection"] = json_of(w.selection);
  state["slots"] = {json_of(w.slots[0]), json_of(w.slots[1])};
  state["shown"] = w.shown == Shown::both ? "both" : w.shown == Shown::a ? "a" : "b";
  state["flipped"] = w.flipped;
  state["layout"] = w.layout.name;
  state["focused"] = w.focused;
  state["maximised"] = w.maximised;
  state["zoom_locked"] = w.zoom_locked;
  state["dark"] = ui.settings.dark;
  state["ui_scale"] = ui.appearance.scale();
  state["playing"] = ui.playback.playing;
  state["played"] = ui.playback.shown;
  state["readout"] = ui.readout;
  state["notice"] = ui.notice;
  Json dialogs = Json::array();
  for (const Message& message : ui.messages)
    dialogs.push_back({{"title", message.title}, {"text", message.text}});
  state["dialogs"] = {{"messages", dialogs},
                      {"open", ui.open_dialog.shown},
                      {"export", ui.export_dialog.shown},
                      {"help", ui.help_shown}};
  if (const auto& look = ui.open_dialog.look) {
    Json entries = Json::array();
    for (const PathEntry& entry : look->entries) entries.push_back(entry.name);
    state["dialogs"]["path"] = {{"typed", look->typed}, {"words", look->words}, {"entries", entries}};
  }
  state["recent"] = ui.settings.recent;
  for (std::size_t i = 0; i < w.panels.size(); ++i) state["panels"].push_back(panel_json(ui, i));
  Json controls = Json::object();
  for (const auto& [name, area] : ui.controls.places()) controls[name] = json_of(area);
  state["controls"] = controls;
  for (const auto& [name, worker] : {std::pair<const char*, const Worker*>{"files", &ui.background.files},
                                     {"views", &ui.background.views},
                                     {"sweeps", &ui.background.sweeps}}) {
    const Worker::Status status = worker->status();
    state["work"][name] = {{"busy", status.busy},         {"for", status.channel},
                           {"stage", status.stage},       {"fraction", std::round(status.fraction * 20) / 20},
                           {"finished", status.finished}, {"cancelled", status.cancelled}};
  }
  return state;
}

}  // namespace

void StateWriter::write_if_changed(const Ui& ui, const WindowState& window, bool final) {
  if (destination_.empty()) return;
  const auto now = std::chrono::steady_clock::now();
  behind_ = now < next_ && !final;
  if (behind_) return;
  Json state = state_of(ui, window);
  std::string text = state.dump();
  if (text == last_ && !final) return;
  last_ = std::move(text);
  next_ = now + kLeastPause;
  // What changes with every frame comes last, and is no reason to write.
  state["frames"] = {{"all", ui.frames.to_json()}, {"computing", ui.frames_computing.to_json()}};
  state["writes"] = ++writes_;
  state["closed"] = final;
  const std::string line = state.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  tools::write_text(destination_, line);
}

}  // namespace muse::viewer
