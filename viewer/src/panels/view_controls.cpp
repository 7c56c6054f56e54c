// The options of the focused panel's view: a control for each row of the view option table that matters to
// it.
#include <fmt/format.h>

#include "model/head_runs.h"
#include "panels/option_control.h"
#include "panels/panels.h"

namespace muse::viewer {
namespace {

// Whether the option's list of views names this one.
bool matters_to(const ViewOptionInfo& option, const View& view) {
  if (option.views.starts_with("all")) return true;
  std::string_view rest = option.views;
  while (!rest.empty()) {
    const std::size_t space = std::min(rest.find(' '), rest.size());
    if (rest.substr(0, space) == view.name()) return true;
    rest.remove_prefix(std::min(space + 1, rest.size()));
  }
  return false;
}

OptionHints hints_of(const Ui& ui, const ViewOptionInfo& option) {
  OptionHints hints;
  const Workspace& w = ui.workspace;
  if (option.name == "level") hints.most = w.levels() - 1;
  if (option.name == "up-to-level") {
    hints.least = -1;
    hints.most = w.levels() - 1;
  }
  if (option.name == "pass") hints.most = w.main_slot().config.passes;
  if (option.name == "bins") hints.least = 2;
  if (option.name == "top") hints.least = 1;
  if (option.name == "metric")
    for (const ErrorMetric metric : {ErrorMetric::value, ErrorMetric::signed_difference,
                                     ErrorMetric::absolute, ErrorMetric::squared, ErrorMetric::relative})
      hints.more_help += fmt::format("{}{}: {}", hints.more_help.empty() ? "Of a query:\n" : "\n",
                                     name_of(metric), query_error_formula(metric));
  return hints;
}

}  // namespace

void draw_view_controls(Ui& ui) {
  Workspace& w = ui.workspace;
  Panel& panel = w.focused_panel();
  const ViewSettings settings = w.state_of(panel).view;
  ImGui::PushTextWrapPos(0);
  ImGui::TextDisabled("%s", std::string(panel.view->help()).c_str());
  ImGui::PopTextWrapPos();
  for (const bool shared : {false, true}) {
    bool headed = false;
    for (const ViewOptionInfo& option : view_option_table()) {
      if (is_shared_option(option.name) != shared || !matters_to(option, *panel.view)) continue;
      if (shared && !headed) {
        ImGui::Spacing();
        ImGui::TextDisabled("in common with the other panels:");
        headed = true;
      }
      if (const auto text = option_control(ui.controls, "view." + option.name, option,
                                           get_view_option(settings, option.name), hints_of(ui, option)))
        ui.set_view_option(panel, option.name, *text);
    }
  }
}

}  // namespace muse::viewer
