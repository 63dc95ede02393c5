// Turns signals and a closed pipe into a request to stop, which a run reads between steps.
#ifndef STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
#define STRAKE_TOOLS_CLI_STOP_SIGNAL_H_

namespace strake {

// From now on the first SIGINT or SIGTERM only sets StopRequested(); a second one ends the process
// at once, with exit code 128 + its number. SIGUSR1 and SIGPIPE (stdout has no reader any more)
// only set it. mpirun passes SIGUSR1 on to its processes, and does not end them afterwards.
void InstallStopSignal();

// The number of the signal that requested the stop; 0 without one.
int StopRequested();

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
