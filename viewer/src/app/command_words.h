// The command line that makes the same file as the window does.
#pragma once

#include <string>

#include "views/view.h"

namespace muse::viewer {

/// "muse-viewer DUMP --export FILE --view NAME …" with every option that differs from its default.
[[nodiscard]] std::string export_command(const std::string& dump, const ViewState& state, const View& view,
                                         const std::string& file, const render::FigureOptions& options,
                                         bool dark);

}  // namespace muse::viewer
