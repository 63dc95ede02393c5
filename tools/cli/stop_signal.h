// Turns signals into a request to stop, which a run reads between steps.
#ifndef STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
#define STRAKE_TOOLS_CLI_STOP_SIGNAL_H_

namespace strake {

// From now on the first SIGINT or SIGTERM only sets StopRequested(); a second one ends the process
// at once, with exit code 128 + its number. SIGUSR1, SIGUSR2, SIGXCPU (a limit of CPU time, which
// the system repeats) and SIGHUP (unless nohup has the program ignore it) only set it. mpirun
// passes SIGUSR1 on to its processes, and does not end them afterwards. SIGPIPE is ignored: a run
// goes on when nobody reads what it prints.
void InstallStopSignal();

// The number of the signal that requested the stop; 0 without one.
int StopRequested();

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_STOP_SIGNAL_H_
