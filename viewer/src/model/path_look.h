// What lies at a path that a person types: for the dialog that opens dumps.
#pragma once

#include <string>
#include <vector>

namespace muse::viewer {

struct PathEntry {
  std::string path, name;
  bool is_dump = false;  ///< as far as names tell; otherwise a folder
};

struct PathLook {
  std::string typed;        ///< what was looked at
  std::string folder;       ///< whose entries follow; empty: there is none
  bool has_parent = false;  ///< whether that folder lies in another one
  /// Dumps, then folders, by name: those that begin with what is typed behind the last slash. No hidden ones
  /// unless a dot is typed.
  std::vector<PathEntry> entries;
  bool may_be_dump = false;
  bool leads_on = false;  ///< what to open lies below: dumps of a folder, or names that begin like this one
  std::string words;      ///< what is there, in one sentence; empty: nothing is typed
};

/// `~` at the beginning is the home folder.
[[nodiscard]] std::string expanded_path(const std::string& typed);

/// Whether names tell that a dump is there: a folder with q.npy, an .npz or a .safetensors file.
[[nodiscard]] bool may_be_dump(const std::string& path);

/// Looks at the path and at the folder around it. Throws nothing: what cannot be read is said in `words`.
[[nodiscard]] PathLook look_at(const std::string& typed);

}  // namespace muse::viewer
