#include "muse/row_products.h"

#include "helpers.h"
#include "muse/check.h"

using namespace muse;
using namespace muse::test;

namespace {

constexpr Index kRows[] = {1, 2, 3, 4, 5, 7, 8, 9};
constexpr Index kCols[] = {1, 3, 4, 5, 8, 15, 16, 17, 33};
constexpr Index kDepths[] = {0, 1, 7, 8, 9, 17, 64, 65};
constexpr double kSentinel = -12345;

// The products, all as [R, K] times [K, J].
enum class Form { plain, onto, left_transposed, right_transposed };
constexpr Form kForms[] = {Form::plain, Form::onto, Form::left_transposed, Form::right_transposed};
constexpr double kBefore = 0.75;  // what C holds before a product is added to it

// In the middle of a larger matrix of sentinels.
template <class Scalar>
struct Product {
  Form form;
  Matrix<Scalar> operator()(const MatrixView<Scalar>& A, const MatrixView<Scalar>& B) const {
    Matrix<Scalar> out = Matrix<Scalar>::Constant(A.rows() + 2, B.cols() + 3, Scalar(kSentinel));
    auto C = out.block(1, 2, A.rows(), B.cols());
    const Matrix<Scalar> At = A.transpose(), Bt = B.transpose();
    switch (form) {
      case Form::plain:
        multiply<Scalar>(A, B, C);
        break;
      case Form::onto:
        C.setConstant(Scalar(kBefore));
        multiply_add<Scalar>(A, B, C);
        break;
      case Form::left_transposed:
        transposed_multiply<Scalar>(At, B, C);
        break;
      case Form::right_transposed:
        multiply_transposed<Scalar>(A, Bt, C);
        break;
    }
    // Nothing is written around the result.
    const Matrix<Scalar> result = C;
    C.setConstant(Scalar(kSentinel));
    CHECK((out.array() == Scalar(kSentinel)).all());
    return result;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("the products equal plain loops, within K roundings a sum", Scalar, float, double) {
  MUSE_SHOW_SEED();
  for (const Form form : kForms) {
    for (const Index R : kRows) {
      for (const Index J : kCols) {
        for (const Index K : kDepths) {
          CAPTURE(static_cast<int>(form));
          CAPTURE(R);
          CAPTURE(J);
          CAPTURE(K);
          // Views with rows farther apart than their length, as the summaries have them.
          const Matrix<Scalar> wide_A = random_matrix<Scalar>(R, K + 3, 1);
          const Matrix<Scalar> wide_B = random_matrix<Scalar>(K, J + 5, 2);
          const Matrix<Scalar> C = Product<Scalar>{form}(wide_A.middleCols(1, K), wide_B.middleCols(2, J));
          Index too_far = 0;
          for (Index r = 0; r < R; ++r) {
            for (Index j = 0; j < J; ++j) {
              const double before = form == Form::onto ? kBefore : 0;
              double sum = before, abs_sum = before;
              for (Index k = 0; k < K; ++k) {
                const double term =
                    static_cast<double>(wide_A(r, k + 1)) * static_cast<double>(wide_B(k, j + 2));
                sum += term;
                abs_sum += std::abs(term);
              }
              // Any order of summation of K + 1 terms errs by at most K u sum |a b| (1 + o(1)), and as much
              // again for the products' own roundings where they are not fused.
              const double bound = 1.01 * static_cast<double>(K + 1) * unit_roundoff<Scalar>() * abs_sum;
              too_far += std::abs(static_cast<double>(C(r, j)) - sum) <= bound ? 0 : 1;
            }
          }
          CHECK(too_far == 0);
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("a row's bits do not depend on how many rows are multiplied with it", Scalar, float,
                   double) {
  MUSE_SHOW_SEED();
  for (const Form form : kForms) {
    for (const Index J : kCols) {
      for (const Index K : kDepths) {
        const Matrix<Scalar> A = random_matrix<Scalar>(9, K, 3);
        const Matrix<Scalar> B = random_matrix<Scalar>(K, J, 4);
        const Matrix<Scalar> all = Product<Scalar>{form}(A, B);
        for (Index first = 0; first < A.rows(); ++first) {
          for (Index rows = 1; first + rows <= A.rows(); ++rows) {
            CAPTURE(static_cast<int>(form));
            CAPTURE(J);
            CAPTURE(K);
            CAPTURE(first);
            CAPTURE(rows);
            CHECK(
                same_bits(Product<Scalar>{form}(A.middleRows(first, rows), B), all.middleRows(first, rows)));
          }
        }
      }
    }
  }
}

TEST_CASE_TEMPLATE("in whole columns, an element's bits do not depend on where its column stands", Scalar,
                   float, double) {
  MUSE_SHOW_SEED();
  CHECK(whole_columns(0) == 0);
  CHECK(whole_columns(1) == 16);
  CHECK(whole_columns(16) == 16);
  CHECK(whole_columns(17) == 32);
  for (const Index K : kDepths) {
    CAPTURE(K);
    const Matrix<Scalar> A = random_matrix<Scalar>(7, K, 5), B = random_matrix<Scalar>(K, 48, 6);
    const Matrix<Scalar> all = Product<Scalar>{Form::plain}(A, B);
    for (const Index shift : {1, 7, 16, 31}) {
      CAPTURE(shift);
      Matrix<Scalar> rotated = Matrix<Scalar>::Zero(K, 48), expected(7, 48);
      for (Index j = 0; j < 48; ++j) {
        rotated.col((j + shift) % 48) = B.col(j);
        expected.col((j + shift) % 48) = all.col(j);
      }
      CHECK(same_bits(Product<Scalar>{Form::plain}(A, rotated), expected));
    }
  }
}

TEST_CASE("shapes that do not fit are refused") {
  const Matrix<float> A = Matrix<float>::Zero(2, 3), B = Matrix<float>::Zero(4, 5);
  Matrix<float> C(2, 5);
  CHECK_THROWS_AS(multiply<float>(A, B, C), MisfitError);
  CHECK_THROWS_AS(multiply_transposed<float>(A, B, C), MisfitError);
  Matrix<float> narrow(2, 4);
  CHECK_THROWS_AS(multiply<float>(Matrix<float>::Zero(2, 4), B, narrow), MisfitError);
  CHECK_THROWS_AS(multiply_add<float>(A, B, C), MisfitError);
  CHECK_THROWS_AS(transposed_multiply<float>(A, B, C), MisfitError);
  Matrix<float> low(1, 4);
  CHECK_THROWS_AS(multiply_transposed<float>(Matrix<float>::Zero(2, 5), B, low), MisfitError);
}
