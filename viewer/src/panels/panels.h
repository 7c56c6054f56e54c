// The parts of the window, one file each.
#pragma once

#include "app/ui.h"

namespace muse::viewer {

/// Dump, layer and head, slots, layout, looks: the row at the top.
void draw_toolbar(Ui& ui, const Area& area);
/// The controls on the left: selection, the method's parameters, the focused view's options.
void draw_sidebar(Ui& ui, const Area& area);
void draw_selection_controls(Ui& ui);
void draw_slot_controls(Ui& ui);
void draw_view_controls(Ui& ui);
/// All panels of the layout, with edges that can be dragged.
void draw_panels(Ui& ui, const Area& area);
/// One panel: its name and buttons, the picture, and what the mouse does to it.
void draw_view_panel(Ui& ui, std::size_t index, const Area& area);
/// What there is to do before a dump is open.
void draw_start_page(Ui& ui, const Area& area);
/// The readout, and what is computed: the row at the bottom.
void draw_status_bar(Ui& ui, const Area& area);
void draw_open_dialog(Ui& ui);
void draw_export_dialog(Ui& ui);
void draw_message_dialog(Ui& ui);
void draw_help_window(Ui& ui);

/// A list of recent dumps; the one that was clicked, or nothing.
[[nodiscard]] const std::string* recent_dumps(Ui& ui, const std::string& name);
/// "query 5000 · key 12 · block of level 2".
[[nodiscard]] std::string target_words(const Ui& ui, const Target& target);

}  // namespace muse::viewer
