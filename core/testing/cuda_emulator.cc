#include "core/testing/cuda_emulator.h"

#include <signal.h>

#include <optional>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/cuda_grid.h"
#include "glog/logging.h"

namespace strake::testing {

thread_local constinit CudaBuiltins cuda_builtins;

namespace {

constexpr int64_t kMaxBlockThreads = 1024;

thread_local std::optional<std::mt19937_64> random_order;
constinit CudaLauncher the_launcher = nullptr;

void OnMemoryFault(int signal, siginfo_t* info, void*) {
  if (CudaGrid::Running() != nullptr) CudaGrid::Running()->MemoryFault(info->si_addr);
  // The fault is not a kernel's: returns to the faulting instruction, with the default action.
  ::signal(signal, SIG_DFL);
}

// Turns SIGSEGV and SIGBUS within kernels into faults.
class ScopedMemoryFaults {
 public:
  ScopedMemoryFaults() {
    struct sigaction action = {};
    action.sa_sigaction = OnMemoryFault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;  // the handler does not return
    PCHECK(sigaction(SIGSEGV, &action, &segv_) == 0 && sigaction(SIGBUS, &action, &bus_) == 0);
  }
  ~ScopedMemoryFaults() {
    sigaction(SIGSEGV, &segv_, nullptr);
    sigaction(SIGBUS, &bus_, nullptr);
  }

 private:
  struct sigaction segv_, bus_;
};

absl::Status CheckLimits(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                         size_t dynamic_shared_bytes) {
  const int64_t max_x = int64_t{1} << 31, max_yz = 65535;
  if (Count(grid) == 0 || grid.x >= max_x || grid.y > max_yz || grid.z > max_yz ||
      Count(block) == 0 || Count(block) > kMaxBlockThreads || block.z > 64 ||
      dynamic_shared_bytes > kMaxCudaSharedBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kernel ", kernel, ": cannot launch a grid of ", ToString(grid), " blocks of ",
        ToString(block), " threads with ", dynamic_shared_bytes,
        " bytes of dynamic shared memory; the limits are (2^31-1, 65535, 65535) blocks, ",
        kMaxBlockThreads, " threads (64 in z), ", kMaxCudaSharedBytes, " bytes"));
  }
  return absl::OkStatus();
}

}  // namespace

ScopedRandomCudaOrder::ScopedRandomCudaOrder(uint64_t seed) { random_order.emplace(seed); }
ScopedRandomCudaOrder::~ScopedRandomCudaOrder() { random_order.reset(); }

absl::Status RunCudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                         size_t dynamic_shared_bytes, const std::function<void()>& thread) {
  CHECK(CudaGrid::Running() == nullptr) << "a kernel launched " << kernel;
  STRAKE_RETURN_IF_ERROR(CheckLimits(kernel, grid, block, dynamic_shared_bytes));
  const ScopedMemoryFaults memory_faults;
  const std::string fault = CudaGrid(kernel, grid, block, dynamic_shared_bytes, thread,
                                     random_order ? &*random_order : nullptr)
                                .Run();
  return fault.empty() ? absl::OkStatus() : absl::InternalError(fault);
}

void SetCudaLauncher(CudaLauncher launcher) { the_launcher = launcher; }

absl::Status LaunchCudaGrid(CudaStream stream, const std::string& kernel, CudaDim3 grid,
                            CudaDim3 block, size_t dynamic_shared_bytes,
                            std::function<void()> thread) {
  STRAKE_RETURN_IF_ERROR(CheckLimits(kernel, grid, block, dynamic_shared_bytes));
  if (the_launcher == nullptr)
    return RunCudaGrid(kernel, grid, block, dynamic_shared_bytes, thread);
  return the_launcher(stream, {kernel, grid, block, dynamic_shared_bytes},
                      [=, thread = std::move(thread)] {
                        return RunCudaGrid(kernel, grid, block, dynamic_shared_bytes, thread);
                      });
}

void CudaSyncThreads(CudaPlace place) { CudaGrid::Running()->SyncThreads(place); }

uint64_t CudaShuffle(const char* op, uint32_t mask, uint64_t value, int source_lane,
                     CudaPlace place) {
  return CudaGrid::Running()->WarpExchange(op, mask, value, source_lane, place);
}

uint32_t CudaBallot(const char* op, uint32_t mask, bool predicate, CudaPlace place) {
  return CudaGrid::Running()->WarpExchange(op, mask, predicate ? 1 : 0, kCudaBallot, place);
}

CudaSharedMemory& CudaDynamicShared() { return CudaGrid::Running()->dynamic_shared(); }
CudaTime CudaNow() { return CudaGrid::Running()->now(); }
void CudaPreempt() { CudaGrid::Running()->Preempt(); }
void CudaUseStaticShared(size_t bytes, CudaPlace place) {
  CudaGrid::Running()->UseStaticShared(bytes, place);
}
void CudaFault(const std::string& message) { throw ThreadFault{message}; }

}  // namespace strake::testing
