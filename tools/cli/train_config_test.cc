#include "tools/cli/train_config.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/json.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/lora_config.h"
#include "nlohmann/json.hpp"
#include "optim/lr_schedule.h"
#include "train/run/run_record.h"
#include "train/run/run_settings.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

absl::StatusOr<TrainCommand> Parse(std::vector<std::string> flags) {
  std::vector<const char*> argv = {"train"};
  for (const std::string& flag : flags) argv.push_back(flag.c_str());
  return ParseTrainCommand(argv.size(), argv.data());
}

TrainConfig ConfigOf(const std::vector<std::string>& flags) {
  const auto command = Parse(flags);
  EXPECT_TRUE(command.ok()) << command.status();
  return command.ok() ? command->config : TrainConfig();
}

std::string ErrorOf(const std::vector<std::string>& flags) {
  return std::string(Parse(flags).status().message());
}

TEST(TrainConfigTest, DefaultsAreResolved) {
  const TrainConfig c = ConfigOf({});
  EXPECT_EQ(c.model, "llama-tiny");
  EXPECT_EQ(c.run.global_batch, c.run.engine.micro_batch);
  EXPECT_GE(c.machine.threads, 1);
  EXPECT_EQ(c.run.directory, "runs/llama-tiny");
  EXPECT_EQ(c.run.keep_last, 3);
  EXPECT_EQ(c.run.eval_batches, -1);
  EXPECT_EQ(c.resume, "auto");
}

TEST(TrainConfigTest, OpenValuesComeFromTheModel) {
  const TrainConfig narrow = ConfigOf({"--model=llama-tiny"}),
                    wide = ConfigOf({"--model=gpt2-124m"});
  EXPECT_EQ(narrow.run.schedule.lr, 0.5 / 128);
  EXPECT_EQ(wide.run.schedule.lr, 0.5 / 768);
  EXPECT_EQ(wide.run.engine.seq_len, 256);
  EXPECT_EQ(ConfigOf({"--model=gpt2-124m", "--lr=0.25", "--seq_len=1024"}).run.schedule.lr, 0.25);
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "short.json",
                     R"({"model_type": "gpt2", "vocab_size": 9, "n_positions": 5, "n_embd": 4,
                         "n_layer": 1, "n_head": 2})");
  EXPECT_EQ(ConfigOf({"--model=" + (directory / "short.json")}).run.engine.seq_len, 5);
}

TEST(TrainConfigTest, WithInitFromTheModelIsThatDirectorys) {
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "config.json",
                     R"({"model_type": "gpt2", "vocab_size": 9, "n_positions": 5, "n_embd": 4,
                         "n_layer": 3, "n_head": 2})");
  const auto command = Parse({"--init_from=" + directory.path()});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->model.num_layers, 3);
  EXPECT_EQ(command->config.model, directory / "config.json");
  const auto given = Parse({"--init_from=" + directory.path(), "--model=gpt2-tiny"});
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->model.num_layers, 4);
}

// A model of one layer, with the tiny hidden size of 4, in `directory`.
void WriteTinyModel(const testing::TempDirectory& directory) {
  testing::WriteFile(directory / "config.json",
                     R"({"model_type": "gpt2", "vocab_size": 9, "n_positions": 5, "n_embd": 4,
                         "n_layer": 1, "n_head": 2})");
}

TEST(TrainConfigTest, FineTuningHasRatesOfItsOwn) {
  const testing::TempDirectory directory;
  WriteTinyModel(directory);
  const std::string init_from = "--init_from=" + directory.path();
  const auto command = Parse({init_from, "--steps=200"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->config.run.schedule.lr, 5e-5);
  EXPECT_EQ(command->config.run.schedule.warmup_steps, 20);
  EXPECT_THAT(command->notices, ::testing::Contains(HasSubstr("learning rate is 5e-05, for fine")));
  const auto given = Parse({init_from, "--steps=200", "--lr=0.25", "--warmup_steps=150"});
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->config.run.schedule.lr, 0.25);
  EXPECT_EQ(given->config.run.schedule.warmup_steps, 150);
  EXPECT_THAT(given->notices, ::testing::Not(::testing::Contains(HasSubstr("learning rate"))));
  EXPECT_EQ(ConfigOf({init_from, "--steps=5000"}).run.schedule.warmup_steps, 100);
  EXPECT_EQ(ConfigOf({"--steps=200"}).run.schedule.warmup_steps, 100) << "from random weights";
}

// An adapter, in a folder of its own, of the model in `directory`.
void WriteAdapter(const testing::TempDirectory& directory, const std::string& name) {
  std::filesystem::create_directory(directory / name);
  testing::WriteFile(directory / name + "/adapter_config.json",
                     absl::StrCat(R"({"peft_type": "LORA", "r": 3, "lora_alpha": 12,
                                      "target_modules": ["c_attn", "c_fc"],
                                      "base_model_name_or_path": ")",
                                  directory.path(), R"("})"));
}

