// Softmax attention on Hopper (sm_90a) as a pipeline inside a thread block: one warpgroup gathers rows of
// keys and values into a ring of shared memory, and warpgroups of 64 queries each work on what has arrived.
// With several thread blocks on a multiprocessor, one block's exponentials run while another's products do.
#pragma once

#include "wgmma.cuh"

namespace muse::cuda {

__device__ __forceinline__ void barrier_init(std::uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
__device__ __forceinline__ void barrier_arrive(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives when this thread's copies so far have landed.
__device__ __forceinline__ void barrier_arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ void barrier_wait(std::uint32_t barrier, int parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@done bra "
      "over;\n"
      "bra again;\nover:\n}" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

/// A key of the stream: its row in the tile's tables, and what is added to its logits (in units of log 2).
struct KeyRow {
  std::int32_t row = -1;  ///< -1: no key
  float bias = -INFINITY;
};

/// Where a tile's keys and values lie: row n at `k` + n · `k_stride` bytes.
struct KeyTables {
  const void* k;
  const void* v;
  std::uint32_t k_stride, v_stride;
};

/// The ring, and the two sides of it. `Consumers` warpgroups of 64 queries, then one that copies. Registers
/// move from the latter to the former; `Resident` thread blocks share a multiprocessor's.
template <int D, int Consumers, int Stages, int Resident, class Element>
struct AttentionPipeline {
  static constexpr int kKeys = 64;
  static constexpr int kThreads = 128 * Consumers + 128;
  static constexpr int kProducerRegisters = 40;
  // Every thread starts with the same number; what the copying warpgroup gives up, the others take.
  static constexpr int kStartRegisters = 65536 / Resident / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters =
      (kStartRegisters * (Consumers + 1) - kProducerRegisters) / Consumers / 8 * 8;
  static_assert(kStartRegisters > kProducerRegisters && kConsumerRegisters <= 256);
  static constexpr int kTile = SwizzledTile<D, kKeys>::kBytes;
  struct Shared {
    unsigned char k[Stages][kTile];
    unsigned char v[Stages][kTile];
    float bias[Stages][kKeys];
    std::uint64_t full[Stages], empty[Stages];
  };

  Shared& shared;

  static __device__ __forceinline__ bool is_consumer() { return threadIdx.x < 128 * Consumers; }

  /// By all threads of the thread block.
  __device__ __forceinline__ void begin() {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < Stages; ++stage) {
        barrier_init(shared_address(&shared.full[stage]),
                     256);  // each copying thread: its copies, its biases
        barrier_init(shared_address(&shared.empty[stage]), 4 * Consumers);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
  }

  /// The copying warpgroup: `tiles` tiles of 64 keys; find(place) gives the key at a place of the stream,
  /// tables(t) where the rows of tile t are. Each warp copies 16 of a tile's rows.
  template <class Find, class Tables>
  __device__ __forceinline__ void produce(int tiles, Find find, Tables tables) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kProducerRegisters));
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 16;
    constexpr int kPieces = D / 8,
                  kRows = 32 / kPieces;  // 16-byte pieces of a row; rows that the warp copies at once
    KeyRow next = find(first + lane % 16);
    for (int t = 0; t < tiles; ++t) {
      const int stage = t % Stages;
      const KeyRow now = next;
      // Look up the next tile while this one waits for room.
      if (t + 1 < tiles) next = find((t + 1) * kKeys + first + lane % 16);
      const KeyTables table = tables(t);
      const char* const k = static_cast<const char*>(table.k) + lane % kPieces * 16;
      const char* const v = static_cast<const char*>(table.v) + lane % kPieces * 16;
      if (t >= Stages) barrier_wait(shared_address(&shared.empty[stage]), (t / Stages - 1) % 2);
      if (lane < 16) shared.bias[stage][first + lane] = now.bias;
      const std::uint32_t k_shared = shared_address(shared.k[stage]),
                          v_shared = shared_address(shared.v[stage]);
#pragma unroll
      for (int pass = 0; pass < 16 / kRows; ++pass) {
        const int n = pass * kRows + lane / kPieces;
        const int row = __shfl_sync(0xffffffffu, now.row, n);
        const std::uint64_t from = row < 0 ? 0 : row;  // a key that does not exist is read as zeros
        const std::uint32_t offset = SwizzledTile<D, kKeys>::offset(first + n, lane % kPieces);
        copy_async(k_shared + offset, k + from * table.k_stride, row >= 0);
        copy_async(v_shared + offset, v + from * table.v_stride, row >= 0);
      }
      barrier_arrive_after_copies(shared_address(&shared.full[stage]));
      barrier_arrive(shared_address(&shared.full[stage]));
    }
  }

  static __device__ __forceinline__ void begin_consuming() {
    asm volatile(
        "setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kConsumerRegisters < 240 ? kConsumerRegisters : 240));
  }

  /// A consumer warpgroup: its queries' fragments are in `engine`. look(t, s, bias) changes the dot products
  /// of tile t into logits / `scale`, and says whether it left them in units of log 2 instead. Where several
  /// warpgroups make up a thread block that has the multiprocessor for itself, the warps work on the next
  /// tile's weights while the tensor cores multiply one tile's weights by its values. A single one leaves
  /// that to the other thread blocks.
  template <class Look>
  __device__ __forceinline__ void consume(int tiles, const WgmmaEngine<D, Element>& engine,
                                          SoftmaxRows<D, 1>& attention, float scale, bool warp_has_rows,
                                          Look look) {
    float s[1][kKeys / 8][4], factor[1][2];
    std::uint32_t weights[kKeys / 16][4];
    const auto weigh = [&](int t) {
      bool changed = false;
      if (warp_has_rows) {
        const bool ready = look(t, s, shared.bias[t % Stages]);
        changed = attention.template weigh<kKeys>(s, ready ? 1 : scale, factor);
      }
      return changed;
    };
    const auto pack_all = [&] {
#pragma unroll
      for (int kk = 0; kk < kKeys / 16; ++kk)
        pack_weights(weights[kk], s[0][2 * kk], s[0][2 * kk + 1], Element());
    };
    const auto begin_dot = [&](int t) {
      barrier_wait(shared_address(&shared.full[t % Stages]), t / Stages % 2);
      WgmmaEngine<D, Element>::publish_copies();
      engine.template begin_dot<kKeys>(s, shared_address(shared.k[t % Stages]));
    };
    if constexpr (Consumers == 1) {
      for (int t = 0; t < tiles; ++t) {
        begin_dot(t);
        wgmma_wait<0>();
        fence_registers(s[0]);
        if (weigh(t)) attention.rescale(factor);
        pack_all();
        WgmmaEngine<D, Element>::template begin_accumulate<kKeys>(attention.o, weights,
                                                                  shared_address(shared.v[t % Stages]));
        wgmma_wait<0>();
        fence_registers(attention.o[0]);
        __syncwarp();  // every lane has read its biases
        if (threadIdx.x % 32 == 0) barrier_arrive(shared_address(&shared.empty[t % Stages]));
      }
      return;
    }
    begin_dot(0);
    wgmma_wait<0>();
    fence_registers(s[0]);
    weigh(0);
    pack_all();
    for (int t = 0; t + 1 < tiles; ++t) {
      begin_dot(t + 1);
      WgmmaEngine<D, Element>::template begin_accumulate<kKeys>(attention.o, weights,
                                                                shared_address(shared.v[t % Stages]));
      wgmma_wait<1>();
      fence_registers(s[0]);
      const bool changed = weigh(t + 1);
      wgmma_wait<0>();
      fence_registers(attention.o[0]);
      __syncwarp();  // every lane has read its biases
      if (threadIdx.x % 32 == 0) barrier_arrive(shared_address(&shared.empty[t % Stages]));
      if (changed) attention.rescale(factor);
      pack_all();
    }
    WgmmaEngine<D, Element>::template begin_accumulate<kKeys>(attention.o, weights,
                                                              shared_address(shared.v[(tiles - 1) % Stages]));
    wgmma_wait<0>();
    fence_registers(attention.o[0]);
  }
};

/// The A fragments of this warp's 16 of 64 query rows, straight from device memory. row(n) is query n's first
/// element, or nullptr for zeros.
template <int D, class Element, class Row>
__device__ __forceinline__ void read_queries(WgmmaEngine<D, Element>& engine, Row row) {
  const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 16 + lane / 4;
#pragma unroll
  for (int h = 0; h < 2; ++h) {
    const Element* q = row(first + 8 * h);
#pragma unroll
    for (int kk = 0; kk < D / 16; ++kk)
#pragma unroll
      for (int right = 0; right < 2; ++right)
        engine.a[0][kk][2 * right + h] =
            q == nullptr ? 0
                         : *reinterpret_cast<const std::uint32_t*>(q + kk * 16 + right * 8 + lane % 4 * 2);
  }
}

}  // namespace muse::cuda
