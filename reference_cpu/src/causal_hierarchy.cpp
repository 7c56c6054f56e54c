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

void for_each_block(std::span<const Block> blocks, const std::function<void(const Block&)>& work) {
  for (std::size_t begin = 0, end = 0; begin < blocks.size(); begin = end) {
    while (end < blocks.size() && blocks[end].level == blocks[begin].level) ++end;
    const std::span<const Block> level = blocks.subspan(begin, end - begin);
    if (static_cast<int>(level.size()) < 2 * omp_get_max_threads()) {
      for (const Block& block : level) work(block);
      continue;
    }
    std::exception_ptr failure;  // none may leave a parallel region
#pragma omp parallel for schedule(dynamic)
    for (std::size_t b = 0; b < level.size(); ++b) {
      try {
        work(level[b]);
      } catch (...) {
#pragma omp critical(muse_for_each_block)
        failure = std::current_exception();
      }
    }
    if (failure) std::rethrow_exception(failure);
  }
}

}  // namespace muse
