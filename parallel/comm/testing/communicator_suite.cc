#include "parallel/comm/testing/communicator_suite.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <complex>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/philox.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "parallel/comm/testing/rank_tensor.h"

namespace strake::testing {

// The suites may be linked and instantiated in part.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CommunicatorTest);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(CommunicatorFailureTest);

namespace {

using Kind = CollectiveKind;

constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF64, DType::kC128,
                             DType::kI32, DType::kI64,  DType::kU16};
// Empty, fewer elements than ranks, and more than one rank processes at a time.
std::vector<int64_t> Sizes() { return {0, 1, 5, ScopedRankDevice::Size(40001)}; }

// A small integer, so that sums over eight ranks are exact in bf16 (8 bits) too: at most 8 * 31.
double Value(int rank, int64_t i) { return (i * 7 + rank * 3) % 32; }

// Unequal, every third one from rank 1 empty.
std::vector<int64_t> RaggedCounts(int size, int64_t scale) {
  std::vector<int64_t> counts(size);
  for (int r = 0; r < size; ++r) counts[r] = r % 3 == 1 ? 0 : scale * (r + 1) + r % 2;
  return counts;
}

int64_t Sum(const std::vector<int64_t>& counts, int end) {
  return std::accumulate(counts.begin(), counts.begin() + end, int64_t{0});
}
int64_t Sum(const std::vector<int64_t>& counts) {
  return Sum(counts, static_cast<int>(counts.size()));
}

template <typename F>
void Fill(const Tensor& x, F value) {
  FillOnHost(x, [&](const Tensor& host) {
    for (int64_t i = 0; i < host.num_elements(); ++i) SetElement(host, i, value(i));
  });
}

void FillConstant(const RankTensor& x, double value) {
  Fill(x, [&](int64_t) { return value; });
}

void FillNormal(const RankTensor& x, uint64_t seed) {
  FillOnHost(x, [&](const Tensor& host) { testing::FillNormal(host, seed); });
}

// One failure per tensor, not one per element.
template <typename F>
void ExpectElements(const Tensor& x, F value, const char* what) {
  const HostImage image(x);
  for (int64_t i = 0; i < x.num_elements(); ++i) {
    if (GetElement(image, i) == std::complex<double>(value(i))) continue;
    ADD_FAILURE() << what << ": element " << i << " of " << x.ToString() << " is "
                  << GetElement(image, i) << ", not " << value(i);
    return;
  }
}

double SumOverRanks(int size, int64_t i) {
  double sum = 0;
  for (int r = 0; r < size; ++r) sum += Value(r, i);
  return sum;
}

// Runs `body` on the backend's device.
void RunOn(const CommBackend& backend, int size, const CommunicatorOptions& options,
           const std::function<void(Communicator&)>& body) {
  backend.run(size, options, [&](Communicator& comm) {
    const ScopedRankDevice device(backend.device, comm);
    body(comm);
  });
}

// A pause that differs by rank and round, so that arrival orders differ.
void Jitter(int rank, int round) {
  const uint64_t bits = Philox(1, RandomUse::kTesting).Bits(rank * 1000 + round);
  if (bits % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(bits / 3 % 300));
}

// Seconds of a clock that all ranks on this machine share.
double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

TEST_P(CommunicatorTest, AllReduceSum) {
  OnEverySize([](Communicator& comm) {
    for (const DType dtype : kDTypes) {
      for (const int64_t n : Sizes()) {
        RankTensor x(dtype, {n});
        Fill(x, [&](int64_t i) { return Value(comm.rank(), i); });
        const auto y = comm.AllReduceSum(x).Wait();
        ASSERT_TRUE(y.ok()) << y.status();
        EXPECT_EQ(y->raw(), x->raw());
        ExpectElements(
            x, [&](int64_t i) { return SumOverRanks(comm.size(), i); }, "sum");
      }
    }
  });
}

TEST_P(CommunicatorTest, AllReduceSumsComplexNumbersInBothParts) {
  OnEverySize([](Communicator& comm) {
    RankTensor x(DType::kC128, {3});
    Fill(x, [&](int64_t i) { return std::complex<double>(i, comm.rank() * 1e-30); });
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    const int n = comm.size();
    double imaginary = 0;
    for (int r = 0; r < n; ++r) imaginary += r * 1e-30;
    ExpectElements(
        x, [&](int64_t i) { return std::complex<double>(i * n, imaginary); }, "sum");
  });
}

TEST_P(CommunicatorTest, SumsInRankOrderWhateverTheOrderOfArrival) {
  OnEverySize([](Communicator& comm) {
    const int64_t n = ScopedRankDevice::Size(40000);
    // Ordinary numbers, whose sum depends on its order.
    RankTensor x(DType::kF32, {n});
    TestTensor in_order(DType::kF32, {n}), other(DType::kF32, {n});
    FillConstant(in_order, 0);
    for (int r = 0; r < comm.size(); ++r) {
      FillNormal(other, r);
      for (int64_t i = 0; i < n; ++i) in_order->data<float>()[i] += other->data<float>()[i];
    }
    for (int round = 0; round < 5; ++round) {
      FillNormal(x, comm.rank());
      Jitter(comm.rank(), round);
      ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
      EXPECT_TRUE(SameBits(HostImage(x), in_order));
    }
  });
}

TEST_P(CommunicatorTest, AllReduceMax) {
  OnEverySize([](Communicator& comm) {
    for (const DType dtype : kDTypes) {
      if (dtype == DType::kC128) continue;
      for (const int64_t n : Sizes()) {
        RankTensor x(dtype, {n});
        Fill(x, [&](int64_t i) { return Value(comm.rank(), i); });
        ASSERT_TRUE(comm.AllReduceMax(x).Wait().ok());
        const auto largest = [&](int64_t i) {
          double max = 0;
          for (int r = 0; r < comm.size(); ++r) max = std::max(max, Value(r, i));
          return max;
        };
        ExpectElements(x, largest, "max");
      }
    }
    RankTensor x(DType::kF32, {1});
    const bool last = comm.rank() == comm.size() - 1;
    FillConstant(x, last ? std::numeric_limits<double>::quiet_NaN() : 1);
    ASSERT_TRUE(comm.AllReduceMax(x).Wait().ok());
    EXPECT_TRUE(std::isnan(HostImage(x)->data<float>()[0]));
  });
}

TEST_P(CommunicatorTest, ReduceScatter) {
  OnEverySize([](Communicator& comm) {
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {int64_t{0}, int64_t{1}, ScopedRankDevice::Size(9000)}) {
        const std::vector<int64_t> counts = RaggedCounts(comm.size(), scale);
        const int64_t begin = Sum(counts, comm.rank());
        RankTensor x(dtype, {Sum(counts)}), y(dtype, {counts[comm.rank()]});
        const auto fill = [&] { Fill(x, [&](int64_t i) { return Value(comm.rank(), i); }); };
        const auto sum = [&](int64_t i) { return SumOverRanks(comm.size(), begin + i); };
        fill();
        ASSERT_TRUE(comm.ReduceScatterSum(x, y, counts).Wait().ok());
        ExpectElements(y, sum, "apart");
        ExpectElements(
            x, [&](int64_t i) { return Value(comm.rank(), i); }, "the input");
        const Tensor piece = x->Rows(begin, begin + counts[comm.rank()]);
        ASSERT_TRUE(comm.ReduceScatterSum(x, piece, counts).Wait().ok());
        ExpectElements(piece, sum, "in place");
        const Tensor before = x->Rows(0, begin);
        ExpectElements(
            before, [&](int64_t i) { return Value(comm.rank(), i); }, "other pieces");
      }
    }
  });
}

