// How causal attention is covered by blocks (docs/math.md, section 6). A block is a rectangle of the
// attention matrix.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "muse/matrix.h"

namespace muse {

/// The queries [query_begin, query_end) against the keys [key_begin, key_end).
struct Block {
  Index level =
      -1;  ///< -1: a diagonal block, exact and causal; m >= 0: a far block of the level S = B 2^m, no mask
  Index query_begin = 0, query_end = 0;
  Index key_begin = 0, key_end = 0;

  [[nodiscard]] Index queries() const { return query_end - query_begin; }
  [[nodiscard]] Index keys() const { return key_end - key_begin; }
  friend bool operator==(const Block&, const Block&) = default;
};

/// Number of levels m = 0, 1, … with B 2^m < N.
[[nodiscard]] Index level_count(Index N, Index B);

/// (6.1) The far blocks of N tokens, level by level, from the first token on: at level m, with S = B 2^m, the
/// queries of each second half [(2t+1)S, min((2t+2)S, N)) against the keys of the first half [2tS, (2t+1)S).
[[nodiscard]] std::vector<Block> far_blocks(Index N, Index B);

/// The diagonal blocks: tokens [tB, min((t+1)B, N)) against themselves.
[[nodiscard]] std::vector<Block> diagonal_blocks(Index N, Index B);

/// Calls work(block) once for every block, level after level. Where a level has enough blocks for all threads
/// they run side by side, else one after the other, so that the threads can share the work inside. What the
/// first exception says is thrown on. `blocks` are sorted by level.
void for_each_block(std::span<const Block> blocks, const std::function<void(const Block&)>& work);

/// A piece of work that depends on no other, and how much it is, in any unit.
struct Work {
  double size = 0;
  std::function<void()> run;
};

/// Does all pieces, in any order: those larger than a thread's share of the rest one after the other, so that
/// the threads can share the work inside, then all others side by side, the largest first. What the first
/// exception says is thrown on.
void do_in_any_order(std::vector<Work> pieces);

}  // namespace muse
