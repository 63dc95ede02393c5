// Measures the time of a step: per op kind and pass, or slice by slice.
#ifndef STRAKE_CORE_BASE_OP_PROFILE_H_
#define STRAKE_CORE_BASE_OP_PROFILE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace strake {

enum class Pass : uint8_t { kForward, kBackward, kOptimizer };

// "forward", "backward", "optimizer".
const char* PassName(Pass pass);

// The work of an op: the operations it computes, and the bytes it must at least move through
// memory.
struct OpCost {
  double flops = 0;  // of matrix products and attention; 0 for memory-bound ops
  double bytes = 0;  // each input read once, each output written once; for += outputs, both
};

// Says what runs from an OpProfile::Begin() to its End(). Strings outlive the profile.
struct SpanLabel {
  const char* category;  // "layer", "pass", "collective", "wait", "io", ...
  const char* name;
  int64_t index = -1;  // of a layer, or of a collective in its group; -1: none
  // A collective's group, the ranks in it, the tensor's bytes, and where it was called.
  const char* axis = nullptr;
  int num_ranks = 1;
  double bytes = 0;
  const char* file = nullptr;
  int line = 0;
};

// Sums the times that a rank's ops take, by the host's clock. Ops report through OpTimer. An op
// that waits for collectives encloses the waits, and the ops of theirs that it runs; apart from
// this, ops do not nest.
class OpProfile {
 public:
  struct Entry {
    double seconds = 0;
    int64_t calls = 0;
    OpCost cost;
  };

  // Keyed by op kind ("matmul") and pass.
  using Entries = std::map<std::pair<std::string, Pass>, Entry>;

  OpProfile() = default;
  virtual ~OpProfile() = default;
  OpProfile(const OpProfile&) = delete;
  OpProfile& operator=(const OpProfile&) = delete;

  // A point in time, in a unit of the class's choice.
  virtual int64_t Now();
  // Adds an op that ran from `start`, a value of Now(), until now.
  virtual void AddSince(int64_t start, const char* op, Pass pass, const OpCost& cost);

  // Begins and ends a span, through ProfileSpan. Spans and ops nest. This class ignores spans.
  virtual void Begin(const SpanLabel& /*label*/) {}
  virtual void End() {}

  const Entries& entries() const { return entries_; }

 protected:
  void Add(const char* op, Pass pass, double seconds, const OpCost& cost);

 private:
  Entries entries_;
};

// Times one op until the end of its scope; does nothing if `profile` is null.
class OpTimer {
 public:
  OpTimer(OpProfile* profile, const char* op, Pass pass, const OpCost& cost = {})
      : profile_(profile),
        op_(op),
        pass_(pass),
        cost_(cost),
        start_(profile != nullptr ? profile->Now() : 0) {}
  ~OpTimer() {
    if (profile_ != nullptr) profile_->AddSince(start_, op_, pass_, cost_);
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpProfile* const profile_;
  const char* const op_;
  const Pass pass_;
  const OpCost cost_;
  const int64_t start_;
};

// Reports a span until the end of its scope; does nothing if `profile` is null.
class ProfileSpan {
 public:
  ProfileSpan(OpProfile* profile, const SpanLabel& label) : profile_(profile) {
    if (profile_ != nullptr) profile_->Begin(label);
  }
  ~ProfileSpan() {
    if (profile_ != nullptr) profile_->End();
  }
  ProfileSpan(const ProfileSpan&) = delete;
  ProfileSpan& operator=(const ProfileSpan&) = delete;

 private:
  OpProfile* const profile_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_OP_PROFILE_H_