TEST_P(CommunicatorTest, AllGather) {
  OnEverySize([](Communicator& comm) {
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {int64_t{0}, int64_t{1}, ScopedRankDevice::Size(9000)}) {
        const std::vector<int64_t> counts = RaggedCounts(comm.size(), scale);
        const int64_t begin = Sum(counts, comm.rank()), n = counts[comm.rank()];
        RankTensor x(dtype, {n}), apart(dtype, {Sum(counts)}), in_place(dtype, {Sum(counts)});
        Fill(x, [&](int64_t i) { return Value(comm.rank(), i); });
        Fill(in_place->Rows(begin, begin + n), [&](int64_t i) { return Value(comm.rank(), i); });
        ASSERT_TRUE(comm.AllGather(x, apart, counts).Wait().ok());
        const Tensor piece = in_place->Rows(begin, begin + n);
        ASSERT_TRUE(comm.AllGather(piece, in_place, counts).Wait().ok());
        for (int r = 0; r < comm.size(); ++r) {
          const Tensor part = apart->Rows(Sum(counts, r), Sum(counts, r + 1));
          ExpectElements(
              part, [&](int64_t i) { return Value(r, i); }, "gathered");
        }
        EXPECT_TRUE(SameBits(HostImage(apart), HostImage(in_place)));
      }
    }
  });
}

