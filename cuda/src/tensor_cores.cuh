// Matrix products of one warp on the tensor cores (mma.sync m16n8k16, compute capability 8.0 and up), and
// copies into shared memory that run beside them.
//
// Fragments, as the instruction lays them over the 32 lanes; g = lane / 4, c = lane % 4:
//   A [16, 16], row-major: a0 (g, 2c..2c+1)  a1 (g+8, 2c..)  a2 (g, 2c+8..)  a3 (g+8, 2c+8..)
//   B [16, 8]:             b0 (2c..2c+1, g)  b1 (2c+8.., g)
//   C [16, 8], float:      c0 c1 (g, 2c..2c+1)  c2 c3 (g+8, 2c..)
// So the C fragments of two neighbouring [16, 8] tiles are, rounded and packed, the A fragment of the next
// product.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace muse::cuda {

/// Two elements in a register, the first in the low half.
__device__ __forceinline__ std::uint32_t pack(float low, float high, __half) {
  const __half2 pair = __floats2half2_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}
__device__ __forceinline__ std::uint32_t pack(float low, float high, __nv_bfloat16) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const std::uint32_t&>(pair);
}
__device__ __forceinline__ float2 unpack(std::uint32_t pair, __half) {
  return __half22float2(reinterpret_cast<const __half2&>(pair));
}
__device__ __forceinline__ float2 unpack(std::uint32_t pair, __nv_bfloat16) {
  return __bfloat1622float2(reinterpret_cast<const __nv_bfloat162&>(pair));
}

/// sum + |a|² of a pair.
template <class Element>
__device__ __forceinline__ float add_square(float sum, std::uint32_t a, Element) {
  const float2 x = unpack(a, Element());
  return fmaf(x.x, x.x, fmaf(x.y, x.y, sum));
}
/// sum + |a - b|² of two pairs.
template <class Element>
__device__ __forceinline__ float add_squared_difference(float sum, std::uint32_t a, std::uint32_t b,
                                                        Element) {
  const float2 x = unpack(a, Element()), y = unpack(b, Element());
  return fmaf(x.x - y.x, x.x - y.x, fmaf(x.y - y.y, x.y - y.y, sum));
}

/// C += A B, [16, 8] += [16, 16] [16, 8].
__device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1, __half) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1, __nv_bfloat16) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Four 8x8 matrices from shared memory; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void load_matrices(std::uint32_t (&x)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address));
}
/// Likewise, each transposed.
__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&x)[4], std::uint32_t address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
               : "r"(address));
}

/// Copies 16 bytes to shared memory in the background, or zeros if not `valid`.
__device__ __forceinline__ void copy_async(std::uint32_t shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(valid ? 16 : 0));
}
/// Copies 16 bytes that exist.
__device__ __forceinline__ void copy_async(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared), "l"(global));
}
/// Copies 4 bytes that exist.
__device__ __forceinline__ void copy_async_4(std::uint32_t shared, const void* global) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(shared), "l"(global));
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;");
}
/// Waits until all but the newest `Pending` committed groups have arrived.
template <int Pending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending));
}

/// 2^x; exactly 0 for -infinity.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

inline constexpr float kLog2e = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;

/// `Rows` rows of D elements in shared memory, for mma.sync. 16 bytes between rows keep the 8 rows of a
/// matrix load on different banks.
template <int D, int Rows>
struct PaddedTile {
  static_assert(D % 16 == 0, "rows are read 16 features at a time");
  static constexpr int kBytes = Rows * (2 * D + 16);
  /// Where the 16-byte piece of 8 features from 8 · piece on lies.
  static __device__ __forceinline__ std::uint32_t offset(int row, int piece) {
    return row * (2 * D + 16) + piece * 16;
  }
};

