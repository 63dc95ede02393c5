// Permutation: a pseudo-random bijection of [0, n) that needs no table.
//
// A balanced Feistel network over the smallest even number of bits that holds n - 1, with Philox as
// its round function; results outside [0, n) are sent through again until one falls inside, at most
// four times on average. O(1) time and memory, in both directions.
// Source: Black and Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, sections 3
// and 4.
#ifndef STRAKE_DATA_PERMUTATION_H_
#define STRAKE_DATA_PERMUTATION_H_

#include <cstdint>

#include "core/base/philox.h"

namespace strake {

class Permutation {
 public:
  // 1 <= n <= 2^62. Each (seed, epoch) gives another permutation.
  Permutation(int64_t n, uint64_t seed, uint64_t epoch);

  // The value at `index`, both in [0, n).
  int64_t operator()(int64_t index) const;

  // The index whose value is `value`.
  int64_t Inverse(int64_t value) const;

 private:
  uint64_t Encrypt(uint64_t block) const;
  uint64_t Decrypt(uint64_t block) const;
  uint64_t Round(int round, uint64_t half) const;

  const int64_t n_;
  const int half_bits_;
  const Philox random_;
};

}  // namespace strake

#endif  // STRAKE_DATA_PERMUTATION_H_
