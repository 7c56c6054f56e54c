// The picture of `muse compare`: where each method errs, and what its accuracy costs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "render/attention_figure.h"
#include "render/figure.h"

namespace muse::render {

/// Errors of one method or setting along the queries.
struct CompareMethod {
  std::string name = {};
  /// [heads, bins] mean relative squared error over the queries of each bin; 0 is exact, NaN is not known.
  std::vector<std::vector<double>> errors = {};
};

/// A method in one setting, as a point of error against cost. Points of one series share colour and marker,
/// and are joined in the order of their cost.
struct ComparePoint {
  std::string series = {};
  std::string name = {};  ///< of the setting, beside the point
  double cost = 0;        ///< operations relative to exact attention
  double error = 0;       ///< mean relative squared error; 0 is exact
};

struct CompareFigure {
  FigureOptions options{.width = 1400, .height = 640};
  std::string title = {};
  std::string dump = {}, mode = {}, settings = {};  ///< for the caption; empty ones are left out
  std::string remark = {};                          ///< ends the caption
  std::int64_t tokens = 0;                          ///< queries 0 to tokens - 1 in equal bins
  std::vector<std::string> heads = {};              ///< names of the rows of each method
  std::vector<CompareMethod> methods = {};
  std::vector<ComparePoint> points = {};
  std::vector<AttentionBlock> blocks =
      {};  ///< drawn as a strip by level under the errors; empty, or a low picture: no strip
};

[[nodiscard]] Drawn draw_compare_figure(const CompareFigure& compare);
[[nodiscard]] Image draw_compare(const CompareFigure& compare);

}  // namespace muse::render
