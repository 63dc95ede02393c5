// Runs the suite of all communicators on processes: this binary starts itself again under mpirun.
// Every rank runs the same tests; rank 0 reports them, including failures of other ranks.
#include "parallel/comm/mpi/mpi_communicator.h"

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "parallel/comm/launch_environment.h"
#include "parallel/comm/testing/communicator_suite.h"
#include "parallel/comm/testing/mpirun.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake::testing {
namespace {

using ::testing::HasSubstr;

constexpr int kNumProcesses = 4;

// Set by main(): one of the two.
std::unique_ptr<MpiRuntime> mpi;
std::string skip_reason;

// After a test's body: the ranks leave together, and rank 0 learns of the others' failures.
void EndTogether() {
  const auto world = mpi->CreateWorld();
  int32_t failed = ::testing::Test::HasFailure();
  const Tensor all(&failed, DType::kI32, {1});
  ASSERT_TRUE(world->AllReduceMax(all).Wait().ok());
  if (failed && !::testing::Test::HasFailure()) ADD_FAILURE() << "on another rank, see above";
}

// Each group has a world of its own, so that it may fail.
void RunOnProcesses(int size, const CommunicatorOptions& options,
                    const std::function<void(Communicator&)>& body) {
  if (mpi == nullptr) {
    if (!::testing::Test::IsSkipped()) GTEST_SKIP() << skip_reason;
    return;
  }
  if (size > mpi->size()) return;
  const auto world = mpi->CreateWorld(options);
  const bool takes_part = mpi->rank() < size;
  const auto group = world->Split(takes_part ? 0 : 1, 0, options.axis);
  if (takes_part) {
    ASSERT_TRUE(group.ok()) << group.status();
    body(**group);
  }
  EndTogether();
}

const CommBackend kMpi = {.name = "Mpi", .run = RunOnProcesses};

INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorTest, ::testing::Values(kMpi), CommBackendName);
INSTANTIATE_TEST_SUITE_P(Mpi, CommunicatorFailureTest, ::testing::Values(kMpi), CommBackendName);

// What a rank has at the end of each reduction.
struct Results {
  Results(DType dtype, int64_t n, int64_t piece)
      : sum(dtype, {n}), max(dtype, {n}), scattered(dtype, {piece}) {}
  TestTensor sum, max, scattered;
};

void FillOrdinary(const Tensor& x, int rank) {
  const bool integers =
      x.dtype() == DType::kI32 || x.dtype() == DType::kI64 || x.dtype() == DType::kU16;
  if (!integers) return FillNormal(x, rank);
  for (int64_t i = 0; i < x.num_elements(); ++i)
    SetElement(x, i, (i * 7919 + rank * 104729) % 65521);
}

void Reduce(Communicator& comm, const std::vector<int64_t>& counts, Results& results) {
  const int64_t n = results.sum->num_elements();
  TestTensor x(results.sum->dtype(), {n});
  for (const Tensor& tensor : {x.tensor(), results.sum.tensor(), results.max.tensor()}) {
    FillOrdinary(tensor, comm.rank());
  }
  auto sum = comm.AllReduceSum(results.sum);
  auto scattered = comm.ReduceScatterSum(x, results.scattered, counts);
  if (x->dtype() != DType::kC128) {
    ASSERT_TRUE(comm.AllReduceMax(results.max).Wait().ok());
  }
  ASSERT_TRUE(scattered.Wait().ok());
  ASSERT_TRUE(sum.Wait().ok());
}

TEST(MpiCommunicatorTest, ATensorOnAGpuFailsTheGroup) {
  RunOnProcesses(2, {.axis = "dp"}, [](Communicator& comm) {
    float x = 0;
    comm.BindCudaStream(nullptr);
    const Tensor on_gpu(&x, DType::kF32, {1}, Device::kCuda);
    const absl::Status status =
        comm.AllReduceSum(comm.rank() == 0 ? on_gpu : Tensor(&x, DType::kF32, {1})).Wait().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("[all_reduce_sum #0, axis dp, rank 0 of 2] over MPI, tensors are on the "
                          "CPU, and this is on a GPU: use NCCL, or ranks that are threads"));
  });
}

