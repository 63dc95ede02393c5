#include "data/permutation.h"

#include <algorithm>
#include <bit>

#include "glog/logging.h"

namespace strake {
namespace {

// Four rounds make a pseudo-random permutation of large blocks; small blocks mix in fewer bits per
// round.
constexpr int kNumRounds = 8;

int HalfBits(int64_t n) {
  const int bits = std::bit_width(static_cast<uint64_t>(n) - 1);
  return std::max(1, (bits + 1) / 2);
}

}  // namespace

Permutation::Permutation(int64_t n, uint64_t seed, uint64_t epoch)
    : n_(n), half_bits_(HalfBits(n)), random_(seed, RandomUse::kDataOrder, epoch) {
  CHECK(n >= 1 && n <= int64_t{1} << 62) << "[permutation] n " << n;
}

uint64_t Permutation::Round(int round, uint64_t half) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  return random_.Bits(static_cast<uint64_t>(round) << 32 | half) & mask;
}

uint64_t Permutation::Encrypt(uint64_t block) const {
  uint64_t left = block >> half_bits_, right = block & ((uint64_t{1} << half_bits_) - 1);
  for (int round = 0; round < kNumRounds; ++round) {
    const uint64_t mixed = left ^ Round(round, right);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

uint64_t Permutation::Decrypt(uint64_t block) const {
  uint64_t left = block >> half_bits_, right = block & ((uint64_t{1} << half_bits_) - 1);
  for (int round = kNumRounds - 1; round >= 0; --round) {
    const uint64_t mixed = right ^ Round(round, left);
    right = left;
    left = mixed;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t index) const {
  CHECK(index >= 0 && index < n_) << "[permutation] index " << index << ", n " << n_;
  uint64_t block = index;
  do {
    block = Encrypt(block);
  } while (block >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(block);
}

int64_t Permutation::Inverse(int64_t value) const {
  CHECK(value >= 0 && value < n_) << "[permutation] value " << value << ", n " << n_;
  uint64_t block = value;
  do {
    block = Decrypt(block);
  } while (block >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(block);
}

}  // namespace strake
