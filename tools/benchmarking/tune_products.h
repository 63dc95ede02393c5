// `benchmark --tune`: which of cuBLASLt's algorithms is the fastest for each product of a step.
#ifndef STRAKE_TOOLS_BENCHMARKING_TUNE_PRODUCTS_H_
#define STRAKE_TOOLS_BENCHMARKING_TUNE_PRODUCTS_H_

#include <limits>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/work_state.h"
#include "core/device/cuda_context.h"
#include "core/device/op_call.h"
#include "tools/cli/progress.h"

namespace strake {

struct TunedProduct {
  std::string product;          // ToString()
  std::vector<double> seconds;  // by algorithm; never empty
  // Seconds of the product without its GELU or sums, by the fastest algorithm, and of the kernel
  // that then follows; infinite where there is neither.
  double unfused_seconds = std::numeric_limits<double>::infinity();
};

// Times every algorithm of every product among a step's calls (train/engine/step_record.h), each
// product once, on random numbers; and of each product that a GELU or sums could be split from, or
// a bias that the library refuses. Leaves out products that the library does not support.
// ResourceExhausted where there is no memory for the largest.
// Tells how many calls of products are done.
absl::StatusOr<std::vector<TunedProduct>> TuneProducts(const CudaContext& cuda,
                                                       const std::vector<OpCall>& calls,
                                                       const OnWork& on_work = nullptr);

// The fastest algorithm, or ProductTuning::kUnfused, if it is at least 2 % faster than the first;
// else the first, since a table should not record noise.
int ChooseAlgorithm(const TunedProduct& product);

// A product's line for people: the algorithm that was chosen, its time and the first one's.
std::string TuningLine(const TunedProduct& product, int chosen);

// Tunes the products on a GPU, prints a line for each, none wider than screen->line_columns(), and
// writes the table
// (tools/gpu_tuning/product_tunings.h). Entries of other products stay, if the file has them and is
// for the same GPU and library.
absl::Status TuneToFile(int device, const std::vector<OpCall>& calls, const std::string& path,
                        Progress* screen);

}  // namespace strake

#endif  // STRAKE_TOOLS_BENCHMARKING_TUNE_PRODUCTS_H_
