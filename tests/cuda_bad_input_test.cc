// A GPU that cannot be used, or flags that do not fit it: exit code 1, one line on stderr with the
// problem and the remedy, before anything runs, and no file is made.
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/tiny_run.h"

namespace strake {
namespace {

using testing::Flags;
using testing::ProgramResult;
using testing::ReadFile;
using testing::ReadTree;
using testing::TinyRun;
using testing::WriteFile;
using testing::operator+;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

// Sets, during its lifetime, what the emulated GPU reports to programs.
class GpuOfPrograms {
 public:
  explicit GpuOfPrograms(const std::string& text) {
    setenv("STRAKE_EMULATED_GPU", text.c_str(), /*overwrite=*/1);
  }
  ~GpuOfPrograms() { unsetenv("STRAKE_EMULATED_GPU"); }
};

class CudaBadInputTest : public ::testing::Test {
 protected:
  void ExpectError(const std::string& program, const Flags& flags,
                   const std::vector<std::string>& parts) {
    SCOPED_TRACE(program);
    const auto before = ReadTree(run_.path());
    const ProgramResult result = run_.Run(program, flags);
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.out, IsEmpty());
    EXPECT_THAT(result.err, MatchesRegex("error: [^\n]+\n"));
    for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
    EXPECT_TRUE(ReadTree(run_.path()) == before) << "something was written";
  }
  void ExpectTrainError(const Flags& flags, const std::vector<std::string>& parts) {
    ExpectError("tools/train_emulated", TinyRun::BaseFlags() + flags, parts);
  }
  // Expects these errors from every program.
  void ExpectErrors(const std::vector<std::string>& parts) {
    const Flags cuda = {"--device=cuda"}, model = {"--model=./gpt2.json"};
    ExpectTrainError(cuda, parts);
    ExpectError("tools/generate_emulated", cuda + Flags{"--checkpoint=."}, parts);
    ExpectError("tools/benchmark_emulated", cuda + model + Flags{"--seq_len=8"}, parts);
    ExpectError("tools/check_emulated", cuda + model, parts);
  }

  const TinyRun run_;
};

TEST_F(CudaBadInputTest, AGpuThatCannotBeUsed) {
  struct Case {
    const char* gpu;
    std::vector<std::string> parts;
  };
  for (const Case& bad : std::vector<Case>{
           {"driver=0", {"no CUDA driver: the library libcuda.so.1"}},
           {"driver=11040",
            {"the CUDA driver is too old: it serves CUDA up to 11.4", "needs 13.0"}},
           {"devices=0", {"there is a CUDA driver, but no GPU"}},
           {"architecture=75", {"GPU 0", "is of architecture sm_75", "built for sm_90"}}}) {
    SCOPED_TRACE(bad.gpu);
    const GpuOfPrograms gpu(bad.gpu);
    ExpectErrors(bad.parts);
  }
}

TEST_F(CudaBadInputTest, ABuildWithoutCuda) {
  ExpectError("tools/train", TinyRun::BaseFlags() + Flags{"--device=cuda"},
              {"this build has no CUDA: build with --config=cuda"});
}

// libraries 32 MiB, and the rest: below and above what 33 MiB leave.
TEST_F(CudaBadInputTest, ThePlanBesideTheFreeMemory) {
  const GpuOfPrograms gpu("memory_mib=33");
  ExpectTrainError({"--device=cuda", "--micro_batch=64", "--global_batch=64"},
                   {"the run needs ", " on GPU 0 (emulated GPU) (weights ", ", gradients ",
                    ", optimizer ", ", activations ", ", libraries 32.0 MiB",
                    " but 33.0 MiB are free", "choose a smaller --model"});
  // More than any plan, detected without making a plan.
  WriteFile(run_ / "large.json", R"({"model_type": "llama", "vocab_size": 256,
      "max_position_embeddings": 32, "hidden_size": 65536, "intermediate_size": 65536,
      "num_hidden_layers": 64, "num_attention_heads": 512})");
  ExpectTrainError({"--device=cuda", "--model=large.json"},
                   {"the run needs more than ", " on GPU 0 (emulated GPU) but 33.0 MiB are free"});
  // The memory of all ranks that share the GPU counts.
  ExpectTrainError({"--device=cuda", "--tp=2"}, {" on each of 2 ranks", " but 33.0 MiB are free"});
  EXPECT_EQ(
      run_.Run("tools/train_emulated", TinyRun::BaseFlags() + Flags{"--device=cuda", "--steps=1"})
          .exit_code,
      0);
}

TEST_F(CudaBadInputTest, FlagsThatDoNotGoTogether) {
  ExpectTrainError({"--dtype=bf16", "--ops=reference"},
                   {"--ops=reference runs in fp32", "--dtype=fp32"});
  ExpectTrainError({"--device=cuda", "--ops=reference"},
                   {"--ops=reference runs on the CPU: give --device=cpu"});
  ExpectTrainError({"--device=cuda", "--comm=mpi"},
                   {"--comm=mpi connects CPUs", "--device=cuda", "--comm=nccl"});
  ExpectTrainError({"--device=gpu"}, {"--device", "gpu", "cpu, cuda"});
  ExpectTrainError({"--device=cuda", "--dtype=fp16"}, {"--dtype", "fp16", "fp32, bf16"});
}

// Before any step, with its file and position.
TEST_F(CudaBadInputTest, ATokenOutsideTheVocabularyIsNamed) {
  std::vector<int32_t> header(256);
  header[0] = 20240520;
  header[1] = 1;
  header[2] = 200;
  std::vector<uint16_t> tokens(200, 7);
  tokens[123] = 256;
  WriteFile(run_ / "large.bin",
            std::string(reinterpret_cast<const char*>(header.data()), 4 * header.size()) +
                std::string(reinterpret_cast<const char*>(tokens.data()), 2 * tokens.size()));
  ExpectTrainError(
      {"--device=cuda", "--train_data=large.bin"},
      {"--train_data: ", "large.bin", "token 256", "offset 123", "vocabulary size 256"});
}

// A NaN in a file of weights.
TEST_F(CudaBadInputTest, NanWeightsStopTheFirstStep) {
  const Flags base = TinyRun::BaseFlags() + Flags{"--device=cuda", "--steps=1"};
  ASSERT_EQ(run_.Run("tools/train_emulated", base).exit_code, 0);
  std::string file = ReadFile(run_ / "run/step-1/model.safetensors");
  const float nan = std::numeric_limits<float>::quiet_NaN();
  file.replace(file.size() - sizeof nan, sizeof nan, reinterpret_cast<const char*>(&nan),
               sizeof nan);
  WriteFile(run_ / "run/step-1/model.safetensors", file);
  std::filesystem::remove(run_ / "run/step-1/manifest.json");
  for (const Flags& flags : {Flags{}, {"--dtype=bf16"}, {"--tp=2", "--dp=2", "--micro_batch=2"}}) {
    const ProgramResult result = run_.Run(
        "tools/train_emulated", base + Flags{"--init_from=run/step-1", "--out=new"} + flags);
    EXPECT_EQ(result.exit_code, 1);
    for (const char* part :
         {"step 1: ", "the loss is nan", "the first tensor that is not finite is weight ",
          "There is no checkpoint yet"}) {
      EXPECT_THAT(result.err, HasSubstr(part));
    }
    for (const auto& [name, contents] : ReadTree(run_ / "new")) {
      EXPECT_THAT(name, ::testing::Not(HasSubstr("safetensors")));
    }
  }
}

}  // namespace
}  // namespace strake
