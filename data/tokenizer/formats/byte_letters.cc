#include "data/tokenizer/formats/byte_letters.h"

#include <algorithm>
#include <numeric>

#include "core/base/utf8.h"

namespace strake {
namespace {

// 0xAD is Latin-1's soft hyphen, which shows only at the end of a line.
constexpr bool IsPrintedByLatin1(int byte) {
  return (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
}

std::array<int, 256> MakeCodePoints() {
  std::array<int, 256> code_points;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    code_points[byte] = IsPrintedByLatin1(byte) ? byte : next++;
  }
  return code_points;
}

std::array<unsigned char, 256> MakeBytes() {
  std::array<unsigned char, 256> bytes;
  std::iota(bytes.begin(), bytes.end(), 0);
  std::sort(bytes.begin(), bytes.end(),
            [](int a, int b) { return ByteLetterCodePoints()[a] < ByteLetterCodePoints()[b]; });
  return bytes;
}

}  // namespace

const std::array<int, 256>& ByteLetterCodePoints() {
  static const std::array<int, 256> kCodePoints = MakeCodePoints();
  return kCodePoints;
}

const std::array<unsigned char, 256>& BytesByLetter() {
  static const std::array<unsigned char, 256> kBytes = MakeBytes();
  return kBytes;
}

std::string ByteLetters(absl::string_view bytes) {
  std::string letters;
  for (const char byte : bytes) {
    AppendUtf8(ByteLetterCodePoints()[static_cast<unsigned char>(byte)], &letters);
  }
  return letters;
}

}  // namespace strake
