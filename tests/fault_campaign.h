// RunFaultCampaign: makes each system call of a run fail, one after the other, and looks at what is
// left.
#ifndef STRAKE_TESTS_FAULT_CAMPAIGN_H_
#define STRAKE_TESTS_FAULT_CAMPAIGN_H_

#include <cstdint>

#include "tests/campaign.h"

namespace strake::testing {

// A fault is a system call of a run on its directory (of a new run, and of one that resumes) that
// fails with an error, once or from then on. Afterwards
//
//   the run has ended with 0, or with 1 and one line that begins with "error: ";
//   each checkpoint has the bytes of the undisturbed run's;
//   the same command, undisturbed, ends with 0, with the undisturbed run's last checkpoint,
//   metrics.jsonl and events, and leaves nothing over.
//
// A save that was tried again is one of a later step, so that other steps may be saved. The
// campaign's size is the number of faults, drawn from all; 0 is all.
//
// Returns the number of faults after which that was not so.
int64_t RunFaultCampaign(const Campaign& campaign);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_FAULT_CAMPAIGN_H_
