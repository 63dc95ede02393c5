// Philox4x32-10: a counter-based random function. The same (key, counter) gives the same four words
// on every device and in any order, so no generator state exists.
//
// Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011,
// section 3.3 and table 2.
#ifndef STRAKE_CORE_BASE_PHILOX_H_
#define STRAKE_CORE_BASE_PHILOX_H_

#include <array>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace strake {

// The purpose of random numbers: part of the key, so that two uses of one seed never share numbers.
// The values are part of the run format; append only.
enum class RandomUse : uint32_t {
  kInitialWeights = 1,
  kDataOrder = 2,
  kSampling = 3,
  kTesting = 4
};

// Applies the ten rounds to a 128-bit counter under a 64-bit key.
std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// A random function of an index under (seed, use, stream). `stream` distinguishes the objects of
// one use: for initial weights it is the hash of the parameter's name.
class Philox {
 public:
  Philox(uint64_t seed, RandomUse use, uint64_t stream = 0);

  // The key for Philox4x32(), for other implementations of this class; the counter is the index.
  std::array<uint32_t, 2> key() const { return key_; }

  // 64 uniform bits for `index`.
  uint64_t Bits(uint64_t index) const;

  // Uniform in [0, 1) with 53 bits.
  double Uniform(uint64_t index) const;

  // Standard normal, in double. Indices 2i and 2i + 1 are the two numbers that the Box-Muller
  // method computes from the four words for i.
  double Normal(uint64_t index) const;

  // values[i] = Normal(first + i), at half the cost of single calls.
  void Normals(uint64_t first, absl::Span<double> values) const;

 private:
  std::array<double, 2> NormalPair(uint64_t pair) const;

  std::array<uint32_t, 2> key_;
};

// FNV-1a, 64 bits: a hash that is the same on every machine and in every release.
uint64_t StableHash(absl::string_view text);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_PHILOX_H_
