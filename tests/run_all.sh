#!/usr/bin/env bash
# Every test, from a clean clone: installs what is missing, builds everything, runs CTest.
set -euo pipefail
cd "$(dirname "$0")/.."

.ci/install_packages test
cmake --preset default -DMUSE_BUILD_TESTS=ON ${MUSE_CMAKE_ARGS:-}
cmake --build build
ctest --test-dir build --output-on-failure --parallel "$(nproc)"