TEST_P(CommunicatorTest, WithoutCountsPiecesAreEqual) {
  OnEverySize([](Communicator& comm) {
    const int n = comm.size(), rank = comm.rank();
    RankTensor x(DType::kF32, {n, 2}), piece(DType::kF32, {2}), all(DType::kF32, {n, 2});
    Fill(x, [&](int64_t i) { return Value(rank, i); });
    ASSERT_TRUE(comm.ReduceScatterSum(x, piece).Wait().ok());
    ASSERT_TRUE(comm.AllGather(piece, all).Wait().ok());
    ExpectElements(
        all, [&](int64_t i) { return SumOverRanks(n, i); }, "gathered sums");
    ASSERT_TRUE(comm.AllToAll(x, all).Wait().ok());
    ExpectElements(
        all, [&](int64_t i) { return Value(static_cast<int>(i / 2), rank * 2 + i % 2); },
        "exchanged");
  });
}

TEST_P(CommunicatorTest, BroadcastFromEveryRoot) {
  OnEverySize([](Communicator& comm) {
    for (const DType dtype : kDTypes) {
      for (int root = 0; root < comm.size(); ++root) {
        for (const int64_t n : Sizes()) {
          RankTensor x(dtype, {n});
          if (comm.rank() == root) Fill(x, [&](int64_t i) { return Value(root, i); });
          ASSERT_TRUE(comm.Broadcast(x, root).Wait().ok());
          ExpectElements(
              x, [&](int64_t i) { return Value(root, i); }, "broadcast");
        }
      }
    }
  });
}

// Elements from rank s to rank d: ragged, and none on part of the pairs.
int64_t PairCount(int s, int d, int64_t scale) { return (s + 2 * d) % 4 * scale; }

TEST_P(CommunicatorTest, AllToAllOfUnequalPieces) {
  OnEverySize([](Communicator& comm) {
    const int size = comm.size(), rank = comm.rank();
    for (const DType dtype : kDTypes) {
      for (const int64_t scale : {int64_t{0}, int64_t{1}, ScopedRankDevice::Size(3001)}) {
        std::vector<int64_t> send(size), recv(size);
        for (int r = 0; r < size; ++r) send[r] = PairCount(rank, r, scale);
        for (int r = 0; r < size; ++r) recv[r] = PairCount(r, rank, scale);
        RankTensor x(dtype, {Sum(send)}), y(dtype, {Sum(recv)});
        for (int d = 0; d < size; ++d) {
          const Tensor piece = x->Rows(Sum(send, d), Sum(send, d + 1));
          Fill(piece, [&](int64_t i) { return Value(rank * size + d, i); });
        }
        ASSERT_TRUE(comm.AllToAll(x, y, send, recv).Wait().ok());
        for (int s = 0; s < size; ++s) {
          const Tensor piece = y->Rows(Sum(recv, s), Sum(recv, s + 1));
          ExpectElements(
              piece, [&](int64_t i) { return Value(s * size + rank, i); }, "exchanged");
        }
      }
    }
  });
}

