#include "tools/cli/options.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

using ::testing::HasSubstr;

// The variables of a small program, and its options over them.
struct Program {
  Program() {
    options.Group("Model:");
    options.Add("model", &model, "preset or path");
    options.Add("seq_len", &seq_len, "tokens per sample", Range::AtLeast(1));
    options.Group("Optimizer:");
    options.Add("lr", &lr, "peak learning rate", Range::Above(0));
    options.Add("beta1", &beta1, "decay of the first moment", Range::HalfOpen(0, 1));
    options.Add("offset", &offset, "any number");
    options.Add("schedule", &schedule, "shape of the learning rate", {"constant", "linear"});
    options.Add("shuffle", &shuffle, "shuffle the samples");
    options.Add("node", &node, "keep nodes");
    options.Add("config", &config, "JSON file of options").FlagOnly();
  }

  absl::Status Flags(std::vector<const char*> flags) {
    flags.insert(flags.begin(), "program");
    return options.ParseFlags(flags.size(), flags.data());
  }
  std::string FlagsError(std::vector<const char*> flags) {
    return std::string(Flags(std::move(flags)).message());
  }
  std::string JsonError(absl::string_view text) {
    return std::string(options.ParseJson(text, "c.json").message());
  }

  std::string model = "tiny", schedule = "constant", config;
  int64_t seq_len = 256;
  double lr = 0.001, beta1 = 0.9, offset = 0;
  bool shuffle = true, node = false;
  OptionSet options{"train"};
};

TEST(OptionsTest, FlagsInEverySpelling) {
  Program p;
  const absl::Status status =
      p.Flags({"--model=a=b", "--seq_len", "7", "--lr=2.5e-1", "--offset", "-3", "--noshuffle",
               "--node", "--schedule=linear", "--config="});
  ASSERT_TRUE(status.ok()) << status;
  EXPECT_EQ(p.model, "a=b");
  EXPECT_EQ(p.seq_len, 7);
  EXPECT_EQ(p.lr, 0.25);
  EXPECT_EQ(p.offset, -3);
  EXPECT_FALSE(p.shuffle);
  EXPECT_TRUE(p.node);
  EXPECT_EQ(p.schedule, "linear");
  EXPECT_EQ(p.config, "");
  EXPECT_TRUE(p.options.IsSet("config"));
  EXPECT_FALSE(p.options.IsSet("beta1"));
  EXPECT_FALSE(p.options.help_requested());
}

TEST(OptionsTest, BooleansAndRepetition) {
  Program p;
  ASSERT_TRUE(p.Flags({"--shuffle=false", "--node=1"}).ok());
  EXPECT_FALSE(p.shuffle);
  EXPECT_TRUE(p.node);
  ASSERT_TRUE(p.Flags({"--shuffle", "--node=0", "--seq_len=1", "--seq_len=2"}).ok());
  EXPECT_TRUE(p.shuffle);
  EXPECT_FALSE(p.node);
  EXPECT_EQ(p.seq_len, 2);
  EXPECT_EQ(p.FlagsError({"--shuffle=yes"}), "--shuffle=yes: must be true or false");
  // A bool flag takes no separate value.
  EXPECT_EQ(p.FlagsError({"--shuffle", "false"}),
            "argument \"false\" is not a flag; flags are --name=value");
}

TEST(OptionsTest, UnknownFlagsNameTheNearest) {
  Program p;
  EXPECT_EQ(p.FlagsError({"--seqlen=3"}), "unknown flag --seqlen; the nearest is --seq_len");
  EXPECT_EQ(p.FlagsError({"--seq-len"}), "unknown flag --seq-len; the nearest is --seq_len");
  EXPECT_EQ(p.FlagsError({"--schedul=linear"}),
            "unknown flag --schedul; the nearest is --schedule");
  EXPECT_EQ(p.FlagsError({"--nolr"}), "unknown flag --nolr; the nearest is --lr");
  EXPECT_EQ(p.FlagsError({"--noshuffle=true"}),
            "unknown flag --noshuffle; the nearest is --shuffle");
  EXPECT_EQ(p.FlagsError({"--batch_size_of=8"}),
            "unknown flag --batch_size_of; --help lists the flags of train");
  EXPECT_EQ(
      OptionSet("none").ParseFlags(2, std::vector<const char*>{"none", "--x"}.data()).message(),
      "unknown flag --x; --help lists the flags of none");
}

