// ByteMasks: 64 bytes of text at once, as integers with a bit for each byte.
#ifndef STRAKE_DATA_TOKENIZER_WORDS_BYTE_MASKS_H_
#define STRAKE_DATA_TOKENIZER_WORDS_BYTE_MASKS_H_

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace strake {

// Sixteen bytes. Comparisons give 255 for yes.
using SixteenBytes = uint8_t __attribute__((vector_size(16)));

inline SixteenBytes LoadSixteen(const char* p) {
  SixteenBytes bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  return bytes;
}

// Bit i is bit 7 of byte i.
inline uint64_t HighBits(SixteenBytes bytes) {
#if defined(__SSE2__)
  return static_cast<uint32_t>(_mm_movemask_epi8(reinterpret_cast<__m128i>(bytes)));
#else
  uint64_t bits = 0;
  for (int i = 0; i < 16; ++i) bits |= static_cast<uint64_t>(bytes[i] >> 7) << i;
  return bits;
#endif
}

// The first of each run of bits.
constexpr uint64_t RunBegins(uint64_t bits) { return bits & ~(bits << 1); }
// The runs of `bits` that begin at one of `begins`.
constexpr uint64_t RunsFrom(uint64_t begins, uint64_t bits) { return bits & ~(bits + begins); }

struct ByteMasks {
  uint64_t letters, capitals, digits, white_space, blanks, line_ends, slashes;
  // Apostrophes, and all that is not ASCII.
  uint64_t others;

  // Of p[0, 64).
  static ByteMasks Of(const char* p) {
    ByteMasks masks = {};
    for (int i = 0; i < 64; i += 16) masks.Add(LoadSixteen(p + i), i);
    return masks;
  }

 private:
  void Add(SixteenBytes bytes, int shift) {
    const SixteenBytes blank = bytes == ' ';
    const SixteenBytes letter = InRange(bytes | 0x20, 'a', 'z');
    const SixteenBytes digit = InRange(bytes, '0', '9');
    const SixteenBytes control = InRange(bytes, '\t', '\r');
    const SixteenBytes apostrophe = bytes == '\'';
    letters |= HighBits(letter) << shift;
    capitals |= HighBits(InRange(bytes, 'A', 'Z')) << shift;
    digits |= HighBits(digit) << shift;
    white_space |= HighBits(blank | control) << shift;
    blanks |= HighBits(blank) << shift;
    line_ends |= HighBits((bytes == '\n') | (bytes == '\r')) << shift;
    slashes |= HighBits(bytes == '/') << shift;
    others |= HighBits(bytes | apostrophe) << shift;
  }
  static SixteenBytes InRange(SixteenBytes bytes, char low, char high) {
    return bytes - static_cast<uint8_t>(low) <= static_cast<uint8_t>(high - low);
  }
};

}  // namespace strake

#endif  // STRAKE_DATA_TOKENIZER_WORDS_BYTE_MASKS_H_
