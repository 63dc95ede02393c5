// Benchmarks of each collective, the same for all communicators, with memcpy for comparison.
#ifndef STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_BENCHMARK_H_
#define STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_BENCHMARK_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "parallel/comm/communicator.h"

namespace strake::testing {

// `run` makes one call on a group of two or more ranks; x and y have as many elements as the ranks'
// payload, a multiple of the number of ranks.
struct CommunicatorBenchmark {
  const char* name;
  std::function<void(Communicator& comm, const Tensor& x, const Tensor& y)> run;
  // Sizes to measure. The smallest shows latency; 786432 bytes are [256, 768] in f32.
  std::vector<int64_t> payload_bytes = {64, 786432, 33554432};
};
std::vector<CommunicatorBenchmark> CommunicatorBenchmarks();

}  // namespace strake::testing

#endif  // STRAKE_PARALLEL_COMM_TESTING_COMMUNICATOR_BENCHMARK_H_