/// The same for wgmma: 64 features of a row in 128 bytes, whose 16-byte pieces trade places from row to row
/// (the 128-byte swizzle that the instruction's descriptors know); more than 64 features in tiles one after
/// the other.
template <int D, int Rows>
struct SwizzledTile {
  static_assert(D % 64 == 0, "a row of the tile is 64 features");
  static constexpr int kBytes = Rows * 2 * D;
  static __device__ __forceinline__ std::uint32_t offset(int row, int piece) {
    return piece / 8 * (Rows * 128) + row * 128 + (piece % 8 ^ row % 8) * 16;
  }
  /// From the address of a piece of row r, in a tile at a multiple of 1024, to that of the same piece `rows`
  /// rows further on, where r % 8 + rows % 8 is r % 8 | rows % 8. Few addresses then need registers.
  static __device__ __forceinline__ std::uint32_t further(std::uint32_t address, int rows) {
    return (address ^ rows % 8 * 16) + rows * 128;
  }
};

/// Copies rows into shared memory, all threads of the thread block together. `source(row)` gives the row's
/// first element in device memory, or nullptr for a row of zeros; `any` is some address that may be read.
template <template <int, int> class Tile, int D, int Rows, int Threads, class Element, class Source>
__device__ __forceinline__ void copy_rows(std::uint32_t shared, Source source, const Element* any) {
  constexpr int kPieces = D / 8;
#pragma unroll
  for (int index = threadIdx.x; index < Rows * kPieces; index += Threads) {
    const int row = index / kPieces, piece = index % kPieces;
    const Element* from = source(row);
    copy_async(shared + Tile<D, Rows>::offset(row, piece), from == nullptr ? any : from + piece * 8,
               from != nullptr);
  }
}

/// The A fragments of the 16 rows from `row` on of a tile in shared memory.
template <template <int, int> class Tile, int D, int Rows>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[D / 16][4], std::uint32_t shared, int row) {
  const int lane = threadIdx.x % 32;
  // Matrices: rows 0-7, rows 8-15, both again 8 features on.
#pragma unroll
  for (int kk = 0; kk < D / 16; ++kk)
    load_matrices(a[kk], shared + Tile<D, Rows>::offset(row + lane % 16, kk * 2 + lane / 16));
}

/// The weights of 16 keys as an A fragment.
template <class Element>
__device__ __forceinline__ void pack_weights(std::uint32_t (&a)[4], const float (&p0)[4],
                                             const float (&p1)[4], Element) {
  a[0] = pack(p0[0], p0[1], Element());
  a[1] = pack(p0[2], p0[3], Element());
  a[2] = pack(p1[0], p1[1], Element());
  a[3] = pack(p1[2], p1[3], Element());
}

