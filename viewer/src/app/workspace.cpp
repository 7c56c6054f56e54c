#include "app/workspace.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "muse/causal_hierarchy.h"
#include "views/view_parts.h"

namespace muse::viewer {
namespace {

// The number after `word`, which is cut off with it.
std::optional<Index> take_number(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return std::nullopt;
  text.remove_prefix(word.size());
  Index value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

const View& view_or_first(std::string_view name) {
  for (const View* view : all_views())
    if (view->name() == name) return *view;
  return *all_views().front();
}

}  // namespace

std::optional<LayerHead> layer_head(std::string_view name) {
  const auto layer = take_number(name, "layer "), head = layer ? take_number(name, " head ") : std::nullopt;
  if (!head || !name.empty()) return std::nullopt;
  return LayerHead{*layer, *head};
}

bool is_shared_option(std::string_view name) {
  constexpr std::array<std::string_view, 6> kShared{"metric",      "level", "block-index",
                                                    "up-to-level", "sort",  "leave-sink-out"};
  return std::find(kShared.begin(), kShared.end(), name) != kShared.end();
}

bool is_map(const View& view) {
  return view.name() == "attention" || view.name() == "blocks";
}

Workspace::Workspace() {
  set_option(slots[1].config, "retrieve", "8");
  use_layout(layout_presets().front());
}

void Workspace::open(std::shared_ptr<const DumpSession> opened_session) {
  session = std::move(opened_session);
  analysis = std::make_shared<Analysis>(session);
  ++opened;
  const Dump& dump = session->dump();
  for (Slot& slot : slots) {
    slot.head = std::clamp<Index>(slot.head, 0, dump.heads_q() - 1);
    slot.batch = std::clamp<Index>(slot.batch, 0, dump.batch() - 1);
    slot.tokens = 0;
    const bool must_be_acausal = dump.tokens_q() != dump.tokens_k() || (dump.causal && !*dump.causal);
    if (must_be_acausal)
      slot.config.mode = Mode::acausal;
    else if (dump.causal && slot.config.mode == Mode::acausal)
      slot.config.mode = Mode::causal;
  }
  selection = {};
  shared = {};
  for (Panel& panel : panels) panel.settings.zoom.reset();
}

std::size_t Workspace::main_slot_index() const {
  const std::size_t slot = shown == Shown::b ? 1 : 0;
  return flipped ? 1 - slot : slot;
}

const Slot& Workspace::main_slot() const {
  return slots[main_slot_index()];
}

ViewState Workspace::state_of(const Panel& panel) const {
  ViewState state;
  if (shown == Shown::both && !flipped)
    state.slots.assign(slots.begin(), slots.end());
  else
    state.slots = {main_slot()};
  state.view = panel.settings;
  for (const ViewOptionInfo& option : view_option_table())
    if (is_shared_option(option.name))
      viewer::set_view_option(state.view, option.name, get_view_option(shared, option.name));
  state.selection = selection;
  return state;
}

void Workspace::use_layout(const Layout& preset) {
  layout = preset;
  panels.clear();
  for (const Column& column : layout.columns)
    for (const Place& place : column.places) {
      Panel panel{.view = &view_or_first(place.view)};
      for (const auto& [name, text] : place.options) viewer::set_view_option(panel.settings, name, text);
      panels.push_back(std::move(panel));
    }
  focused = 0;
  maximised = false;
}

void Workspace::set_view(std::size_t panel, const View& view) {
  if (panels[panel].view == &view) return;
  panels[panel].view = &view;
  panels[panel].settings.zoom.reset();
  panels[panel].first_row = 0;
  // Ranges and scales belong to a quantity.
  panels[panel].settings.range = {};
  panels[panel].settings.scale.reset();
  focused = panel;
}

void Workspace::set_view_option(Panel& panel, std::string_view name, std::string_view text) {
  viewer::set_view_option(is_shared_option(name) ? shared : panel.settings, name, text);
  if (name == "table-sort") panel.first_row = 0;
  // Another quantity: what the axes were zoomed to means something else.
  if (name == "per" || name == "heads") panel.settings.zoom.reset();
}

void Workspace::set_zoom(Panel& panel, const std::optional<Zoom>& zoom) {
  panel.settings.zoom = zoom;
  if (!zoom_locked || !is_map(*panel.view)) return;
  for (Panel& other : panels)
    if (is_map(*other.view)) other.settings.zoom = zoom;
}

void Workspace::set_head(Index head) {
  if (!session) return;
  const Index clamped = std::clamp<Index>(head, 0, session->dump().heads_q() - 1);
  slots[0].head = clamped;
  if (!own_head) slots[1].head = clamped;
}

void Workspace::step_head(Index step) {
  set_head(slots[0].head + step);
}

bool Workspace::has_layers() const {
  if (!session || session->dump().head_names.empty()) return false;
  const auto& names = session->dump().head_names;
  return std::all_of(names.begin(), names.end(),
                     [](const std::string& name) { return layer_head(name).has_value(); });
}

void Workspace::step_layer(Index step) {
  if (!has_layers()) return;
  const auto& names = session->dump().head_names;
  const Index heads = session->dump().heads_q();
  const auto layer_of = [&](Index head) { return layer_head(names[static_cast<std::size_t>(head)])->layer; };
  const Index layer = layer_of(slots[0].head);
  // The nearest head of another layer in that direction.
  for (Index head = slots[0].head + step; head >= 0 && head < heads; head += step)
    if (layer_of(head) != layer) {
      set_head(head);
      return;
    }
}

Index Workspace::queries() const {
  return session ? queries_of(*session, main_slot()) : 0;
}

Index Workspace::keys() const {
  return session ? keys_of(*session, main_slot()) : 0;
}

Index Workspace::levels() const {
  if (!session || main_slot().config.mode == Mode::acausal) return 1;
  return std::max<Index>(1, level_count(queries(), main_slot().config.block));
}

void Workspace::lock_query(Index query) {
  if (!session || queries() == 0) return;
  Target target;
  target.query = std::clamp<Index>(query, 0, queries() - 1);
  selection.locked = target;
}

void Workspace::drop_what_is_gone() {
  if (!session) return;
  const std::vector<Slot> now{main_slot(), slots[0], slots[1]};
  if (now == checked_slots_) return;
  checked_slots_ = now;
  selection.hovered = {};
  if (!selection.locked) return;
  Target& target = *selection.locked;
  if (target.query && *target.query >= queries()) target.query.reset();
  if (target.key && *target.key >= keys()) target.key.reset();
  target.point.reset();
  if (target.block) {
    const Config& config = main_slot().config;
    std::vector<Block> blocks = approximated_blocks(queries(), keys(), config);
    if (config.mode != Mode::acausal)
      for (const Block& block : diagonal_blocks(queries(), config.block)) blocks.push_back(block);
    const bool there = std::find(blocks.begin(), blocks.end(), *target.block) != blocks.end();
    const Index level = target.block->level, S = target.block->keys();
    const bool far = there && level >= 0;
    if (!far || (target.query_cluster && *target.query_cluster >= config.clusters_q.at(level)(S)))
      target.query_cluster.reset();
    if (!far || (target.key_cluster && *target.key_cluster >= config.clusters_k.at(level)(S)))
      target.key_cluster.reset();
    if (!there) target.block.reset();
  }
  if (target.empty()) selection.locked.reset();
}

void Workspace::take_setting(const Slot& slot) {
  Slot& edited = slots[edited_slot];
  const Slot before = edited;
  edited = slot;
  // A setting says how, not of which head.
  edited.head = before.head;
  edited.batch = before.batch;
  edited.tokens = before.tokens;
}

}  // namespace muse::viewer
