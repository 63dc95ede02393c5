// //tools:check with --device=cuda: a correct build passes, and a fault in any op on the GPU, or in
// its ranks' parts, is found and named.
#include <algorithm>
#include <chrono>
#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/ops/check/op_check.h"
#include "core/testing/test_tensor.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/model_config.h"
#include "nlohmann/json.hpp"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/check_subject.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_report.h"
#include "tools/checking/check_run.h"
#include "tools/checking/check_step.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using testing::ChangeLast;
using testing::CheckSubject;
using testing::Edit;
using testing::GetElement;
using ::testing::HasSubstr;
using testing::Negate;
using testing::Nowhere;
using testing::SetElement;
using testing::TinyCheckCommand;
using testing::WithFault;
using testing::WithFaultAfter;

// A family, and a dtype by its flag.
class CheckCudaTest : public ::testing::TestWithParam<std::tuple<const ModelFamily*, const char*>> {
 protected:
  const ModelFamily* family() const { return std::get<0>(GetParam()); }
  std::string dtype() const { return std::get<1>(GetParam()); }
  CheckCommand Command(LayoutConfig layout = {}) const {
    return TinyCheckCommand(family(), layout, {.device = "cuda", .dtype = dtype()});
  }
};

std::string ParameterName(const ::testing::TestParamInfo<CheckCudaTest::ParamType>& info) {
  const bool gpt2 = std::get<0>(info.param) == &kGpt2Family;
  return absl::StrCat(gpt2 ? "Gpt2" : "Llama", "In", std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(, CheckCudaTest,
                         ::testing::Combine(::testing::Values(&kGpt2Family, &kLlamaFamily),
                                            ::testing::Values("fp32", "bf16")),
                         ParameterName);

TEST_P(CheckCudaTest, ACorrectBuildPasses) {
  for (const LayoutConfig& layout : {LayoutConfig{.tp = 2, .dp = 2, .sequence_parallel = true},
                                     LayoutConfig{.dp = 2, .zero = 2}}) {
    CheckCommand command = Command(layout);
    command.config.report = ::testing::TempDir() + "/report.json";
    const auto report = RunCheck(command, &Nowhere());
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->FirstFailure(), nullptr) << report->Verdict();
    EXPECT_GT(report->ops.size(), 35u);
    const int64_t elements = NumParameters(command.model);
    EXPECT_EQ(report->model_coverage->num_comparisons, elements);
    EXPECT_EQ(report->layout_coverage->num_missed, 0);
    EXPECT_GE(report->layout_coverage->num_comparisons, elements);
    const auto json = nlohmann::json::parse(ReadFile(command.config.report).value());
    EXPECT_EQ(json["device"], "cuda");
    EXPECT_EQ(json["dtype"], dtype());
    EXPECT_NE(json["gpu"], "");
  }
}

// Every op that is checked runs on the GPU, in the dtype of the check.
TEST_P(CheckCudaTest, OpsRunOnTheGpu) {
  const CheckSubject subject(Command());
  for (const OpCheck& check : subject.ops) {
    int num_calls = 0, num_bf16 = 0;
    const auto count = [&](const Context& ctx, const Tensors& t) {
      ++num_calls;
      for (const Tensor& each : t) {
        EXPECT_EQ(each.device(), Device::kCuda);
        num_bf16 += each.dtype() == DType::kBf16;
      }
      return check.run(ctx, t);
    };
    const CheckReport report = subject.CheckOpsOf({WithFault(check, count)});
    EXPECT_EQ(report.ExitCode(), 0) << report.Verdict();
    EXPECT_EQ(num_calls, 1);
    // Sums of rows are added to the gradient of a bias.
    const bool of_bias = check.op == "residual_add" && check.tensors[0].dtype == DType::kF32;
    const bool of_sums = check.op == "sum" || check.op == "squared_norm" ||
                         check.op == "clip_scale" || check.op == "set_zero" || of_bias;
    EXPECT_EQ(num_bf16 > 0, dtype() == "bf16" && !of_sums) << check.op;
  }
}

void ExpectFound(const CheckSubject& subject, const OpCheck& faulty, const std::string& tensor) {
  SCOPED_TRACE(absl::StrCat(faulty.op, " ", PassName(faulty.pass), " ", tensor));
  const CheckReport report = subject.CheckOpsOf({faulty});
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->tensor, tensor);
  EXPECT_THAT(report.Verdict(),
              HasSubstr(absl::StrCat(faulty.op, " ", PassName(faulty.pass), ", ", tensor)));
}

// Zeros have neither sign nor scale.
bool IsZeros(const OpCheck& check) { return check.op == "set_zero"; }

