#include "tests/fault_campaign.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <random>
#include <sstream>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "tests/run_program.h"
#include "tests/tiny_run.h"
#include "tools/cli/user_paths.h"

namespace strake::testing {
namespace {

namespace fs = std::filesystem;

constexpr int kErrors[] = {EIO, ENOSPC, EACCES, ESTALE, ENOMEM, EDQUOT};

struct Fault {
  bool resumes = false;  // the run that is disturbed
  int64_t call = 0;
  std::string name;  // of the call, and its path
  int error = 0;
  bool once = false;
};

std::string ToString(const Fault& fault) {
  return absl::StrCat(fault.resumes ? "resumed run" : "new run", ", call ", fault.call, " (",
                      fault.name, ") fails with ", strerrorname_np(fault.error),
                      fault.once ? " once" : " from then on");
}

Flags RunFlags() {
  return TinyRun::BaseFlags() + Flags{"--steps=6",        "--save_every=2",   "--keep_last=2",
                                      "--eval_every=3",   "--eval_batches=2", "--save_retry=1",
                                      "--sample_every=3", "--tensorboard"};
}

class DisturbedRuns {
 public:
  DisturbedRuns() {
    const ProgramResult run = Train(whole_, RunFlags(), {});
    CHECK_EQ(run.exit_code, 0) << run.err;
    // Checkpoints that the run has deleted by its end.
    TinyRun all;
    const ProgramResult kept = Train(all, RunFlags() + Flags{"--keep_last=0"}, {});
    CHECK_EQ(kept.exit_code, 0) << kept.err;
    for (const int step : {2, 4, 6}) {
      checkpoints_[absl::StrCat("step-", step)] = Weights(all / absl::StrCat("run/step-", step));
    }
    log_ = TimelessMetrics(whole_ / "run");
    events_ = TimelessEvents(whole_ / "run");
  }

  // Every call that a run makes, each with every error.
  std::vector<Fault> AllFaults() {
    std::vector<Fault> faults;
    for (const bool resumes : {false, true}) {
      const TinyRun run;
      Prepare(run, resumes);
      const ProgramResult result = Train(run, RunFlags(), {"FAULT_LOG=" + (run / "calls")});
      CHECK_EQ(result.exit_code, 0) << result.err;
      std::istringstream calls(ReadFile(run / "calls"));
      std::string name;
      for (int64_t call = 0; std::getline(calls, name); ++call) {
        const size_t folder = name.find(run.path());
        if (folder != name.npos) name.erase(folder, run.path().size() + 1);
        for (const int error : kErrors) {
          for (const bool once : {true, false}) {
            faults.push_back({resumes, call, name, error, once});
          }
        }
      }
    }
    return faults;
  }

  // What was wrong; empty if nothing was.
  std::string Problem(const Fault& fault) {
    const TinyRun run;
    Prepare(run, fault.resumes);
    const ProgramResult disturbed =
        Train(run, RunFlags(),
              {absl::StrCat("FAULT_CALL=", fault.call), absl::StrCat("FAULT_ERRNO=", fault.error),
               absl::StrCat("FAULT_TIMES=", fault.once ? 1 : 1000000)});
    std::vector<std::string> problems;
    const bool one_line = std::count(disturbed.err.begin(), disturbed.err.end(), '\n') == 1;
    if (disturbed.exit_code == 1 ? !one_line || !absl::StartsWith(disturbed.err, "error: ")
                                 : disturbed.exit_code != 0) {
      problems.push_back(absl::StrCat("ended with ", disturbed.exit_code, ": ", disturbed.err));
    }
    AddDamaged(run, &problems);
    const ProgramResult again = Train(run, RunFlags(), {});
    if (again.exit_code != 0) problems.push_back("does not go on: " + again.err);
    if (again.exit_code == 0 && TimelessMetrics(run / "run") != log_) {
      problems.push_back("another metrics.jsonl");
    }
    if (again.exit_code == 0 && TimelessEvents(run / "run") != events_) {
      problems.push_back("other events");
    }
    if (again.exit_code == 0 && !fs::exists(run / "run/step-6")) problems.push_back("no step-6");
    for (const auto& entry : fs::recursive_directory_iterator(run / "run")) {
      const std::string extension = entry.path().extension();
      if (extension == ".tmp" || extension == ".old") {
        problems.push_back(entry.path().filename().string() + " is left over");
      }
    }
    AddDamaged(run, &problems);
    return absl::StrJoin(problems, "; ");
  }

 private:
  ProgramResult Train(const TinyRun& run, const Flags& flags,
                      const std::vector<std::string>& environment) {
    ProgramOptions options = run.Here();
    if (!environment.empty()) {
      const auto library = RunfilePath("tests/fault_preload.so");
      CHECK(library.ok()) << library.status();
      options.launcher = {"env", "LD_PRELOAD=" + *library, "FAULT_UNDER=" + (run / "run")};
      options.launcher.insert(options.launcher.end(), environment.begin(), environment.end());
    }
    return RunProgram("tools/train", flags, options);
  }

  // A run that resumes was killed after its checkpoint of step 4, before that of step 6.
  void Prepare(const TinyRun& run, bool resumes) {
    if (!resumes) return;
    fs::copy(whole_ / "run", run / "run", fs::copy_options::recursive);
    fs::remove_all(run / "run/step-6");
  }

  static std::map<std::string, std::string> Weights(const std::string& checkpoint) {
    std::map<std::string, std::string> files = ReadTree(checkpoint);
    files.erase("run.json");  // has other options
    files.erase("manifest.json");
    return files;
  }

  void AddDamaged(const TinyRun& run, std::vector<std::string>* problems) {
    for (const auto& [step, weights] : checkpoints_) {
      const std::string path = run / ("run/" + step);
      if (fs::exists(path) && Weights(path) != weights) problems->push_back(step + " is damaged");
    }
  }

  const TinyRun whole_;
  std::map<std::string, std::map<std::string, std::string>> checkpoints_;
  std::vector<nlohmann::json> log_;
  std::vector<std::string> events_;
};

}  // namespace

int64_t RunFaultCampaign(const Campaign& campaign) {
  DisturbedRuns runs;
  std::vector<Fault> faults = runs.AllFaults();
  const size_t num_all = faults.size();
  std::shuffle(faults.begin(), faults.end(), std::mt19937_64(campaign.seed));
  if (campaign.size > 0 && campaign.size < static_cast<int64_t>(num_all)) {
    faults.resize(campaign.size);
  }
  int64_t num_wrong = 0;
  for (const Fault& fault : faults) {
    const std::string problem = runs.Problem(fault);
    if (problem.empty()) continue;
    ++num_wrong;
    campaign.report(absl::StrCat(ToString(fault), ": ", problem));
  }
  campaign.report(
      absl::StrCat(faults.size(), " faults of ", num_all, ", something wrong after ", num_wrong));
  return num_wrong;
}

}  // namespace strake::testing
