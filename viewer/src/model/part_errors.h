// Which part of the approximation errs: blocks of the hierarchy, and pairs of clusters inside of a block
// (docs/math.md, 8.5 and 8.6).
#pragma once

#include <string>
#include <vector>

#include "model/counted_queries.h"
#include "model/head_runs.h"

namespace muse::viewer {

/// One part (a block, or a pair of clusters) in the error of its head.
struct PartError {
  double exact_mass = 0;  ///< mean over the part's queries of the exact attention weight on its keys
  double mass = 0;        ///< the same as approximated, in units of the query's exact mass
  double lse_bias = 0;    ///< mean over the part's queries of approximate - exact log-mass
  double alone = 0;       ///< (8.5): the head's error if this part alone were approximated
  double share = 0;       ///< (8.6): signed part in (8.1); those of all parts add up to it
  double squared = 0;     ///< (8.5) without its denominator: sum over the queries of ‖o' - o‖²
  Index queries = 0;      ///< of the part that count

  /// value: `mass`; signed: `share`; absolute: root mean square of ‖o' - o‖; squared; relative: `alone`.
  [[nodiscard]] double by(ErrorMetric metric) const;
};

[[nodiscard]] std::string part_error_formula(ErrorMetric metric);

struct BlockPart {
  Block block;
  PartError error;
  double operations = 0;  ///< of stages 1 and 2 and retrieval, or of exact attention on the diagonal
  Index clusters_q = 0, clusters_k = 0;  ///< non-empty ones
};

struct BlockParts {
  std::vector<BlockPart> blocks;    ///< diagonal blocks, then far blocks level by level
  std::vector<double> error_up_to;  ///< [levels + 1] (8.1) of the diagonal alone, then with each level added
  std::vector<double> mass_up_to;   ///< [levels + 1] mean exact mass of the parts that are in
  double rel_sq_err = 0;            ///< (8.1) of the queries that count
};

/// What a block adds to the error of one query: PartError before it is summed, in units of the query's exact
/// mass.
struct QueryTerm {
  double exact_mass = 0, mass = 0, lse_bias = 0, squared = 0, share = 0;
};

/// The blocks query by query, from which any choice of queries is summed at once. 5 (levels + 1) N numbers.
struct BlockTerms {
  struct OfBlock {
    BlockPart part;                ///< without its error
    std::vector<QueryTerm> terms;  ///< [queries of the block]
  };
  std::vector<OfBlock> blocks;                     ///< in the order of BlockParts
  std::vector<std::vector<double>> squared_up_to;  ///< [levels + 1, N] ‖sum so far − o‖²
  std::vector<double> squared;                     ///< [N] ‖ô − o‖²
  std::vector<double> norm_sq;                     ///< [N] ‖o‖²
};

/// Blocks of the slot's method. Method exact has diagonal and far blocks without error, local has no far
/// ones.
[[nodiscard]] BlockTerms block_terms_of(const DumpSession& session, const Slot& slot, const HeadRun& exact,
                                        const HeadRun& run, Task& task);
/// Their sums over the queries that count.
[[nodiscard]] BlockParts block_parts_of(const BlockTerms& terms, const CountedQueries& counted);

/// Errors of (query cluster i, key cluster j) of one block.
struct PairErrors {
  Block block;
  Index Cq = 0, Ck = 0;
  std::vector<Index> sizes_q, sizes_k;  ///< [Cq] queries of the block that count, [Ck] keys
  std::vector<PartError> pairs;         ///< [Cq, Ck]; zero where a cluster is empty
  std::vector<char> retrieved;          ///< [Cq, Ck]; 1: its tokens are attended

  [[nodiscard]] const PartError& at(Index i, Index j) const {
    return pairs[static_cast<std::size_t>(i * Ck + j)];
  }
};

/// Method muse only. Computed in float, summed in double; 8 operations a pair and dimension.
[[nodiscard]] PairErrors pair_errors_of(const DumpSession& session, const Slot& slot, const Block& block,
                                        const HeadRun& exact, const HeadRun& run,
                                        const CountedQueries& counted, Task& task);

}  // namespace muse::viewer
