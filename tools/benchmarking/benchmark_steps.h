// The training steps that //tools:benchmark times.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_STEPS_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_STEPS_H_

#include <cstdint>
#include <memory>
#include <semaphore>
#include <thread>

#include "absl/status/statusor.h"
#include "core/tensor/tensor_buffer.h"
#include "models/model_config.h"
#include "parallel/mesh/mesh.h"
#include "tools/benchmarking/benchmark_config.h"
#include "train/engine/engine.h"

namespace strake {

// One rank's steps, on random tokens.
class BenchmarkSteps {
 public:
  // Both must outlive the steps.
  static absl::StatusOr<std::unique_ptr<BenchmarkSteps>> Create(const BenchmarkConfig& config,
                                                                const ModelConfig& model,
                                                                const Mesh& mesh);

  Engine& engine() { return *engine_; }

  // Runs a step and returns its seconds, from when all ranks have arrived to when all are done.
  absl::StatusOr<double> Run(int64_t step);

 private:
  BenchmarkSteps(const BenchmarkConfig& config, const Mesh& mesh);

  const BenchmarkConfig& config_;
  const Mesh& mesh_;
  const TensorBuffer tokens_, targets_;
  std::unique_ptr<Engine> engine_;
};

// One rank with the threads and the batch of a whole layout, on its own thread: OpenMP's threads
// belong to the thread that starts them.
class BenchmarkOnOneRank {
 public:
  BenchmarkOnOneRank(BenchmarkConfig config, const ModelConfig& model);
  ~BenchmarkOnOneRank();

  // Runs a step; the caller's thread sleeps meanwhile.
  absl::StatusOr<double> Run(int64_t step);

 private:
  void Loop(const ModelConfig& model);

  BenchmarkConfig config_;
  std::binary_semaphore start_{0}, done_{0};
  bool stop_ = false;
  int64_t step_ = 0;
  absl::StatusOr<double> seconds_ = 0.0;
  std::thread thread_;
};

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_STEPS_H_
