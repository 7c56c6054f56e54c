#include "muse/exact_attention.h"

#include <algorithm>
#include <utility>

#include "muse/check.h"

namespace muse {
template <class Scalar>
Attention<Scalar> exact_attention(const MatrixView<Scalar>& q, const MatrixView<Scalar>& k,
                                  const MatrixView<Scalar>& v, Scalar scale, const Mask& mask,
                                  Progress* progress) {
  MUSE_REQUIRE_EQ(q.cols(), k.cols(), "exact_attention: queries and keys differ in dim");
  MUSE_REQUIRE_EQ(k.rows(), v.rows(), "exact_attention: keys and values differ in number");
  if (mask.causal || mask.block > 0)
    MUSE_REQUIRE_EQ(q.rows(), k.rows(), "exact_attention: a mask needs as many queries as keys");
  const Index Nq = q.rows(), Nk = k.rows(), Dv = v.cols();

  // The last tile of keys and values, filled up with zeros: every product below has one fixed shape.
  const Index tail = Nk / kTileKeys * kTileKeys;
  const Matrix<Scalar> k_tail = padded_rows<Scalar>(k, tail, Nk - tail, kTileKeys);  // [kTileKeys, D]
  const Matrix<Scalar> v_tail = padded_rows<Scalar>(v, tail, Nk - tail, kTileKeys);  // [kTileKeys, Dv]

  Attention<Scalar> out(Nq, Dv);
  const Index query_tiles = ceil_div(Nq, kTileQueries);
#pragma omp parallel
  {
    Matrix<Scalar> scores(kTileQueries, kTileKeys);  // s q·k, then e^{s q·k - m}
#pragma omp for schedule(dynamic)
    for (Index tile = query_tiles - 1; tile >= 0; --tile) {  // the longest causal rows first
      if (progress != nullptr && progress->cancel) continue;
      const Index t0 = tile * kTileQueries;
      const Index rows = std::min(kTileQueries, Nq - t0);
      // Scale the queries once: s q.
      const Matrix<Scalar> q_tile = scale * padded_rows<Scalar>(q, t0, rows, kTileQueries);
      RunningAttention<Scalar> sum(kTileQueries, Dv);

      // Visit the tiles of keys that some query of this tile sees.
      const Index first_key = mask.keys(t0, Nk).begin;
      const Index last_key = mask.keys(t0 + rows - 1, Nk).end;
      for (Index n0 = first_key / kTileKeys * kTileKeys; n0 < last_key; n0 += kTileKeys) {
        const MatrixView<Scalar> k_tile =
            n0 == tail ? MatrixView<Scalar>(k_tail) : k.middleRows(n0, kTileKeys);
        const MatrixView<Scalar> v_tile =
            n0 == tail ? MatrixView<Scalar>(v_tail) : v.middleRows(n0, kTileKeys);
        // Logits of the tile: s q·k. Where only its first half is seen, as at the end of every other tile of
        // causal queries, the rest is left out.
        const Index width = last_key - n0 <= kTileKeys / 2 ? kTileKeys / 2 : kTileKeys;
        auto weights = scores.leftCols(width);
        weights.noalias() = q_tile * k_tile.topRows(width).transpose();
        for (Index row = 0; row < rows; ++row) {
          // Keep the keys that this query sees.
          const Mask::Keys keys = mask.keys(t0 + row, Nk);
          const Index begin = std::clamp<Index>(keys.begin - n0, 0, width);
          const Index end = std::clamp<Index>(keys.end - n0, begin, width);
          weights.row(row).head(begin).setZero();
          weights.row(row).tail(width - end).setZero();
          if (begin < end) sum.weigh(row, weights.row(row).segment(begin, end - begin));
        }
        // Add the tile's values.
        sum.o.noalias() += weights * v_tile.topRows(width);
      }

      const Attention<Scalar> tile_out = std::move(sum).finish();
      out.o.middleRows(t0, rows) = tile_out.o.topRows(rows);
      out.lse.segment(t0, rows) = tile_out.lse.head(rows);
      if (progress != nullptr) progress->advance(pair_count(t0 + rows, Nk, mask) - pair_count(t0, Nk, mask));
    }
  }
  throw_if_cancelled(progress);
  return out;
}

double pair_count(Index Nq, Index Nk, const Mask& mask) {
  const auto triangle = [](double n) { return n * (n + 1) / 2; };
  const auto queries = static_cast<double>(Nq);
  if (mask.block > 0) {
    const Index blocks = Nq / mask.block, rest = Nq % mask.block;
    const auto whole = static_cast<double>(blocks), B = static_cast<double>(mask.block);
    if (mask.causal) return whole * triangle(B) + triangle(static_cast<double>(rest));
    return whole * B * B + static_cast<double>(rest * std::min(mask.block, Nk - blocks * mask.block));
  }
  return mask.causal ? triangle(queries) : queries * static_cast<double>(Nk);
}

template Attention<float> exact_attention<float>(const MatrixView<float>&, const MatrixView<float>&,
                                                 const MatrixView<float>&, float, const Mask&, Progress*);
template Attention<double> exact_attention<double>(const MatrixView<double>&, const MatrixView<double>&,
                                                   const MatrixView<double>&, double, const Mask&, Progress*);

}  // namespace muse
