// bench_reference: how fast the reference is, as ratios taken side by side in one run.
//   1. exact attention against the two Eigen products of the same tiles, without the softmax between them;
//   2. MuSe against exact attention, with the error of MuSe beside it;
//   3. peak memory of the process.
// A result that is wrong prints WRONG and no ratio.

#include <fmt/format.h>
#include <omp.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "muse/check.h"
#include "muse/error_metrics.h"
#include "muse/exact_attention.h"
#include "muse/head.h"
#include "muse/muse_attention.h"
#include "version.h"

namespace {

using namespace muse;

double seconds_of(const auto& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// The products of exact_attention's tiles and nothing else: S = Q Kᵀ, O += S V. Returns a sum, so that none
// is left out.
double tile_products(const Head<float>& head, bool causal) {
  const Index N = ceil_div(head.q.rows(), kTileKeys) * kTileKeys;
  const Index Nk = ceil_div(head.k.rows(), kTileKeys) * kTileKeys;
  const Matrix<float> q = padded_rows<float>(head.q, 0, head.q.rows(), N);
  const Matrix<float> k = padded_rows<float>(head.k, 0, head.k.rows(), Nk);
  const Matrix<float> v = padded_rows<float>(head.v, 0, head.v.rows(), Nk);
  double sum = 0;
#pragma omp parallel reduction(+ : sum)
  {
    Matrix<float> scores(kTileQueries, kTileKeys), o(kTileQueries, v.cols());
#pragma omp for schedule(dynamic)
    for (Index tile = ceil_div(head.q.rows(), kTileQueries) - 1; tile >= 0; --tile) {
      o.setZero();
      const Index last_key = causal ? (tile + 1) * kTileQueries : Nk;
      for (Index n0 = 0; n0 < last_key; n0 += kTileKeys) {
        const Index width = last_key - n0 <= kTileKeys / 2 ? kTileKeys / 2 : kTileKeys;
        auto tile_scores = scores.leftCols(width);
        tile_scores.noalias() =
            q.middleRows(tile * kTileQueries, kTileQueries) * k.middleRows(n0, width).transpose();
        o.noalias() += tile_scores * v.middleRows(n0, width);
      }
      sum += static_cast<double>(o(0, 0));
    }
  }
  return sum;
}

struct Settings {
  std::string dump;
  std::string json;
  Index tokens = 0;
  int repeats = 5;
  Config config;
};

nlohmann::json run(const Settings& settings) {
  const Dump dump = read_dump(settings.dump);
  const bool causal = settings.config.mode != Mode::acausal;
  std::vector<double> products_seconds, exact_seconds, muse_seconds, errors;
  double volatile keep = 0;
  bool finite = true;
  for (Index h = 0; h < dump.heads_q(); ++h) {
    const Head<float> head = load_head<float>(dump, 0, h, settings.tokens);
    std::vector<double> products_times, exact_times, muse_times;
    HeadError error;
    for (int repeat = -1; repeat < settings.repeats; ++repeat) {  // the first round warms up
      Attention<float> exact;
      MuseResult<float> approximate;
      const double products_time = seconds_of([&] { keep = keep + tile_products(head, causal); });
      const double exact_time = seconds_of(
          [&] { exact = exact_attention<float>(head.q, head.k, head.v, head.scale, {.causal = causal}); });
      const double muse_time = seconds_of(
          [&] { approximate = muse_attention<float>(head.q, head.k, head.v, head.scale, settings.config); });
      if (repeat < 0) continue;
      products_times.push_back(products_time);
      exact_times.push_back(exact_time);
      muse_times.push_back(muse_time);
      error = head_error(approximate.attention, exact);
      finite = finite && error.non_finite == 0;
    }
    products_seconds.push_back(median(products_times));
    exact_seconds.push_back(median(exact_times));
    muse_seconds.push_back(median(muse_times));
    errors.push_back(error.rel_sq_err);
    fmt::print("head {}: products {:.3f} s, exact {:.3f} s, MuSe {:.3f} s, relative squared error {:.4g}\n",
               h, products_seconds.back(), exact_seconds.back(), muse_seconds.back(), errors.back());
  }
  const auto total = [](const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) sum += value;
    return sum;
  };
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const double peak_gib = static_cast<double>(usage.ru_maxrss) / (1024 * 1024);
  // An approximation that errs as much as zeros would is broken, however fast.
  const bool right = finite && total(errors) / static_cast<double>(errors.size()) < 1;
  nlohmann::json result = {{"version", tools::version_json()},
                           {"threads", omp_get_max_threads()},
                           {"repeats", settings.repeats},
                           {"dump", std::filesystem::path(settings.dump).filename().string()},
                           {"heads", dump.heads_q()},
                           {"tokens", settings.tokens == 0 ? dump.tokens_q() : settings.tokens},
                           {"config", to_json(settings.config)},
                           {"right", right},
                           {"mean_rel_sq_err", total(errors) / static_cast<double>(errors.size())},
                           {"products_seconds", total(products_seconds)},
                           {"exact_seconds", total(exact_seconds)},
                           {"muse_seconds", total(muse_seconds)},
                           {"exact_rate_of_products", total(products_seconds) / total(exact_seconds)},
                           {"muse_time_of_exact", total(muse_seconds) / total(exact_seconds)},
                           {"peak_memory_gib", peak_gib}};
  if (!right) {
    fmt::print("WRONG: mean relative squared error {:.4g}, outputs finite: {}\n",
               result["mean_rel_sq_err"].get<double>(), finite);
    return result;
  }
  fmt::print("exact attention runs at {:.0f} % of the rate of its two products without the softmax\n",
             100 * result["exact_rate_of_products"].get<double>());
  fmt::print(
      "MuSe takes {:.0f} % of the time of exact attention, at a mean relative squared error of {:.4g}\n",
      100 * result["muse_time_of_exact"].get<double>(), result["mean_rel_sq_err"].get<double>());
  fmt::print("peak memory {:.2f} GiB\n", peak_gib);
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  Settings settings;
  set_option(settings.config, "retrieve", "8");
  CLI::App app{
      "Times the reference on a dump: exact attention against its bare products, MuSe against exact "
      "attention. "
      "Medians, in one run."};
  app.add_option("dump", settings.dump, "folder, .npz or .safetensors")->required();
  app.add_option("--tokens", settings.tokens, "first N tokens; 0: all")->capture_default_str();
  app.add_option("--repeats", settings.repeats, "timed rounds a head")->capture_default_str();
  app.add_option("--json", settings.json, "write the result to this file");
  std::map<std::string, std::string> texts;
  for (const OptionInfo& option : option_table())
    app.add_option("--" + option.name, texts[option.name], option.help)->type_name(option.type);
  CLI11_PARSE(app, argc, argv);
  try {
    for (const auto& [name, text] : texts)
      if (!text.empty()) set_option(settings.config, name, text);
    const nlohmann::json result = run(settings);
    if (!settings.json.empty()) std::ofstream(settings.json) << result.dump(1) << '\n';
    return result["right"].get<bool>() ? 0 : 1;
  } catch (const Error& error) {
    fmt::print(stderr, "bench_reference: {}\n", error.what());
    return static_cast<int>(error.status());
  }
}
