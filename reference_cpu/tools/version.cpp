#include "version.h"

#include <fmt/format.h>
#include <omp.h>

#include <Eigen/Core>

#include "build_info.h"
#include "cuda_device.h"

namespace muse::tools {
namespace {

std::string commit() {
  return *kCommit != '\0' ? kCommit : "unknown";
}

std::string eigen() {
  return fmt::format("{}.{}.{} ({})", EIGEN_WORLD_VERSION, EIGEN_MAJOR_VERSION, EIGEN_MINOR_VERSION,
                     Eigen::SimdInstructionSetsInUse());
}

std::string compiler() {
  return *kMarch != '\0' ? fmt::format("{}, {}, -march={}", kCompiler, kBuildType, kMarch)
                         : fmt::format("{}, {}", kCompiler, kBuildType);
}

}  // namespace

std::string version_text() {
  return fmt::format(
      "muse {}\n"
      "commit    {}\n"
      "compiler  {}\n"
      "Eigen     {}\n"
      "OpenMP    {} ({} threads)\n"
      "CUDA      {}\n",
      kVersion, commit(), compiler(), eigen(), _OPENMP, omp_get_max_threads(), cuda_runtime());
}

std::string version_line() {
  return fmt::format("muse {} ({})", kVersion, commit());
}

nlohmann::ordered_json version_json() {
  return {{"muse", kVersion},
          {"commit", commit()},
          {"compiler", compiler()},
          {"eigen", eigen()},
          {"openmp", _OPENMP}};
}

}  // namespace muse::tools
