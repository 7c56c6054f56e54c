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

/// What a slot for a tile of queries holds.
enum class SlotWork : std::int32_t {
  tile,   ///< a new one
  again,  ///< the one before it, whose failed rows are done again, with care
  none,   ///< nothing
  end     ///< nothing, and no more will come
};

/// The numbers 0, 1, 2, … of a launch's tiles, which its thread blocks take one by one. Which thread block
/// works on a tile shows in no bit.
class TileCounter {
 public:
  /// `next` in memory is zero before the launch; `taken` is memory of the copying warpgroup.
  __device__ TileCounter(std::int32_t* next, std::int32_t (&taken)[2]) : next_(next), taken_(taken) {
    if (threadIdx.x % 128 == 0) ahead_ = atomicAdd(next_, 1);
  }
  /// The next number; it may be beyond the last tile. By all threads of the copying warpgroup, which wait for
  /// each other here.
  [[nodiscard]] __device__ __forceinline__ int take() {
    // One thread has asked ahead: the answer takes long.
    if (threadIdx.x % 128 == 0) {
      taken_[turn_] = ahead_;
      ahead_ = atomicAdd(next_, 1);
    }
    asm volatile("bar.sync 3, 128;" ::: "memory");
    const int number = taken_[turn_];
    turn_ ^= 1;
    return number;
  }

 private:
  std::int32_t* next_;
  std::int32_t (&taken_)[2];
  int ahead_ = 0, turn_ = 0;
};

