// Stage 2 and retrieval in one pass, on the tensor cores: the queries of a cluster attend to the summaries of
// the far key clusters, with a bias each, and to the tokens of the retrieved ones (docs/math.md, 4.1 to 4.4,
// 4.6 and 5.2).
//
// Shapes:    q [batch, heads_q, Nq, D]; k_tilde, v_tilde [units, Cq, Ck, D], bias, spread [units, Cq, Ck];
//            retrieved_places [units, Cq, r]; o, lse of the call; D = Dv 32, 64, 96, 128
// Launch:    one thread block a tile of up to kQueryTile queries of one cluster: (tiles of a block, units).
//            Both kinds of keys are rows with a bias, 64 of them at a time; rows of the next tile are copied,
//            and the places of those of the tile after it are read, while the warps work on this one.
// Floor:     4 D (Ck + r S/Ck) operations a query. Bytes through the second-level cache: as many for each
//            tile of queries, hence tiles of many queries.
// Reference: reference_cpu/src/far_field.cpp, retrieval.cpp    Test: tests/test_cuda_far_field.cpp
#pragma once

#include "softmax_merge.cuh"
#include "tensor_cores.cuh"

namespace muse::cuda {

/// (4.6) κ/2 s² |δ|² / D for a query at squared distance `delta_sq` from its centroid: what a summary's σ̃²_ij
/// is multiplied by.
__device__ __forceinline__ float spread_weight(const Plan& plan, float delta_sq) {
  return plan.spread_factor * plan.scale * plan.scale * delta_sq;
}

template <class Engine, class Element>
__global__ void __launch_bounds__(32 * kQueryTile / (16 * Engine::M))
    far_field_kernel(const __grid_constant__ Plan plan, Tensors<Element> x, Workspace<Element> w,
                     Chunk chunk) {
  constexpr int D = Engine::D, M = Engine::M;
  constexpr int kWarps = kQueryTile / (16 * M), kKeys = 64, kThreads = 32 * kWarps;
  constexpr int kTile = Engine::template Tile<D, kKeys>::kBytes;
  extern __shared__ __align__(1024) unsigned char tile_memory[];
  const std::uint32_t k_shared = shared_address(tile_memory), v_shared = k_shared + 2 * kTile;
  // [2, kKeys] {b_ij log2 e, σ̃²_ij}
  float2* const biases = reinterpret_cast<float2*>(tile_memory + 4 * kTile);
  std::int32_t* const rows =
      reinterpret_cast<std::int32_t*>(biases + 2 * kKeys);  // [2, kKeys] key rows; -1: none
  std::int32_t* const query_tokens = rows + 2 * kKeys;      // [kQueryTile]
  const Level& level = plan.level[chunk.level];

  const int chunk_unit = blockIdx.y;
  const int head = (chunk.first_unit + chunk_unit) / level.blocks,
            block = (chunk.first_unit + chunk_unit) % level.blocks;
  const QueryTile tile = w.query_tiles[std::int64_t{head} * plan.query_tiles + level.query_tile +
                                       block * level.query_tiles + blockIdx.x];
  const int i = tile.cluster, queries = tile.count;
  if (i < 0) return;
  const int kv = plan.key_head(head);
  // The monopole's mass does not depend on δ: it has no k̃, and its products, with any numbers, count nothing.
  const bool shifted = plan.order != ExpansionOrder::monopole;
  const std::int64_t pair = (std::int64_t{chunk_unit} * level.Cq + i) * level.Ck;  // of j = 0
  const std::int32_t* query_order = w.query_order +
                                    (std::int64_t{head} * plan.levels + chunk.level) * plan.Nq +
                                    block_tokens(plan, level, block, Side::queries).begin + tile.begin;
  const std::int32_t* key_order = w.key_order + (std::int64_t{kv} * plan.levels + chunk.level) * plan.Nk +
                                  block_tokens(plan, level, block, Side::keys).begin;
  const int2* places = w.retrieved_places + (std::int64_t{chunk_unit} * level.Cq + i) * level.r;
  const Element* q = head_rows(x.q, plan.q, plan.heads_q, head);
  const Element* k = head_rows(x.k, plan.k, plan.heads_kv, kv);
  const Element* v = head_rows(x.v, plan.v, plan.heads_kv, kv);
  // The centroid order expands nothing: all query clusters share the means.
  const bool plain = plan.order == ExpansionOrder::centroid;
  const Element* k_tilde = plain     ? w.key_centroids + first_cluster(plan, level, kv, block, Side::keys) * D
                           : shifted ? w.k_tilde + pair * D
                                     : w.v_tilde + pair * D;
  const Element* v_tilde =
      plain ? w.value_means + first_cluster(plan, level, kv, block, Side::keys) * D : w.v_tilde + pair * D;

  const bool spread = plan.spread_factor > 0;
  const Element* q_bar = w.query_centroids + (first_cluster(plan, level, head, block, Side::home) + i) * D;

  // Read the queries through the memory of the first keys.
  if (threadIdx.x < kQueryTile && threadIdx.x < queries) query_tokens[threadIdx.x] = query_order[threadIdx.x];
  if (kThreads < kQueryTile && threadIdx.x + kThreads < queries)
    query_tokens[threadIdx.x + kThreads] = query_order[threadIdx.x + kThreads];
  __syncthreads();
  copy_rows<Engine::template Tile, D, kQueryTile, kThreads>(
      k_shared, [&](int row) { return row < queries ? q + query_tokens[row] * plan.q.token : nullptr; }, q);
  commit_copies();
  wait_copies<0>();
  __syncthreads();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  Engine engine;
  engine.template load_queries<kQueryTile>(k_shared, warp * M * 16);
  // (4.6) κ/2 s² |δ|² / D of this lane's rows, in units of log 2
  float half_sq[M][2] = {};
  if (spread) {
#pragma unroll
    for (int kk = 0; kk < D / 16; ++kk)
#pragma unroll
      for (int x = 0; x < 4; ++x) {  // as an A fragment lies: rows g and g + 8, features 2 c and 2 c + 8
        const auto c = *reinterpret_cast<const std::uint32_t*>(q_bar + kk * 16 + x / 2 * 8 + lane % 4 * 2);
#pragma unroll
        for (int t = 0; t < M; ++t)
          half_sq[t][x % 2] = add_squared_difference(half_sq[t][x % 2], engine.a[t][kk][x], c, Element());
      }
#pragma unroll
    for (int t = 0; t < M; ++t)
#pragma unroll
      for (int h = 0; h < 2; ++h) half_sq[t][h] = kLog2e * spread_weight(plan, quad_sum(half_sq[t][h]));
  }
  const int summary_tiles = (level.Ck + kKeys - 1) / kKeys;
  const int tokens = level.r > 0 ? places[level.r - 1].y : 0;
  const int tiles = summary_tiles + (tokens + kKeys - 1) / kKeys;
  const bool needed = Engine::kTogether || warp * M * 16 < queries;

  // The row, the bias and the spread of this thread's key of a tile: a summary, or a retrieved token.
  const auto find_row = [&](int t, std::int32_t& row, float2& bias) {
    row = -1;
    bias = {-INFINITY, 0};
    if (t < summary_tiles) {
      const int j = t * kKeys + threadIdx.x;
      if (j < level.Ck) {
        row = j;
        bias = {w.bias[pair + j] * kLog2e, spread ? w.spread[pair + j] : 0};
      }
    } else {
      const int place = (t - summary_tiles) * kKeys + threadIdx.x;
      if (place < tokens) {
        // Find the first cluster that ends after this place.
        int low = 0, high = level.r - 1;
        while (low < high) {
          const int middle = (low + high) / 2;
          if (places[middle].y > place) {
            high = middle;
          } else {
            low = middle + 1;
          }
        }
        const int before = low > 0 ? places[low - 1].y : 0;
        row = key_order[places[low].x + place - before];
        bias = {0, 0};
      }
    }
  };
  const auto copy_tile = [&](int t) {
    const int buffer = t % 2;
    const bool summary = t < summary_tiles;
    const Element* k_rows = summary ? k_tilde : k;
    const Element* v_rows = summary ? v_tilde : v;
    const std::int64_t k_stride = summary ? D : plan.k.token, v_stride = summary ? D : plan.v.token;
    copy_rows<Engine::template Tile, D, kKeys, kThreads>(
        k_shared + buffer * kTile,
        [&](int n) {
          const int row = rows[buffer * kKeys + n];
          return row >= 0 ? k_rows + row * k_stride : nullptr;
        },
        k);
    copy_rows<Engine::template Tile, D, kKeys, kThreads>(
        v_shared + buffer * kTile,
        [&](int n) {
          const int row = rows[buffer * kKeys + n];
          return row >= 0 ? v_rows + row * v_stride : nullptr;
        },
        v);
    commit_copies();
  };
  static_assert(kThreads >= kKeys, "one thread a key");

  std::int32_t row = -1;
  float2 bias = {-INFINITY, 0}, next_bias = bias;
  if (threadIdx.x < kKeys) {
    find_row(0, row, bias);
    rows[threadIdx.x] = row;
    biases[threadIdx.x] = bias;
    find_row(1, row, next_bias);
    rows[kKeys + threadIdx.x] = row;
    biases[kKeys + threadIdx.x] = next_bias;
  }
  __syncthreads();  // also: the queries are read
  copy_tile(0);

  const float scale = plan.scale * kLog2e;
  SoftmaxRows<D, M> attention;
  attention.clear();
  for (int t = 0; t < tiles; ++t) {
    const int buffer = t % 2;
    if (t + 1 < tiles) {
      copy_tile(t + 1);
      wait_copies<1>();
    } else {
      wait_copies<0>();
    }
    Engine::publish_copies();
    if (threadIdx.x < kKeys) find_row(t + 2, row, bias);
    __syncthreads();
    if (needed) {
      float s[M][kKeys / 8][4];
      engine.template dot<kKeys, kKeys>(s, k_shared + buffer * kTile);
      // (4.2) ℓ_j = s q·k̃_ij + b_ij, (4.6) … + κ/2 s² |δ|² σ̃²_ij / D; retrieved tokens have neither.
      const float factor = t >= summary_tiles || shifted ? scale : 0;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
        // {b, σ̃²} of this lane's two keys
        const float4 b = *reinterpret_cast<const float4*>(biases + buffer * kKeys + n * 8 + lane % 4 * 2);
#pragma unroll
        for (int m = 0; m < M; ++m)
#pragma unroll
          for (int e = 0; e < 4; ++e)
            s[m][n][e] = fmaf(s[m][n][e], factor,
                              fmaf(half_sq[m][e / 2], e % 2 == 0 ? b.y : b.w, e % 2 == 0 ? b.x : b.z));
      }
      attention.template soften<kKeys>(s, 1);
      engine.template accumulate<kKeys, kKeys>(attention.o, s, v_shared + buffer * kTile);
    }
    __syncthreads();
    if (threadIdx.x < kKeys) {
      rows[buffer * kKeys + threadIdx.x] = row;
      biases[buffer * kKeys + threadIdx.x] = bias;
    }
    __syncthreads();
  }

  attention.finish();
#pragma unroll
  for (int t = 0; t < M; ++t)
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int n = (warp * M + t) * 16 + lane / 4 + h * 8;
      const bool valid = n < queries;
      write_far_row<D>(far_output(plan, x, head, query_tokens[valid ? n : 0]), attention, t, h, valid);
    }
}

template <class Engine, class Element>
Status launch_far_field_with(const Plan& plan, const Tensors<Element>& x, const Workspace<Element>& w,
                             const Chunk& chunk, cudaStream_t stream) {
  const Level& level = plan.level[chunk.level];
  const int bytes = 4 * Engine::template Tile<Engine::D, 64>::kBytes + 2 * 64 * 12 + kQueryTile * 4;
  const auto kernel = far_field_kernel<Engine, Element>;
  if (const Status status = allow_shared_memory(kernel, bytes); status != cudaSuccess) return status;
  kernel<<<dim3(level.query_tiles, chunk.units), 32 * kQueryTile / (16 * Engine::M), bytes, stream>>>(
      plan, x, w, chunk);
  return cudaGetLastError();
}

}  // namespace muse::cuda
