// A control for any option of a table: what it is follows from the option's type.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "muse/config.h"
#include "panels/controls.h"

namespace muse::viewer {

/// What a control knows beyond the option's table row.
struct OptionHints {
  std::int64_t least = 0;
  std::optional<std::int64_t> most = {};            ///< of whole numbers: a slider up to it
  std::vector<std::string> presets = {};            ///< of free text: offered in a list
  std::string more_help = {};                       ///< formulas, for the tooltip
  std::map<std::string, std::string> refused = {};  ///< words that cannot be chosen now, and why
};

/// Draws label and control for the option's value `text`, on a line of its own; `id` names it. The new text
/// once a person has entered another one, whether or not the option takes it.
[[nodiscard]] std::optional<std::string> option_control(Controls& controls, const std::string& id,
                                                        const OptionInfo& info, const std::string& text,
                                                        const OptionHints& hints = {});

/// The words of a type such as "yes|no"; empty for any other type.
[[nodiscard]] std::vector<std::string> choices_of(const std::string& type);

}  // namespace muse::viewer
