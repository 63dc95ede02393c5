#include "core/base/op_profile.h"

#include <chrono>

namespace strake {

const char* PassName(Pass pass) {
  switch (pass) {
    case Pass::kForward:
      return "forward";
    case Pass::kBackward:
      return "backward";
    case Pass::kOptimizer:
      return "optimizer";
  }
  return "unknown";
}

int64_t OpProfile::Now() {
  return std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void OpProfile::AddSince(int64_t start, const char* op, Pass pass, double flops) {
  Add(op, pass, 1e-9 * (Now() - start), flops);
}

void OpProfile::Add(const char* op, Pass pass, double seconds, double flops) {
  Entry& entry = entries_[{op, pass}];
  entry.seconds += seconds;
  ++entry.calls;
  entry.flops += flops;
}

}  // namespace strake
