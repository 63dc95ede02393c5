// A fibre: a stack of its own on the calling thread, entered and left by an explicit switch.
#ifndef STRAKE_CORE_TESTING_FIBER_H_
#define STRAKE_CORE_TESTING_FIBER_H_

#include <cstddef>
#include <memory>

namespace strake::testing {

// Created, switched to and destroyed on one thread. The signal mask is the thread's, not the
// fibre's. Address sanitizer is told of every switch; thread sanitizer is not, and loses track.
class Fiber {
 public:
  // Represents the thread's own stack: the first switch leaves it, and the last returns to it.
  Fiber();
  // Creates a new stack. The first switch to it calls `entry`, which must not return.
  explicit Fiber(void (*entry)());
  // Frees the stack as it is: objects on it are not destroyed.
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Leaves `from`, which must be running, for `to`; returns when something switches to `from`.
  static void Switch(Fiber& from, Fiber& to);

 private:
  struct Context;  // the registers of a fibre that was left

  static void Arrive();
  static void Main();

  std::unique_ptr<Context> context_;
  void (*entry_)() = nullptr;
  void* mapping_ = nullptr;  // guard page, then the stack
  const void* stack_ = nullptr;
  size_t stack_bytes_ = 0;
  void* address_sanitizer_stack_ = nullptr;
};

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_FIBER_H_
