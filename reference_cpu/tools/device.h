// Where the method runs and in which numbers: the options --device and --dtype, for every command that has
// them.
#pragma once

#include <string>
#include <vector>

#include "cuda_device.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace muse::tools {

/// Number types that the method runs in on the CPU.
enum class Precision { single, twofold };

struct Device {
  bool gpu = false;
  Precision precision = Precision::single;        ///< on the CPU
  GpuNumbers gpu_numbers = GpuNumbers::bfloat16;  ///< on the GPU; the CPU's part is in float

  friend bool operator==(const Device&, const Device&) = default;
};

/// "cpu" or "cuda", and "float", "double", "bfloat16" or "float16": as --device and --dtype spell them.
[[nodiscard]] const char* device_word(const Device& device);
[[nodiscard]] const char* dtype_word(const Device& device);
/// What --dtype can be on a device, its default first.
[[nodiscard]] const std::vector<std::string>& dtype_words(bool gpu);

/// What was typed; an empty text is the default. UsageError for another word, and for numbers that the device
/// does not have. Does not look for a GPU: `require_gpu` does.
[[nodiscard]] Device parse_device(const std::string& device, const std::string& dtype);

/// The options. --dtype takes all words here; parse_device knows which fit the device.
CLI::Option* add_device_option(CLI::App& command, std::string& device);
CLI::Option* add_dtype_option(CLI::App& command, std::string& dtype, const std::string& help,
                              const std::string& type);

}  // namespace muse::tools
