// k-means on the tensor cores: the nearest centroid of each token, and the sums of the tokens of each label
// (docs/math.md, 2.1 and 2.2), both while the tokens are in shared memory, or each for itself.
//
// Shapes:    k or q; centroids [heads, clusters, D]; half_norms [heads, clusters]; labels [heads, levels, N];
//            sums [heads, run_rows, D + 8]; D 32, 64, 96, 128
// Launch:    all levels together; a thread block a run of a block's tokens (level_runs), kTileTokens of which
//            pass at a time, the next ones copied meanwhile.
// Floor:     2 C D operations a token for its label, as many for sums; 2 D bytes.
// Reference: reference_cpu/src/kmeans.cpp    Test: tests/test_cuda_kmeans.cpp
#pragma once

#include "device.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

/// Largest run of tokens (level_runs) that needs more centroids than fit at a time.
inline constexpr int kAssignRun = 512;
/// Centroids in shared memory at a time; where no block has that many, half of them leave room for more
/// warps.
inline constexpr int kAssignClusters = 256;

/// Tokens that pass at a time.
inline constexpr int kTileTokens = 128;

/// (2.2) A warp's part of the sums of the tokens of each label, 16 M clusters from `first` on. As a product,
/// sum_c = sum over n of [label_n = c] x_n: its left factor is made in registers from the labels; 8 more
/// columns of ones give the counts. A token that is not finite spoils the clusters of its block: 0 times it
/// is not 0.
template <int D, int M, class Element>
struct LabelSums {
  float sum[M][D / 8 + 1][4] = {};
  int cluster;  // of this lane's first row; its other rows are 8 further on each

  __device__ __forceinline__ explicit LabelSums(int first) : cluster(first + threadIdx.x % 32 / 4) {}

  /// A tile of tokens, and their labels.
  __device__ __forceinline__ void add(std::uint32_t tokens, const int* label) {
    const int lane = threadIdx.x % 32;
    const std::uint32_t one = pack(1, 1, Element());
#pragma unroll
    for (int kk = 0; kk < kTileTokens / 16; ++kk) {
      // [label_n = c] of two neighbouring tokens in a register.
      std::uint32_t chosen[M][4];
#pragma unroll
      for (int part = 0; part < 4; ++part) {
        const int2 of = *reinterpret_cast<const int2*>(&label[kk * 16 + lane % 4 * 2 + part / 2 * 8]);
#pragma unroll
        for (int t = 0; t < M; ++t) {
          const int c = cluster + t * 16 + part % 2 * 8;
          chosen[t][part] = (of.x == c ? one & 0xffffu : 0) | (of.y == c ? one & 0xffff0000u : 0);
        }
      }
#pragma unroll
      for (int n = 0; n < D / 8; n += 2) {
        std::uint32_t b[4];
        load_matrices_transposed(
            b, tokens + PaddedTile<D, kTileTokens>::offset(kk * 16 + lane % 16, n + lane / 16));
#pragma unroll
        for (int t = 0; t < M; ++t) {
          mma(sum[t][n], chosen[t], b[0], b[1], Element());
          mma(sum[t][n + 1], chosen[t], b[2], b[3], Element());
        }
      }
#pragma unroll
      for (int t = 0; t < M; ++t) mma(sum[t][D / 8], chosen[t], one, one, Element());
    }
  }

  /// `sums` [C, D + 8] of the run.
  __device__ __forceinline__ void store(float* sums, int C) const {
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int c = cluster + t * 16 + h * 8;
        if (c >= C) continue;
#pragma unroll
        for (int n = 0; n < D / 8 + 1; ++n)
          *reinterpret_cast<float2*>(sums + std::int64_t{c} * (D + 8) + n * 8 + threadIdx.x % 4 * 2) =
              make_float2(sum[t][n][2 * h], sum[t][n][2 * h + 1]);
      }
  }
};