TEST(TrainConfigTest, AdaptersAreBesideInitFrom) {
  const testing::TempDirectory directory;
  WriteTinyModel(directory);
  const std::string init_from = "--init_from=" + directory.path();
  const auto command = Parse({init_from, "--lora_rank=3", "--steps=200"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->model.lora, (LoraConfig{.rank = 3, .alpha = 6}));
  EXPECT_EQ(command->config.run.schedule.lr, 2e-4);
  EXPECT_EQ(command->config.run.init_adapter, "");
  const auto given =
      Parse({init_from, "--lora_rank=3", "--lora_alpha=1.5", "--lora_targets=c_attn,mlp.c_proj"});
  ASSERT_TRUE(given.ok()) << given.status();
  EXPECT_EQ(given->model.lora,
            (LoraConfig{.rank = 3, .alpha = 1.5, .targets = {"c_attn", "mlp.c_proj"}}));
  EXPECT_FALSE(Parse({init_from})->model.lora.enabled());
}

TEST(TrainConfigTest, AnAdapterBringsItsBaseAndOptions) {
  const testing::TempDirectory directory;
  WriteTinyModel(directory);
  WriteAdapter(directory, "adapter");
  const LoraConfig lora = {.rank = 3, .alpha = 12, .targets = {"c_attn", "c_fc"}};
  const std::string init_from = "--init_from=" + directory / "adapter";
  const auto command = Parse({init_from});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->model.lora, lora);
  EXPECT_EQ(command->config.run.init_from, directory.path());
  EXPECT_EQ(command->config.run.init_adapter, directory / "adapter");
  EXPECT_EQ(command->config.model, directory / "config.json");
  const auto named = Parse({"--init_from=" + directory.path(),
                            "--init_adapter=" + directory / "adapter", "--lora_rank=3"});
  ASSERT_TRUE(named.ok()) << named.status();
  EXPECT_EQ(named->model.lora, lora);
  EXPECT_THAT(ErrorOf({init_from, "--lora_rank=4"}),
              AllOf(HasSubstr("--lora_rank=4"), HasSubstr("has 3")));
  EXPECT_THAT(ErrorOf({init_from, "--lora_targets=c_proj"}),
              AllOf(HasSubstr("--lora_targets=c_proj"), HasSubstr("has c_attn,c_fc")));
  EXPECT_THAT(ErrorOf({init_from, "--init_adapter=" + directory / "adapter"}),
              HasSubstr("and so is --init_adapter"));
  std::filesystem::remove(directory / "config.json");
  EXPECT_THAT(ErrorOf({init_from}),
              AllOf(StartsWith("--init_from: "), HasSubstr(directory.path() + " is not there"),
                    HasSubstr("--init_adapter")));
}

TEST(TrainConfigTest, AdaptersThatCannotBeTrainedAreErrors) {
  const testing::TempDirectory directory;
  WriteTinyModel(directory);
  const std::string init_from = "--init_from=" + directory.path();
  EXPECT_THAT(ErrorOf({"--lora_rank=2"}),
              AllOf(HasSubstr("--lora_rank=2"), HasSubstr("--init_from")));
  EXPECT_THAT(ErrorOf({init_from, "--lora_alpha=2"}),
              AllOf(HasSubstr("--lora_alpha=2"), HasSubstr("--lora_rank")));
  EXPECT_THAT(ErrorOf({init_from, "--lora_targets=c_fc"}),
              AllOf(HasSubstr("--lora_targets=c_fc"), HasSubstr("--lora_rank")));
  EXPECT_THAT(ErrorOf({init_from, "--lora_rank=-1"}), HasSubstr("--lora_rank=-1"));
  EXPECT_THAT(ErrorOf({init_from, "--lora_rank=2", "--lora_targets=q_proj"}),
              AllOf(HasSubstr("--lora_targets"), HasSubstr("\"q_proj\""), HasSubstr("c_attn")));
}

TEST(TrainConfigTest, AFineTuningRunThatWasBegunKeepsItsRates) {
  const testing::TempDirectory directory;
  WriteTinyModel(directory);
  std::filesystem::create_directory(directory / "run");
  testing::WriteFile(directory / "run/run.json",
                     R"({"format_version": 1, "step": 0, "samples": 0, "config": {},
                         "identity": {"lr": 0.125, "warmup_steps": 77}})");
  const LrSchedule schedule =
      ConfigOf({"--init_from=" + directory.path(), "--steps=200", "--out=" + directory / "run"})
          .run.schedule;
  EXPECT_EQ(schedule.lr, 0.125);
  EXPECT_EQ(schedule.warmup_steps, 77);
}

