// Helpers for tests of whole programs: a model that trains in milliseconds, and access to files.
#ifndef STRAKE_TESTS_TINY_RUN_H_
#define STRAKE_TESTS_TINY_RUN_H_

#include <map>
#include <string>
#include <vector>

#include "core/testing/temp_directory.h"
#include "nlohmann/json_fwd.hpp"
#include "tests/run_program.h"

namespace strake::testing {

using Flags = std::vector<std::string>;

Flags operator+(Flags a, const Flags& b);

// A config.json of about 10 thousand parameters over bytes, 32 positions; "gpt2" or "llama".
std::string TinyConfig(const std::string& family = "llama", int num_layers = 1);

// A folder with llama.json, gpt2.json, the same of two layers as llama_of_two.json and
// gpt2_of_two.json, and text.txt, in which the user trains into "run".
class TinyRun {
 public:
  TinyRun();

  const std::string& path() const { return directory_.path(); }
  std::string operator/(const std::string& name) const { return directory_ / name; }

  // --model=llama.json --train_data=text.txt, 8 steps of 4 x 8 tokens on one thread, into "run",
  // with --comm_check.
  static Flags BaseFlags();
  // Runs a training. Of two equal flags the last one counts, so `flags` override the base.
  ProgramResult Train(const Flags& flags = {}) const;
  ProgramResult Run(const std::string& program, const Flags& flags) const;
  ProgramOptions Here() const { return {.directory = path()}; }

 private:
  TempDirectory directory_;
};

// Relative path -> contents, of all files below a folder except .lock, which holds a process id. A
// folder itself is "" (empty contents) under its path with a trailing slash.
std::map<std::string, std::string> ReadTree(const std::string& directory);

std::vector<nlohmann::json> ReadMetrics(const std::string& run_directory);
// The same without "time", and without "seconds" and what follows from them, which differ between
// runs.
std::vector<nlohmann::json> TimelessMetrics(const std::string& run_directory);

// "STEP TAG VALUE" of what a run with --tensorboard has for TensorBoard, without times and what
// follows from them.
std::vector<std::string> TimelessEvents(const std::string& run_directory);

// The "loss" of each step, from 1.
std::vector<double> Losses(const std::string& run_directory);

}  // namespace strake::testing

#endif  // STRAKE_TESTS_TINY_RUN_H_