/// (2.1) The nearest centroid of each token. Centroids stay in shared memory, `Clusters` at a time, while the
/// tokens pass. The accumulator starts at -|c|²/2: the product's end is the score. Centroids of two `Parts`
/// have residuals, `Clusters` rows further on: their products are added. With SumRows > 0 each warp sums the
/// tokens of 16 SumRows clusters besides, and all warps together those of the block's. Keys have their norms
/// taken by the way, if there is a table for them.
template <int D, int M, int Warps, int Clusters, int Parts, int SumRows, class Element>
__global__ void __launch_bounds__(32 * Warps, (SumRows > 1 ? 12 : 16) / Warps)
    assign_kernel(const __grid_constant__ Plan plan, Tensors<Element> tensors, Workspace<Element> w,
                  Side side, int levels, int runs) {
  constexpr int kRows = 16 * M * Warps, kThreads = 32 * Warps;
  constexpr RunTask kTask = SumRows > 0 ? RunTask::sum : RunTask::label;
  static_assert(kRows == kTileTokens);
  using Centroids = PaddedTile<D, Parts * Clusters>;
  using Tokens = PaddedTile<D, kRows>;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t centroids_shared = shared_address(tile_memory),
                      tokens_shared = centroids_shared + Centroids::kBytes;
  float* const norms =
      reinterpret_cast<float*>(tile_memory + Centroids::kBytes + 2 * Tokens::kBytes);  // [Clusters]
  // Either the labels of a tile, or of each token of a run the best of the centroids so far, where there are
  // more than fit.
  int* const tile_label = reinterpret_cast<int*>(norms + Clusters);  // [kRows]
  float* const run_best = norms + Clusters;                          // [kAssignRun]

  const bool keys = side == Side::keys;
  const int head = blockIdx.x / runs;
  const TokenRun run = token_run(plan, levels, side, kTask, kWhole, blockIdx.x % runs);
  const int first_token = run.tokens.begin, count = run.tokens.count;
  if (SumRows == 0 && count == 0) return;
  const Level& level = plan.level[run.level];
  const int C = block_clusters(plan, level, run.t, side);
  const Element* x = (keys ? head_rows(tensors.k, plan.k, plan.heads_kv, head)
                           : head_rows(tensors.q, plan.q, plan.heads_q, head)) +
                     first_token * (keys ? plan.k.token : plan.q.token);
  const std::int64_t stride = keys ? plan.k.token : plan.q.token;
  const std::int64_t clusters_at = first_cluster(plan, level, head, run.t, side);
  const Element* const centroids[2] = {(keys ? w.key_centroids : w.query_centroids) + clusters_at * D,
                                       (keys ? w.key_residuals : w.query_residuals) + clusters_at * D};
  const float* half_norms = (keys ? w.key_half_norms : w.query_half_norms) + clusters_at;
  std::int32_t* labels = (keys ? w.labels_k : w.labels_q) +
                         (std::int64_t{head} * plan.levels + run.level) * (keys ? plan.Nk : plan.Nq) +
                         first_token;

  float* const key_norms =
      keys && w.key_norms != nullptr ? w.key_norms + std::int64_t{head} * plan.Nk + first_token : nullptr;

  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  LabelSums<D, (SumRows > 0 ? SumRows : 1), Element> label_sums(warp * 16 * SumRows);
  const auto copy_tokens = [&](int first, int buffer) {
    if (first < count)
      copy_rows<PaddedTile, D, kRows, kThreads>(
          tokens_shared + buffer * Tokens::kBytes,
          [&](int row) { return first + row < count ? x + (first + row) * stride : nullptr; }, x);
    commit_copies();
  };
  for (int c0 = 0; c0 < C; c0 += Clusters) {
    // Copy the centroids and the first tokens.
    const int here = min(Clusters, C - c0);
    __syncthreads();
    for (int index = threadIdx.x; index < ceil_div(here, 16) * 16 * (D / 8); index += kThreads) {
      const int c = index / (D / 8), piece = index % (D / 8);
#pragma unroll
      for (int part = 0; part < Parts; ++part)
        copy_async(centroids_shared + Centroids::offset(part * Clusters + c, piece),
                   centroids[part] + (c0 + min(c, here - 1)) * D + piece * 8, c < here);
    }
    for (int c = threadIdx.x; c < ceil_div(here, 16) * 16; c += kThreads)
      norms[c] = c < here ? half_norms[c0 + c] : -INFINITY;
    copy_tokens(0, 0);
    for (int first = 0, buffer = 0; first < count; first += kRows, buffer ^= 1) {
      copy_tokens(first + kRows, buffer ^ 1);
      wait_copies<1>();
      __syncthreads();
      MmaEngine<D, M, Element> engine;
      engine.template load_queries<kRows>(tokens_shared + buffer * Tokens::kBytes, warp * M * 16);
      if (key_norms != nullptr && c0 == 0) {
#pragma unroll
        for (int t = 0; t < M; ++t)
#pragma unroll
          for (int h = 0; h < 2; ++h) {
            float norm = 0;
#pragma unroll
            for (int kk = 0; kk < D / 16; ++kk)
              norm = add_square(add_square(norm, engine.a[t][kk][h], Element()), engine.a[t][kk][h + 2],
                                Element());
            norm = quad_sum(norm);
            const int token = first + (warp * M + t) * 16 + lane / 4 + h * 8;
            if (lane % 4 == 0 && token < count) key_norms[token] = norm;
          }
      }
      float best[M][2];
      int cluster[M][2];
#pragma unroll
      for (int t = 0; t < M; ++t)
#pragma unroll
        for (int h = 0; h < 2; ++h) best[t][h] = -INFINITY, cluster[t][h] = 0;
#pragma unroll 2
      for (int n = 0; n * 8 < here; n += 2) {
        float score[M][2][4];
#pragma unroll
        for (int u = 0; u < 2; ++u) {
          const float2 norm = *reinterpret_cast<const float2*>(norms + (n + u) * 8 + lane % 4 * 2);
#pragma unroll
          for (int t = 0; t < M; ++t)
            score[t][u][0] = score[t][u][2] = norm.x, score[t][u][1] = score[t][u][3] = norm.y;
        }
#pragma unroll
        for (int part = 0; part < Parts; ++part) {
#pragma unroll
          for (int kk = 0; kk < D / 16; ++kk) {
            const int row = part * Clusters + n * 8 + lane / 16 * 8 + lane % 8;
            std::uint32_t b[4];
            load_matrices(b, centroids_shared + Centroids::offset(row, kk * 2 + lane / 8 % 2));
#pragma unroll
            for (int t = 0; t < M; ++t) {
              mma(score[t][0], engine.a[t][kk], b[0], b[1], Element());
              mma(score[t][1], engine.a[t][kk], b[2], b[3], Element());
            }
          }
        }
        // Only a strictly better cluster replaces the best: ties go to the lowest index.
#pragma unroll
        for (int u = 0; u < 2; ++u)
#pragma unroll
          for (int t = 0; t < M; ++t)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
              const bool better = score[t][u][e] > best[t][e / 2];
              best[t][e / 2] = better ? score[t][u][e] : best[t][e / 2];
              cluster[t][e / 2] = better ? (n + u) * 8 + e % 2 : cluster[t][e / 2];
            }
      }
      // The four lanes of a row looked at columns of their own.
#pragma unroll
      for (int t = 0; t < M; ++t)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
          cluster[t][h] += lane % 4 * 2;
#pragma unroll
          for (int step = 1; step <= 2; step *= 2) {
            const float other = __shfl_xor_sync(kAllLanes, best[t][h], step);
            const int other_cluster = __shfl_xor_sync(kAllLanes, cluster[t][h], step);
            const bool better = other > best[t][h] || (other == best[t][h] && other_cluster < cluster[t][h]);
            best[t][h] = better ? other : best[t][h];
            cluster[t][h] = better ? other_cluster : cluster[t][h];
          }
          const int row = (warp * M + t) * 16 + lane / 4 + h * 8, token = first + row;
          if (SumRows > 0 && lane % 4 == 0) tile_label[row] = token < count ? cluster[t][h] : -1;
          if (lane % 4 != 0 || token >= count) continue;
          if (c0 == 0 || best[t][h] > run_best[token]) {
            if (C > Clusters) run_best[token] = best[t][h];
            labels[token] = c0 + cluster[t][h];
          }
        }
      if constexpr (SumRows > 0) {
        __syncthreads();  // the labels are there
        label_sums.add(tokens_shared + buffer * Tokens::kBytes, tile_label);
      }
      __syncthreads();  // all warps have read the tokens
    }
  }
  if constexpr (SumRows > 0)
    label_sums.store((keys ? w.key_sums : w.query_sums) +
                         (head * run_rows(plan, plan.levels, side, RunTask::sum) + run.row) * (D + 8),
                     run.C);
}

