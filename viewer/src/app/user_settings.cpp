#include "app/user_settings.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "muse/check.h"
#include "tools/output.h"

namespace muse::viewer {
namespace {

constexpr std::size_t kMostRecent = 12;

// Sets `value` if the object has an entry of that name and kind.
template <class Value>
void take(const nlohmann::json& object, const char* name, Value& value) {
  const auto entry = object.find(name);
  if (entry == object.end()) return;
  if constexpr (std::is_same_v<Value, bool>) {
    if (entry->is_boolean()) value = entry->get<bool>();
  } else if constexpr (std::is_same_v<Value, std::string>) {
    if (entry->is_string()) value = entry->get<std::string>();
  } else {
    if (entry->is_number()) value = entry->get<Value>();
  }
}

}  // namespace

void UserSettings::note_opened(const std::string& path) {
  std::erase(recent, path);
  recent.insert(recent.begin(), path);
  if (recent.size() > kMostRecent) recent.resize(kMostRecent);
}

std::filesystem::path settings_path() {
  const char* config = std::getenv("XDG_CONFIG_HOME");
  if (config != nullptr && config[0] == '/') return std::filesystem::path(config) / "muse" / "viewer.json";
  const char* home = std::getenv("HOME");
  if (home == nullptr || home[0] != '/') return {};
  return std::filesystem::path(home) / ".config" / "muse" / "viewer.json";
}

UserSettings read_user_settings(const std::filesystem::path& path, std::string& problem) {
  UserSettings settings;
  std::ifstream file(path);
  if (path.empty() || !file) return settings;
  const nlohmann::json object = nlohmann::json::parse(file, nullptr, false);
  if (!object.is_object()) {
    std::filesystem::path aside = path;
    aside += ".broken";
    std::error_code error;
    std::filesystem::rename(path, aside, error);
    problem =
        fmt::format("The settings file {} cannot be read; it was set aside as {}, and the defaults hold.",
                    path.string(), aside.filename().string());
    return settings;
  }
  if (const auto recent = object.find("recent"); recent != object.end() && recent->is_array())
    for (const nlohmann::json& entry : *recent)
      if (entry.is_string() && settings.recent.size() < kMostRecent)
        settings.recent.push_back(entry.get<std::string>());
  take(object, "dark", settings.dark);
  take(object, "ui_scale", settings.ui_scale);
  take(object, "layout", settings.layout);
  take(object, "width", settings.width);
  take(object, "height", settings.height);
  take(object, "sidebar", settings.sidebar);
  take(object, "minimap", settings.minimap);
  take(object, "export_folder", settings.export_folder);
  if (settings.ui_scale != 0) settings.ui_scale = std::clamp(settings.ui_scale, 0.5, 4.0);
  settings.width = std::clamp(settings.width, 320, 16384);
  settings.height = std::clamp(settings.height, 240, 16384);
  return settings;
}

std::string write_user_settings(const std::filesystem::path& path, const UserSettings& settings) {
  if (path.empty()) return {};
  const nlohmann::ordered_json object{{"recent", settings.recent},
                                      {"dark", settings.dark},
                                      {"ui_scale", settings.ui_scale},
                                      {"layout", settings.layout},
                                      {"width", settings.width},
                                      {"height", settings.height},
                                      {"sidebar", settings.sidebar},
                                      {"minimap", settings.minimap},
                                      {"export_folder", settings.export_folder}};
  try {
    std::filesystem::create_directories(path.parent_path());
    tools::write_text(path.string(), tools::json_text(object));
  } catch (const std::exception& error) {
    return fmt::format("The window's settings cannot be kept: {}", error.what());
  }
  return {};
}

}  // namespace muse::viewer
