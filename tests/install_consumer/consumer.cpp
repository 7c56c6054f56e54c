// Attention of 100 tokens with one key cluster a token is exact: prints the error, which is rounding alone.
#include <cstdio>

#include "muse/error_metrics.h"
#include "muse/exact_attention.h"
#include "muse/muse_attention.h"

int main() {
  const muse::Matrix<double> q = muse::Matrix<double>::Random(100, 8),
                             k = muse::Matrix<double>::Random(100, 8);
  muse::Config config;
  muse::set_option(config, "block", "16");
  muse::set_option(config, "clusters-k", "S/1");
  const auto approximate = muse::muse_attention<double>(q, k, q, 0.3, config);
  const auto exact = muse::exact_attention<double>(q, k, q, 0.3, {.causal = true});
  const double error = muse::head_error(approximate.attention, exact).rel_sq_err;
  std::printf("relative squared error %g\n", error);
  return error < 1e-20 ? 0 : 1;
}
