// Starts itself again under mpirun, with two processes: `bazel run` it. Rank 0 prints.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/testing/test_tensor.h"
#include "parallel/comm/launch_environment.h"
#include "parallel/comm/mpi/mpi_communicator.h"
#include "parallel/comm/testing/communicator_benchmark.h"
#include "parallel/comm/testing/mpirun.h"

namespace strake::testing {
namespace {

constexpr int kNumRanks = 2;

// The ranks must make equally many calls, so the numbers of calls are fixed: about a second.
int64_t NumCalls(int64_t bytes) { return bytes < 1000 ? 50000 : 1500000000 / bytes; }

// Bytes per second are payload bytes of one rank, as CollectiveStats counts them, times ranks.
// Argument 0: payload bytes of a rank.
void Run(benchmark::State& state, Communicator& comm, const CommunicatorBenchmark& collective) {
  const int64_t n = state.range(0) / static_cast<int64_t>(sizeof(float));
  TestTensor x(DType::kF32, {n}), y(DType::kF32, {n});
  FillConstant(x, 0);
  FillConstant(y, 0);
  (void)comm.Barrier();
  for (auto _ : state) collective.run(comm, x, y);
  state.SetBytesProcessed(state.iterations() * state.range(0) * comm.size());
}

void Register(Communicator& comm) {
  for (const CommunicatorBenchmark& collective : CommunicatorBenchmarks()) {
    for (const int64_t bytes : collective.payload_bytes) {
      benchmark::RegisterBenchmark(
          collective.name,
          [&comm, collective](benchmark::State& state) { Run(state, comm, collective); })
          ->Arg(bytes)
          ->Iterations(NumCalls(bytes))
          ->UseRealTime();
    }
  }
}

int RunUnderMpirun(int argc, char** argv) {
  auto mpi = MpiRuntime::Create();
  if (!mpi.ok()) {
    std::fprintf(stderr, "%s\n", mpi.status().ToString().c_str());
    return 1;
  }
  const auto world = (*mpi)->CreateWorld();
  Register(*world);
  benchmark::Initialize(&argc, argv);
  std::ofstream nowhere;  // a closed stream, which discards its input
  benchmark::ConsoleReporter silent;
  silent.SetOutputStream(&nowhere);
  silent.SetErrorStream(&nowhere);
  (*mpi)->rank() == 0 ? benchmark::RunSpecifiedBenchmarks()
                      : benchmark::RunSpecifiedBenchmarks(&silent);
  return 0;
}

}  // namespace
}  // namespace strake::testing

int main(int argc, char** argv) {
  using namespace strake::testing;
  if (strake::DetectLaunchEnvironment()) return RunUnderMpirun(argc, argv);
  std::vector<std::string> command = MpirunCommand(kNumRanks);
  command.insert(command.end(), argv, argv + argc);
  if (command[0] == "mpirun") Exec(command);
  std::perror("mpirun (of Debian's package openmpi-bin)");
  return 1;
}
