// k-means pass by pass (2.2).
#pragma once

#include <vector>

#include "model/projection.h"

namespace muse::viewer {

struct KmeansPass {
  Labels labels;                     ///< [n]
  Matrix<double> centroids;          ///< [C, 2] in the axes
  std::vector<ClusterShape> shapes;  ///< [C]
  double inertia = 0;  ///< mean squared distance of a token from its centroid, in all dimensions
  Index moved = 0;     ///< tokens whose label is another than a pass before
  Index empty = 0;     ///< clusters without tokens
};

struct KmeansPasses {
  Block block;
  Side side = Side::keys;
  TokenRange range{};  ///< tokens that are clustered
  PrincipalAxes axes;
  double variance = 0;             ///< inertia of a single cluster
  Matrix<double> xy;               ///< [n, 2]
  std::vector<KmeansPass> passes;  ///< the seeding, then each pass; the last one is what attention uses
};

/// Method muse with k-means in the Euclidean or key metric; MisfitError for other ways to divide tokens, and
/// with windows.
[[nodiscard]] KmeansPasses kmeans_passes_of(const DumpSession& session, const Slot& slot, const Block& block,
                                            Side side, Task& task);

}  // namespace muse::viewer
