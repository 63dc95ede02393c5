#include "core/testing/test_tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/base/philox.h"
#include "glog/logging.h"
#include "gtest/gtest.h"

namespace strake::testing {
namespace {

constexpr int64_t kRedZoneBytes = 256;
// A NaN as f32, f64 and bf16; as an integer, a value that no test uses.
constexpr unsigned char kPattern = 0xff;

int64_t RoundUp(int64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace

TestTensor::TestTensor(DType dtype, Shape shape) {
  const int64_t bytes = NumElements(shape) * DTypeSize(dtype);
  memory_ = TensorBuffer(DType::kU16, {(RoundUp(bytes) + 2 * kRedZoneBytes) / 2});
  char* base = static_cast<char*>(memory_.tensor().raw());
  std::memset(base, kPattern, memory_.tensor().num_bytes());
  tensor_ = Tensor(base + kRedZoneBytes, dtype, std::move(shape));
}

TestTensor::~TestTensor() {
  const auto* base = static_cast<const unsigned char*>(memory_.tensor().raw());
  const int64_t begin = kRedZoneBytes, end = kRedZoneBytes + tensor_.num_bytes();
  const int64_t size = memory_.tensor().num_bytes();
  for (int64_t i = 0; i < size; ++i) {
    if (i >= begin && i < end) continue;
    if (base[i] == kPattern) continue;
    ADD_FAILURE() << "red zone of " << tensor_.ToString() << " overwritten at byte " << i - begin
                  << " of " << tensor_.num_bytes();
    return;
  }
}

void FillNormal(const Tensor& x, uint64_t seed, double scale) {
  const Philox random(seed, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) SetElement(x, i, scale * random.Normal(i));
}

void FillSmallIntegers(const Tensor& x, uint64_t seed, int range) {
  const Philox random(seed, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    SetElement(x, i, std::floor(random.Uniform(i) * (2 * range + 1)) - range);
  }
}

void FillTokens(const Tensor& x, uint64_t seed, int64_t bound) {
  const Philox random(seed, RandomUse::kTesting);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    x.data<int32_t>()[i] = static_cast<int32_t>(random.Bits(i) % bound);
  }
}

void FillConstant(const Tensor& x, double value) {
  for (int64_t i = 0; i < x.num_elements(); ++i) SetElement(x, i, value);
}

std::complex<double> GetElement(const Tensor& x, int64_t i) {
  switch (x.dtype()) {
    case DType::kF32:
      return x.data<float>()[i];
    case DType::kBf16:
      return static_cast<float>(x.data<Bf16>()[i]);
    case DType::kF64:
      return x.data<double>()[i];
    case DType::kC128:
      return x.data<std::complex<double>>()[i];
    case DType::kI32:
      return x.data<int32_t>()[i];
    case DType::kI64:
      return static_cast<double>(x.data<int64_t>()[i]);
    case DType::kU16:
      return x.data<uint16_t>()[i];
    default:
      LOG(FATAL) << "[testing] " << x.ToString();
  }
}

void SetElement(const Tensor& x, int64_t i, std::complex<double> value) {
  switch (x.dtype()) {
    case DType::kF32:
      x.data<float>()[i] = static_cast<float>(value.real());
      return;
    case DType::kBf16:
      x.data<Bf16>()[i] = Bf16(static_cast<float>(value.real()));
      return;
    case DType::kF64:
      x.data<double>()[i] = value.real();
      return;
    case DType::kC128:
      x.data<std::complex<double>>()[i] = value;
      return;
    case DType::kI32:
      x.data<int32_t>()[i] = static_cast<int32_t>(value.real());
      return;
    case DType::kI64:
      x.data<int64_t>()[i] = static_cast<int64_t>(value.real());
      return;
    case DType::kU16:
      x.data<uint16_t>()[i] = static_cast<uint16_t>(value.real());
      return;
    default:
      LOG(FATAL) << "[testing] " << x.ToString();
  }
}

void CopyConvert(const Tensor& from, const Tensor& to) {
  CHECK(from.shape() == to.shape()) << from.ToString() << " to " << to.ToString();
  for (int64_t i = 0; i < from.num_elements(); ++i) SetElement(to, i, GetElement(from, i));
}

double MaxAbs(const Tensor& x) {
  double max = 0;
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    const double value = std::abs(GetElement(x, i).real());
    if (std::isnan(value)) return std::numeric_limits<double>::infinity();
    max = std::max(max, value);
  }
  return max;
}

double RelativeError(const Tensor& a, const Tensor& b) {
  CHECK(a.shape() == b.shape()) << a.ToString() << " against " << b.ToString();
  double error = 0;
  for (int64_t i = 0; i < a.num_elements(); ++i) {
    const double difference = std::abs(GetElement(a, i).real() - GetElement(b, i).real());
    if (!std::isfinite(difference)) return std::numeric_limits<double>::infinity();
    error = std::max(error, difference);
  }
  return error == 0 ? 0 : error / MaxAbs(b);
}

bool SameBits(const Tensor& a, const Tensor& b) {
  return a.dtype() == b.dtype() && a.shape() == b.shape() &&
         (a.num_bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.num_bytes()) == 0);
}

double UnitRoundoff(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0x1p-24;
    case DType::kBf16:
      return 0x1p-8;
    default:
      return 0x1p-53;
  }
}

}  // namespace strake::testing