TEST(OptionsTest, FlagsOfOtherTrainersAreAnswered) {
  Program p;
  EXPECT_EQ(p.FlagsError({"--learning_rate=1e-3"}),
            "unknown flag --learning_rate; it is --lr here");
  EXPECT_EQ(p.FlagsError({"--learning-rate", "1e-3"}),
            "unknown flag --learning-rate; it is --lr here");
  EXPECT_EQ(p.FlagsError({"--max_seq_length=9"}),
            "unknown flag --max_seq_length; it is --seq_len here");
  EXPECT_EQ(p.FlagsError({"-t", "9"}), "argument \"-t\" is not a flag; it is --seq_len here");
  EXPECT_EQ(p.JsonError(R"({"learning_rate": 1})"),
            "c.json: unknown key \"learning_rate\"; it is --lr here");
  // Another spelling of a name is nearer than what others call so.
  bool workers = false;
  p.options.Add("num_workers", &workers, "");
  p.options.Add("threads", &workers, "");
  EXPECT_EQ(p.FlagsError({"--num-workers=2"}),
            "unknown flag --num-workers; the nearest is --num_workers");
}

TEST(OptionsTest, WhatIsNoFlagIsAnError) {
  for (const char* argument : {"word", "-lr=1", "--", "-", ""}) {
    EXPECT_EQ(Program().FlagsError({argument}),
              "argument \"" + std::string(argument) + "\" is not a flag; flags are --name=value");
  }
}

TEST(OptionsTest, MissingValues) {
  EXPECT_EQ(Program().FlagsError({"--seq_len"}),
            "--seq_len lacks its value: must be an integer >= 1");
  EXPECT_EQ(Program().FlagsError({"--seq_len", "--lr=1"}),
            "--seq_len lacks its value: must be an integer >= 1");
  EXPECT_EQ(Program().FlagsError({"--schedule"}),
            "--schedule lacks its value: must be one of constant, linear");
}

TEST(OptionsTest, BadNumbersNameFlagValueAndRange) {
  for (const char* value : {"", "0", "-1", "1.5", "1e3", "7x", " 7", "7 ", "0x10", "+7", "nan",
                            "9223372036854775808", "-9223372036854775809", "seven"}) {
    Program p;
    const std::string flag = std::string("--seq_len=") + value;
    EXPECT_EQ(p.FlagsError({flag.c_str()}), flag + ": must be an integer >= 1");
    EXPECT_EQ(p.seq_len, 256);
    EXPECT_FALSE(p.options.IsSet("seq_len"));
  }
  for (const char* value : {"", "0", "-1", "nan", "inf", "1e999", "1e-3x", " 1", "0,5"}) {
    const std::string flag = std::string("--lr=") + value;
    EXPECT_EQ(Program().FlagsError({flag.c_str()}), flag + ": must be a finite number > 0");
  }
  EXPECT_EQ(Program().FlagsError({"--beta1=1"}), "--beta1=1: must be a finite number in [0, 1)");
  EXPECT_EQ(Program().FlagsError({"--beta1=-1e-9"}),
            "--beta1=-1e-9: must be a finite number in [0, 1)");
  EXPECT_EQ(Program().FlagsError({"--beta1=0"}), "");
  EXPECT_EQ(Program().FlagsError({"--offset=-inf"}), "--offset=-inf: must be a finite number");
  EXPECT_EQ(Program().FlagsError({"--schedule=cosine"}),
            "--schedule=cosine: must be one of constant, linear");
  EXPECT_EQ(Program().FlagsError({"--model=\xff"}),
            "--model=\xff: must be text, and byte 1 is not UTF-8");
  EXPECT_EQ(Program().FlagsError({"--model=\u00fc\xc3"}),
            "--model=\u00fc\xc3: must be text, and byte 3 is not UTF-8");
  Program p;
  ASSERT_TRUE(p.Flags({"--seq_len=9223372036854775807"}).ok());
  EXPECT_EQ(p.seq_len, 9223372036854775807);
}

TEST(OptionsTest, AnOptionMayTakeAnyBytes) {
  std::string prompt;
  OptionSet options("generate");
  options.Add("prompt", &prompt, "text").AnyBytes();
  const char* const flags[] = {"generate", "--prompt=a\xff"};
  ASSERT_TRUE(options.ParseFlags(2, flags).ok());
  EXPECT_EQ(prompt, "a\xff");
}

TEST(OptionsTest, FlagsOverrideJsonInEitherOrder) {
  for (const bool flags_first : {true, false}) {
    Program p;
    if (flags_first) {
      ASSERT_TRUE(p.Flags({"--seq_len=1"}).ok());
    }
    const absl::Status status = p.options.ParseJson(
        R"({"seq_len": 2, "lr": 3, "model": "m", "shuffle": false, "offset": -0.5})", "c.json");
    ASSERT_TRUE(status.ok()) << status;
    if (!flags_first) {
      ASSERT_TRUE(p.Flags({"--seq_len=1"}).ok());
    }
    EXPECT_EQ(p.seq_len, 1);
    EXPECT_EQ(p.lr, 3);
    EXPECT_EQ(p.model, "m");
    EXPECT_FALSE(p.shuffle);
    EXPECT_EQ(p.offset, -0.5);
    EXPECT_TRUE(p.options.IsSet("lr"));
    EXPECT_FALSE(p.options.IsSet("beta1"));
  }
}

