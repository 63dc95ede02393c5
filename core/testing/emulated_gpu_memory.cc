#include "core/testing/emulated_gpu_memory.h"

#include <signal.h>
#include <unistd.h>

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace strake::testing {
namespace {

constexpr size_t kAlignment = 256;  // of cudaMalloc
constexpr char kDeviceMemory[] = "memory of GPU ";

struct sigaction previous_segv;

// Runs on the stack of the access, which holds no lock that this handler takes.
void OnHostFault(int signal, siginfo_t* info, void*) {
  const std::string what = DescribeAddress(info->si_addr);
  if (absl::StrContains(what, kDeviceMemory)) {
    const std::string message = absl::StrCat("device memory read or written by the host: ", what,
                                             ", at ", absl::Hex(info->si_addr), "\n");
    (void)!write(STDERR_FILENO, message.data(), message.size());
  }
  // Returns to the access, which now ends the program.
  sigaction(signal, &previous_segv, nullptr);
}

void ExplainHostFaults() {
  [[maybe_unused]] static const bool installed = [] {
    struct sigaction action = {};
    action.sa_sigaction = OnHostFault;
    action.sa_flags = SA_SIGINFO;
    PCHECK(sigaction(SIGSEGV, &action, &previous_segv) == 0);
    return true;
  }();
}

}  // namespace

void* EmulatedGpuMemory::Allocate(int device, size_t num_bytes, bool backed) {
  if (num_bytes == 0) return nullptr;
  const std::string name =
      device == kPinned ? "pinned memory" : absl::StrCat(kDeviceMemory, device);
  auto memory = std::make_unique<GuardedMemory>(name, num_bytes, GuardAt::kEnd, kAlignment, backed);
  if (device != kPinned) memory->SetAccess(false);
  void* const data = memory->data();
  allocations_[data] = {std::move(memory), num_bytes, device};
  return data;
}

void* EmulatedGpuMemory::AllocateOnDevice(int device, size_t num_bytes, bool backed) {
  ExplainHostFaults();
  return Allocate(device, num_bytes, backed);
}

void* EmulatedGpuMemory::AllocatePinned(size_t num_bytes) {
  return Allocate(kPinned, num_bytes, /*backed=*/true);
}

void EmulatedGpuMemory::Free(void* data) {
  const auto found = allocations_.find(data);
  CHECK(found != allocations_.end()) << "freed, and not allocated: " << data;
  found->second.memory->SetAccess(true);
  allocations_.erase(found);
}

size_t EmulatedGpuMemory::used_bytes(int device) const {
  size_t used = 0;
  for (const auto& [data, allocation] : allocations_) {
    if (allocation.device == device) used += allocation.num_bytes;
  }
  return used;
}

const EmulatedGpuMemory::Allocation* EmulatedGpuMemory::Find(const void* data,
                                                             size_t num_bytes) const {
  auto after = allocations_.upper_bound(data);
  if (after == allocations_.begin()) return nullptr;
  const auto& [begin, allocation] = *--after;
  const size_t offset = static_cast<const char*>(data) - static_cast<const char*>(begin);
  return offset + num_bytes <= allocation.num_bytes ? &allocation : nullptr;
}

std::optional<int> EmulatedGpuMemory::DeviceOf(const void* data, size_t num_bytes) const {
  const Allocation* const found = Find(data, num_bytes);
  if (found == nullptr || found->device == kPinned) return std::nullopt;
  return found->device;
}

bool EmulatedGpuMemory::IsOnDevice(const void* data, size_t num_bytes) const {
  return DeviceOf(data, num_bytes).has_value();
}

bool EmulatedGpuMemory::IsPinned(const void* data, size_t num_bytes) const {
  const Allocation* const found = Find(data, num_bytes);
  return found != nullptr && found->device == kPinned;
}

void EmulatedGpuMemory::SetAccess(bool allowed) const {
  for (const auto& [data, allocation] : allocations_) {
    if (allocation.device != kPinned) allocation.memory->SetAccess(allowed);
  }
}

}  // namespace strake::testing
