#include "muse/exact_attention.h"

#include <algorithm>

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
    Matrix<Scalar> o_tile(kTileQueries, Dv);         // sum_n e^{s q·k_n - m} v_n so far
    Vector<Scalar> m(kTileQueries);                  // largest logit so far
    Vector<Scalar> l(kTileQueries);                  // sum_n e^{s q·k_n - m} so far
#pragma omp for schedule(dynamic)
    for (Index tile = query_tiles - 1; tile >= 0; --tile) {  // the longest causal rows first
      if (progress != nullptr && progress->cancel) continue;
      const Index t0 = tile * kTileQueries;
      const Index rows = std::min(kTileQueries, Nq - t0);
      // Scale the queries once: s q.
      const Matrix<Scalar> q_tile = scale * padded_rows<Scalar>(q, t0, rows, kTileQueries);
      o_tile.setZero();
      m.setConstant(-std::numeric_limits<Scalar>::infinity());
      l.setZero();

      // Visit the tiles of keys that some query of this tile sees.
      const Index first_key = mask.keys(t0, Nk).begin;
      const Index last_key = mask.keys(t0 + rows - 1, Nk).end;
      for (Index n0 = first_key / kTileKeys * kTileKeys; n0 < last_key; n0 += kTileKeys) {
        const MatrixView<Scalar> k_tile =
            n0 == tail ? MatrixView<Scalar>(k_tail) : k.middleRows(n0, kTileKeys);
        const MatrixView<Scalar> v_tile =
            n0 == tail ? MatrixView<Scalar>(v_tail) : v.middleRows(n0, kTileKeys);
        // Logits of the tile: s q·k.
        scores.noalias() = q_tile * k_tile.transpose();
        for (Index row = 0; row < rows; ++row) {
          // Keep the keys that this query sees.
          const Mask::Keys keys = mask.keys(t0 + row, Nk);
          const Index begin = std::clamp<Index>(keys.begin - n0, 0, kTileKeys);
          const Index end = std::clamp<Index>(keys.end - n0, begin, kTileKeys);
          auto weights = scores.row(row);
          weights.head(begin).setZero();
          weights.tail(kTileKeys - end).setZero();
          if (begin == end) continue;
          auto seen = weights.segment(begin, end - begin);
          // Move the running maximum, and rescale what was summed under the old one.
          const Scalar m_new = std::max(m[row], seen.maxCoeff());
          const Scalar rescale = std::exp(m[row] - m_new);
          m[row] = m_new;
          l[row] = rescale * l[row] + exponentiate(seen, m_new);
          if (rescale != 1) o_tile.row(row) *= rescale;
        }
        // Add the tile's values.
        o_tile.noalias() += scores * v_tile;
      }

      // Divide by the sum of weights; L = m + log l.
      for (Index row = 0; row < rows; ++row) {
        if (l[row] == 0) continue;  // saw no key
        out.o.row(t0 + row) = o_tile.row(row) / l[row];
        out.lse[t0 + row] = m[row] + std::log(l[row]);
      }
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
