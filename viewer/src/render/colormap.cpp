#include "render/colormap.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <string>
#include <vector>

#include "muse/check.h"

namespace muse::render {
namespace {

constexpr std::array<std::string_view, 5> kNames{"viridis", "magma", "cividis", "gray", "diverging"};

// Chebyshev series in Oklab over t in [0, 1]: our least-maximum fits to the customary maps. The largest
// difference from their 8-bit tables is 1 step (viridis), 2 (magma) and 3 (cividis).
constexpr std::array<Lab, 8> kViridis{{{0.59931, -0.03494, 0.01559},
                                       {0.31030, -0.09201, 0.16054},
                                       {0.00387, 0.06579, 0.03190},
                                       {0.00571, 0.02130, -0.02043},
                                       {-0.00132, 0.00376, -0.00198},
                                       {0.00092, 0.00106, -0.00498},
                                       {-0.00037, -0.00413, 0.00013},
                                       {-0.00011, -0.00052, 0.00130}}};
constexpr std::array<Lab, 10> kMagma{{{0.53350, 0.06531, -0.00401},
                                      {0.44478, 0.00038, 0.10227},
                                      {-0.02055, -0.09504, 0.01825},
                                      {0.03036, -0.01380, -0.05090},
                                      {-0.01568, 0.01667, -0.00256},
                                      {0.00923, 0.00335, 0.01711},
                                      {-0.00578, 0.00030, -0.00874},
                                      {0.00430, -0.00167, 0.00683},
                                      {-0.00271, -0.00363, -0.00566},
                                      {0.00400, 0.00326, 0.00111}}};
constexpr std::array<Lab, 10> kCividis{{{0.58347, -0.03056, 0.01930},
                                        {0.33422, 0.02493, 0.14808},
                                        {-0.00473, -0.04236, 0.01028},
                                        {0.01248, 0.02383, 0.00145},
                                        {-0.00752, -0.01809, 0.00343},
                                        {0.00597, 0.01143, -0.00780},
                                        {-0.00387, -0.00765, 0.00471},
                                        {0.00198, 0.00374, -0.00158},
                                        {-0.00013, -0.00246, -0.00131},
                                        {-0.00349, 0.00125, -0.00083}}};

double decode_gamma(double c) {
  return c <= 0.04045 ? c / 12.92 : std::pow((c + 0.055) / 1.055, 2.4);
}
double encode_gamma(double c) {
  return c <= 0.0031308 ? 12.92 * c : 1.055 * std::pow(c, 1 / 2.4) - 0.055;
}

std::uint8_t to_byte(double linear) {
  return static_cast<std::uint8_t>(
      std::lround(255 * std::clamp(encode_gamma(std::max(linear, 0.0)), 0.0, 1.0)));
}

Lab polar(double lightness, double chroma, double hue_degrees) {
  const double hue = hue_degrees * std::numbers::pi / 180;
  return {lightness, chroma * std::cos(hue), chroma * std::sin(hue)};
}

// The sum of c_n T_n(2t - 1), by Clenshaw's recurrence.
Lab chebyshev(std::span<const Lab> series, double t) {
  const double x = 2 * t - 1;
  Lab next, after;
  for (std::size_t n = series.size() - 1; n > 0; --n) {
    const Lab current{series[n].L + 2 * x * next.L - after.L, series[n].a + 2 * x * next.a - after.a,
                      series[n].b + 2 * x * next.b - after.b};
    after = next;
    next = current;
  }
  return {series[0].L + x * next.L - after.L, series[0].a + x * next.a - after.a,
          series[0].b + x * next.b - after.b};
}

// Both arms lose the same lightness for the same distance from zero, so neither sign looks larger.
Lab diverging(double t) {
  const double distance = std::abs(2 * t - 1);
  const double chroma = 0.158 * std::sin(distance * 0.5 * std::numbers::pi);
  return polar(0.975 - 0.535 * distance, chroma, t < 0.5 ? 256 + 6 * distance : 38 - 11 * distance);
}

Lab lab_at(ColormapName name, double t) {
  switch (name) {
    case ColormapName::viridis:
      return chebyshev(kViridis, t);
    case ColormapName::magma:
      return chebyshev(kMagma, t);
    case ColormapName::cividis:
      return chebyshev(kCividis, t);
    case ColormapName::gray:
      return {0.12 + 0.86 * t, 0, 0};
    case ColormapName::diverging:
      return diverging(t);
  }
  return {};
}

}  // namespace

Lab to_lab(Color color) {
  const double r = decode_gamma(color.r / 255.0), g = decode_gamma(color.g / 255.0),
               b = decode_gamma(color.b / 255.0);
  const double l = std::cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const double m = std::cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const double s = std::cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return {0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
          1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
          0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s};
}

Color from_lab(const Lab& lab) {
  const auto cube = [](double x) { return x * x * x; };
  const double l = cube(lab.L + 0.3963377774 * lab.a + 0.2158037573 * lab.b);
  const double m = cube(lab.L - 0.1055613458 * lab.a - 0.0638541728 * lab.b);
  const double s = cube(lab.L - 0.0894841775 * lab.a - 1.2914855480 * lab.b);
  return {to_byte(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s),
          to_byte(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s),
          to_byte(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)};
}

double lab_distance(Color one, Color other) {
  const Lab a = to_lab(one), b = to_lab(other);
  return std::hypot(a.L - b.L, a.a - b.a, a.b - b.b);
}

Colormap::Colormap(ColormapName name) : name_(name) {
  for (std::size_t i = 0; i < table_.size(); ++i)
    table_[i] = from_lab(lab_at(name, static_cast<double>(i) / 255));
  // A colour that the map itself does not have: rose beside greys, grey beside hues.
  missing_ = name == ColormapName::gray ? from_lab(polar(0.72, 0.1, 0)) : from_lab({0.76, 0, 0});
}

Color Colormap::operator()(double t) const {
  if (std::isnan(t)) return missing_;
  return table_[static_cast<std::size_t>(std::lround(255 * std::clamp(t, 0.0, 1.0)))];
}

std::span<const std::string_view> colormap_names() {
  return kNames;
}

std::string_view name_of(ColormapName name) {
  return kNames[static_cast<std::size_t>(name)];
}

ColormapName colormap_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == text) return static_cast<ColormapName>(i);
  throw UsageError(fmt::format("colour map: expected {}, found '{}'", fmt::join(kNames, "|"), text));
}

Color categorical(std::int64_t index) {
  // In this order neighbours stay 0.05 apart even for protanopes and deuteranopes, 0.2 for others.
  constexpr std::array<double, 5> kLightness{0.64, 0.78, 0.51, 0.58, 0.71};
  constexpr double kGoldenAngle = 137.50776;
  const auto i = static_cast<double>(index);
  const double lightness = kLightness[static_cast<std::size_t>(index % 5)];
  return from_lab(polar(lightness, 0.12, std::fmod(250 + i * kGoldenAngle, 360)));
}

Color ordinal(std::int64_t index, std::int64_t count) {
  const double t = count <= 1 ? 0.5 : static_cast<double>(index) / static_cast<double>(count - 1);
  return from_lab(polar(0.42 + 0.40 * t, 0.16 - 0.04 * std::abs(2 * t - 1), std::fmod(310 + 125 * t, 360)));
}

}  // namespace muse::render
