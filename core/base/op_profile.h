// Where the time of a step goes, per op kind and pass.
#ifndef STRAKE_CORE_BASE_OP_PROFILE_H_
#define STRAKE_CORE_BASE_OP_PROFILE_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace strake {

enum class Pass : uint8_t { kForward, kBackward, kOptimizer };

// "forward", "backward", "optimizer".
const char* PassName(Pass pass);

// Sums of what the ops of a rank took. Ops report through OpTimer.
class OpProfile {
 public:
  struct Entry {
    double seconds = 0;
    int64_t calls = 0;
    double flops = 0;  // matrix products and attention; 0 where memory rules
  };

  void Add(const char* op, Pass pass, double seconds, double flops) {
    Entry& entry = entries_[{op, pass}];
    entry.seconds += seconds;
    ++entry.calls;
    entry.flops += flops;
  }
  void Clear() { entries_.clear(); }

  // Keyed by op kind ("matmul") and pass.
  const std::map<std::pair<std::string, Pass>, Entry>& entries() const { return entries_; }

 private:
  std::map<std::pair<std::string, Pass>, Entry> entries_;
};

// Times one op until the end of its scope; does nothing where `profile` is null.
class OpTimer {
 public:
  OpTimer(OpProfile* profile, const char* op, Pass pass, double flops = 0)
      : profile_(profile), op_(op), pass_(pass), flops_(flops) {
    if (profile_ != nullptr) start_ = std::chrono::steady_clock::now();
  }
  ~OpTimer() {
    if (profile_ == nullptr) return;
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start_;
    profile_->Add(op_, pass_, elapsed.count(), flops_);
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpProfile* const profile_;
  const char* const op_;
  const Pass pass_;
  const double flops_;
  std::chrono::steady_clock::time_point start_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_OP_PROFILE_H_
