#include "device.h"

#include <fmt/format.h>

#include <algorithm>

#include "help.h"
#include "muse/check.h"

namespace muse::tools {

const char* device_word(const Device& device) {
  return device.gpu ? "cuda" : "cpu";
}

const char* dtype_word(const Device& device) {
  if (device.gpu) return name_of(device.gpu_numbers);
  return device.precision == Precision::single ? "float" : "double";
}

const std::vector<std::string>& dtype_words(bool gpu) {
  static const std::vector<std::string> on_cpu = {"float", "double"},
                                        on_gpu = {"bfloat16", "float16", "float"};
  return gpu ? on_gpu : on_cpu;
}

Device parse_device(const std::string& device_text, const std::string& dtype) {
  if (!device_text.empty() && device_text != "cpu" && device_text != "cuda")
    throw UsageError(fmt::format("--device: expected cpu or cuda, found '{}'", device_text));
  Device device{.gpu = device_text == "cuda"};
  const std::vector<std::string>& words = dtype_words(device.gpu);
  if (dtype.empty()) return device;
  if (std::find(words.begin(), words.end(), dtype) == words.end()) {
    if (device.gpu)
      throw UsageError(
          fmt::format("--dtype {}: expected bfloat16, float16 or float with --device cuda", dtype));
    if (dtype == "bfloat16" || dtype == "float16")
      throw UsageError(fmt::format("--dtype {}: expected float or double on the CPU; {} needs --device cuda",
                                   dtype, dtype));
    throw UsageError(fmt::format("--dtype: expected float or double on the CPU, found '{}'", dtype));
  }
  if (dtype == "double") device.precision = Precision::twofold;
  if (device.gpu && dtype == "float16") device.gpu_numbers = GpuNumbers::float16;
  if (device.gpu && dtype == "float") device.gpu_numbers = GpuNumbers::float32;
  return device;
}

CLI::Option* add_device_option(CLI::App& command, std::string& device) {
  return command
      .add_option(
          "--device", device,
          described("where the method muse runs; cuda takes one head at a time, in --dtype bfloat16 (the "
                    "default there), float16 or float, and its seconds are the GPU's",
                    "", "cpu"))
      ->type_name("cpu|cuda")
      ->check(unnamed(CLI::IsMember({"cpu", "cuda"})));
}

CLI::Option* add_dtype_option(CLI::App& command, std::string& dtype, const std::string& help,
                              const std::string& type) {
  return command.add_option("--dtype", dtype, described(help, "", "float"))
      ->type_name(type)
      ->check(unnamed(CLI::IsMember({"float", "double", "bfloat16", "float16"})));
}

}  // namespace muse::tools
