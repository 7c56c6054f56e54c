#include "compare_picture.h"

#include <fmt/format.h>

#include <algorithm>

#include "muse/muse_attention.h"
#include "output.h"
#include "render/compare_figure.h"
#include "version.h"

namespace muse::tools {
namespace {

constexpr Index kMostBins = 128;

// Series: the method; within it, a point for each setting.
render::ComparePoint point_of(const PicturedMethod& method) {
  const std::size_t colon = method.spec.word.find(':');
  const std::string name = method.spec.word.substr(0, colon);
  return {.series = name,
          .name = colon == std::string::npos ? name : method.spec.word.substr(colon + 1),
          .cost = method.relative_operations,
          .error = method.mean_rel_sq_err};
}

std::string settings_text(const Config& config) {
  std::string text;
  for (const OptionInfo& option : option_table())
    if (option.name != "mode" && get_option(config, option.name) != option.default_value)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", option.name, get_option(config, option.name));
  return text;
}

std::vector<render::AttentionBlock> blocks_of(const Job& job) {
  const Config& config = job.configs.common;
  std::vector<render::AttentionBlock> blocks;
  if (config.mode == Mode::acausal) return blocks;
  const auto add = [&](const Block& block) {
    blocks.push_back({.row0 = block.query_begin,
                      .row1 = block.query_end,
                      .col0 = block.key_begin,
                      .col1 = block.key_end,
                      .level = block.level,
                      .exact = block.level < 0});
  };
  for (const Block& block : diagonal_blocks(job.queries(), config.block)) add(block);
  for (const Block& block : far_blocks(job.queries(), config.block)) add(block);
  return blocks;
}

}  // namespace

Index picture_bins(Index N) {
  return std::min(N, kMostBins);
}

std::vector<double> binned(const Vector<double>& query_errors) {
  const Index N = query_errors.size(), bins = picture_bins(N);
  std::vector<double> means;
  for (Index b = 0; b < bins; ++b) {
    const Index begin = b * N / bins, end = (b + 1) * N / bins;
    means.push_back(query_errors.segment(begin, end - begin).mean());
  }
  return means;
}

void write_compare_picture(const std::string& path, const Job& job, const std::vector<std::string>& rows,
                           const std::vector<PicturedMethod>& methods) {
  render::CompareFigure figure;
  figure.title = "Error against exact attention";
  figure.dump = std::filesystem::path(job.path).filename().string();
  figure.mode = std::string(name_of(job.configs.common.mode));
  figure.settings = settings_text(job.configs.common);
  figure.tokens = job.queries();
  figure.heads = rows;
  for (const PicturedMethod& method : methods) {
    figure.methods.push_back({.name = method.spec.word, .errors = method.errors});
    figure.points.push_back(point_of(method));
  }
  figure.blocks = blocks_of(job);
  const render::Image image = render::draw_compare(figure);
  write_in_place(path, [&](const std::filesystem::path& temporary) {
    render::write_png(temporary.string(), image, {{"Title", figure.title}, {"Software", version_line()}});
  });
}

}  // namespace muse::tools
