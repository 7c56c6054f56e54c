#include "output.h"

#include <fmt/format.h>

#include <cstdio>
#include <fstream>

#include "muse/check.h"
#include "table.h"

namespace muse::tools {

void print(std::string_view text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  if (!written) throw FileError("standard output: cannot be written; is the disk full?");
}

void write_text(const std::string& destination, std::string_view text) {
  if (destination == "-") {
    print(text);
    return;
  }
  write_in_place(destination, [&](const std::filesystem::path& temporary) {
    std::ofstream file(temporary, std::ios::binary);
    file.write(text.data(), static_cast<std::streamsize>(text.size()));
    file.close();
    if (!file)
      throw FileError(
          fmt::format("{}: cannot be written; is the folder there and the disk not full?", destination));
  });
}

void write_in_place(const std::filesystem::path& path,
                    const std::function<void(const std::filesystem::path& temporary)>& write) {
  // A device or pipe is written as it is.
  if (std::filesystem::exists(path) && !std::filesystem::is_regular_file(path) &&
      !std::filesystem::is_directory(path)) {
    write(path);
    return;
  }
  // Keep the ending: writers may look at it.
  const std::filesystem::path temporary =
      path.parent_path() / (path.stem().string() + ".partial" + path.extension().string());
  std::error_code ignored;
  try {
    write(temporary);
    std::filesystem::rename(temporary, path);
  } catch (const std::filesystem::filesystem_error& error) {
    std::filesystem::remove(temporary, ignored);
    throw FileError(fmt::format("{}: cannot be written: {}", path.string(), error.code().message()));
  } catch (...) {
    std::filesystem::remove(temporary, ignored);
    throw;
  }
}

std::string json_text(const nlohmann::ordered_json& value) {
  return value.dump(1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

void write_results(const std::string& json_destination, const nlohmann::ordered_json& json,
                   const std::function<std::string(bool colors)>& text) {
  if (!json_destination.empty()) write_text(json_destination, json_text(json));
  if (json_destination != "-") print(text(wants_colors(stdout)));
}

std::string csv_field(const std::string& text) {
  if (text.find_first_of(",\"\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? "\"\"" : std::string(1, c));
  return quoted + "\"";
}

}  // namespace muse::tools
