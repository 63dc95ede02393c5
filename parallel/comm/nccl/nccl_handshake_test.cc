// Strangers at rank 0's door, and at the doors of others, over real sockets. Where a test waits, it
// waits for an event; its time limit is the test's own.
#include "parallel/comm/nccl/nccl_handshake.h"

#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_dialogue.h"

namespace strake {
namespace {

using std::chrono::milliseconds;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kSecret[] = "correct horse battery staple";
constexpr char kText[] = "the id of NCCL's world";
// Longer than any machine needs.
constexpr milliseconds kLong = std::chrono::minutes(5);
// After it, rank 0 gives up.
constexpr milliseconds kShort(200);

using Met = absl::StatusOr<NcclConnections>;

// A connection to a port of this machine, which blocks.
FileDescriptor Connect(int port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  FileDescriptor fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0)
      << std::strerror(errno);
  return fd;
}

void Say(const FileDescriptor& fd, const std::string& bytes) {
  (void)send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
}

// What comes until the other end closes.
std::string HearAll(const FileDescriptor& fd) {
  std::string all;
  char bytes[4096];
  ssize_t num_bytes = 0;
  while ((num_bytes = recv(fd.get(), bytes, sizeof(bytes), 0)) > 0) all.append(bytes, num_bytes);
  return all;
}

std::string HearExactly(const FileDescriptor& fd, size_t num_bytes) {
  std::string bytes(num_bytes, '\0');
  EXPECT_EQ(recv(fd.get(), bytes.data(), num_bytes, MSG_WAITALL), static_cast<ssize_t>(num_bytes));
  return bytes;
}

// A world on this machine.
class Meeting {
 public:
  explicit Meeting(int size, std::string secret = "") {
    rendezvous_.size = size;
    rendezvous_.secret = std::move(secret);
    auto listeners = ListenAt(rendezvous_.host, &rendezvous_.port);
    EXPECT_TRUE(listeners.ok()) << listeners.status();
    listeners_ = std::make_shared<std::vector<FileDescriptor>>(*std::move(listeners));
  }

  int port() const { return rendezvous_.port; }
  NcclRendezvous Of(int rank) const {
    NcclRendezvous rendezvous = rendezvous_;
    rendezvous.rank = rank;
    if (rank == 0) rendezvous.listeners = listeners_;
    return rendezvous;
  }
  // Nobody listens any more.
  void Close() { listeners_ = nullptr; }

