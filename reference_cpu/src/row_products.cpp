#include "muse/row_products.h"

#include <algorithm>

#include "muse/check.h"

// Eigen's PacketBlock takes a register type as a template argument, whose alignment is no part of its name.
#pragma GCC diagnostic ignored "-Wignored-attributes"

// Unrolls the loops over a tile's rows and columns, so that its sums stay in registers.
#define MUSE_UNROLL _Pragma("GCC unroll 8")

namespace muse {
namespace {

// Eigen's vector registers, by their own names: a sum must be rounded alike in tiles of any height, so each
// multiply-add is written out as one, and this file is compiled with -ffp-contract=off, lest the compiler
// fuse some of the others and not all.
using Eigen::internal::padd;
using Eigen::internal::ploadu;
using Eigen::internal::pmadd;
using Eigen::internal::pset1;
using Eigen::internal::pstoreu;
template <class Scalar>
using Packet = typename Eigen::internal::packet_traits<Scalar>::type;
template <class Scalar>
constexpr Index kPacket = Eigen::internal::packet_traits<Scalar>::size;

// Rows of B that multiply() works on together: they stay in the first-level cache for all rows of A.
constexpr Index kChunk = 64;

// What multiply() goes by: C [R, J] = or += A B, and the terms k0 <= k < k1 of a chunk.
template <class Scalar>
struct Terms {
  const Scalar* A;  // element (r, k) at A[r * row_stride + k * k_stride]
  Index row_stride, k_stride;
  const MatrixView<Scalar>& B;
  MatrixRef<Scalar>& C;
  Index k0, k1;
  bool onto_C;  // add to what C holds, or start afresh

