#!/usr/bin/env bash
# The main job, from a clean clone: installs what is missing, builds `muse`, and compares exact attention with MuSe at
# several settings on the bundled heads of a real model. Prints a table; leaves a picture and the numbers in
# build/demo/. Run it again as often as you like: what is there already is not made again.
set -euo pipefail
cd "$(dirname "$0")/.."

.ci/install_packages run
[ -f build/build.ninja ] || cmake --preset default -DMUSE_BUILD_TESTS=OFF ${MUSE_CMAKE_ARGS:-}
cmake --build build --target muse

mkdir -p build/demo
build/bin/muse compare notebooks_data/source16k_slice \
  --clusters S/16:32:512 \
  --methods "exact,local,muse:order=centroid,muse:order=monopole,muse,muse:retrieve=4,muse:retrieve=8,muse:retrieve=16" \
  --json build/demo/compare.json --png build/demo/compare.png
echo
echo "picture: build/demo/compare.png   numbers: build/demo/compare.json"