 private:
  NcclRendezvous rendezvous_;
  std::shared_ptr<std::vector<FileDescriptor>> listeners_;
};

std::future<Met> Start(const NcclRendezvous& rendezvous, milliseconds timeout = kLong,
                       const StrangerLimits& limits = {}) {
  return std::async(std::launch::async, [rendezvous, timeout, limits] {
    return MeetOverTcp(rendezvous, timeout, rendezvous.rank == 0 ? kText : "", limits);
  });
}

std::string Error(std::future<Met>& met) { return met.get().status().ToString(); }

// That ranks 1 and on, started now, meet rank 0.
void ExpectToMeet(const Meeting& meeting, int size, std::future<Met>& rank_zero) {
  std::vector<std::future<Met>> others;
  for (int rank = 1; rank < size; ++rank) others.push_back(Start(meeting.Of(rank)));
  for (auto& other : others) {
    const Met met = other.get();
    ASSERT_TRUE(met.ok()) << met.status();
    EXPECT_EQ(met->text, kText);
    EXPECT_EQ(met->sockets.size(), 1);
  }
  const Met met = rank_zero.get();
  ASSERT_TRUE(met.ok()) << met.status();
  ASSERT_EQ(static_cast<int>(met->sockets.size()), size);
  for (int rank = 0; rank < size; ++rank) EXPECT_EQ(met->sockets[rank].valid(), rank > 0);
}

std::string HelloOf(int rank, int size, const std::string& secret = "") {
  return GuestDialogue(rank, size, secret, Bytes32{}).Hello();
}

TEST(HandshakeTest, RanksMeetWithAndWithoutASecret) {
  for (const std::string secret : {"", kSecret}) {
    for (const int size : {1, 2, 5}) {
      const Meeting meeting(size, secret);
      auto rank_zero = Start(meeting.Of(0));
      ExpectToMeet(meeting, size, rank_zero);
    }
  }
}

// --- The deadline holds, whatever strangers do. ---

TEST(HandshakeTest, OneByteDoesNotHoldRankZero) {
  const Meeting meeting(2);
  const FileDescriptor stranger = Connect(meeting.port());
  Say(stranger, "s");  // as a process of Strake begins
  auto rank_zero = Start(meeting.Of(0), kShort);
  EXPECT_THAT(Error(rank_zero), AllOf(HasSubstr("DEADLINE_EXCEEDED: [nccl] rank 1 of 2 did not "
                                                "come to rank 0 at 127.0.0.1:"),
                                      HasSubstr(" within 200 ms")));
}

TEST(HandshakeTest, TrickledBytesDoNotHoldRankZero) {
  const Meeting meeting(2, kSecret);
  auto rank_zero = Start(meeting.Of(0), kShort);
  const std::string hello = HelloOf(1, 2, kSecret);
  while (rank_zero.wait_for(milliseconds(0)) != std::future_status::ready) {
    const FileDescriptor stranger = Connect(meeting.port());
    for (const char byte : hello.substr(0, hello.size() - 1)) Say(stranger, std::string(1, byte));
  }
  EXPECT_THAT(Error(rank_zero), HasSubstr("rank 1 of 2 did not come"));
}

TEST(HandshakeTest, ConnectionsThatComeAndGoDoNotHoldRankZero) {
  const Meeting meeting(2);
  auto rank_zero = Start(meeting.Of(0), kShort);
  while (rank_zero.wait_for(milliseconds(0)) != std::future_status::ready) Connect(meeting.port());
  EXPECT_THAT(Error(rank_zero), AllOf(HasSubstr("rank 1 of 2 did not come"),
                                      HasSubstr(" turned away, the last: 127.0.0.1:")));
}

// --- Real ranks get in, whatever strangers do. ---

TEST(HandshakeTest, AThousandIdleConnectionsDoNotLockRanksOut) {
  constexpr int kNumIdle = 1000;
  rlimit files = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &files), 0);
  if (files.rlim_max < 2 * kNumIdle) GTEST_SKIP() << "at most " << files.rlim_max << " files";
  files.rlim_cur = files.rlim_max;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &files), 0);
  const Meeting meeting(3, kSecret);
  auto rank_zero = Start(meeting.Of(0));
  std::vector<FileDescriptor> idle;
  for (int i = 0; i < kNumIdle; ++i) idle.push_back(Connect(meeting.port()));
  // And more of them, all the time.
  std::atomic<bool> stop = false;
  std::thread flood([&] {
    for (size_t i = 0; !stop; i = (i + 1) % idle.size()) idle[i] = Connect(meeting.port());
  });
  std::vector<std::future<Met>> ranks;
  for (const int rank : {1, 2}) ranks.push_back(Start(meeting.Of(rank)));
  ranks.push_back(std::move(rank_zero));
  for (auto& rank : ranks) {
    const Met met = rank.get();
    EXPECT_TRUE(met.ok()) << met.status();
  }
  stop = true;
  flood.join();
}

TEST(HandshakeTest, TheOldestUnknownConnectionGoesWhenThereAreTooMany) {
  const Meeting meeting(2);
  auto rank_zero = Start(meeting.Of(0), kLong, {.time = kLong, .number = 2});
  std::vector<FileDescriptor> idle;
  for (int i = 0; i < 3; ++i) idle.push_back(Connect(meeting.port()));
  EXPECT_EQ(HearAll(idle[0]), "");
  ExpectToMeet(meeting, 2, rank_zero);
}

TEST(HandshakeTest, ASilentConnectionHasADeadlineOfItsOwn) {
  const Meeting meeting(2, kSecret);
  auto rank_zero = Start(meeting.Of(0), kLong, {.time = milliseconds(20), .number = 256});
  const FileDescriptor silent = Connect(meeting.port());
  EXPECT_EQ(HearAll(silent), "");
  const FileDescriptor silent_later = Connect(meeting.port());
  Say(silent_later, HelloOf(1, 2, kSecret));
  EXPECT_THAT(HearAll(silent_later), HasSubstr("strakeC2"));  // and no more than the challenge
  ExpectToMeet(meeting, 2, rank_zero);  // a rank that is late as well connects again
}

