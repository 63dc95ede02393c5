#include "parallel/comm/nccl/hmac.h"

#include <string>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

std::string Hex(const Bytes32& bytes) { return absl::BytesToHexString(AsText(bytes)); }

// RFC 4231, cases 1, 2 and 6: a key of 20 bytes, a short one, and one that is longer than a block.
TEST(HmacTest, ValuesOfTheStandard) {
  EXPECT_EQ(Hex(HmacSha256(std::string(20, '\x0b'), "Hi There")),
            "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  EXPECT_EQ(Hex(HmacSha256("Jefe", "what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  EXPECT_EQ(Hex(HmacSha256(std::string(131, '\xaa'),
                           "Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST(HmacTest, EveryByteCounts) {
  const Bytes32 a = HmacSha256("key", "message");
  EXPECT_TRUE(EqualInConstantTime(a, a));
  for (size_t i = 0; i < a.size(); ++i) {
    Bytes32 b = a;
    b[i] ^= 0x80;
    EXPECT_FALSE(EqualInConstantTime(a, b)) << i;
  }
}

TEST(HmacTest, RandomBytesDiffer) { EXPECT_NE(RandomBytes32(), RandomBytes32()); }

}  // namespace
}  // namespace strake
