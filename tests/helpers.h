// What the numeric tests share: seeded random tensors, comparers that NaN cannot pass, and attention written
// as plain loops in double, which knows nothing of the library's code.
#pragma once

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "muse/config.h"
#include "muse/matrix.h"
#include "muse/softmax_merge.h"

namespace muse::test {

// ---- Random tensors -------------------------------------------------------------------------------------

/// Seed that all tests start from; MUSE_TEST_SEED changes it. Every failing check prints the seed it used.
inline std::uint64_t base_seed() {
  const char* text = std::getenv("MUSE_TEST_SEED");
  return text == nullptr ? 1 : std::strtoull(text, nullptr, 10);
}

/// Independent normal numbers of standard deviation `sigma`. The same seed gives the same numbers in float as
/// in double, rounded.
template <class Scalar>
Matrix<Scalar> random_matrix(Index rows, Index cols, std::uint64_t seed, double sigma = 1) {
  std::mt19937_64 random(base_seed() * 1000003 + seed);
  std::normal_distribution<double> normal(0, sigma);
  Matrix<Scalar> matrix(rows, cols);
  for (Index row = 0; row < rows; ++row)
    for (Index col = 0; col < cols; ++col) matrix(row, col) = static_cast<Scalar>(normal(random));
  return matrix;
}

/// Tokens scattered by `spread` around `clumps` random centres of standard deviation 1, in random order.
template <class Scalar>
Matrix<Scalar> clumped_matrix(Index rows, Index cols, Index clumps, double spread, std::uint64_t seed) {
  const Matrix<double> centres = random_matrix<double>(clumps, cols, seed);
  Matrix<double> matrix = random_matrix<double>(rows, cols, seed + 1, spread);
  std::mt19937_64 random(base_seed() * 1000003 + seed + 2);
  for (Index row = 0; row < rows; ++row)
    matrix.row(row) += centres.row(static_cast<Index>(random() % static_cast<std::uint64_t>(clumps)));
  return matrix.template cast<Scalar>();
}

/// What every test case opens with: prints the seed if a check below it fails.
#define MUSE_SHOW_SEED() INFO("MUSE_TEST_SEED=" << ::muse::test::base_seed())

// ---- Plain arrays ---------------------------------------------------------------------------------------

using Row = std::vector<double>;
using Rows = std::vector<Row>;

template <class Derived>
Rows rows_of(const Eigen::DenseBase<Derived>& matrix) {
  Rows rows(static_cast<std::size_t>(matrix.rows()), Row(static_cast<std::size_t>(matrix.cols())));
  for (Index row = 0; row < matrix.rows(); ++row)
    for (Index col = 0; col < matrix.cols(); ++col)
      rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(col)] =
          static_cast<double>(matrix.derived().coeff(row, col));
  return rows;
}

inline double dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += a[d] * b[d];
  return sum;
}

/// sum |a_d b_d|: what the rounding errors of a dot product scale with.
inline double abs_dot(const Row& a, const Row& b) {
  double sum = 0;
  for (std::size_t d = 0; d < a.size(); ++d) sum += std::abs(a[d] * b[d]);
  return sum;
}

inline double logsumexp(const Row& logits) {
  double m = -std::numeric_limits<double>::infinity();
  for (const double logit : logits) m = std::max(m, logit);
  if (!std::isfinite(m)) return m;
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit - m);
  return m + std::log(sum);
}

/// Weights e^{logit - L}, from the largest logit, so that a large L costs no digits.
inline Row softmax(const Row& logits) {
  double m = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double logit : logits) m = std::max(m, logit);
  Row weights;
  for (const double logit : logits) weights.push_back(std::exp(logit - m));
  for (const double weight : weights) sum += weight;
  for (double& weight : weights) weight /= sum;
  return weights;
}

// ---- Attention as plain loops ---------------------------------------------------------------------------

/// The truth about some queries, with what bounds the rounding errors of computing it.
struct NaiveAttention {
  Rows o;
  Row lse;
  Row amplitude;  ///< largest sum_d |s q_d k_d| over the keys that each query sees
  Row keys_seen;
};

