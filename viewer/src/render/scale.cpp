#include "render/scale.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "muse/check.h"

namespace muse::render {
namespace {

constexpr std::array<std::string_view, 3> kKindNames{"linear", "log", "symlog"};
constexpr int kFewestTicks = 3;
constexpr int kMostTicks = 12;

bool usable(double value, ScaleKind kind) {
  return std::isfinite(value) && (kind != ScaleKind::log || value > 0);
}

Range default_range(ScaleKind kind) {
  return kind == ScaleKind::log ? Range{0.1, 1} : Range{0, 1};
}

double power_of_ten(int exponent) {
  return std::pow(10.0, exponent);
}

// Multiples of `step` in the range; computed from integers, so that they carry no accumulated error. Sets
// "too many" by returning one more than the largest allowed number.
std::vector<double> multiples(Range range, double step) {
  std::vector<double> values;
  const double slack = 1e-9;
  const double first = std::ceil(range.low / step - slack), last = std::floor(range.high / step + slack);
  if (!(last - first < 1e3)) return values;
  for (double n = first; n <= last; ++n)
    values.push_back(std::clamp(n == 0 ? 0 : n * step, range.low, range.high));
  return values;
}

// As multiples(), of a decimal step mantissa * 10^exponent; divides for negative exponents, so that 0.3 is 3
// / 10.
std::vector<double> decimal_multiples(Range range, int mantissa, int exponent) {
  if (exponent >= 0 || exponent < -300) return multiples(range, mantissa * power_of_ten(exponent));
  std::vector<double> values;
  const double shift = power_of_ten(-exponent);
  const double first = std::ceil(range.low * shift / mantissa - 1e-9);
  const double last = std::floor(range.high * shift / mantissa + 1e-9);
  if (!(last - first < 1e3)) return values;
  for (double n = first; n <= last; ++n)
    values.push_back(std::clamp(n == 0 ? 0 : n * mantissa / shift, range.low, range.high));
  return values;
}

// A leading minus as long as the digits are wide.
std::string with_minus(std::string text) {
  return text.starts_with('-') ? "−" + text.substr(1) : text;
}

// Digits as in "2.5e-7": no plus sign, no leading zeros in the exponent, no trailing zeros in the mantissa.
std::string exponent_form(double value, int digits) {
  std::string text = fmt::format("{:.{}e}", value, std::max(0, digits - 1));
  const std::size_t e = text.find('e');
  std::string mantissa = text.substr(0, e);
  if (mantissa.find('.') != std::string::npos) {
    mantissa.erase(mantissa.find_last_not_of('0') + 1);
    if (mantissa.back() == '.') mantissa.pop_back();
  }
  return fmt::format("{}e{}", mantissa, std::stoi(text.substr(e + 1)));
}

// The label of a linear tick: as many decimals as the step has, the same for all ticks of the axis.
std::string step_label(double value, int step_exponent, double largest) {
  if (value == 0) return "0";
  if (largest >= 1e5 || step_exponent < -4) {
    const int digits = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-12)) - step_exponent + 1;
    return with_minus(exponent_form(value, std::clamp(digits, 1, 17)));
  }
  return with_minus(fmt::format("{:.{}f}", value, std::max(0, -step_exponent)));
}

std::string superscript(int number) {
  constexpr std::array<std::string_view, 10> kDigits{"⁰", "¹", "²", "³", "⁴", "⁵", "⁶", "⁷", "⁸", "⁹"};
  std::string text;
  for (const char c : std::to_string(number))
    text += c == '-' ? "⁻" : kDigits[static_cast<std::size_t>(c - '0')];
  return text;
}

std::string decade_label(double value, bool plain) {
  if (value == 0) return "0";
  const int exponent = static_cast<int>(std::lround(std::log10(std::abs(value))));
  const std::string sign = value < 0 ? "−" : "";
  if (plain) return sign + fmt::format("{:g}", std::abs(value));
  return sign + "10" + superscript(exponent);
}

std::vector<Tick> with_minor(std::vector<Tick> majors, const std::vector<double>& minors) {
  for (const double value : minors) {
    const bool is_major = std::any_of(majors.begin(), majors.end(), [&](const Tick& tick) {
      return std::abs(tick.value - value) <= 1e-9 * std::max(std::abs(tick.value), std::abs(value));
    });
    if (!is_major) majors.push_back({value, "", false});
  }
  std::sort(majors.begin(), majors.end(), [](const Tick& a, const Tick& b) { return a.value < b.value; });
  return majors;
}

