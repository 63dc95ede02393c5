#include "core/testing/cudnn_contract/cudnn_contract.h"

#include <cstdlib>
#include <utility>

#include "core/base/dynamic_library.h"
#include "core/base/status_macros.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"

namespace strake::testing {
namespace {

constexpr char kPath[] = "core/testing/cudnn_contract/libcudnn.so.9";  // from the tests' folder

std::string Enqueue(CudaStream stream, CudnnWork work) {
  const absl::Status status = EnqueueOnEmulatedGpu(stream, "cuDNN", [work = std::move(work)] {
    const std::string fault = work();
    return fault.empty() ? absl::OkStatus() : absl::InternalError(fault);
  });
  return std::string(status.message());
}

// A graph is captured as strictly with kernels that are loaded as with memory that is allocated.
std::string Load() { return std::string(CudaMemory::Allocate(1).status().message()); }

// Whoever loads a library of its name from now on gets it. A test that needs cuDNN must not skip.
// The frontend must find no shared CUDA runtime, which would take the emulated GPU's streams for
// its own, and which a machine with the driver and cuDNN alone does not have.
[[maybe_unused]] const bool is_loaded =
    SetCudnnOptions({}).ok() && setenv("STRAKE_REQUIRE_CUDNN", "1", 1) == 0 &&
    setenv("CUDNN_FRONTEND_CUDART_LIB_NAME", "no-such-library.so", 1) == 0;

}  // namespace

absl::Status SetCudnnOptions(const CudnnOptions& options) {
  STRAKE_ASSIGN_OR_RETURN(const DynamicLibrary library,
                          DynamicLibrary::Load("the stand-in for cuDNN", {kPath}));
  STRAKE_ASSIGN_OR_RETURN(SetCudnnOptionsFunction* const set,
                          library.Function<SetCudnnOptionsFunction>(kSetCudnnOptions));
  CudnnOptions all = options;
  all.enqueue = Enqueue;
  all.load = Load;
  set(all);
  return absl::OkStatus();
}

}  // namespace strake::testing