TEST_P(CommunicatorTest, SendAndRecvRoundARing) {
  OnEverySize([](Communicator& comm) {
    if (comm.size() == 1) return;
    const int next = (comm.rank() + 1) % comm.size();
    const int previous = (comm.rank() + comm.size() - 1) % comm.size();
    for (const DType dtype : kDTypes) {
      for (const int64_t n : Sizes()) {
        RankTensor x(dtype, {n}), y(dtype, {n});
        Fill(x, [&](int64_t i) { return Value(comm.rank(), i); });
        auto sent = comm.Send(x, next);
        auto received = comm.Recv(y, previous);
        ASSERT_TRUE(received.Wait().ok());
        ASSERT_TRUE(sent.Wait().ok());
        ExpectElements(
            y, [&](int64_t i) { return Value(previous, i); }, "received");
      }
    }
  });
}

TEST_P(CommunicatorTest, MessagesOfAPairKeepTheirOrder) {
  OnEverySize([](Communicator& comm) {
    if (comm.rank() > 1 || comm.size() == 1) return;
    std::vector<float> values(3);
    if (comm.rank() == 0) values = {1, 2, 3};
    std::vector<Pending<Tensor>> pending;
    for (float& value : values) {
      const Tensor x(&value, DType::kF32, {1});
      pending.push_back(comm.rank() == 0 ? comm.Send(x, 1) : comm.Recv(x, 0));
    }
    for (int i = 2; i >= 0; --i) ASSERT_TRUE(pending[i].Wait().ok());
    EXPECT_EQ(values, (std::vector<float>{1, 2, 3}));
  });
}

TEST_P(CommunicatorTest, ManyInFlightWaitedForInAnyOrder) {
  OnEverySize([](Communicator& comm) {
    constexpr int kInFlight = 12;
    std::vector<std::unique_ptr<RankTensor>> x;
    std::vector<Pending<Tensor>> pending;
    for (int i = 0; i < kInFlight; ++i) {
      x.push_back(std::make_unique<RankTensor>(DType::kF32, Shape{1000 * i}));
      Fill(*x[i], [&](int64_t j) { return Value(comm.rank(), i + j); });
      Jitter(comm.rank(), i);
      pending.push_back(comm.AllReduceSum(*x[i]));
    }
    for (int i = 0; i < kInFlight; ++i) {
      const int at = (i * 5 + comm.rank()) % kInFlight;  // another order on every rank
      ASSERT_TRUE(pending[at].Wait().ok());
      ExpectElements(
          *x[at], [&](int64_t j) { return SumOverRanks(comm.size(), at + j); }, "sum");
    }
  });
}

TEST_P(CommunicatorTest, BarrierHoldsEveryRank) {
  OnEverySize([](Communicator& comm) {
    for (int round = 0; round < 20; ++round) {
      Jitter(comm.rank(), round);
      double last_arrival = Seconds();
      ASSERT_TRUE(comm.Barrier().ok());
      const double leave = Seconds();
      ASSERT_TRUE(comm.AllReduceMax(Tensor(&last_arrival, DType::kF64, {1})).Wait().ok());
      EXPECT_LE(last_arrival, leave);
    }
    EXPECT_EQ(comm.stats()[Kind::kBarrier], (CollectiveStats::Entry{20, 0}));
  });
}

