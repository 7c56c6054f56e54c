// The products of attention by Hopper's wgmma (sm_90a): a warpgroup of 4 warps has 64 query rows, and the
// tensor cores read keys and values straight from shared memory, once for all four warps.
#pragma once

#include "tensor_cores.cuh"

namespace muse::cuda {

/// A matrix in shared memory for wgmma, in the 128-byte swizzle: its address, the stride of 1024 bytes
/// between groups of 8 rows, and where the next 64 columns lie along a row, `columns_stride` bytes on.
/// Another matrix `offset` bytes behind it has a sum for its descriptor: the field of the address is the
/// lowest, in units of 16 bytes.
struct MatrixDescriptor {
  std::uint32_t low, high;
  __device__ __forceinline__ MatrixDescriptor(std::uint32_t address, std::uint32_t columns_stride)
      : low(columns_stride >> 4 << 16 | (address & 0x3ffff) >> 4), high(1u << 30 | 1024 >> 4) {}
  /// `stride_change`: of the way to the next 64 columns.
  [[nodiscard]] __device__ __forceinline__ std::uint64_t behind(int offset, int stride_change = 0) const {
    return std::uint64_t{high} << 32 |
           (low + (offset >> 4) + static_cast<std::uint32_t>(stride_change >> 4 << 16));
  }
};

// A compiler that sees only the instruction's operands must not move other uses of the accumulators across
// it.
template <int N>
__device__ __forceinline__ void fence_registers(float (&x)[N][4]) {
#pragma unroll
  for (int n = 0; n < N; ++n)
#pragma unroll
    for (int e = 0; e < 4; ++e) asm volatile("" : "+f"(x[n][e])::"memory");
}
__device__ __forceinline__ void wgmma_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int Pending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(Pending) : "memory");
}

#define MUSE_C8(x, n)                                                                               \
  "+f"(x[n][0]), "+f"(x[n][1]), "+f"(x[n][2]), "+f"(x[n][3]), "+f"(x[n + 1][0]), "+f"(x[n + 1][1]), \
      "+f"(x[n + 1][2]), "+f"(x[n + 1][3])
#define MUSE_C32(x, n) MUSE_C8(x, n), MUSE_C8(x, n + 2), MUSE_C8(x, n + 4), MUSE_C8(x, n + 6)
#define MUSE_REGISTERS_64                                                                                    \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%" \
  "28,"                                                                                                      \
  "%29,%30,%31}"
#define MUSE_REGISTERS_72                                                                                    \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%" \
  "28,"                                                                                                      \
  "%29,%30,%31,%32,%33,%34,%35}"
#define MUSE_REGISTERS_128                                                                                   \
  "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%" \
  "28,"                                                                                                      \
  "%29,%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54," \
  "%55,"                                                                                                     \
  "%56,%57,%58,%59,%60,%61,%62,%63}"
// C += A B with A in registers (B perhaps transposed), and with A in shared memory.
#define MUSE_WGMMA(Columns, Type, TypeName)                                                               \
  template <int Transposed>                                                                               \
  __device__ __forceinline__ void wgmma(float(&c)[Columns / 8][4], const std::uint32_t(&a)[4],            \
                                        std::uint64_t b, int add, TypeName) {                             \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" MUSE_OPERAND_ADD_##Columns                      \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #Columns "k16.f32." Type "." Type                    \
                 " " MUSE_REGISTERS_##Columns ", {" MUSE_OPERANDS_A_##Columns                             \
                 "}, %" MUSE_OPERAND_B_##Columns ", add, 1, 1, %" MUSE_OPERAND_T_##Columns ";\n}"         \
                 : MUSE_OUTPUTS_##Columns                                                                 \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(Transposed));        \
  }                                                                                                       \
  __device__ __forceinline__ void wgmma(float(&c)[Columns / 8][4], std::uint64_t a, std::uint64_t b,      \
                                        int add, TypeName) {                                              \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" MUSE_OPERAND_SHARED_ADD_##Columns               \
                 ", 0;\n"                                                                                 \
                 "wgmma.mma_async.sync.aligned.m64n" #Columns "k16.f32." Type "." Type                    \
                 " " MUSE_REGISTERS_##Columns ", " MUSE_OPERANDS_SHARED_##Columns ", add, 1, 1, 0, 0;\n}" \
                 : MUSE_OUTPUTS_##Columns                                                                 \
                 : "l"(a), "l"(b), "r"(add));                                                             \
  }
