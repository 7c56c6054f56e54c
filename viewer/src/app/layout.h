// Where the pictures are: presets of columns of panels, and how wide each is.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muse::viewer {

/// What stands at one place: a view, and view options that differ from the defaults.
struct Place {
  std::string view = {};
  std::vector<std::pair<std::string, std::string>> options = {};
  double weight = 1;  ///< height, relative to the others of the column
};

struct Column {
  double weight = 1;  ///< width, relative to the other columns
  std::vector<Place> places = {};
};

struct Layout {
  std::string name;   ///< as saved and written in help
  std::string title;  ///< what it is good for
  std::vector<Column> columns;

  [[nodiscard]] std::size_t place_count() const;
};

/// The presets, in the order of their shortcuts.
[[nodiscard]] std::span<const Layout> layout_presets();
/// The preset of that name, or the first one.
[[nodiscard]] const Layout& layout_named(std::string_view name);

}  // namespace muse::viewer
