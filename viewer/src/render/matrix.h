// Matrices of values to be drawn, and how many cells become one pixel.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace muse::render {

/// Values in C order; NaN where there is none.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;  ///< [rows, cols]

  [[nodiscard]] float at(std::int64_t row, std::int64_t col) const {
    return values[static_cast<std::size_t>(row * cols + col)];
  }
};

/// What a pixel shows of the cells under it: the largest, the one of largest magnitude with its sign, or the
/// mean weighted by area.
enum class Aggregate { max, max_magnitude, mean };

/// "maximum", "largest magnitude" or "mean".
[[nodiscard]] std::string_view name_of(Aggregate aggregate);

/// The cells under each of a row of pixels: pixel p covers [edges[p], edges[p + 1]] in units of cells;
/// outside of the matrix there is nothing.
using PixelEdges = std::vector<double>;

/// `count` equal pixels over cells [first, last).
[[nodiscard]] PixelEdges equal_pixels(double first, double last, int count);

struct Resampled {
  Matrix pixels;            ///< NaN where no cell with a value lies under the pixel
  bool aggregated = false;  ///< whether some pixel stands for several cells
};

/// Draws `matrix` on row_edges.size() - 1 by col_edges.size() - 1 pixels. Along either axis, where a pixel
/// covers more than one cell, every cell counts (as `aggregate` says; NaN is left out); where it covers less,
/// the cell under its middle is drawn, so that cells have crisp edges. O(cells under the pixels + pixels).
[[nodiscard]] Resampled resample(const Matrix& matrix, const PixelEdges& row_edges,
                                 const PixelEdges& col_edges, Aggregate aggregate);

}  // namespace muse::render
