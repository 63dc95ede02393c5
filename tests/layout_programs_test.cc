// The programs under layouts: a run can be resumed under any other layout, and evaluation, samples
// and generated text equal those of one rank.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <ostream>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "data/token_file.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/checkpoint/hf_checkpoint.h"
#include "models/families/families.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/tiny_run.h"
#include "train/engine/engine.h"
#include "train/run/checkpoint.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

using testing::Flags;
using testing::Losses;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadMetrics;
using testing::ReadTree;
using testing::TimelessMetrics;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::Not;

struct Layout {
  int tp = 1;
  int dp = 1;
  bool sequence_parallel = false;
  int zero = 0;
  int pp = 1;
  int cp = 1;

  std::string ToString() const {
    return absl::StrCat("tp ", tp, ", cp ", cp, ", pp ", pp, ", dp ", dp,
                        sequence_parallel ? ", sequence parallel" : "", ", zero ", zero);
  }
  Flags flags() const {
    return {absl::StrCat("--tp=", tp),
            absl::StrCat("--cp=", cp),
            absl::StrCat("--pp=", pp),
            absl::StrCat("--dp=", dp),
            absl::StrCat("--sequence_parallel=", sequence_parallel ? "true" : "false"),
            absl::StrCat("--zero=", zero)};
  }
  MeshVector sizes() const { return {.dp = dp, .pp = pp, .cp = cp, .tp = tp}; }
};

// Fewer key/value heads than ranks, an odd vocabulary, and sizes that the layouts below divide.
struct Model {
  std::string name;
  std::string config;
  std::vector<Layout> layouts;
};

const std::vector<Model>& Models() {
  const std::vector<Layout> over_8_heads = {
      {1, 1, false, 0},       {2, 2, true, 1}, {4, 3, false, 2},    {8, 1, true, 0},
      {1, 2, false, 1, 1, 2}, {8, 4, true, 2}, {1, 1, false, 0, 2}, {2, 2, true, 1, 2}};
  const std::vector<Layout> over_6_heads = {
      {1, 1, false, 0}, {3, 2, true, 1},     {6, 1, false, 0},  {2, 1, false, 2, 1, 3},
      {3, 4, true, 2},  {1, 1, false, 0, 2}, {3, 2, true, 2, 2}};
  static const auto* models = new std::vector<Model>{
      {"Llama", R"({"model_type": "llama", "vocab_size": 257, "max_position_embeddings": 32,
                    "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
                    "num_attention_heads": 8, "num_key_value_heads": 2})",
       over_8_heads},
      {"LlamaTied", R"({"model_type": "llama", "vocab_size": 257, "max_position_embeddings": 32,
                        "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
                        "num_attention_heads": 6, "num_key_value_heads": 1,
                        "tie_word_embeddings": true})",
       over_6_heads},
      {"Gpt2", R"({"model_type": "gpt2", "vocab_size": 257, "n_positions": 32, "n_embd": 32,
                   "n_layer": 2, "n_head": 8})",
       over_8_heads},
      {"Gpt2Untied", R"({"model_type": "gpt2", "vocab_size": 259, "n_positions": 32, "n_embd": 24,
                         "n_layer": 2, "n_head": 6, "tie_word_embeddings": false})",
       over_6_heads},
  };
  return *models;
}

constexpr int64_t kGlobalBatch = 12;
constexpr int kHalf = 4, kSteps = 8;
constexpr double kLr = 0.003, kEps = 1e-3;

// The change in the loss of equal weights by f32 rounding in another order of summation: four
// standard deviations of a random walk through the about 14 products of at most 48 terms that a
// logit comes from, for logits and losses of at most 6.
const double kForwardError = 4 * std::sqrt(14 * 48) * 6e-8 * 6;

// Each step moves a weight by at most lr / eps of its gradient's error, and the loss by that times
// the gradient's norm, which is below 3.
double LossTolerance(int steps) { return kForwardError * (1 + steps * kLr / kEps * 3); }

// What a failed test prints of its parameter.
void PrintTo(const Model& model, std::ostream* out) { *out << model.name; }

// The bytes of a text as a token file, for models whose tokens are no bytes.
void WriteTokens(const std::string& path, const std::string& text) {
  const std::vector<int32_t> tokens(text.begin(), text.end());
  EXPECT_TRUE(WriteTokenFile(path, tokens, TokenEncoding::kUint16).ok());
}

class LayoutProgramsTest : public ::testing::TestWithParam<Model> {
 protected:
  void SetUp() override {
    WriteFile(run_ / "model.json", GetParam().config);
    WriteTokens(run_ / "text.bin", ReadFile(run_ / "text.txt"));
  }

