#include "core/testing/complex_step.h"

#include "core/testing/test_tensor.h"

namespace strake::testing {

void ComplexStepGradient(const Tensor& x, const std::function<std::complex<double>()>& f,
                         const Tensor& gradient) {
  auto* values = x.data<std::complex<double>>();
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    const std::complex<double> saved = values[i];
    values[i] = {saved.real(), kComplexStep};
    SetElement(gradient, i, f().imag() / kComplexStep);
    values[i] = saved;
  }
}

std::complex<double> WeightedSum(const Tensor& y, const Tensor& weights) {
  const auto* a = y.data<std::complex<double>>();
  const auto* b = weights.data<std::complex<double>>();
  std::complex<double> sum = 0;
  for (int64_t i = 0; i < y.num_elements(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace strake::testing
