#include "muse/tensor.h"

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>
#include <utility>

#include "muse/check.h"

namespace muse {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian and copied as they are");

// Calls `visit` with a value of the C++ type that stores `dtype`.
template <class Visitor>
auto with_type(DType dtype, Visitor&& visit) {
  switch (dtype) {
    case DType::float16:
      return visit(Eigen::half{});
    case DType::bfloat16:
      return visit(Eigen::bfloat16{});
    case DType::float32:
      return visit(float{});
    case DType::float64:
      return visit(double{});
    case DType::int32:
      return visit(std::int32_t{});
  }
  throw MisfitError(detail::concat("unknown element type ", static_cast<int>(dtype)));
}

// Rounds to float so that a second rounding to 16 bits is the rounding of `value` itself: an inexact result
// is truncated and its last bit set ("round to odd"), hence never lies halfway between two 16-bit numbers.
float round_to_odd(double value) {
  const auto nearest = static_cast<float>(value);
  if (static_cast<double>(nearest) == value || !std::isfinite(nearest)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(value)) --bits;
  return std::bit_cast<float>(bits | 1U);
}

template <class Stored, class Scalar>
Stored round_to(Scalar value) {
  if constexpr (std::is_same_v<Stored, std::int32_t>) {
    const auto rounded = std::nearbyint(static_cast<double>(value));
    MUSE_REQUIRE(rounded >= std::numeric_limits<std::int32_t>::min() &&
                     rounded <= std::numeric_limits<std::int32_t>::max(),
                 "expected values that fit int32, found ", value);
    return static_cast<std::int32_t>(rounded);
  } else if constexpr (std::is_same_v<Stored, float> || std::is_same_v<Stored, double>) {
    return static_cast<Stored>(value);
  } else if constexpr (std::is_same_v<Scalar, double>) {
    return Stored(round_to_odd(value));
  } else {
    return Stored(value);
  }
}

}  // namespace

std::size_t size_of(DType dtype) {
  return with_type(dtype, [](auto stored) { return sizeof(stored); });
}

const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::float16:
      return "float16";
    case DType::bfloat16:
      return "bfloat16";
    case DType::float32:
      return "float32";
    case DType::float64:
      return "float64";
    case DType::int32:
      return "int32";
  }
  return "unknown";
}

std::int64_t Array::size() const {
  // Look for a zero first: the product of the other extents may be out of range.
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

std::string Array::shape_text() const {
  std::string text = "[";
  for (const std::int64_t extent : shape) {
    if (text.size() > 1) text += ", ";
    text += std::to_string(extent);
  }
  return text += "]";
}

template <class Scalar>
void convert(const Array& array, std::int64_t first, std::span<Scalar> out) {
  const std::int64_t size = array.size();
  MUSE_REQUIRE(first >= 0 && first <= size && out.size() <= static_cast<std::size_t>(size - first),
               "expected a range within the ", size, " elements of ", array.shape_text(), ", found ",
               out.size(), " elements from ", first);
  MUSE_REQUIRE_EQ(array.bytes.size(), static_cast<std::size_t>(size) * size_of(array.dtype),
                  "bytes of an array");
  with_type(array.dtype, [&](auto stored) {
    const std::byte* from = array.bytes.data() + static_cast<std::size_t>(first) * sizeof(stored);
    if constexpr (std::is_same_v<decltype(stored), Scalar>) {
      if (!out.empty()) std::memcpy(out.data(), from, out.size_bytes());
    } else {
      for (Scalar& value : out) {
        std::memcpy(&stored, from, sizeof(stored));
        from += sizeof(stored);
        value = static_cast<Scalar>(stored);
      }
    }
  });
}

template <class Scalar>
Array make_array(DType dtype, std::vector<std::int64_t> shape, std::span<const Scalar> values) {
  Array array{dtype, std::move(shape), {}};
  MUSE_REQUIRE(array.size() == static_cast<std::int64_t>(values.size()), "expected ", array.size(),
               " values for shape ", array.shape_text(), ", found ", values.size());
  array.bytes.resize(values.size() * size_of(dtype));
  with_type(dtype, [&](auto stored) {
    std::byte* to = array.bytes.data();
    for (const Scalar value : values) {
      stored = round_to<decltype(stored)>(value);
      std::memcpy(to, &stored, sizeof(stored));
      to += sizeof(stored);
    }
  });
  return array;
}

template void convert<float>(const Array&, std::int64_t, std::span<float>);
template void convert<double>(const Array&, std::int64_t, std::span<double>);
template Array make_array<float>(DType, std::vector<std::int64_t>, std::span<const float>);
template Array make_array<double>(DType, std::vector<std::int64_t>, std::span<const double>);

}  // namespace muse
