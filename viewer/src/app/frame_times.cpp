#include "app/frame_times.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace muse::viewer {
namespace {

constexpr std::size_t kLatest = 1000;

double rounded(double ms) {
  return std::round(ms * 100) / 100;
}

}  // namespace

void FrameTimes::add(double ms) {
  if (latest_.size() < kLatest)
    latest_.push_back(static_cast<float>(ms));
  else
    latest_[count_ % kLatest] = static_cast<float>(ms);
  ++count_;
  if (ms > 33) ++above_33_ms_;
  largest_ = std::max(largest_, ms);
}

nlohmann::ordered_json FrameTimes::to_json() const {
  std::vector<float> sorted = latest_;
  std::sort(sorted.begin(), sorted.end());
  const auto at = [&](double share) {
    return sorted.empty()
               ? 0.0
               : rounded(
                     sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)]);
  };
  return {{"frames", count_},
          {"median_ms", at(0.5)},
          {"p95_ms", at(0.95)},
          {"largest_ms", rounded(largest_)},
          {"above_33_ms", above_33_ms_}};
}

}  // namespace muse::viewer
