// Error against cost over settings around the current one.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "model/head_runs.h"

namespace muse::viewer {

struct TradeOffPoint {
  std::string series;     ///< the parameter that is varied: points of one series are joined
  std::string name;       ///< what is tried: "r=8"
  Slot slot;              ///< becomes the current setting when the point is clicked
  double error = 0;       ///< (8.1)
  double operations = 0;  ///< of exact attention's
  double seconds = 0;     ///< wall clock, clustering included
  bool tuned = false;     ///< the answer of the tuner
};

struct TradeOff {
  std::vector<TradeOffPoint> points;  ///< the current setting first
  std::vector<std::string> left_out;  ///< settings that the GPU does not take, with its reasons
  bool on_gpu = false;                ///< the seconds are a GPU's; those of exact attention the CPU's
  double exact_seconds = 0;
  double max_error = 0;
  Index tuned_tokens = 0;    ///< that the tuner saw, from the first on: at most 8192 in the quick grid
  bool tuned_found = false;  ///< whether a setting tried by the tuner keeps within max_error
};

/// Runs the settings of the grid and the tuner on the slot's head. Runs on the slot's
/// device, on the CPU in float; the tuner runs on the CPU.
[[nodiscard]] TradeOff trade_off_of(const DumpSession& session, const Slot& slot, Grid grid, double max_error,
                                    const HeadRun& exact, Task& task);

}  // namespace muse::viewer
