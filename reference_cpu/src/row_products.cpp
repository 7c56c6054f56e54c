#include "muse/row_products.h"

#include "muse/check.h"

// Unrolls the loops over a tile's rows and columns, so that its sums stay in registers.
#define MUSE_UNROLL _Pragma("GCC unroll 8")

namespace muse {
namespace {

// W neighbouring numbers.
template <class Scalar, int W>
using Lane = Eigen::Array<Scalar, 1, W>;

template <class Scalar, int W>
Eigen::Map<const Lane<Scalar, W>> lane_at(const Scalar* first) {
  return Eigen::Map<const Lane<Scalar, W>>(first);
}

// Rows r … r + R - 1 and columns j … j + W - 1 of C = A B.
template <int R, int W, class Scalar>
void multiply_tile(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index r,
                   Index j) {
  Lane<Scalar, W> sums[R];
  for (auto& sum : sums) sum.setZero();
  for (Index k = 0; k < A.cols(); ++k) {
    const Lane<Scalar, W> b = lane_at<Scalar, W>(&B.coeffRef(k, j));
    MUSE_UNROLL
    for (int row = 0; row < R; ++row) sums[row] += A(r + row, k) * b;
  }
  MUSE_UNROLL
  for (int row = 0; row < R; ++row) C.row(r + row).template segment<W>(j) = sums[row];
}

// All rows, columns j … j + W - 1.
template <int W, class Scalar>
void multiply_strip(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index j) {
  Index r = 0;
  for (; r + 4 <= A.rows(); r += 4) multiply_tile<4, W>(A, B, C, r, j);
  for (; r < A.rows(); ++r) multiply_tile<1, W>(A, B, C, r, j);
}

// Rows r … r + R - 1 and columns j … j + J - 1 of C = A Bᵀ: R J dot products, each summed in W lanes along k.
template <int R, int J, class Scalar>
void dot_tile(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index r,
              Index j) {
  constexpr int W = 32 / sizeof(Scalar);
  Lane<Scalar, W> sums[R][J];
  for (auto& row_sums : sums)
    for (auto& sum : row_sums) sum.setZero();
  Index k = 0;
  for (; k + W <= A.cols(); k += W) {
    MUSE_UNROLL
    for (int row = 0; row < R; ++row) {
      const Lane<Scalar, W> a = lane_at<Scalar, W>(&A.coeffRef(r + row, k));
      MUSE_UNROLL
      for (int col = 0; col < J; ++col) sums[row][col] += a * lane_at<Scalar, W>(&B.coeffRef(j + col, k));
    }
  }
  MUSE_UNROLL
  for (int row = 0; row < R; ++row) {
    MUSE_UNROLL
    for (int col = 0; col < J; ++col) {
      Scalar dot = sums[row][col].sum();
      for (Index rest = k; rest < A.cols(); ++rest) dot += A(r + row, rest) * B(j + col, rest);
      C(r + row, j + col) = dot;
    }
  }
}

// All rows, columns j … j + J - 1.
template <int J, class Scalar>
void dot_strip(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index j) {
  Index r = 0;
  for (; r + 2 <= A.rows(); r += 2) dot_tile<2, J>(A, B, C, r, j);
  for (; r < A.rows(); ++r) dot_tile<1, J>(A, B, C, r, j);
}

}  // namespace

template <class Scalar>
void multiply(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.cols() == B.rows() && C.rows() == A.rows() && C.cols() == B.cols(), "multiply: [", A.rows(),
               ", ", A.cols(), "] times [", B.rows(), ", ", B.cols(), "] into [", C.rows(), ", ", C.cols(),
               "]");
  constexpr int W = 64 / sizeof(Scalar);
  Index j = 0;
  for (; j + W <= C.cols(); j += W) multiply_strip<W>(A, B, C, j);
  for (; j + W / 4 <= C.cols(); j += W / 4) multiply_strip<W / 4>(A, B, C, j);
  for (; j < C.cols(); ++j) multiply_strip<1>(A, B, C, j);
}

template <class Scalar>
void multiply_transposed(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.cols() == B.cols() && C.rows() == A.rows() && C.cols() == B.rows(), "multiply_transposed: [",
               A.rows(), ", ", A.cols(), "] times [", B.rows(), ", ", B.cols(), "]ᵀ into [", C.rows(), ", ",
               C.cols(), "]");
  Index j = 0;
  for (; j + 4 <= C.cols(); j += 4) dot_strip<4>(A, B, C, j);
  for (; j < C.cols(); ++j) dot_strip<1>(A, B, C, j);
}

#define MUSE_INSTANTIATE(Scalar)                                                                           \
  template void multiply<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&, MatrixRef<Scalar>); \
  template void multiply_transposed<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,          \
                                            MatrixRef<Scalar>);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
