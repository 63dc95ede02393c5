#include <cstdint>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/testing/test_tensor.h"
#include "parallel/comm/testing/communicator_benchmark.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake::testing {
namespace {

// Bytes per second are payload bytes of one rank, as CollectiveStats counts them, times ranks:
// google/benchmark adds its threads up. Argument 0: payload bytes of a rank.
constexpr int kNumRanks = 2;

// Created by the first thread before the loop, whose start and end are barriers of the benchmark.
std::vector<std::unique_ptr<Communicator>> group;

void Run(benchmark::State& state, const CommunicatorBenchmark& collective) {
  const int64_t n = state.range(0) / static_cast<int64_t>(sizeof(float));
  const int rank = state.thread_index();
  if (rank == 0) group = CreateThreadsCommunicators(kNumRanks);
  TestTensor x(DType::kF32, {n}), y(DType::kF32, {n});
  FillConstant(x, 0);
  FillConstant(y, 0);
  for (auto _ : state) collective.run(*group[rank], x, y);
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

const bool kRegistered = [] {
  for (const CommunicatorBenchmark& collective : CommunicatorBenchmarks()) {
    auto* const registered = benchmark::RegisterBenchmark(
        collective.name, [collective](benchmark::State& state) { Run(state, collective); });
    for (const int64_t bytes : collective.payload_bytes) registered->Arg(bytes);
    registered->Threads(kNumRanks)->UseRealTime();
  }
  return true;
}();

}  // namespace
}  // namespace strake::testing