/// Softmax attention in double by three nested loops; sees(t, n) says whether query t sees key n.
template <class Sees>
NaiveAttention naive_attention(const Rows& q, const Rows& k, const Rows& v, double s, const Sees& sees) {
  const std::size_t Dv = v.empty() ? 0 : v[0].size();
  NaiveAttention out;
  for (std::size_t t = 0; t < q.size(); ++t) {
    Row logits;
    double amplitude = 0;
    for (std::size_t n = 0; n < k.size(); ++n) {
      if (!sees(static_cast<Index>(t), static_cast<Index>(n))) continue;
      logits.push_back(s * dot(q[t], k[n]));
      amplitude = std::max(amplitude, std::abs(s) * abs_dot(q[t], k[n]));
    }
    const Row weights = softmax(logits);
    Row o(Dv, 0.0);
    std::size_t at = 0;
    for (std::size_t n = 0; n < k.size(); ++n) {
      if (!sees(static_cast<Index>(t), static_cast<Index>(n))) continue;
      const double weight = weights[at++];
      for (std::size_t d = 0; d < Dv; ++d) o[d] += weight * v[n][d];
    }
    out.o.push_back(o);
    out.lse.push_back(logsumexp(logits));
    out.amplitude.push_back(amplitude);
    out.keys_seen.push_back(static_cast<double>(logits.size()));
  }
  return out;
}

inline bool sees_all(Index /*t*/, Index /*n*/) {
  return true;
}

// ---- Summaries as plain loops ---------------------------------------------------------------------------

/// One key cluster seen from one centroid, by the definitions (3.1)-(3.8).
struct NaiveSummary {
  double count = 0, L = 0, spread = 0;
  Row p, k_tilde, v_tilde, k_mean, v_mean;
  Rows sigma;  ///< sum_n p_n (v_n - ṽ) (k_n - k̃)ᵀ [Dv, D]
};

inline NaiveSummary naive_summary(const Row& q_bar, const Rows& k, const Rows& v, double s) {
  const std::size_t D = q_bar.size(), Dv = v.empty() ? 0 : v[0].size();
  NaiveSummary summary;
  summary.count = static_cast<double>(k.size());
  summary.k_tilde = summary.k_mean = Row(D, 0.0);
  summary.v_tilde = summary.v_mean = Row(Dv, 0.0);
  summary.sigma = Rows(Dv, Row(D, 0.0));
  Row a;
  for (const Row& k_n : k) a.push_back(s * dot(q_bar, k_n));
  summary.L = logsumexp(a);
  summary.p = softmax(a);
  for (std::size_t n = 0; n < k.size(); ++n) {
    for (std::size_t d = 0; d < D; ++d) summary.k_tilde[d] += summary.p[n] * k[n][d];
    for (std::size_t d = 0; d < D; ++d) summary.k_mean[d] += k[n][d] / summary.count;
    for (std::size_t d = 0; d < Dv; ++d) summary.v_tilde[d] += summary.p[n] * v[n][d];
    for (std::size_t d = 0; d < Dv; ++d) summary.v_mean[d] += v[n][d] / summary.count;
  }
  for (std::size_t n = 0; n < k.size(); ++n)
    for (std::size_t d = 0; d < D; ++d)
      summary.spread += summary.p[n] * std::pow(k[n][d] - summary.k_tilde[d], 2);
  for (std::size_t n = 0; n < k.size(); ++n)
    for (std::size_t a_row = 0; a_row < Dv; ++a_row)
      for (std::size_t d = 0; d < D; ++d)
        summary.sigma[a_row][d] +=
            summary.p[n] * (v[n][a_row] - summary.v_tilde[a_row]) * (k[n][d] - summary.k_tilde[d]);
  return summary;
}

/// One term of a query's softmax: a token, or a summary as an order of the expansion has it.
struct NaiveTerm {
  double logit = 0;
  Row value;
};

/// What a query sees of a far cluster whose summary was made at q_bar (4.1)-(4.6).
inline NaiveTerm naive_far_term(const Row& q, const Row& q_bar, const NaiveSummary& summary, double s,
                                Order order) {
  Row s_delta(q.size());
  for (std::size_t d = 0; d < q.size(); ++d) s_delta[d] = s * (q[d] - q_bar[d]);
  NaiveTerm term;
  switch (order) {
    case Order::centroid:
      return {std::log(summary.count) + s * dot(q, summary.k_mean), summary.v_mean};
    case Order::monopole:
      return {summary.L, summary.v_tilde};
    case Order::dipole:
    case Order::dipole_value:
    case Order::dipole_spread:
      break;
  }
  term = {summary.L + dot(s_delta, summary.k_tilde), summary.v_tilde};
  if (order == Order::dipole_value)
    for (std::size_t d = 0; d < term.value.size(); ++d) term.value[d] += dot(summary.sigma[d], s_delta);
  if (order == Order::dipole_spread)
    term.logit +=
        kSpreadFactor / 2 * dot(s_delta, s_delta) * summary.spread / static_cast<double>(s_delta.size());
  return term;
}

/// The softmax over terms: output, and log-sum-exp through `lse`.
inline Row naive_combine(const std::vector<NaiveTerm>& terms, std::size_t Dv, double& lse) {
  Row logits, o(Dv, 0.0);
  for (const NaiveTerm& term : terms) logits.push_back(term.logit);
  lse = logsumexp(logits);
  const Row weights = softmax(logits);
  for (std::size_t i = 0; i < terms.size(); ++i)
    for (std::size_t d = 0; d < Dv; ++d) o[d] += weights[i] * terms[i].value[d];
  return o;
}

