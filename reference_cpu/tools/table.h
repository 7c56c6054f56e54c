// Aligned tables, numbers in human units, and colours where a terminal shows them.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace muse::tools {

/// Rows of cells under headings; columns as wide as their widest cell.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string heading;
    Align align = Align::right;
  };

  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  void add(std::vector<std::string> cells);
  /// An empty line between rows.
  void add_gap() { rows_.emplace_back(); }
  /// The lines of the table, each beginning with `indent`; the heading in bold for a terminal.
  [[nodiscard]] std::string text(bool colors, const std::string& indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

/// Characters of UTF-8 text, each taken to be one column wide.
[[nodiscard]] std::size_t width_of(std::string_view text);

[[nodiscard]] std::string seconds_text(double seconds);        ///< "1.23 s", "45.6 ms"
[[nodiscard]] std::string operations_text(double operations);  ///< "12.3 GF"
[[nodiscard]] std::string number_text(double value);   ///< 4 significant digits; "NaN" where there is none
[[nodiscard]] std::string percent_text(double share);  ///< "12.3 %"
[[nodiscard]] std::string ratio_text(double ratio);    ///< "0.153x"

/// Whether `stream` is a terminal that wants colours (NO_COLOR unset).
[[nodiscard]] bool wants_colors(std::FILE* stream);
[[nodiscard]] std::string bold(const std::string& text, bool colors);
[[nodiscard]] std::string alarm(const std::string& text, bool colors);  ///< bold red

}  // namespace muse::tools
