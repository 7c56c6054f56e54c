#include "app/export.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <iterator>

#include "muse/check.h"
#include "tools/output.h"
#include "tools/version.h"

namespace muse::viewer {

std::string csv_text(const Numbers& numbers) {
  fmt::memory_buffer text;
  auto out = std::back_inserter(text);
  const bool labelled = !numbers.labels.empty();
  if (labelled) fmt::format_to(out, "{},", tools::csv_field(numbers.label_name));
  for (std::size_t c = 0; c < numbers.columns.size(); ++c)
    fmt::format_to(out, "{}{}", c == 0 ? "" : ",", tools::csv_field(numbers.columns[c]));
  text.push_back('\n');
  for (std::size_t r = 0; r < numbers.rows(); ++r) {
    if (labelled) fmt::format_to(out, "{},", tools::csv_field(numbers.labels[r]));
    for (std::size_t c = 0; c < numbers.columns.size(); ++c) {
      const double value = numbers.values[r * numbers.columns.size() + c];
      if (c > 0) text.push_back(',');
      if (!std::isnan(value)) fmt::format_to(out, "{}", value);
    }
    text.push_back('\n');
  }
  return fmt::to_string(text);
}

void export_view(const std::string& path, const View& view, Analysis& analysis, const ViewState& state,
                 const render::FigureOptions& options, Task& task) {
  const std::string ending = std::filesystem::path(path).extension().string();
  if (ending != ".png" && ending != ".npy" && ending != ".csv")
    throw UsageError(fmt::format("--export: expected a file ending in .png, .npy or .csv, found '{}'", path));
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!folder.empty() && !std::filesystem::is_directory(folder, error))
    throw FileError(fmt::format("{}: cannot be written; is the folder there?", path));
  const auto content = view.prepare(analysis, state, task);
  if (ending == ".csv") {
    tools::write_text(path, csv_text(content->numbers()));
    return;
  }
  tools::write_in_place(path, [&](const std::filesystem::path& temporary) {
    if (ending == ".npy") {
      const Numbers numbers = content->numbers();
      write_npy(temporary, make_array<double>(DType::float64,
                                              {static_cast<std::int64_t>(numbers.rows()),
                                               static_cast<std::int64_t>(numbers.columns.size())},
                                              numbers.values));
      return;
    }
    const render::Drawn drawn = content->draw(options, state.selection);
    render::write_png(temporary.string(), drawn.image,
                      {{"Title", fmt::format("{}: {}", view.title(), analysis.session().name())},
                       {"Software", tools::version_line()}});
  });
}

}  // namespace muse::viewer