TEST(HandshakeTest, StrangersAreTurnedAway) {
  const Meeting meeting(2);
  auto rank_zero = Start(meeting.Of(0));
  const std::string hello = HelloOf(1, 2);
  for (const std::string& bytes :
       {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\0", 1), std::string(100000, 's'),
        "strakeH1" + hello.substr(8), "strakeV2" + hello.substr(8)}) {
    const FileDescriptor stranger = Connect(meeting.port());
    Say(stranger, bytes);
    EXPECT_EQ(HearAll(stranger), "") << bytes.substr(0, 20);
  }
  ExpectToMeet(meeting, 2, rank_zero);
}

TEST(HandshakeTest, AWrongHelloIsAnsweredAndEndsNothing) {
  const Meeting meeting(3);
  auto rank_zero = Start(meeting.Of(0));
  struct Case {
    int rank, size;
    std::string answer;
  };
  for (const Case& wrong : std::vector<Case>{
           {1, 4, "rank 1 was started with WORLD_SIZE=4, and rank 0 with WORLD_SIZE=3"},
           {1, -1, "rank 1 was started with WORLD_SIZE=-1"},
           {0, 3, "two of the processes were started with RANK=0"},
           {3, 3, "a process was started with RANK=3 and WORLD_SIZE=3"},
           {-1, 3, "a process was started with RANK=-1 and WORLD_SIZE=3"},
           {INT32_MIN, 3, "RANK=-2147483648"}}) {
    const FileDescriptor stranger = Connect(meeting.port());
    Say(stranger, HelloOf(wrong.rank, wrong.size));
    EXPECT_THAT(HearAll(stranger), HasSubstr(wrong.answer));
  }
  ExpectToMeet(meeting, 3, rank_zero);
}

TEST(HandshakeTest, TheErrorAtTheDeadlineSaysWhoWasTurnedAway) {
  const Meeting meeting(40);
  const FileDescriptor rank = Connect(meeting.port()), stranger = Connect(meeting.port());
  Say(rank, HelloOf(1, 4));
  Say(stranger, "GET / HTTP/1.1\r\n\r\n");
  auto rank_zero = Start(meeting.Of(0), kShort);
  EXPECT_THAT(Error(rank_zero),
              AllOf(HasSubstr("ranks 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 and 23 "
                              "more of 40 did not come"),
                    HasSubstr("; 2 connections were turned away, the last: [nccl] rank 1 was "
                              "started with WORLD_SIZE=4")));
}

TEST(HandshakeTest, TheFirstOfTwoWithOneRankStays) {
  const Meeting meeting(3, kSecret);
  auto rank_zero = Start(meeting.Of(0));
  std::vector<std::future<Met>> both;
  for (int i = 0; i < 2; ++i) both.push_back(Start(meeting.Of(1)));
  // One of them ends, and then it is the other that is let in.
  while (true) {
    const bool first = both[0].wait_for(milliseconds(1)) == std::future_status::ready;
    const bool second = both[1].wait_for(milliseconds(1)) == std::future_status::ready;
    if (!first && !second) continue;
    EXPECT_THAT(Error(both[first ? 0 : 1]),
                HasSubstr("ALREADY_EXISTS: [nccl] two of the processes were started with RANK=1: "
                          "one at 127.0.0.1:"));
    both.erase(both.begin() + (first ? 0 : 1));
    break;
  }
  auto last = Start(meeting.Of(2));
  EXPECT_TRUE(last.get().ok());
  EXPECT_TRUE(both[0].get().ok());
  EXPECT_TRUE(rank_zero.get().ok());
}

