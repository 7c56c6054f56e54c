#include "muse/head.h"

#include <algorithm>

#include "muse/check.h"

namespace muse {
namespace {

// The first `tokens` rows of [batch, head] in an array [batch, heads, rows, dim].
template <class Scalar>
Matrix<Scalar> slice(const Array& array, Index batch, Index head, Index tokens) {
  const Index heads = array.shape[1], rows = array.shape[2], dim = array.shape[3];
  Matrix<Scalar> matrix(tokens == 0 ? rows : std::min<Index>(tokens, rows), dim);
  convert<Scalar>(array, (batch * heads + head) * rows * dim,
                  std::span(matrix.data(), static_cast<std::size_t>(matrix.size())));
  return matrix;
}

}  // namespace

template <class Scalar>
Head<Scalar> load_head(const Dump& dump, Index batch, Index head, Index tokens) {
  MUSE_REQUIRE(batch >= 0 && batch < dump.batch(), "expected a batch index from 0 to ", dump.batch() - 1,
               ", found ", batch);
  MUSE_REQUIRE(head >= 0 && head < dump.heads_q(), "expected a head from 0 to ", dump.heads_q() - 1,
               ", found ", head);
  const Index kv_head = head / (dump.heads_q() / dump.heads_kv());
  return {.batch = batch,
          .head = head,
          .kv_head = kv_head,
          .q = slice<Scalar>(dump.q, batch, head, tokens),
          .k = slice<Scalar>(dump.k, batch, kv_head, tokens),
          .v = slice<Scalar>(dump.v, batch, kv_head, tokens),
          .scale = static_cast<Scalar>(dump.scale)};
}

template Head<float> load_head<float>(const Dump&, Index, Index, Index);
template Head<double> load_head<double>(const Dump&, Index, Index, Index);

}  // namespace muse
