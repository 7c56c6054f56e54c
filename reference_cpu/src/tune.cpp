#include "muse/tune.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <string_view>

#include "muse/check.h"
#include "muse/error_metrics.h"
#include "muse/exact_attention.h"
#include "muse/muse_attention.h"

namespace muse {
namespace {

// What is tried, cheap before dear: the search stops a ladder as soon as it is within the bound.
constexpr std::int64_t kBlocks[] = {256, 512, 1024, 2048, 4096};
constexpr std::string_view kClusters[] = {"32",           "64",          "S/32:32:512", "S/16:32:512",
                                          "S/16:64:1024", "S/8:64:1024", "S/4:64:2048"};
constexpr std::string_view kRetrieve[] = {"0", "1", "2", "4", "8", "16", "32", "64"};
// Ways to cluster that are tried around the best setting; the first one serves for the coarse search.
constexpr struct {
  std::int64_t passes;
  Metric metric;
} kClusterings[] = {{1, Metric::euclidean}, {0, Metric::euclidean},      {2, Metric::euclidean},
                    {3, Metric::euclidean}, {1, Metric::key_covariance}, {2, Metric::key_covariance}};

constexpr double kUnseenMargin = 1.25;  // how far above the bound the error may be on text that was not seen
constexpr double kQuantile95 = 1.645;   // of the normal distribution
constexpr Index kSegments = 16;         // stretches of text that the spread over text is estimated from

// Squared errors and squared norms of the outputs of one head, by segment of text.
struct SegmentSums {
  Vector<double> difference_sq = Vector<double>::Zero(kSegments);
  Vector<double> exact_sq = Vector<double>::Zero(kSegments);
};

template <class Scalar>
SegmentSums segment_sums(const Attention<Scalar>& approximate, const Attention<Scalar>& exact) {
  SegmentSums sums;
  const Index N = exact.o.rows();
  for (Index n = 0; n < N; ++n) {
    const RowVector<double> o = exact.o.row(n).template cast<double>();
    sums.difference_sq[n * kSegments / N] += (approximate.o.row(n).template cast<double>() - o).squaredNorm();
    sums.exact_sq[n * kSegments / N] += o.squaredNorm();
  }
  return sums;
}

// Mean over heads of the relative squared error, segment `left_out` (or none: -1) not counted.
double mean_error(const std::vector<SegmentSums>& heads, Index left_out) {
  double sum = 0;
  for (const SegmentSums& head : heads) {
    double difference_sq = head.difference_sq.sum(), exact_sq = head.exact_sq.sum();
    if (left_out >= 0) {
      difference_sq -= head.difference_sq[left_out];
      exact_sq -= head.exact_sq[left_out];
    }
    sum += difference_sq <= 0 ? 0 : difference_sq / exact_sq;
  }
  return sum / static_cast<double>(heads.size());
}

// (9.1) error + 1.645 sqrt(2) se, with the jackknife's standard error over segments; sqrt(2), since the error
// on the text at hand and the one on text not seen both scatter.
double unseen_error(const std::vector<SegmentSums>& heads) {
  Vector<double> left_out(kSegments);
  for (Index segment = 0; segment < kSegments; ++segment) left_out[segment] = mean_error(heads, segment);
  const double variance = (left_out.array() - left_out.mean()).square().sum() *
                          static_cast<double>(kSegments - 1) / static_cast<double>(kSegments);
  return mean_error(heads, -1) + kQuantile95 * std::sqrt(2 * variance);
}

template <class Scalar>
class Search {
 public:
  Search(std::span<const Head<Scalar>> heads, double max_error, Progress* progress)
      : heads_(heads), max_error_(max_error), progress_(progress) {}

  void add_exact(const Config& base) {
    for (const Head<Scalar>& head : heads_) {
      throw_if_cancelled(progress_);
      const Mask mask{.causal = base.mode != Mode::acausal};
      exact_.push_back(exact_attention<Scalar>(head.q, head.k, head.v, head.scale, mask));
      result.exact_operations +=
          exact_operations(pair_count(head.q.rows(), head.k.rows(), mask), head.q.cols(), head.v.cols());
    }
  }

  // Climbs the ladder of r with everything else fixed, until the bound holds or the cost exceeds the best
  // one's, or that of exact attention.
  void climb(Config config) {
    std::vector<LevelLabels> labels_q, labels_k;
    for (const Head<Scalar>& head : heads_) {
      throw_if_cancelled(progress_);
      labels_q.push_back(cluster_queries<Scalar>(head.q, head.k, config, progress_));
      labels_k.push_back(cluster_keys<Scalar>(head.k, head.q.rows(), config, progress_));
    }
    for (const std::string_view retrieve : kRetrieve) {
      set_option(config, "retrieve", retrieve);
      const TunePoint& point = measure(config, labels_q, labels_k);
      const double dearest = result.found ? result.points[result.best].operations : result.exact_operations;
      if (point.operations >= dearest) return;
      if (point.error <= max_error_ && point.unseen_error <= kUnseenMargin * max_error_) {
        result.best = result.points.size() - 1;
        result.found = true;
        return;
      }
    }
  }

  TuneResult result;

