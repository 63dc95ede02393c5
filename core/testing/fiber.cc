#include "core/testing/fiber.h"

#include <sys/mman.h>
#include <ucontext.h>

#include "absl/base/config.h"
#include "glog/logging.h"

#ifdef ABSL_HAVE_ADDRESS_SANITIZER
#include <sanitizer/asan_interface.h>
#endif

namespace strake::testing {
namespace {

constexpr size_t kGuardBytes = 4096;
constexpr size_t kStackBytes = 128 << 10;  // the sanitizers' frames are large
// Stacks begin at different offsets within their pages. At the same offset they would compete for
// the same few cache lines.
constexpr size_t kStackStagger = 448, kMaxStackStagger = 4096;

thread_local Fiber* left = nullptr;
thread_local Fiber* entered = nullptr;
thread_local size_t num_stacks = 0;

}  // namespace

#ifdef __x86_64__

// Saves the callee-saved registers, and the stack pointer to *from; then restores those of `to`.
// swapcontext takes ten times as long, because it makes a system call for the signal mask.
extern "C" void strake_switch_stack(void** from, void* to);
asm(R"(
  .text
  .globl strake_switch_stack
  .hidden strake_switch_stack
  .type strake_switch_stack, @function
strake_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size strake_switch_stack, . - strake_switch_stack
)");

struct Fiber::Context {
  void* saved = nullptr;

  // Prepares the stack as if Main had been left: six registers, the return address, and Main's own
  // return address.
  void Prepare(char* stack, size_t bytes, void (*main)()) {
    void** const top = reinterpret_cast<void**>(stack + bytes);
    top[-2] = reinterpret_cast<void*>(main);
    saved = top - 8;
  }
  static void Switch(Context& from, Context& to) { strake_switch_stack(&from.saved, to.saved); }
};

#else

struct Fiber::Context {
  ucontext_t saved;

  void Prepare(char* stack, size_t bytes, void (*main)()) {
    PCHECK(getcontext(&saved) == 0);
    saved.uc_stack.ss_sp = stack;
    saved.uc_stack.ss_size = bytes;
    saved.uc_link = nullptr;
    makecontext(&saved, main, 0);
  }
  static void Switch(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }
};

#endif

Fiber::Fiber() : context_(std::make_unique<Context>()) {}

Fiber::Fiber(void (*entry)())
    : context_(std::make_unique<Context>()), entry_(entry), stack_bytes_(kStackBytes) {
  mapping_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  PCHECK(mapping_ != MAP_FAILED) << "a fibre's stack of " << kStackBytes << " bytes";
  PCHECK(mprotect(mapping_, kGuardBytes, PROT_NONE) == 0);
  char* const stack = static_cast<char*>(mapping_) + kGuardBytes;
  stack_ = stack;
  const size_t stagger = num_stacks++ * kStackStagger % kMaxStackStagger;
  context_->Prepare(stack, kStackBytes - stagger, &Fiber::Main);
}

Fiber::~Fiber() {
  if (mapping_ == nullptr) return;
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(stack_, stack_bytes_);
#endif
  munmap(mapping_, kGuardBytes + kStackBytes);
}

void Fiber::Switch(Fiber& from, Fiber& to) {
  left = &from;
  entered = &to;
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  __sanitizer_start_switch_fiber(&from.address_sanitizer_stack_, to.stack_, to.stack_bytes_);
#endif
  Context::Switch(*from.context_, *to.context_);
  Arrive();
}

void Fiber::Arrive() {
#ifdef ABSL_HAVE_ADDRESS_SANITIZER
  // Also reports where the stack of the fibre that was left is, because only this call knows the
  // thread's own stack.
  __sanitizer_finish_switch_fiber(entered->address_sanitizer_stack_, &left->stack_,
                                  &left->stack_bytes_);
#endif
}

void Fiber::Main() {
  Arrive();
  entered->entry_();
  LOG(FATAL) << "a fibre's entry returned";
}

}  // namespace strake::testing
