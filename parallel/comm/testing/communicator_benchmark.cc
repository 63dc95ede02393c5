#include "parallel/comm/testing/communicator_benchmark.h"

#include <cstring>

#include "benchmark/benchmark.h"

namespace strake::testing {
namespace {

// This rank's piece of `x`, of equal pieces.
Tensor Piece(Communicator& comm, const Tensor& x) {
  const int64_t n = x.num_elements() / comm.size();
  return x.Rows(comm.rank() * n, (comm.rank() + 1) * n);
}

// Ranks 0 and 1.
void SendRecv(Communicator& comm, const Tensor& x) {
  if (comm.rank() > 1) return;
  (void)(comm.rank() == 0 ? comm.Send(x, 1) : comm.Recv(x, 0)).Wait();
}

}  // namespace

std::vector<CommunicatorBenchmark> CommunicatorBenchmarks() {
  using C = Communicator&;
  using T = const Tensor&;
  return {
      {"memcpy",
       [](C, T x, T y) {
         std::memcpy(y.raw(), x.raw(), x.num_bytes());
         benchmark::ClobberMemory();
       }},
      {"all_reduce_sum", [](C c, T x, T) { (void)c.AllReduceSum(x).Wait(); }},
      {"all_reduce_max", [](C c, T x, T) { (void)c.AllReduceMax(x).Wait(); }},
      {"reduce_scatter_sum",
       [](C c, T x, T y) { (void)c.ReduceScatterSum(x, Piece(c, y)).Wait(); }},
      {"all_gather", [](C c, T x, T y) { (void)c.AllGather(Piece(c, x), y).Wait(); }},
      {"broadcast", [](C c, T x, T) { (void)c.Broadcast(x, 0).Wait(); }},
      {"all_to_all", [](C c, T x, T y) { (void)c.AllToAll(x, y).Wait(); }},
      {"send_recv", [](C c, T x, T) { SendRecv(c, x); }},
      {"barrier", [](C c, T, T) { (void)c.Barrier(); }, {64}},
  };
}

}  // namespace strake::testing
