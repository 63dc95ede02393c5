#include "core/base/fingerprint.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

uint64_t SplitMix64(uint64_t state, uint64_t number) {
  uint64_t z = state + (number + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint32_t Murmur3Finalizer(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85ebca6bu;
  x = (x ^ (x >> 13)) * 0xc2b2ae35u;
  return x ^ (x >> 16);
}

}  // namespace

Fingerprint& Fingerprint::operator+=(const Fingerprint& other) {
  for (int lane = 0; lane < 2; ++lane) lanes[lane] += other.lanes[lane];
  return *this;
}

std::string Fingerprint::ToString() const {
  return absl::StrCat(absl::Hex(lanes[0], absl::kZeroPad16), absl::Hex(lanes[1], absl::kZeroPad16));
}

Fingerprint FingerprintOfRow(const FingerprintPlace& place, const void* words, int64_t count) {
  const uint64_t keys = SplitMix64(place.key, place.row);
  const uint32_t column = place.column, size = count;
  const uint32_t begins[] = {static_cast<uint32_t>(keys) + column,
                             static_cast<uint32_t>(keys >> 32) + column};
  uint64_t sums[2] = {};
  // Compilers make vectors of it.
  for (uint32_t i = 0; i < size; ++i) {
    uint32_t word;
    std::memcpy(&word, static_cast<const char*>(words) + i * sizeof(word), sizeof(word));
    sums[0] += uint64_t{Murmur3Finalizer(begins[0] + i) | 1} * word;
    sums[1] += uint64_t{Murmur3Finalizer(begins[1] + i) | 1} * word;
  }
  return {{sums[0], sums[1]}};
}

}  // namespace strake
