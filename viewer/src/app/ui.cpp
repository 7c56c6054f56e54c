#include "app/ui.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "app/export.h"
#include "muse/check.h"
#include "panels/zooming.h"
#include "tools/cuda_device.h"

namespace muse::viewer {
namespace {

constexpr auto kPlaybackPause = std::chrono::milliseconds(900);
constexpr double kOverviewExtent = 340;  // logical pixels of the picture that a minimap is cut from

// What to do about an error, by what it is about.
std::string advice_for(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::exists(path, error))
    return "Nothing is there. Check the path; a dump is a folder with meta.json, q.npy, k.npy and v.npy, or "
           "an "
           ".npz or .safetensors file.";
  return "What was open stays open. The formats are in docs/formats.md; `muse info` on the same path says "
         "more.";
}

}  // namespace

render::FigureOptions Ui::figure_options(const Area& area) const {
  return {.width = std::max(16, static_cast<int>(area.width())),
          .height = std::max(16, static_cast<int>(area.height())),
          .ui_scale = appearance.scale(),
          .dark = appearance.dark(),
          .minimap = false};
}

void Ui::look_for_gpu() {
  background.files.request(
      "gpu",
      [this](Task&) {
        background.inbox.post([this, problem = tools::gpu_problem()] { gpu_problem = problem; });
      },
      nullptr);
}

void Ui::open_dump(const std::string& path, std::function<void()> opened) {
  opening = path;
  notice.clear();
  background.files.request(
      "open",
      [this, path, opened = std::move(opened)](Task& task) {
        task.stage("reading " + path, 1);
        auto session = std::make_shared<const DumpSession>(path);
        background.inbox.post([this, path, session, opened] {
          if (opening == path) opening.clear();
          workspace.open(session);
          dump_is_gone = false;
          playback.playing = false;
          std::error_code error;
          const auto absolute = std::filesystem::absolute(path, error);
          settings.note_opened(error ? path : absolute.lexically_normal().string());
          open_dialog.shown = false;
          if (opened) opened();
        });
      },
      [this, path](const std::string& message) {
        background.inbox.post([this, path, message] {
          if (opening == path) opening.clear();
          tell("The dump cannot be opened", message + "\n\n" + advice_for(path));
          messages.back().leads_to_open = path == open_dialog.path;
        });
      });
}

void Ui::tell(std::string title, std::string text) {
  messages.push_back({.title = std::move(title), .text = std::move(text)});
}

void Ui::use_layout(const Layout& layout) {
  pictures.clear();
  overviews.clear();
  drag.reset();
  playback.playing = false;
  workspace.use_layout(layout);
  settings.layout = layout.name;
  places.assign(workspace.panels.size(), {});
  for (std::size_t i = 1; i <= workspace.panels.size(); ++i) {
    pictures.push_back(std::make_unique<Picture>(background, fmt::format("panel {}", i)));
    overviews.push_back(std::make_unique<Picture>(background, fmt::format("minimap {}", i)));
  }
}

void Ui::cancel_computations() {
  background.cancel_computations();
  for (const auto& picture : pictures) picture->note_cancelled();
  for (const auto& overview : overviews) overview->note_cancelled();
}

void Ui::recompute() {
  for (const auto& picture : pictures) picture->retry();
  for (const auto& overview : overviews) overview->retry();
}

void Ui::export_focused(const std::string& path, bool as_on_screen) {
  if (!workspace.session) return;
  const Panel& panel = workspace.focused_panel();
  const View& view = *panel.view;
  const ViewState state = workspace.state_of(panel);
  render::FigureOptions options = view.default_size();
  options.dark = appearance.dark();
  if (as_on_screen && places[workspace.focused].visible)
    options = figure_options(places[workspace.focused].picture);
  options.first_row = panel.first_row;
  settings.export_folder = std::filesystem::path(path).parent_path().string();
  notice.clear();
  background.files.request(
      "export",
      [this, path, &view, state, options, analysis = workspace.analysis](Task& task) {
        export_view(path, view, *analysis, state, options, task);
        background.inbox.post([this, path] { notice = "Written: " + path; });
      },
      [this](const std::string& message) {
        background.inbox.post([this, message] {
          tell("The export was not written",
               message +
                   "\n\nChoose another file: its folder must be there and writable, and its name must end "
                   "in .png, .npy or .csv.");
        });
      });
}