TEST(MpiCommunicatorTest, TheSameBitsAsThreads) {
  for (const int size : {2, 3, 4}) {
    for (const DType dtype : {DType::kF32, DType::kBf16, DType::kF64, DType::kC128, DType::kI32,
                              DType::kI64, DType::kU16}) {
      // One message, inline pieces, and more segments than a ring has.
      for (const int64_t n : {7, 1100, 140001}) {
        std::vector<int64_t> counts(size, n / 5);
        counts[0] = 0;
        counts[size - 1] += n - (size - 1) * (n / 5);
        RunOnProcesses(size, {}, [&](Communicator& comm) {
          Results results(dtype, n, counts[comm.rank()]);
          Reduce(comm, counts, results);
          Results expected(dtype, n, counts[comm.rank()]);
          const auto ends = CreateThreadsCommunicators(size);
          std::vector<std::thread> threads;
          for (int rank = 0; rank < size; ++rank) {
            threads.emplace_back([&, rank] {
              Results other(dtype, n, counts[rank]);
              Reduce(*ends[rank], counts, rank == comm.rank() ? expected : other);
            });
          }
          for (std::thread& thread : threads) thread.join();
          EXPECT_TRUE(SameBits(results.sum, expected.sum));
          EXPECT_TRUE(SameBits(results.max, expected.max));
          EXPECT_TRUE(SameBits(results.scattered, expected.scattered));
        });
      }
    }
  }
}

TEST(MpiCommunicatorTest, CompletesWhileOthersCompute) {
  constexpr std::chrono::seconds kLimit(30);
  RunOnProcesses(3, {.timeout = 2 * kLimit}, [&](Communicator& comm) {
    // A rank that has its result leaves a file.
    const auto file = [](int rank) {
      return std::filesystem::path(::testing::TempDir()) / absl::StrCat("complete-", rank);
    };
    std::filesystem::remove(file(comm.rank()));
    ASSERT_TRUE(comm.Barrier().ok());
    TestTensor x(DType::kF32, {1000000});
    FillConstant(x, 1);
    auto pending = comm.AllReduceSum(x);
    // Rank 2 computes until the others have their results, and then waits for its own.
    const auto end = std::chrono::steady_clock::now() + kLimit;
    bool others_are_done = false;
    while (comm.rank() == 2 && !others_are_done && std::chrono::steady_clock::now() < end) {
      others_are_done = std::filesystem::exists(file(0)) && std::filesystem::exists(file(1));
    }
    ASSERT_TRUE(pending.Wait().ok());
    if (comm.rank() == 2) {
      EXPECT_TRUE(others_are_done);
    } else {
      std::ofstream(file(comm.rank())) << "complete\n";
    }
    EXPECT_EQ(x->data<float>()[999999], 3);
  });
}

