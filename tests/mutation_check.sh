#!/usr/bin/env bash
# Breaks formulas of the reference on purpose, one at a time, in a copy, and checks that a numeric test turns red for
# each. A tool for developers, not part of the gate: some twenty minutes on two idle cores.
#
#   tests/mutation_check.sh            every mutation
#   tests/mutation_check.sh '^far'     those whose name matches
set -euo pipefail
cd "$(dirname "$0")/.."
wanted=${1:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMP_WAIT_POLICY=passive

# A copy of the tree; shared libraries, so that a mutation recompiles one file and links little.
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$work"
cmake -S "$work" -B "$work/build" -G Ninja -DBUILD_SHARED_LIBS=ON -DCMAKE_LINK_DEPENDS_NO_SHARED=ON \
  -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_FLAGS="-O1 -DNDEBUG -w" -DMUSE_BUILD_VIEWER=OFF >"$work/log" 2>&1 ||
  { cat "$work/log"; exit 1; }

# Nothing is broken yet: everything must be green.
suites=$(sed -n 's/^mutate .* \([a-z_ ]*\)$/\1/p' "$work/tests/mutation_check.sh" | tr ' ' '\n' | sort -u | sed '/^$/d')
ninja -C "$work/build" -j2 $(printf 'test_%s ' $suites) >"$work/log" 2>&1 || { tail "$work/log"; exit 1; }
for suite in $suites; do
  "$work/build/tests/test_$suite" >"$work/log" 2>&1 || { echo "red before any mutation: $suite"; cat "$work/log"; exit 1; }
done

declare -i tried=0 survived=0

# mutate NAME FILE SED-PROGRAM SUITE...: the sed program must change the file, and one of the suites must then fail.
mutate() {
  local name=$1 file=$work/reference_cpu/$2 program=$3
  shift 3
  [[ $name =~ $wanted ]] || return 0
  tried+=1
  cp "$file" "$work/original"
  sed -i -E "$program" "$file"
  if cmp -s "$file" "$work/original"; then
    printf '%-44s does not apply: %s has changed\n' "$name" "$2"
    survived+=1
    return 0
  fi
  local red=""
  if ! ninja -C "$work/build" -j2 "${@/#/test_}" >"$work/log" 2>&1; then
    printf '%-44s does not compile:\n' "$name"
    grep -m3 error "$work/log" || true
    survived+=1
  else
    for suite in "$@"; do
      timeout 300 "$work/build/tests/test_$suite" >"$work/log" 2>&1 && continue
      red="$suite: $(sed -n 's/^TEST CASE: *//p' "$work/log" | awk '!seen[$0]++ && n++ < 2' | paste -sd';')"
      break
    done
    printf '%-44s %s\n' "$name" "${red:-SURVIVES}"
    [[ -n $red ]] || survived+=1
  fi
  cp "$work/original" "$file"
}

# ---- Stage 2
mutate "far_field: sign of delta" src/far_field.cpp 's/scale \* \(q\.rowwise\(\) - q_bar_i\)/-scale * (q.rowwise() - q_bar_i)/' far_field
mutate "far_field: dropped L_ij" src/far_field.cpp 's/l\.rowwise\(\) \+= summaries\.L\.row\(i\).*;//' far_field
mutate "far_field: missing scale" src/far_field.cpp 's/= scale \* \(q\.rowwise/= (q.rowwise/' far_field
mutate "far_field: monopole feels delta" src/far_field.cpp 's/order == Order::monopole/false/' far_field
mutate "far_field: spread without kappa" src/far_field.cpp 's/kSpreadFactor \/ static_cast/1 \/ static_cast/' far_field
mutate "far_field: spread by delta, not its square" src/far_field.cpp 's/s_delta\.rowwise\(\)\.squaredNorm/s_delta.rowwise().norm/' far_field
mutate "far_field: value gradient without s" src/far_field.cpp 's/\(s_delta, value_gradient/(s_delta \/ scale, value_gradient/' far_field
mutate "far_field: excluded clusters count" src/far_field.cpp 's/weights\.col\(column\)\.setConstant.*;/;/' far_field
mutate "far_field: excluded clusters keep a little" src/far_field.cpp 's/weights\.col\(column\)\.setZero\(\);/;/' far_field
mutate "far_field: only the first range's masses" src/far_field.cpp 's/segment\(range\.begin, range/segment(0, range/' far_field

# ---- Stage 1
mutate "tilted_summaries: missing scale" src/tilted_summaries.cpp 's/= scale \* q_bar\.transpose/= q_bar.transpose/' tilted_summaries
mutate "tilted_summaries: mean, not tilted mean" src/tilted_summaries.cpp 's/p_j\.row\(n\)\.array\(\) \*= share.*;/p_j.row(n).setConstant(Scalar(1) \/ Scalar(keys.count(j)));/' tilted_summaries
mutate "tilted_summaries: L without log of the sum" src/tilted_summaries.cpp 's/m\.array\(\) \+= sums.*log\(\);//' tilted_summaries
mutate "tilted_summaries: empty clusters have mass" src/tilted_summaries.cpp 's/setConstant\(-std::numeric_limits<Scalar>::infinity\(\)\)/setConstant(Scalar(0))/' tilted_summaries
mutate "tilted_summaries: spread around the origin" src/tilted_summaries.cpp 's/\(mean_sq - .*squaredNorm\(\)\)/mean_sq/' far_field
mutate "tilted_summaries: value gradient transposed" src/tilted_summaries.cpp 's/return (v_centred\.transpose\(\).*);/Matrix<Scalar> g = \1; if (g.rows() == g.cols()) g.transposeInPlace(); return g;/' tilted_summaries far_field
mutate "tilted_summaries: value gradient not centred" src/tilted_summaries.cpp 's/\.rowwise\(\) - summaries\.[kv]_tilde\(i\)\.row\(j - summaries.range\(\).begin\)//' tilted_summaries
mutate "tilted_summaries: centroid order without log n" src/tilted_summaries.cpp 's/^(  for .*\) ).*L\.col\(j\)\.array\(\) \+= std::log.*;/\1;/' tilted_summaries
mutate "tilted_summaries: mean of an empty cluster" src/tilted_summaries.cpp 's/if \(keys\.count\(j\) == 0\) continue;//' tilted_summaries

# ---- Retrieval
mutate "retrieval: ties to the highest index" src/retrieval.cpp 's/: a < b;/: a > b;/' retrieval
mutate "retrieval: the smallest" src/retrieval.cpp 's/ranks\[a\] > ranks\[b\]/ranks[a] < ranks[b]/' retrieval
mutate "retrieval: empty clusters retrieved" src/retrieval.cpp 's/if \(ranks\[j\] > -std::.*\) clusters/clusters/' retrieval
mutate "retrieval: mean weight with the wrong sign" src/retrieval.cpp 's/ranks\[j\] -= std::log/ranks[j] += std::log/' retrieval
mutate "retrieval: missing scale" src/retrieval.cpp 's/= scale \* q;/= q;/' retrieval
mutate "retrieval: clusters on top of one another" src/retrieval.cpp 's/column \+= keys\.count\(j\);//' retrieval

# ---- Merging
mutate "softmax_merge: weights exchanged" include/muse/softmax_merge.h 's/exp\(lse - L\) \* o \+ std::exp\(part_lse - L\)/exp(part_lse - L) * o + std::exp(lse - L)/' softmax_merge
mutate "softmax_merge: no care for empty parts" include/muse/softmax_merge.h 's/if \(part_lse == kEmpty\) return;//' softmax_merge
mutate "softmax_merge: old sums not rescaled" include/muse/softmax_merge.h 's/if \(rescale != 1\).*;//' softmax_merge exact_attention
mutate "softmax_merge: old weights not rescaled" include/muse/softmax_merge.h 's/= rescale \* l\[row\]/= l[row]/' softmax_merge exact_attention
mutate "softmax_merge: log of packets" include/muse/softmax_merge.h 's/( +)out\.lse\[row\] = m\[row\] \+ std::log\(l\[row\]\);/\1out.lse = m.array() + l.array().log();/' strict_causality
mutate "softmax_merge: largest not taken out" include/muse/softmax_merge.h 's/larger \+ std::log\(.*;/std::log(std::exp(lse) + std::exp(part_lse));/' softmax_merge

# ---- Exact attention
mutate "exact_attention: mask off by one" include/muse/exact_attention.h 's/causal \? t \+ 1/causal ? t/' exact_attention
mutate "exact_attention: later weights not zeroed" src/exact_attention.cpp 's/weights\.row\(row\)\.tail.*setZero\(\);//' exact_attention
mutate "exact_attention: earlier weights not zeroed" src/exact_attention.cpp 's/weights\.row\(row\)\.head.*setZero\(\);//' exact_attention
mutate "exact_attention: half a tile too few" src/exact_attention.cpp 's/last_key - n0 <= kTileKeys/last_key - n0 <= 1 + kTileKeys/' exact_attention
mutate "exact_attention: missing scale" src/exact_attention.cpp 's/= scale \* padded_rows/= padded_rows/' exact_attention

# ---- The hierarchy
mutate "causal_hierarchy: keys off by one" src/causal_hierarchy.cpp 's/\.key_end = first \+ S\}/.key_end = first + S - 1}/' causal_hierarchy
mutate "causal_hierarchy: a block without queries" src/causal_hierarchy.cpp 's/first \+ S < N/first + S <= N/' causal_hierarchy
mutate "causal_hierarchy: last half not cut" src/causal_hierarchy.cpp 's/std::min\(first \+ 2 \* S, N\)/first + 2 * S/' causal_hierarchy
mutate "causal_hierarchy: blocks overlap" src/causal_hierarchy.cpp 's/first \+= 2 \* S/first += S/' causal_hierarchy

# ---- Clustering
mutate "kmeans: ties to the highest index" src/kmeans.cpp 's/score > best\[n\]/score >= best[n]/' kmeans
mutate "kmeans: seeds at the strides' ends" src/kmeans.cpp 's/begin \+ N \/ \(2 \* C\)/begin/' kmeans
mutate "kmeans: empty clusters lose their centroid" src/kmeans.cpp 's/if \(clusters\.count\(c\) > 0\) centroids/centroids/' kmeans
mutate "kmeans: wrong weight of the norm" src/kmeans.cpp 's/Scalar\(-2\)/Scalar(-1)/' kmeans
mutate "kmeans: one pass too few" src/kmeans.cpp 's/pass < options\.passes/pass + 1 < options.passes/' kmeans
mutate "kmeans: the sample is the first tokens" src/kmeans.cpp 's/x\.outerStride\(\) \* options\.sample/x.outerStride()/' kmeans
mutate "kmeans: unusable clusters used" src/kmeans.cpp 's/bias\[c\] = -std::.*;/;/' kmeans
mutate "clusters: weights ignored" src/clusters.cpp 's/weights\.empty\(\) \? 1\.0 : .*;/1.0;/' clusters
mutate "clusters: spatial off by one" src/clusters.cpp 's/\(n \* C \/ N\)/((n * C + 1) \/ N)/' clusters
mutate "clusters: bisection always in halves" src/clusters.cpp 's/n_left = n \* C_left \/ C/n_left = n \/ 2/' clusters
mutate "clusters: covariance around zero" src/clusters.cpp '/key_covariance_root\(const/,/^\}/s/centred\.rowwise\(\) -= mean;//' clusters
mutate "clusters: covariance, not its root" src/clusters.cpp 's/\.cwiseSqrt\(\)//' clusters

# ---- The whole method
mutate "muse_attention: query clusters from the future" src/muse_attention.cpp 's/if \(config\.mode == Mode::causal\) return/if (false) return/' muse_attention strict_causality
mutate "muse_attention: retrieved clusters count twice" src/muse_attention.cpp 's/far\[static_cast<std::size_t>\(j\)\] = false;//' muse_attention
mutate "muse_attention: queries go to empty clusters" src/muse_attention.cpp 's/past\.non_empty\(\)/std::vector<bool>{}/' muse_attention
mutate "muse_attention: a query cluster forgotten" src/muse_attention.cpp 's/Index i = 0; i < clusters\.home\.size\(\); \+\+i\)$/Index i = 1; i < clusters.home.size(); ++i)/' muse_attention
mutate "muse_attention: a range of far clusters left out" src/muse_attention.cpp 's/j0 \+= kTileKeyClusters/j0 += 2 * kTileKeyClusters/' muse_attention
mutate "muse_attention: windows merged by number" src/muse_attention.cpp 's/, \.weights = sizes\}/}/' muse_attention
mutate "muse_attention: windows one level late" src/muse_attention.cpp 's/level_size >= windows\.W/level_size > windows.W/' muse_attention
mutate "muse_attention: retrieval miscounted" src/muse_attention.cpp 's/retrieval_operations \+= exact_operations/retrieval_operations += 2 * exact_operations/' muse_attention
mutate "strict_causality: metric map by Eigen" src/muse_attention.cpp 's/multiply<Scalar>\(x, root_, storage\);/storage.noalias() = x * root_;/' strict_causality

# ---- Products
mutate "row_products: Eigen's A B" src/row_products.cpp 's/multiply_chunks<Scalar>\(A\.data\(\), A\.outerStride\(\), 1, B, C, false\)/C.noalias() = A * B/' row_products strict_causality
mutate "row_products: Eigen's A^T B" src/row_products.cpp 's/multiply_chunks<Scalar>\(A\.data\(\), 1, A\.outerStride\(\), B, C, false\)/C.noalias() = A.transpose() * B/' row_products tilted_summaries
mutate "row_products: Eigen's A B^T" src/row_products.cpp '/^void multiply_transposed/,/^\}/s/for \(Index j = 0;/C.noalias() = A * B.transpose(); return; &/' row_products strict_causality
mutate "row_products: last columns forgotten" src/row_products.cpp 's/k = whole; k < K/k = whole; k + 1 < K/' row_products

# ---- Errors
mutate "error_metrics: NaN passes" src/error_metrics.cpp 's/!o_hat\.allFinite\(\)/false/' error_metrics
mutate "error_metrics: bias of the other sign" src/error_metrics.cpp 's/(lse_gap = )(.*) - (.*);/\1\3 - \2;/' error_metrics
mutate "error_metrics: block not renormalised" src/error_metrics.cpp 's/ \/ \(1 - w \+ w_hat\)//' error_metrics
mutate "error_metrics: block added, not replaced" src/error_metrics.cpp 's/\(o - w \* o_b \+/(o +/' error_metrics

mutate "muse_abi: retrieve_heads ignored" src/muse_abi.cpp 's/r = std::clamp<std::int64_t>\(call\.retrieve_heads\[h\], 0, r\);/(void)r;/' muse_abi
mutate "muse_abi: retrieve_heads of the key head" src/muse_abi.cpp 's/call\.retrieve_heads\[h\]/call.retrieve_heads[kv]/' muse_abi

echo "$tried mutations, $survived not caught"
((tried > 0 && survived == 0))
