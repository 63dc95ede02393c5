#include "parallel/comm/mpi/mpi_message.h"

#include <string>

#include "gtest/gtest.h"

namespace strake {
namespace {

MpiMessage RoundTrip(const MpiMessage& message) {
  const std::string bytes = EncodeMpiMessage(message);
  return DecodeMpiMessage(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
}

TEST(MpiMessageTest, ACallComesBack) {
  MpiMessage message{.group = uint64_t{1} << 63, .from = 3};
  message.call = {.kind = CollectiveKind::kAllToAll,
                  .sequence = int64_t{1} << 40,
                  .dtype = DType::kC128,
                  .count = 24,
                  .counts = {1, 0, 23},
                  .recv_counts = {5, 6},
                  .site = {.file = "models/block.cc", .line = 40}};
  message.tag = 77;
  message.offered_id = 99;
  message.payload = {std::byte{1}, std::byte{0}, std::byte{255}};
  const MpiMessage back = RoundTrip(message);
  EXPECT_EQ(back.type, MpiMessage::Type::kJoin);
  EXPECT_EQ(back.group, message.group);
  EXPECT_EQ(back.from, 3);
  EXPECT_EQ(back.call.ToString(), message.call.ToString());
  EXPECT_EQ(back.tag, 77);
  EXPECT_EQ(back.offered_id, 99);
  EXPECT_EQ(back.payload, message.payload);
  EXPECT_TRUE(back.failure.ok());
}

TEST(MpiMessageTest, ASplitAndABroadcastComeBack) {
  MpiMessage message;
  message.call = {.kind = CollectiveKind::kSplit, .peer = 2, .color = -4, .key = 5};
  const MpiMessage back = RoundTrip(message);
  EXPECT_EQ(back.call.kind, CollectiveKind::kSplit);
  EXPECT_EQ(back.call.peer, 2);
  EXPECT_EQ(back.call.color, -4);
  EXPECT_EQ(back.call.key, 5);
}

TEST(MpiMessageTest, AFailureComesBackWithTheStartOfALongText) {
  MpiMessage message{.type = MpiMessage::Type::kFail, .group = 7};
  message.failure = absl::DataLossError("a torn page");
  EXPECT_EQ(RoundTrip(message).failure, message.failure);
  for (const bool aborted : {false, true}) {
    message.aborted = aborted;
    EXPECT_EQ(RoundTrip(message).aborted, aborted);
  }
  message.failure = absl::DataLossError(std::string(100000, 'x'));
  EXPECT_LE(EncodeMpiMessage(message).size(), kMaxMpiMessageTextBytes);
  EXPECT_EQ(RoundTrip(message).failure.message().substr(0, 1000), std::string(1000, 'x'));
}

TEST(MpiMessageDeathTest, ACutMessageIsNotRead) {
  MpiMessage message;
  message.call.counts = {1, 2};
  const std::string bytes = EncodeMpiMessage(message);
  for (const size_t size : {size_t{0}, size_t{8}, bytes.size() - 1}) {
    EXPECT_DEATH((void)DecodeMpiMessage(
                     absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), size)),
                 "message");
  }
}

}  // namespace
}  // namespace strake
