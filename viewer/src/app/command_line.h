// The command line of muse-viewer: every option that the window's controls have.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <optional>
#include <string>

#include "model/dump_session.h"
#include "model/settings.h"
#include "render/figure.h"
#include "tools/dump_options.h"

namespace muse::viewer {

/// How the window is opened.
struct WindowOptions {
  std::string screenshot;     ///< written, then the window closes; empty: a person closes it
  std::optional<int> frames;  ///< drawn before that
  std::string state_json;     ///< where the state goes; empty: nowhere
  std::string layout;         ///< empty: as last time
  bool view_typed = false;    ///< one view was asked for
  std::optional<int> width, height;
  std::optional<double> ui_scale;
  std::optional<bool> dark;
};

/// What was typed, and what it means for a dump.
class CommandLine {
 public:
  void add_to(CLI::App& app);

  [[nodiscard]] const std::string& dump() const { return dump_; }
  [[nodiscard]] const std::string& export_path() const { return export_; }
  [[nodiscard]] const std::string& view() const { return view_; }
  /// Slots, view settings and selection. UsageError or MisfitError for what the dump does not have; whether
  /// there is a GPU is not asked here.
  [[nodiscard]] ViewState state(const DumpSession& session) const;
  /// Size and look of the picture; `size` where none was typed.
  [[nodiscard]] render::FigureOptions figure_options(render::FigureOptions size) const;
  [[nodiscard]] WindowOptions window_options() const;
  /// Sets the view options that were typed.
  void set_typed_view_options(ViewSettings& settings) const;
  /// Sets OpenMP's number of threads.
  void use_threads() const;

 private:
  [[nodiscard]] tools::Device device_of(const tools::MethodSpec& method) const;
  [[nodiscard]] Selection selection(const DumpSession& session, const ViewState& state) const;

  std::string dump_, export_, view_ = "error";
  tools::ConfigOptions config_;
  std::string method_ = "muse", compare_, device_, dtype_;
  std::int64_t head_ = 0, batch_ = 0, tokens_ = 0, threads_ = 0, first_row_ = 0;
  struct Typed {
    CLI::Option* option = nullptr;
    std::string text;
  };
  std::map<std::string, Typed> view_options_;  // by name
  std::optional<std::int64_t> query_, key_, query_cluster_, key_cluster_;
  std::string filter_, size_, theme_ = "light";
  double ui_scale_ = 1;
  std::string screenshot_, state_json_, layout_;
  std::optional<int> frames_;
  CLI::Option *view_typed_ = nullptr, *theme_typed_ = nullptr, *ui_scale_typed_ = nullptr;
};

}  // namespace muse::viewer