TEST_P(CommunicatorTest, SplitByColorInOrderOfKey) {
  OnEverySize([](Communicator& comm) {
    // Odd and even ranks, the highest first.
    const int color = comm.rank() % 2;
    auto half = comm.Split(color, -comm.rank(), "half");
    ASSERT_TRUE(half.ok()) << half.status();
    const int size = (comm.size() + 1 - color) / 2;
    EXPECT_EQ((*half)->size(), size);
    EXPECT_EQ((*half)->rank(), size - 1 - comm.rank() / 2);
    EXPECT_EQ((*half)->axis(), "half");
    EXPECT_EQ((*half)->options().timeout, comm.options().timeout);
    std::vector<int64_t> members(size);
    int64_t self = comm.rank();
    const Tensor all(members.data(), DType::kI64, {size});
    ASSERT_TRUE((*half)->AllGather(Tensor(&self, DType::kI64, {1}), all).Wait().ok());
    for (int r = 0; r < size; ++r) EXPECT_EQ(members[r], 2 * (size - 1 - r) + color);
    // A subgroup of a subgroup, which exists beside it.
    auto alone = (*half)->Split(comm.rank(), 0, "alone");
    ASSERT_TRUE(alone.ok());
    EXPECT_EQ((*alone)->size(), 1);
    RankTensor x(DType::kF32, {3});
    FillConstant(x, 1);
    ASSERT_TRUE((*alone)->AllReduceSum(x).Wait().ok());
    ASSERT_TRUE(comm.AllReduceSum(x).Wait().ok());
    ExpectElements(
        x, [&](int64_t) { return comm.size(); }, "sum");
    EXPECT_EQ(comm.stats()[Kind::kSplit], (CollectiveStats::Entry{1, 0}));
  });
}

TEST_P(CommunicatorTest, CountsCallsAndPayloadBytes) {
  OnEverySize([](Communicator& comm) {
    const int size = comm.size(), rank = comm.rank();
    RankTensor piece(DType::kBf16, {10}), whole(DType::kBf16, {10 * size}),
        other(DType::kBf16, {10 * size});
    FillConstant(piece, 1);
    FillConstant(whole, 1);
    ASSERT_TRUE(comm.AllReduceSum(piece).Wait().ok());
    ASSERT_TRUE(comm.AllReduceSum(piece).Wait().ok());
    ASSERT_TRUE(comm.AllReduceMax(piece).Wait().ok());
    ASSERT_TRUE(comm.ReduceScatterSum(whole, piece).Wait().ok());
    ASSERT_TRUE(comm.AllGather(piece, whole).Wait().ok());
    ASSERT_TRUE(comm.Broadcast(piece, 0).Wait().ok());
    ASSERT_TRUE(comm.AllToAll(whole, other).Wait().ok());
    ASSERT_TRUE(comm.CheckReplicated(piece, "a checked tensor").ok());
    using Entry = CollectiveStats::Entry;
    EXPECT_EQ(comm.stats()[Kind::kAllReduceSum], (Entry{2, 40}));
    EXPECT_EQ(comm.stats()[Kind::kAllReduceMax], (Entry{1, 20}));
    EXPECT_EQ(comm.stats()[Kind::kReduceScatterSum], (Entry{1, 20 * size}));
    EXPECT_EQ(comm.stats()[Kind::kAllGather], (Entry{1, 20 * size}));
    EXPECT_EQ(comm.stats()[Kind::kBroadcast], (Entry{1, 20}));
    EXPECT_EQ(comm.stats()[Kind::kAllToAll], (Entry{1, 20 * size}));
    EXPECT_EQ(comm.stats().Total(), (Entry{7, 80 + 60 * size}));
    if (size > 1 && rank < 2) {
      ASSERT_TRUE((rank == 0 ? comm.Send(piece, 1) : comm.Recv(piece, 0)).Wait().ok());
      EXPECT_EQ(comm.stats()[rank == 0 ? Kind::kSend : Kind::kRecv], (Entry{1, 20}));
    }
    comm.ClearStats();
    EXPECT_EQ(comm.stats(), CollectiveStats());
  });
}