TEST(HandshakeTest, ARankThatWentMayComeAgain) {
  const Meeting meeting(3);
  auto rank_zero = Start(meeting.Of(0));
  {
    const FileDescriptor early = Connect(meeting.port());
    Say(early, HelloOf(1, 3));
    // It is in once it counts as there.
    const FileDescriptor second = Connect(meeting.port());
    Say(second, HelloOf(1, 3));
    EXPECT_THAT(HearAll(second), HasSubstr("two of the processes were started with RANK=1"));
  }
  // Rank 0 may not know yet that it went.
  Met met = absl::UnknownError("");
  auto last = Start(meeting.Of(2));
  do {
    met = Start(meeting.Of(1)).get();
  } while (met.status().code() == absl::StatusCode::kAlreadyExists);
  EXPECT_TRUE(met.ok()) << met.status();
  EXPECT_TRUE(last.get().ok());
  EXPECT_TRUE(rank_zero.get().ok());
}

TEST(HandshakeTest, ARankThatSpeaksBeforeItMayIsNoRank) {
  const Meeting meeting(3);
  auto rank_zero = Start(meeting.Of(0));
  const FileDescriptor hasty = Connect(meeting.port());
  Say(hasty, HelloOf(1, 3) + "and more");
  EXPECT_EQ(HearAll(hasty), "");
  ExpectToMeet(meeting, 3, rank_zero);
}

// --- The secret. ---

TEST(HandshakeTest, WithoutTheSecretNobodyGetsIn) {
  const Meeting meeting(2, kSecret);
  auto rank_zero = Start(meeting.Of(0));
  const auto error_with = [&](const std::string& secret) {
    NcclRendezvous other = meeting.Of(1);
    other.secret = secret;
    return Start(other).get().status().ToString();
  };
  EXPECT_THAT(error_with(""),
              HasSubstr("UNAUTHENTICATED: [nccl] rank 0 asks for a secret, and "
                        "rank 1 has none: give rank 1 the same STRAKE_COMM_SECRET"));
  for (const std::string secret : {"correct horse battery stapl", "correct horse battery staplf"}) {
    EXPECT_THAT(error_with(secret),
                AllOf(HasSubstr("UNAUTHENTICATED: [nccl] rank 1 has another secret than rank 0"),
                      Not(HasSubstr("staple"))));
  }
  ExpectToMeet(meeting, 2, rank_zero);
}

TEST(HandshakeTest, RankZeroWithoutASecretDoesNotTakeThoseWithOne) {
  const Meeting meeting(2);
  auto rank_zero = Start(meeting.Of(0));
  NcclRendezvous other = meeting.Of(1);
  other.secret = kSecret;
  auto met = Start(other);
  EXPECT_THAT(Error(met), HasSubstr("UNAUTHENTICATED: [nccl] rank 1 has a secret, and rank 0 has "
                                    "none: give rank 0 the same STRAKE_COMM_SECRET"));
  ExpectToMeet(meeting, 2, rank_zero);
}

constexpr size_t kChallengeBytes = 40;

TEST(HandshakeTest, AProofServesOnce) {
  const Meeting meeting(3, kSecret);
  auto rank_zero = Start(meeting.Of(0));
  const std::string secret = kSecret;
  std::string proof;
  {
    const FileDescriptor honest = Connect(meeting.port());
    GuestDialogue dialogue(1, 3, secret, Bytes32{});
    Say(honest, dialogue.Hello());
    while (proof.empty()) {
      ASSERT_TRUE(dialogue.Receive(HearExactly(honest, dialogue.num_wanted()), &proof).ok());
    }
  }  // it goes before it has said it
  for (const int rank : {1, 2}) {
    const FileDescriptor replaying = Connect(meeting.port());
    Say(replaying, HelloOf(rank, 3, secret));
    HearExactly(replaying, kChallengeBytes);
    Say(replaying, proof);
    EXPECT_THAT(HearAll(replaying), HasSubstr("has another secret than rank 0"));
  }
  ExpectToMeet(meeting, 3, rank_zero);
}

// What rank 0 says is no proof of a rank.
TEST(HandshakeTest, RankZerosWordsCannotBeReturnedToIt) {
  const Meeting meeting(2, kSecret);
  auto rank_zero = Start(meeting.Of(0));
  const FileDescriptor mirror = Connect(meeting.port());
  Say(mirror, HelloOf(1, 2, kSecret));
  const std::string challenge = HearExactly(mirror, kChallengeBytes);
  Say(mirror, "strakeP2" + challenge.substr(8));
  EXPECT_THAT(HearAll(mirror), HasSubstr("has another secret than rank 0"));
  ExpectToMeet(meeting, 2, rank_zero);
}