bool Ui::playable(const Panel& panel, Index& first, Index& last) const {
  if (panel.view->name() == "blocks") {
    first = -1;
    last = workspace.levels() - 1;
    return workspace.main_slot().config.mode != Mode::acausal;
  }
  if (panel.view->name() == "kmeans") {
    first = 0;
    last = workspace.main_slot().config.passes;
    return last > first;
  }
  return false;
}

Index Ui::playback_step(const Panel& panel) const {
  Index first = 0, last = 0;
  if (!playable(panel, first, last)) return 0;
  const ViewSettings view = workspace.state_of(panel).view;
  const auto& step = panel.view->name() == "blocks" ? view.up_to : view.pass;
  return std::clamp(step.value_or(last), first, last);
}

void Ui::set_playback_step(Panel& panel, Index step) {
  Index first = 0, last = 0;
  if (!playable(panel, first, last)) return;
  const Index clamped = std::clamp(step, first, last);
  if (panel.view->name() == "blocks")
    workspace.set_view_option(panel, "up-to-level", clamped == last ? "all" : fmt::format("{}", clamped));
  else
    workspace.set_view_option(panel, "pass", clamped == last ? "last" : fmt::format("{}", clamped));
}

void Ui::step_playback(Index step) {
  Panel& panel = workspace.focused_panel();
  set_playback_step(panel, playback_step(panel) + step);
}

void Ui::zoom_focused(double factor) {
  const std::size_t index = workspace.focused;
  const Shot* shot = pictures[index]->shot();
  if (shot == nullptr || !zoomable(shot->drawn, 0).x) return;
  Panel& panel = workspace.panels[index];
  const render::Frame frame = frame_at_zoom(shot->drawn.frames.front(), panel.settings.zoom);
  const render::Point middle{0.5 * (frame.box.x0 + frame.box.x1), 0.5 * (frame.box.y0 + frame.box.y1)};
  workspace.set_zoom(panel, zoomed_at(frame, middle, factor, factor, pictures[index]->whole()));
}

void Ui::set_view_option(Panel& panel, const std::string& name, const std::string& text) {
  try {
    workspace.set_view_option(panel, name, text);
  } catch (const UsageError& error) {
    tell("That setting was not taken", error.what());
  }
}