TEST_P(CommunicatorTest, CheckReplicatedFindsOneBit) {
  OnEverySize([](Communicator& comm) {
    const int last = comm.size() - 1;
    RankTensor x(DType::kF32, {300});
    FillNormal(x, 7);
    EXPECT_TRUE(comm.CheckReplicated(x, "wte.weight").ok());
    if (comm.rank() == last) {
      FillOnHost(x, [](const Tensor& host) {
        testing::FillNormal(host, 7);
        static_cast<uint32_t*>(host.raw())[123] ^= 1;
      });
    }
    const absl::Status status = comm.CheckReplicated(x, "wte.weight");
    if (comm.size() == 1) {
      EXPECT_TRUE(status.ok());
      return;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    const std::string message(status.message());
    EXPECT_THAT(message, ::testing::HasSubstr("wte.weight f32[300] differs along axis world"));
    EXPECT_THAT(message, ::testing::HasSubstr(absl::StrCat("on rank ", last, ", at ")));
    EXPECT_THAT(message, ::testing::HasSubstr("communicator_suite.cc:"));
  });
}

// Rank 1 of three holds no copy.
TEST_P(CommunicatorTest, CompareReplicatedComparesHoldersAlone) {
  RunOn(GetParam(), 3, {}, [](Communicator& comm) {
    RankTensor x(DType::kF32, {3});
    FillConstant(x, comm.rank() == 1 ? 7 : 5);
    const int ends[] = {0, 2}, both[] = {1, 2};
    EXPECT_TRUE(comm.CompareReplicated(x, "x", ends).ok());
    const absl::Status status = comm.CompareReplicated(x, "x", both);
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_THAT(std::string(status.message()),
                ::testing::AllOf(::testing::HasSubstr(" on rank 1 and "),
                                 ::testing::HasSubstr(" on rank 2, at ")));
  });
}

TEST_P(CommunicatorTest, CheckReplicatedComparesNothingWithoutTheCheckMode) {
  RunOn(GetParam(), 2, {}, [](Communicator& comm) {
    RankTensor x(DType::kF32, {3});
    FillConstant(x, comm.rank());
    EXPECT_TRUE(comm.CheckReplicated(x, "x").ok());
  });
}

// --- Failures ---

// Rank 1 of three does `fault` instead of a collective that the others call. Rank 2 does not take
// part in send and recv, whose sides are ranks 0 and 1.
void OnFault(const CommBackend& backend, std::chrono::milliseconds timeout,
             const std::function<void(Communicator&)>& fault, absl::StatusCode code,
             const std::string& cause) {
  using ::testing::HasSubstr;
  for (const NamedCollective& collective : EveryCollective()) {
    const bool message = collective.kind == Kind::kSend || collective.kind == Kind::kRecv;
    RunOn(backend, 3, {.axis = "tp", .timeout = timeout}, [&](Communicator& comm) {
      for (int i = 0; i < 2; ++i) ASSERT_TRUE(comm.Barrier().ok());
      if (comm.rank() == 1) {
        // A fault may overtake the barrier on its way to rank 2.
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        return fault(comm);
      }
      if (comm.rank() == 2 && message) return;
      const absl::Status status = collective.call(comm);
      EXPECT_EQ(status.code(), code) << status;
      const std::string text(status.message());
      EXPECT_THAT(
          text, HasSubstr(absl::StrCat("[", CollectiveName(collective.kind), " #", message ? 0 : 2,
                                       ", axis tp, rank ", comm.rank(), " of 3]")));
      EXPECT_THAT(text, HasSubstr(cause));
      // Later calls fail at once, with the same cause.
      const absl::Status later = comm.Barrier();
      EXPECT_EQ(later.code(), code);
      EXPECT_THAT(std::string(later.message()), HasSubstr(cause));
    });
  }
}

TEST_P(CommunicatorFailureTest, ARankThatDoesNotComeIsNamedAfterTheTimeout) {
  OnFault(
      GetParam(), std::chrono::milliseconds(2000), [](Communicator&) {},
      absl::StatusCode::kDeadlineExceeded, "rank 1 of axis tp did not join within 2000 ms: rank ");
}

TEST_P(CommunicatorFailureTest, AnAbortEndsTheOthersAtOnce) {
  OnFault(
      GetParam(), std::chrono::minutes(1),
      [](Communicator& comm) { comm.Abort(absl::DataLossError("a torn page")); },
      absl::StatusCode::kDataLoss, "rank 1 of axis tp aborted: a torn page");
}

TEST_P(CommunicatorFailureTest, TheFirstCauseStays) {
  RunOn(GetParam(), 2, {}, [](Communicator& comm) {
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == 1) {
      comm.Abort(absl::DataLossError("the first"));
      comm.Abort(absl::InternalError("the second"));
    }
    const absl::Status status = comm.Barrier();
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("aborted: the first"));
  });
}

