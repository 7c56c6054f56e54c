// The 16 tokens that docs/tour.md follows by hand. example16.py works them in NumPy, test_tour.cpp in the
// library.
#pragma once

#include "muse/config.h"
#include "muse/matrix.h"

namespace muse::example16 {

// Tokens speak of one of two themes. Keys of theme A lie near (2.5, 0.5), of theme B near (0.5, 2.5); a query
// asks for its own theme. The value of a token is its position, so that an output says where a query looks on
// average.
constexpr Index N = 16, D = 2, Dv = 1;
constexpr double kScale = 0.5;

// clang-format off
//                        theme          A       A       B       B
inline constexpr double kKeys[N][D] = {{3, 0}, {2, 1}, {0, 3}, {1, 2},   // tokens 0 to 3
//                                       A       B       A       B
                                       {2, 0}, {0, 2}, {3, 1}, {1, 3},   // 4 to 7
//                                       A       B       B       A
                                       {2, 1}, {0, 2}, {1, 3}, {3, 0},   // 8 to 11
//                                       A       B       A       B
                                       {2, 0}, {0, 3}, {3, 1}, {1, 2}};  // 12 to 15

inline constexpr double kQueries[N][D] = {{2, 0}, {1, 0}, {0, 2}, {0, 1},
                                          {2, 1}, {1, 2}, {1, 0}, {0, 1},
                                          {2, 0}, {0, 2}, {1, 2}, {2, 1},
                                          {1, 0}, {0, 1}, {3, 1}, {1, 3}};
// clang-format on

template <class Scalar>
Matrix<Scalar> q() {
  Matrix<Scalar> matrix(N, D);
  for (Index n = 0; n < N; ++n) matrix.row(n) << Scalar(kQueries[n][0]), Scalar(kQueries[n][1]);
  return matrix;
}

template <class Scalar>
Matrix<Scalar> k() {
  Matrix<Scalar> matrix(N, D);
  for (Index n = 0; n < N; ++n) matrix.row(n) << Scalar(kKeys[n][0]), Scalar(kKeys[n][1]);
  return matrix;
}

template <class Scalar>
Matrix<Scalar> v() {
  Matrix<Scalar> matrix(N, Dv);
  for (Index n = 0; n < N; ++n) matrix(n, 0) = Scalar(n);
  return matrix;
}

/// Strictly causal, blocks of 4 tokens, 2 clusters of queries and of keys at each level, 1 of them retrieved.
inline Config config() {
  Config config;
  set_option(config, "mode", "causal");
  set_option(config, "order", "dipole");
  set_option(config, "block", "4");
  set_option(config, "clusters", "2");
  set_option(config, "retrieve", "1");
  set_option(config, "passes", "1");
  return config;
}

}  // namespace muse::example16
