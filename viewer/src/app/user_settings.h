// What the window remembers between two runs, in the user's config folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace muse::viewer {

struct UserSettings {
  std::vector<std::string> recent;  ///< dumps, the latest first
  bool dark = false;
  double ui_scale = 0;  ///< 0: what the screen asks for
  std::string layout = "errors";
  int width = 1600, height = 1000;  ///< of the window
  bool sidebar = true, minimap = true;
  std::string export_folder;

  /// Puts a dump to the front of the recent ones.
  void note_opened(const std::string& path);
  friend bool operator==(const UserSettings&, const UserSettings&) = default;
};

/// $XDG_CONFIG_HOME/muse/viewer.json, or ~/.config/muse/viewer.json; empty where there is no home.
[[nodiscard]] std::filesystem::path settings_path();

/// Reads the file; what it does not say, or says wrongly, keeps its default. A file that is not JSON is set
/// aside beside it, and `problem` says so.
[[nodiscard]] UserSettings read_user_settings(const std::filesystem::path& path, std::string& problem);

/// Writes the file, and its folder. What went wrong, or nothing.
[[nodiscard]] std::string write_user_settings(const std::filesystem::path& path,
                                              const UserSettings& settings);

}  // namespace muse::viewer