TEST(TrainConfigTest, EpochsSetTheSteps) {
  const auto command = Parse({"--epochs=1.5"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(command->config.run.epochs, 1.5);
  EXPECT_TRUE(command->config.run.limit_warmup);
  const nlohmann::ordered_json json = ToJson(command->config);
  EXPECT_FALSE(json.contains("steps")) << "the trainer finds them";
  EXPECT_FALSE(json.contains("warmup_steps"));
  EXPECT_FALSE(ConfigOf({"--epochs=2", "--warmup_steps=7"}).run.limit_warmup);
  EXPECT_THAT(ErrorOf({"--epochs=2", "--steps=7"}),
              AllOf(HasSubstr("--steps=7"), HasSubstr("--epochs=2"), HasSubstr("give one")));
  EXPECT_THAT(ErrorOf({"--epochs=-1"}), HasSubstr("--epochs"));
  // A file of options, such as that of a run, says both; a flag wins over it.
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "c.json", R"({"epochs": 3, "steps": 900})");
  const std::string config = "--config=" + directory / "c.json";
  EXPECT_EQ(ConfigOf({config}).run.epochs, 3);
  EXPECT_EQ(ConfigOf({config, "--steps=7"}).run.epochs, 0);
  EXPECT_EQ(ConfigOf({config, "--steps=7"}).run.schedule.total_steps, 7);
  EXPECT_EQ(ConfigOf({config, "--epochs=4"}).run.epochs, 4);
}

TEST(TrainConfigTest, ValidationDataMayHaveNames) {
  const testing::TempDirectory directory;
  for (const char* name : {"a.txt", "b.txt", "c.txt", "x:y.txt"}) {
    testing::WriteFile(directory / name, "text");
  }
  const auto sets = [&](const std::string& value) {
    auto command = Parse({"--train_data=" + directory / "a.txt", "--val_data=" + value});
    EXPECT_TRUE(command.ok()) << command.status();
    auto options = TrainerOptionsOf(*command);
    std::vector<std::string> texts;
    if (!options.ok()) return std::vector<std::string>{std::string(options.status().message())};
    for (const ValidationSet& set : options->val_sets) {
      texts.push_back(set.name);
      for (const std::string& file : set.files) {
        texts.back() += " " + std::filesystem::path(file).filename().string();
      }
    }
    return texts;
  };
  const std::string a = directory / "a.txt", b = directory / "b.txt", c = directory / "c.txt";
  EXPECT_THAT(sets(a + "," + b), ElementsAre(" a.txt b.txt"));
  EXPECT_THAT(sets("prose:" + a + "," + b + ",code-2:" + c),
              ElementsAre("prose a.txt b.txt", "code-2 c.txt"));
  EXPECT_THAT(sets(a + ",code:" + c), ElementsAre(" a.txt", "code c.txt"));
  EXPECT_THAT(sets(directory / "x:y.txt"), ElementsAre(" x:y.txt"));
  EXPECT_THAT(sets("p:" + a + ",p:" + b), ElementsAre(HasSubstr("two sets are called p")));
  EXPECT_THAT(sets("p:" + directory / "none"), ElementsAre(HasSubstr("none: no such file")));
}

TEST(TrainConfigTest, TrainingDataMayBeABlend) {
  const testing::TempDirectory directory;
  for (const char* name : {"a.txt", "b.txt", "c:2"}) testing::WriteFile(directory / name, "text");
  const auto sources = [&](const std::string& value) {
    std::vector<std::string> texts;
    const auto command = Parse({"--train_data=" + value});
    EXPECT_TRUE(command.ok()) << command.status();
    const auto options = TrainerOptionsOf(*command);
    if (!options.ok()) return std::vector<std::string>{std::string(options.status().message())};
    EXPECT_EQ(options->train_sources.empty(), !options->train_files.empty());
    for (const TrainingSource& source : options->train_sources) {
      texts.push_back(
          absl::StrCat(source.name, "|", absl::StrJoin(source.files, ","), "|", source.weight));
    }
    return texts;
  };
  const std::string a = directory / "a.txt", b = directory / "b.txt", c = directory / "c:2";
  EXPECT_THAT(sources("books:" + directory / "*.txt:0.7,code:" + c + ":0.3"),
              ElementsAre("books|" + a + "," + b + "|0.7", "code|" + c + "|0.3"));
  EXPECT_THAT(sources(a + ":1," + b + ":2"), ElementsAre(a + "|" + a + "|1", b + "|" + b + "|2"));
  EXPECT_THAT(sources(a + "," + c), IsEmpty()) << "a path with a colon is no blend";
  EXPECT_THAT(sources(a + ":1," + b),
              ElementsAre(AllOf(StartsWith("--train_data: "), HasSubstr(b + " has no weight"))));
  EXPECT_THAT(sources(a + ":1," + b + "x:1"),
              ElementsAre(AllOf(StartsWith("--train_data: "), HasSubstr("b.txtx: no such file"))));
  const std::string x(200, 'x');
  EXPECT_THAT(sources(x + ":1," + x + "y:1"), ElementsAre(HasSubstr(x + ": no such file")))
      << "the list is longer than a name can be";
  const auto command = Parse({"--train_data=" + a + ":1", "--max_epochs=2.5"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_EQ(TrainerOptionsOf(*command)->max_epochs, 2.5);
  EXPECT_EQ(TrainerOptionsOf(*command)->names.max_epochs, "--max_epochs");
}

TEST(TrainConfigTest, DataThatIsReadOnceIsAnError) {
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "a.txt", "a");
  const std::string file = directory / "a.txt", pipe = directory / "pipe";
  ASSERT_EQ(mkfifo(pipe.c_str(), 0600), 0);
  const auto error = [&](const std::string& train, const std::string& val) {
    const auto command = Parse({"--train_data=" + train, "--val_data=" + val});
    EXPECT_TRUE(command.ok()) << command.status();
    return std::string(TrainerOptionsOf(*command).status().message());
  };
  EXPECT_EQ(error(file, file), "");
  for (const std::string& once : {std::string("-"), pipe, file + "," + pipe}) {
    for (const bool train : {true, false}) {
      EXPECT_THAT(error(train ? once : file, train ? file : once),
                  AllOf(StartsWith(train ? "--train_data: " : "--val_data: "),
                        HasSubstr(once == "-" ? "- (standard input) can" : pipe + " (a pipe"),
                        HasSubstr("//tools:prepare with --data=-")));
    }
  }
}

TEST(TrainConfigTest, JsonIsReadBackAndFlagsOverrideIt) {
  const TrainConfig written = ConfigOf({"--model=gpt2-mini", "--steps=7", "--beta2=0.5", "--seed=9",
                                        "--schedule=wsd", "--shuffle=false", "--out=x"});
  const testing::TempDirectory directory;
  const std::string path = directory / "c.json";
  testing::WriteFile(path, JsonText(ToJson(written)));
  EXPECT_EQ(ToJson(ConfigOf({"--config=" + path})), ToJson(written));
  const TrainConfig changed = ConfigOf({"--steps=8", "--config=" + path});
  EXPECT_EQ(changed.run.schedule.total_steps, 8);
  EXPECT_EQ(changed.run.seed, 9);
}

// The record of a run, as the trainer writes it.
std::string RunJson(const TrainConfig& config) {
  return JsonText(nlohmann::ordered_json({{"format_version", 1},
                                          {"step", 3},
                                          {"samples", 12},
                                          {"identity", nlohmann::ordered_json::object()},
                                          {"config", ToJson(config)}}));
}

TEST(TrainConfigTest, ARunsRecordIsAConfiguration) {
  TrainConfig written =
      ConfigOf({"--model=gpt2-mini", "--steps=7", "--seed=9", "--out=x", "--resume=never"});
  const testing::TempDirectory directory;
  testing::WriteFile(directory / "run.json", RunJson(written));
  const TrainConfig read = ConfigOf({"--config=" + directory / "run.json", "--seed=4"});
  EXPECT_EQ(read.run.seed, 4);
  EXPECT_EQ(read.resume, "auto") << "how that run began is not how this one does";
  written.run.seed = 4;
  written.resume = "auto";
  EXPECT_EQ(ToJson(read), ToJson(written));
}

TEST(TrainConfigTest, OutAloneGoesOnWithTheRunsOptions) {
  const testing::TempDirectory directory;
  const std::string out = "--out=" + directory.path();
  EXPECT_EQ(ConfigOf({out}).model, "llama-tiny");
  testing::WriteFile(directory / "run.json",
                     RunJson(ConfigOf({"--model=gpt2-mini", "--steps=7", "--lr=0.5", "--out=x"})));
  EXPECT_EQ(ConfigOf({out}).model, "gpt2-mini");
  EXPECT_EQ(ConfigOf({out}).run.schedule.lr, 0.5);
  EXPECT_EQ(ConfigOf({out}).run.directory, directory.path());
  EXPECT_EQ(ConfigOf({out, "--steps=9"}).run.schedule.total_steps, 9);
  EXPECT_EQ(ConfigOf({out, "--steps=9"}).model, "gpt2-mini");
  EXPECT_EQ(ConfigOf({out, "--seed=2"}).model, "llama-tiny") << "not alone";
  testing::WriteFile(directory / "run.json", "{");
  EXPECT_THAT(ErrorOf({out}), HasSubstr(directory / "run.json: bad JSON"));
}

TEST(TrainConfigTest, TracedStepsAreAFirstAndALast) {
  const auto steps = [](const std::string& text) {
    const TrainConfig config = ConfigOf({"--steps=20", "--trace_steps=" + text});
    return absl::StrCat(config.run.first_traced_step, " to ", config.run.last_traced_step);
  };
  EXPECT_EQ(steps(""), "0 to 0");
  EXPECT_EQ(steps("3..5"), "3 to 5");
  EXPECT_EQ(steps("7..7"), "7 to 7");
  EXPECT_EQ(steps("1..1000000000000"), "1 to 1000000000000") << "the trainer knows the steps";
  for (const char* text : {"5", "5..", "..5", "..", "0..2", "-1..2", "3..2", "1...2", "1..2..3",
                           "a..b", "1..2x", "1.5..2", "1..9223372036854775808", "1e1..2e1"}) {
    EXPECT_EQ(ErrorOf({absl::StrCat("--trace_steps=", text)}),
              absl::StrCat("--trace_steps=", text,
                           ": give a first and a last step, like --trace_steps=10..12"));
  }
}

// What is traced is no setting of a run: one that goes on does not ask for these steps again.
TEST(TrainConfigTest, ARunDoesNotKeepItsTracedSteps) {
  const testing::TempDirectory directory;
  const std::string out = "--out=" + directory.path();
  const TrainConfig traced = ConfigOf({"--model=gpt2-mini", "--steps=7", "--trace_steps=5..7"});
  testing::WriteFile(directory / "run.json", RunJson(traced));
  EXPECT_EQ(ConfigOf({out, "--steps=3"}).run.last_traced_step, 0);
  const TrainConfig again = ConfigOf({out, "--trace_steps=6..7"});
  EXPECT_EQ(again.model, "gpt2-mini") << "the run's options";
  EXPECT_EQ(again.run.first_traced_step, 6);
}

// Runs without --out lie below the current folder, which is an empty one here.
class DefaultOutTest : public ::testing::Test {
 protected:
  DefaultOutTest() { std::filesystem::current_path(directory_.path()); }
  ~DefaultOutTest() override { std::filesystem::current_path(before_); }

  // Writes the record that a run with these flags leaves in `out`, and a checkpoint if there is
  // one.
  static void WriteRun(const std::string& out, const std::vector<std::string>& flags,
                       int64_t checkpoint = 0) {
    const TrainConfig config = ConfigOf(flags);
    std::filesystem::create_directories(out);
    const RunRecord record = {.step = checkpoint,
                              .samples = checkpoint * config.run.global_batch,
                              .identity = IdentityOf(config.run, "the data's fingerprint"),
                              .config = ToJson(config)};
    testing::WriteFile(out + "/run.json", ToJson(record));
    if (checkpoint == 0) return;
    const std::string folder = absl::StrCat(out, "/step-", checkpoint);
    std::filesystem::create_directory(folder);
    testing::WriteFile(folder + "/run.json", ToJson(record));
  }
  static std::string OutOf(const std::vector<std::string>& flags) {
    return ConfigOf(flags).run.directory;
  }
  // The note about the name of the run.
  static std::string NoteOf(const std::vector<std::string>& flags) {
    const auto command = Parse(flags);
    EXPECT_TRUE(command.ok()) << command.status();
    for (const std::string& notice : command->notices) {
      if (absl::StartsWith(notice, "the run is ")) return notice;
    }
    return "";
  }

 private:
  const testing::TempDirectory directory_;
  const std::filesystem::path before_ = std::filesystem::current_path();
};

TEST_F(DefaultOutTest, TheSameSettingsGoOn) {
  WriteRun("runs/llama-tiny", {"--lr=0.5"}, /*checkpoint=*/3);
  EXPECT_EQ(OutOf({"--lr=0.5"}), "runs/llama-tiny");
  EXPECT_EQ(NoteOf({"--lr=0.5"}), "");
  // What is no part of a run's identity.
  for (const char* flag : {"--steps=9", "--epochs=2", "--threads=3", "--tp=2", "--zero=1",
                           "--dtype=bf16", "--save_every=5", "--resume=newest_good"}) {
    EXPECT_EQ(OutOf({"--lr=0.5", flag}), "runs/llama-tiny") << flag;
  }
}

TEST_F(DefaultOutTest, OtherSettingsHaveANameOfTheirOwn) {
  WriteRun("runs/llama-tiny", {"--lr=0.5"}, /*checkpoint=*/3);
  EXPECT_EQ(
      NoteOf({"--lr=0.25"}),
      "the run is runs/llama-tiny-2, since runs/llama-tiny holds one of other settings: lr is "
      "0.5 there, 0.25 here");
  for (const char* flag :
       {"--seed=3", "--seq_len=64", "--schedule=wsd", "--train_data=a.txt", "--val_data=a.txt",
        "--tokenizer=t.json", "--documents=mask", "--text_field=body", "--skip_data=noise"}) {
    EXPECT_EQ(OutOf({"--lr=0.5", flag}), "runs/llama-tiny-2") << flag;
  }
  EXPECT_THAT(NoteOf({"--lr=0.5", "--train_data=a.txt"}),
              HasSubstr(R"(train_data is "" there, "a.txt" here)"));
  WriteRun("runs/llama-tiny-2", {"--lr=0.25"});
  WriteRun("runs/llama-tiny-3", {"--lr=0.125"}, /*checkpoint=*/2);
  EXPECT_EQ(OutOf({"--lr=0.5"}), "runs/llama-tiny");
  EXPECT_EQ(OutOf({"--lr=0.25"}), "runs/llama-tiny-2") << "a run that has no checkpoint yet";
  EXPECT_EQ(OutOf({"--lr=0.125"}), "runs/llama-tiny-3");
  EXPECT_EQ(OutOf({"--lr=0.75"}), "runs/llama-tiny-4");
  EXPECT_EQ(OutOf({"--lr=0.75", "--out=runs/llama-tiny"}), "runs/llama-tiny") << "as it was given";
  // A run that was removed leaves its name, and no run of other settings takes its place.
  std::filesystem::remove_all("runs/llama-tiny");
  EXPECT_EQ(OutOf({"--lr=0.75"}), "runs/llama-tiny");
  EXPECT_EQ(NoteOf({"--lr=0.125"}),
            "the run is runs/llama-tiny-3, since runs/llama-tiny-2 holds "
            "one of other settings: lr is 0.25 there, 0.125 here");
  std::filesystem::remove_all("runs/llama-tiny-2");
  EXPECT_EQ(NoteOf({"--lr=0.125"}),
            "the run is runs/llama-tiny-3, which was begun with these settings");
}

TEST_F(DefaultOutTest, ModelsOfOneFolderHaveNamesOfTheirOwn) {
  std::filesystem::create_directory("configs");
  for (const auto& [name, layers] : {std::pair("small", 1), {"large", 2}}) {
    testing::WriteFile(absl::StrCat("configs/", name, ".json"),
                       absl::StrCat(R"({"model_type": "gpt2", "vocab_size": 9, "n_positions": 5,
                                        "n_embd": 4, "n_head": 2, "n_layer": )",
                                    layers, "}"));
  }
  EXPECT_EQ(OutOf({"--model=configs/small.json"}), "runs/configs");
  WriteRun("runs/configs", {"--model=configs/small.json"}, /*checkpoint=*/3);
  EXPECT_EQ(OutOf({"--model=configs/small.json"}), "runs/configs");
  EXPECT_EQ(OutOf({"--model=configs/large.json"}), "runs/configs-2");
  EXPECT_THAT(NoteOf({"--model=configs/large.json"}),
              HasSubstr("model.n_layer is 1 there, 2 here"));
}

TEST_F(DefaultOutTest, OpenValuesAreThoseOfTheRunThatGoesOn) {
  WriteRun("runs/llama-tiny", {"--micro_batch=8"}, /*checkpoint=*/3);
  EXPECT_EQ(ConfigOf({"--micro_batch=4"}).run.global_batch, 8);
  EXPECT_EQ(OutOf({"--micro_batch=4"}), "runs/llama-tiny");
  EXPECT_EQ(OutOf({"--micro_batch=4", "--dp=2"}), "runs/llama-tiny");
  EXPECT_EQ(NoteOf({"--micro_batch=5"}),
            "the run is runs/llama-tiny-2, since runs/llama-tiny holds one of other settings: "
            "global_batch is 8 there, no multiple of --micro_batch=5 times --dp=1");
  EXPECT_EQ(ConfigOf({"--micro_batch=5"}).run.global_batch, 5);
  EXPECT_THAT(ErrorOf({"--micro_batch=5", "--global_batch=7"}), StartsWith("--global_batch=7 is"));
}

TEST_F(DefaultOutTest, AnEpochsWarmupIsThatOfTheRun) {
  WriteRun("runs/llama-tiny", {"--epochs=2", "--warmup_steps=17"}, /*checkpoint=*/3);
  EXPECT_EQ(OutOf({"--epochs=2"}), "runs/llama-tiny");
  EXPECT_EQ(ConfigOf({"--epochs=2"}).run.schedule.warmup_steps, 17);
  EXPECT_EQ(OutOf({"--epochs=2", "--warmup_steps=5"}), "runs/llama-tiny-2");
}

TEST_F(DefaultOutTest, ResumeNeverTakesANewName) {
  WriteRun("runs/llama-tiny", {"--lr=0.5"}, /*checkpoint=*/3);
  EXPECT_EQ(NoteOf({"--lr=0.5", "--resume=never"}),
            "the run is runs/llama-tiny-2, since runs/llama-tiny holds one already");
  WriteRun("runs/llama-tiny-2", {"--lr=0.5"});
  EXPECT_EQ(OutOf({"--lr=0.5", "--resume=never"}), "runs/llama-tiny-2") << "it has no checkpoint";
}

TEST_F(DefaultOutTest, FoldersThatHoldNoRunAreTaken) {
  std::filesystem::create_directories("runs/llama-tiny/notes");
  std::filesystem::create_directories("runs/llama-tiny-02");
  std::filesystem::create_directories("runs/llama-tiny-x");
  EXPECT_EQ(OutOf({}), "runs/llama-tiny");
  WriteRun("runs/llama-tiny", {"--lr=0.5"});
  EXPECT_EQ(OutOf({}), "runs/llama-tiny-2");
}

TEST_F(DefaultOutTest, ARunThatCannotBeReadIsNotPassedOver) {
  std::filesystem::create_directories("runs/llama-tiny");
  testing::WriteFile("runs/llama-tiny/run.json", "{");
  EXPECT_EQ(OutOf({"--lr=0.5"}), "runs/llama-tiny") << "its error is for the user to see";
  // A checkpoint whose run has no record any more is still that run.
  WriteRun("runs/llama-tiny", {"--lr=0.5"}, /*checkpoint=*/3);
  std::filesystem::remove("runs/llama-tiny/run.json");
  EXPECT_EQ(OutOf({"--lr=0.5"}), "runs/llama-tiny");
  EXPECT_EQ(OutOf({"--lr=0.25"}), "runs/llama-tiny-2");
}

TEST_F(DefaultOutTest, LongDifferencesAreCut) {
  WriteRun("runs/llama-tiny", {"--lr=0.5", "--seed=4", "--beta1=0.5", "--beta2=0.5", "--eps=1e-3"},
           /*checkpoint=*/3);
  EXPECT_THAT(NoteOf({}), ::testing::EndsWith("1e-08 here; ..."));
}

TEST(TrainConfigTest, ARunStandsForItsLastCheckpoint) {
  const testing::TempDirectory directory;
  for (const char* step : {"step-9", "step-10"}) {
    std::filesystem::create_directory(directory / step);
    testing::WriteFile(directory / step + "/config.json",
                       R"({"model_type": "gpt2", "vocab_size": 9, "n_positions": 5, "n_embd": 4,
                           "n_layer": 3, "n_head": 2})");
  }
  const TrainConfig from = ConfigOf({"--init_from=" + directory.path()});
  EXPECT_EQ(from.run.init_from, directory / "step-10");
  EXPECT_EQ(from.model, directory / "step-10/config.json");
  EXPECT_EQ(ConfigOf({"--resume=" + directory.path()}).run.resume_checkpoint,
            directory / "step-10");
  EXPECT_EQ(ConfigOf({"--resume=" + directory / "step-9"}).run.resume_checkpoint,
            directory / "step-9");
  for (const std::string flag : {"--init_from=", "--resume="}) {
    EXPECT_THAT(ErrorOf({flag + "no/such"}), HasSubstr(flag + "no/such: there is no such"));
  }
}

