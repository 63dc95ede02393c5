// Tensors for tests: guarded memory, deterministic contents, and errors relative to the largest
// element.
#ifndef STRAKE_CORE_TESTING_TEST_TENSOR_H_
#define STRAKE_CORE_TESTING_TEST_TENSOR_H_

#include <complex>
#include <cstdint>

#include "core/base/dtype.h"
#include "core/tensor/tensor.h"
#include "core/tensor/tensor_buffer.h"

namespace strake::testing {

// A tensor between two red zones. Its contents begin as NaN (integers: a huge value), so that an
// unwritten output, or a gap in it, shows. The destructor fails the test if a red zone changed.
class TestTensor {
 public:
  TestTensor(DType dtype, Shape shape);
  ~TestTensor();
  TestTensor(const TestTensor&) = delete;
  TestTensor& operator=(const TestTensor&) = delete;

  const Tensor& tensor() const { return tensor_; }
  operator const Tensor&() const { return tensor_; }  // NOLINT(google-explicit-constructor)
  const Tensor* operator->() const { return &tensor_; }

 private:
  TensorBuffer memory_;
  Tensor tensor_;
};

// Fills a floating tensor with normal numbers. They are a function of (seed, index): the same
// values in every dtype, rounded to it.
void FillNormal(const Tensor& x, uint64_t seed, double scale = 1);

// Fills with integers from -range to range, for results that are exact in f32.
void FillSmallIntegers(const Tensor& x, uint64_t seed, int range = 8);

// Fills an i32 tensor with integers in [0, bound).
void FillTokens(const Tensor& x, uint64_t seed, int64_t bound);

void FillConstant(const Tensor& x, double value);

// Gets or sets element `i` of a tensor of any dtype, as a complex number. Real dtypes drop the
// imaginary part.
std::complex<double> GetElement(const Tensor& x, int64_t i);
void SetElement(const Tensor& x, int64_t i, std::complex<double> value);

// Converts elementwise between dtypes; the shapes are equal.
void CopyConvert(const Tensor& from, const Tensor& to);

// max_i |a_i - b_i| / max_i |b_i|, the error of `a` relative to the truth `b` (any dtypes, real
// parts). Infinity if either has a NaN, or if `b` is all zero and `a` is not; 0 if both are zero.
double RelativeError(const Tensor& a, const Tensor& b);

// max_i |x_i|.
double MaxAbs(const Tensor& x);

// Returns whether both have the same dtype, shape and bytes.
bool SameBits(const Tensor& a, const Tensor& b);

// Epsilon of a dtype: 2^-24 for f32 (half a unit in the last place of 1), 2^-53 for f64 and c128.
double UnitRoundoff(DType dtype);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_TEST_TENSOR_H_
