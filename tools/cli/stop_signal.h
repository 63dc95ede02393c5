// Signals and a closed pipe as a request to stop, which a run reads between steps.
#ifndef STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
#define STRAKE_TOOLS_CLI_STOP_SIGNAL_H_

namespace strake {

// From now on the first SIGINT or SIGTERM only sets StopRequested(); a second one ends the process
// at once, with exit code 128 + its number. SIGUSR1 (which mpirun passes on to its processes, and
// ends none of them after) and SIGPIPE (nobody reads stdout any more) only set it.
void InstallStopSignal();

// The number of the signal that asked the process to stop; 0 while none has.
int StopRequested();

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