TEST(TrainConfigTest, GlobalBatchIsAPassOfAllRanks) {
  EXPECT_EQ(ConfigOf({"--micro_batch=3", "--dp=4", "--tp=2"}).run.global_batch, 12);
  EXPECT_EQ(ConfigOf({"--micro_batch=3", "--dp=4", "--global_batch=24"}).run.global_batch, 24);
}

TEST(TrainConfigTest, GlobalBatchOfTheRunThatGoesOn) {
  const testing::TempDirectory directory;
  const std::string out = "--out=" + directory.path();
  std::filesystem::create_directory(directory / "step-3");
  testing::WriteFile(directory / "step-3/config.json", "{}");
  const auto write = [&](const std::string& identity) {
    for (const char* name : {"run.json", "step-3/run.json"}) {
      testing::WriteFile(
          directory / name,
          R"({"format_version": 1, "step": 0, "samples": 0, "config": {}, "identity": )" +
              identity + "}");
    }
  };
  write(R"({"global_batch": 12})");
  for (const std::string& where : {out, "--resume=" + directory.path()}) {
    EXPECT_EQ(ConfigOf({where, "--micro_batch=2"}).run.global_batch, 12);
    EXPECT_EQ(ConfigOf({where, "--micro_batch=2", "--dp=3"}).run.global_batch, 12);
    EXPECT_EQ(ConfigOf({where, "--micro_batch=2", "--dp=4", "--global_batch=8"}).run.global_batch,
              8);
    EXPECT_THAT(ErrorOf({where, "--micro_batch=6", "--dp=4"}),
                AllOf(HasSubstr("--global_batch=12 is not a multiple of --micro_batch=6 times "
                                "--dp=4, 24"),
                      HasSubstr("--micro_batch may be 1, 3, or --dp may be 1, 2"),
                      HasSubstr("the batch is that of the run in " + directory.path())));
  }
  // The code that resumes reports damage.
  for (const char* identity :
       {"{}", R"({"global_batch": -12})", R"({"global_batch": "12"})", "3"}) {
    write(identity);
    EXPECT_EQ(ConfigOf({out, "--micro_batch=5"}).run.global_batch, 5) << identity;
  }
}

