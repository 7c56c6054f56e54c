// The picture of `muse compare`: where each method errs along the tokens, and what its accuracy costs.
#pragma once

#include <string>
#include <vector>

#include "dump_options.h"
#include "method_word.h"
#include "muse/matrix.h"

namespace muse::tools {

/// One method in the picture.
struct PicturedMethod {
  MethodSpec spec = {};
  double relative_operations = 0;  ///< operations over those of exact attention
  double mean_rel_sq_err = 0;      ///< over heads
  std::vector<std::vector<double>> errors =
      {};  ///< [heads, bins] mean relative squared error of the bin's queries
};

/// Bins that the errors of N queries are averaged in.
[[nodiscard]] Index picture_bins(Index N);

/// Means of `query_errors` [N] in picture_bins(N) equal bins.
[[nodiscard]] std::vector<double> binned(const Vector<double>& query_errors);

/// Draws the picture into a PNG file. `rows`: names of the heads.
void write_compare_picture(const std::string& path, const Job& job, const std::vector<std::string>& rows,
                           const std::vector<PicturedMethod>& methods);

}  // namespace muse::tools
