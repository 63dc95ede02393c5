#include "core/base/crc32c.h"

#include <string>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(Crc32cTest, PublishedValues) {
  // RFC 3720, appendix B.4, and the usual check value.
  EXPECT_EQ(ExtendCrc32c(0, ""), 0);
  EXPECT_EQ(ExtendCrc32c(0, "123456789"), 0xe3069283);
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\0')), 0x8a9136aa);
  EXPECT_EQ(ExtendCrc32c(0, std::string(32, '\xff')), 0x62a8ab43);
}

TEST(Crc32cTest, PiecesGiveTheWhole) {
  std::string text;
  for (int i = 0; i < 5000; ++i) text += static_cast<char>(i * i);
  const absl::string_view whole = text;
  for (const size_t cut : {0, 1, 63, 64, 4096, 5000}) {
    EXPECT_EQ(ExtendCrc32c(ExtendCrc32c(0, whole.substr(0, cut)), whole.substr(cut)),
              ExtendCrc32c(0, whole));
  }
}

}  // namespace
}  // namespace strake
