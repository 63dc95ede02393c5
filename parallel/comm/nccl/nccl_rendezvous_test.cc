#include "parallel/comm/nccl/nccl_rendezvous.h"

#include <netdb.h>
#include <sys/socket.h>

#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/nccl/nccl_library.h"
#include "parallel/comm/nccl/nccl_secret.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSubsetOf;
using ::testing::Not;

class NcclRendezvousTest : public ::testing::Test {
 protected:
  void SetUp() override {
    setenv("RANK", "3", 1);
    setenv("WORLD_SIZE", "8", 1);
    setenv("LOCAL_RANK", "1", 1);
    setenv("MASTER_ADDR", "node-0", 1);
    setenv("MASTER_PORT", "29500", 1);
  }
  static std::string Error() {
    return std::string(NcclRendezvousFromEnvironment().status().message());
  }
};

TEST_F(NcclRendezvousTest, FromTheEnvironment) {
  EXPECT_TRUE(HasNcclRendezvousEnvironment());
  const auto rendezvous = NcclRendezvousFromEnvironment();
  ASSERT_TRUE(rendezvous.ok()) << rendezvous.status();
  EXPECT_EQ(rendezvous->rank, 3);
  EXPECT_EQ(rendezvous->size, 8);
  EXPECT_EQ(rendezvous->local_rank, 1);
  EXPECT_EQ(rendezvous->host, "node-0");
  EXPECT_EQ(rendezvous->port, 29500);
  unsetenv("LOCAL_RANK");
  EXPECT_EQ(NcclRendezvousFromEnvironment()->local_rank, 3);
}

TEST_F(NcclRendezvousTest, TorchrunsAgentKeepsItsPort) {
  setenv("TORCHELASTIC_USE_AGENT_STORE", "False", 1);
  EXPECT_EQ(NcclRendezvousFromEnvironment()->port, 29500);
  setenv("TORCHELASTIC_USE_AGENT_STORE", "True", 1);
  EXPECT_EQ(NcclRendezvousFromEnvironment()->port, 29501);
  setenv("MASTER_PORT", "65535", 1);
  EXPECT_EQ(NcclRendezvousFromEnvironment()->port, 65534);
  unsetenv("TORCHELASTIC_USE_AGENT_STORE");
}

TEST_F(NcclRendezvousTest, MissingAndMalformedVariablesAreNamed) {
  setenv("RANK", "three", 1);
  EXPECT_THAT(Error(), HasSubstr("RANK=three is not a number from 0 to "));
  setenv("RANK", "8", 1);
  EXPECT_THAT(Error(), HasSubstr("RANK=8 is not below WORLD_SIZE=8"));
  setenv("RANK", "-1", 1);
  EXPECT_THAT(Error(), HasSubstr("RANK=-1 is not a number from 0"));
  setenv("RANK", "0", 1);
  setenv("WORLD_SIZE", "0", 1);
  EXPECT_THAT(Error(), HasSubstr("WORLD_SIZE=0 is not a number from 1"));
  setenv("WORLD_SIZE", "2", 1);
  setenv("MASTER_PORT", "65536", 1);
  EXPECT_THAT(Error(), HasSubstr("MASTER_PORT=65536 is not a number from 1 to 65535"));
  setenv("MASTER_PORT", "2950x", 1);
  EXPECT_THAT(Error(), HasSubstr("MASTER_PORT=2950x is not a number"));
  setenv("LOCAL_RANK", "x", 1);
  EXPECT_THAT(Error(), HasSubstr("LOCAL_RANK=x is not a number"));
  unsetenv("LOCAL_RANK");
  setenv("MASTER_ADDR", "", 1);
  EXPECT_THAT(Error(), HasSubstr("MASTER_ADDR is not set: every process needs RANK, WORLD_SIZE"));
  for (const char* name : {"RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"}) {
    unsetenv(name);
  }
  EXPECT_FALSE(HasNcclRendezvousEnvironment());
  EXPECT_THAT(Error(), HasSubstr("WORLD_SIZE is not set"));
}

