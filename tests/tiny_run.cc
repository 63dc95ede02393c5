#include "tests/tiny_run.h"

#include <cmath>
#include <filesystem>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"
#include "train/tensorboard/tensorboard_event.h"
#include "train/tensorboard/tensorboard_log.h"

namespace strake::testing {

Flags operator+(Flags a, const Flags& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

std::string TinyConfig(const std::string& family, int num_layers) {
  if (family == "gpt2") {
    return absl::StrCat(R"({"model_type": "gpt2", "vocab_size": 256, "n_positions": 32,
               "n_embd": 16, "n_layer": )",
                        num_layers, R"(, "n_head": 2, "attn_pdrop": 0, "embd_pdrop": 0,
               "resid_pdrop": 0})");
  }
  return absl::StrCat(R"({"model_type": "llama", "vocab_size": 256, "max_position_embeddings": 32,
             "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": )",
                      num_layers, R"(,
             "num_attention_heads": 2})");
}

TinyRun::TinyRun() {
  for (const char* family : {"gpt2", "llama"}) {
    WriteFile(directory_ / (family + std::string(".json")), TinyConfig(family));
    WriteFile(directory_ / (family + std::string("_of_two.json")), TinyConfig(family, 2));
  }
  std::string text;
  for (int i = 0; i < 100; ++i) {
    text += "line " + std::to_string(i * i) + ": the planks of a hull follow one curve\n";
  }
  WriteFile(directory_ / "text.txt", text);
}

Flags TinyRun::BaseFlags() {
  return {"--model=./llama.json", "--train_data=text.txt", "--out=run",
          "--seq_len=8",          "--micro_batch=4",       "--steps=8",
          "--threads=1",          "--warmup_steps=2",      "--eval_every=0",
          "--sample_every=0",     "--save_every=0",        "--lr=0.003",
          "--comm_check"};
}

ProgramResult TinyRun::Train(const Flags& flags) const {
  return Run("tools/train", BaseFlags() + flags);
}

ProgramResult TinyRun::Run(const std::string& program, const Flags& flags) const {
  return RunProgram(program, flags, Here());
}

std::map<std::string, std::string> ReadTree(const std::string& directory) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> files;
  if (!fs::exists(directory)) return files;
  files["/"] = "";
  for (const auto& entry : fs::recursive_directory_iterator(directory)) {
    const std::string name = fs::relative(entry.path(), directory).string();
    if (entry.is_directory()) files[name + "/"] = "";
    if (entry.is_regular_file() && entry.path().filename() != ".lock") {
      files[name] = ReadFile(entry.path().string());
    }
  }
  return files;
}

std::vector<nlohmann::json> ReadMetrics(const std::string& run_directory) {
  std::vector<nlohmann::json> objects;
  std::istringstream lines(ReadFile(run_directory + "/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    objects.push_back(nlohmann::json::parse(line));
  }
  return objects;
}

std::vector<nlohmann::json> TimelessMetrics(const std::string& run_directory) {
  std::vector<nlohmann::json> objects = ReadMetrics(run_directory);
  for (nlohmann::json& object : objects) {
    for (const char* key : {"seconds", "tokens_per_second", "time", "mfu"}) object.erase(key);
  }
  return objects;
}

std::vector<std::string> TimelessEvents(const std::string& run_directory) {
  const auto events = ReadTensorBoardEvents(
      absl::StrCat(run_directory, "/tensorboard/", TensorBoardLog::kFileName));
  CHECK(events.ok()) << events.status();
  std::vector<std::string> lines;
  for (const TensorBoardEvent& event : *events) {
    if (!event.file_version.empty()) lines.push_back(event.file_version);
    for (const TensorBoardValue& value : event.values) {
      if (value.tag == "train/seconds" || value.tag == "train/tokens_per_second" ||
          value.tag == "train/mfu") {
        continue;
      }
      lines.push_back(absl::StrCat(event.step, " ", value.tag, " ",
                                   value.text.value_or(absl::StrCat(value.scalar.value_or(NAN)))));
    }
  }
  return lines;
}

std::vector<double> Losses(const std::string& run_directory) {
  std::vector<double> losses;
  for (const nlohmann::json& object : ReadMetrics(run_directory)) {
    if (object.contains("loss")) losses.push_back(object.at("loss"));
  }
  return losses;
}

}  // namespace strake::testing
