#include "muse/retrieval.h"

#include "helpers.h"

using namespace muse;
using namespace muse::test;

namespace {

// The r largest by repeated search, first come first served among equals.
template <class Scalar>
std::vector<Index> naive_largest(const std::vector<Scalar>& L, Index r) {
  std::vector<bool> taken(L.size(), false);
  for (Index round = 0; round < r; ++round) {
    std::size_t best = L.size();
    for (std::size_t j = 0; j < L.size(); ++j) {
      if (taken[j] || L[j] == -std::numeric_limits<Scalar>::infinity()) continue;
      if (best == L.size() || L[j] > L[best]) best = j;
    }
    if (best == L.size()) break;
    taken[best] = true;
  }
  std::vector<Index> chosen;
  for (std::size_t j = 0; j < L.size(); ++j)
    if (taken[j]) chosen.push_back(static_cast<Index>(j));
  return chosen;
}

template <class Scalar>
std::vector<Index> largest(const std::vector<Scalar>& L, Index r) {
  RowVector<Scalar> row(static_cast<Index>(L.size()));
  for (std::size_t j = 0; j < L.size(); ++j) row[static_cast<Index>(j)] = L[j];
  return largest_clusters<Scalar>(row, r);
}

template <class Scalar>
SortedKeys<Scalar> sorted(const Matrix<Scalar>& k, const Matrix<Scalar>& v, const Labels& labels, Index C) {
  return sort_keys<Scalar>(k, v, make_clusters<Scalar>(k, labels, C));
}

Labels strewn(Index N, Index C) {
  Labels labels;
  for (Index n = 0; n < N; ++n) labels.push_back(static_cast<std::int32_t>(n * 5 % 37 % C));
  return labels;
}

}  // namespace

TEST_CASE_TEMPLATE("the r largest log-masses, rising, equal ones by lowest index", Scalar, float, double) {
  MUSE_SHOW_SEED();
  constexpr Scalar none = -std::numeric_limits<Scalar>::infinity();
  std::mt19937_64 random(base_seed());
  for (int round = 0; round < 300; ++round) {
    std::vector<Scalar> L(1 + random() % 20);
    // Few distinct values: ties abound. One in five is empty.
    for (Scalar& value : L) value = random() % 5 == 0 ? none : static_cast<Scalar>(random() % 4) - Scalar(2);
    for (const Index r : {0, 1, 2, 3, 8, 19, 20, 1000}) {
      CAPTURE(round);
      CAPTURE(r);
      CHECK(largest(L, r) == naive_largest(L, r));
    }
  }
  CHECK(largest<Scalar>({3, 1, 3, 2, 3}, 2) == std::vector<Index>{0, 2});
  CHECK(largest<Scalar>({1, 9, 5, 7}, 3) == std::vector<Index>{1, 2, 3});
  CHECK(largest<Scalar>({none, 5, none}, 3) == std::vector<Index>{1});
  CHECK(largest<Scalar>({none, none}, 1).empty());
}

TEST_CASE_TEMPLATE(
    "ranked by mean weight, a small cluster of heavy tokens comes before a large one of more mass", Scalar,
    float, double) {
  // 8 tokens of cluster 0 with weight e^0 each, 2 of cluster 2 with weight e^1 each; cluster 1 is empty.
  const Labels labels{0, 0, 0, 2, 0, 0, 0, 2, 0, 0};
  Matrix<Scalar> k = Matrix<Scalar>::Zero(10, 1);
  k(3, 0) = k(7, 0) = 1;
  const SortedKeys<Scalar> keys = sorted(k, k, labels, 3);
  Summaries<Scalar> summaries;
  tilted_summaries<Scalar>(Matrix<Scalar>::Ones(1, 1), keys, Scalar(1), summaries);
  const RowVector<Scalar> L = summaries.L.row(0);
  CHECK(largest_clusters<Scalar>(retrieval_ranks<Scalar>(L, keys, RetrieveBy::mass), 1) ==
        std::vector<Index>{0});
  const RowVector<Scalar> ranks = retrieval_ranks<Scalar>(L, keys, RetrieveBy::mean_weight);
  CHECK(largest_clusters<Scalar>(ranks, 1) == std::vector<Index>{2});
  CHECK(largest_clusters<Scalar>(ranks, 3) == std::vector<Index>{0, 2});
  CHECK(ranks[0] == doctest::Approx(0).epsilon(1e-6));
  CHECK(ranks[2] == doctest::Approx(1).epsilon(1e-6));
  CHECK(ranks[1] == -std::numeric_limits<Scalar>::infinity());
}

