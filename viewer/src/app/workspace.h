// What is open, what is shown of it and how: everything that a person can change, without the window.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "app/layout.h"
#include "model/analysis.h"
#include "model/settings.h"
#include "views/view.h"

namespace muse::viewer {

/// Slots that the pictures show.
enum class Shown { a, b, both };

/// One place of the layout: a view with settings of its own.
struct Panel {
  const View* view = nullptr;
  ViewSettings settings;      ///< those of `is_shared_option` come from the workspace
  std::size_t first_row = 0;  ///< of its tables, where they are longer than the panel
};

/// A layer and a head in it, where the names of a dump's heads say so.
struct LayerHead {
  Index layer = 0, head = 0;
};
/// Of "layer 4 head 5"; nothing for other names.
[[nodiscard]] std::optional<LayerHead> layer_head(std::string_view name);

/// Whether all panels have this view option in common: what is looked at, not how.
[[nodiscard]] bool is_shared_option(std::string_view name);
/// Whether two views show keys along x and queries along y, in tokens: their zoom can be locked.
[[nodiscard]] bool is_map(const View& view);

class Workspace {
 public:
  Workspace();

  // The dump.
  std::shared_ptr<const DumpSession> session;
  std::shared_ptr<Analysis> analysis;
  std::uint64_t opened = 0;  ///< dumps so far: results of an earlier one are not shown for this one

  // What is looked at.
  std::array<Slot, 2> slots;  ///< A and B
  Shown shown = Shown::a;
  bool flipped = false;         ///< while the key is held: the other slot
  bool own_head = false;        ///< B keeps its head when that of A changes
  std::size_t edited_slot = 0;  ///< whose parameters the controls show
  ViewSettings shared;          ///< options that is_shared_option() names
  Selection selection;

  // Where.
  Layout layout;
  std::vector<Panel> panels;  ///< in the order of the layout's places, column by column
  std::size_t focused = 0;    ///< panel that keys and the options' controls work on
  bool maximised = false;     ///< the focused panel alone
  bool zoom_locked = false;
  bool minimap = true;

  /// Takes a dump: heads and tokens that it does not have are set right, what was locked or zoomed into
  /// is forgotten, and its own mode becomes that of slots that have the default.
  void open(std::shared_ptr<const DumpSession> opened_session);

  /// What a panel shows: with the slots that are shown now, the shared options and its zoom.
  [[nodiscard]] ViewState state_of(const Panel& panel) const;
  [[nodiscard]] Panel& focused_panel() { return panels[focused]; }
  [[nodiscard]] const Panel& focused_panel() const { return panels[focused]; }
  /// Which slot is shown where one is: that of readouts and playback.
  [[nodiscard]] const Slot& main_slot() const;

  void use_layout(const Layout& preset);
  void set_view(std::size_t panel, const View& view);
  /// UsageError for text that the option does not take; nothing changes then.
  void set_view_option(Panel& panel, std::string_view name, std::string_view text);
  void set_zoom(Panel& panel, const std::optional<Zoom>& zoom);

  /// Head `head` for both slots, or only for A where B has one of its own.
  void set_head(Index head);
  void step_head(Index step);
  void step_layer(Index step);
  [[nodiscard]] bool has_layers() const;
  /// Number of levels of the hierarchy of the main slot; 1 where there is none.
  [[nodiscard]] Index levels() const;
  [[nodiscard]] Index queries() const;
  [[nodiscard]] Index keys() const;

  void lock_query(Index query);
  /// Unlocks what the current settings do not have any more: a block, a cluster, a query.
  void drop_what_is_gone();
  /// A setting becomes that of the slot that is edited.
  void take_setting(const Slot& slot);
  /// The slot whose index is shown where one is: 0 or 1.
  [[nodiscard]] std::size_t main_slot_index() const;

 private:
  std::vector<Slot> checked_slots_;  // that the selection was checked against
};

}  // namespace muse::viewer
