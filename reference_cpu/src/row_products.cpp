#include "muse/row_products.h"

#include "muse/check.h"

// Unrolls the loops over a tile's rows and columns, so that its sums stay in registers.
#define MUSE_UNROLL _Pragma("GCC unroll 8")

namespace muse {
namespace {

// Eigen's vector registers, by their own names: a sum must be rounded alike in tiles of any height, so each
// multiply-add is written out as one, and this file is compiled with -ffp-contract=off, lest the compiler
// fuse some of the others and not all.
using Eigen::internal::ploadu;
using Eigen::internal::pmadd;
using Eigen::internal::predux;
using Eigen::internal::pset1;
using Eigen::internal::pstoreu;
template <class Scalar>
using Packet = typename Eigen::internal::packet_traits<Scalar>::type;
template <class Scalar>
constexpr Index kPacket = Eigen::internal::packet_traits<Scalar>::size;

// Rows r … r + R - 1 and the columns of `Packets` packets from j on, of C = A B.
template <int R, int Packets, class Scalar>
void multiply_tile(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index r,
                   Index j) {
  Packet<Scalar> sums[R][Packets];
  for (auto& row_sums : sums)
    for (auto& sum : row_sums) sum = pset1<Packet<Scalar>>(Scalar(0));
  for (Index k = 0; k < A.cols(); ++k) {
    Packet<Scalar> b[Packets];
    MUSE_UNROLL
    for (int p = 0; p < Packets; ++p) b[p] = ploadu<Packet<Scalar>>(&B.coeffRef(k, j + p * kPacket<Scalar>));
    MUSE_UNROLL
    for (int row = 0; row < R; ++row) {
      const auto a = pset1<Packet<Scalar>>(A(r + row, k));
      MUSE_UNROLL
      for (int p = 0; p < Packets; ++p) sums[row][p] = pmadd(a, b[p], sums[row][p]);
    }
  }
  MUSE_UNROLL
  for (int row = 0; row < R; ++row) {
    MUSE_UNROLL
    for (int p = 0; p < Packets; ++p) pstoreu(&C.coeffRef(r + row, j + p * kPacket<Scalar>), sums[row][p]);
  }
}

// All rows, the columns of `Packets` packets from j on.
template <int Packets, class Scalar>
void multiply_strip(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index j) {
  Index r = 0;
  for (; r + 4 <= A.rows(); r += 4) multiply_tile<4, Packets>(A, B, C, r, j);
  for (; r < A.rows(); ++r) multiply_tile<1, Packets>(A, B, C, r, j);
}

// Rows r … r + R - 1 and columns j … j + J - 1 of C = A Bᵀ: R J dot products, each summed by packets along k.
template <int R, int J, class Scalar>
void dot_tile(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index r,
              Index j) {
  Packet<Scalar> sums[R][J];
  for (auto& row_sums : sums)
    for (auto& sum : row_sums) sum = pset1<Packet<Scalar>>(Scalar(0));
  Index k = 0;
  for (; k + kPacket<Scalar> <= A.cols(); k += kPacket<Scalar>) {
    MUSE_UNROLL
    for (int row = 0; row < R; ++row) {
      const auto a = ploadu<Packet<Scalar>>(&A.coeffRef(r + row, k));
      MUSE_UNROLL
      for (int col = 0; col < J; ++col)
        sums[row][col] = pmadd(a, ploadu<Packet<Scalar>>(&B.coeffRef(j + col, k)), sums[row][col]);
    }
  }
  MUSE_UNROLL
  for (int row = 0; row < R; ++row) {
    MUSE_UNROLL
    for (int col = 0; col < J; ++col) {
      Scalar dot = predux(sums[row][col]);
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
  constexpr Index W = kPacket<Scalar>;
  Index j = 0;
  for (; j + 2 * W <= C.cols(); j += 2 * W) multiply_strip<2>(A, B, C, j);
  for (; j + W <= C.cols(); j += W) multiply_strip<1>(A, B, C, j);
  for (; j < C.cols(); ++j) {
    for (Index r = 0; r < A.rows(); ++r) {
      Scalar sum = 0;
      for (Index k = 0; k < A.cols(); ++k) sum += A(r, k) * B(k, j);
      C(r, j) = sum;
    }
  }
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