TEST(HandshakeTest, AWarningWhereOthersCanConnectAndNoSecretIsAskedFor) {
  const auto log = [](const std::string& host, const std::string& secret) {
    NcclRendezvous rendezvous{.size = 2, .host = host, .secret = secret};
    ::testing::internal::CaptureStderr();
    EXPECT_EQ(MeetOverTcp(rendezvous, milliseconds(0), kText).status().code(),
              absl::StatusCode::kDeadlineExceeded);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(log("", ""), AllOf(HasSubstr("[nccl] rank 0 listens at "),
                                 HasSubstr(" and asks for no secret: whoever can connect can take "
                                           "part in the run; set STRAKE_COMM_SECRET or ")));
  EXPECT_EQ(log("", kSecret), "");
  EXPECT_EQ(log("127.0.0.1", ""), "");
  EXPECT_EQ(log("localhost", ""), "");
}

// --- Strangers in rank 0's place. ---

// Takes rank 1's connection, and says `answers` to it, one after each of its messages.
std::string ErrorBefore(const std::string& secret, const std::vector<std::string>& answers,
                        milliseconds timeout = kLong) {
  Meeting meeting(2, secret);
  const auto listeners = meeting.Of(0).listeners;
  auto rank = Start(meeting.Of(1), timeout);
  FileDescriptor fd(-1);
  while (!fd.valid()) fd = FileDescriptor(accept(listeners->front().get(), nullptr, nullptr));
  for (const std::string& answer : answers) {
    char bytes[256];
    EXPECT_GT(recv(fd.get(), bytes, sizeof(bytes), 0), 0);
    Say(fd, answer);
  }
  return Error(rank);
}

std::string VerdictOf(int32_t code, int32_t text_bytes, const std::string& text) {
  std::string bytes = "strakeV2";
  bytes.append(reinterpret_cast<const char*>(&code), sizeof(code));
  bytes.append(reinterpret_cast<const char*>(&text_bytes), sizeof(text_bytes));
  return bytes + std::string(32, 'p') + text;
}

TEST(HandshakeTest, WhoeverIsInRankZerosPlaceMustKnowTheSecret) {
  const std::string welcome = VerdictOf(0, 3, "abc");
  const std::string challenge = "strakeC2" + std::string(32, 'n');
  constexpr char kError[] =
      "UNAUTHENTICATED: [nccl] whoever listens at rank 0's address does not know the secret";
  EXPECT_THAT(ErrorBefore(kSecret, {welcome}), HasSubstr(kError));
  EXPECT_THAT(ErrorBefore(kSecret, {challenge, welcome}), HasSubstr(kError));
}

TEST(HandshakeTest, AnswersThatCannotBeAreNamed) {
  for (const std::string secret : {"", kSecret}) {
    EXPECT_THAT(ErrorBefore(secret, {VerdictOf(0, 1 << 30, "")}),
                HasSubstr("its answer has a text of 1073741824 bytes, and at most 4096"));
    EXPECT_THAT(ErrorBefore(secret, {VerdictOf(0, -1, "")}), HasSubstr("a text of -1 bytes"));
    EXPECT_THAT(ErrorBefore(secret, {VerdictOf(77, 0, "")}), HasSubstr("the status 77"));
    EXPECT_THAT(ErrorBefore(secret, {"HTTP/1.1 400 Bad Request\r\n"}),
                HasSubstr("its answer is not that of rank 0 of this version of Strake"));
    EXPECT_THAT(ErrorBefore(secret, {VerdictOf(5, 9, "\x1b[2Jbad\r\n")}),
                AllOf(HasSubstr("NOT_FOUND: [nccl] at 127.0.0.1:"), HasSubstr(", \\x1b[2Jbad")));
    // Silence until the deadline.
    EXPECT_THAT(ErrorBefore(secret, {VerdictOf(0, 100, "only a part")}, kShort),
                HasSubstr("did not answer within 200 ms: rank 1 of 2 waits for it"));
  }
}

}  // namespace
}  // namespace strake
