// The output and files of the programs, key by key, and their places.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/time_of_day.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;
using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadMetrics;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

const Flags& TrainOptions() {
  static const auto* names = new Flags{"model",
                                       "init_from",
                                       "lora_rank",
                                       "lora_alpha",
                                       "lora_targets",
                                       "init_adapter",
                                       "train_data",
                                       "val_data",
                                       "tokenizer",
                                       "tokenizer_pattern",
                                       "text_field",
                                       "skip_bad_lines",
                                       "chat_format",
                                       "skip_data",
                                       "documents",
                                       "truncate",
                                       "data_cache",
                                       "data_fingerprint",
                                       "seq_len",
                                       "micro_batch",
                                       "global_batch",
                                       "shuffle",
                                       "steps",
                                       "epochs",
                                       "max_epochs",
                                       "lr",
                                       "min_lr",
                                       "schedule",
                                       "warmup_steps",
                                       "weight_decay",
                                       "beta1",
                                       "beta2",
                                       "eps",
                                       "clip_norm",
                                       "seed",
                                       "device",
                                       "dtype",
                                       "cuda_graph",
                                       "deterministic",
                                       "threads",
                                       "ops",
                                       "out",
                                       "resume",
                                       "exit_zero_on_stop",
                                       "log_every",
                                       "tensorboard",
                                       "eval_every",
                                       "eval_batches",
                                       "eval_tasks",
                                       "sample_every",
                                       "save_every",
                                       "keep_last",
                                       "async_save",
                                       "save_retry",
                                       "tp",
                                       "cp",
                                       "pp",
                                       "dp",
                                       "cp_comm",
                                       "pp_schedule",
                                       "pp_chunks",
                                       "pp_in_flight",
                                       "pp_layers",
                                       "sequence_parallel",
                                       "zero",
                                       "grad_reduce_dtype",
                                       "comm",
                                       "comm_check",
                                       "comm_timeout",
                                       "activation_recompute"};
  return *names;
}