TEST(NcclRendezvousOverTest, RankZeroTellsItsPort) {
  const auto worlds = CreateThreadsCommunicators(3);
  std::vector<NcclRendezvous> results(3);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 3; ++rank) {
    threads.emplace_back([&, rank] {
      auto rendezvous = NcclRendezvousOver(*worlds[rank]);
      ASSERT_TRUE(rendezvous.ok()) << rendezvous.status();
      results[rank] = *rendezvous;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_NE(results[0].listeners, nullptr);
  EXPECT_EQ(results[0].secret.size(), 32);
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(results[rank].rank, rank);
    EXPECT_EQ(results[rank].size, 3);
    EXPECT_EQ(results[rank].local_rank, rank);
    EXPECT_EQ(results[rank].host, "127.0.0.1");
    EXPECT_GT(results[rank].port, 0);
    EXPECT_EQ(results[rank].port, results[0].port);
    EXPECT_EQ(results[rank].secret, results[0].secret);
  }
}

// --- Where rank 0 listens. ---

std::vector<std::string> AddressesOf(const std::vector<FileDescriptor>& listeners) {
  std::vector<std::string> addresses;
  for (const FileDescriptor& listener : listeners) {
    sockaddr_storage address = {};
    socklen_t size = sizeof(address);
    char host[64] = {};
    EXPECT_EQ(getsockname(listener.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    EXPECT_EQ(getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof(host), nullptr,
                          0, NI_NUMERICHOST),
              0);
    addresses.emplace_back(host);
  }
  return addresses;
}

TEST(ListenAtTest, AnAddressAlone) {
  int port = 0;
  const auto listeners = ListenAt("127.0.0.1", &port);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  EXPECT_THAT(AddressesOf(*listeners), ElementsAre("127.0.0.1"));
  EXPECT_GT(port, 0);
  // Another address of this machine has the port still.
  EXPECT_TRUE(ListenAt("127.0.0.2", &port).ok());
}

TEST(ListenAtTest, EveryAddressOfAName) {
  int port = 0;
  const auto listeners = ListenAt("localhost", &port);
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  EXPECT_THAT(AddressesOf(*listeners), IsSubsetOf({"127.0.0.1", "::1"}));
  EXPECT_FALSE(listeners->empty());
}

// 192.0.2.1 is an address for documentation: no machine has it. So may be that of a service.
TEST(ListenAtTest, EveryAddressWhereTheMachineHasNoneOfThem) {
  int port = 0;
  ::testing::internal::CaptureStderr();
  const auto listeners = ListenAt("192.0.2.1", &port);
  const std::string log = ::testing::internal::GetCapturedStderr();
  ASSERT_TRUE(listeners.ok()) << listeners.status();
  EXPECT_THAT(AddressesOf(*listeners), Contains("0.0.0.0"));
  EXPECT_THAT(log, HasSubstr("every address of this machine, since MASTER_ADDR=192.0.2.1 is no "
                             "address of it"));
}

TEST(ListenAtTest, APortInUseIsNamed) {
  int port = 0;
  const auto first = ListenAt("127.0.0.1", &port);
  ASSERT_TRUE(first.ok()) << first.status();
  for (const std::string host : {"127.0.0.1", ""}) {
    EXPECT_THAT(std::string(ListenAt(host, &port).status().message()),
                AllOf(HasSubstr("rank 0 cannot listen on port " + std::to_string(port)),
                      HasSubstr("Address already in use; give every process another MASTER_PORT")));
  }
}

TEST(ListenAtTest, AnUnknownHostIsNamed) {
  int port = 0;
  EXPECT_THAT(std::string(ListenAt("no.such.host.invalid", &port).status().message()),
              HasSubstr("rank 0 cannot listen at MASTER_ADDR=no.such.host.invalid: "));
}

// --- The secret. ---

class SecretTest : public ::testing::Test {
 protected:
  void SetUp() override { Clear(); }
  void TearDown() override { Clear(); }
  static void Clear() {
    unsetenv("STRAKE_COMM_SECRET");
    unsetenv("STRAKE_COMM_SECRET_FILE");
  }
  static std::string Error() { return std::string(SecretFromEnvironment().status().message()); }
  static std::string File(const std::string& text) {
    const std::string path = ::testing::TempDir() + "/secret";
    std::ofstream(path) << text;
    return path;
  }
  const std::string secret_ = "correct horse battery staple";
};

TEST_F(SecretTest, FromAVariableOrAFile) {
  EXPECT_EQ(SecretFromEnvironment().value(), "");
  setenv("STRAKE_COMM_SECRET", secret_.c_str(), 1);
  EXPECT_EQ(SecretFromEnvironment().value(), secret_);
  Clear();
  setenv("STRAKE_COMM_SECRET_FILE", File(secret_ + "\n").c_str(), 1);
  EXPECT_EQ(SecretFromEnvironment().value(), secret_);
}

TEST_F(SecretTest, WhatIsNoSecretIsNamedAndNotShown) {
  setenv("STRAKE_COMM_SECRET", "hunter2", 1);
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET has a secret of 7 bytes, and not of 16 to "));
  EXPECT_THAT(Error(), Not(HasSubstr("hunter2")));
  setenv("STRAKE_COMM_SECRET", "", 1);
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET has a secret of 0 bytes"));
  Clear();
  setenv("STRAKE_COMM_SECRET_FILE", "/no/such/file", 1);
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET_FILE=/no/such/file: "));
  const std::string path = File(" \n");
  setenv("STRAKE_COMM_SECRET_FILE", path.c_str(), 1);
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET_FILE=" + path + " has a secret of 0 bytes"));
  File(std::string(100000, 'x'));
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET_FILE=" + path));
  setenv("STRAKE_COMM_SECRET", secret_.c_str(), 1);
  EXPECT_THAT(Error(), AllOf(HasSubstr("STRAKE_COMM_SECRET and STRAKE_COMM_SECRET_FILE="),
                             HasSubstr("are both set"), Not(HasSubstr(secret_))));
}

TEST_F(NcclRendezvousTest, TheSecretIsReadWithTheOtherVariables) {
  setenv("STRAKE_COMM_SECRET", "correct horse battery staple", 1);
  EXPECT_EQ(NcclRendezvousFromEnvironment()->secret, "correct horse battery staple");
  setenv("STRAKE_COMM_SECRET", "short", 1);
  EXPECT_THAT(Error(), HasSubstr("STRAKE_COMM_SECRET has a secret of 5 bytes"));
  unsetenv("STRAKE_COMM_SECRET");
}

// --- The library. ---

TEST(NcclLibraryTest, OldVersionsAreNamed) {
  EXPECT_TRUE(CheckNcclVersion(21800, "").ok());
  EXPECT_TRUE(CheckNcclVersion(22809, "").ok());
  EXPECT_THAT(std::string(CheckNcclVersion(21705, "/opt/libnccl.so.2").message()),
              AllOf(HasSubstr("/opt/libnccl.so.2 is NCCL 2.17.5, and 2.18 or later is needed"),
                    HasSubstr("LD_LIBRARY_PATH")));
  EXPECT_THAT(std::string(CheckNcclVersion(2803, "x").message()), HasSubstr("is NCCL 2.8.3"));
}

TEST(NcclLibraryTest, LoadsOrIsNamed) {
  const auto nccl = LoadNccl();
  if (nccl.ok()) {
    int version = 0;
    EXPECT_EQ((*nccl)->get_version(&version), NcclResult::kSuccess);
    EXPECT_GE(version, 21800);
  } else {
    EXPECT_THAT(std::string(nccl.status().message()), HasSubstr("NCCL"));
    EXPECT_THAT(std::string(nccl.status().message()), HasSubstr("LD_LIBRARY_PATH"));
  }
}

}  // namespace
}  // namespace strake
