// Matrix products for a few rows at a time, one row's bits independent of the others.
#pragma once

#include "muse/matrix.h"

namespace muse {

/// A writable view of rows, as MatrixView.
template <class Scalar>
using MatrixRef = Eigen::Ref<Matrix<Scalar>, 0, Eigen::OuterStride<>>;

// The clusters of this method hold some sixteen tokens, and strict causality asks that the bits of a query's
// output do not depend on how many other queries share its cluster. Eigen's products promise no such thing,
// and for so few rows they spend more time packing their operands than multiplying. These sum each element of
// C over k in an order that depends on K, J and the element's column, never on its row or on R. For large
// tiles of a fixed shape Eigen's products are as fast, and simpler: exact_attention and kmeans use those.

/// A number of columns without a rest that multiply() sums in another way: then the bits of an element of A B
/// depend on its row of A and its column of B alone, wherever they stand.
[[nodiscard]] constexpr Index whole_columns(Index columns) {
  return ceil_div(columns, 16) * 16;
}

/// C [R, J] = A [R, K] B [K, J]: rows of weights times rows of values. 2 R J K operations.
template <class Scalar>
void multiply(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C);

/// As multiply, added to what C holds.
template <class Scalar>
void multiply_add(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C);

/// C [R, J] = Aᵀ B, A [K, R], B [K, J].
template <class Scalar>
void transposed_multiply(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C);

/// C [R, J] = A [R, K] Bᵀ, B [J, K]: every row of A dot every row of B, queries times keys. 2 R J K
/// operations.
template <class Scalar>
void multiply_transposed(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C);

}  // namespace muse