/// A warp's share of softmax attention: 16 M query rows against a stream of keys. Logits are in units of
/// log 2.
///
/// `SummedByProducts`: weights are summed by the product with the values, which have 8 more columns of ones.
template <int D, int M, bool SummedByProducts = false>
struct SoftmaxRows {
  static constexpr int kTiles = D / 8 + SummedByProducts;
  float o[M][kTiles][4];  // unnormalised output; where there is one more tile, each of its columns is l
  float m[M][2];          // what is taken out of the logits of rows g and g + 8: near the largest so far
  float l[M][2];          // sum of e^{logit - m}, this lane's columns only until finish()

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int t = 0; t < M; ++t) {
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int x = 0; x < 4; ++x) o[t][n][x] = 0;
#pragma unroll
      for (int h = 0; h < 2; ++h) m[t][h] = -INFINITY, l[t][h] = 0;
    }
  }

  /// A row's m stays until a logit is larger by this much (in units of log 2): weights up to 256 lose nothing
  /// in any type, and most tiles need no rescaling.
  static constexpr float kSlack = 8;

  /// Takes new logits `scale` s into m and l, and leaves e^{scale s - m} in s. What was summed before must be
  /// multiplied by `factor`, if the result says that any row of the warp has a new m. scale > 0.
  template <int Keys>
  __device__ __forceinline__ bool weigh(float (&s)[M][Keys / 8][4], float scale, float (&factor)[M][2]) {
    bool changed = false;
#pragma unroll
    for (int t = 0; t < M; ++t) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float largest = s[t][0][2 * h];
#pragma unroll
        for (int n = 0; n < Keys / 8; ++n)
          largest = fmaxf(largest, fmaxf(s[t][n][2 * h], s[t][n][2 * h + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        largest *= scale;
        const bool rises = largest > m[t][h] + kSlack;
        changed = changed || rises;
        const float before = m[t][h];
        m[t][h] = rises ? largest : before;
        const float base = m[t][h] == -INFINITY ? 0 : m[t][h];  // nothing seen yet: all weights are 0
        factor[t][h] = exp2_fast(before - base);
        float sum = 0;
#pragma unroll
        for (int n = 0; n < Keys / 8; ++n) {
          s[t][n][2 * h] = exp2_fast(fmaf(s[t][n][2 * h], scale, -base));
          s[t][n][2 * h + 1] = exp2_fast(fmaf(s[t][n][2 * h + 1], scale, -base));
          sum += s[t][n][2 * h] + s[t][n][2 * h + 1];
        }
        if constexpr (!SummedByProducts) l[t][h] = l[t][h] * factor[t][h] + sum;
      }
    }
    return __any_sync(0xffffffffu, changed);
  }

  /// The same without a look at the maximum: m stays as it is, and weights may grow to where they are
  /// infinite. overflows() tells afterwards.
  template <int Keys>
  __device__ __forceinline__ void weigh_as_before(float (&s)[M][Keys / 8][4], float scale) {
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        float sum = 0;
#pragma unroll
        for (int n = 0; n < Keys / 8; ++n) {
          s[t][n][2 * h] = exp2_fast(fmaf(s[t][n][2 * h], scale, -m[t][h]));
          s[t][n][2 * h + 1] = exp2_fast(fmaf(s[t][n][2 * h + 1], scale, -m[t][h]));
          sum += s[t][n][2 * h] + s[t][n][2 * h + 1];
        }
        if constexpr (!SummedByProducts) l[t][h] += sum;
      }
  }
  /// Whether every row of the warp has seen a key, so that its m is near its logits.
  [[nodiscard]] __device__ __forceinline__ bool settled() const {
    bool all = true;
#pragma unroll
    for (int t = 0; t < M; ++t) all = all && m[t][0] > -INFINITY && m[t][1] > -INFINITY;
    return __all_sync(0xffffffffu, all);
  }
  /// Whether logits of row h rose so far beyond m that sums may have overflown: values of up to 2^60 are safe
  /// below this. After finish().
  [[nodiscard]] __device__ __forceinline__ bool overflows(int t, int h) const {
    return !(l[t][h] < 0x1p60f);
  }

  __device__ __forceinline__ void rescale(const float (&factor)[M][2]) {
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int n = 0; n < kTiles; ++n)
#pragma unroll
        for (int e = 0; e < 4; ++e) o[t][n][e] *= factor[t][e / 2];
  }

  template <int Keys>
  __device__ __forceinline__ void soften(float (&s)[M][Keys / 8][4], float scale) {
    float factor[M][2];
    if (weigh<Keys>(s, scale, factor)) rescale(factor);
  }

  /// Sums l over the lanes of a row. After it, l is the row's whole sum.
  __device__ __forceinline__ void finish() {
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        if constexpr (SummedByProducts) {
          l[t][h] = o[t][D / 8][2 * h];
          continue;
        }
        l[t][h] += __shfl_xor_sync(0xffffffffu, l[t][h], 1);
        l[t][h] += __shfl_xor_sync(0xffffffffu, l[t][h], 2);
      }
  }
};

/// The products of attention by mma.sync: each warp has 16 M query rows, and reads all keys and values
/// itself.
template <int D_, int M_, class Element>
struct MmaEngine {
  static constexpr int D = D_, M = M_;
  static constexpr bool kTogether = false;  // a warp without work may leave its products out
  template <int Features, int Rows>
  using Tile = PaddedTile<Features, Rows>;

  std::uint32_t a[M][D / 16][4];  // the queries

  template <int Rows>
  __device__ __forceinline__ void load_queries(std::uint32_t shared, int row) {
#pragma unroll
    for (int t = 0; t < M; ++t) load_a<PaddedTile, D, Rows>(a[t], shared, row + 16 * t);
  }

