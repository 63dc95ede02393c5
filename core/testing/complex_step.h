// Gradients by the complex step: f'(x) = Im(f(x + ih)) / h. It is exact to rounding: it subtracts
// no nearby numbers, so there is nothing to tune.
//
// Source: Squire and Trapp, "Using Complex Variables to Estimate Derivatives of Real Functions",
// SIAM Review 40(1), 1998.
#ifndef STRAKE_CORE_TESTING_COMPLEX_STEP_H_
#define STRAKE_CORE_TESTING_COMPLEX_STEP_H_

#include <complex>
#include <functional>

#include "core/tensor/tensor.h"

namespace strake::testing {

inline constexpr double kComplexStep = 1e-30;

// Computes df/dx for every element of `x` (c128, changed in place and restored). `f` runs the
// forward pass on the current contents and returns a scalar. `gradient` (f64 or c128) has x's
// shape.
void ComplexStepGradient(const Tensor& x, const std::function<std::complex<double>()>& f,
                         const Tensor& gradient);

// sum_i weights_i y_i (both c128): turns an op's output into a scalar whose gradient with respect
// to y is `weights`.
std::complex<double> WeightedSum(const Tensor& y, const Tensor& weights);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_COMPLEX_STEP_H_