bool count_is_right(std::size_t count) {
  return count >= kFewestTicks && count <= kMostTicks;
}

std::vector<Tick> linear_ticks(Range range, int wanted) {
  // Every 1-2-5 step whose multiples are few enough; the one whose number is nearest to the wanted one.
  const int top = static_cast<int>(std::floor(std::log10(range.high - range.low))) + 1;
  std::vector<double> best;
  int best_mantissa = 1, best_exponent = top;
  for (int exponent = top; exponent >= top - 3; --exponent)
    for (const int mantissa : {5, 2, 1}) {
      std::vector<double> values = decimal_multiples(range, mantissa, exponent);
      const auto distance = [&](std::size_t count) { return std::abs(static_cast<int>(count) - wanted); };
      if (!count_is_right(values.size())) continue;
      if (!best.empty() && distance(values.size()) >= distance(best.size())) continue;
      best = std::move(values);
      best_mantissa = mantissa;
      best_exponent = exponent;
    }
  std::vector<Tick> ticks;
  const double largest = std::max(std::abs(range.low), std::abs(range.high));
  for (const double value : best) ticks.push_back({value, step_label(value, best_exponent, largest)});
  // Fifths of 5 and halves of 1 and 2 are round again.
  const auto minors = best_mantissa == 5   ? decimal_multiples(range, 1, best_exponent)
                      : best_mantissa == 2 ? decimal_multiples(range, 1, best_exponent)
                                           : decimal_multiples(range, 5, best_exponent - 1);
  return with_minor(std::move(ticks), minors);
}

std::vector<Tick> token_ticks(Range range, int wanted) {
  std::vector<double> best;
  double best_step = 0;
  for (double step = 1; step <= 0x1p50; step *= 2) {
    std::vector<double> values = multiples(range, step);
    const auto distance = [&](std::size_t count) { return std::abs(static_cast<int>(count) - wanted); };
    if (!count_is_right(values.size())) continue;
    if (!best.empty() && distance(values.size()) > distance(best.size())) continue;
    best = std::move(values);
    best_step = step;
  }
  if (best.empty()) return linear_ticks(range, wanted);
  std::vector<Tick> ticks;
  for (const double value : best) ticks.push_back({value, token_count(value)});
  return best_step >= 2 ? with_minor(std::move(ticks), multiples(range, best_step / 2)) : ticks;
}

std::vector<double> decades(Range range, int stride, std::span<const int> mantissas) {
  std::vector<double> values;
  const int first = static_cast<int>(std::floor(std::log10(range.low)));
  const int last = static_cast<int>(std::floor(std::log10(range.high))) + 1;
  for (int exponent = first; exponent <= last; ++exponent) {
    if (exponent % stride != 0) continue;
    for (const int mantissa : mantissas) {
      const double value = exponent < 0 && exponent > -300 ? mantissa / power_of_ten(-exponent)
                                                           : mantissa * power_of_ten(exponent);
      if (value >= range.low * (1 - 1e-12) && value <= range.high * (1 + 1e-12))
        values.push_back(std::clamp(value, range.low, range.high));
    }
  }
  return values;
}

constexpr std::array<int, 1> kOne{1};
constexpr std::array<int, 3> kOneTwoFive{1, 2, 5};
constexpr std::array<int, 9> kAllDigits{1, 2, 3, 4, 5, 6, 7, 8, 9};
constexpr std::array<int, 9> kStrides{1, 2, 3, 5, 10, 20, 30, 50, 100};

