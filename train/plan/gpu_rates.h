// GpuRates: how fast an H100 or H200 runs each class of kernels, as far as anybody knows before a
// measurement. StepTimes computes a step's time from them.
//
// Every rate has three figures: low, expected and ceiling. Low ones make slow steps. The table in
// gpu_rates.cc has them all, each with its source.
#ifndef STRAKE_TRAIN_PLAN_GPU_RATES_H_
#define STRAKE_TRAIN_PLAN_GPU_RATES_H_

#include <array>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace strake {

// Three figures of one quantity: with low rates, with those expected, and with the ceilings.
struct Forecast {
  constexpr Forecast() = default;
  constexpr Forecast(double low, double expected, double ceiling)
      : low(low), expected(expected), ceiling(ceiling) {}
  // The same figure three times.
  constexpr Forecast(double x) : Forecast(x, x, x) {}  // NOLINT(google-explicit-constructor)

  Forecast& operator+=(const Forecast& other);
  Forecast& operator-=(const Forecast& other);
  friend Forecast operator+(Forecast a, const Forecast& b) { return a += b; }
  friend Forecast operator-(Forecast a, const Forecast& b) { return a -= b; }
  // Figure by figure.
  friend Forecast operator*(const Forecast& a, const Forecast& b) {
    return {a.low * b.low, a.expected * b.expected, a.ceiling * b.ceiling};
  }
  friend Forecast operator/(const Forecast& a, const Forecast& b) {
    return {a.low / b.low, a.expected / b.expected, a.ceiling / b.ceiling};
  }
  bool operator==(const Forecast&) const = default;

  double low = 0, expected = 0, ceiling = 0;
};

// Takes the larger one of each figure.
Forecast Max(const Forecast& a, const Forecast& b);

enum class GpuRate {
  // Products of bf16 matrices, by the smaller of N and K: from 2048, from 1024, below. FLOP/s.
  kLargeProduct,
  kMediumProduct,
  kSmallProduct,
  // The same with an f32 result, which gradients of weights have, by the smaller of M and N.
  kLargeWeightGradient,
  kMediumWeightGradient,
  kSmallWeightGradient,
  // Products of the head, all three, by the width of the model: from 1024, below.
  kHead,
  kSmallHead,
  // Attention by cuDNN, by the size of heads; sequences of 4096 tokens or more are long. FLOP/s.
  kShortForward64,
  kShortBackward64,
  kLongForward64,
  kLongBackward64,
  kShortForward128,
  kShortBackward128,
  kLongForward128,
  kLongBackward128,
  kCopy,         // bytes/s, read and written, of kernels without products
  kPartialSums,  // bytes/s of the kernel that adds partial sums
  kTuning,       // speed of products with tuned algorithms, relative to that without
  kGap,          // s, between two kernels of a CUDA graph that wait for each other
  kLink,         // bytes/s, from a GPU to the next one of a ring
  kLinkLatency,  // s, of one message
  kContention,   // share of their speed that kernels lose while a collective runs beside them
};
inline constexpr int kNumGpuRates = static_cast<int>(GpuRate::kContention) + 1;

struct GpuRateRow {
  GpuRate rate;
  const char* name;
  const char* unit;
  double scale;  // the value of one unit
  Forecast value;
  const char* source;
};

class GpuRates {
 public:
  static GpuRates H200();
  // The H200's, with the memory of an H100 SXM.
  static GpuRates H100();
  // Finds the rates by a GPU's name. NotFound, with the name, for any GPU but these two.
  static absl::StatusOr<GpuRates> OfGpu(absl::string_view gpu_name);

  const Forecast& operator[](GpuRate rate) const { return rows_[static_cast<int>(rate)].value; }
  const std::array<GpuRateRow, kNumGpuRates>& rows() const { return rows_; }

  // The same table with another value.
  GpuRates With(GpuRate rate, const Forecast& value) const;

 private:
  GpuRates() = default;

  std::array<GpuRateRow, kNumGpuRates> rows_ = {};
};

}  // namespace strake

#endif  // STRAKE_TRAIN_PLAN_GPU_RATES_H_