/// The ring, and the two sides of it. `Consumers` warpgroups of 64 queries, then one that copies. Registers
/// move from the latter to the former; `Resident` thread blocks share a multiprocessor's. Every key that is
/// copied serves all consumers: with many thread blocks on few rows each, the second-level cache is the
/// limit. `Slots` tiles of queries have a place: with two, the next tile's are copied while one's are worked
/// on. `Beside`: something goes with each key that threads read themselves; the tensor cores read the rest.
///
/// With two slots a thread block goes from tile to tile of queries (produce_tiles). It attends without
/// looking at maxima, which is much of the work, once each row has seen a key, and writes the rows where that
/// went well. A tile that has rows whose logits rose by some 40 units beyond their first ones comes again in
/// its slot, and is done with care, for those rows alone: a row's bits never depend on other rows. Weights of
/// float16 would overflow early: always with care.
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
  static constexpr bool kAlwaysCareful = !std::is_same_v<Element, __nv_bfloat16>;
  static constexpr int kReleases = Beside ? 128 : 4;  // arrivals by which a consumer gives a tile back
  struct Shared {
    unsigned char q[Slots][Consumers][SwizzledTile<D, 64>::kBytes];
    unsigned char k[Stages][kTile];
    unsigned char v[Stages][kTile];
    unsigned char ones[WgmmaEngine<D, Element>::kOnesBytes + 16];
    std::uint64_t full[Stages], empty[Stages];
    std::uint64_t q_full[Slots], q_empty[Slots];
    SlotWork work[Slots];
    /// Of each warp's rows that failed a bit: row 8 h + g of them has bit 4 g + h.
    std::uint32_t failed_rows[Slots][4 * Consumers];
    std::int32_t taken[2];  ///< of TileCounter
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
    if (threadIdx.x < Slots * 4 * Consumers) shared.failed_rows[0][threadIdx.x] = 0;
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

  /// The copying warpgroup: brings one tile of queries after the other, and their keys. look_ahead(), which
  /// makes the warpgroup's threads wait for each other, finds the next tile: whether there is one. It does so
  /// before the keys of the tile at hand are copied. copy_queries(slot) copies the queries of the tile that
  /// it found and writes what goes with them to places of that slot; copy_keys(slot) produces the slot's
  /// keys, once or again.
  template <class LookAhead, class CopyQueries, class CopyKeys>
  __device__ __forceinline__ void produce_tiles(LookAhead look_ahead, CopyQueries copy_queries,
                                                CopyKeys copy_keys) {
    bool more = look_ahead();
    // All ends when both slots have held nothing, one after the other: then nothing can come again.
    for (int empty = 0; empty < Slots;) {
      const int stage = slot.stage;
      barrier_wait(shared_address(&shared.q_empty[stage]), slot.parity ^ 1);
      // A slot that is free again says how its last tile went.
      std::uint32_t failed = 0;
      for (int warp = 0; warp < 4 * Consumers; ++warp) failed |= shared.failed_rows[stage][warp];
      const SlotWork work = failed != 0 ? SlotWork::again : more ? SlotWork::tile : SlotWork::none;
      empty = work == SlotWork::none ? empty + 1 : 0;
      if (work == SlotWork::tile) copy_queries(stage);
      if (threadIdx.x % 128 == 0) shared.work[stage] = empty == Slots ? SlotWork::end : work;
      // Once this thread's copies have landed, and its writes.
      barrier_arrive_after_copies(shared_address(&shared.q_full[stage]));
      barrier_arrive(shared_address(&shared.q_full[stage]));
      slot.advance();
      if (work == SlotWork::tile) more = look_ahead();
      if (work != SlotWork::none) copy_keys(stage);
    }
  }

  /// The copying warpgroup: queries that lie anywhere. Thread n has the `token` of query n, which is at
  /// q + token · stride bytes; there are `queries`.
  __device__ __forceinline__ void copy_queries_of(int queries, std::int32_t token, const void* q,
                                                  std::uint32_t stride) {
    static_assert(Consumers <= 2, "a thread a query");
    constexpr int kPieces = D / 8, kRows = 32 / kPieces;
    const int first = threadIdx.x % 128 / 32 * 32;  // of this warp's queries
    // Hides that the lane never changes: what follows from it is made again, rather than kept in registers
    // that are short.
    int lane = threadIdx.x % 32;
    asm volatile("" : "+r"(lane));
    const std::uint32_t q_shared = shared_address(shared.q[slot.stage][first / 64]) +
                                   SwizzledTile<D, 64>::offset(first % 64 + lane / kPieces, lane % kPieces);
    if (first >= queries) return;
#pragma unroll
    for (int pass = 0; pass < 32 / kRows; ++pass) {
      const int n = pass * kRows + lane / kPieces;
      const std::int32_t row = __shfl_sync(0xffffffffu, token, n);
      const char* const from = static_cast<const char*>(q) + std::int64_t{row} * stride + lane % kPieces * 16;
      copy_async(SwizzledTile<D, 64>::further(q_shared, pass * kRows), from, first + n < queries);
    }
  }
  /// The same for queries that lie one behind the other, from q on. Places behind them become zero.
  __device__ __forceinline__ void copy_queries_from(int queries, const void* q, std::uint32_t stride) {
    constexpr int kPieces = D / 8, kRows = 128 / kPieces;
    const int n = threadIdx.x % 128, piece = n % kPieces;
#pragma unroll 4
    for (int row = n / kPieces; row < 64 * Consumers; row += kRows)
      copy_async(
          shared_address(shared.q[slot.stage][row / 64]) + SwizzledTile<D, 64>::offset(row % 64, piece),
          static_cast<const char*>(q) + std::int64_t{min(row, queries - 1)} * stride + piece * 16,
          row < queries);
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
  /// A consuming warpgroup: waits for what comes to the next slot, its own queries in the result; what was
  /// written beside them is in the places of `slot`.
  [[nodiscard]] __device__ __forceinline__ WgmmaEngine<D, Element> await_queries() {
    barrier_wait(shared_address(&shared.q_full[slot.stage]), slot.parity);
    WgmmaEngine<D, Element>::publish_copies();
    return {shared_address(shared.q[slot.stage][group()])};
  }
  [[nodiscard]] __device__ __forceinline__ SlotWork work() const {
    return shared.work[slot.stage];
  }
  /// A consuming warpgroup: has attended; says which rows failed. wanted[h]: whether there is a row 8 h +
  /// lane / 4 of this warp; becomes whether it is to be written.
  __device__ __forceinline__ void judge_rows(const Rows& attention, bool again, bool (&wanted)[2]) {
    if constexpr (!kAlwaysCareful) {
      const int lane = threadIdx.x % 32;
      std::uint32_t& failed_rows = shared.failed_rows[slot.stage][threadIdx.x / 32];
      // Lane 0 alone reads and writes the word.
      const std::uint32_t before = __shfl_sync(0xffffffffu, again && lane == 0 ? failed_rows : 0, 0);
      bool failed[2] = {};
      for (int h = 0; h < 2; ++h) {
        if (again) wanted[h] = wanted[h] && (before >> (lane / 4 * 4 + h) & 1) != 0;
        failed[h] = !again && wanted[h] && attention.overflows(0, h);
        wanted[h] = wanted[h] && !failed[h];
      }
      const std::uint32_t bits =
          __ballot_sync(0xffffffffu, (lane % 4 == 0 && failed[0]) || (lane % 4 == 1 && failed[1]));
      if (lane == 0) failed_rows = bits;
    }
  }
  /// A consuming warpgroup: is done with what the slot holds.
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
  /// each other, and save the registers. `again`: every tile's maximum is looked at. Otherwise only until
  /// each row has seen a key; see SoftmaxRows::overflows.
  template <class Look>
  __device__ __forceinline__ void consume(int tiles, const WgmmaEngine<D, Element>& engine, Rows& attention,
                                          bool warp_has_rows, bool again, Look look) {
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
          settled = !kAlwaysCareful && !again && attention.settled();
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
