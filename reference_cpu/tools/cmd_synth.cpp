// muse synth: dumps of known make, the same bytes on every machine.
#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <memory>

#include "commands.h"
#include "dump_options.h"
#include "gaussian.h"
#include "help.h"
#include "interrupt.h"
#include "muse/check.h"
#include "output.h"
#include "table.h"

namespace muse::tools {
namespace {

constexpr std::int64_t kLargestExtent = std::int64_t{1} << 24;
constexpr double kMostElements = 4e9;  // of one tensor
constexpr Index kSinkTokens = 4;
constexpr double kNoise = 0.5;           // around a cluster's centre, relative to the centres' own spread
constexpr std::uint64_t kRunLength = 8;  // tokens that stay in one cluster, on average

struct SynthOptions {
  std::string out, kind = "clustered", dtype = "float16", json;
  std::int64_t tokens = 4096, tokens_k = 0, heads = 4, heads_kv = 0, batch = 1, dim = 64, dim_v = 0,
               clusters = 64;
  std::uint64_t seed = 1;
  double scale = 0;
};

// Rows of numbers, [rows, dim].
using Rows = std::vector<double>;

Rows gaussian_rows(Index rows, Index dim, Random& random) {
  Rows x(static_cast<std::size_t>(rows * dim));
  for (double& value : x) value = random.gaussian();
  return x;
}

// Rows around `centres`, a few successive ones around the same.
Rows clustered_rows(Index rows, Index dim, const Rows& centres, Random& random) {
  const std::uint64_t count = centres.size() / static_cast<std::size_t>(dim);
  Rows x(static_cast<std::size_t>(rows * dim));
  std::uint64_t centre = 0;
  for (Index n = 0; n < rows; ++n) {
    if (n == 0 || random.below(kRunLength) == 0) centre = random.below(count);
    for (Index d = 0; d < dim; ++d)
      x[static_cast<std::size_t>(n * dim + d)] =
          centres[static_cast<std::size_t>(static_cast<Index>(centre) * dim + d)] +
          kNoise * random.gaussian();
  }
  return x;
}

// Moves rows [begin, end) by factor times `direction`.
void move_rows(Rows& x, Index begin, Index end, const Rows& direction, double factor) {
  const auto dim = static_cast<Index>(direction.size());
  for (Index n = begin; n < end; ++n)
    for (Index d = 0; d < dim; ++d)
      x[static_cast<std::size_t>(n * dim + d)] += factor * direction[static_cast<std::size_t>(d)];
}

// q, k and v of all heads of a dump, in C order.
struct Tensors {
  Rows q, k, v;
};

void append(Rows& all, const Rows& more) {
  all.insert(all.end(), more.begin(), more.end());
}

// One key head and the query heads that share it.
void append_group(Tensors& tensors, const SynthOptions& o, double scale, Random& random) {
  const Index queries = o.heads / o.heads_kv;
  if (o.kind == "clustered") {
    // Keys, values and queries of a cluster lie around one centre each; the queries' centres are the keys'.
    const Rows centres = gaussian_rows(o.clusters, o.dim, random);
    for (Index head = 0; head < queries; ++head)
      append(tensors.q, clustered_rows(o.tokens, o.dim, centres, random));
    append(tensors.k, clustered_rows(o.tokens_k, o.dim, centres, random));
    append(tensors.v, gaussian_rows(o.tokens_k, o.dim_v, random));
    return;
  }
  std::vector<Rows> q;
  for (Index head = 0; head < queries; ++head) q.push_back(gaussian_rows(o.tokens, o.dim, random));
  Rows k = gaussian_rows(o.tokens_k, o.dim, random), v = gaussian_rows(o.tokens_k, o.dim_v, random);
  if (o.kind == "sinks") {
    // All queries share a direction g, and the first keys point along it so far that s q·k is log2 N on
    // average: more than log N, what it takes to outweigh all others. Their values are small, as those of
    // real sinks are.
    const Rows g = gaussian_rows(1, o.dim, random);
    double g_sq = 0;
    for (const double value : g) g_sq += value * value;
    const auto log2_N = static_cast<double>(std::bit_width(static_cast<std::uint64_t>(o.tokens_k)));
    const Index sinks = std::min(kSinkTokens, static_cast<Index>(o.tokens_k));
    for (Rows& rows : q) move_rows(rows, 0, o.tokens, g, 1);
    move_rows(k, 0, sinks, g, log2_N / (scale * g_sq));
    for (Index i = 0; i < sinks * o.dim_v; ++i) v[static_cast<std::size_t>(i)] /= 16;
  }
  for (const Rows& rows : q) append(tensors.q, rows);
  append(tensors.k, k);
  append(tensors.v, v);
}

DType dtype_named(const std::string& name) {
  for (const DType dtype : {DType::float16, DType::float32, DType::float64})
    if (name == name_of(dtype)) return dtype;
  throw UsageError(fmt::format("--dtype: expected float16, float32 or float64, found '{}'", name));
}

SynthOptions with_defaults(SynthOptions o) {
  if (o.tokens_k == 0) o.tokens_k = o.tokens;
  if (o.heads_kv == 0) o.heads_kv = o.heads;
  if (o.dim_v == 0) o.dim_v = o.dim;
  if (o.heads % o.heads_kv != 0)
    throw UsageError(
        fmt::format("--heads-kv: expected a divisor of the {} query heads, found {}", o.heads, o.heads_kv));
  for (const auto& [tensor, heads, tokens, dim] :
       {std::tuple{"q", o.heads, o.tokens, o.dim}, std::tuple{"k", o.heads_kv, o.tokens_k, o.dim},
        std::tuple{"v", o.heads_kv, o.tokens_k, o.dim_v}}) {
    const double elements = static_cast<double>(o.batch) * static_cast<double>(heads) *
                            static_cast<double>(tokens) * static_cast<double>(dim);
    if (elements > kMostElements)
      throw UsageError(fmt::format("{} would have {:.3g} numbers; expected at most {:.3g}", tensor, elements,
                                   kMostElements));
  }
  return o;
}

Dump make_dump(const SynthOptions& o) {
  Dump dump;
  dump.scale = o.scale > 0 ? o.scale : 1 / std::sqrt(static_cast<double>(o.dim));
  Random random(o.seed);
  Tensors tensors;
  for (Index batch = 0; batch < o.batch; ++batch) {
    for (Index head = 0; head < o.heads_kv; ++head) {
      throw_if_interrupted();
      append_group(tensors, o, dump.scale, random);
    }
  }
  const DType dtype = dtype_named(o.dtype);
  dump.q = make_array<double>(dtype, {o.batch, o.heads, o.tokens, o.dim}, tensors.q);
  dump.k = make_array<double>(dtype, {o.batch, o.heads_kv, o.tokens_k, o.dim}, tensors.k);
  dump.v = make_array<double>(dtype, {o.batch, o.heads_kv, o.tokens_k, o.dim_v}, tensors.v);
  dump.has_batch_axis = o.batch > 1;
  dump.causal = o.tokens == o.tokens_k;
  dump.source = fmt::format("muse synth --kind {} --seed {}", o.kind, o.seed);
  if (o.kind == "clustered") dump.source += fmt::format(" --clusters {}", o.clusters);
  return dump;
}

void run_synth(const SynthOptions& options) {
  const Dump dump = make_dump(with_defaults(options));
  throw_if_interrupted();
  write_dump(options.out, dump);
  write_results(options.json, dump_json(options.out, dump), [&](bool) {
    return fmt::format("{}: q {} k {} v {}, {}, scale {}\n", options.out, shape_text(dump, dump.q),
                       shape_text(dump, dump.k), shape_text(dump, dump.v), options.dtype,
                       number_text(dump.scale));
  });
}

}  // namespace

void add_synth_command(CLI::App& app) {
  const auto o = std::make_shared<SynthOptions>();
  CLI::App* command =
      add_command(app, "synth",
                  "Write a synthetic dump. The same options give the same bytes on every machine. Kinds: "
                  "'clustered', queries and "
                  "keys around common centres, a few successive tokens around the same; 'gaussian', no "
                  "structure at all; 'sinks', "
                  "Gaussian but for the first 4 tokens, which attract a large share of every query's mass "
                  "and carry small values.",
                  "muse synth DUMP --kind clustered --tokens 8192 --heads 8 --heads-kv 2 --seed 7");
  command->add_option("OUT", o->out, "folder to write; it is made if need be")->required()->type_name("");
  command->add_option("--kind", o->kind, described("how tokens are distributed", "", o->kind))
      ->type_name("clustered|gaussian|sinks")
      ->check(unnamed(CLI::IsMember({"clustered", "gaussian", "sinks"})));
  const auto add_size = [&](const std::string& name, std::int64_t& value, const std::string& help,
                            const std::string& unit, const std::string& default_value) {
    command->add_option("--" + name, value, described(help, unit, default_value))
        ->type_name("INT")
        ->check(unnamed(CLI::Range(std::int64_t{1}, kLargestExtent)));
  };
  add_size("tokens", o->tokens, "queries, and keys unless --tokens-k says else", "tokens", "4096");
  add_size("tokens-k", o->tokens_k, "keys; the dump is acausal if they are not as many as the queries",
           "tokens", "as queries");
  add_size("heads", o->heads, "query heads", "heads", "4");
  add_size("heads-kv", o->heads_kv, "key and value heads, a divisor of the query heads", "heads",
           "as query heads");
  add_size("batch", o->batch, "sequences; more than one gives the arrays a batch axis", "sequences", "1");
  add_size("dim", o->dim, "extent of queries and keys", "numbers", "64");
  add_size("dim-v", o->dim_v, "extent of values", "numbers", "as dim");
  add_size("clusters", o->clusters, "centres of the kind 'clustered', for each key head", "clusters", "64");
  command->add_option("--scale", o->scale, described("s of the softmax", "", "1/sqrt(dim)"))
      ->type_name("FLOAT")
      ->check(unnamed(CLI::PositiveNumber));
  command->add_option("--dtype", o->dtype, described("number type of the files", "", o->dtype))
      ->type_name("float16|float32|float64")
      ->check(unnamed(CLI::IsMember({"float16", "float32", "float64"})));
  command->add_option("--seed", o->seed, described("other seeds, other numbers", "", "1"))->type_name("INT");
  add_json_option(*command, o->json);
  command->callback([o] { run_synth(*o); });
}

}  // namespace muse::tools