/// Of the level that has most.
inline int most_clusters(const Plan& plan, Side side) {
  int most = 0;
  for (int m = 0; m < plan.levels; ++m)
    most = std::max(most, side == Side::keys ? plan.level[m].Ck : plan.level[m].Cq);
  return most;
}

template <class Element>
bool has_residuals(const Workspace<Element>& w, Side side) {
  return (side == Side::keys ? w.key_residuals : w.query_residuals) != nullptr;
}

template <int D, int Warps, int Clusters, int Parts, int SumRows, class Element>
Status launch_assign_with(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& w,
                          Side side, int most, cudaStream_t stream) {
  constexpr int kM = kTileTokens / 16 / Warps;
  constexpr int kBytes =
      PaddedTile<D, Parts * Clusters>::kBytes + 2 * PaddedTile<D, kTileTokens>::kBytes + 4 * Clusters;
  const int bytes = kBytes + (SumRows > 0 ? 4 * kTileTokens : most > Clusters ? 4 * kAssignRun : 0);
  const auto kernel = assign_kernel<D, kM, Warps, Clusters, Parts, SumRows, Element>;
  if (const Status status = allow_shared_memory(kernel, kBytes + 4 * kAssignRun); status != cudaSuccess)
    return status;
  const int levels = side == Side::queries ? plan.levels : plan.fresh_levels;
  const int runs = runs_of_head(plan, levels, side, SumRows > 0 ? RunTask::sum : RunTask::label, kWhole);
  const unsigned heads = side == Side::keys ? plan.HK() : plan.HQ();
  kernel<<<runs * heads, 32 * Warps, bytes, stream>>>(plan, tensors, w, side, levels, runs);
  return cudaGetLastError();
}