TEST_P(CheckCudaTest, AWrongSignInAnyOutputOfAnyOp) {
  const CheckSubject subject(Command());
  subject.ForEachOutput([&](size_t i, size_t j) {
    const OpCheck& check = subject.ops[i];
    if (IsZeros(check)) return;
    ExpectFound(subject, WithFaultAfter(check, j, Negate), check.tensors[j].name);
  });
}

// In bf16 a tolerance is a few times 2^-8.
TEST_P(CheckCudaTest, OneWrongElementOfAnyOutputOfAnyOp) {
  const double error = dtype() == "bf16" ? 1.0 / 16 : 1e-3;
  const CheckSubject subject(Command({.tp = 2}));
  subject.ForEachOutput([&](size_t i, size_t j) {
    const OpCheck& check = subject.ops[i];
    if (IsZeros(check)) return;
    const auto change = [error](const Tensor& x) { ChangeLast(x, error); };
    ExpectFound(subject, WithFaultAfter(check, j, change), check.tensors[j].name);
  });
}

TEST_P(CheckCudaTest, AnOpThatDoesNothing) {
  const CheckSubject subject(Command());
  const auto nothing = [](const Context&, const Tensors&) { return absl::OkStatus(); };
  for (const OpCheck& check : subject.ops) {
    const auto first =
        std::find_if(check.tensors.begin(), check.tensors.end(),
                     [](const OpTensor& tensor) { return tensor.role != OpRole::kInput; });
    ExpectFound(subject, WithFault(check, nothing), first->name);
  }
}

// Queries are replaced by their neighbours of the same head.
TEST_P(CheckCudaTest, AttentionThatIsOffByOne) {
  const CheckSubject subject(Command());
  for (const OpCheck& check : subject.ops) {
    if (check.op != "causal_attention" || check.pass != Pass::kForward) continue;
    const auto shift = [](const Tensor& qkv) {
      const int64_t count = qkv.num_elements();
      for (int64_t i = 0; i + 1 < count; ++i) SetElement(qkv, i, GetElement(qkv, i + 1));
    };
    const OpCheck faulty =
        WithFault(check, [&](const Context& ctx, const Tensors& t) -> absl::Status {
          STRAKE_RETURN_IF_ERROR(Edit(t[0], shift));
          return check.run(ctx, t);
        });
    ExpectFound(subject, faulty, "y");
  }
}

// The layers use another epsilon than the model's.
TEST_P(CheckCudaTest, AModelThatIsWiredDifferently) {
  const CheckSubject subject(Command());
  const auto truth = subject.Truth();
  CheckCommand other = subject.command;
  other.model.norm_eps = 1;
  const MeshVector one = {1, 1, 1, 1};
  StepComparison comparison(&subject.command, &subject.batch, truth.get(), other.WholeOptions(),
                            one, &Nowhere());
  const Mesh mesh = Mesh::SingleRank();
  const auto engine = MakeCheckEngine(other, other.WholeOptions(), mesh);
  ASSERT_TRUE(engine.ok()) << engine.status();
  ASSERT_EQ(comparison.Run(**engine), absl::OkStatus());
  const CheckReport report = {.model = comparison.Lines()};
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.ExitCode(), 1);
  EXPECT_THAT(report.Verdict(), HasSubstr("Every op is right by itself"));
}

// One of the ranks on the GPU has a stale shard.
TEST_P(CheckCudaTest, AStaleShard) {
  const CheckSubject subject(Command({.tp = 2}));
  const auto truth = subject.Truth();
  const MeshVector sizes = subject.command.config.layout.sizes();
  StepComparison comparison(&subject.command, &subject.batch, truth.get(),
                            subject.command.RankOptions(), sizes, &Nowhere());
  std::string name;
  const absl::Status status = RunOnThreads(
      sizes, {.timeout = std::chrono::seconds(60)}, [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(
            const auto engine,
            MakeCheckEngine(subject.command, subject.command.RankOptions(), mesh));
        if (mesh.rank() == 1) {
          const ParameterRecord& record = engine->parameters().records()[3];
          name = record.name();
          STRAKE_RETURN_IF_ERROR(Edit(record.parameter.value, [](const Tensor& x) {
            SetElement(x, 0, GetElement(x, 0) * 1.0625);
          }));
        }
        return comparison.Run(*engine);
      });
  ASSERT_EQ(status, absl::OkStatus());
  const CheckReport report = {.layout = comparison.Lines(),
                              .layout_coverage = comparison.Coverage()};
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->name, name);
  EXPECT_EQ(report.FirstFailure()->tensor, "weight");
  EXPECT_EQ(report.FirstFailure()->rank, 1);
}

}  // namespace
}  // namespace strake