TEST(OptionsTest, BadJsonNamesKeyValueAndRange) {
  Program p;
  EXPECT_THAT(p.JsonError("{"), HasSubstr("c.json: bad JSON: parse error at line 1"));
  EXPECT_EQ(p.JsonError("[]"), "c.json: not a JSON object");
  EXPECT_EQ(p.JsonError(R"({"lr": 1, "lr": 1})"), "c.json: bad JSON: duplicate key \"lr\"");
  EXPECT_EQ(p.JsonError(R"({"seqlen": 1})"),
            "c.json: unknown key \"seqlen\"; the nearest is \"seq_len\"");
  // FlagOnly() options are not keys, and are not suggested.
  EXPECT_EQ(p.JsonError(R"({"config": "x"})"), "c.json: unknown key \"config\"");
  for (const char* value : {"0", "-1", "1.5", "3.0", "\"3\"", "null", "true", "[3]",
                            "9223372036854775808", "18446744073709551616"}) {
    EXPECT_THAT(p.JsonError(std::string(R"({"seq_len": )") + value + "}"),
                ::testing::AllOf(HasSubstr("c.json: \"seq_len\" is "),
                                 HasSubstr(", but must be an integer >= 1")))
        << value;
  }
  EXPECT_EQ(p.JsonError(R"({"shuffle": 1})"),
            "c.json: \"shuffle\" is 1, but must be true or false");
  EXPECT_EQ(p.JsonError(R"({"model": 1})"), "c.json: \"model\" is 1, but must be text");
  EXPECT_EQ(p.JsonError(R"({"lr": "1"})"),
            "c.json: \"lr\" is \"1\", but must be a finite number > 0");
  EXPECT_EQ(p.JsonError(R"({"schedule": "cosine"})"),
            "c.json: \"schedule\" is \"cosine\", but must be one of constant, linear");
  // Also where a flag has set the option.
  ASSERT_TRUE(p.Flags({"--lr=1"}).ok());
  EXPECT_EQ(p.JsonError(R"({"lr": -1})"), "c.json: \"lr\" is -1, but must be a finite number > 0");
}

TEST(OptionsTest, ToJsonIsReadBack) {
  Program p;
  ASSERT_TRUE(p.Flags({"--lr=0.1", "--seq_len=9007199254740993", "--config=x"}).ok());
  const std::string text = p.options.ToJson().dump();
  EXPECT_EQ(text, R"({"model":"tiny","seq_len":9007199254740993,"lr":0.1,"beta1":0.9,"offset":0.0,)"
                  R"("schedule":"constant","shuffle":true,"node":false})");
  Program q;
  ASSERT_TRUE(q.options.ParseJson(text, "c.json").ok());
  EXPECT_EQ(q.options.ToJson().dump(), text);
  EXPECT_EQ(q.lr, 0.1);
  EXPECT_EQ(q.seq_len, 9007199254740993);
}

TEST(OptionsTest, WordsStandAmongFlags) {
  Program p;
  std::vector<std::string> words;
  p.options.TakeWords(&words);
  ASSERT_TRUE(p.Flags({"a", "--lr=1", "b=c", "--seq_len", "7", "", "--node", "d"}).ok());
  EXPECT_EQ(words, (std::vector<std::string>{"a", "b=c", "", "d"}));
  EXPECT_EQ(p.seq_len, 7);
  EXPECT_TRUE(p.node);
  EXPECT_EQ(p.FlagsError({"a", "-b"}), "argument \"-b\" is not a flag; flags are --name=value");
}

TEST(OptionsTest, HelpShowsGroupsDefaultsAndRanges) {
  Program p;
  p.options.ShowDefault("config", "(none)");
  ASSERT_TRUE(p.Flags({"--seq_len=9", "--help"}).ok());
  EXPECT_TRUE(p.options.help_requested());
  EXPECT_EQ(p.options.Help(), R"(Usage: train [--name=value ...]
       train -h | --help | --help=word | --version | --print_completion=bash|zsh

--name value is the same as --name=value; --name and --noname set what is true or false.
A ~ at the beginning of a path is the home directory.

Model:
  --model=tiny
      preset or path
  --seq_len=256
      tokens per sample (an integer >= 1)

Optimizer:
  --lr=0.001
      peak learning rate (a finite number > 0)
  --beta1=0.9
      decay of the first moment (a finite number in [0, 1))
  --offset=0.0
      any number (a finite number)
  --schedule=constant
      shape of the learning rate (one of constant, linear)
  --shuffle=true
      shuffle the samples (true or false)
  --node=false
      keep nodes (true or false)
  --config=(none)
      JSON file of options
)");
}

