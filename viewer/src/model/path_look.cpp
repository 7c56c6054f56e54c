#include "model/path_look.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace muse::viewer {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMostEntries = 2000;

bool is_folder(const fs::path& path) {
  std::error_code error;
  return fs::is_directory(path, error);
}

bool is_dump(const fs::path& path) {
  std::error_code error;
  if (fs::is_directory(path, error)) return fs::exists(path / "q.npy", error);
  const std::string ending = path.extension().string();
  return (ending == ".npz" || ending == ".safetensors") && fs::is_regular_file(path, error);
}

// Entries of `folder` whose names begin with `prefix`, dumps first. Whether it could be read.
bool list(const fs::path& folder, const std::string& prefix, std::vector<PathEntry>& entries) {
  std::error_code error;
  fs::directory_iterator entry(folder, error);
  if (error) return false;
  for (; entry != fs::directory_iterator() && entries.size() < kMostEntries; entry.increment(error)) {
    if (error) break;
    const std::string name = entry->path().filename().string();
    if (!name.starts_with(prefix) || (name.starts_with('.') && prefix.empty())) continue;
    const bool dump = is_dump(entry->path());
    if (dump || is_folder(entry->path())) entries.push_back({entry->path().string(), name, dump});
  }
  std::sort(entries.begin(), entries.end(), [](const PathEntry& a, const PathEntry& b) {
    return a.is_dump != b.is_dump ? a.is_dump : a.name < b.name;
  });
  return true;
}

}  // namespace

std::string expanded_path(const std::string& typed) {
  const char* home = std::getenv("HOME");
  if (home == nullptr || !typed.starts_with('~') || (typed.size() > 1 && typed[1] != '/')) return typed;
  return home + typed.substr(1);
}

bool may_be_dump(const std::string& path) {
  return is_dump(path);
}

PathLook look_at(const std::string& typed) {
  PathLook look{.typed = typed};
  std::error_code error;
  const std::string text = expanded_path(typed);
  const fs::path path = text.empty() ? fs::current_path(error) : fs::path(text);
  const bool folder = is_folder(path), there = fs::exists(path, error);
  look.may_be_dump = !text.empty() && is_dump(path);
  // Of a folder what is in it, of anything else what is beside it.
  const fs::path around = folder ? path : path.has_parent_path() ? path.parent_path() : fs::path(".");
  const bool listed = list(around, folder ? "" : path.filename().string(), look.entries);
  if (listed) {
    fs::path absolute = fs::absolute(around, error).lexically_normal();
    if (!absolute.has_filename()) absolute = absolute.parent_path();  // "/a/b/"
    look.folder = absolute.string();
    look.has_parent = absolute.has_relative_path();
  }
  const auto dumps = std::count_if(look.entries.begin(), look.entries.end(),
                                   [](const auto& entry) { return entry.is_dump; });
  look.leads_on = folder ? dumps > 0 : !there && !look.entries.empty();
  if (look.may_be_dump)
    look.words = folder ? "A folder with a dump." : "A file that may be a dump.";
  else if (folder && !listed)
    look.words = "A folder that cannot be read.";
  else if (folder && !text.empty())
    look.words = dumps > 0 ? "A folder; the dumps in it are listed below."
                           : "A folder without a dump: it has no q.npy, and no .npz or .safetensors file.";
  else if (there && !text.empty())
    look.words = "A file, but no dump: its name ends neither in .npz nor in .safetensors.";
  else if (!text.empty() && !look.entries.empty())
    look.words = "Nothing has this name; what begins with it is listed below.";
  else if (!text.empty())
    look.words = listed ? "Nothing is there." : "Nothing is there, nor is its folder.";
  return look;
}

}  // namespace muse::viewer