  /// s = Q Kᵀ for `Keys` rows of keys from `row` on, in a tile of Rows: [16 M, Keys].
  template <int Keys, int Rows>
  __device__ __forceinline__ void dot(float (&s)[M][Keys / 8][4], std::uint32_t k_shared, int row = 0) const {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int n = 0; n < Keys / 8; ++n)
#pragma unroll
        for (int x = 0; x < 4; ++x) s[t][n][x] = 0;
#pragma unroll
    for (int kk = 0; kk < D / 16; ++kk) {
#pragma unroll
      for (int n = 0; n < Keys / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices(b, k_shared + PaddedTile<D, Rows>::offset(row + n * 8 + lane / 16 * 8 + lane % 8,
                                                                kk * 2 + lane / 8 % 2));
#pragma unroll
        for (int t = 0; t < M; ++t) {
          mma(s[t][n], a[t][kk], b[0], b[1], Element());
          mma(s[t][n + 1], a[t][kk], b[2], b[3], Element());
        }
      }
    }
  }

  /// o += P V for weights p and `Keys` rows of values from `row` on, in a tile of Rows.
  template <int Keys, int Rows>
  static __device__ __forceinline__ void accumulate(float (&o)[M][D / 8][4], const float (&p)[M][Keys / 8][4],
                                                    std::uint32_t v_shared, int row = 0) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int kk = 0; kk < Keys / 16; ++kk) {
      std::uint32_t weights[M][4];
#pragma unroll
      for (int t = 0; t < M; ++t) pack_weights(weights[t], p[t][2 * kk], p[t][2 * kk + 1], Element());
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices_transposed(
            b, v_shared + PaddedTile<D, Rows>::offset(row + kk * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int t = 0; t < M; ++t) {
          mma(o[t][n], weights[t], b[0], b[1], Element());
          mma(o[t][n + 1], weights[t], b[2], b[3], Element());
        }
      }
    }
  }
  /// Before the first product on rows that were just copied, by every thread, before the barrier.
  static __device__ __forceinline__ void publish_copies() {}
};

/// The sum over the four lanes that hold a row of an accumulator.
__device__ __forceinline__ float quad_sum(float x) {
  x += __shfl_xor_sync(0xffffffffu, x, 1);
  return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/// Gives each lane of a quad 8 neighbouring features instead of 4 pairs 8 apart: x[n] is this lane's pair of
/// tile n, and becomes pair n of tile c = lane % 4.
__device__ __forceinline__ void transpose_quad(std::uint32_t (&x)[4]) {
  const int c = threadIdx.x % 4;
#pragma unroll
  for (int step = 1; step <= 2; step *= 2) {
    const bool upper = (c & step) != 0;
#pragma unroll
    for (int pair = 0; pair < 2; ++pair) {
      const int low = step == 1 ? 2 * pair : pair, high = low + step;
      const std::uint32_t received = __shfl_xor_sync(0xffffffffu, upper ? x[low] : x[high], step);
      if (upper) {
        x[low] = received;
      } else {
        x[high] = received;
      }
    }
  }
}

/// Writes row `h` (0: row g, 1: row g + 8) of a [16, D] tile of C fragments, times `factor`, as Elements, 16
/// bytes a lane; also the values as they were rounded, for those who need to know.
template <int D, int Tiles, class Element>
__device__ __forceinline__ void store_row(Element* to, const float (&c)[Tiles][4], int h, float factor,
                                          bool valid) {
  const int lane_c = threadIdx.x % 4;
#pragma unroll
  for (int n = 0; n < D / 8; n += 4) {
    std::uint32_t x[4];
#pragma unroll
    for (int p = 0; p < 4; ++p)
      x[p] = pack(c[n + p][2 * h] * factor, c[n + p][2 * h + 1] * factor, Element());
    transpose_quad(x);
    if (valid) *reinterpret_cast<uint4*>(to + (n + lane_c) * 8) = make_uint4(x[0], x[1], x[2], x[3]);
  }
}

}  // namespace muse::cuda
