#include "render/matrix.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "muse/check.h"

namespace muse::render {
namespace {

// The cells [first, last) under one pixel, and how much of the first and last one is.
struct Cover {
  std::int64_t first = 0, last = 0;
  double first_weight = 1, last_weight = 1;

  [[nodiscard]] double weight(std::int64_t cell) const {
    if (cell == first) return first_weight;
    return cell == last - 1 ? last_weight : 1.0;
  }
};

std::vector<Cover> covers_of(const PixelEdges& edges, std::int64_t cells, bool& aggregated) {
  std::vector<Cover> covers;
  const auto extent = static_cast<double>(cells);
  for (std::size_t p = 0; p + 1 < edges.size(); ++p) {
    const double low = std::min(edges[p], edges[p + 1]), high = std::max(edges[p], edges[p + 1]);
    Cover cover;
    if (high - low <= 1 + 1e-9) {
      const double middle = 0.5 * (low + high);
      if (middle >= 0 && middle < extent) {
        cover.first = static_cast<std::int64_t>(middle);
        cover.last = cover.first + 1;
      }
    } else if (high > 0 && low < extent) {
      // Edges that are meant to be whole numbers may miss them by rounding.
      const double begin = std::max(low, 0.0), end = std::min(high, extent);
      cover.first = std::min(cells - 1, static_cast<std::int64_t>(std::floor(begin + 1e-9)));
      cover.last = std::max(cover.first + 1, static_cast<std::int64_t>(std::ceil(end - 1e-9)));
      cover.first_weight = std::min(static_cast<double>(cover.first + 1), end) - begin;
      cover.last_weight = end - std::max(static_cast<double>(cover.last - 1), begin);
      aggregated |= cover.last - cover.first > 1;
    }
    covers.push_back(cover);
  }
  return covers;
}

// What has been seen of the cells under one pixel.
struct Accumulator {
  double value = 0;
  double weight = 0;

  void add(double cell, double cell_weight, Aggregate aggregate) {
    if (std::isnan(cell)) return;
    const bool first = weight == 0;
    weight += cell_weight;
    switch (aggregate) {
      case Aggregate::max:
        value = first ? cell : std::max(value, cell);
        break;
      case Aggregate::max_magnitude:
        value = first || std::abs(cell) > std::abs(value) ? cell : value;
        break;
      case Aggregate::mean:
        value += cell * cell_weight;
        break;
    }
  }

  [[nodiscard]] double result(Aggregate aggregate) const {
    if (weight == 0) return std::numeric_limits<double>::quiet_NaN();
    return aggregate == Aggregate::mean ? value / weight : value;
  }
};

}  // namespace

std::string_view name_of(Aggregate aggregate) {
  switch (aggregate) {
    case Aggregate::max:
      return "maximum";
    case Aggregate::max_magnitude:
      return "largest magnitude";
    case Aggregate::mean:
      return "mean";
  }
  return "";
}

PixelEdges equal_pixels(double first, double last, int count) {
  PixelEdges edges(static_cast<std::size_t>(count) + 1);
  for (int p = 0; p <= count; ++p) edges[static_cast<std::size_t>(p)] = first + (last - first) * p / count;
  return edges;
}

Resampled resample(const Matrix& matrix, const PixelEdges& row_edges, const PixelEdges& col_edges,
                   Aggregate aggregate) {
  MUSE_REQUIRE_EQ(static_cast<std::int64_t>(matrix.values.size()), matrix.rows * matrix.cols,
                  "matrix to draw");
  Resampled out;
  const std::vector<Cover> row_covers = covers_of(row_edges, matrix.rows, out.aggregated);
  const std::vector<Cover> col_covers = covers_of(col_edges, matrix.cols, out.aggregated);
  out.pixels.rows = static_cast<std::int64_t>(row_covers.size());
  out.pixels.cols = static_cast<std::int64_t>(col_covers.size());
  out.pixels.values.reserve(row_covers.size() * col_covers.size());

  std::vector<Accumulator> line;
  for (const Cover& rows : row_covers) {
    line.assign(col_covers.size(), {});
    for (std::int64_t row = rows.first; row < rows.last; ++row)
      for (std::size_t p = 0; p < col_covers.size(); ++p) {
        const Cover& cols = col_covers[p];
        for (std::int64_t col = cols.first; col < cols.last; ++col)
          line[p].add(matrix.at(row, col), rows.weight(row) * cols.weight(col), aggregate);
      }
    for (const Accumulator& pixel : line)
      out.pixels.values.push_back(static_cast<float>(pixel.result(aggregate)));
  }
  return out;
}

}  // namespace muse::render
