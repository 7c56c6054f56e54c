// Random numbers that are the same on every machine.
#pragma once

#include <cstdint>
#include <random>

namespace muse::tools {

/// Numbers that follow from a seed alone: 64-bit Mersenne Twister, whose output the C++ standard fixes, and
/// integer arithmetic where the standard's distributions and the C library's functions differ between
/// machines.
class Random {
 public:
  explicit Random(std::uint64_t seed) : bits_(seed) {}

  /// Mean 0, variance 1: the sum of twelve uniform numbers less 6, which is Gaussian to within 0.002 of the
  /// distribution function and never beyond ±6.
  double gaussian();
  /// 0 <= value < count.
  std::uint64_t below(std::uint64_t count) { return bits_() % count; }

 private:
  std::mt19937_64 bits_;
};

}  // namespace muse::tools
