// The ops of a training step, each timed alone on a GPU, beside its forecast.
#ifndef STRAKE_TOOLS_BENCHMARKING_BENCHMARK_OPS_H_
#define STRAKE_TOOLS_BENCHMARKING_BENCHMARK_OPS_H_

#include "absl/status/status.h"
#include "models/model_config.h"
#include "tools/benchmarking/benchmark_config.h"
#include "tools/cli/progress.h"

namespace strake {

// Times every different call of the first rank's step, or with config.measure "products" or
// "attention" those alone, on random numbers. Prints a line for each as soon as it is measured, and
// then their sum. With "attention" it returns FailedPrecondition where cuDNN does not compute it.
// No line is wider than screen->line_columns().
absl::Status BenchmarkOps(const BenchmarkConfig& config, const ModelConfig& model,
                          Progress* screen);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_BENCHMARK_OPS_H_
