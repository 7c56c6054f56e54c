#include "muse/error_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "muse/check.h"

namespace muse {

template <class Scalar>
HeadError head_error(const Attention<Scalar>& approximate, const Attention<Scalar>& exact) {
  MUSE_REQUIRE_EQ(approximate.o.rows(), exact.o.rows(), "head_error: outputs differ in number of tokens");
  MUSE_REQUIRE_EQ(approximate.o.cols(), exact.o.cols(), "head_error: outputs differ in dim");
  HeadError error;
  double difference_sq = 0, exact_sq = 0, lse_difference = 0;
  Index tokens = 0;
  for (Index n = 0; n < exact.o.rows(); ++n) {
    const RowVector<double> o_hat = approximate.o.row(n).template cast<double>();
    const RowVector<double> o = exact.o.row(n).template cast<double>();
    const double lse_gap = static_cast<double>(approximate.lse[n]) - static_cast<double>(exact.lse[n]);
    // Count non-finite outputs first: they would pass through every comparison below.
    if (!o_hat.allFinite() || !o.allFinite() || !std::isfinite(lse_gap)) {
      ++error.non_finite;
      continue;
    }
    difference_sq += (o_hat - o).squaredNorm();
    exact_sq += o.squaredNorm();
    error.max_abs_err = std::max(error.max_abs_err, (o_hat - o).cwiseAbs().maxCoeff());
    lse_difference += lse_gap;
    ++tokens;
  }
  if (tokens == 0) {
    constexpr double kNone = std::numeric_limits<double>::quiet_NaN();
    return {.rel_sq_err = kNone, .max_abs_err = kNone, .lse_bias = kNone, .non_finite = error.non_finite};
  }
  error.rel_sq_err = difference_sq == 0 ? 0 : difference_sq / exact_sq;
  error.lse_bias = lse_difference / static_cast<double>(tokens);
  return error;
}

template <class Scalar>
Vector<double> query_errors(const Attention<Scalar>& approximate, const Attention<Scalar>& exact) {
  MUSE_REQUIRE_EQ(approximate.o.rows(), exact.o.rows(), "query_errors: outputs differ in number of tokens");
  Vector<double> errors(exact.o.rows());
  for (Index n = 0; n < errors.size(); ++n) {
    const RowVector<double> o = exact.o.row(n).template cast<double>();
    const double difference_sq = (approximate.o.row(n).template cast<double>() - o).squaredNorm();
    errors[n] = difference_sq == 0 ? 0 : difference_sq / o.squaredNorm();
  }
  return errors;
}

template <class Scalar>
BlockError block_error(const Block& block, const Attention<Scalar>& approximate_part,
                       const Attention<Scalar>& exact_part, const Attention<Scalar>& exact) {
  MUSE_REQUIRE_EQ(approximate_part.o.rows(), block.queries(),
                  "block_error: the approximate part is not the block's");
  MUSE_REQUIRE_EQ(exact_part.o.rows(), block.queries(), "block_error: the exact part is not the block's");
  BlockError error{.block = block};
  double difference_sq = 0;
  for (Index row = 0; row < block.queries(); ++row) {
    const Index n = block.query_begin + row;
    const RowVector<double> o = exact.o.row(n).template cast<double>();
    const RowVector<double> o_b = exact_part.o.row(row).template cast<double>();
    const RowVector<double> o_b_hat = approximate_part.o.row(row).template cast<double>();
    const double L = static_cast<double>(exact.lse[n]);
    // The block's share of the mass, exact and approximated, in units of the query's whole mass e^L.
    const double w = std::exp(static_cast<double>(exact_part.lse[row]) - L);
    const double w_hat = std::exp(static_cast<double>(approximate_part.lse[row]) - L);
    // (8.5) o' = (o - w o_b + ŵ ô_b) / (1 - w + ŵ)
    const RowVector<double> o_mixed = (o - w * o_b + w_hat * o_b_hat) / (1 - w + w_hat);
    difference_sq += (o_mixed - o).squaredNorm();
    error.mass += w;
    error.lse_bias +=
        static_cast<double>(approximate_part.lse[row]) - static_cast<double>(exact_part.lse[row]);
  }
  error.rel_sq_err = difference_sq == 0 ? 0 : difference_sq / exact.o.template cast<double>().squaredNorm();
  error.mass /= static_cast<double>(block.queries());
  error.lse_bias /= static_cast<double>(block.queries());
  return error;
}

#define MUSE_INSTANTIATE(Scalar)                                                                            \
  template HeadError head_error<Scalar>(const Attention<Scalar>&, const Attention<Scalar>&);                \
  template Vector<double> query_errors<Scalar>(const Attention<Scalar>&, const Attention<Scalar>&);         \
  template BlockError block_error<Scalar>(const Block&, const Attention<Scalar>&, const Attention<Scalar>&, \
                                          const Attention<Scalar>&);
MUSE_INSTANTIATE(float)
MUSE_INSTANTIATE(double)
#undef MUSE_INSTANTIATE

}  // namespace muse
