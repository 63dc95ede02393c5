#include "parallel/comm/nccl/nccl_memory.h"

#include <algorithm>

namespace strake {

size_t NcclBufferBytes(int size) {
  // Of 8 steps each: 8 lines of 16 bytes for 512 threads; 120 words of 8 bytes for 640 threads.
  constexpr size_t kLl = 8 * 8 * 16 * 512, kLl128 = 8 * 120 * 8 * 640, kSimple = 4 << 20;
  constexpr size_t kChannels = 24;
  const size_t num_peers = std::min(size - 1, 2);
  return kChannels * num_peers * (kLl + kLl128 + kSimple);
}

}  // namespace strake