void Ui::act(Action action, int argument) {
  Workspace& w = workspace;
  const auto query = [&]() -> Index { return w.selection.shown().query.value_or(0); };
  switch (action) {
    case Action::open:
      open_dialog.wanted = true;
      break;
    case Action::export_view:
      export_dialog.wanted = w.session != nullptr;
      break;
    case Action::help:
      help_shown = !help_shown;
      break;
    case Action::quit:
      quit = true;
      break;
    case Action::escape:
      if (help_shown)
        help_shown = false;
      else
        w.selection.escape();
      break;
    case Action::step_head:
      w.step_head(argument);
      break;
    case Action::step_layer:
      w.step_layer(argument);
      break;
    case Action::step_query:
      w.lock_query(query() + argument);
      break;
    case Action::go_to_query:
      focus_query_field = settings.sidebar = true;
      break;
    case Action::show_a:
      w.shown = Shown::a;
      w.edited_slot = 0;
      break;
    case Action::show_b:
      w.shown = Shown::b;
      w.edited_slot = 1;
      break;
    case Action::show_both:
      w.shown = Shown::both;
      break;
    case Action::flip:
      break;  // as long as it is held: the main loop looks
    case Action::set_view:
      w.set_view(w.focused, *all_views()[static_cast<std::size_t>(argument)]);
      break;
    case Action::next_panel:
      w.focused = (w.focused + 1) % w.panels.size();
      break;
    case Action::maximise:
      w.maximised = !w.maximised;
      break;
    case Action::use_layout:
      use_layout(layout_presets()[static_cast<std::size_t>(argument)]);
      break;
    case Action::fit:
      w.set_zoom(w.focused_panel(), std::nullopt);
      break;
    case Action::zoom_in:
      zoom_focused(0.8);
      break;
    case Action::zoom_out:
      zoom_focused(1.25);
      break;
    case Action::lock_zoom:
      w.zoom_locked = !w.zoom_locked;
      if (w.zoom_locked) w.set_zoom(w.focused_panel(), w.focused_panel().settings.zoom);
      break;
    case Action::minimap:
      settings.minimap = !settings.minimap;
      break;
    case Action::play: {
      Index first = 0, last = 0;
      // Without something to play in the focused panel, the first one that has.
      for (std::size_t i = 0; i < w.panels.size() && !playable(w.focused_panel(), first, last); ++i)
        if (playable(w.panels[i], first, last)) w.focused = i;
      if (!playable(w.focused_panel(), first, last)) break;
      playback.playing = !playback.playing;
      playback.shown.clear();
      playback.panel = w.focused;
      playback.next = std::chrono::steady_clock::now() + kPlaybackPause;
      if (playback.playing && playback_step(w.focused_panel()) == last)
        set_playback_step(w.focused_panel(), first);
      break;
    }
    case Action::step_playback:
      step_playback(argument);
      break;
    case Action::recompute:
      recompute();
      break;
    case Action::cancel:
      cancel_computations();
      break;
    case Action::theme:
      settings.dark = !settings.dark;
      break;
    case Action::scale:
      settings.ui_scale = std::clamp(std::round((appearance.scale() + 0.1 * argument) * 10) / 10, 0.5, 4.0);
      break;
    case Action::sidebar:
      settings.sidebar = !settings.sidebar;
      break;
  }
}

void Ui::update_pictures() {
  const std::size_t count = workspace.panels.size();
  if (!workspace.session) return;
  std::vector<std::size_t> order{workspace.focused};
  for (std::size_t i = 0; i < count; ++i)
    if (i != workspace.focused) order.push_back(i);
  for (const std::size_t i : order) {
    if (!places[i].visible) continue;
    const Panel& panel = workspace.panels[i];
    PictureRequest request{.view = panel.view,
                           .analysis = workspace.analysis,
                           .opened = workspace.opened,
                           .state = workspace.state_of(panel),
                           .options = figure_options(places[i].picture)};
    request.options.first_row = panel.first_row;
    pictures[i]->update(request);
    if (!panel.settings.zoom || !settings.minimap || !has_minimap(*panel.view)) continue;
    request.state.view.zoom.reset();
    request.options.width = request.options.height = static_cast<int>(px(kOverviewExtent));
    overviews[i]->update(request, pictures[i].get());
  }
  // Playback goes on once the last step was seen for a while.
  const auto now = std::chrono::steady_clock::now();
  if (playback.playing && playback.panel < count) {
    Panel& panel = workspace.panels[playback.panel];
    Index first = 0, last = 0;
    if (!playable(panel, first, last)) {
      playback.playing = false;
    } else if (!pictures[playback.panel]->is_current()) {
      playback.next = now + kPlaybackPause;
      if (!pictures[playback.panel]->failure().empty()) playback.playing = false;
    } else if (const Index step = playback_step(panel);
               playback.shown.empty() || playback.shown.back() != step) {
      playback.shown.push_back(step);
      playback.next = now + kPlaybackPause;
    } else if (now >= playback.next) {
      if (step >= last)
        playback.playing = false;
      else
        set_playback_step(panel, step + 1);
      playback.next = now + kPlaybackPause;
    }
  }
}

bool Ui::all_current() const {
  if (!opening.empty()) return false;
  if (!workspace.session) return true;
  for (std::size_t i = 0; i < pictures.size(); ++i) {
    if (i >= places.size() || !places[i].visible) continue;
    if (!pictures[i]->is_current() && pictures[i]->failure().empty()) return false;
  }
  return true;
}

}  // namespace muse::viewer