constexpr Order kOrders[] = {Order::centroid, Order::monopole, Order::dipole, Order::dipole_value,
                             Order::dipole_spread};

// ---- Tolerances -----------------------------------------------------------------------------------------

/// Unit roundoff u, half of epsilon: that of Scalar, and that of the truth itself, which is computed in
/// double.
template <class Scalar>
constexpr double unit_roundoff() {
  return static_cast<double>(std::numeric_limits<Scalar>::epsilon()) / 2 +
         std::numeric_limits<double>::epsilon() / 2;
}

/// A-priori bound on the absolute error of a log-sum-exp over n logits, each of them a dot product of D terms
/// with sum of absolute values at most A (times s), computed in Scalar:
///   * a logit errs by at most (D + 2) u A (D products and sums, the scaling of q, one rounding to spare);
///   * e^{a - m} errs, relative to the largest, by that, u (rounding a - m; x e^{-x} < 1) and 4 u for exp;
///   * the sum of n of them adds at most n u, relative; the running maximum's rescalings 8 u a tile, below n
///   u;
///   * log and the last sum add 2 u (A + log n + 1).
template <class Scalar>
double lse_bound(double D, double n, double A) {
  return unit_roundoff<Scalar>() * ((D + 6) * A + n + 16 + 2 * std::log(n + 1));
}

/// The same for the output sum_n p_n v_n / sum_n p_n with |v| <= vmax: numerator and denominator err by the
/// relative error of the weights each, and their sums by n u each.
template <class Scalar>
double output_bound(double D, double n, double A, double vmax) {
  return 2 * vmax * lse_bound<Scalar>(D, n, A);
}

/// Error of the far field. With eps = lse_bound of stage 1 and G >= s |δ|_1 max |k|: L_ij errs by eps, k̃_ij
/// by 2 eps max |k| and its product with s δ by u D G more, so ℓ_j by eps (1 + 3 G); the output by twice
/// that, the sums, and ṽ_ij's 2 eps vmax: vmax eps (6 + 6 G). What dipole_value adds to a value is at most 4
/// vmax G; Σ̃_ij errs by 24 eps vmax max |k| and the weights by 2 eps (1 + 3 G): all in all below 32 vmax eps
/// (1 + G)². What dipole_spread adds to ℓ_j is σ̃²_ij, which errs by 7 eps max |k|² and the rounding of sums,
/// times at most G² / max |k|²: 6 eps G² more in ℓ_j.
template <class Scalar>
double far_bound(double D, double n, double A, double G, double vmax, Order order) {
  const double eps = lse_bound<Scalar>(D, n, A);
  const double of_order = order == Order::dipole_value    ? 32 * (1 + G) * (1 + G)
                          : order == Order::dipole_spread ? 6 + 6 * G + 12 * G * G
                                                          : 6 + 6 * G;
  return std::max(1.0, vmax) * eps * of_order;
}

inline double largest_abs(const Rows& rows) {
  double largest = 0;
  for (const Row& row : rows)
    for (const double value : row) largest = std::max(largest, std::abs(value));
  return largest;
}

// ---- Comparers ------------------------------------------------------------------------------------------

struct Difference {
  Index count = 0;       ///< elements compared
  Index non_finite = 0;  ///< elements of `found` that are NaN or infinite: counted first, and never compared
  double l2 = 0;         ///< ‖found - truth‖
  double rel_l2 = 0;     ///< ‖found - truth‖ / ‖truth‖
  double max_abs = 0;    ///< max |found - truth|
};

template <class Derived>
Difference difference(const Eigen::DenseBase<Derived>& found, const Rows& truth) {
  Difference result;
  REQUIRE(found.rows() == static_cast<Index>(truth.size()));
  double error_sq = 0, truth_sq = 0;
  for (Index row = 0; row < found.rows(); ++row) {
    REQUIRE(found.cols() == static_cast<Index>(truth[static_cast<std::size_t>(row)].size()));
    for (Index col = 0; col < found.cols(); ++col) {
      const auto value = static_cast<double>(found.derived().coeff(row, col));
      const double expected = truth[static_cast<std::size_t>(row)][static_cast<std::size_t>(col)];
      ++result.count;
      if (!std::isfinite(value)) {
        ++result.non_finite;
        continue;
      }
      error_sq += (value - expected) * (value - expected);
      truth_sq += expected * expected;
      result.max_abs = std::max(result.max_abs, std::abs(value - expected));
    }
  }
  result.l2 = std::sqrt(error_sq);
  result.rel_l2 = error_sq == 0 ? 0 : std::sqrt(error_sq / truth_sq);
  return result;
}

