// Fingerprint: 128 bits that identify a set of numbered elements. Parts that several threads or
// ranks have computed add up, in any order, to the fingerprint of the whole.
//
//   lane l = sum over elements of c_l(key, row, column) * bits   mod 2^64,   l = 0, 1
//
//   key, row, column  the place of an element: `key` identifies its tensor
//   bits              its 32 bits
//   c_l               an odd 32-bit coefficient, pseudo-random and independent of the data:
//     k_0, k_1 = the low and the high half of splitmix64's output number `row` from the state `key`
//     c_l      = murmur3's 32-bit finalizer of (column + k_l), with its lowest bit set
//
// It detects accidents, not attacks. A single element that changes always changes both lanes. Of
// two sets that differ in any other way, each lane is the same with a probability of at most 2^-31,
// so both are with 2^-62: with all other coefficients given, at most one c solves c * d = e for
// |d| < 2^32. An element of 0 adds nothing, so neither does padding.
//
// Source: Clarke et al., "Incremental Multiset Hash Functions and Their Application to Memory
// Integrity Checking", ASIACRYPT 2003 (sums that commute); Lemire and Kaser, "Strongly Universal
// String Hashing is Fast", 2014, section 3 (multilinear); Steele, Lea, Flood, "Fast Splittable
// Pseudorandom Number Generators", 2014 (splitmix64); Appleby, MurmurHash3 (the finalizer).
#ifndef STRAKE_CORE_BASE_FINGERPRINT_H_
#define STRAKE_CORE_BASE_FINGERPRINT_H_

#include <cstdint>
#include <string>

namespace strake {

struct Fingerprint {
  uint64_t lanes[2] = {};

  Fingerprint& operator+=(const Fingerprint& other);
  bool operator==(const Fingerprint&) const = default;
  // 32 hexadecimal digits.
  std::string ToString() const;
};

// The place of the first of neighbouring elements in a row; their columns are below 2^32.
struct FingerprintPlace {
  uint64_t key = 0;
  int64_t row = 0;
  int64_t column = 0;
};

// The fingerprint of `count` neighbours in a row, whose bits are 32-bit words in memory, of any
// type.
Fingerprint FingerprintOfRow(const FingerprintPlace& place, const void* words, int64_t count);

}  // namespace strake

#endif  // STRAKE_CORE_BASE_FINGERPRINT_H_
