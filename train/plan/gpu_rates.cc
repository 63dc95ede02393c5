#include "train/plan/gpu_rates.h"

#include <algorithm>
#include <iterator>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr double kTera = 1e12, kGiga = 1e9, kMicro = 1e-6;

constexpr Forecast Scaled(double scale, double low, double expected, double ceiling) {
  return {scale * low, scale * expected, scale * ceiling};
}
constexpr Forecast TeraFlops(double low, double expected, double ceiling) {
  return Scaled(kTera, low, expected, ceiling);
}

constexpr char kProducts[] =
    "reports of cuBLAS on an H100 with random numbers, whose power limits the clock: 600 to 750 of "
    "989, and 790 at best";
constexpr char kTiles1600[] =
    "as from 2048, less 4 %: 1600 columns are 12.5 tiles of 128; and less for the shorter K";
constexpr char kShortK[] =
    "as from 2048, with a K of 768: only 12 steps of a tile, between filling and storing";
constexpr char kF32Result[] = "as products, with twice the bytes to store";
constexpr char kFewTiles[] =
    "as from 2048, with 91 to 350 tiles of 128 x 256 for 132 multiprocessors: 88 % on average";
constexpr char kSplitSums[] =
    "as from 2048, with 18 to 72 tiles: sums are split, and their parts added";
constexpr char kVocabulary[] = "as products; one of the three adds to f32";
constexpr char kFlash64[] = "FlashAttention-3's paper, cuDNN on an H100 at T = 1024: 288";
constexpr char kFlash64Backward[] =
    "that paper: 348 without a mask at T = 1024, times 0.77, as with a mask in the forward pass";
constexpr char kFlash64Long[] = "that paper: 379 at T = 8192; FlashAttention-3 460";
constexpr char kFlash64LongBackward[] =
    "that paper: 432 without a mask at T = 8192, times 0.92, as in the forward pass";
constexpr char kFlash128Short[] =
    "that paper: 574 without a mask at T = 1024, times 0.72 for the mask, assumed";
constexpr char kFlash128ShortBackward[] =
    "that paper: 408 without a mask at T = 1024, times 0.72 for the mask, assumed";
constexpr char kFlash128Long[] =
    "FlashAttention's pull request 1893, cuDNN on an H100 at T = 8192: 566; FlashAttention-3 660";
constexpr char kFlash128LongBackward[] =
    "that pull request: 470, not deterministic; FlashAttention-3 575, and 474 deterministic";

constexpr char kPartials[] =
    "assumed: L2 gives 5.5; 192 to 512 blocks, with 8 KiB of loads each, ask for that and more; "
    "starting and ending take as long";