// Ranks 0 and 1 of two make different calls; both errors must show both sides.
void OnDisagreement(const CommBackend& backend, const NamedCollective& zero,
                    const NamedCollective& one, const std::vector<std::string>& parts) {
  RunOn(backend, 2, {.axis = "dp", .timeout = std::chrono::minutes(1), .check = true},
        [&](Communicator& comm) {
          ASSERT_TRUE(comm.Barrier().ok());
          const absl::Status status = (comm.rank() == 0 ? zero : one).call(comm);
          EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
          for (const std::string& part : parts) {
            EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr(part));
          }
        });
}

NamedCollective Sums(DType dtype, int64_t n) {
  return {Kind::kAllReduceSum, [=](Communicator& comm) {
            RankTensor x(dtype, {n});
            FillConstant(x, 1);
            return comm.AllReduceSum(x).Wait().status();
          }};
}

TEST_P(CommunicatorFailureTest, DisagreementShowsBothSides) {
  const std::vector<NamedCollective> every = EveryCollective();
  OnDisagreement(GetParam(), Sums(DType::kF32, 4), Sums(DType::kF32, 5),
                 {"on axis dp, ranks disagree", "rank 0 called all_reduce_sum #1 of f32[4] at ",
                  "rank 1 called all_reduce_sum #1 of f32[5] at ", "communicator_suite.cc:"});
  OnDisagreement(GetParam(), Sums(DType::kF32, 4), Sums(DType::kF64, 4), {"f32[4]", "f64[4]"});
  OnDisagreement(GetParam(), Sums(DType::kF32, 2), every[1],
                 {"all_reduce_sum #1", "all_reduce_max #1"});
  const auto broadcast = [](int root) {
    return NamedCollective{
        Kind::kBroadcast, [root](Communicator& comm) {
          float x = 0;
          return comm.Broadcast(Tensor(&x, DType::kF32, {1}), root).Wait().status();
        }};
  };
  OnDisagreement(GetParam(), broadcast(0), broadcast(1), {"from rank 0", "from rank 1"});
  const auto gather = [](std::vector<int64_t> counts) {
    return NamedCollective{Kind::kAllGather, [counts](Communicator& comm) {
                             RankTensor x(DType::kF32, {counts[comm.rank()]});
                             RankTensor y(DType::kF32, {Sum(counts)});
                             return comm.AllGather(x, y, counts).Wait().status();
                           }};
  };
  OnDisagreement(GetParam(), gather({1, 2}), gather({2, 1}), {"pieces of 1, 2", "pieces of 2, 1"});
}