  [[nodiscard]] Scalar a(Index r, Index k) const { return A[r * row_stride + k * k_stride]; }
};

// Adds the terms to rows r … r + R - 1 and the columns of `Packets` packets from j on.
template <int R, int Packets, class Scalar>
void multiply_tile(const Terms<Scalar>& terms, Index r, Index j) {
  const auto& [A, row_stride, k_stride, B, C, k0, k1, onto_C] = terms;
  Packet<Scalar> sums[R][Packets];
  MUSE_UNROLL
  for (int row = 0; row < R; ++row) {
    MUSE_UNROLL
    for (int p = 0; p < Packets; ++p)
      sums[row][p] = onto_C ? ploadu<Packet<Scalar>>(&C.coeffRef(r + row, j + p * kPacket<Scalar>))
                            : pset1<Packet<Scalar>>(Scalar(0));
  }
  for (Index k = k0; k < k1; ++k) {
    Packet<Scalar> b[Packets];
    MUSE_UNROLL
    for (int p = 0; p < Packets; ++p) b[p] = ploadu<Packet<Scalar>>(&B.coeffRef(k, j + p * kPacket<Scalar>));
    MUSE_UNROLL
    for (int row = 0; row < R; ++row) {
      const auto a = pset1<Packet<Scalar>>(terms.a(r + row, k));
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

// Adds the terms to rows r … r + R - 1. Of few rows, more columns at a time: a multiply-add takes some four
// cycles, and two start in each, so that eight sums at least must go on side by side.
template <int R, class Scalar>
void multiply_rows(const Terms<Scalar>& terms, Index r) {
  constexpr int kPackets = R >= 4 ? 2 : R >= 2 ? 4 : 8;
  constexpr Index W = kPacket<Scalar>;
  const Index J = terms.C.cols();
  Index j = 0;
  for (; j + kPackets * W <= J; j += kPackets * W) multiply_tile<R, kPackets>(terms, r, j);
  for (; j + W <= J; j += W) multiply_tile<R, 1>(terms, r, j);
  for (; j < J; ++j) {
    for (Index row = r; row < r + R; ++row) {
      Scalar sum = terms.onto_C ? terms.C(row, j) : Scalar(0);
      for (Index k = terms.k0; k < terms.k1; ++k) sum += terms.a(row, k) * terms.B(k, j);
      terms.C(row, j) = sum;
    }
  }
}

// C = or += A B, chunk by chunk of k; A [R, K] with the strides given.
template <class Scalar>
void multiply_chunks(const Scalar* A, Index row_stride, Index k_stride, const MatrixView<Scalar>& B,
                     MatrixRef<Scalar>& C, bool onto_C) {
  if (B.rows() == 0 && !onto_C) C.setZero();
  for (Index k0 = 0; k0 < B.rows(); k0 += kChunk) {
    const Index k1 = std::min(k0 + kChunk, B.rows());
    const Terms<Scalar> terms{A, row_stride, k_stride, B, C, k0, k1, onto_C || k0 > 0};
    Index r = 0;
    for (; r + 6 <= C.rows(); r += 6) multiply_rows<6>(terms, r);
    switch (C.rows() - r) {
      case 1:
        multiply_rows<1>(terms, r);
        break;
      case 2:
        multiply_rows<2>(terms, r);
        break;
      case 3:
        multiply_rows<3>(terms, r);
        break;
      case 4:
        multiply_rows<4>(terms, r);
        break;
      case 5:
        multiply_rows<5>(terms, r);
        break;
      default:
        break;
    }
  }
}

// The sums over the lanes of W packets, as one packet.
template <class Scalar>
Packet<Scalar> add_lanes(Eigen::internal::PacketBlock<Packet<Scalar>, kPacket<Scalar>>& sums) {
  Eigen::internal::ptranspose(sums);
  MUSE_UNROLL
  for (Index step = 1; step < kPacket<Scalar>; step *= 2) {
    MUSE_UNROLL
    for (Index p = 0; p < kPacket<Scalar>; p += 2 * step)
      sums.packet[p] = padd(sums.packet[p], sums.packet[p + step]);
  }
  return sums.packet[0];
}

// The columns of one packet from j on of C = A Bᵀ, as many as there are: in each row W dot products side by
// side, summed by packets along k, then over the packet's lanes. Beyond the last column it is computed again.
template <class Scalar>
void dot_strip(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar>& C, Index j) {
  constexpr Index W = kPacket<Scalar>;
  const Index K = A.cols(), whole = K / W * W, columns = std::min(W, C.cols() - j);
  const Scalar* b[W];
  for (Index col = 0; col < W; ++col) b[col] = B.data() + std::min(j + col, C.cols() - 1) * B.outerStride();
  for (Index r = 0; r < A.rows(); ++r) {
    const Scalar* a = A.data() + r * A.outerStride();
    Eigen::internal::PacketBlock<Packet<Scalar>, W> sums;
    for (auto& sum : sums.packet) sum = pset1<Packet<Scalar>>(Scalar(0));
    for (Index k = 0; k < whole; k += W) {
      const auto a_k = ploadu<Packet<Scalar>>(a + k);
      MUSE_UNROLL
      for (Index col = 0; col < W; ++col)
        sums.packet[col] = pmadd(a_k, ploadu<Packet<Scalar>>(b[col] + k), sums.packet[col]);
    }
    Scalar rest[W];
    Scalar* c = columns == W ? C.data() + r * C.outerStride() + j : rest;
    pstoreu(c, add_lanes<Scalar>(sums));
    for (Index k = whole; k < K; ++k)
      for (Index col = 0; col < W; ++col) c[col] += a[k] * b[col][k];
    if (columns < W) std::copy_n(rest, columns, C.data() + r * C.outerStride() + j);
  }
}

}  // namespace

template <class Scalar>
void multiply(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.cols() == B.rows() && C.rows() == A.rows() && C.cols() == B.cols(), "multiply: [", A.rows(),
               ", ", A.cols(), "] times [", B.rows(), ", ", B.cols(), "] into [", C.rows(), ", ", C.cols(),
               "]");
  multiply_chunks<Scalar>(A.data(), A.outerStride(), 1, B, C, false);
}

template <class Scalar>
void multiply_add(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.cols() == B.rows() && C.rows() == A.rows() && C.cols() == B.cols(), "multiply_add: [",
               A.rows(), ", ", A.cols(), "] times [", B.rows(), ", ", B.cols(), "] onto [", C.rows(), ", ",
               C.cols(), "]");
  multiply_chunks<Scalar>(A.data(), A.outerStride(), 1, B, C, true);
}

template <class Scalar>
void transposed_multiply(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.rows() == B.rows() && C.rows() == A.cols() && C.cols() == B.cols(), "transposed_multiply: [",
               A.rows(), ", ", A.cols(), "]ᵀ times [", B.rows(), ", ", B.cols(), "] into [", C.rows(), ", ",
               C.cols(), "]");
  multiply_chunks<Scalar>(A.data(), 1, A.outerStride(), B, C, false);
}

template <class Scalar>
void multiply_transposed(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B, MatrixRef<Scalar> C) {
  MUSE_REQUIRE(A.cols() == B.cols() && C.rows() == A.rows() && C.cols() == B.rows(), "multiply_transposed: [",
               A.rows(), ", ", A.cols(), "] times [", B.rows(), ", ", B.cols(), "]ᵀ into [", C.rows(), ", ",
               C.cols(), "]");
  for (Index j = 0; j < C.cols(); j += kPacket<Scalar>) dot_strip(A, B, C, j);
}

#define MUSE_INSTANTIATE(Scalar)                                                                           \
  template void multiply<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&, MatrixRef<Scalar>); \
  template void multiply_add<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,                 \
                                     MatrixRef<Scalar>);                                                   \
  template void transposed_multiply<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,          \
                                            MatrixRef<Scalar>);                                            \
  template void multiply_transposed<Scalar>(const MatrixView<Scalar>&, const MatrixView<Scalar>&,          \
                                            MatrixRef<Scalar>);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
