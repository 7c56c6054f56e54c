#include "views/view.h"

#include <fmt/format.h>

#include <array>

#include "muse/check.h"
#include "views/views.h"

namespace muse::viewer {

std::span<const View* const> all_views() {
  static const std::vector<const View*> views = {
      &clusters_view(),  &attention_view(), &error_view(),     &blocks_view(), &profile_view(),
      &histogram_view(), &tradeoff_view(),  &inspector_view(), &kmeans_view(),
  };
  return views;
}

const View& view_named(std::string_view name) {
  std::string known;
  for (const View* view : all_views()) {
    if (view->name() == name) return *view;
    known.append(known.empty() ? "" : ", ").append(view->name());
  }
  throw UsageError(fmt::format("--view: expected one of {}, found '{}'", known, name));
}

std::string content_key(const View& view, const ViewState& state) {
  std::string key(view.name());
  for (const Slot& slot : state.slots) key += "|" + slot_key(slot);
  for (const ViewOptionInfo& option : view_option_table())
    key += "|" + get_view_option(state.view, option.name);
  // The locked block decides whose clusters are shown; what is hovered only where a view computes for it.
  const auto add = [&](const Target& target) {
    const auto add_index = [&](const auto& value) { key += value ? fmt::format("|{}", *value) : "|-"; };
    add_index(target.query);
    add_index(target.key);
    add_index(target.query_cluster);
    add_index(target.key_cluster);
    if (target.block)
      key +=
          fmt::format("|{}:{}:{}", target.block->level, target.block->query_begin, target.block->key_begin);
  };
  if (view.follows_selection())
    add(state.selection.shown());
  else if (state.selection.locked)
    add(*state.selection.locked);
  if (const auto& filter = state.selection.filter; filter && view.follows_filter())
    key += fmt::format("|{} {}:{}", name_of(filter->per), filter->low, filter->high);
  return key;
}

}  // namespace muse::viewer