TEST(MpiCommunicatorTest, ADroppedResultFailsTheGroup) {
  constexpr std::chrono::minutes kLimit(1);
  RunOnProcesses(2, {.timeout = kLimit}, [&](Communicator& comm) {
    const auto file = std::filesystem::path(::testing::TempDir()) / "dropped";
    if (comm.rank() == 0) std::filesystem::remove(file);
    ASSERT_TRUE(comm.Barrier().ok());
    TestTensor x(DType::kF32, {10});
    FillConstant(x, 1);
    if (comm.rank() == 1) {
      { const auto pending = comm.AllReduceSum(x); }
      std::ofstream(file) << "dropped\n";
      return;
    }
    const auto end = std::chrono::steady_clock::now() + kLimit;
    while (!std::filesystem::exists(file) && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    // Rank 1 has sent all data that this rank needs.
    (void)comm.AllReduceSum(x).Wait();
    const absl::Status status = comm.Barrier();
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
    EXPECT_THAT(std::string(status.message()),
                HasSubstr("rank 1 of axis world dropped all_reduce_sum #1 of f32[10] at "));
  });
}

TEST(MpiCommunicatorTest, ARankThatLeavesIsMissedAtOnce) {
  if (mpi == nullptr) GTEST_SKIP() << skip_reason;
  for (const bool leave_first : {true, false}) {
    auto world = mpi->CreateWorld();
    auto pair = world->Split(mpi->rank() / 2, 0, "pair");
    ASSERT_TRUE(pair.ok());
    const auto pause = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
    if ((*pair)->rank() == 1) {
      if (!leave_first) pause();
      pair->reset();
    } else {
      if (leave_first) pause();
      const absl::Status status = (*pair)->Barrier();
      EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
      EXPECT_THAT(std::string(status.message()),
                  HasSubstr("rank 1 of axis pair left the group before barrier #0 at "));
    }
    EndTogether();
  }
}

TEST(MpiCommunicatorTest, ARankThatWaitsItselfIsNotToBlame) {
  if (mpi == nullptr) GTEST_SKIP() << skip_reason;
  const auto world = mpi->CreateWorld({.timeout = std::chrono::milliseconds(4000)});
  const auto tp = world->Split(mpi->rank() / 2, 0, "tp");
  const auto dp = world->Split(mpi->rank() % 2, 0, "dp");
  ASSERT_TRUE(tp.ok() && dp.ok());
  absl::Status status;
  if (mpi->rank() == 2) status = (*dp)->Barrier();  // its timeout is over first
  if (mpi->rank() == 0) {
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    status = (*tp)->Barrier();
  }
  if (mpi->rank() % 2 == 0) {
    EXPECT_THAT(
        std::string(status.message()),
        HasSubstr("rank 1 of axis tp did not join within 4000 ms: rank 0 waits in barrier"));
  }
  EndTogether();
}

TEST(MpiCommunicatorTest, MayLeaveOnceEverythingIsWaitedFor) {
  if (mpi == nullptr) GTEST_SKIP() << skip_reason;
  for (int round = 0; round < 50; ++round) {
    auto world = mpi->CreateWorld();
    double x = 1;
    EXPECT_TRUE(world->AllReduceSum(Tensor(&x, DType::kF64, {1})).Wait().ok());
    EXPECT_EQ(x, mpi->size());
    world.reset();
  }
  EndTogether();
}

TEST(MpiCommunicatorTest, AProcessHasOneRuntime) {
  if (mpi == nullptr) GTEST_SKIP() << skip_reason;
  EXPECT_EQ(mpi->size(), kNumProcesses);
  EXPECT_THAT(std::string(MpiRuntime::Create().status().message()),
              HasSubstr("initialized before"));
}

// Prints only the failures of ranks other than 0.
class FailurePrinter : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "[rank %d] %s:%d: %s\n", rank_, result.file_name(), result.line_number(),
                 result.message());
  }

  const int rank_;
};

void ReportFailuresOnly(int rank) {
  ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
  delete listeners.Release(listeners.default_result_printer());
  delete listeners.Release(listeners.default_xml_generator());
  listeners.Append(new FailurePrinter(rank));
}

// Makes `mpi`, or stores the reason why it cannot.
void StartMpi(int argc, char** argv) {
  const auto launched = DetectLaunchEnvironment();
  if (!launched) {
    std::vector<std::string> command = MpirunCommand(kNumProcesses);
    skip_reason = "there is no mpirun in PATH; Debian's package is openmpi-bin";
    if (command.empty()) return;
    command.insert(command.end(), argv, argv + argc);
    Exec(command);
    std::perror("mpirun");
    std::exit(1);
  }
  if (launched->rank > 0) ReportFailuresOnly(launched->rank);
  auto runtime = MpiRuntime::Create();
  if (runtime.ok()) {
    mpi = std::move(*runtime);
    return;
  }
  skip_reason = std::string(runtime.status().message());
  if (runtime.status().code() == absl::StatusCode::kUnimplemented) return;
  std::fprintf(stderr, "%s\n", skip_reason.c_str());
  std::exit(1);
}

}  // namespace
}  // namespace strake::testing

int main(int argc, char** argv) {
  std::vector<char*> arguments(argv, argv + argc);  // of which InitGoogleTest takes its own
  ::testing::InitGoogleTest(&argc, argv);
  strake::testing::StartMpi(static_cast<int>(arguments.size()), arguments.data());
  const int status = RUN_ALL_TESTS();
  strake::testing::mpi.reset();
  return status;
}