TEST(TrainConfigTest, ThreadsAreDividedOverTheRanks) {
  const int64_t all = ConfigOf({}).machine.threads;
  EXPECT_EQ(ConfigOf({"--dp=2"}).machine.threads, std::max<int64_t>(1, all / 2));
  EXPECT_EQ(ConfigOf({"--tp=4", "--dp=200"}).machine.threads, std::max<int64_t>(1, all / 800));
  EXPECT_EQ(ConfigOf({"--tp=4", "--threads=3"}).machine.threads, 3);
}

TEST(TrainConfigTest, LayoutsThatDoNotFitNameBothValuesAndWhatWould) {
  EXPECT_THAT(ErrorOf({"--tp=3"}),
              AllOf(HasSubstr("--tp=3: 4 query heads"), HasSubstr("--tp may be 1, 2, 4")));
  EXPECT_THAT(ErrorOf({"--tp=4", "--sequence_parallel", "--seq_len=6"}),
              AllOf(HasSubstr("--seq_len=6"), HasSubstr("--tp=4"), HasSubstr("--tp may be 1, 2")));
  EXPECT_THAT(ErrorOf({"--dp=3", "--micro_batch=2", "--global_batch=8"}),
              AllOf(HasSubstr("--global_batch=8"), HasSubstr("--micro_batch=2 times --dp=3, 6"),
                    HasSubstr("--dp may be 1, 2, 4")));
  EXPECT_THAT(ErrorOf({"--dp=3", "--micro_batch=2", "--global_batch=7"}),
              HasSubstr("--global_batch may be 12"));
  EXPECT_THAT(ErrorOf({"--dp=3", "--micro_batch=2", "--global_batch=1000000000"}),
              HasSubstr("--dp may be 1, 2, 4, 5, 8"));
  EXPECT_THAT(ErrorOf({"--tp=2", "--dp=513"}),
              AllOf(HasSubstr("1026 ranks"), HasSubstr("at most 1024"), HasSubstr("up to 512")));
}

