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

void OpProfile::AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost) {
  Add(op, pass, 1e-9 * (Now() - start), cost);
}

void OpProfile::Add(const char* op, Pass pass, double seconds, const OpCost& cost) {
  Entry& entry = entries_[{op, pass}];
  entry.seconds += seconds;
  ++entry.calls;
  entry.cost.flops += cost.flops;
  entry.cost.bytes += cost.bytes;
}

}  // namespace strake
