#include "muse/causal_hierarchy.h"

#include <doctest/doctest.h>

#include <omp.h>
#include <algorithm>
#include <mutex>
#include <vector>

#include "muse/check.h"

using namespace muse;

namespace {

// The sizes that hurt: 1, B, B ± 1, powers of two and their neighbours, primes.
std::vector<Index> sizes_around(Index B) {
  std::vector<Index> sizes{1, 2, 3, 5, 13, 31, 64, 97, 113, 127, 128, 131};
  for (const Index N :
       {B - 1, B, B + 1, 2 * B - 1, 2 * B, 2 * B + 1, 3 * B, 4 * B - 1, 4 * B + 1, 5 * B, 8 * B + 3})
    if (N >= 1 && N <= 200) sizes.push_back(N);
  return sizes;
}

constexpr Index kBlocks[] = {1, 2, 3, 4, 7, 8, 16, 17, 31, 64, 100, 128, 150, 1000};

}  // namespace

TEST_CASE(
    "diagonal and far blocks cover each pair (query, key not after it) exactly once, and no other pair") {
  for (const Index B : kBlocks) {
    for (const Index N : sizes_around(B)) {
      CAPTURE(N);
      CAPTURE(B);
      std::vector<int> covered(static_cast<std::size_t>(N * N), 0);
      for (const Block& block : diagonal_blocks(N, B)) {
        REQUIRE(block.query_begin >= 0);
        REQUIRE(block.query_end <= N);
        CHECK(block.level == -1);
        CHECK(block.query_begin == block.key_begin);
        CHECK(block.query_end == block.key_end);
        CHECK(block.queries() <= B);
        // Exact and causal.
        for (Index t = block.query_begin; t < block.query_end; ++t)
          for (Index n = block.key_begin; n <= t; ++n) ++covered[static_cast<std::size_t>(t * N + n)];
      }
      for (const Block& block : far_blocks(N, B)) {
        REQUIRE(block.key_begin >= 0);
        REQUIRE(block.query_end <= N);
        CHECK(block.queries() >= 1);
        // A first half is full, and ends where its second half begins.
        REQUIRE(block.keys() == B << block.level);
        CHECK(block.key_end == block.query_begin);
        CHECK(block.queries() <= block.keys());
        CHECK(block.key_begin % (2 * block.keys()) == 0);
        for (Index t = block.query_begin; t < block.query_end; ++t)
          for (Index n = block.key_begin; n < block.key_end; ++n)
            ++covered[static_cast<std::size_t>(t * N + n)];
      }
      Index wrong = 0;
      for (Index t = 0; t < N; ++t)
        for (Index n = 0; n < N; ++n)
          wrong += covered[static_cast<std::size_t>(t * N + n)] == (n <= t ? 1 : 0) ? 0 : 1;
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the number of levels is the number of sizes B, 2B, 4B, … below N, each with a far block") {
  for (const Index B : kBlocks) {
    for (const Index N : sizes_around(B)) {
      CAPTURE(N);
      CAPTURE(B);
      Index expected = 0;
      for (Index S = B; S < N; S = S + S) ++expected;
      CHECK(level_count(N, B) == expected);
      std::vector<bool> has_block(static_cast<std::size_t>(expected), false);
      Index last_level = 0;
      for (const Block& block : far_blocks(N, B)) {
        REQUIRE(block.level >= 0);
        REQUIRE(block.level < expected);
        CHECK(block.level >= last_level);  // level by level
        last_level = block.level;
        has_block[static_cast<std::size_t>(block.level)] = true;
      }
      for (const bool level : has_block) CHECK(level);
    }
  }
  CHECK(level_count(1024, 1024) == 0);
  CHECK(level_count(1025, 1024) == 1);
  CHECK(level_count(65536, 1024) == 6);
}

TEST_CASE("7 tokens in blocks of 2, by hand") {
  CHECK(diagonal_blocks(7, 2) ==
        std::vector<Block>{{-1, 0, 2, 0, 2}, {-1, 2, 4, 2, 4}, {-1, 4, 6, 4, 6}, {-1, 6, 7, 6, 7}});
  CHECK(far_blocks(7, 2) == std::vector<Block>{{0, 2, 4, 0, 2}, {0, 6, 7, 4, 6}, {1, 4, 7, 0, 4}});
}

TEST_CASE(
    "a longer sequence keeps the blocks of the shorter one, but for the length of their second halves") {
  for (const Index B : {1, 3, 8}) {
    for (Index n = 1; n < 60; ++n) {
      const std::vector<Block> shorter = far_blocks(n, B), longer = far_blocks(n + 23, B);
      std::size_t found = 0;
      for (const Block& block : longer) {
        if (block.query_begin >= n) continue;
        REQUIRE(found < shorter.size());
        CHECK(shorter[found].level == block.level);
        CHECK(shorter[found].key_begin == block.key_begin);
        CHECK(shorter[found].key_end == block.key_end);
        CHECK(shorter[found].query_begin == block.query_begin);
        ++found;
      }
      CHECK(found == shorter.size());
    }
  }
}

TEST_CASE("each block is worked on once, level after level, on any number of threads") {
  const int threads_before = omp_get_max_threads();
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    for (const Index N : {1, 17, 100, 1000}) {
      CAPTURE(threads);
      CAPTURE(N);
      const std::vector<Block> blocks = far_blocks(N, 8);
      std::mutex mutex;
      std::vector<Block> seen;
      for_each_block(blocks, [&](const Block& block) {
        const std::lock_guard lock(mutex);
        seen.push_back(block);
      });
      CHECK(std::is_sorted(seen.begin(), seen.end(),
                           [](const Block& a, const Block& b) { return a.level < b.level; }));
      std::sort(seen.begin(), seen.end(), [](const Block& a, const Block& b) {
        return a.level != b.level ? a.level < b.level : a.key_begin < b.key_begin;
      });
      CHECK(seen == blocks);
      // What one of them throws is thrown on.
      if (!blocks.empty())
        CHECK_THROWS_AS(for_each_block(blocks, [](const Block&) { throw MisfitError("this one"); }),
                        MisfitError);
    }
  }
  omp_set_num_threads(threads_before);
}

TEST_CASE("every piece of work is done once, on any number of threads, large ones by all together") {
  const int threads_before = omp_get_max_threads();
  for (const int threads : {1, 2, 3, 8}) {
    omp_set_num_threads(threads);
    for (const std::vector<double>& sizes :
         {std::vector<double>{}, {1}, {1, 1, 1, 1, 1}, {1, 0, 100, 3, 0, 2}, {8, 4, 4, 2, 2, 2, 2, 0}}) {
      CAPTURE(threads);
      CAPTURE(sizes.size());
      std::vector<int> done(sizes.size(), 0), alone(sizes.size(), 0);
      std::vector<Work> pieces;
      for (std::size_t i = 0; i < sizes.size(); ++i)
        pieces.push_back({sizes[i], [&, i] {
                            ++done[i];
                            alone[i] = omp_in_parallel() == 0 ? 1 : 0;
                          }});
      do_in_any_order(pieces);
      for (const int times : done) CHECK(times == 1);
      double total = 0, largest = 0;
      for (const double size : sizes) {
        total += size;
        largest = std::max(largest, size);
      }
      // With several threads, a piece is shared inside if it is larger than a thread's share.
      for (std::size_t i = 0; threads > 1 && i < sizes.size(); ++i)
        if (sizes[i] == largest) CHECK((alone[i] == 1) == (largest * threads > total));
      // What one of them throws is thrown on.
      if (pieces.empty()) continue;
      pieces.back().run = [] { throw MisfitError("this one"); };
      CHECK_THROWS_AS(do_in_any_order(pieces), MisfitError);
    }
  }
  omp_set_num_threads(threads_before);
}

TEST_CASE("no tokens have no blocks, and a block of no tokens is refused") {
  CHECK(diagonal_blocks(0, 4).empty());
  CHECK(far_blocks(0, 4).empty());
  CHECK_THROWS_AS(static_cast<void>(level_count(4, 0)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(far_blocks(4, 0)), MisfitError);
  CHECK_THROWS_AS(static_cast<void>(diagonal_blocks(4, 0)), MisfitError);
}
