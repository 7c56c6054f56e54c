#include "app/viewer.h"

#define GLFW_INCLUDE_NONE
#include <GLFW/glfw3.h>
#include <fmt/format.h>
#include <imgui.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <thread>

#include "app/state_json.h"
#include "app/ui.h"
#include "app/window.h"
#include "muse/check.h"
#include "panels/panels.h"
#include "tools/cuda_device.h"
#include "tools/interrupt.h"
#include "tools/version.h"

namespace muse::viewer {
namespace {

using Clock = std::chrono::steady_clock;

// Seconds between frames when nothing happens: with something computed, its progress is seen; else the loop
// only looks whether the dump's file is still there.
constexpr double kIdlePause = 0.5, kComputingPause = 0.06, kMovingPause = 0.015, kStatePause = 0.01;
// Frames begin no faster than a screen shows them. During a computation they leave it some of the time, also
// where the pointer never rests and no graphics card draws: a frame of 10 ms is followed by 6 ms of rest.
constexpr double kLeastFrameMs = 15, kFrameShare = 1.6;
constexpr double kDoubleClick = 0.3;  // seconds between its two clicks
// Dear ImGui settles within a few frames after each event.
constexpr int kFramesToSettle = 3;

constexpr double kToolbarHeight = 42, kStatusHeight = 36, kSidebarWidth = 316, kLeastForSidebar = 760;

class Viewer {
 public:
  explicit Viewer(const CommandLine& line)
      : line_(line),
        options_(line.window_options()),
        settings_file_(options_.screenshot.empty() ? settings_path() : std::filesystem::path()),
        saved_(read_user_settings(settings_file_, settings_problem_)),
        window_(options_.width.value_or(saved_.width), options_.height.value_or(saved_.height), "muse-viewer",
                !options_.screenshot.empty()),
        ui_(Window::wake),
        state_(options_.state_json) {
    ui_.settings = saved_;
    if (options_.dark) ui_.settings.dark = *options_.dark;
    if (options_.ui_scale) ui_.settings.ui_scale = *options_.ui_scale;
    if (!settings_problem_.empty()) ui_.tell("Settings", settings_problem_);
    Layout layout = layout_named(options_.layout.empty() ? ui_.settings.layout : options_.layout);
    if (options_.layout.empty() && options_.view_typed) layout = layout_named("one");
    const std::string kept_layout = ui_.settings.layout;
    ui_.use_layout(layout);
    if (options_.view_typed) ui_.workspace.set_view(0, view_named(line.view()));
    // What the command line asks for is for this run.
    if (options_.layout.empty()) ui_.settings.layout = kept_layout;
    for (Panel& panel : ui_.workspace.panels) line.set_typed_view_options(panel.settings);
    line.set_typed_view_options(ui_.workspace.shared);
    ui_.look_for_gpu();
    if (!line.dump().empty()) ui_.open_dump(line.dump(), [this] { take_command_line(); });
    changed_settings_ = ui_.settings;
  }

  int run() {
    while (!window_.should_close() && !ui_.quit) {
      try {
        tools::throw_if_interrupted();
      } catch (const Cancelled&) {
        return finish(tools::kInterruptedStatus);
      }
      window_.wait_events(pause());
      if (const auto now = Clock::now(); now < next_frame_) {
        std::this_thread::sleep_until(next_frame_);
        window_.wait_events(0);
      }
      if (window_.take_activity()) settle_ = kFramesToSettle;
      if (ui_.background.inbox.drain()) settle_ = std::max(settle_, 2);
      if (window_.is_minimised()) {
        minimised_ = true;
        write_state(false);
        continue;
      }
      minimised_ = false;
      handle_events();
      if (const std::optional<int> status = frame()) return finish(*status);
    }
    return finish(0);
  }

 private:
  // What the command line says of slots, options and selection, once the dump is known.
  void take_command_line() {
    Workspace& w = ui_.workspace;
    try {
      const ViewState state = line_.state(*w.session);
      w.slots[0] = state.slots[0];
      if (state.comparing()) {
        w.slots[1] = state.slots[1];
        w.shown = Shown::both;
        w.own_head = w.slots[1].head != w.slots[0].head;
      } else {
        w.slots[1] = w.slots[0];
        w.slots[1].method = Method::muse;
        set_option(w.slots[1].config, "retrieve",
                   get_option(w.slots[0].config, "retrieve") == "0" ? "8" : "0");
      }
      for (Slot& slot : w.slots) require_gpu_of(slot);
      w.selection = state.selection;
      line_.set_typed_view_options(w.shared);
      for (Panel& panel : w.panels) line_.set_typed_view_options(panel.settings);
    } catch (const Error& error) {
      if (!options_.screenshot.empty()) throw;
      ui_.tell("The command line asks for what this dump does not have", error.what());
    }
  }

