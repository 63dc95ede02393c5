// Graphs of the emulated GPU: nodes with edges, and launches that respect nothing but the edges.
#ifndef STRAKE_CORE_TESTING_EMULATED_GPU_GRAPHS_H_
#define STRAKE_CORE_TESTING_EMULATED_GPU_GRAPHS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "absl/status/status.h"
#include "core/cuda/stream.h"

namespace strake::testing {

using EmulatedRun = std::function<absl::Status()>;

struct EmulatedNode {
  EmulatedRun run;
  std::set<size_t> after;               // earlier nodes, which it waits for
  const CUstream_st* stream = nullptr;  // that it was captured from; perhaps destroyed since
};

// One launch of a graph, in an order drawn from the seed and the launch's number, from 1. In every
// third launch each next node is drawn. In the others streams are drawn, and each runs as far ahead
// of the next as the edges allow; launches 1 and 2, 4 and 5, ... have opposite orders. So a missing
// edge between two streams shows in one of two launches.
class EmulatedGraphLaunch {
 public:
  EmulatedGraphLaunch(std::shared_ptr<const std::vector<EmulatedNode>> nodes, uint64_t seed,
                      uint64_t number);

  // Runs what is left. Unavailable if all of that waits for other work: call it again. Once it has
  // returned Ok, the next call begins anew. Errors name the node, the launch and the seed.
  absl::Status Run();

 private:
  void Begin();
  // The nodes that could run next, in the order in which to try them.
  std::vector<size_t> Drawn();
  void Finish(size_t node);

  const std::shared_ptr<const std::vector<EmulatedNode>> nodes_;
  const uint64_t seed_, number_;
  std::mt19937_64 random_;
  std::map<const CUstream_st*, uint64_t> ranks_;  // of streams, drawn
  std::vector<std::vector<size_t>> before_;       // the nodes that wait for each node
  std::vector<size_t> num_awaited_;               // by node
  std::vector<size_t> ready_;
  size_t num_left_ = 0;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_EMULATED_GPU_GRAPHS_H_
