#include "muse/causal_hierarchy.h"

#include <omp.h>

#include <algorithm>
#include <exception>

#include "muse/check.h"

namespace muse {

Index level_count(Index N, Index B) {
  MUSE_REQUIRE(B >= 1, "level_count: expected a block of at least one token, found ", B);
  Index levels = 0;
  for (Index S = B; S < N; S *= 2) ++levels;
  return levels;
}

std::vector<Block> far_blocks(Index N, Index B) {
  std::vector<Block> blocks;
  const Index levels = level_count(N, B);
  Index S = B;
  for (Index level = 0; level < levels; ++level, S *= 2) {
    for (Index first = 0; first + S < N; first += 2 * S) {
      blocks.push_back({.level = level,
                        .query_begin = first + S,
                        .query_end = std::min(first + 2 * S, N),
                        .key_begin = first,
                        .key_end = first + S});
    }
  }
  return blocks;
}

std::vector<Block> diagonal_blocks(Index N, Index B) {
  MUSE_REQUIRE(B >= 1, "diagonal_blocks: expected a block of at least one token, found ", B);
  std::vector<Block> blocks;
  for (Index begin = 0; begin < N; begin += B) {
    const Index end = std::min(begin + B, N);
    blocks.push_back(
        {.level = -1, .query_begin = begin, .query_end = end, .key_begin = begin, .key_end = end});
  }
  return blocks;
}

namespace {

// Calls work(0) … work(count - 1), each on one thread.
void side_by_side(std::size_t count, const std::function<void(std::size_t)>& work) {
  std::exception_ptr failure;  // none may leave a parallel region
#pragma omp parallel for schedule(dynamic)
  for (std::size_t i = 0; i < count; ++i) {
    try {
      work(i);
    } catch (...) {
#pragma omp critical(muse_side_by_side)
      failure = std::current_exception();
    }
  }
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

void for_each_block(std::span<const Block> blocks, const std::function<void(const Block&)>& work) {
  const auto threads = static_cast<std::size_t>(omp_get_max_threads());
  for (std::size_t begin = 0, end = 0; begin < blocks.size(); begin = end) {
    while (end < blocks.size() && blocks[end].level == blocks[begin].level) ++end;
    const std::span<const Block> level = blocks.subspan(begin, end - begin);
    if (level.size() % threads == 0 || level.size() >= 2 * threads) {
      side_by_side(level.size(), [&](std::size_t b) { work(level[b]); });
    } else {
      for (const Block& block : level) work(block);
    }
  }
}

void do_in_any_order(std::vector<Work> pieces) {
  std::stable_sort(pieces.begin(), pieces.end(),
                   [](const Work& a, const Work& b) { return a.size > b.size; });
  // All threads together on each piece that is larger than a thread's share of those that are left.
  double left = 0;
  for (const Work& piece : pieces) left += piece.size;
  std::size_t done = 0;
  for (; done < pieces.size() && pieces[done].size * omp_get_max_threads() > left; ++done) {
    pieces[done].run();
    left -= pieces[done].size;
  }
  side_by_side(pieces.size() - done, [&](std::size_t i) { pieces[done + i].run(); });
}

}  // namespace muse
