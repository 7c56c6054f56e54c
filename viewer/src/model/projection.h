// Queries and keys in two dimensions: principal axes, and what their clusters look like there.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "model/head_runs.h"

namespace muse::viewer {

/// The two directions of largest variance of some vectors.
struct PrincipalAxes {
  RowVector<double> mean;             ///< [D]
  Matrix<double> axes;                ///< [2, D] orthonormal rows; the largest coordinate of each is positive
  std::array<double, 2> share{0, 0};  ///< of the whole variance
  double variance = 0;                ///< sum over all dimensions

  /// [n, 2] coordinates of x [n, D].
  [[nodiscard]] Matrix<double> project(const Matrix<double>& x) const;
};

/// Principal axes of x [N, D], from the eigenvectors of its covariance: 2 N D² operations, the same bits each
/// time. With D = 1 or no variance, axes are unit vectors and shares 0.
[[nodiscard]] PrincipalAxes principal_axes(const Matrix<double>& x);

/// An ellipse that holds one standard deviation of a cluster along each of its own principal directions.
struct ClusterShape {
  Index count = 0;                          ///< tokens; 0: empty, nothing is drawn
  double x = 0, y = 0;                      ///< mean
  double rx = 0, ry = 0, angle = 0;         ///< half axes; radians from x towards y
  std::vector<std::array<double, 2>> hull;  ///< corners of the convex hull, counter-clockwise
};

[[nodiscard]] std::vector<ClusterShape> cluster_shapes(const Matrix<double>& xy, const Labels& labels,
                                                       Index C);

/// The tokens of one side of a block in two dimensions.
struct ProjectedSide {
  PrincipalAxes axes;
  Index first = 0;                   ///< token of row 0
  Matrix<double> xy;                 ///< [n, 2]
  Labels labels;                     ///< [n]
  std::vector<ClusterShape> shapes;  ///< [C]
  /// The centroid that the method uses; of queries it is that of the home, which are other tokens in mode
  /// causal.
  Matrix<double> centroids;  ///< [C, 2]
};

struct Projection {
  Block block;
  TokenRange home{};  ///< whose queries were clustered
  ProjectedSide queries, keys;
  /// [Cq, Ck, 2] tilted key centroids k̃_ij (3.4) in the keys' axes, and their log-masses (3.2); plain ones
  /// for the order centroid.
  std::vector<double> tilted, log_mass;
  std::vector<char> retrieved;  ///< [Cq, Ck]
};

/// Method muse only.
[[nodiscard]] Projection projection_of(const DumpSession& session, const Slot& slot, const Block& block,
                                       Basis basis, const HeadRun& run, Task& task);

}  // namespace muse::viewer
