// What a command writes: text for people on standard output, files, and JSON or CSV for machines.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace muse::tools {

/// Writes to standard output; FileError if that fails (a full disk behind a redirection).
void print(std::string_view text);

/// Writes `text` to the file `destination`, or to standard output for "-".
void write_text(const std::string& destination, std::string_view text);

/// Lets `write` make the file `path` under another name beside it, then moves it into place: a reader sees
/// the old file or the whole new one.
void write_in_place(const std::filesystem::path& path,
                    const std::function<void(const std::filesystem::path& temporary)>& write);

/// JSON as the project writes it; numbers that are NaN or infinite become null.
[[nodiscard]] std::string json_text(const nlohmann::ordered_json& value);

/// How commands end: JSON to `json_destination`, if one is given, and the text for people to standard output,
/// unless the JSON goes there. `text` is told whether to use colours.
void write_results(const std::string& json_destination, const nlohmann::ordered_json& json,
                   const std::function<std::string(bool colors)>& text);

/// A field of a CSV line, quoted if it must be.
[[nodiscard]] std::string csv_field(const std::string& text);

}  // namespace muse::tools
