// How long frames took, all of them and those during a computation: what "never blocked" means in numbers.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace muse::viewer {

/// Times of one kind of frames, in milliseconds.
class FrameTimes {
 public:
  void add(double ms);
  [[nodiscard]] std::size_t count() const { return count_; }
  /// Number, median, 95 % and largest of the latest frames, largest of all and the number above 33 ms.
  [[nodiscard]] nlohmann::ordered_json to_json() const;

 private:
  std::size_t count_ = 0, above_33_ms_ = 0;
  double largest_ = 0;
  std::vector<float> latest_;  // a ring
};

}  // namespace muse::viewer