TEST(OptionsTest, HelpOfAWordShowsWhatContainsIt) {
  Program p;
  ASSERT_TRUE(p.Flags({"--help=SAMPLE"}).ok());
  EXPECT_TRUE(p.options.help_requested());
  EXPECT_EQ(p.options.Help(), R"(Model:
  --seq_len=256
      tokens per sample (an integer >= 1)

Optimizer:
  --shuffle=true
      shuffle the samples (true or false)
)");
  Program q;
  ASSERT_TRUE(q.Flags({"--help=beta"}).ok());
  EXPECT_EQ(q.options.Help(), R"(Optimizer:
  --beta1=0.9
      decay of the first moment (a finite number in [0, 1))
)") << "a name contains it";
  EXPECT_EQ(Program().FlagsError({"--help=xyz"}),
            "--help=xyz: no option of train has this in its name or meaning; --help lists all");
}

TEST(OptionsTest, HelpHasAShortName) {
  Program p;
  ASSERT_TRUE(p.Flags({"-h"}).ok());
  EXPECT_TRUE(p.options.help_requested());
  EXPECT_THAT(p.options.Help(), HasSubstr("Usage: train "));
}

TEST(OptionsTest, OptionsWithoutAGroupFollowABlankLine) {
  bool yes = false;
  OptionSet options("small");
  options.Add("yes", &yes, "yes");
  EXPECT_THAT(options.Help(), HasSubstr("home directory.\n\n  --yes=false\n      yes"));
}

TEST(OptionsTest, CompletionIsOfKnownShells) {
  Program p;
  ASSERT_TRUE(p.Flags({"--print_completion=zsh"}).ok());
  EXPECT_EQ(p.options.completion_shell(), "zsh");
  EXPECT_FALSE(p.options.help_requested());
  for (const char* flag : {"--print_completion", "--print_completion=fish"}) {
    EXPECT_THAT(Program().FlagsError({flag}), HasSubstr(": must be one of bash, zsh"));
  }
  const auto infos = p.options.Infos();
  ASSERT_EQ(infos.size(), 9);
  EXPECT_EQ(infos[5].name, "schedule");
  EXPECT_THAT(infos[5].words, ::testing::ElementsAre("constant", "linear"));
  EXPECT_TRUE(infos[6].is_bool);
  p.options.Suggest("model", {"tiny"});
  EXPECT_THAT(p.options.Infos()[0].words, ::testing::ElementsAre("tiny"));
  EXPECT_TRUE(p.Flags({"--model=other"}).ok()) << "a suggestion forbids nothing";
}

TEST(RangeTest, EndsAreOpenOrClosed) {
  EXPECT_TRUE(Range::Between(0, 1).Contains(1));
  EXPECT_TRUE(Range::Between(0, 1).Contains(0));
  EXPECT_FALSE(Range::Between(0, 1).Contains(1.5));
  EXPECT_FALSE(Range::HalfOpen(0, 1).Contains(1));
  EXPECT_FALSE(Range::Above(0).Contains(0));
  EXPECT_FALSE(Range::AtLeast(0).Contains(-1));
  EXPECT_TRUE(Range().Contains(-1e300));
  EXPECT_EQ(Range::Between(0, 1).ToString(), " in [0, 1]");
  EXPECT_EQ((Range{.max = 2}).ToString(), " <= 2");
}

TEST(OptionsDeathTest, NamesAreUnique) {
  Program p;
  EXPECT_DEATH(p.options.Add("lr", &p.lr, ""), "the name \"lr\" is empty or taken");
  EXPECT_DEATH(p.options.Add("help", &p.lr, ""), "the name \"help\" is empty or taken");
  EXPECT_DEATH(p.options.Add("version", &p.lr, ""), "the name \"version\" is empty or taken");
  EXPECT_DEATH(p.options.Add("print_completion", &p.lr, ""), "is empty or taken");
  EXPECT_DEATH((void)p.options.IsSet("x"), "no option x");
  EXPECT_DEATH(p.options.ShowDefault("x", ""), "no option x");
  EXPECT_DEATH(p.options.Paths({"lr", "x"}), "no option x");
}

}  // namespace
}  // namespace strake
