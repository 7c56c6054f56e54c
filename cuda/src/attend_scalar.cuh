// The scalar attention of all stages: rows of queries against tiles of 32 keys in shared memory, in float32,
// with a running maximum. Simple and for every element type; the tensor-core kernels are checked against it.
#pragma once

#include "device.cuh"

namespace muse::cuda::scalar {

inline constexpr int kWarps = 4;
inline constexpr int kThreads = kWarps * kWarp;
inline constexpr int kRowsOfWarp = 4;
inline constexpr int kRows = kWarps * kRowsOfWarp;  ///< queries of a thread block
inline constexpr int kKeys = kWarp;                 ///< keys of a tile: one a lane

/// Shared memory of a thread block: q [kRows, D] scaled, k [kKeys, D + 1], v [kKeys, Dv]. Keys have a spare
/// column, so that lanes that read one feature of all keys meet different banks.
struct Tiles {
  float *q, *k, *v;
  int D, Dv;
  __device__ Tiles(float* memory, int D_, int Dv_)
      : q(memory), k(q + kRows * D_), v(k + kKeys * (D_ + 1)), D(D_), Dv(Dv_) {}
  [[nodiscard]] __device__ int k_stride() const { return D + 1; }
  [[nodiscard]] static std::size_t bytes(int D, int Dv) {
    return sizeof(float) * static_cast<std::size_t>(kRows * D + kKeys * (D + 1) + kKeys * Dv);
  }
};

/// tile[row] = factor · row_of(row) for row < count, zero rows up to `rows`. By all threads; the caller
/// synchronises.
template <class RowOf>
__device__ void load_rows(float* tile, int stride, int width, int rows, int count, float factor,
                          RowOf row_of) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  for (int row = warp; row < rows; row += kWarps) {
    if (row < count) {
      const auto* from = row_of(row);
      for (int d = lane; d < width; d += kWarp) tile[row * stride + d] = factor * to_float(from[d]);
    } else {
      for (int d = lane; d < width; d += kWarp) tile[row * stride + d] = 0;
    }
  }
}

/// Products of this warp's rows of q with the key of this lane, summed feature by feature.
__device__ inline void dot_rows(const Tiles& tiles, float (&dots)[kRowsOfWarp]) {
  const int lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const float* const q = tiles.q + warp * kRowsOfWarp * tiles.D;
  const float* const k = tiles.k + lane * tiles.k_stride();
#pragma unroll
  for (int row = 0; row < kRowsOfWarp; ++row) dots[row] = 0;
  for (int d = 0; d < tiles.D; ++d) {
    const float k_d = k[d];
#pragma unroll
    for (int row = 0; row < kRowsOfWarp; ++row) dots[row] = fmaf(q[row * tiles.D + d], k_d, dots[row]);
  }
}

/// A weighted sum of rows in shared memory, features spread over the lanes: feature lane + 32 x in sum[x].
template <int kFeatures>
struct RowSum {
  float sum[kFeatures] = {};

  __device__ void scale(float factor) {
#pragma unroll
    for (int x = 0; x < kFeatures; ++x) sum[x] *= factor;
  }
  /// sum += sum over n < count of w_n rows[n], with w_n held by lane n. A row of no weight is not read.
  __device__ void add(float w, const float* rows, int stride, int width, int count) {
    const int lane = threadIdx.x % kWarp;
    for (int n = 0; n < count; ++n) {
      const float w_n = __shfl_sync(kAllLanes, w, n);
      if (w_n == 0) continue;
#pragma unroll
      for (int x = 0; x < kFeatures; ++x)
        if (lane + kWarp * x < width) sum[x] = fmaf(w_n, rows[n * stride + lane + kWarp * x], sum[x]);
    }
  }
};

/// (1.2) The running softmax of one row: largest logit m, and l = sum of e^{logit - m}.
struct RunningSoftmax {
  float m = kMinusInfinity, l = 0;

  /// Takes in a tile of logits, one a lane, -infinity where there is none. Turns each into its weight
  /// e^{logit - m}; returns what all sums so far are to be multiplied with.
  __device__ float weigh(float& logit) {
    const float m_new = fmaxf(m, warp_max(logit));
    if (m_new == kMinusInfinity) {  // nothing seen yet
      logit = 0;
      return 1;
    }
    const float rescale = expf(m - m_new);
    logit = expf(logit - m_new);
    l = l * rescale + warp_sum(logit);
    m = m_new;
    return rescale;
  }
  /// logsumexp of all logits; -infinity if there was none.
  [[nodiscard]] __device__ float lse() const { return l > 0 ? m + logf(l) : kMinusInfinity; }
  [[nodiscard]] __device__ float one_over_sum() const { return l > 0 ? 1 / l : 0; }
};

/// Writes factor · sum as elements.
template <int kFeatures, class Element>
__device__ void store_row(const RowSum<kFeatures>& row, float factor, Element* to, int width) {
  const int lane = threadIdx.x % kWarp;
#pragma unroll
  for (int x = 0; x < kFeatures; ++x)
    if (lane + kWarp * x < width) to[lane + kWarp * x] = from_float<Element>(factor * row.sum[x]);
}

/// Calls launch with an integral constant: the features that a lane holds of rows of `width` <= 256.
template <class Launch>
Status with_features(int width, Launch launch) {
  if (width <= 2 * kWarp) return launch(std::integral_constant<int, 2>());
  if (width <= 4 * kWarp) return launch(std::integral_constant<int, 4>());
  return launch(std::integral_constant<int, 8>());
}

}  // namespace muse::cuda::scalar