#define MUSE_OPERANDS_A_72 "%36,%37,%38,%39"
#define MUSE_OPERAND_B_72 "40"
#define MUSE_OPERAND_ADD_72 "41"
#define MUSE_OPERAND_T_72 "42"
#define MUSE_OUTPUTS_72 MUSE_C32(c, 0), "+f"(c[8][0]), "+f"(c[8][1]), "+f"(c[8][2]), "+f"(c[8][3])
#define MUSE_OPERANDS_SHARED_72 "%36, %37"
#define MUSE_OPERAND_SHARED_ADD_72 "38"
#define MUSE_OPERANDS_A_64 "%32,%33,%34,%35"
#define MUSE_OPERAND_B_64 "36"
#define MUSE_OPERAND_ADD_64 "37"
#define MUSE_OPERAND_T_64 "38"
#define MUSE_OUTPUTS_64 MUSE_C32(c, 0)
#define MUSE_OPERANDS_SHARED_64 "%32, %33"
#define MUSE_OPERAND_SHARED_ADD_64 "34"
#define MUSE_OPERANDS_A_128 "%64,%65,%66,%67"
#define MUSE_OPERAND_B_128 "68"
#define MUSE_OPERAND_ADD_128 "69"
#define MUSE_OPERAND_T_128 "70"
#define MUSE_OUTPUTS_128 MUSE_C32(c, 0), MUSE_C32(c, 8)
#define MUSE_OPERANDS_SHARED_128 "%64, %65"
#define MUSE_OPERAND_SHARED_ADD_128 "66"
MUSE_WGMMA(64, "bf16", __nv_bfloat16)
MUSE_WGMMA(64, "f16", __half)
MUSE_WGMMA(72, "bf16", __nv_bfloat16)
MUSE_WGMMA(72, "f16", __half)
MUSE_WGMMA(128, "bf16", __nv_bfloat16)
MUSE_WGMMA(128, "f16", __half)

/// The products of attention of a warpgroup's 64 queries, which lie in shared memory as the keys do. All four
/// warps call each function together.
template <int D, class Element>
struct WgmmaEngine {
  std::uint32_t q_shared;

  /// Begins s = Q Kᵀ for a tile of `Keys` keys; wgmma_wait and fence_registers end it.
  template <int Keys>
  __device__ __forceinline__ void begin_dot(float (&s)[1][Keys / 8][4], std::uint32_t k_shared) const {
    fence_registers(s[0]);
    wgmma_begin();
    const MatrixDescriptor q(q_shared, 16), k(k_shared, 16);
#pragma unroll
    for (int kk = 0; kk < D / 16; ++kk)
      wgmma(s[0], q.behind(kk / 4 * (64 * 128) + kk % 4 * 32), k.behind(kk / 4 * (Keys * 128) + kk % 4 * 32),
            kk > 0, Element());
    wgmma_commit();
  }

  /// Whether there is an instruction for values with 8 columns of ones behind the last.
  static constexpr bool kSums = D == 64;
  /// Shared memory that must hold ones for it.
  static constexpr int kOnesBytes = kSums ? 2048 : 0;

  /// Begins o += P V for a tile of `Keys` values; where o has 8 more columns also the sum of P, by the ones
  /// at `ones_shared`.
  template <int Keys, int Tiles>
  static __device__ __forceinline__ void begin_accumulate(float (&o)[Tiles][4],
                                                          const std::uint32_t (&weights)[Keys / 16][4],
                                                          std::uint32_t v_shared, std::uint32_t ones_shared) {
    constexpr bool kOnes = Tiles > D / 8;
    fence_registers(o);
    wgmma_begin();
    // The next 64 columns are those of the values, or ones: the same 16 rows for every 16 keys.
    const MatrixDescriptor v(v_shared, kOnes ? ones_shared - v_shared : Keys * 128);
#pragma unroll
    for (int kk = 0; kk < Keys / 16; ++kk)
      wgmma<1>(o, weights[kk], v.behind(kk * 2048, kOnes ? -kk * 2048 : 0), 1, Element());
    wgmma_commit();
  }

  /// The tensor cores read shared memory through a proxy of their own.
  static __device__ __forceinline__ void publish_copies() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
};

}  // namespace muse::cuda
