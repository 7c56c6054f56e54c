#include "muse/softmax_merge.h"

#include "muse/check.h"

namespace muse {

template <class Scalar>
void softmax_merge(Attention<Scalar>& sum, const Attention<Scalar>& part) {
  MUSE_REQUIRE_EQ(sum.o.rows(), part.o.rows(), "softmax_merge: the parts have different numbers of queries");
  MUSE_REQUIRE_EQ(sum.o.cols(), part.o.cols(), "softmax_merge: the parts have different value dims");
  for (Index n = 0; n < sum.o.rows(); ++n)
    softmax_merge_row(sum.o.row(n), sum.lse[n], part.o.row(n), part.lse[n]);
}

template void softmax_merge<float>(Attention<float>&, const Attention<float>&);
template void softmax_merge<double>(Attention<double>&, const Attention<double>&);

}  // namespace muse
