#include "tools/cli/stop_signal.h"

#include <signal.h>
#include <unistd.h>

#include <atomic>

namespace strake {
namespace {

// Written by a handler on any thread, read by the threads of all ranks.
std::atomic<int> stop_signal{0};
static_assert(std::atomic<int>::is_always_lock_free, "a handler takes no lock");

void OnStopSignal(int number) {
  if (stop_signal == SIGINT || stop_signal == SIGTERM) _exit(128 + number);
  stop_signal = number;
}

// SIGPIPE too: Ctrl-C ends `tee` in a pipeline, and printing after that must not end the process.
void OnStopRequest(int number) {
  if (stop_signal == 0) stop_signal = number;
}

}  // namespace

void InstallStopSignal() {
  struct sigaction action = {};
  action.sa_handler = OnStopSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = OnStopRequest;
  sigaction(SIGUSR1, &action, nullptr);
  sigaction(SIGPIPE, &action, nullptr);
}

int StopRequested() { return stop_signal; }

}  // namespace strake
