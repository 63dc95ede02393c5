#include "models/gguf/q8_0.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/base/half.h"

namespace strake {
namespace {

constexpr uint16_t kInfinity = 0x7c00;

// A scale below the exact one would take 127 for more than it holds.
uint16_t ScaleOf(float largest) {
  const float exact = largest / 127;
  const uint16_t nearest = HalfBits(exact);
  return nearest < kInfinity && HalfValue(nearest) < exact ? nearest + 1 : nearest;
}

// False for a block that has no form.
bool QuantizeBlock(const float* values, char* out) {
  float largest = 0;
  for (int i = 0; i < kQ8BlockElements; ++i) {
    if (!std::isfinite(values[i])) return false;
    largest = std::max(largest, std::abs(values[i]));
  }
  const uint16_t bits = ScaleOf(largest);
  if (bits >= kInfinity) return false;
  std::memcpy(out, &bits, sizeof(bits));
  const float scale = HalfValue(bits);
  for (int i = 0; i < kQ8BlockElements; ++i) {
    const float quotient = scale == 0 ? 0 : std::round(values[i] / scale);
    out[sizeof(bits) + i] = static_cast<char>(static_cast<int8_t>(quotient));
  }
  return true;
}

}  // namespace

int64_t ToQ8(const float* values, int64_t num_blocks, char* out) {
  for (int64_t block = 0; block < num_blocks; ++block) {
    const float* begin = values + block * kQ8BlockElements;
    if (QuantizeBlock(begin, out + block * kQ8BlockBytes)) continue;
    const auto has_no_form = [](float x) {
      return !std::isfinite(x) || ScaleOf(std::abs(x)) >= kInfinity;
    };
    return std::find_if(begin, begin + kQ8BlockElements, has_no_form) - values;
  }
  return num_blocks * kQ8BlockElements;
}

}  // namespace strake