/// Checks that every element of `found` is finite and within `tolerance` of `truth`, and so their root mean
/// square.
template <class Derived>
void check_close(const Eigen::DenseBase<Derived>& found, const Rows& truth, double tolerance,
                 const std::string& what) {
  const Difference d = difference(found, truth);
  INFO(what << ": max abs difference " << d.max_abs << ", relative L2 " << d.rel_l2 << ", tolerance "
            << tolerance);
  CHECK(d.non_finite == 0);
  CHECK(d.max_abs <= tolerance);
  CHECK(d.l2 <= tolerance * std::sqrt(static_cast<double>(d.count)));
}

/// The same for two matrices of the library.
template <class DerivedA, class DerivedB>
void check_close(const Eigen::DenseBase<DerivedA>& found, const Eigen::DenseBase<DerivedB>& truth,
                 double tolerance, const std::string& what) {
  check_close(found, rows_of(truth), tolerance, what);
}

/// Checks one number; NaN fails.
inline void check_near(double found, double truth, double tolerance, const std::string& what) {
  INFO(what << ": found " << found << ", expected " << truth << ", tolerance " << tolerance);
  CHECK(std::isfinite(found));
  CHECK(std::abs(found - truth) <= tolerance);
}

/// Checks attention against the truth, row by row, with the a-priori bounds.
template <class Scalar>
void check_attention(const Attention<Scalar>& found, const NaiveAttention& truth, double D, double vmax) {
  Index non_finite = 0, too_far = 0;
  double worst_o = 0, worst_lse = 0, error_sq = 0, bound_sq = 0;  // errors in units of their bounds
  REQUIRE(found.o.rows() == static_cast<Index>(truth.o.size()));
  REQUIRE(found.lse.size() == static_cast<Index>(truth.lse.size()));
  for (Index t = 0; t < found.o.rows(); ++t) {
    const auto row = static_cast<std::size_t>(t);
    const auto lse = static_cast<double>(found.lse[t]);
    const double bound_lse = lse_bound<Scalar>(D, truth.keys_seen[row], truth.amplitude[row]);
    const double bound_o = output_bound<Scalar>(D, truth.keys_seen[row], truth.amplitude[row], vmax);
    if (!std::isfinite(lse)) {
      ++non_finite;
    } else {
      worst_lse = std::max(worst_lse, std::abs(lse - truth.lse[row]) / bound_lse);
    }
    REQUIRE(found.o.cols() == static_cast<Index>(truth.o[row].size()));
    for (Index d = 0; d < found.o.cols(); ++d) {
      const auto value = static_cast<double>(found.o(t, d));
      if (!std::isfinite(value)) {
        ++non_finite;
        continue;
      }
      const double error = std::abs(value - truth.o[row][static_cast<std::size_t>(d)]);
      worst_o = std::max(worst_o, error / bound_o);
      too_far += error <= bound_o ? 0 : 1;
      error_sq += error * error;
      bound_sq += bound_o * bound_o;
    }
  }
  CAPTURE(worst_o);
  CAPTURE(worst_lse);
  CHECK(non_finite == 0);
  CHECK(too_far == 0);
  CHECK(worst_lse <= 1);
  CHECK(error_sq <= bound_sq);
}

/// Whether two dense arrays hold the same bits.
template <class A, class B>
bool same_bits(const A& a, const B& b) {
  if (a.rows() != b.rows() || a.cols() != b.cols()) return false;
  for (Index row = 0; row < a.rows(); ++row) {
    for (Index col = 0; col < a.cols(); ++col) {
      const auto x = a(row, col), y = b(row, col);
      static_assert(std::is_same_v<decltype(x), decltype(y)>);
      if (std::memcmp(&x, &y, sizeof x) != 0) return false;
    }
  }
  return true;
}

template <class Scalar>
bool same_bits(const Attention<Scalar>& a, const Attention<Scalar>& b) {
  return same_bits(a.o, b.o) && same_bits(a.lse, b.lse);
}

/// The first n queries of both, bit by bit.
template <class Scalar>
bool same_bits_before(Index n, const Attention<Scalar>& a, const Attention<Scalar>& b) {
  return same_bits(a.o.topRows(n), b.o.topRows(n)) && same_bits(a.lse.head(n), b.lse.head(n));
}

/// Runs with another number of threads for as long as it lives.
class Threads {
 public:
  explicit Threads(int count) : before_(omp_get_max_threads()) { omp_set_num_threads(count); }
  ~Threads() { omp_set_num_threads(before_); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;

 private:
  int before_;
};

}  // namespace muse::test