template <int D, class Element>
Status launch_assign_mma(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& w,
                         Side side, cudaStream_t stream) {
  constexpr int kWarps = D <= 64 ? 4 : 8;
  constexpr int kHalf = kAssignClusters / 2;
  const int most = most_clusters(plan, side);
  if (has_residuals(w, side))
    return launch_assign_with<D, kWarps, kHalf, 2, 0>(plan, tensors, w, side, most, stream);
  if (most <= kHalf) return launch_assign_with<D, kWarps, kHalf, 1, 0>(plan, tensors, w, side, most, stream);
  return launch_assign_with<D, kWarps, kAssignClusters, 1, 0>(plan, tensors, w, side, most, stream);
}

/// Labels and sums at once; nothing where there are so many clusters that sums leave too few registers for
/// warps to hide each other's waiting, or residuals.
template <int D, class Element>
std::optional<Status> launch_assign_and_sum_mma(const Plan& plan, const Tensors<Element>& tensors,
                                                const Workspace<Element>& w, Side side, cudaStream_t stream) {
  const int most = most_clusters(plan, side);
  if (has_residuals(w, side)) return std::nullopt;
  if constexpr (D <= 64) {
    if (most <= 64) return launch_assign_with<D, 4, 64, 1, 1>(plan, tensors, w, side, most, stream);
    if (most <= 128) return launch_assign_with<D, 4, 128, 1, 2>(plan, tensors, w, side, most, stream);
  }
  return std::nullopt;
}

/// Thread blocks of sums_kernel that share a run, for C clusters.
template <int M>
inline constexpr auto kGroups = [](int C) { return ceil_div(C, 64 * M); };

