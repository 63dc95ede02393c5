// What tests tell the stand-in for cuDNN: which GPU it enqueues on, and what it refuses.
#ifndef STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_OPTIONS_H_
#define STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_OPTIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "core/cuda/stream.h"

namespace strake::testing {

// Work on a stream; returns what is wrong, or nothing.
using CudnnWork = std::function<std::string()>;

struct CudnnOptions {
  size_t version = 91900;
  bool no_gpu = false;                   // cudnnCreate() fails
  bool no_engine = false;                // the heuristic has no engine for any graph
  bool not_deterministic = false;        // every engine has the note NONDETERMINISTIC
  int64_t more_workspace = 0;            // bytes that every plan needs beyond those of cuDNN 9.19
  bool does_not_compile = false;         // no plan can be finalized
  bool does_not_execute = false;         // cudnnBackendExecute() fails
  std::string fault_on_the_device = {};  // of the work that is enqueued, unless it is empty
  // Enqueues work; returns what is wrong. The stand-in computes nothing without it.
  std::function<std::string(CudaStream, CudnnWork)> enqueue = {};
  // Loads a plan's kernels, which ends the capture of a graph; returns what is wrong.
  std::function<std::string()> load = {};
};

// The one function that the library has besides cuDNN's.
inline constexpr char kSetCudnnOptions[] = "StrakeSetCudnnOptions";
using SetCudnnOptionsFunction = void(const CudnnOptions&);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDNN_CONTRACT_CUDNN_OPTIONS_H_
