// Tensors as they lie in files: element type, shape, bytes in C order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace muse {

/// Element types that dumps and results are stored in. Integers hold labels only.
enum class DType { float16, bfloat16, float32, float64, int32 };

/// Bytes of one element.
[[nodiscard]] std::size_t size_of(DType dtype);
/// "float16", "bfloat16", "float32", "float64" or "int32".
[[nodiscard]] const char* name_of(DType dtype);

/// A dense array in C order (last index fastest), host byte order.
struct Array {
  DType dtype = DType::float32;
  std::vector<std::int64_t> shape;  ///< extents, slowest first
  std::vector<std::byte> bytes;     ///< size() * size_of(dtype) of them

  /// Number of elements: the product of `shape` (1 for a scalar).
  [[nodiscard]] std::int64_t size() const;
  /// "[3, 16384, 64]".
  [[nodiscard]] std::string shape_text() const;
};

/// Converts elements [first, first + out.size()) of `array` to Scalar (float or double), rounding to nearest.
template <class Scalar>
void convert(const Array& array, std::int64_t first, std::span<Scalar> out);

/// An array of `shape` holding `values` rounded to `dtype` (to nearest even; overflow gives infinity).
template <class Scalar>
[[nodiscard]] Array make_array(DType dtype, std::vector<std::int64_t> shape, std::span<const Scalar> values);

}  // namespace muse
