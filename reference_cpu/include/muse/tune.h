// Choosing the parameters: the cheapest settings whose error stays within a bound (docs/math.md, section 9;
// ours).
#pragma once

#include <span>
#include <string>
#include <vector>

#include "muse/config.h"
#include "muse/head.h"
#include "muse/progress.h"

namespace muse {

/// One setting as measured on the heads it was tried on.
struct TunePoint {
  Config config;
  std::vector<double> head_errors;  ///< relative squared error of each head
  double error = 0;                 ///< their mean
  double unseen_error = 0;  ///< (9.1) what the mean stays below on text of the same length not seen, 95 %
  double operations = 0;    ///< summed over heads
};

/// The answer for a set of heads.
struct TuneResult {
  std::vector<TunePoint> points;  ///< every setting tried, in the order tried
  std::vector<std::size_t>
      frontier;          ///< points that no other one beats in both error and operations, by operations
  std::size_t best = 0;  ///< the cheapest point within the bound, if `found`
  bool found = false;
  double exact_operations = 0;  ///< of exact attention on the same heads
};

/// (9.2) The error that a head not among those tuned is predicted to have, from the spread of log errors
/// among them.
struct HeadSpread {
  bool stated = false;  ///< at least two heads of non-zero error are needed
  double low = 0;       ///< 5 % of such heads are predicted below
  double median = 0;
  double high = 0;  ///< 5 % are predicted above
};

/// Searches block, clusters, retrieve, passes and metric, the other parameters as in `base`, for the setting
/// of fewest operations with mean error <= max_error and unseen_error <= 1.25 max_error over `heads`
/// together.
template <class Scalar>
[[nodiscard]] TuneResult tune(std::span<const Head<Scalar>> heads, const Config& base, double max_error,
                              Progress* progress = nullptr);

[[nodiscard]] HeadSpread predict_spread(std::span<const double> head_errors);

}  // namespace muse
