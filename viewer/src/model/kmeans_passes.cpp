#include "model/kmeans_passes.h"

#include <algorithm>

#include "muse/check.h"
#include "muse/row_products.h"

namespace muse::viewer {

KmeansPasses kmeans_passes_of(const DumpSession& session, const Slot& slot, const Block& block, Side side,
                              Task& task) {
  const Config& config = slot.config;
  MUSE_REQUIRE(slot.method == Method::muse, "k-means: only method muse has clusters; found ",
               slot_word(slot));
  MUSE_REQUIRE(config.cluster_by == ClusterBy::kmeans,
               "k-means playback: expected --cluster-by kmeans, found ", muse::name_of(config.cluster_by));
  MUSE_REQUIRE(
      config.cluster_window == 0,
      "k-means playback: expected --cluster-window 0, where each level clusters its tokens afresh, found ",
      config.cluster_window);
  const auto head = session.head<float>(slot.batch, slot.head, slot.tokens);
  KmeansPasses result{.block = block, .side = side};
  result.range =
      side == Side::keys ? TokenRange{block.key_begin, block.key_end} : home_of_query_clusters(block, config);
  const Matrix<float> x = side == Side::keys ? head->k.middleRows(result.range.begin, result.range.size())
                                             : head->q.middleRows(result.range.begin, result.range.size());
  // As cluster_keys and cluster_queries count and measure.
  const Index S = config.mode == Mode::acausal ? block.keys() : config.block << block.level;
  const Index C = side == Side::keys ? config.clusters_k.at(block.level)(block.keys())
                                     : std::min(config.clusters_q.at(block.level)(S), result.range.size());
  Matrix<float> mapped = x;
  const bool by_covariance = side == Side::queries && config.metric == Metric::key_covariance;
  if (by_covariance) {
    const Matrix<float> root = key_covariance_root<float>(head->k.middleRows(block.key_begin, block.keys()));
    multiply<float>(x, root, mapped);
  }
  const Matrix<double> wide = x.cast<double>(), wide_mapped = mapped.cast<double>();
  result.axes = principal_axes(wide);
  result.xy = result.axes.project(wide);
  const RowVector<double> mean = wide_mapped.colwise().mean();
  result.variance = (wide_mapped.rowwise() - mean).rowwise().squaredNorm().mean();

  Progress& progress = task.stage("k-means", static_cast<double>(config.passes + 1));
  const KmeansObserver<float> observe = [&](Index, const Matrix<float>& centroids, const Labels& labels) {
    throw_if_cancelled(&progress);
    KmeansPass pass{.labels = labels};
    pass.shapes = cluster_shapes(result.xy, labels, C);
    if (by_covariance) {
      // The centroids lie in the mapped space: show the means of their members.
      pass.centroids.resize(C, 2);
      for (Index c = 0; c < C; ++c)
        pass.centroids.row(c) << pass.shapes[static_cast<std::size_t>(c)].x,
            pass.shapes[static_cast<std::size_t>(c)].y;
    } else {
      pass.centroids = result.axes.project(centroids.cast<double>());
    }
    for (Index n = 0; n < wide.rows(); ++n)
      pass.inertia += (wide_mapped.row(n) - centroids.row(labels[static_cast<std::size_t>(n)]).cast<double>())
                          .squaredNorm() /
                      static_cast<double>(wide.rows());
    if (!result.passes.empty())
      for (std::size_t n = 0; n < labels.size(); ++n)
        pass.moved += labels[n] != result.passes.back().labels[n] ? 1 : 0;
    for (const ClusterShape& shape : pass.shapes) pass.empty += shape.count == 0 ? 1 : 0;
    result.passes.push_back(std::move(pass));
    progress.advance(1);
  };
  (void)kmeans<float>(
      mapped, C, {.passes = config.passes, .seed = config.seed, .sample = config.sample, .observe = observe});
  return result;
}

}  // namespace muse::viewer
