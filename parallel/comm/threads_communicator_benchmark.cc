#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "benchmark/benchmark.h"
#include "core/testing/test_tensor.h"
#include "parallel/comm/threads_communicator.h"

namespace strake {
namespace {

using testing::FillConstant;
using testing::TestTensor;

// Bytes per second are payload bytes of one rank, as CollectiveStats counts them, times ranks:
// google/benchmark adds its threads up. Argument 0: payload bytes of a rank.
constexpr int kNumRanks = 2;

// Made by the first thread before the loop, whose start and end are barriers of the benchmark.
std::vector<std::unique_ptr<Communicator>> group;

template <typename Collective>
void Run(benchmark::State& state, Collective collective) {
  const int64_t n = state.range(0) / static_cast<int64_t>(sizeof(float));
  const int rank = state.thread_index();
  if (rank == 0) group = CreateThreadsCommunicators(kNumRanks);
  TestTensor whole(DType::kF32, {n}), other(DType::kF32, {n});
  FillConstant(whole, 0);
  FillConstant(other, 0);
  for (auto _ : state) collective(*group[rank], whole.tensor(), other.tensor());
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

// This rank's piece of `x`, of equal pieces.
Tensor Piece(Communicator& comm, const Tensor& x) {
  const int64_t n = x.num_elements() / comm.size();
  return x.Rows(comm.rank() * n, (comm.rank() + 1) * n);
}

void BM_Memcpy(benchmark::State& state) {
  Run(state, [](Communicator&, const Tensor& x, const Tensor& y) {
    std::memcpy(y.raw(), x.raw(), x.num_bytes());
    benchmark::ClobberMemory();
  });
}
void BM_AllReduceSum(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor&) {
    (void)comm.AllReduceSum(x).Wait();
  });
}
void BM_AllReduceMax(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor&) {
    (void)comm.AllReduceMax(x).Wait();
  });
}
void BM_ReduceScatterSum(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor& y) {
    (void)comm.ReduceScatterSum(x, Piece(comm, y)).Wait();
  });
}
void BM_AllGather(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor& y) {
    (void)comm.AllGather(Piece(comm, x), y).Wait();
  });
}
void BM_Broadcast(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor&) {
    (void)comm.Broadcast(x, 0).Wait();
  });
}
void BM_AllToAll(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor& y) {
    (void)comm.AllToAll(x, y).Wait();
  });
}
void BM_SendRecv(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor& x, const Tensor&) {
    (void)(comm.rank() == 0 ? comm.Send(x, 1) : comm.Recv(x, 0)).Wait();
  });
}
void BM_Barrier(benchmark::State& state) {
  Run(state, [](Communicator& comm, const Tensor&, const Tensor&) { (void)comm.Barrier(); });
}

void Sizes(benchmark::internal::Benchmark* benchmark) {
  // The smallest shows latency; 786432 is GPT-2 124M's [256, 768] in f32.
  for (const int64_t bytes : {64, 786432, 33554432}) benchmark->Arg(bytes);
  benchmark->Threads(kNumRanks)->UseRealTime();
}
BENCHMARK(BM_Memcpy)->Apply(Sizes);
BENCHMARK(BM_AllReduceSum)->Apply(Sizes);
BENCHMARK(BM_AllReduceMax)->Apply(Sizes);
BENCHMARK(BM_ReduceScatterSum)->Apply(Sizes);
BENCHMARK(BM_AllGather)->Apply(Sizes);
BENCHMARK(BM_Broadcast)->Apply(Sizes);
BENCHMARK(BM_AllToAll)->Apply(Sizes);
BENCHMARK(BM_SendRecv)->Apply(Sizes);
BENCHMARK(BM_Barrier)->Arg(64)->Threads(kNumRanks)->UseRealTime();

}  // namespace
}  // namespace strake
