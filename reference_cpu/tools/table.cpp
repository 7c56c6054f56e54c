#include "table.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>

namespace muse::tools {
namespace {

std::string padded(const std::string& text, std::size_t width, Table::Align align) {
  const std::string spaces(width - std::min(width, width_of(text)), ' ');
  return align == Table::Align::left ? text + spaces : spaces + text;
}

// Three significant digits of a value from 1 to 1000.
std::string three_digits(double value) {
  return fmt::format("{:.{}f}", value, value < 9.995 ? 2 : value < 99.95 ? 1 : 0);
}

struct Unit {
  double size;
  const char* name;
};

template <std::size_t Count>
std::string in_units(double value, const std::array<Unit, Count>& units) {
  if (value == 0) return "0";
  for (const Unit& unit : units)
    if (value >= 0.9995 * unit.size) return fmt::format("{} {}", three_digits(value / unit.size), unit.name);
  return fmt::format("{} {}", three_digits(value / units.back().size), units.back().name);
}

}  // namespace

std::size_t width_of(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(
      text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

void Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(bool colors, const std::string& indent) const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = width_of(columns_[c].heading);
    for (const auto& row : rows_)
      if (!row.empty()) width = std::max(width, width_of(row[c]));
    widths.push_back(width);
  }
  const auto line = [&](const auto& cell_of) {
    std::string text = indent;
    for (std::size_t c = 0; c < columns_.size(); ++c)
      text.append(c == 0 ? "" : "  ").append(padded(cell_of(c), widths[c], columns_[c].align));
    text.erase(text.find_last_not_of(' ') + 1);
    return text;
  };
  std::string text = bold(line([&](std::size_t c) { return columns_[c].heading; }), colors) + "\n";
  for (const auto& row : rows_)
    text += (row.empty() ? std::string() : line([&](std::size_t c) { return row[c]; })) + "\n";
  return text;
}

std::string seconds_text(double seconds) {
  return in_units<3>(seconds, {{{1, "s"}, {1e-3, "ms"}, {1e-6, "us"}}});
}

std::string operations_text(double operations) {
  return in_units<4>(operations, {{{1e12, "TF"}, {1e9, "GF"}, {1e6, "MF"}, {1e3, "kF"}}});
}

std::string number_text(double value) {
  if (std::isnan(value)) return "NaN";
  return fmt::format("{:.4g}", value);
}

std::string percent_text(double share) {
  if (std::isnan(share)) return "NaN";
  return fmt::format("{:.3g} %", 100 * share);
}

std::string ratio_text(double ratio) {
  if (std::isnan(ratio)) return "-";
  return fmt::format("{:.3g}x", ratio);
}

bool wants_colors(std::FILE* stream) {
  const char* no_color = std::getenv("NO_COLOR");
  return isatty(fileno(stream)) == 1 && (no_color == nullptr || *no_color == '\0');
}

std::string bold(const std::string& text, bool colors) {
  return colors ? "\033[1m" + text + "\033[0m" : text;
}

std::string alarm(const std::string& text, bool colors) {
  return colors ? "\033[1;31m" + text + "\033[0m" : text;
}

}  // namespace muse::tools
