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

/// Where a tile's keys and values lie: row n at `k` + n · `k_stride` bytes.
struct KeyTables {
  const void* k;
  const void* v;
  std::uint32_t k_stride, v_stride;
};

/// The ring, and the two sides of it. `Consumers` warpgroups of 64 queries, then one that copies. Registers
/// move from the latter to the former; `Resident` thread blocks share a multiprocessor's. Every key that is
/// copied serves all consumers: with many thread blocks on few rows each, the second-level cache is the
/// limit. `Slots` tiles of queries have a place: with two, the next tile's are copied while one's are worked
/// on. `Beside`: something goes with each key that threads read themselves; the tensor cores read the rest.
template <int D, int Consumers, int Stages, int Resident, int Slots, bool Beside, class Element>
struct AttentionPipeline {
  static constexpr int kKeys = 64;
  static constexpr int kThreads = 128 * Consumers + 128;
  static constexpr int kProducerRegisters = Slots == 1 || !Beside ? 32 : Resident == 1 ? 96 : 48;
  // Every thread starts with the same number; what the copying warpgroup gives up, the others take.
  static constexpr int kStartRegisters = 65536 / Resident / kThreads / 8 * 8;
  static constexpr int kConsumerRegisters =
      (kStartRegisters * (Consumers + 1) - kProducerRegisters) / Consumers / 8 * 8;
  static_assert(kStartRegisters > kProducerRegisters && kConsumerRegisters <= 256);
  static constexpr int kTile = SwizzledTile<D, kKeys>::kBytes;
  static constexpr int kReleases = Beside ? 128 : 4;  // arrivals by which a consumer gives a tile back
  struct Shared {
    unsigned char q[Slots][Consumers][SwizzledTile<D, 64>::kBytes];
    unsigned char k[Stages][kTile];
    unsigned char v[Stages][kTile];
    unsigned char ones[WgmmaEngine<D, Element>::kOnesBytes + 16];
    std::uint64_t full[Stages], empty[Stages];
    std::uint64_t q_full[Slots], q_empty[Slots];
  };

  using Rows = SoftmaxRows<D, 1, WgmmaEngine<D, Element>::kSums>;

  Shared& shared;

  /// This thread's warpgroup, in a way that shows the compiler that a warp's threads agree.
  static __device__ __forceinline__ int group() { return __shfl_sync(0xffffffffu, threadIdx.x / 128, 0); }
  static __device__ __forceinline__ bool is_consumer() { return group() < Consumers; }

  /// A place in a ring of `Size`, and the parity of its barriers this time round.
  template <int Size>
  struct RingPlace {
    int stage = 0, parity = 0;
    __device__ __forceinline__ void advance() {
      if (++stage == Size) stage = 0, parity ^= 1;
    }
  };
  using Place = RingPlace<Stages>;

  Place here;             ///< of this thread's next tile of keys
  RingPlace<Slots> slot;  ///< of this thread's tile of queries