  // A slot that was to run on a GPU stays on the CPU where there is none. Whether there is one was asked
  // before the dump was read.
  void require_gpu_of(Slot& slot) {
    if (!slot.device.gpu || ui_.gpu_problem.value_or("").empty()) return;
    if (!options_.screenshot.empty()) tools::require_gpu();
    slot.device = {};
    if (ui_.messages.empty())
      ui_.tell(
          "The CPU computes",
          fmt::format("--device cuda: {}. The slots run on the CPU instead, in float.", *ui_.gpu_problem));
  }

  [[nodiscard]] double pause() const {
    if (minimised_) return 0.2;
    if (settle_ > 0 || options_.frames || window_.has_input()) return 0;
    if (state_.is_behind()) return kStatePause;
    if (ui_.drag || ui_.flip_held_by_button || ImGui::GetIO().WantTextInput) return kMovingPause;
    if (ui_.playback.playing || ui_.background.computing() || !ui_.opening.empty() || !ui_.all_current())
      return kComputingPause;
    return kIdlePause;
  }

  void handle_events() {
    for (const std::string& path : window_.take_dropped_files()) ui_.open_dump(path);
    const bool typing = ImGui::GetIO().WantTextInput;
    const std::vector<KeyPress> presses = window_.take_input(typing);
    if (!presses.empty()) settle_ = kFramesToSettle;
    for (const KeyPress& press : presses) handle_key(press);
    ui_.workspace.flipped = ui_.flip_held_by_button || (!typing && window_.is_down(GLFW_KEY_F));
    // The dump's file may vanish; what is open does not need it.
    const auto now = Clock::now();
    if (ui_.workspace.session && now >= next_look_) {
      std::error_code error;
      ui_.dump_is_gone = !std::filesystem::exists(ui_.workspace.session->path(), error);
      next_look_ = now + std::chrono::seconds(1);
    }
  }

  void handle_key(const KeyPress& press) {
    const Shortcut* shortcut = shortcut_for(press.key, press.mods);
    if (shortcut == nullptr || (press.repeated && !shortcut->repeats)) return;
    if (ImGui::GetIO().WantTextInput && !shortcut->while_typing) return;
    // Dialogs and lists see to their own keys.
    if (shortcut->action != Action::quit &&
        ImGui::IsPopupOpen("", ImGuiPopupFlags_AnyPopupId | ImGuiPopupFlags_AnyPopupLevel))
      return;
    const bool needs_dump = shortcut->action != Action::open && shortcut->action != Action::help &&
                            shortcut->action != Action::quit && shortcut->action != Action::theme &&
                            shortcut->action != Action::scale && shortcut->action != Action::escape;
    if (needs_dump && !ui_.workspace.session) return;
    ui_.act(shortcut->action, shortcut->argument);
  }

  // One frame. The exit status, if it was the last.
  std::optional<int> frame() {
    const auto start = Clock::now();
    const double scale = ui_.settings.ui_scale > 0
                             ? ui_.settings.ui_scale
                             : (options_.screenshot.empty() ? window_.content_scale() : 1.0);
    if (ui_.appearance.apply(ui_.settings.dark, scale * window_.pixels_per_unit())) window_.renew_fonts();
    const bool computing = ui_.background.computing();
    // Press, release and press take a frame each: where frames are slow, a double click is not missed for it.
    ImGui::GetIO().MouseDoubleClickTime = static_cast<float>(kDoubleClick + 3e-3 * last_frame_ms_);
    window_.begin_frame();
    ui_.controls.begin_frame();
    ui_.hovers_picture = false;
    draw();
    if (!ui_.hovers_picture && !ui_.drag) {
      ui_.workspace.selection.hover({});
      ui_.readout.clear();
    }
    if (!ImGui::IsMouseDown(ImGuiMouseButton_Left)) ui_.drag.reset();
    ui_.workspace.drop_what_is_gone();
    ui_.update_pictures();
    set_title();
    const bool capture = wants_screenshot();
    std::optional<render::Image> captured;
    window_.end_frame(ui_.appearance.palette().panel, capture ? &captured : nullptr);
    const double ms = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    ++drawn_;
    last_frame_ms_ = ms;
    const double rest_ms = std::max(kLeastFrameMs, computing ? ms * kFrameShare : 0);
    next_frame_ = start + std::chrono::duration_cast<Clock::duration>(
                              std::chrono::duration<double, std::milli>(rest_ms));
    // The first frames make fonts and shaders.
    if (drawn_ > 5) {
      ui_.frames.add(ms);
      if (computing) ui_.frames_computing.add(ms);
    }
    if (settle_ > 0) --settle_;
    keep_settings();
    write_state(false);
    if (captured) {
      render::write_png(options_.screenshot, *captured,
                        {{"Title", "muse-viewer"}, {"Software", tools::version_line()}});
      return 0;
    }
    if (!options_.screenshot.empty() && !ui_.messages.empty() && !ui_.workspace.session)
      throw FileError(ui_.messages.front().text);
    if (options_.frames && drawn_ >= *options_.frames) return 0;
    return std::nullopt;
  }