std::vector<Tick> log_ticks(Range range, int wanted) {
  // Whole decades, as many as fit; within two decades 1-2-5; within less, linear ticks.
  int stride = 0;
  std::vector<double> best;
  for (const int candidate : kStrides) {
    std::vector<double> values = decades(range, candidate, kOne);
    if (!count_is_right(values.size())) continue;
    if (best.empty() || static_cast<int>(best.size()) > wanted) {
      best = std::move(values);
      stride = candidate;
    }
  }
  std::vector<Tick> ticks;
  if (stride > 0) {
    const bool plain = best.front() >= 0.99e-3 && best.back() <= 1.01e4;
    for (const double value : best) ticks.push_back({value, decade_label(value, plain)});
    const double span = std::log10(range.high / range.low);
    if (stride > 1)
      return with_minor(std::move(ticks), span < 40 ? decades(range, 1, kOne) : std::vector<double>{});
    return with_minor(std::move(ticks), span < 6 ? decades(range, 1, kAllDigits) : std::vector<double>{});
  }
  best = decades(range, 1, kOneTwoFive);
  if (!count_is_right(best.size())) return linear_ticks(range, wanted);
  for (const double value : best) ticks.push_back({value, short_number(value)});
  return with_minor(std::move(ticks), decades(range, 1, kAllDigits));
}

std::vector<Tick> symlog_ticks(const Scale& scale, int wanted) {
  const Range range = scale.range();
  const double largest = std::max(std::abs(range.low), std::abs(range.high));
  const Range magnitudes{scale.threshold(), std::max(largest, scale.threshold() * 1.0001)};
  std::vector<double> best;
  for (const int stride : kStrides) {
    std::vector<double> values;
    for (const double value : decades(magnitudes, stride, kOne))
      for (const double signed_value : {-value, value})
        if (signed_value >= range.low && signed_value <= range.high) values.push_back(signed_value);
    if (range.low <= 0 && range.high >= 0) values.push_back(0);
    if (!count_is_right(values.size())) continue;
    if (best.empty() || static_cast<int>(best.size()) > wanted) best = std::move(values);
  }
  if (best.empty()) return linear_ticks(range, wanted);
  std::sort(best.begin(), best.end());
  const bool plain = std::all_of(best.begin(), best.end(), [](double value) {
    return value == 0 || (std::abs(value) >= 0.99e-3 && std::abs(value) <= 1.01e4);
  });
  std::vector<Tick> ticks;
  for (const double value : best) ticks.push_back({value, decade_label(value, plain)});
  return ticks;
}

template <class Scalar>
std::vector<double> usable_values(std::span<const Scalar> values, ScaleKind kind) {
  std::vector<double> kept;
  for (const Scalar value : values)
    if (usable(static_cast<double>(value), kind)) kept.push_back(static_cast<double>(value));
  return kept;
}

}  // namespace

Scale::Scale(ScaleKind kind, Range range, double threshold) : kind_(kind), range_(range) {
  MUSE_REQUIRE(std::isfinite(range.low) && std::isfinite(range.high) && range.low <= range.high &&
                   std::isfinite(range.high - range.low),
               "expected a finite range from low to high, found ", range.low, " to ", range.high);
  MUSE_REQUIRE(kind != ScaleKind::log || range.low > 0, "expected a positive range for a log scale, found ",
               range.low, " to ", range.high);

  // Widen a range whose ticks could not be told apart in double precision.
  const double largest = std::max(std::abs(range.low), std::abs(range.high));
  if (range.high - range.low <= 1e-9 * largest || range.high == range.low) {
    if (kind == ScaleKind::log) {
      range_ = {std::max(range.low / 2, std::numeric_limits<double>::min()), std::min(range.high * 2, 1e308)};
    } else {
      const double extra = largest > 1e-300 ? 0.05 * largest : 1;
      range_ = {range.low - extra, range.high + extra};
    }
  }
  if (kind == ScaleKind::symlog) {
    const double magnitude = std::max(std::abs(range_.low), std::abs(range_.high));
    threshold_ = threshold > 0 && std::isfinite(threshold) ? threshold : 1e-3 * magnitude;
  }
  low_ = transform(range_.low);
  high_ = transform(range_.high);
}

double Scale::transform(double value) const {
  switch (kind_) {
    case ScaleKind::linear:
      return value;
    case ScaleKind::log:
      if (std::isnan(value)) return value;
      return value > 0 ? std::log(value) : -std::numeric_limits<double>::infinity();
    case ScaleKind::symlog:
      return std::copysign(std::log1p(std::abs(value) / threshold_), value);
  }
  return value;
}

double Scale::to_unit(double value) const {
  return (transform(value) - low_) / (high_ - low_);
}