  /// By all threads of the thread block.
  __device__ __forceinline__ void begin() {
    for (int x = threadIdx.x; x < WgmmaEngine<D, Element>::kOnesBytes / 4; x += kThreads)
      reinterpret_cast<std::uint32_t*>(shared.ones)[x] = pack(1, 1, Element());
    WgmmaEngine<D, Element>::publish_copies();
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < Stages; ++stage) {
        barrier_init(shared_address(&shared.full[stage]), 128);  // the copies of each copying thread
        barrier_init(shared_address(&shared.empty[stage]), kReleases * Consumers);
      }
      for (int stage = 0; stage < Slots; ++stage) {
        barrier_init(shared_address(&shared.q_full[stage]),
                     2 * 128);  // copies, and what is written beside them
        barrier_init(shared_address(&shared.q_empty[stage]), 128 * Consumers);
      }
      asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
  }

  /// The copying warpgroup, before it copies.
  static __device__ __forceinline__ void begin_producing() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kProducerRegisters));
  }
  /// The copying warpgroup: `tiles` tiles of 64 keys; find(place) gives the row of the key at a place of the
  /// stream, one that may be read even if there is no such key, tables(t) where the rows of tile t are. Each
  /// warp copies 16 of a tile's rows; its two halves look up those of two tiles, and do so two to four tiles
  /// ahead: an index takes as long to come as a tile's products. Its instructions share the schedulers with
  /// those of the consumers: every one counts. beside(t, stage, n, row) copies what else goes with key n of
  /// tile t, which is in that row.
  template <class Find, class Tables, class CopyBeside>
  __device__ __forceinline__ void produce(int tiles, Find find, Tables tables, CopyBeside beside) {
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 % 4 * 16;
    constexpr int kPieces = D / 8,
                  kRows = 32 / kPieces;  // 16-byte pieces of a row; rows that the warp copies at once
    const std::uint32_t piece = lane % kPieces * 16;
    const int place = lane / 16 * kKeys + first + lane % 16;  // this lane's, in a pair of tiles
    std::uint32_t now = find(place), next = find(2 * kKeys + place);
    for (int t = 0; t < tiles;) {
      const std::uint32_t after = find((t + 4) * kKeys + place);
#pragma unroll 1
      for (int half = 0; half < 2 && t < tiles; ++half, ++t, here.advance()) {
        const KeyTables table = tables(t);
        const char* const k = static_cast<const char*>(table.k) + piece;
        const char* const v = static_cast<const char*>(table.v) + piece;
        // A barrier of this parity is behind us when the ring is new.
        barrier_wait(shared_address(&shared.empty[here.stage]), here.parity ^ 1);
        const std::uint32_t offset = SwizzledTile<D, kKeys>::offset(first + lane / kPieces, lane % kPieces);
        const std::uint32_t k_shared = shared_address(shared.k[here.stage]) + offset,
                            v_shared = shared_address(shared.v[here.stage]) + offset;
#pragma unroll
        for (int pass = 0; pass < 16 / kRows; ++pass) {
          const std::uint32_t row = __shfl_sync(0xffffffffu, now, half * 16 + pass * kRows + lane / kPieces);
          copy_async(SwizzledTile<D, kKeys>::further(k_shared, pass * kRows),
                     k + std::uint64_t{row} * table.k_stride);
          copy_async(SwizzledTile<D, kKeys>::further(v_shared, pass * kRows),
                     v + std::uint64_t{row} * table.v_stride);
        }
        if (lane / 16 == half) beside(t, here.stage, first + lane % 16, now);
        barrier_arrive_after_copies(shared_address(&shared.full[here.stage]));
      }
      now = next;
      next = after;
    }
  }

  template <class Find, class Tables>
  __device__ __forceinline__ void produce(int tiles, Find find, Tables tables) {
    produce(tiles, find, tables, [](int, int, int, std::uint32_t) {});
  }

  /// The copying warpgroup: brings the next tile of queries to its slot. Thread n has the `token` of query n,
  /// which is at q + token · stride bytes; there are `queries`. write(slot), by all threads, writes what goes
  /// with them to places of that slot.
  template <class Write>
  __device__ __forceinline__ void produce_queries(int queries, std::int32_t token, const void* q,
                                                  std::uint32_t stride, Write write) {
    static_assert(Consumers <= 2, "a thread a query");
    constexpr int kPieces = D / 8, kRows = 32 / kPieces;
    const int first = threadIdx.x % 128 / 32 * 32;  // of this warp's queries
    // Hides that the lane never changes: what follows from it is made again, rather than kept in registers
    // that are short.
    int lane = threadIdx.x % 32;
    asm volatile("" : "+r"(lane));
    await_slot();
    const std::uint32_t q_shared = shared_address(shared.q[slot.stage][first / 64]) +
                                   SwizzledTile<D, 64>::offset(first % 64 + lane / kPieces, lane % kPieces);
    if (first < queries) {
#pragma unroll
      for (int pass = 0; pass < 32 / kRows; ++pass) {
        const int n = pass * kRows + lane / kPieces;
        const std::int32_t row = __shfl_sync(0xffffffffu, token, n);
        const char* const from =
            static_cast<const char*>(q) + std::int64_t{row} * stride + lane % kPieces * 16;
        copy_async(SwizzledTile<D, 64>::further(q_shared, pass * kRows), from, first + n < queries);
      }
    }
    write(slot.stage);
    publish_slot();
  }
  /// The same for queries that lie one behind the other, from q on. Places behind them become zero.
  template <class Write>
  __device__ __forceinline__ void produce_queries(int queries, const void* q, std::uint32_t stride,
                                                  Write write) {
    constexpr int kPieces = D / 8, kRows = 128 / kPieces;
    const int n = threadIdx.x % 128, piece = n % kPieces;
    await_slot();
#pragma unroll 4
    for (int row = n / kPieces; row < 64 * Consumers && queries > 0; row += kRows)
      copy_async(
          shared_address(shared.q[slot.stage][row / 64]) + SwizzledTile<D, 64>::offset(row % 64, piece),
          static_cast<const char*>(q) + std::int64_t{min(row, queries - 1)} * stride + piece * 16,
          row < queries);
    write(slot.stage);
    publish_slot();
  }
  /// The copying warpgroup: waits until the next slot is free.
  __device__ __forceinline__ void await_slot() {
    barrier_wait(shared_address(&shared.q_empty[slot.stage]), slot.parity ^ 1);
  }
  /// The copying warpgroup: gives the slot to the others, once its copies have landed.
  __device__ __forceinline__ void publish_slot() {
    barrier_arrive_after_copies(shared_address(&shared.q_full[slot.stage]));
    barrier_arrive(shared_address(&shared.q_full[slot.stage]));
    slot.advance();
  }

  /// A consuming warpgroup, before it consumes: takes its registers.
  static __device__ __forceinline__ void begin_consuming() {
    asm volatile(
        "setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kConsumerRegisters < 240 ? kConsumerRegisters : 240));
  }
  /// A consuming warpgroup: copies its 64 queries itself. row(n) is query n's first element, or nullptr for
  /// zeros; `any` is some address that may be read.
  template <class Row>
  [[nodiscard]] __device__ __forceinline__ WgmmaEngine<D, Element> load_queries(Row row, const Element* any) {
    const std::uint32_t q_shared = shared_address(shared.q[0][group()]);
    constexpr int kPieces = D / 8;
#pragma unroll
    for (int n0 = 0; n0 < 64; n0 += 128 / kPieces) {
      const int n = n0 + threadIdx.x % 128 / kPieces, piece = threadIdx.x % kPieces;
      const Element* q = row(n);
      copy_async(q_shared + SwizzledTile<D, 64>::offset(n, piece), q == nullptr ? any : q + piece * 8,
                 q != nullptr);
    }
    commit_copies();
    wait_copies<0>();
    WgmmaEngine<D, Element>::publish_copies();
    asm volatile("bar.sync %0, 128;" ::"r"(1 + group()) : "memory");
    return {q_shared};
  }
  /// A consuming warpgroup: waits for the next tile of queries, its own in the result; what was written
  /// beside them is in the places of `slot`.
  [[nodiscard]] __device__ __forceinline__ WgmmaEngine<D, Element> await_queries() {
    barrier_wait(shared_address(&shared.q_full[slot.stage]), slot.parity);
    WgmmaEngine<D, Element>::publish_copies();
    return {shared_address(shared.q[slot.stage][group()])};
  }
  /// A consuming warpgroup: is done with that tile of queries.
  __device__ __forceinline__ void release_queries() {
    barrier_arrive(shared_address(&shared.q_empty[slot.stage]));
    slot.advance();
  }

  /// A consuming warpgroup: what lies at `place` is no longer needed. Products end for a whole warp, and one
  /// thread says so; what threads read themselves, each has read when it says so.
  __device__ __forceinline__ void release(Place place) {
    if (Beside || threadIdx.x % 32 == 0) barrier_arrive(shared_address(&shared.empty[place.stage]));
  }
  /// A consuming warpgroup: lets `tiles` tiles of keys pass.
  __device__ __forceinline__ void skip(int tiles) {
    for (int t = 0; t < tiles; ++t, here.advance()) {
      barrier_wait(shared_address(&shared.full[here.stage]), here.parity);
      release(here);
    }
  }

  /// A consuming warpgroup: its queries are in `engine`. look(t, stage, s) changes the dot products of tile
  /// t, which lies in that stage of the ring, into logits, and says by what they are to be multiplied to be
  /// in units of log 2. Where a thread block has the multiprocessor for itself, the warps work on the next
  /// tile's weights while the tensor cores multiply one tile's weights by its values. Several leave that to
  /// each other, and save the registers. `careful`: every tile's maximum is looked at. Otherwise only until
  /// each row has seen a key; see SoftmaxRows::overflows.
  template <class Look>
  __device__ __forceinline__ void consume(int tiles, const WgmmaEngine<D, Element>& engine, Rows& attention,
                                          bool warp_has_rows, bool careful, Look look) {
    float s[1][kKeys / 8][4], factor[1][2];
    std::uint32_t weights[kKeys / 16][4];
    bool settled = false;
    // The logits of tile t become weights; whether what was summed before is to be rescaled.
    const auto weigh = [&](int t, Place place) {
      bool changed = false;
      if (warp_has_rows) {
        const float scale = look(t, place.stage, s);
        if (!settled) {
          changed = attention.template weigh<kKeys>(s, scale, factor);
          settled = !careful && attention.settled();
        } else {
          attention.template weigh_as_before<kKeys>(s, scale);
        }
      }
      return changed;
    };
    const auto pack_all = [&] {
#pragma unroll
      for (int kk = 0; kk < kKeys / 16; ++kk)
        pack_weights(weights[kk], s[0][2 * kk], s[0][2 * kk + 1], Element());
    };
    const auto begin_dot = [&](Place place) {
      barrier_wait(shared_address(&shared.full[place.stage]), place.parity);
      WgmmaEngine<D, Element>::publish_copies();
      engine.template begin_dot<kKeys>(s, shared_address(shared.k[place.stage]));
    };
    const auto begin_accumulate = [&](Place place) {
      WgmmaEngine<D, Element>::template begin_accumulate<kKeys>(
          attention.o[0], weights, shared_address(shared.v[place.stage]), shared_address(shared.ones));
    };
    if constexpr (Resident > 1) {
      for (int t = 0; t < tiles; ++t, here.advance()) {
        begin_dot(here);
        wgmma_wait<0>();
        fence_registers(s[0]);
        if (weigh(t, here)) attention.rescale(factor);
        pack_all();
        begin_accumulate(here);
        wgmma_wait<0>();
        fence_registers(attention.o[0]);
        release(here);
      }
      return;
    }
    begin_dot(here);
    wgmma_wait<0>();
    fence_registers(s[0]);
    weigh(0, here);
    pack_all();
    for (int t = 1; t < tiles; ++t) {
      Place next = here;
      next.advance();
      begin_dot(next);
      begin_accumulate(here);
      wgmma_wait<1>();
      fence_registers(s[0]);
      const bool changed = weigh(t, next);
      wgmma_wait<0>();
      fence_registers(attention.o[0]);
      release(here);
      if (changed) attention.rescale(factor);
      pack_all();
      here = next;
    }
    begin_accumulate(here);
    wgmma_wait<0>();
    fence_registers(attention.o[0]);
    release(here);
    here.advance();
  }
};

}  // namespace muse::cuda
