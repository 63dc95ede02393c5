// SignalBlock: no signal handler runs on the calling thread meanwhile.
//
// oneDNN's f32 products use the stack pointer for other values. A handler that interrupts them
// writes its frame wherever that points: into matrices or the heap.
#ifndef STRAKE_CORE_BASE_SIGNAL_BLOCK_H_
#define STRAKE_CORE_BASE_SIGNAL_BLOCK_H_

#include <signal.h>

namespace strake {

// Signals to the process go to another thread, or wait. Those that report a fault of the thread
// itself, such as SIGSEGV, stay. Threads that are created meanwhile block signals all their life.
class SignalBlock {
 public:
  SignalBlock() {
    sigset_t all;
    sigfillset(&all);
    for (const int fault : {SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP, SIGABRT}) {
      sigdelset(&all, fault);
    }
    pthread_sigmask(SIG_BLOCK, &all, &previous_);
  }
  ~SignalBlock() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace strake

#endif  // STRAKE_CORE_BASE_SIGNAL_BLOCK_H_
