// Everything of the window that its panels show and change.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/appearance.h"
#include "app/background.h"
#include "app/frame_times.h"
#include "app/picture.h"
#include "app/shortcuts.h"
#include "app/user_settings.h"
#include "app/workspace.h"
#include "model/path_look.h"
#include "panels/controls.h"

namespace muse::viewer {

/// Something that a person has to know: what happened, and what to do.
struct Message {
  std::string title, text;
  bool leads_to_open = false;  ///< the dialog "Open" follows it
};

/// What the dialog "Open" holds.
struct OpenDialog {
  bool wanted = false, shown = false;
  bool focus_path = false;                     ///< the keyboard goes to the path with the next frame
  std::string path = {};                       ///< as typed
  std::optional<PathLook> look = {};           ///< what is there, as far as it is known
  std::optional<std::string> looking_at = {};  ///< path that is being looked at
};

/// What the dialog "Export" holds.
struct ExportDialog {
  bool wanted = false, shown = false;
  std::string path;
  bool as_on_screen = true;  ///< size and look of the panel; otherwise the view's own size
};

/// Levels or passes shown one after the other.
struct Playback {
  bool playing = false;
  std::size_t panel = 0;
  std::chrono::steady_clock::time_point next;  ///< when the next one is due
  std::vector<Index> shown;                    ///< steps whose pictures were seen, since it began
};

/// A panel on the screen, as of the last frame.
struct PanelPlace {
  Area panel, picture;  ///< picture: pixel 0,0 of the Drawn is at its corner
  bool visible = false;
};

/// A drag that began on a picture.
struct Drag {
  std::size_t panel = 0;
  render::Frame frame;  ///< where and as it was pressed
  ImVec2 from = {0, 0};
  bool moved = false;
  bool moves = false;          ///< the picture
  bool selects_range = false;  ///< of the histogram
  bool scrolls = false;        ///< rows of the table in `frame`
};

class Ui {
 public:
  explicit Ui(std::function<void()> wake) : background(std::move(wake)) {}

  Background background;  // before the pictures, which end their jobs
  Workspace workspace;
  UserSettings settings;
  Appearance appearance;
  Controls controls;
  std::vector<std::unique_ptr<Picture>> pictures;   ///< one a panel
  std::vector<std::unique_ptr<Picture>> overviews;  ///< the same unzoomed, for minimaps
  std::vector<PanelPlace> places;                   ///< one a panel

  // Dialogs.
  std::deque<Message> messages;
  OpenDialog open_dialog;
  ExportDialog export_dialog;
  bool help_shown = false;
  bool focus_query_field = false;
  std::string notice;   ///< one line of good news in the status bar
  std::string opening;  ///< dump that is being read; empty: none
  std::optional<std::string>
      gpu_problem;            ///< why nothing runs on a GPU; empty: it can; absent: not known yet
  bool dump_is_gone = false;  ///< the file of the open dump has vanished: what is open stays

  // The pointer.
  std::string readout;  ///< of what is under it
  std::optional<Drag> drag;
  bool hovers_picture = false;
  bool flip_held_by_button = false;
  Playback playback;

  // Groups of the toolbar wrap where the window is narrow.
  std::map<std::string, float> toolbar_widths;  ///< of its groups, as of the last frame
  int toolbar_rows = 1;

  FrameTimes frames, frames_computing;
  bool quit = false;

  /// Logical pixels in pixels of the window.
  [[nodiscard]] float px(double logical) const { return appearance.px(logical); }
  [[nodiscard]] render::FigureOptions figure_options(const Area& area) const;

  /// Finds out in the background whether there is a GPU.
  void look_for_gpu();
  /// Reads a dump in the background; `opened`, if given, is called once it is shown.
  void open_dump(const std::string& path, std::function<void()> opened = {});
  void tell(std::string title, std::string text);
  void use_layout(const Layout& layout);
  void cancel_computations();
  void recompute();
  /// Writes what the focused panel shows, as `muse-viewer --export` would.
  void export_focused(const std::string& path, bool as_on_screen);
  /// Does what a shortcut or control says.
  void act(Action action, int argument = 0);
  /// Steps levels or passes of the focused panel, wherever it stands.
  void step_playback(Index step);
  /// Whether the focused panel has something to play, and its first and last step.
  [[nodiscard]] bool playable(const Panel& panel, Index& first, Index& last) const;
  [[nodiscard]] Index playback_step(const Panel& panel) const;
  void set_playback_step(Panel& panel, Index step);
  void zoom_focused(double factor);
  /// Sets a view option, or tells why not.
  void set_view_option(Panel& panel, const std::string& name, const std::string& text);
  /// Asks for the pictures of the panels that are visible, that of the focused one first.
  void update_pictures();
  /// Whether all visible pictures show what they should, or say why they cannot.
  [[nodiscard]] bool all_current() const;
  [[nodiscard]] double ui_scale_setting() const { return settings.ui_scale; }
};

}  // namespace muse::viewer
