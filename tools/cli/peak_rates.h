// The limits that a run's speed is compared with.
#ifndef STRAKE_TOOLS_CLI_PEAK_RATES_H_
#define STRAKE_TOOLS_CLI_PEAK_RATES_H_

#include <cstdint>

#include "tools/cli/layout.h"
#include "tools/cli/machine.h"

namespace strake {

// Floating-point operations per second that all ranks can do in the machine's dtype; 0 where that
// is not known. A GPU has its nominal rate in bf16. A rank on a CPU has what this one's threads do
// now (core/device/fma_peak.h), measured for about 20 ms.
double PeakFlops(const MachineConfig& machine, const LayoutConfig& layout);

// The number of ranks that can compute at once, each with `threads`: fewer than all where ranks are
// threads of this process, and more than its cores.
double RanksAtOnce(const LayoutConfig& layout, int64_t threads, int num_cores);

// Bytes per second that all ranks can move to and from memory; 0 where that is not known. On GPUs,
// their nominal rate. On CPUs, what as many threads as this machine's ranks have, but no more than
// cores, move now (core/device/memory_stream.h), measured for about 50 ms, times the number of
// machines.
double PeakMemoryRate(const MachineConfig& machine, const LayoutConfig& layout);

}  // namespace strake

#endif  // STRAKE_TOOLS_CLI_PEAK_RATES_H_
