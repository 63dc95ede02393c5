#include "tools/kernels/occupancy.h"

#include <algorithm>
#include <cmath>

#include "glog/logging.h"

namespace strake {
namespace {

constexpr int64_t kMultiprocessors = 132;
// Of a multiprocessor.
constexpr int64_t kWarps = 64, kBlocks = 32;
constexpr int64_t kParts = 4;  // each with its own registers and warps
constexpr int64_t kPartRegisters = 65536 / kParts;
constexpr int64_t kSharedBytes = 228 << 10;
constexpr int64_t kMaxBlockSharedBytes = 227 << 10;
// Units of allocation: registers per warp, shared memory per block, which the system adds to.
constexpr int64_t kRegisterUnit = 256, kSharedUnit = 128, kReservedSharedBytes = 1024;
constexpr int64_t kWarpThreads = 32;

int64_t DivideUp(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

Occupancy H200Occupancy(const BlockResources& block) {
  CHECK(block.threads > 0 && block.registers >= 0 && block.shared_bytes >= 0);
  const int64_t warps = DivideUp(block.threads, kWarpThreads);
  const int64_t warp_registers =
      DivideUp(std::max<int64_t>(block.registers, 1) * kWarpThreads, kRegisterUnit) * kRegisterUnit;
  const int64_t shared_bytes =
      DivideUp(block.shared_bytes + kReservedSharedBytes, kSharedUnit) * kSharedUnit;
  const struct {
    int64_t blocks;
    const char* limit;
  } limits[] = {
      {kPartRegisters / warp_registers * kParts / warps, "registers"},
      {block.shared_bytes > kMaxBlockSharedBytes ? 0 : kSharedBytes / shared_bytes, "shared"},
      {kWarps / warps, "warps"},
      {kBlocks, "blocks"},
  };
  const auto& least =
      *std::min_element(std::begin(limits), std::end(limits),
                        [](const auto& a, const auto& b) { return a.blocks < b.blocks; });
  return {.blocks = least.blocks,
          .limit = least.limit,
          .warps = static_cast<double>(least.blocks * warps) / kWarps};
}

double Waves::idle() const { return (1 - last) / std::ceil(count); }

Waves H200Waves(int64_t num_blocks, const Occupancy& occupancy) {
  CHECK(num_blocks > 0 && occupancy.blocks > 0);
  const int64_t wave = kMultiprocessors * occupancy.blocks;
  const int64_t rest = num_blocks % wave;
  return {.count = static_cast<double>(num_blocks) / wave,
          .last = static_cast<double>(rest == 0 ? wave : rest) / wave};
}

}  // namespace strake