  ProgramResult Train(const Layout& layout, const Flags& flags) const {
    const ProgramResult result = run_.Train(
        Flags{"--model=model.json", "--train_data=text.bin", "--seq_len=24", "--micro_batch=1",
              absl::StrCat("--global_batch=", kGlobalBatch), absl::StrCat("--steps=", kSteps),
              absl::StrCat("--lr=", kLr), absl::StrCat("--eps=", kEps)} +
        layout.flags() + flags);
    EXPECT_EQ(result.exit_code, 0) << layout.ToString() << ": " << result.err;
    EXPECT_EQ(result.err, "");
    return result;
  }
  // Trains without interruption into OUT, with checkpoints at half time and at the end.
  void TrainWhole(const Layout& layout, const std::string& out) const {
    Train(layout, {"--out=" + out, absl::StrCat("--save_every=", kHalf), "--keep_last=0"});
  }

  const TinyRun run_;
};

// Reads a checkpoint under a layout and writes it again.
absl::Status Rewrite(const std::string& from, const Layout& layout, const std::string& to) {
  STRAKE_ASSIGN_OR_RETURN(const ModelConfig model, ReadHfConfig(from + "/config.json", nullptr));
  STRAKE_ASSIGN_OR_RETURN(const RunRecord record, ReadRunRecord(from));
  std::filesystem::create_directory(to);
  return RunOnThreads(layout.sizes(), {.check = true}, [&](const Mesh& mesh) -> absl::Status {
    STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                            Engine::Create({.model = model,
                                            .seq_len = 24,
                                            .micro_batch = 1,
                                            .sequence_parallel = layout.sequence_parallel,
                                            .gradients = {.zero = layout.zero}},
                                           mesh));
    STRAKE_RETURN_IF_ERROR(LoadCheckpoint(from, *engine));
    return WriteCheckpoint(to, *engine, record);
  });
}

// Compares everything that LoadCheckpoint() reads.
void ExpectSameState(const std::string& actual, const std::string& expected) {
  for (const char* name : {"/config.json", "/model.safetensors", "/optimizer.safetensors"}) {
    const std::string contents = ReadFile(expected + name);
    EXPECT_NE(contents, "");
    // Not EXPECT_EQ: it would print the weights.
    EXPECT_TRUE(ReadFile(actual + name) == contents) << actual << name;
  }
}

TEST_P(LayoutProgramsTest, EveryLayoutHoldsExactlyWhatEveryOtherSaved) {
  const std::vector<Layout>& layouts = GetParam().layouts;
  std::set<std::string> optimizer_states;
  for (size_t from = 0; from < 2; ++from) {
    const std::string out = absl::StrCat("from", from);
    TrainWhole(layouts[from], out);
    const std::string checkpoint = run_ / absl::StrCat(out, "/step-", kHalf);
    optimizer_states.insert(ReadFile(checkpoint + "/optimizer.safetensors"));
    for (size_t to = 0; to < layouts.size(); ++to) {
      SCOPED_TRACE(layouts[from].ToString() + " -> " + layouts[to].ToString());
      const std::string copy = run_ / absl::StrCat("copy", from, "-", to);
      const absl::Status status = Rewrite(checkpoint, layouts[to], copy);
      ASSERT_TRUE(status.ok()) << status;
      ExpectSameState(copy, checkpoint);
    }
  }
  EXPECT_EQ(optimizer_states.size(), 2) << "layouts round differently, if only a little";
}

TEST_P(LayoutProgramsTest, GoesOnUnderAnotherLayout) {
  const std::vector<Layout>& layouts = GetParam().layouts;
  for (size_t i = 0; i < layouts.size(); ++i) {
    const Layout &from = layouts[i], &to = layouts[(i + 1) % layouts.size()];
    SCOPED_TRACE(from.ToString() + " -> " + to.ToString());
    const std::string a = absl::StrCat("a", i), b = absl::StrCat("b", i);
    TrainWhole(from, a);
    const ProgramResult resumed =
        Train(to, {absl::StrCat("--resume=", a, "/step-", kHalf), "--out=" + b});
    EXPECT_THAT(resumed.out, HasSubstr(absl::StrCat(", resumed at step ", kHalf)));
    EXPECT_THAT(resumed.out, Not(HasSubstr("warning")));
    const std::vector<double> whole = Losses(run_ / a), rest = Losses(run_ / b);
    ASSERT_EQ(rest.size(), kSteps - kHalf);
    EXPECT_GT(std::fabs(whole[kHalf] - whole[kHalf - 1]), 9 * LossTolerance(0))
        << "the loss of another batch would be seen";
    for (int step = kHalf; step < kSteps; ++step) {
      EXPECT_NEAR(rest[step - kHalf], whole[step], LossTolerance(step - kHalf)) << step;
    }
    const auto record =
        nlohmann::json::parse(ReadFile(run_ / absl::StrCat(b, "/step-", kSteps, "/run.json")));
    EXPECT_EQ(record["samples"], kSteps * kGlobalBatch);
    EXPECT_EQ(record["config"]["tp"], to.tp);
    EXPECT_EQ(record["config"]["cp"], to.cp);
    EXPECT_EQ(record["config"]["pp"], to.pp);
    EXPECT_EQ(record["config"]["dp"], to.dp);
    EXPECT_EQ(record["config"]["zero"], to.zero);
    EXPECT_EQ(record["config"]["sequence_parallel"], to.sequence_parallel);
  }
}