TEST_CASE_TEMPLATE("exact attention to the tokens of the retrieved clusters", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {1, 8, 33}) {
    for (const Index Dv : {1, 8, 17}) {
      for (const double sigma : {1.0, 40.0}) {  // the second: logits of thousands
        const Matrix<Scalar> q = random_matrix<Scalar>(7, D, 1, sigma),
                             k = random_matrix<Scalar>(60, D, 2, sigma);
        const Matrix<Scalar> v = random_matrix<Scalar>(60, Dv, 3);
        const Labels labels = strewn(60, 9);
        const auto s = static_cast<Scalar>(0.3);
        for (const std::vector<Index>& chosen :
             {std::vector<Index>{4}, {0, 8}, {1, 2, 5, 7}, {0, 1, 2, 3, 4, 5, 6, 7, 8}}) {
          CAPTURE(D);
          CAPTURE(Dv);
          CAPTURE(sigma);
          CAPTURE(chosen.size());
          const auto sees = [&](Index, Index n) {
            return std::find(chosen.begin(), chosen.end(), labels[static_cast<std::size_t>(n)]) !=
                   chosen.end();
          };
          check_attention(attend_retrieved<Scalar>(q, sorted(k, v, labels, 9), chosen, s),
                          naive_attention(rows_of(q), rows_of(k), rows_of(v), static_cast<double>(s), sees),
                          static_cast<double>(D), largest_abs(rows_of(v)));
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("nothing retrieved, or clusters without tokens: an empty part", Scalar, float, double) {
  const Matrix<Scalar> q = random_matrix<Scalar>(4, 8, 1), k = random_matrix<Scalar>(10, 8, 2);
  const Matrix<Scalar> v = random_matrix<Scalar>(10, 3, 3);
  const SortedKeys<Scalar> keys = sorted(k, v, Labels(10, 2), 4);
  for (const std::vector<Index>& chosen : {std::vector<Index>{}, {0}, {0, 1, 3}}) {
    const Attention<Scalar> part = attend_retrieved<Scalar>(q, keys, chosen, Scalar(0.3));
    CHECK((part.o.array() == Scalar(0)).all());
    CHECK((part.lse.array() == -std::numeric_limits<Scalar>::infinity()).all());
  }
}

TEST_CASE_TEMPLATE("a query's bits do not depend on the queries attended with it", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Index D : {8, 17, 64}) {
    const Matrix<Scalar> q = random_matrix<Scalar>(9, D, 4), k = random_matrix<Scalar>(53, D, 5);
    const Matrix<Scalar> v = random_matrix<Scalar>(53, D, 6);
    const SortedKeys<Scalar> keys = sorted(k, v, strewn(53, 6), 6);
    const Attention<Scalar> all = attend_retrieved<Scalar>(q, keys, {0, 2, 3}, Scalar(0.2));
    for (Index n = 1; n < 9; ++n)
      CHECK(same_bits_before(n, attend_retrieved<Scalar>(q.topRows(n), keys, {0, 2, 3}, Scalar(0.2)), all));
  }
}

TEST_CASE_TEMPLATE("the centroid order ranks clusters by log n_j + s q_bar·mean key", Scalar, float, double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> q_bar = random_matrix<Scalar>(6, 8, 7), k = random_matrix<Scalar>(90, 8, 8);
  const Labels labels = strewn(90, 11);
  const SortedKeys<Scalar> keys = sorted(k, k, labels, 11);
  Summaries<Scalar> summaries;
  plain_summaries<Scalar>(q_bar, keys, key_means(keys), Scalar(0.3), summaries);
  for (Index i = 0; i < 6; ++i) {
    std::vector<double> score;
    for (Index j = 0; j < 11; ++j) {
      Rows members;
      for (std::size_t n = 0; n < 90; ++n)
        if (labels[n] == j) members.push_back(rows_of(k)[n]);
      const NaiveSummary truth = naive_summary(Row(8, 0.0), members, members, 0.0);
      score.push_back(std::log(truth.count) +
                      static_cast<double>(Scalar(0.3)) *
                          dot(rows_of(q_bar)[static_cast<std::size_t>(i)], truth.k_mean));
    }
    for (const Index r : {1, 3, 7})
      CHECK(largest_clusters<Scalar>(summaries.L.row(i), r) == naive_largest(score, r));
  }
}

TEST_CASE_TEMPLATE("all clusters retrieved: merging the empty far part changes no bit", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  const Matrix<Scalar> q = random_matrix<Scalar>(5, 8, 9), k = random_matrix<Scalar>(40, 8, 10);
  const Labels labels = strewn(40, 5);
  const Attention<Scalar> retrieved =
      attend_retrieved<Scalar>(q, sorted(k, k, labels, 5), {0, 1, 2, 3, 4}, Scalar(0.3));
  Attention<Scalar> far(5, 8);
  softmax_merge(far, retrieved);
  CHECK(same_bits(far, retrieved));
  check_attention(
      far, naive_attention(rows_of(q), rows_of(k), rows_of(k), static_cast<double>(Scalar(0.3)), sees_all), 8,
      largest_abs(rows_of(k)));
}
