#include "parallel/comm/control_message.h"

#include <string>

#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<ControlMessage> Decode(absl::string_view bytes) {
  return DecodeControlMessage(
      absl::MakeConstSpan(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size()));
}

ControlMessage RoundTrip(const ControlMessage& message) {
  return Decode(EncodeControlMessage(message)).value();
}

TEST(ControlMessageTest, ACallComesBack) {
  ControlMessage message{.group = uint64_t{1} << 63, .from = 3};
  message.call = {.kind = CollectiveKind::kAllToAll,
                  .sequence = int64_t{1} << 40,
                  .dtype = DType::kC128,
                  .count = 24,
                  .counts = {1, 0, 23},
                  .recv_counts = {5, 6},
                  .site = {.file = "models/block.cc", .line = 40}};
  message.to = 5;
  message.axis = "tp";
  message.tag = int64_t{1} << 35;
  message.offered_id = 99;
  message.payload = {std::byte{1}, std::byte{0}, std::byte{255}};
  const ControlMessage back = RoundTrip(message);
  EXPECT_EQ(back.type, ControlMessage::Type::kJoin);
  EXPECT_EQ(back.group, message.group);
  EXPECT_EQ(back.from, 3);
  EXPECT_EQ(back.call.ToString(), message.call.ToString());
  EXPECT_EQ(back.to, 5);
  EXPECT_EQ(back.axis, "tp");
  EXPECT_EQ(back.tag, message.tag);
  EXPECT_EQ(back.offered_id, 99);
  EXPECT_EQ(back.payload, message.payload);
  EXPECT_TRUE(back.failure.ok());
}

TEST(ControlMessageTest, ASplitAndABroadcastComeBack) {
  ControlMessage message;
  message.call = {.kind = CollectiveKind::kSplit, .peer = 2, .color = -4, .key = 5};
  const ControlMessage back = RoundTrip(message);
  EXPECT_EQ(back.call.kind, CollectiveKind::kSplit);
  EXPECT_EQ(back.call.peer, 2);
  EXPECT_EQ(back.call.color, -4);
  EXPECT_EQ(back.call.key, 5);
}

TEST(ControlMessageTest, AFailureComesBackWithTheStartOfALongText) {
  ControlMessage message{.type = ControlMessage::Type::kFail, .group = 7};
  message.failure = absl::DataLossError("a torn page");
  EXPECT_EQ(RoundTrip(message).failure, message.failure);
  for (const bool aborted : {false, true}) {
    message.flag = aborted;
    EXPECT_EQ(RoundTrip(message).flag, aborted);
  }
  message.failure = absl::DataLossError(std::string(100000, 'x'));
  EXPECT_LE(EncodeControlMessage(message).size(), kMaxControlTextBytes);
  EXPECT_EQ(RoundTrip(message).failure.message().substr(0, 1000), std::string(1000, 'x'));
}

TEST(ControlMessageTest, ProgressComesBack) {
  ControlMessage message{.type = ControlMessage::Type::kAnswer};
  message.progress = {{.group = 7, .num_started = 3},
                      {.group = 8, .sender = 1, .receiver = 0, .num_started = int64_t{1} << 40}};
  const ControlMessage back = RoundTrip(message);
  ASSERT_EQ(back.progress.size(), 2);
  EXPECT_EQ(back.progress[1].group, 8);
  EXPECT_EQ(back.progress[1].sender, 1);
  EXPECT_EQ(back.progress[1].receiver, 0);
  EXPECT_EQ(back.progress[1].num_started, int64_t{1} << 40);
}

TEST(ControlMessageTest, TextsFromOthersDoNotReachTheTerminalAsTheyAre) {
  ControlMessage message{.type = ControlMessage::Type::kFail};
  message.axis = "\x1b[2J";
  message.call.site.file = "a\nb";
  message.failure = absl::InternalError("\x07");
  const ControlMessage back = RoundTrip(message);
  EXPECT_EQ(back.axis, "\\x1b[2J");
  EXPECT_STREQ(back.call.site.file, "a b");
  EXPECT_EQ(back.failure.message(), "\\x07");
}

std::string Error(absl::string_view bytes) { return std::string(Decode(bytes).status().message()); }

TEST(ControlMessageTest, ACutOrALongMessageIsNotRead) {
  ControlMessage message;
  message.call.counts = {1, 2};
  message.payload.resize(3);
  const std::string bytes = EncodeControlMessage(message);
  EXPECT_TRUE(Decode(bytes).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_THAT(Error(bytes.substr(0, size)), HasSubstr("do all processes run the same program?"));
  }
  EXPECT_THAT(Error(bytes + "x"), HasSubstr("it sent a message with 1 bytes after its end"));
}

// Every byte of the head, with every value that makes it another one.
TEST(ControlMessageTest, ValuesThatCannotBeAreNamed) {
  const std::string bytes = EncodeControlMessage({});
  const auto with = [&](size_t at, const std::string& patch) {
    return std::string(bytes).replace(at, patch.size(), patch);
  };
  EXPECT_THAT(Error(with(0, "\x06")), HasSubstr("a message whose type is 6"));
  EXPECT_THAT(Error(with(1, "\x0a")), HasSubstr("a message whose kind is 10"));
  EXPECT_THAT(Error(with(2, "\x07")), HasSubstr("a message whose dtype is 7"));
  EXPECT_THAT(Error(with(3, "\x02")), HasSubstr("a message whose device is 2"));
  EXPECT_THAT(Error(with(4, "\xff")), HasSubstr("a message whose flag is 255"));
  // The last fields of the head are lengths.
  const std::string huge(8, '\x7f');
  for (int field = 1; field <= 7; ++field) {
    EXPECT_THAT(Error(with(bytes.size() - 8 * field, huge)),
                HasSubstr("with 9187201950435737471 "));
    EXPECT_THAT(Error(with(bytes.size() - 8 * field, std::string(8, '\xff'))),
                HasSubstr("with -1 "));
  }
  // A failure belongs to a kFail, and there alone.
  EXPECT_THAT(Error(with(0, "\x03")), HasSubstr("a message of type 3 whose status is 0"));
  ControlMessage failed{.type = ControlMessage::Type::kAsk};
  failed.failure = absl::InternalError("");
  EXPECT_THAT(Error(EncodeControlMessage(failed)), HasSubstr("of type 4 whose status is 13"));
}

}  // namespace
}  // namespace strake
