#include "core/cuda/cuda_messages.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace strake {
namespace {

std::string Version(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

std::string Memory(size_t bytes) {
  return absl::StrFormat("%.2f GiB (%d bytes)", static_cast<double>(bytes) / (1 << 30), bytes);
}

}  // namespace

absl::Status CudaDriverTooOld(int driver, int runtime) {
  if (driver == 0) {
    return absl::FailedPreconditionError(
        "no CUDA driver: the library libcuda.so.1 of NVIDIA's driver is not installed on this "
        "machine, or not visible here; install the driver (in a container: run it with GPUs)");
  }
  return absl::FailedPreconditionError(
      absl::StrCat("the CUDA driver is too old: it serves CUDA up to ", Version(driver),
                   " and this binary needs ", Version(runtime),
                   "; update NVIDIA's driver, or build with an older toolkit (CUDA_HOME)"));
}

absl::Status NoCudaDevice(const char* visible_devices) {
  return absl::FailedPreconditionError(absl::StrCat(
      "there is a CUDA driver, but no GPU that it lets this process use",
      visible_devices == nullptr ? "" : absl::StrCat(": CUDA_VISIBLE_DEVICES=", visible_devices)));
}

absl::Status NoSuchCudaDevice(int device, int num_devices) {
  return absl::InvalidArgumentError(
      absl::StrCat("GPU ", device, " does not exist: there are ", num_devices, ", counted from 0"));
}

absl::Status CudaArchitectureNotBuilt(int device, absl::string_view name, int major, int minor,
                                      absl::string_view built) {
  const std::string architecture = absl::StrCat("sm_", major, minor);
  return absl::FailedPreconditionError(
      absl::StrCat("GPU ", device, " (", name, ") is of architecture ", architecture,
                   ", and this binary was built for ", built,
                   "; build with --config=cuda --@strake_cuda//:architectures=", architecture));
}

absl::Status NotEnoughCudaMemory(int device, size_t wanted_bytes, size_t free_bytes,
                                 size_t total_bytes) {
  return absl::ResourceExhaustedError(
      absl::StrCat("not enough memory on GPU ", device, ": ", Memory(wanted_bytes), " wanted, ",
                   Memory(free_bytes), " free of ", Memory(total_bytes)));
}

absl::Status CudaCallFailed(absl::string_view call, absl::string_view error_name,
                            absl::string_view error_text, absl::string_view file, int line) {
  return absl::InternalError(
      absl::StrCat(call, ": ", error_text, " (", error_name, ") at ", file, ":", line));
}

}  // namespace strake