  [[nodiscard]] bool wants_screenshot() {
    if (options_.screenshot.empty()) return false;
    if (options_.frames) return drawn_ + 1 >= *options_.frames;
    // Everything computed, drawn and uploaded, for a few frames.
    calm_ = ui_.all_current() ? calm_ + 1 : 0;
    return calm_ > 4;
  }

  void draw() {
    const float width = ImGui::GetIO().DisplaySize.x, height = ImGui::GetIO().DisplaySize.y;
    const float more_rows = static_cast<float>(ui_.toolbar_rows - 1);
    const float top = std::round(ui_.px(kToolbarHeight) + more_rows * ImGui::GetFrameHeightWithSpacing()),
                bottom = std::round(height - ui_.px(kStatusHeight));
    const float gap = std::max(3.0f, std::round(ui_.px(5)));
    for (PanelPlace& place : ui_.places) place.visible = false;
    draw_toolbar(ui_, {0, 0, width, top});
    if (!ui_.workspace.session) {
      draw_start_page(ui_, {0, top, width, bottom});
    } else {
      float left = gap;
      if (ui_.settings.sidebar && width >= ui_.px(kLeastForSidebar)) {
        const float side = std::round(ui_.px(kSidebarWidth));
        draw_sidebar(ui_, {0, top, side, bottom});
        left = side + gap;
      }
      draw_panels(ui_, {left, top + gap, width - gap, bottom - gap});
    }
    draw_status_bar(ui_, {0, bottom, width, height});
    draw_help_window(ui_);
    draw_open_dialog(ui_);
    draw_export_dialog(ui_);
    draw_message_dialog(ui_);
  }

  void set_title() {
    const std::string title =
        ui_.workspace.session ? fmt::format("{} · {} – muse-viewer", ui_.workspace.session->name(),
                                            ui_.workspace.session->head_name(ui_.workspace.main_slot().batch,
                                                                             ui_.workspace.main_slot().head))
                              : "muse-viewer";
    if (title != title_) window_.set_title(title_ = title);
  }

  void keep_settings() {
    if (settings_file_.empty()) return;
    if (!options_.width) {
      ui_.settings.width = window_.width();
      ui_.settings.height = window_.height();
    }
    if (ui_.settings == changed_settings_ || Clock::now() < next_save_) return;
    next_save_ = Clock::now() + std::chrono::seconds(1);
    save_settings();
  }

  void save_settings() {
    UserSettings kept = ui_.settings;
    // What the command line asked for is for this run alone.
    if (options_.dark && kept.dark == *options_.dark) kept.dark = saved_.dark;
    if (options_.ui_scale && kept.ui_scale == *options_.ui_scale) kept.ui_scale = saved_.ui_scale;
    const std::string problem = write_user_settings(settings_file_, kept);
    if (!problem.empty() && !settings_complained_) {
      settings_complained_ = true;
      ui_.tell("Settings", problem + "\n\nThe window works all the same; they last until it is closed.");
    }
    changed_settings_ = ui_.settings;
  }

  void write_state(bool final) {
    // The size that the last frame was drawn for: what is said of its controls and pictures fits to it.
    const ImGuiIO& io = ImGui::GetIO();
    state_.write_if_changed(ui_,
                            {static_cast<int>(io.DisplaySize.x * io.DisplayFramebufferScale.x),
                             static_cast<int>(io.DisplaySize.y * io.DisplayFramebufferScale.y), minimised_,
                             window_.input_taken()},
                            final);
  }

  int finish(int status) {
    if (!settings_file_.empty() && ui_.settings != changed_settings_) save_settings();
    write_state(true);
    return status;
  }

  const CommandLine& line_;
  WindowOptions options_;
  std::filesystem::path settings_file_;
  std::string settings_problem_;
  UserSettings saved_, changed_settings_;
  Window window_;  // before what owns textures of it
  Ui ui_;
  StateWriter state_;
  std::string title_;
  Clock::time_point next_look_{}, next_save_{}, next_frame_{};
  double last_frame_ms_ = 0;
  int settle_ = kFramesToSettle, drawn_ = 0, calm_ = 0;
  bool minimised_ = false, settings_complained_ = false;
};

}  // namespace

int run_viewer(const CommandLine& line) {
  return Viewer(line).run();
}

}  // namespace muse::viewer