TEST_P(CommunicatorFailureTest, AllToAllCountsMustFitPairwise) {
  const auto exchange = [](std::vector<int64_t> send, std::vector<int64_t> recv) {
    return NamedCollective{Kind::kAllToAll, [send, recv](Communicator& comm) {
                             RankTensor x(DType::kF32, {Sum(send)}), y(DType::kF32, {Sum(recv)});
                             return comm.AllToAll(x, y, send, recv).Wait().status();
                           }};
  };
  OnDisagreement(GetParam(), exchange({1, 2}, {1, 3}), exchange({3, 1}, {1, 1}),
                 {"in pieces of 1, 2 for pieces of 1, 3", "in pieces of 3, 1 for pieces of 1, 1"});
}

TEST_P(CommunicatorFailureTest, SendAndRecvOfUnequalCounts) {
  RunOn(GetParam(), 2, {}, [](Communicator& comm) {
    RankTensor x(DType::kF32, {2 + comm.rank()});
    FillConstant(x, 1);
    const absl::Status status =
        (comm.rank() == 0 ? comm.Send(x, 1) : comm.Recv(x, 0)).Wait().status();
    EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("send #0 of f32[2] to rank 1"));
    EXPECT_THAT(std::string(status.message()),
                ::testing::HasSubstr("recv #0 of f32[3] from rank 0"));
  });
}

TEST_P(CommunicatorFailureTest, AFailureReachesEveryGroupOfTheSplit) {
  RunOn(GetParam(), 4, {.timeout = std::chrono::minutes(1)}, [](Communicator& comm) {
    auto half = comm.Split(comm.rank() / 2, 0, "half");
    ASSERT_TRUE(half.ok());
    // An abort may end splits that other ranks still wait for.
    ASSERT_TRUE(comm.Barrier().ok());
    if (comm.rank() == 3) {
      comm.Abort(absl::InternalError("a fault"));
    } else {
      // Rank 1 waits in a group that rank 3 is not in, for a rank that never comes.
      const absl::Status status = comm.rank() == 0 ? comm.Barrier() : (*half)->Barrier();
      EXPECT_THAT(std::string(status.message()),
                  ::testing::HasSubstr("rank 3 of axis world aborted: a fault"));
    }
  });
}

}  // namespace

std::vector<NamedCollective> EveryCollective() {
  const auto on = [](auto start) {
    return [start](Communicator& comm) {
      RankTensor x(DType::kF32, {comm.size()}), piece(DType::kF32, {1});
      FillConstant(x, 1);
      FillConstant(piece, 1);
      return start(comm, x.tensor(), piece.tensor());
    };
  };
  using T = const Tensor&;
  return {
      {Kind::kAllReduceSum, on([](auto& c, T x, T) { return c.AllReduceSum(x).Wait().status(); })},
      {Kind::kAllReduceMax, on([](auto& c, T x, T) { return c.AllReduceMax(x).Wait().status(); })},
      {Kind::kReduceScatterSum,
       on([](auto& c, T x, T p) { return c.ReduceScatterSum(x, p).Wait().status(); })},
      {Kind::kAllGather, on([](auto& c, T x, T p) { return c.AllGather(p, x).Wait().status(); })},
      {Kind::kBroadcast, on([](auto& c, T x, T) { return c.Broadcast(x, 0).Wait().status(); })},
      {Kind::kAllToAll, on([](auto& c, T x, T) {
         RankTensor y(DType::kF32, {c.size()});
         return c.AllToAll(x, y).Wait().status();
       })},
      {Kind::kSend, on([](auto& c, T x, T) { return c.Send(x, 1).Wait().status(); })},
      {Kind::kRecv, on([](auto& c, T x, T) { return c.Recv(x, 1).Wait().status(); })},
      {Kind::kBarrier, [](Communicator& c) { return c.Barrier(); }},
      {Kind::kSplit, [](Communicator& c) { return c.Split(0, 0, "part").status(); }},
  };
}

void CommunicatorTest::OnEverySize(const std::function<void(Communicator&)>& body) {
  for (const int size : {1, 2, 3, 4, 8}) {
    RunOn(GetParam(), size, {.timeout = std::chrono::minutes(1), .check = true}, body);
  }
}

}  // namespace strake::testing