constexpr GpuRateRow kH200[] = {
    {GpuRate::kLargeProduct, "products, N and K from 2048", "TFLOP/s", kTera,
     TeraFlops(630, 700, 780), kProducts},
    {GpuRate::kMediumProduct, "products, N or K below 2048", "TFLOP/s", kTera,
     TeraFlops(580, 660, 750), kTiles1600},
    {GpuRate::kSmallProduct, "products, N or K below 1024", "TFLOP/s", kTera,
     TeraFlops(500, 590, 690), kShortK},
    {GpuRate::kLargeWeightGradient, "weight gradients, from 2048", "TFLOP/s", kTera,
     TeraFlops(600, 680, 760), kF32Result},
    {GpuRate::kMediumWeightGradient, "weight gradients, below 2048", "TFLOP/s", kTera,
     TeraFlops(530, 610, 710), kFewTiles},
    {GpuRate::kSmallWeightGradient, "weight gradients, below 1024", "TFLOP/s", kTera,
     TeraFlops(440, 540, 650), kSplitSums},
    {GpuRate::kHead, "products of the head", "TFLOP/s", kTera, TeraFlops(580, 660, 750),
     kVocabulary},
    {GpuRate::kSmallHead, "products of the head, width below 1024", "TFLOP/s", kTera,
     TeraFlops(520, 600, 700), kShortK},
    {GpuRate::kShortForward64, "attention of 64, T below 4096, forward", "TFLOP/s", kTera,
     TeraFlops(250, 290, 340), kFlash64},
    {GpuRate::kShortBackward64, "attention of 64, T below 4096, backward", "TFLOP/s", kTera,
     TeraFlops(220, 270, 330), kFlash64Backward},
    {GpuRate::kLongForward64, "attention of 64, T from 4096, forward", "TFLOP/s", kTera,
     TeraFlops(330, 380, 430), kFlash64Long},
    {GpuRate::kLongBackward64, "attention of 64, T from 4096, backward", "TFLOP/s", kTera,
     TeraFlops(340, 395, 450), kFlash64LongBackward},
    {GpuRate::kShortForward128, "attention of 128, T below 4096, forward", "TFLOP/s", kTera,
     TeraFlops(350, 410, 480), kFlash128Short},
    {GpuRate::kShortBackward128, "attention of 128, T below 4096, backward", "TFLOP/s", kTera,
     TeraFlops(250, 295, 350), kFlash128ShortBackward},
    {GpuRate::kLongForward128, "attention of 128, T from 4096, forward", "TFLOP/s", kTera,
     TeraFlops(500, 566, 620), kFlash128Long},
    {GpuRate::kLongBackward128, "attention of 128, T from 4096, backward", "TFLOP/s", kTera,
     TeraFlops(400, 470, 530), kFlash128LongBackward},
    {GpuRate::kCopy, "copies", "TB/s", kTera, Scaled(kTera, 4.0, 4.3, 4.5),
     "nine tenths of the nominal 4.8; an H100 reaches 3.02 of 3.35"},
    {GpuRate::kPartialSums, "adding partial sums", "TB/s", kTera, Scaled(kTera, 2, 3, 5),
     kPartials},
    {GpuRate::kTuning,
     "products with tuned algorithms",
     "times",
     1,
     {1, 1.03, 1.05},
     "assumed: the heuristic's first answer is mostly within 5 % of its best one"},
    {GpuRate::kGap, "between kernels", "us", kMicro, Scaled(kMicro, 3, 2, 1),
     "assumed: 1 to 1.5 between kernels of a graph, and as much to fill the GPU again"},
    {GpuRate::kLink, "NVLink", "GB/s", kGiga, Scaled(kGiga, 300, 370, 400),
     "nominal 450 in each direction; NCCL's authors give 370 (nccl-tests, issue 212)"},
    {GpuRate::kLinkLatency, "one message over NVLink", "us", kMicro, Scaled(kMicro, 4, 2, 1),
     "assumed: small all-reduces of 8 GPUs take 20 to 40"},
    {GpuRate::kContention,
     "kernels beside a collective",
     "lost",
     1,
     {0.15, 0.1, 0.05},
     "NCCL takes 16 to 24 of 132 multiprocessors, and some of the memory's rate"},
};

}  // namespace

Forecast& Forecast::operator+=(const Forecast& other) {
  low += other.low;
  expected += other.expected;
  ceiling += other.ceiling;
  return *this;
}

Forecast& Forecast::operator-=(const Forecast& other) { return *this += -1 * other; }

Forecast Max(const Forecast& a, const Forecast& b) {
  return {std::max(a.low, b.low), std::max(a.expected, b.expected), std::max(a.ceiling, b.ceiling)};
}

GpuRates GpuRates::H200() {
  static_assert(std::size(kH200) == kNumGpuRates);
  GpuRates rates;
  for (const GpuRateRow& row : kH200) rates.rows_[static_cast<int>(row.rate)] = row;
  for (int i = 0; i < kNumGpuRates; ++i) {
    CHECK(static_cast<int>(rates.rows_[i].rate) == i && rates.rows_[i].name != nullptr)
        << "[gpu_rates] no row for rate " << i;
  }
  return rates;
}

GpuRates GpuRates::H100() {
  const GpuRates h200 = H200();
  return h200.With(GpuRate::kCopy, (3.35 / 4.8) * h200[GpuRate::kCopy]);
}

absl::StatusOr<GpuRates> GpuRates::OfGpu(absl::string_view gpu_name) {
  const auto has = [&](const char* part) { return absl::StrContains(gpu_name, part); };
  // Cards for PCIe have other clocks, and Grace's have other memory.
  if (!has("PCIe") && !has("NVL") && !has("GH200")) {
    if (has("H200")) return H200();
    if (has("H100")) return H100();
  }
  return absl::NotFoundError(
      absl::StrCat("[gpu_rates] there are rates for H100 and H200 (SXM), and none for ", gpu_name));
}

GpuRates GpuRates::With(GpuRate rate, const Forecast& value) const {
  GpuRates rates = *this;
  rates.rows_[static_cast<int>(rate)].value = value;
  return rates;
}

}  // namespace strake
