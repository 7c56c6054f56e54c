// The matrix types of the reference: rows are tokens, row-major, as the tensors lie in files.
#pragma once

#include <Eigen/Core>

namespace muse {

using Index = Eigen::Index;

/// [rows, cols], row-major, owning.
template <class Scalar>
using Matrix = Eigen::Matrix<Scalar, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// [n], owning.
template <class Scalar>
using Vector = Eigen::Matrix<Scalar, Eigen::Dynamic, 1>;

/// [1, n], owning: one token.
template <class Scalar>
using RowVector = Eigen::Matrix<Scalar, 1, Eigen::Dynamic, Eigen::RowMajor>;

/// A read-only view of rows that lie in memory with any stride between them: a Matrix, or a block of one.
template <class Scalar>
using MatrixView = Eigen::Ref<const Matrix<Scalar>, 0, Eigen::OuterStride<>>;

/// A read-only view of one token.
template <class Scalar>
using RowView = Eigen::Ref<const RowVector<Scalar>>;

[[nodiscard]] constexpr Index ceil_div(Index a, Index b) {
  return (a + b - 1) / b;
}

/// The first `count` rows of `x` from `first` on, below them zero rows up to `rows`. Products on tiles of one
/// fixed shape give a row the same bits however many rows its tile really holds; Eigen's products on tiles of
/// another height may not.
template <class Scalar>
[[nodiscard]] Matrix<Scalar> padded_rows(const MatrixView<Scalar>& x, Index first, Index count, Index rows) {
  Matrix<Scalar> padded = Matrix<Scalar>::Zero(rows, x.cols());
  padded.topRows(count) = x.middleRows(first, count);
  return padded;
}

}  // namespace muse
