// One attention head of a dump as matrices.
#pragma once

#include "muse/matrix.h"
#include "muse/tensor_io.h"

namespace muse {

/// The tensors of one query head and of the key/value head that it shares with its group.
template <class Scalar>
struct Head {
  Index batch = 0;
  Index head = 0;     ///< query head, 0-based in the dump
  Index kv_head = 0;  ///< head / (Hq / Hkv): grouped-query attention
  Matrix<Scalar> q;   ///< [Nq, D]
  Matrix<Scalar> k;   ///< [Nk, D]
  Matrix<Scalar> v;   ///< [Nk, Dv]
  Scalar scale = 1;   ///< s
};

/// Converts head `head` of batch entry `batch`; the first `tokens` queries and keys of it, 0 for all.
template <class Scalar>
[[nodiscard]] Head<Scalar> load_head(const Dump& dump, Index batch, Index head, Index tokens = 0);

}  // namespace muse