std::vector<std::string> Keys(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

// The 8 steps of TinyRun are fewer than the 20 lines of a run.
TEST(TrainScreenTest, AShortRunHasALineForEachStep) {
  const ProgramResult result = TinyRun().Train({});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (int step = 1; step <= 8; ++step) {
    EXPECT_THAT(result.out, HasSubstr("\nstep " + std::to_string(step) + "/8  loss "));
  }
}

TEST(TrainScreenTest, PipedOutputIsPlainLines) {
  const TinyRun run;
  const ProgramResult result = run.Train({"--log_every=2", "--eval_every=4", "--eval_batches=2",
                                          "--sample_every=8", "--save_every=4"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char c : {'\x1b', '\r', '\b', '\0'}) {
    EXPECT_EQ(result.out.find(c), std::string::npos) << "byte " << int(c);
  }
  EXPECT_EQ(result.out.back(), '\n');
  for (const char* line : {
           // NOLINTNEXTLINE(bugprone-suspicious-missing-comma): one line in two parts
           "model +\\./llama.json \\(Llama\\): .* parameters, 1 layers of 16, 2 heads, "
           "vocabulary 256",
           "\nmemory +.*iB: weights .*, gradients .*, optimizer .*, activations .*; to save beside "
           "the steps, ",
           "\ndata +text.txt: .* tokens to train on, .* to validate on",
           "\nrun +8 steps of 4 x 8 tokens \\(.* epochs\\), 256 tokens in all",
           "\nmachine +CPU, 1 thread on [0-9]+ cores, fp32",
           "\nout +run\n",
           "\nstep 2/8  loss [0-9.]+  lr [0-9.e+-]+  grad norm [0-9.]+  .* tokens/s  .* GFLOP/s  "
           ".* left\n",
           "\nstep 4  validation loss [0-9.]+ \\(8 of [0-9]+ sequences\\)\n",
           "\nstep 8  sample: \\[",
           "\nstep 4  saved run/step-4 \\(fingerprint [0-9a-f]+\\)\n",
           "\nstep 8  saved run/step-8 \\(fingerprint [0-9a-f]+\\)\n",
       }) {
    EXPECT_THAT(result.out, ContainsRegex(line));
  }
  EXPECT_THAT(result.out, Not(ContainsRegex("step [1357]/8")));
}

TEST(TrainScreenTest, AdaptersHaveALine) {
  const TinyRun run;
  const ProgramResult whole = run.Train();
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  EXPECT_THAT(whole.out, Not(HasSubstr("adapters")));
  const ProgramResult tuned = run.Train(
      {"--init_from=run", "--out=lora", "--lora_rank=2", "--lora_targets=q_proj,down_proj"});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.err;
  // 2 (16 + 16) and 2 (32 + 16).
  EXPECT_THAT(tuned.out, HasSubstr("\nadapters   rank 2, alpha 4, on q_proj, down_proj: 160 "
                                   "parameters to train\n"));
}

TEST(TrainScreenTest, ManyRanksPrintOneRun) {
  const Flags flags = {"--log_every=2",    "--eval_every=4",  "--eval_batches=2",
                       "--sample_every=4", "--micro_batch=1", "--global_batch=4"};
  const TinyRun one, many;
  const ProgramResult expected = one.Train(flags);
  const ProgramResult result =
      many.Train(flags + Flags{"--tp=2", "--dp=2", "--sequence_parallel", "--zero=1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  for (const char* line : {
           "\nlayout +tp 2 x dp 2 = 4 ranks \\(threads\\), sequence parallel, ZeRO 1\nmemory ",
           "\nrun +8 steps of 4 x 8 tokens \\(.* epochs\\), 256 tokens in all",
           "\nmachine +CPU, 4 threads on [0-9]+ cores, fp32",
           "\nstep 4  validation loss [0-9.]+ \\(2 of [0-9]+ sequences\\)\n",
       }) {
    EXPECT_THAT(result.out, ContainsRegex(line));
  }
  // Only the layout's line is missing with one rank.
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'),
            std::count(expected.out.begin(), expected.out.end(), '\n') + 1)
      << result.out << expected.out;
  // The metrics are the same, too.
  const auto metrics = ReadMetrics(many / "run"), expected_metrics = ReadMetrics(one / "run");
  ASSERT_EQ(metrics.size(), expected_metrics.size());
  for (size_t i = 0; i < metrics.size(); ++i) {
    EXPECT_EQ(Keys(metrics[i]), Keys(expected_metrics[i]));
    EXPECT_EQ(metrics[i].value("tokens", 0), expected_metrics[i].value("tokens", 0));
    // f32 rounding in another order, which eight small steps hardly amplify.
    for (const char* key : {"loss", "val_loss", "grad_norm"}) {
      EXPECT_NEAR(metrics[i].value(key, 0.0), expected_metrics[i].value(key, 0.0), 1e-3);
    }
  }
  const Json record = Json::parse(ReadFile(many / "run/run.json"));
  EXPECT_EQ(record["config"]["tp"], 2);
  EXPECT_EQ(record["config"]["dp"], 2);
  EXPECT_EQ(record["config"]["sequence_parallel"], true);
  EXPECT_EQ(record["config"]["zero"], 1);
  EXPECT_EQ(record["config"]["comm"], "threads");
}

TEST(TrainScreenTest, NeverMeansNever) {
  const TinyRun run;
  const ProgramResult result = run.Train({"--log_every=0"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  for (const char* word : {"loss", "sample", "validation"}) {
    EXPECT_THAT(result.out.substr(result.out.find("\nout ")), Not(HasSubstr(word)));
  }
}

TEST(TrainScreenTest, NoticesAndWarnings) {
  const TinyRun run;
  nlohmann::json config = nlohmann::json::parse(testing::TinyConfig("gpt2"));
  config["attn_pdrop"] = 0.1;
  WriteFile(run / "dropout.json", config.dump());
  const ProgramResult result = run.Train({"--model=dropout.json", "--val_data=text.txt"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("dropout is not applied (attn_pdrop=0.1)"));
  EXPECT_THAT(result.out, HasSubstr("warning: text.txt is in --train_data and in --val_data"));
}

TEST(TrainHelpTest, NamesEveryFlag) {
  for (const char* program : {"tools/train", "tools/generate", "tools/benchmark"}) {
    const ProgramResult result = testing::RunProgram(program, {"--help"});
    EXPECT_EQ(result.exit_code, 0) << program;
    EXPECT_EQ(result.err, "") << program;
    EXPECT_THAT(result.out, HasSubstr("Usage: "));
    for (const char* name : {"tp", "cp", "pp", "dp", "sequence_parallel", "zero", "comm",
                             "comm_check", "comm_timeout"}) {
      EXPECT_THAT(result.out, HasSubstr(std::string("\n  --") + name + "=")) << program;
    }
  }
  const std::string help = testing::RunProgram("tools/train", {"--help"}).out;
  for (const std::string& name : TrainOptions() + Flags{"config", "print_config"}) {
    EXPECT_THAT(help, HasSubstr("\n  --" + name + "="));
  }
}

Json PrintedConfig(const TinyRun& run, const Flags& flags) {
  const ProgramResult result = run.Run("tools/train", flags + Flags{"--print_config"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  return Json::parse(result.out);
}

TEST(TrainConfigTest, PrintedConfigurationIsReadBack) {
  const TinyRun run;
  const Json config =
      PrintedConfig(run, {"--model=gpt2-mini", "--lr=0.1", "--seed=3", "--shuffle=false", "--out=x",
                          "--threads=3", "--tp=2", "--dp=3", "--sequence_parallel", "--zero=2",
                          "--comm_check", "--comm_timeout=2.5"});
  EXPECT_THAT(Keys(config), ::testing::UnorderedElementsAreArray(TrainOptions()));
  WriteFile(run / "config.json", config.dump());
  EXPECT_EQ(PrintedConfig(run, {"--config=config.json"}), config);
  EXPECT_FALSE(std::filesystem::exists(run / "x"));
}

TEST(TrainConfigTest, DefaultsThenFileThenFlags) {
  const TinyRun run;
  WriteFile(run / "config.json", R"({"model": "gpt2-tiny", "lr": 0.5, "micro_batch": 3})");
  for (const Flags& flags : std::vector<Flags>{{"--config=config.json", "--lr=0.25"},
                                               {"--lr=0.25", "--config", "config.json"}}) {
    const Json config = PrintedConfig(run, flags);
    EXPECT_EQ(config["lr"], 0.25);
    EXPECT_EQ(config["model"], "gpt2-tiny");
    EXPECT_EQ(config["global_batch"], 3);
    EXPECT_EQ(config["keep_last"], 3);
    EXPECT_EQ(config["resume"], "auto");
    EXPECT_EQ(config["dtype"], "fp32");
    EXPECT_EQ(config["out"], "runs/gpt2-tiny");
    EXPECT_GE(config["threads"], 1);
  }
}

TEST(TrainConfigTest, OutIsNamedAfterTheModel) {
  const TinyRun run;
  std::filesystem::create_directories(run / "hub/mine");
  WriteFile(run / "hub/mine/config.json", testing::TinyConfig());
  EXPECT_EQ(PrintedConfig(run, {"--model=hub/mine/config.json"})["out"], "runs/mine");
  EXPECT_EQ(PrintedConfig(run, {"--model=./gpt2.json"})["out"], "runs/gpt2");
  const Json config = PrintedConfig(run, {"--init_from=hub/mine/"});
  EXPECT_EQ(config["out"], "runs/mine");
  // Reading it gives the same model, not the default one.
  WriteFile(run / "config.json", config.dump());
  EXPECT_EQ(PrintedConfig(run, {"--config=config.json"}), config);
}

TEST(TrainConfigTest, IsSavedWithTheRun) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--save_every=4"}).exit_code, 0);
  const Json printed = PrintedConfig(run, TinyRun::BaseFlags() + Flags{"--save_every=4"});
  for (const auto& [folder, step] :
       std::vector<std::pair<std::string, int>>{{"run", 8}, {"run/step-4", 4}, {"run/step-8", 8}}) {
    const Json record = Json::parse(ReadFile(run / (folder + "/run.json")));
    EXPECT_EQ(record["config"], printed) << folder;
    EXPECT_EQ(record["step"], step) << folder;
    EXPECT_EQ(record["samples"], 4 * step) << folder;
    EXPECT_EQ(record["format_version"], 1) << folder;
  }
}

TEST(ScreenTest, QuietIsTheLastStepAlone) {
  const TinyRun run;
  const ProgramResult result =
      run.Train({"--steps=5", "--eval_every=2", "--sample_every=2", "--save_every=2", "--quiet"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_THAT(result.out, ::testing::MatchesRegex("step 5/5  loss [^\n]+\n"
                                                  "step 5  validation loss [^\n]+\n"
                                                  "step 5  saved run/step-5 [^\n]+\n"));
  const ProgramResult again = run.Train({"--steps=5", "--quiet"});
  EXPECT_THAT(again.out, ::testing::StartsWith("nothing to do: "));
}

TEST(MetricsTest, OneObjectForEveryStepAndEvaluation) {
  const TinyRun run;
  const double before = TimeOfDay() - 1;
  ASSERT_EQ(run.Train({"--steps=5", "--eval_every=2", "--eval_batches=3"}).exit_code, 0);
  std::vector<int> steps, evaluations;
  std::vector<double> epochs;
  double time = before;
  for (const Json object : ReadMetrics(run / "run")) {
    if (object.contains("val_loss")) {
      EXPECT_EQ(object.size(), 2);
      evaluations.push_back(object["step"]);
      EXPECT_EQ(object["step"], steps.back()) << "an evaluation follows its step";
      EXPECT_NEAR(object["val_loss"], std::log(256), 0.2);
      continue;
    }
    EXPECT_THAT(Keys(object), ::testing::UnorderedElementsAre(
                                  "step", "loss", "lr", "grad_norm", "tokens", "seconds",
                                  "tokens_per_second", "time", "epoch", "mfu"));
    steps.push_back(object["step"]);
    EXPECT_NEAR(object["loss"], std::log(256), 0.2);
    EXPECT_GT(object["grad_norm"], 0);
    EXPECT_EQ(object["tokens"], 32);
    EXPECT_GT(object["seconds"], 0);
    const double seconds = object["seconds"];
    EXPECT_NEAR(object["tokens_per_second"], 32 / seconds, 1e-9 / seconds * 32);
    EXPECT_GE(object["time"], time);
    time = object["time"];
    epochs.push_back(object["epoch"]);
    EXPECT_GT(object["mfu"], 0);
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3, 4, 5));
  for (size_t i = 0; i < epochs.size(); ++i) {
    EXPECT_DOUBLE_EQ(epochs[i], (i + 1) * epochs[0]) << "as many samples in each step";
  }
  EXPECT_LE(time, TimeOfDay() + 1);
  EXPECT_THAT(evaluations, ElementsAre(2, 4, 5));
}

TEST(MetricsTest, LearningRateFollowsTheSchedule) {
  const TinyRun run;
  const Flags flags = {"--steps=6", "--lr=0.01", "--min_lr=0.002", "--warmup_steps=2",
                       "--schedule=linear"};
  ASSERT_EQ(run.Train(flags).exit_code, 0);
  std::vector<double> rates;
  for (const Json object : ReadMetrics(run / "run")) rates.push_back(object["lr"]);
  const double expected[] = {0.005, 0.01, 0.01, 0.008, 0.006, 0.004};
  ASSERT_EQ(rates.size(), 6);
  for (int i = 0; i < 6; ++i) EXPECT_NEAR(rates[i], expected[i], 1e-15) << i;
}

TEST(MetricsTest, LastEvaluationTakesTheWholeValidationSet) {
  const TinyRun run;
  const ProgramResult all = run.Train({"--eval_every=100", "--out=all"});
  const int64_t val_tokens = ReadFile(run / "text.txt").size() / 10;
  const std::string samples = std::to_string((val_tokens - 1) / 8);
  EXPECT_THAT(all.out, HasSubstr("(" + samples + " of " + samples + " sequences)"));
  // The whole set in other micro-batches: the same mean, up to rounding.
  ASSERT_EQ(run.Train({"--eval_every=100", "--out=other", "--micro_batch=1", "--global_batch=4"})
                .exit_code,
            0);
  EXPECT_NEAR(ReadMetrics(run / "other").back().at("val_loss"),
              ReadMetrics(run / "all").back().at("val_loss").get<double>(), 1e-4);
}

TEST(CheckpointTest, HoldsWhatTransformersReads) {
  const TinyRun run;
  ASSERT_EQ(run.Train({"--model=./gpt2.json"}).exit_code, 0);
  const Json config = Json::parse(ReadFile(run / "run/step-8/config.json"));
  EXPECT_EQ(config["model_type"], "gpt2");
  EXPECT_EQ(config["architectures"], Json({"GPT2LMHeadModel"}));
  EXPECT_EQ(config["n_embd"], 16);
  const auto header = [&](const std::string& file) {
    const std::string text = ReadFile(run / ("run/step-8/" + file));
    uint64_t length;
    std::memcpy(&length, text.data(), sizeof(length));
    Json tensors = Json::parse(text.substr(sizeof(length), length));
    EXPECT_EQ(tensors["__metadata__"]["format"], "pt");
    tensors.erase("__metadata__");
    return tensors;
  };
  const Json weights = header("model.safetensors"), optimizer = header("optimizer.safetensors");
  // [in, out], as GPT-2's Conv1D stores it.
  EXPECT_EQ(weights["transformer.h.0.mlp.c_fc.weight"]["shape"], Json({16, 64}));
  EXPECT_FALSE(weights.contains("lm_head.weight")) << "tied";
  EXPECT_EQ(weights.size(), 2 + 12 + 2);
  for (const auto& [name, entry] : weights.items()) {
    EXPECT_EQ(entry["dtype"], "F32");
    for (const char* moment : {".exp_avg", ".exp_avg_sq"}) {
      EXPECT_EQ(optimizer[name + moment]["shape"], entry["shape"]) << name << moment;
      EXPECT_EQ(optimizer[name + moment]["dtype"], "F32") << name << moment;
    }
  }
  EXPECT_EQ(optimizer.size(), 2 * weights.size());
}

TEST(UserPathsTest, RelativePathsStartWhereTheUserStands) {
  const TinyRun run;
  ASSERT_EQ(run.Train().exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(run / "run/step-8/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists("run"));
  const ProgramResult text = run.Run("tools/generate", {"--checkpoint=run", "--max_tokens=1"});
  EXPECT_EQ(text.exit_code, 0) << text.err;
}

TEST(DefaultTextTest, IsFoundWithoutFlags) {
  const TinyRun run;
  const ProgramResult result =
      run.Run("tools/train", {"--model=./llama.json", "--steps=1", "--seq_len=8", "--threads=1",
                              "--eval_every=0", "--sample_every=1"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("kjv.txt: "));
  EXPECT_TRUE(std::filesystem::exists(run / "runs/llama/step-1"));
}

TEST(DefaultOutTest, RunsOfOtherSettingsLieBesideEachOther) {
  const TinyRun run;
  const auto train = [&](const std::string& seed) {
    const ProgramResult result = run.Run(
        "tools/train", {"--model=./llama.json", "--train_data=text.txt", "--steps=2", "--seq_len=8",
                        "--threads=1", "--eval_every=0", "--sample_every=0", seed});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return result.out;
  };
  EXPECT_THAT(train("--seed=1"), Not(HasSubstr("note: the run is")));
  EXPECT_THAT(train("--seed=2"),
              HasSubstr("note: the run is runs/llama-2, since runs/llama holds one of other "
                        "settings: seed is 1 there, 2 here\n"));
  EXPECT_THAT(train("--seed=1"), HasSubstr("runs/llama, resumed at step 2"));
  EXPECT_THAT(train("--seed=2"), HasSubstr("runs/llama-2, resumed at step 2"));
  EXPECT_NE(ReadFile(run / "runs/llama/step-2/model.safetensors"),
            ReadFile(run / "runs/llama-2/step-2/model.safetensors"));
  EXPECT_FALSE(std::filesystem::exists(run / "runs/llama-3"));
}

TEST(HomeTest, PathsOfFlagsBeginThere) {
  const TinyRun run;
  const char* const home = std::getenv("HOME");
  const std::string before = home == nullptr ? "" : home;
  setenv("HOME", (run / "home").c_str(), 1);
  const ProgramResult result = run.Train({"--out=~/run"});
  setenv("HOME", before.c_str(), 1);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(std::filesystem::exists(run / "home/run/step-8/model.safetensors"));
}

class GenerateTest : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const ProgramResult trained =
        run_.Train({std::string("--model=./") + GetParam() + ".json", "--save_every=4"});
    ASSERT_EQ(trained.exit_code, 0) << trained.err;
  }
  std::string Text(const Flags& flags) const {
    const ProgramResult result = run_.Run(
        "tools/generate",
        Flags{"--checkpoint=run", "--prompt=line", "--max_tokens=20", "--threads=1"} + flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("20 tokens, the first after "));
    return result.out;
  }
  const TinyRun run_;
};

TEST_P(GenerateTest, ContinuesThePrompt) {
  const std::string text = Text({});
  EXPECT_GE(text.size(), 4 + 20 + 1);  // bytes that are no characters become three others
  EXPECT_EQ(text.substr(0, 4), "line");
  EXPECT_EQ(text.back(), '\n');
}

TEST_P(GenerateTest, GreedyTakesNoSeed) {
  const std::string greedy = Text({"--temperature=0"});
  EXPECT_EQ(Text({"--temperature=0", "--seed=5"}), greedy);
  EXPECT_EQ(Text({"--top_k=1", "--seed=5"}), greedy);
  EXPECT_EQ(Text({"--top_p=1e-9", "--seed=5"}), greedy);
}

TEST_P(GenerateTest, SeedDecidesOnSamples) {
  const std::string text = Text({"--seed=5"});
  EXPECT_EQ(Text({"--seed=5"}), text);
  EXPECT_NE(Text({"--seed=6"}), text);
}

TEST_P(GenerateTest, RunCheckpointAndReferenceOps) {
  const std::string text = Text({"--temperature=0"});
  EXPECT_EQ(Text({"--temperature=0", "--checkpoint=run/step-8"}), text);
  EXPECT_EQ(Text({"--temperature=0", "--ops=reference"}), text);
}

TEST_P(GenerateTest, TokenNumbers) {
  // "line", and the text after it, as numbers.
  const std::string text = Text({"--temperature=0"});
  std::string numbers;
  for (const char c : text.substr(0, text.size() - 1)) {
    numbers += (numbers.empty() ? "" : ",") + std::to_string(static_cast<unsigned char>(c));
  }
  EXPECT_EQ(Text({"--temperature=0", "--prompt_tokens=108,105,110,101"}), numbers + "\n");
}

INSTANTIATE_TEST_SUITE_P(Models, GenerateTest, ::testing::Values("llama", "gpt2"),
                         [](const auto& info) { return std::string(info.param); });

void ExpectRooflines(const Json& report) {
  const char* const peak = report["dtype"] == "bf16" ? "bf16_peak_gflops" : "fma_peak_gflops";
  const double flops_per_second = 1e9 * report[peak].get<double>();
  const double bytes_per_second = 1e9 * report["memory_gigabytes_per_second"].get<double>();
  double seconds = report["outside_ops_seconds_per_step"], rooflines = 0;
  for (const Json& op : report["op_kinds"]) {
    const double op_seconds = op["seconds_per_step"], roofline = op["roofline_seconds_per_step"];
    EXPECT_GT(op_seconds, 0) << op;
    EXPECT_NEAR(roofline,
                std::max(op["flops_per_step"].get<double>() / flops_per_second,
                         op["bytes_per_step"].get<double>() / bytes_per_second),
                1e-9 * roofline)
        << op;
    EXPECT_NEAR(op["percent_of_roofline"], 100 * roofline / op_seconds, 1e-6) << op;
    if (op["op"] != "gradient_reduction") {
      EXPECT_GT(op["percent_of_roofline"], 0) << op;
    }
    seconds += op_seconds;
    rooflines += roofline;
  }
  EXPECT_NEAR(seconds, report["profiled_seconds_per_step"], 1e-9 * seconds);
  EXPECT_NEAR(rooflines, report["roofline_seconds_per_step"], 1e-9 * rooflines);
}

const Json& OpOf(const Json& report, const char* name, const char* pass) {
  for (const Json& op : report["op_kinds"]) {
    if (op["op"] == name && op["pass"] == pass) return op;
  }
  ADD_FAILURE() << "no " << name << ", " << pass << " in " << report["op_kinds"];
  return report;
}

TEST(BenchmarkTest, JsonIsOneObject) {
  const TinyRun run;
  const Flags flags = {"--model=./gpt2.json", "--micro_batch=2", "--seq_len=16", "--steps=3",
                       "--threads=1"};
  const ProgramResult result = run.Run("tools/benchmark", flags + Flags{"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = Json::parse(result.out);
  EXPECT_EQ(std::count(result.out.begin(), result.out.end(), '\n'), 1);
  EXPECT_EQ(report["steps"], 3);
  EXPECT_EQ(report["threads"], 1);
  const double seconds = report["seconds_per_step"];
  EXPECT_NEAR(report["tokens_per_second"], 2 * 16 / seconds, 1e-9 / seconds);
  for (const char* key :
       {"gflops", "fma_peak_gflops", "percent_of_fma_peak", "memory_gigabytes_per_second",
        "peak_rss_bytes", "planned_bytes", "parameters"}) {
    EXPECT_GT(report[key], 0) << key;
  }
  EXPECT_FALSE(report.contains("bf16_peak_gflops"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep freed memory
  EXPECT_LT(report["peak_rss_bytes"], 256e6) << "the array that measures memory counts";
#endif
  ExpectRooflines(report);
  // Attention has 2 sequences of 16 tokens and 2 heads of 8: qkv, y, lse, and their gradients.
  const Json &forward = OpOf(report, "causal_attention", "forward"),
             &backward = OpOf(report, "causal_attention", "backward");
  EXPECT_EQ(forward["flops_per_step"], 2 * 2 * 2 * 8 * 16 * 17);
  EXPECT_EQ(forward["bytes_per_step"], 4 * (32 * 48 + 32 * 16 + 2 * 2 * 16));
  EXPECT_EQ(backward["bytes_per_step"], 4 * (2 * (32 * 48 + 32 * 16) + 2 * 2 * 16));
  EXPECT_GT(OpOf(report, "matmul", "backward")["flops_per_step"], 0);
  const ProgramResult table = run.Run("tools/benchmark", flags);
  ASSERT_EQ(table.exit_code, 0) << table.err;
  for (const char* part : {"tokens/s", "GFLOP/s", "%", "resident", "matmul", "forward", "GB/s",
                           "of roofline", "outside of ops", "at their rooflines"}) {
    EXPECT_THAT(table.out, HasSubstr(part));
  }
}

TEST(BenchmarkTest, Bf16IsComparedWithItsOwnPeak) {
  const TinyRun run;
  const Flags flags = {"--model=./gpt2.json", "--micro_batch=2", "--seq_len=16",
                       "--steps=1",           "--threads=1",     "--dtype=bf16"};
  const ProgramResult result = run.Run("tools/benchmark", flags + Flags{"--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json report = Json::parse(result.out);
  EXPECT_GT(report["percent_of_bf16_peak"], 0);
  ExpectRooflines(report);
  EXPECT_EQ(OpOf(report, "causal_attention", "forward")["bytes_per_step"],
            2 * (32 * 48 + 32 * 16) + 4 * (2 * 2 * 16));
  const ProgramResult table = run.Run("tools/benchmark", flags);
  EXPECT_THAT(table.out, HasSubstr("GFLOP/s of bf16 products"));
}

}  // namespace
}  // namespace strake
