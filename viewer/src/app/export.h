// A picture or its numbers as a file, without a window.
#pragma once

#include <string>

#include "views/view.h"

namespace muse::viewer {

/// Computes, draws and writes what `view` shows. The ending of `path` decides: .png the pixels, .csv the
/// numbers with names of columns, .npy the numbers as float64 [rows, columns]. UsageError for another ending,
/// FileError if it cannot be written.
void export_view(const std::string& path, const View& view, Analysis& analysis, const ViewState& state,
                 const render::FigureOptions& options, Task& task);

/// The numbers as .csv text: one line of names, 17 significant digits where they matter; NaN as an empty
/// field.
[[nodiscard]] std::string csv_text(const Numbers& numbers);

}  // namespace muse::viewer
