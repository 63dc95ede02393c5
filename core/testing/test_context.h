// A context that owns its memory and threads, for tests and benchmarks of ops and layers.
#ifndef STRAKE_CORE_TESTING_TEST_CONTEXT_H_
#define STRAKE_CORE_TESTING_TEST_CONTEXT_H_

#include <cstddef>
#include <memory>
#include <utility>

#include "core/base/thread_team.h"
#include "core/device/context.h"
#include "core/memory/activation_arena.h"
#include "glog/logging.h"

namespace strake::testing {

// Allocations are poisoned with NaN. The arena's pages cost nothing until they are touched.
class TestContext {
 public:
  explicit TestContext(OpSet op_set = OpSet::kAuto, int num_threads = 2,
                       size_t arena_bytes = size_t{1} << 28)
      : team_(num_threads),
        arena_(MakeArena(arena_bytes)),
        context_(&team_, arena_.get(), op_set) {}

  Context& context() { return context_; }
  operator const Context&() const { return context_; }  // NOLINT(google-explicit-constructor)

 private:
  static std::unique_ptr<ActivationArena> MakeArena(size_t bytes) {
    auto arena = ActivationArena::Create(bytes);
    CHECK(arena.ok()) << arena.status();
    arena->set_poison(true);
    return std::make_unique<ActivationArena>(std::move(arena).value());
  }

  ThreadTeam team_;
  std::unique_ptr<ActivationArena> arena_;
  Context context_;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_TEST_CONTEXT_H_