/// (2.2) Sums of the tokens of each label, where the labels are there already, run by run.
///   k or q, labels [heads, levels, N] -> sums [heads, run_rows, D + 8]
/// Launch: a thread block a (run, 64 M clusters); a warp 16 M clusters. Test: test_cuda_kmeans.cpp.
template <int D, int M, class Element>
__global__ void __launch_bounds__(128)
    sums_kernel(const __grid_constant__ Plan plan, const Side side, const Element* x, const Strides strides,
                const int heads, const std::int32_t* labels, float* sums, const int levels,
                const int blocks_of_head) {
  constexpr int kThreads = 128;
  using Tokens = PaddedTile<D, kTileTokens>;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t tokens_shared = shared_address(tile_memory);  // two tiles
  int(*const label)[kTileTokens] = reinterpret_cast<int(*)[kTileTokens]>(tile_memory + 2 * Tokens::kBytes);

  // Find this thread block's run and clusters.
  const int head = blockIdx.x / blocks_of_head, N = side == Side::keys ? plan.Nk : plan.Nq;
  const TokenRun run = token_run(plan, levels, side, RunTask::sum, kGroups<M>, blockIdx.x % blocks_of_head);
  const int count = run.tokens.count;
  const Element* const rows = head_rows(x, strides, heads, head) + run.tokens.begin * strides.token;
  labels += (std::int64_t{head} * plan.levels + run.level) * N + run.tokens.begin;

  const auto copy_tokens = [&](int first, int buffer) {
    if (first < count) {
      copy_rows<PaddedTile, D, kTileTokens, kThreads>(
          tokens_shared + buffer * Tokens::kBytes,
          [&](int n) { return first + n < count ? rows + (first + n) * strides.token : nullptr; }, rows);
      for (int n = threadIdx.x; n < kTileTokens; n += kThreads) {
        if (first + n < count) {
          copy_async_4(shared_address(&label[buffer][n]), labels + first + n);
        } else {
          label[buffer][n] = -1;
        }
      }
    }
    commit_copies();
  };
  LabelSums<D, M, Element> label_sums(run.piece * 64 * M + threadIdx.x / 32 * 16 * M);
  copy_tokens(0, 0);
  for (int first = 0, buffer = 0; first < count; first += kTileTokens, buffer ^= 1) {
    copy_tokens(first + kTileTokens, buffer ^ 1);
    wait_copies<1>();
    __syncthreads();
    label_sums.add(tokens_shared + buffer * Tokens::kBytes, label[buffer]);
    __syncthreads();  // all warps have read the tokens
  }
  label_sums.store(sums + (head * run_rows(plan, plan.levels, side, RunTask::sum) + run.row) * (D + 8),
                   run.C);
}

template <int D, int M, class Element>
Status launch_sums_with(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& w,
                        Side side, std::int32_t levels, cudaStream_t stream) {
  const bool keys = side == Side::keys;
  constexpr int kBytes = 2 * PaddedTile<D, kTileTokens>::kBytes + 2 * kTileTokens * 4;
  const auto kernel = sums_kernel<D, M, Element>;
  if (const Status status = allow_shared_memory(kernel, kBytes); status != cudaSuccess) return status;
  const int blocks_of_head = runs_of_head(plan, levels, side, RunTask::sum, kGroups<M>);
  kernel<<<static_cast<unsigned>(blocks_of_head) * (keys ? plan.HK() : plan.HQ()), 128, kBytes, stream>>>(
      plan, side, keys ? tensors.k : tensors.q, keys ? plan.k : plan.q, keys ? plan.heads_kv : plan.heads_q,
      keys ? w.labels_k : w.labels_q, keys ? w.key_sums : w.query_sums, levels, blocks_of_head);
  return cudaGetLastError();
}

/// Of the first `levels` levels.
template <int D, class Element>
Status launch_sums(const Plan& plan, const Tensors<Element>& tensors, const Workspace<Element>& w, Side side,
                   std::int32_t levels, cudaStream_t stream) {
  if constexpr (D <= 64) {
    if (most_clusters(plan, side) > 64) return launch_sums_with<D, 2>(plan, tensors, w, side, levels, stream);
  }
  return launch_sums_with<D, 1>(plan, tensors, w, side, levels, stream);
}

}  // namespace muse::cuda
