// The kernels that a training step launches on a GPU, from the host code itself: an emulated GPU
// on which nothing runs counts its launches.
#ifndef STRAKE_TOOLS_KERNELS_STEP_LAUNCHES_H_
#define STRAKE_TOOLS_KERNELS_STEP_LAUNCHES_H_

#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/device/op_call.h"

namespace strake {

struct Step {
  std::string name = {};   // "gpt2-124m"
  std::string model = {};  // a preset, or the path of a config.json below the repository's root
  int64_t micro_batch = 0, seq_len = 0;
};

// The steps of docs/performance.md, on one H200 in bf16.
const std::vector<Step>& H200Steps();

struct Launch {
  std::string kernel = {};  // as in CompiledKernels
  int64_t blocks = 0, threads = 0, dynamic_shared_bytes = 0;
  auto operator<=>(const Launch&) const = default;
};
struct LaunchTotals {
  int64_t times = 0;
  // The part of the step that the ops take which launch it, by themselves or with other kernels:
  // an upper bound of the kernel's own.
  double share = 0;
};

struct StepLaunches {
  Step step = {};
  std::map<Launch, LaunchTotals> launches = {};
  std::vector<OpCall> calls = {};  // which launch them
};

// Where cuDNN runs attention, the step does not launch our own kernels, which are among these.
absl::StatusOr<StepLaunches> RecordStepLaunches(const Step& step);

}  // namespace strake

#endif  // STRAKE_TOOLS_KERNELS_STEP_LAUNCHES_H_
