#include "tests/kill_campaign.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <random>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "tests/run_program.h"
#include "tests/tiny_run.h"
#include "train/tensorboard/tensorboard_log.h"

namespace strake::testing {
namespace {

constexpr int kSteps = 120;
constexpr int kMaxMicroseconds = 60000;  // that a run lives: some three quarters of its time

// A run, and what its starts and resumes take in turn, which moves no bit.
struct RunKind {
  Flags flags;
  std::vector<Flags> in_turn = {{}};
};

// What a run has left, apart from times.
struct Remains {
  std::map<std::string, std::string> files;
  std::vector<nlohmann::json> metrics;
  std::vector<std::string> events;
};

// Removes the number of stages and their schedule, and the checksums of what has them.
void ForgetStages(std::map<std::string, std::string>* files) {
  for (auto& [name, contents] : *files) {
    if (name.ends_with("run.json")) {
      nlohmann::json record = nlohmann::json::parse(contents);
      for (const char* key : {"pp", "pp_schedule", "pp_layers"}) record["config"].erase(key);
      contents = record.dump();
    } else if (name.ends_with("/manifest.json")) {
      nlohmann::json manifest = nlohmann::json::parse(contents);
      CHECK_EQ(manifest.at("files").erase("run.json"), 1);
      CHECK_EQ(manifest.erase("manifest"), 1);  // its own checksum
      contents = manifest.dump();
    }
  }
}

Remains RemainsOf(const TinyRun& run, const RunKind& kind) {
  Remains remains = {.files = ReadTree(run / "run"),
                     .metrics = TimelessMetrics(run / "run"),
                     .events = TimelessEvents(run / "run")};
  for (const char* name : {"metrics.jsonl", "report.html", "report.jsonl"}) {
    remains.files.erase(name);
  }
  remains.files.erase(absl::StrCat("tensorboard/", TensorBoardLog::kFileName));
  if (kind.in_turn.size() > 1) ForgetStages(&remains.files);
  return remains;
}

std::string Differences(const Remains& actual, const Remains& expected) {
  std::vector<std::string> differences;
  if (actual.metrics != expected.metrics) differences.push_back("another metrics.jsonl");
  if (actual.events != expected.events) differences.push_back("other events");
  for (const auto& [name, contents] : expected.files) {
    const auto it = actual.files.find(name);
    if (it == actual.files.end()) {
      differences.push_back("no " + name);
    } else if (it->second != contents) {
      differences.push_back("another " + name);
    }
  }
  for (const auto& [name, contents] : actual.files) {
    if (expected.files.count(name) == 0) differences.push_back(name + " is left over");
  }
  return absl::StrJoin(differences, "; ");
}

// Adds the kills to `num_kills`. Returns an error of the program, if there was one.
std::string TrainAndKill(const TinyRun& run, const RunKind& kind, int64_t max_kills,
                         std::mt19937_64& random, int64_t* num_kills) {
  for (size_t start = 0;; ++start) {
    const Flags& more = kind.in_turn[start % kind.in_turn.size()];
    Program program("tools/train", kind.flags + more, run.Here());
    if (*num_kills < max_kills) {
      // Often during the start, else in a step, a save or an evaluation.
      if (random() % 4 != 0) program.WaitForOutput("out ");
      usleep(random() % kMaxMicroseconds);
      program.Send(SIGKILL);
    }
    const ProgramResult result = program.Wait();
    if (result.exit_code == 0) return "";
    if (result.exit_code != 128 + SIGKILL) return absl::StrCat(result.exit_code, ": ", result.err);
    ++*num_kills;
  }
}

}  // namespace

int64_t RunKillCampaign(const Campaign& campaign) {
  std::mt19937_64 random(campaign.seed);
  const Flags common = TinyRun::BaseFlags() + Flags{absl::StrCat("--steps=", kSteps),
                                                    "--save_every=4",
                                                    "--keep_last=2",
                                                    "--eval_every=6",
                                                    "--eval_batches=2",
                                                    "--sample_every=30",
                                                    "--log_every=1",
                                                    "--tensorboard"};
  const TinyRun base;
  CHECK_EQ(base.Train().exit_code, 0);
  const Flags sliced = {"--tp=2",   "--dp=2",          "--sequence_parallel",
                        "--zero=1", "--micro_batch=1", "--global_batch=4"};
  const Flags adapters = {"--init_from=" + base / "run", "--lora_rank=2"};
  // Its tied table is on both stages.
  const Flags stages = {"--model=./gpt2_of_two.json",
                        "--pp=2",
                        "--pp_schedule=zero_bubble",
                        "--dp=2",
                        "--zero=1",
                        "--micro_batch=1",
                        "--global_batch=4"};
  const Flags any_stages = {"--model=./llama_of_two.json", "--dp=2", "--zero=1", "--micro_batch=1",
                            "--global_batch=4"};
  const std::vector<RunKind> kinds = {
      {common},
      {common + sliced},
      {common + adapters},
      {common + sliced + adapters},
      {common + stages},
      {common + any_stages, {{"--pp=2"}, {"--pp=1"}, {"--pp=2", "--pp_schedule=zero_bubble"}}}};
  std::vector<Remains> expected;
  for (const RunKind& kind : kinds) {
    const TinyRun whole;
    const ProgramResult result =
        RunProgram("tools/train", kind.flags + kind.in_turn.back(), whole.Here());
    CHECK_EQ(result.exit_code, 0) << result.err;
    expected.push_back(RemainsOf(whole, kind));
  }
  // Each kind has its share, also on a machine so slow that runs hardly get on between kills.
  const auto num_kinds = static_cast<int64_t>(kinds.size());
  const int64_t kills_of_a_run = (campaign.size + num_kinds - 1) / num_kinds;
  int64_t num_kills = 0, num_runs = 0, num_wrong = 0;
  for (; num_kills < campaign.size; ++num_runs) {
    const size_t kind = num_runs % kinds.size();
    const TinyRun run;
    const int64_t most = std::min(campaign.size, num_kills + kills_of_a_run);
    const std::string error = TrainAndKill(run, kinds[kind], most, random, &num_kills);
    const std::string problem = error.empty()
                                    ? Differences(RemainsOf(run, kinds[kind]), expected[kind])
                                    : "ended with " + error;
    if (problem.empty()) continue;
    ++num_wrong;
    campaign.report(absl::StrCat("run ", num_runs, ": ", problem));
  }
  campaign.report(
      absl::StrCat(num_kills, " kills in ", num_runs, " runs, something wrong in ", num_wrong));
  return num_wrong;
}

}  // namespace strake::testing
