// Which build of the project this is.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace muse::tools {

/// What `muse --version` prints: version, commit, compiler, Eigen, OpenMP, CUDA.
[[nodiscard]] std::string version_text();

/// "muse 0.1.0 (0123abcd)".
[[nodiscard]] std::string version_line();

/// The same for run.json.
[[nodiscard]] nlohmann::ordered_json version_json();

}  // namespace muse::tools
