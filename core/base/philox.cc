#include "core/base/philox.h"

#include <cmath>
#include <numbers>

namespace strake {
namespace {

constexpr uint32_t kMultiplier0 = 0xD2511F53;
constexpr uint32_t kMultiplier1 = 0xCD9E8D57;
constexpr uint32_t kWeyl0 = 0x9E3779B9;  // golden ratio
constexpr uint32_t kWeyl1 = 0xBB67AE85;  // sqrt(3) - 1

uint32_t Low(uint64_t x) { return static_cast<uint32_t>(x); }
uint32_t High(uint64_t x) { return static_cast<uint32_t>(x >> 32); }

std::array<uint32_t, 4> Counter(uint64_t index) { return {Low(index), High(index), 0, 0}; }

uint64_t Join(uint32_t low, uint32_t high) { return (static_cast<uint64_t>(high) << 32) | low; }

// A number in [0, 1) from the upper 53 bits.
double ToUnit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1p-53; }

}  // namespace

std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = static_cast<uint64_t>(kMultiplier0) * counter[0];
    const uint64_t product1 = static_cast<uint64_t>(kMultiplier1) * counter[2];
    counter = {High(product1) ^ counter[1] ^ key[0], Low(product1),
               High(product0) ^ counter[3] ^ key[1], Low(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

// The key of a function is itself a Philox output, so that (seed, use, stream) needs no packing
// into 64 bits.
Philox::Philox(uint64_t seed, RandomUse use, uint64_t stream) {
  const auto words = Philox4x32({Low(stream), High(stream), static_cast<uint32_t>(use), 0},
                                {Low(seed), High(seed)});
  key_ = {words[0], words[1]};
}

uint64_t Philox::Bits(uint64_t index) const {
  const auto words = Philox4x32(Counter(index), key_);
  return Join(words[0], words[1]);
}

double Philox::Uniform(uint64_t index) const { return ToUnit(Bits(index)); }

std::array<double, 2> Philox::NormalPair(uint64_t pair) const {
  const auto words = Philox4x32(Counter(pair), key_);
  // 1 - u lies in (0, 1], where the logarithm is finite.
  const double radius = std::sqrt(-2.0 * std::log(1.0 - ToUnit(Join(words[0], words[1]))));
  const double angle = 2.0 * std::numbers::pi * ToUnit(Join(words[2], words[3]));
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

double Philox::Normal(uint64_t index) const { return NormalPair(index / 2)[index % 2]; }

void Philox::Normals(uint64_t first, absl::Span<double> values) const {
  for (size_t i = 0; i < values.size();) {
    const std::array<double, 2> pair = NormalPair((first + i) / 2);
    for (uint64_t half = (first + i) % 2; half < 2 && i < values.size(); ++half) {
      values[i++] = pair[half];
    }
  }
}

uint64_t StableHash(absl::string_view text) {
  uint64_t hash = 0xcbf29ce484222325ull;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
  return hash;
}

}  // namespace strake
