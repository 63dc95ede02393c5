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

void OnStopRequest(int number) {
  if (stop_signal == 0) stop_signal = number;
}

void Handle(int number, void (*handler)(int)) {
  struct sigaction action = {};
  action.sa_handler = handler;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  sigaction(number, &action, nullptr);
}

// nohup ignores SIGHUP on behalf of the programs that it starts.
bool IsIgnored(int number) {
  struct sigaction action = {};
  return sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace

void InstallStopSignal() {
  Handle(SIGINT, OnStopSignal);
  Handle(SIGTERM, OnStopSignal);
  for (const int number : {SIGUSR1, SIGUSR2, SIGXCPU}) Handle(number, OnStopRequest);
  if (!IsIgnored(SIGHUP)) Handle(SIGHUP, OnStopRequest);
  Handle(SIGPIPE, SIG_IGN);
}

int StopRequested() { return stop_signal; }

}  // namespace strake
