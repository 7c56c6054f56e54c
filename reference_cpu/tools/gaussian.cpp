#include "gaussian.h"

namespace muse::tools {

double Random::gaussian() {
  // Twelve uniform integers of 16 bits out of three draws.
  std::uint64_t sum = 0;
  for (int draw = 0; draw < 3; ++draw) {
    const std::uint64_t bits = bits_();
    for (int shift = 0; shift < 64; shift += 16) sum += (bits >> shift) & 0xFFFFU;
  }
  // (u + 1/2) / 2^16 is a uniform number from 0 to 1; its variance is 1/12.
  return (static_cast<double>(sum) + 6) / 65536 - 6;
}

}  // namespace muse::tools