double Scale::from_unit(double position) const {
  const double value = low_ + position * (high_ - low_);
  switch (kind_) {
    case ScaleKind::linear:
      return value;
    case ScaleKind::log:
      return std::exp(value);
    case ScaleKind::symlog:
      return std::copysign(threshold_ * std::expm1(std::abs(value)), value);
  }
  return value;
}

std::string_view name_of(ScaleKind kind) {
  return kKindNames[static_cast<std::size_t>(kind)];
}

ScaleKind scale_kind_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kKindNames.size(); ++i)
    if (kKindNames[i] == text) return static_cast<ScaleKind>(i);
  throw UsageError(fmt::format("scale: expected {}, found '{}'", fmt::join(kKindNames, "|"), text));
}

template <class Scalar>
Range finite_range(std::span<const Scalar> values, ScaleKind kind) {
  Range range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const Scalar element : values) {
    const auto value = static_cast<double>(element);
    if (!usable(value, kind)) continue;
    range.low = std::min(range.low, value);
    range.high = std::max(range.high, value);
  }
  return range.low <= range.high ? range : default_range(kind);
}

template <class Scalar>
Range percentile_range(std::span<const Scalar> values, double low_percent, double high_percent,
                       ScaleKind kind) {
  MUSE_REQUIRE(low_percent >= 0 && low_percent <= high_percent && high_percent <= 100,
               "expected percentiles with 0 <= low <= high <= 100, found ", low_percent, " and ",
               high_percent);
  std::vector<double> kept = usable_values(values, kind);
  if (kept.empty()) return default_range(kind);
  const auto at = [&](double percent) {
    const auto rank =
        static_cast<std::ptrdiff_t>(std::llround(percent / 100 * static_cast<double>(kept.size() - 1)));
    std::nth_element(kept.begin(), kept.begin() + rank, kept.end());
    return kept[static_cast<std::size_t>(rank)];
  };
  const double low = at(low_percent);
  return {low, at(high_percent)};
}

template Range finite_range(std::span<const float>, ScaleKind);
template Range finite_range(std::span<const double>, ScaleKind);
template Range percentile_range(std::span<const float>, double, double, ScaleKind);
template Range percentile_range(std::span<const double>, double, double, ScaleKind);

Range symmetric(Range range) {
  const double largest = std::max(std::abs(range.low), std::abs(range.high));
  return largest > 0 ? Range{-largest, largest} : Range{-1, 1};
}

Range padded(Range range, ScaleKind kind, double fraction) {
  const Scale scale(kind, range);
  const Range wide{scale.from_unit(-fraction), scale.from_unit(1 + fraction)};
  const bool fits = std::isfinite(wide.low) && std::isfinite(wide.high) &&
                    std::isfinite(wide.high - wide.low) && (kind != ScaleKind::log || wide.low > 0);
  return fits ? wide : scale.range();
}

std::vector<Tick> make_ticks(const Scale& scale, int wanted, TickStyle style) {
  wanted = std::clamp(wanted, kFewestTicks, kMostTicks);
  if (scale.kind() == ScaleKind::log) return log_ticks(scale.range(), wanted);
  if (scale.kind() == ScaleKind::symlog) return symlog_ticks(scale, wanted);
  return style == TickStyle::tokens ? token_ticks(scale.range(), wanted)
                                    : linear_ticks(scale.range(), wanted);
}

std::string short_number(double value, int digits) {
  if (std::isnan(value)) return "no data";
  if (std::isinf(value)) return value > 0 ? "∞" : "−∞";
  if (value == 0) return "0";
  const double magnitude = std::abs(value);
  if (magnitude < 0.01 || magnitude >= 1e5) return with_minus(exponent_form(value, digits));
  // Whole numbers keep all their digits: 12800 is not 1.28e4.
  return with_minus(
      fmt::format("{:.{}g}", value, std::max(digits, static_cast<int>(std::log10(magnitude)) + 1)));
}

std::string token_count(double tokens) {
  constexpr double kKilo = 1024;
  if (std::abs(tokens) >= kKilo * kKilo && std::fmod(tokens, kKilo * kKilo / 2) == 0)
    return fmt::format("{:g}M", tokens / (kKilo * kKilo));
  if (std::abs(tokens) >= kKilo && std::fmod(tokens, kKilo / 2) == 0)
    return fmt::format("{:g}k", tokens / kKilo);
  return fmt::format("{:.10g}", tokens);
}

}  // namespace muse::render
