#include "app/layout.h"

namespace muse::viewer {

std::size_t Layout::place_count() const {
  std::size_t count = 0;
  for (const Column& column : columns) count += column.places.size();
  return count;
}

std::span<const Layout> layout_presets() {
  static const std::vector<Layout> presets = {
      {"errors",
       "Where it errs",
       {{1.25, {{"error", {{"heads", "all"}}, 1.15}, {"blocks", {{"color-by", "error"}}}}},
        {1, {{"profile"}, {"inspector"}}}}},
      {"clusters",
       "Clusters and pairs",
       {{1, {{"clusters"}, {"kmeans"}}}, {1, {{"error", {{"per", "pair"}}}, {"inspector"}}}}},
      {"maps",
       "Maps side by side",
       {{1, {{"attention"}, {"attention", {{"map", "difference"}}}}},
        {1, {{"attention", {{"map", "approximate"}}}, {"blocks"}}}}},
      {"cost", "What accuracy costs", {{1.2, {{"tradeoff"}}}, {1, {{"histogram"}, {"error"}}}}},
      {"one", "One view", {{1, {{"error"}}}}},
      {"all",
       "All nine views",
       {{1, {{"error"}, {"attention"}, {"clusters"}}},
        {1, {{"blocks", {{"color-by", "error"}}}, {"profile"}, {"kmeans"}}},
        {1, {{"inspector"}, {"histogram"}, {"tradeoff"}}}}},
  };
  return presets;
}

const Layout& layout_named(std::string_view name) {
  for (const Layout& layout : layout_presets())
    if (layout.name == name) return layout;
  return layout_presets().front();
}

}  // namespace muse::viewer
