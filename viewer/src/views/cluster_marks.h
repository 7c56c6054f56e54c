// Tokens and clusters in two dimensions, as the views of clusters and of k-means draw them.
#pragma once

#include "model/projection.h"
#include "views/view_parts.h"

namespace muse::viewer {

/// Diameter of a token among `count`, in logical pixels.
[[nodiscard]] double token_size(Index count);

/// x (0) or y (1) along a principal axis, with its share of the variance; `whose`: "key ", or nothing.
[[nodiscard]] render::Axis principal_axis(const PrincipalAxes& axes, std::size_t which,
                                          const std::string& whose);

/// 1σ ellipses of the clusters that are lit, all of them if `lit` is empty; many are drawn lightly.
void add_ellipses(render::Axes& axes, const std::vector<ClusterShape>& shapes, const std::vector<char>& lit);

/// Centroids [C, 2] of the clusters that have tokens and are lit.
void add_centroids(render::Axes& axes, const Matrix<double>& centroids,
                   const std::vector<ClusterShape>& shapes, const std::vector<char>& lit, const char* label,
                   bool dark);

/// The token in row n of xy, ringed and named.
void add_ring(render::Axes& axes, const Matrix<double>& xy, Index n, std::string label, bool dark);

/// The token under a pixel, as a row of xy.
[[nodiscard]] std::optional<Index> token_at(const render::Frame& frame, render::Point at,
                                            const Matrix<double>& xy);

}  // namespace muse::viewer