TEST(TrainConfigTest, ScheduleTakesItsValues) {
  const LrSchedule s =
      ConfigOf({"--schedule=linear", "--lr=0.5", "--min_lr=0.25", "--warmup_steps=3", "--steps=11"})
          .run.schedule;
  EXPECT_EQ(LearningRate(s, 3), 0.5);
  EXPECT_EQ(LearningRate(s, 8), 0.375);
  EXPECT_EQ(LearningRate(s, 12), 0.25);
}

TEST(TrainConfigTest, HelpWinsOverWhatIsMissing) {
  const auto command = Parse({"--help", "--model=no/such/config.json"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_TRUE(command->show_help);
  EXPECT_THAT(command->help, HasSubstr("--print_config"));
}

TEST(TrainConfigTest, HelpShowsWhatOpenValuesStandFor) {
  const auto command = Parse({"--lr=0.5", "--help"});
  ASSERT_TRUE(command.ok()) << command.status();
  const TrainConfig defaults = ConfigOf({});
  for (const std::string& line :
       {absl::StrCat("--lr=", defaults.run.schedule.lr, "\n"),
        absl::StrCat("--global_batch=", defaults.run.global_batch, "\n"),
        absl::StrCat("--threads=", defaults.machine.threads, "\n"),
        std::string("--out=runs/llama-tiny\n"), std::string("--data_cache=runs/data_cache\n")}) {
    EXPECT_THAT(command->help, HasSubstr("\n  " + line));
  }
}

TEST(TrainConfigTest, PrintsAScriptThatCompletesOptions) {
  const auto command = Parse({"--print_completion=bash"});
  ASSERT_TRUE(command.ok()) << command.status();
  EXPECT_TRUE(command->show_help);
  EXPECT_THAT(command->help, AllOf(HasSubstr("complete -F _strake_train train\n"),
                                   HasSubstr("--schedule=|--schedule)"), HasSubstr("cosine")));
}

// The names of its options that other trainers' users bring, each with a part of the answer.
TEST(TrainConfigTest, NamesOfOtherTrainersAreAnswered) {
  for (const auto& [flag, answer] : std::vector<std::pair<std::string, std::string>>{
           {"--learning_rate=1e-3", "it is --lr here"},
           {"--batch_size=8", "--micro_batch here, per data-parallel rank, and those of a whole"},
           {"--per_device_train_batch_size=8", "it is --micro_batch here"},
           {"--bf16", "it is --dtype=bf16 here"},
           {"--fp16", "16 bits are --dtype=bf16 here"},
           {"--max_steps=3", "it is --steps here"},
           {"--train-iters=3", "it is --steps here"},
           {"--output_dir=x", "it is --out here"},
           {"--save=x", "it is --out here"},
           {"--load=x", "--resume=PATH"},
           {"--num_train_epochs=3", "it is --epochs here"},
           {"--gradient_accumulation_steps=4", "--micro_batch times --dp times these steps"},
           {"--tensor-model-parallel-size=2", "it is --tp here"},
           {"--pipeline-model-parallel-size=2", "--pp"},
           {"--warmup_ratio=0.1", "--warmup_steps: this share times --steps"},
           {"--max_seq_length=1024", "it is --seq_len here"},
           {"--block_size=1024", "it is --seq_len here"},
           {"--model_name_or_path=gpt2", "--init_from"},
           {"--gradient_checkpointing", "--activation_recompute=full"},
           {"--max_grad_norm=1", "it is --clip_norm here"},
           {"--lr_scheduler_type=cosine", "--schedule"},
           {"--n_layer=12", "--model"},
           {"--use-distributed-optimizer", "--zero=1"},
           {"--save_total_limit=2", "it is --keep_last here"}}) {
    const std::string name = flag.substr(0, flag.find('='));
    EXPECT_THAT(ErrorOf({flag}),
                AllOf(StartsWith("unknown flag " + name + "; "), HasSubstr(answer)));
  }
  EXPECT_THAT(ErrorOf({"-b", "4"}),
              AllOf(StartsWith("argument \"-b\" is not a flag; "), HasSubstr("--micro_batch")));
}

TEST(TrainConfigTest, ContradictionsNameBothValues) {
  EXPECT_THAT(ErrorOf({"--global_batch=12"}),
              AllOf(HasSubstr("--global_batch=12"), HasSubstr("--micro_batch=8")));
  EXPECT_THAT(ErrorOf({"--min_lr=2", "--lr=1"}),
              AllOf(HasSubstr("--min_lr=2"), HasSubstr("--lr=1")));
  EXPECT_THAT(ErrorOf({"--micro_batch=100000", "--seq_len=100000"}), HasSubstr("2^31 tokens"));
  EXPECT_THAT(ErrorOf({"--model=gpt2-124m", "--seq_len=1025"}),
              AllOf(HasSubstr("--seq_len=1025"), HasSubstr("1024 positions")));
  EXPECT_THAT(ErrorOf({"--dtype=bf16", "--ops=reference"}),
              AllOf(HasSubstr("--ops=reference runs in fp32"), HasSubstr("--dtype=fp32")));
  EXPECT_THAT(ErrorOf({"--config=/no/such"}), HasSubstr("--config=/no/such: cannot be read"));
  EXPECT_THAT(ErrorOf({"--model=gpt5"}), HasSubstr("\"gpt5\""));
}

}  // namespace
}  // namespace strake