TEST_P(LayoutProgramsTest, GoesOnBitForBitUnderTheSameLayout) {
  for (const size_t i : {1, 2}) {
    const Layout& layout = GetParam().layouts[i];
    SCOPED_TRACE(layout.ToString());
    TrainWhole(layout, "whole");
    const std::string half = absl::StrCat("--resume=whole/step-", kHalf);
    Train(layout, {half, "--out=rest", absl::StrCat("--save_every=", kHalf), "--keep_last=0"});
    const std::string last = absl::StrCat("/step-", kSteps);
    ExpectSameState(run_ / ("rest" + last), run_ / ("whole" + last));
    const auto metrics = TimelessMetrics(run_ / "whole");
    EXPECT_EQ(TimelessMetrics(run_ / "rest"),
              std::vector<nlohmann::json>(metrics.begin() + kHalf, metrics.end()));
    for (const char* out : {"whole", "rest"}) std::filesystem::remove_all(run_ / out);
  }
}

// The part from `begin` to before `end`.
std::string Part(const std::string& text, const std::string& begin, const std::string& end) {
  const size_t from = text.find(begin);
  if (from == std::string::npos) return "";
  return text.substr(from, text.find(end, from) - from);
}

struct Evaluation {
  Flags flags;
  const char* sequences;  // on the screen
};

// With a learning rate of 0 every layout evaluates the same weights.
TEST_P(LayoutProgramsTest, EvaluatesAndSamplesAsOneRankDoes) {
  TrainWhole({}, "trained");
  const Flags frozen = {absl::StrCat("--init_from=trained/step-", kSteps),
                        "--out=frozen",
                        "--lr=0",
                        "--steps=1",
                        "--eval_every=1",
                        "--sample_every=1"};
  WriteTokens(run_ / "two.bin", ReadFile(run_ / "text.txt").substr(1000, 2 * 24 + 1));
  for (const Evaluation& evaluation : std::vector<Evaluation>{
           // The last micro-batch is not full.
           {{"--micro_batch=3", "--global_batch=36"}, "(20 of 20 sequences"},
           {{"--micro_batch=2", "--global_batch=24", "--eval_batches=3"}, "(6 of 20 sequences"},
           // Fewer sequences than data-parallel ranks.
           {{"--val_data=two.bin"}, "(2 of 2 sequences"}}) {
    std::string one_ranks_sample;
    double one_ranks_loss = 0;
    for (const Layout& layout : GetParam().layouts) {
      SCOPED_TRACE(absl::StrCat(evaluation.flags[0], ": ", layout.ToString()));
      const ProgramResult result = Train(layout, frozen + evaluation.flags);
      const double loss = ReadMetrics(run_ / "frozen").back().at("val_loss");
      const std::string sample = Part(result.out, "step 1  sample: [", "step 1  saved");
      if (NumRanks(layout.sizes()) == 1) {
        one_ranks_loss = loss;
        one_ranks_sample = sample;
        EXPECT_NE(sample, "");
      }
      EXPECT_NEAR(loss, one_ranks_loss, kForwardError);
      EXPECT_EQ(sample, one_ranks_sample);
      EXPECT_THAT(Part(result.out, "step 1  validation loss", "\n"),
                  HasSubstr(evaluation.sequences));
      std::filesystem::remove_all(run_ / "frozen");
    }
  }
}

TEST_P(LayoutProgramsTest, GeneratesTheTextOfOneRank) {
  TrainWhole({}, "run");
  for (const char* temperature : {"0", "0.8"}) {
    std::string text;
    for (const Layout& layout : GetParam().layouts) {
      SCOPED_TRACE(absl::StrCat("temperature ", temperature, ", ", layout.ToString()));
      const ProgramResult result =
          run_.Run("tools/generate", Flags{"--checkpoint=run", "--prompt_tokens=108,105,110,101",
                                           "--max_tokens=40", "--threads=1", "--comm_check",
                                           absl::StrCat("--temperature=", temperature)} +
                                         layout.flags());
      EXPECT_EQ(result.exit_code, 0) << result.err;
      EXPECT_EQ(std::count(result.out.begin(), result.out.end(), ','), 3 + 40);
      if (text.empty()) text = result.out;
      EXPECT_EQ(result.out, text);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, LayoutProgramsTest, ::testing::ValuesIn(Models()),
                         [](const auto& info) { return info.param.name; });

// More ranks than cores, as on a laptop.
TEST(ManyRanksTest, ThirtyTwoOnTwoCores) {
  const TinyRun run;
  WriteFile(run / "eight_heads.json", Models()[0].config);
  WriteTokens(run / "text.bin", ReadFile(run / "text.txt"));
  const ProgramResult result = run.Train({"--model=eight_heads.json", "--train_data=text.bin",
                                          "--tp=8", "--dp=4", "--steps=2", "--eval_every=2"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("layout     tp 8 x dp 4 = 32 ranks (threads)\n"));
  EXPECT_EQ(Losses(run / "run").size(), 2);
}

}  // namespace
}  // namespace strake
