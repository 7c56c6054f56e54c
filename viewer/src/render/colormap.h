// Colours for values: maps from [0, 1] to colours, and palettes for clusters and levels.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "render/image.h"

namespace muse::render {

/// A colour in Oklab, where equal distances look equally large: lightness 0 (black) to 1 (white), green-red,
/// blue-yellow.
struct Lab {
  double L = 0, a = 0, b = 0;
};

[[nodiscard]] Lab to_lab(Color color);
/// The nearest colour of the display, channel by channel.
[[nodiscard]] Color from_lab(const Lab& lab);
/// Euclidean distance in Oklab; 0.02 is just visible between neighbouring areas.
[[nodiscard]] double lab_distance(Color one, Color other);

/// Colour maps by their customary names. `diverging` is blue, white at 0.5, red; the others get lighter from
/// 0 to 1.
enum class ColormapName { viridis, magma, cividis, gray, diverging };

/// A map from [0, 1] to colours, with a colour of its own for values that are missing (NaN).
class Colormap {
 public:
  Colormap(ColormapName name = ColormapName::viridis);  // implicit: a map is its name

  /// The colour at `t`, which is clamped to [0, 1]; NaN gives `missing()`.
  [[nodiscard]] Color operator()(double t) const;
  [[nodiscard]] Color missing() const { return missing_; }
  [[nodiscard]] ColormapName name() const { return name_; }
  /// All 256 steps, for a texture.
  [[nodiscard]] std::span<const Color, 256> table() const& { return table_; }
  std::span<const Color, 256> table() const&& = delete;  // would point into a map that is gone

 private:
  ColormapName name_;
  std::array<Color, 256> table_;
  Color missing_;
};

/// Names of all maps, in the order of the enumeration.
[[nodiscard]] std::span<const std::string_view> colormap_names();
[[nodiscard]] std::string_view name_of(ColormapName name);
/// UsageError, listing the names, for any other text.
[[nodiscard]] ColormapName colormap_from_name(std::string_view text);

/// The colour of cluster `index` (any from 0): hues a golden angle apart, lightness in five steps, so that
/// neighbours differ in both and stay apart for colour-blind eyes.
[[nodiscard]] Color categorical(std::int64_t index);

/// The colour of `index` out of `count` ordered things (levels of the hierarchy): from dark violet to light
/// amber, a range that viridis does not use.
[[nodiscard]] Color ordinal(std::int64_t index, std::int64_t count);

}  // namespace muse::render