 private:
  const TunePoint& measure(const Config& config, const std::vector<LevelLabels>& labels_q,
                           const std::vector<LevelLabels>& labels_k) {
    TunePoint point;
    point.config = config;
    std::vector<SegmentSums> sums;
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      throw_if_cancelled(progress_);
      const Head<Scalar>& head = heads_[h];
      MuseOptions<Scalar> options;
      options.labels_q = &labels_q[h];
      options.labels_k = &labels_k[h];
      const MuseResult<Scalar> muse =
          muse_attention<Scalar>(head.q, head.k, head.v, head.scale, config, options);
      sums.push_back(segment_sums(muse.attention, exact_[h]));
      point.head_errors.push_back(head_error(muse.attention, exact_[h]).rel_sq_err);
      point.operations += muse.operations.total() + labels_q[h].operations + labels_k[h].operations;
    }
    point.error = mean_error(sums, -1);
    point.unseen_error = unseen_error(sums);
    result.points.push_back(std::move(point));
    return result.points.back();
  }

  std::span<const Head<Scalar>> heads_;
  double max_error_;
  Progress* progress_;
  std::vector<Attention<Scalar>> exact_;
};

std::vector<std::size_t> pareto_frontier(const std::vector<TunePoint>& points) {
  std::vector<std::size_t> order(points.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return points[a].operations != points[b].operations ? points[a].operations < points[b].operations
                                                        : points[a].error < points[b].error;
  });
  std::vector<std::size_t> frontier;
  for (const std::size_t i : order)
    if (frontier.empty() || points[i].error < points[frontier.back()].error) frontier.push_back(i);
  return frontier;
}

}  // namespace

template <class Scalar>
TuneResult tune(std::span<const Head<Scalar>> heads, const Config& base, double max_error,
                Progress* progress) {
  MUSE_REQUIRE(!heads.empty(), "tune: expected at least one head");
  if (!(max_error > 0))
    throw UsageError(
        detail::concat("--max-error: expected a relative squared error above 0, found ", max_error));
  const Index N = heads.front().q.rows();
  const bool causal = base.mode != Mode::acausal;

  // Every block size below the sequence, every rule for the number of clusters.
  std::vector<Config> coarse;
  for (const std::int64_t block : kBlocks) {
    if (causal && block >= N && block != kBlocks[0]) continue;
    if (!causal && block != kBlocks[0]) continue;  // no blocks there
    for (const std::string_view clusters : kClusters) {
      Config config = base;
      if (causal) config.block = block;
      config.passes = kClusterings[0].passes;
      config.metric = kClusterings[0].metric;
      set_option(config, "clusters", clusters);
      coarse.push_back(config);
    }
  }
  if (progress != nullptr)
    progress->expect(static_cast<double>(1 + coarse.size() + 2 * std::size(kClusterings)));

  Search<Scalar> search(heads, max_error, progress);
  search.add_exact(base);
  if (progress != nullptr) progress->advance(1);
  for (const Config& config : coarse) {
    search.climb(config);
    if (progress != nullptr) progress->advance(1);
  }
  // Around the best setting: other ways to cluster, with its number of clusters and the next smaller one.
  if (search.result.found) {
    const Config best = search.result.points[search.result.best].config;
    const auto same_block = [&](const Config& config) { return config.block == best.block; };
    for (std::size_t way = 1; way < std::size(kClusterings); ++way) {
      const Config* smaller = nullptr;
      for (const Config& config : coarse) {
        if (!same_block(config)) continue;
        if (config.clusters_q == best.clusters_q) {
          for (const Config* near : {smaller, &config}) {
            if (near == nullptr) continue;
            Config tried = *near;
            tried.passes = kClusterings[way].passes;
            tried.metric = kClusterings[way].metric;
            search.climb(tried);
          }
        }
        smaller = &config;
      }
      if (progress != nullptr) progress->advance(2);
    }
  }
  search.result.frontier = pareto_frontier(search.result.points);
  return search.result;
}

HeadSpread predict_spread(std::span<const double> head_errors) {
  std::vector<double> logs;
  for (const double error : head_errors)
    if (error > 0) logs.push_back(std::log(error));
  HeadSpread spread;
  if (logs.size() < 2) return spread;
  // 95 % points of Student's t for 1, 2, … degrees of freedom; 1.645 is the limit.
  constexpr double kStudent95[] = {6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812};
  const std::size_t freedom = logs.size() - 1;
  const double t = freedom <= std::size(kStudent95) ? kStudent95[freedom - 1]
                                                    : kQuantile95 * (1 + 1.01 / static_cast<double>(freedom));
  const Eigen::Map<const Eigen::ArrayXd> log_errors(logs.data(), static_cast<Index>(logs.size()));
  const double mean = log_errors.mean();
  const double deviation = std::sqrt((log_errors - mean).square().sum() / static_cast<double>(freedom));
  // (9.2) a prediction interval for one more head
  const double reach = t * deviation * std::sqrt(1 + 1 / static_cast<double>(logs.size()));
  return {.stated = true,
          .low = std::exp(mean - reach),
          .median = std::exp(mean),
          .high = std::exp(mean + reach)};
}

template TuneResult tune<float>(std::span<const Head<float>>, const Config&, double, Progress*);
template TuneResult tune<double>(std::span<const Head<double>>, const Config&, double, Progress*);

}  // namespace muse
