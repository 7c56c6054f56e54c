// From values to positions on an axis or in a colour map, and the ticks that say so.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace muse::render {

struct Range {
  double low = 0;
  double high = 1;
  friend bool operator==(const Range&, const Range&) = default;
};

/// `symlog` is linear around zero and logarithmic on both sides: sign(v) log(1 + |v| / threshold).
enum class ScaleKind { linear, log, symlog };

/// A monotone map from values to [0, 1] and back.
class Scale {
 public:
  /// Linear from 0 to 1.
  Scale() = default;
  /// A range of no width is widened about its middle; a `log` scale needs a positive range (MisfitError).
  Scale(ScaleKind kind, Range range, double threshold = 0);

  [[nodiscard]] ScaleKind kind() const { return kind_; }
  [[nodiscard]] Range range() const { return range_; }
  /// Where symlog turns from linear to logarithmic; by default 1/1000 of the largest magnitude in range.
  [[nodiscard]] double threshold() const { return threshold_; }

  /// Position of a value: 0 at range().low, 1 at range().high, beyond them outside of [0, 1]. NaN stays NaN;
  /// on a log scale zero and negative values are at minus infinity.
  [[nodiscard]] double to_unit(double value) const;
  [[nodiscard]] double from_unit(double position) const;

 private:
  [[nodiscard]] double transform(double value) const;

  ScaleKind kind_ = ScaleKind::linear;
  Range range_;
  double threshold_ = 0;
  double low_ = 0, high_ = 1;  // the range, transformed
};

[[nodiscard]] std::string_view name_of(ScaleKind kind);
/// UsageError, listing the names, for any other text.
[[nodiscard]] ScaleKind scale_kind_from_name(std::string_view text);

/// Least and largest finite value (positive finite value for a log scale); {0, 1}, or {0.1, 1}, if there is
/// none.
template <class Scalar>
[[nodiscard]] Range finite_range(std::span<const Scalar> values, ScaleKind kind = ScaleKind::linear);

/// The range between two percentiles (0 to 100, nearest rank) of the values that finite_range looks at.
template <class Scalar>
[[nodiscard]] Range percentile_range(std::span<const Scalar> values, double low_percent, double high_percent,
                                     ScaleKind kind = ScaleKind::linear);

/// The least range about zero that holds `range`.
[[nodiscard]] Range symmetric(Range range);
/// `range` with `fraction` of its extent on that scale added at either end.
[[nodiscard]] Range padded(Range range, ScaleKind kind, double fraction);

/// A tick of an axis; minor ticks have no label.
struct Tick {
  double value = 0;
  std::string label;
  bool major = true;
};

/// `tokens` puts ticks at multiples of powers of two and writes 16384 as 16k.
enum class TickStyle { decimal, tokens };

/// Ticks inside the scale's range, ascending: 3 to 12 major ones, near `wanted` (3 to 12), at 1-2-5 numbers
/// (linear) or decades (log, symlog), with minor ticks between them.
[[nodiscard]] std::vector<Tick> make_ticks(const Scale& scale, int wanted = 6,
                                           TickStyle style = TickStyle::decimal);

/// A number for people: "0", "0.25", "1.5e-3", "12800", "2.4e9", "∞"; "no data" for NaN.
[[nodiscard]] std::string short_number(double value, int digits = 3);
/// A number of tokens for people, k = 1024: "16k", "1.5k", "1000".
[[nodiscard]] std::string token_count(double tokens);

}  // namespace muse::render
