// Planted faults: //tools:check finds each, names its place, and exits with 1.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/ops/check/check_cases.h"
#include "core/ops/check/op_check.h"
#include "core/ops/check/rounding.h"
#include "glog/logging.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "models/families/gpt2.h"
#include "models/families/llama.h"
#include "models/model_config.h"
#include "models/sliced_models.h"
#include "parallel/mesh/run_on_threads.h"
#include "tests/check_subject.h"
#include "tests/forwarding_communicator.h"
#include "tests/layout_model.h"
#include "tools/checking/check_config.h"
#include "tools/checking/check_report.h"
#include "tools/checking/check_run.h"
#include "tools/checking/check_shards.h"
#include "tools/checking/check_step.h"
#include "train/engine/engine.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

using testing::ChangeLast;
using testing::CheckSubject;
using testing::FindLayoutModel;
using ::testing::HasSubstr;
using testing::Negate;
using testing::Nowhere;
using testing::TinyCheckCommand;
using testing::WithFault;
using testing::WithFaultAfter;

const std::vector<CheckCommand>& Commands() {
  static const auto* commands = new std::vector<CheckCommand>{
      TinyCheckCommand(&kGpt2Family),
      TinyCheckCommand(&kLlamaFamily),
      TinyCheckCommand(&kGpt2Family, {.tp = 2, .dp = 2, .sequence_parallel = true}),
      TinyCheckCommand(&kLlamaFamily, {.tp = 2, .zero = 1}),
      TinyCheckCommand(FindLayoutModel("gemma2")),
      TinyCheckCommand(FindLayoutModel("olmo3"), {.tp = 2, .sequence_parallel = true}),
      TinyCheckCommand(FindLayoutModel("gpt_neox"), {.tp = 2}),
      TinyCheckCommand(FindLayoutModel("granite"), {.dp = 2})};
  return *commands;
}

// Expects that the table with `faulty` in place of op `i` fails there, first and alone.
void ExpectFound(const CheckSubject& subject, size_t i, OpCheck faulty, const std::string& tensor) {
  std::vector<OpCheck> table = subject.ops;
  table[i] = std::move(faulty);
  const CheckReport report = subject.CheckOpsOf(table);
  SCOPED_TRACE(table[i].op + " " + tensor);
  const CheckLine* first = report.FirstFailure();
  ASSERT_NE(first, nullptr);
  EXPECT_EQ(first->name, table[i].op);
  EXPECT_EQ(first->pass, PassName(table[i].pass));
  EXPECT_EQ(first->tensor, tensor);
  EXPECT_EQ(report.ExitCode(), 1);
  EXPECT_THAT(report.Verdict(), HasSubstr("FAIL"));
  EXPECT_THAT(report.Verdict(),
              HasSubstr(absl::StrCat(first->name, " ", first->pass, ", ", tensor)));
  EXPECT_THAT(report.Verdict(), HasSubstr(table[i].layers));
}

TEST(CheckFaultTest, WithoutAFaultEveryOpPasses) {
  for (const CheckCommand& command : Commands()) {
    const CheckSubject subject(command);
    const CheckReport report = subject.CheckOpsOf(subject.ops);
    EXPECT_EQ(report.FirstFailure(), nullptr) << report.Verdict();
    EXPECT_EQ(report.ExitCode(), 0);
    EXPECT_GT(report.ops.size(), 30u);
  }
}

// Zeros have neither sign nor scale.
bool IsZeros(const OpCheck& check) { return check.op == "set_zero"; }

TEST(CheckFaultTest, AWrongSignInAnyOutputOfAnyOp) {
  for (const CheckCommand& command : Commands()) {
    const CheckSubject subject(command);
    subject.ForEachOutput([&](size_t i, size_t j) {
      const OpCheck& check = subject.ops[i];
      if (IsZeros(check)) return;
      ExpectFound(subject, i, WithFaultAfter(check, j, Negate), check.tensors[j].name);
    });
  }
}

// One element is wrong by one part in a thousand of the tensor's size.
TEST(CheckFaultTest, OneWrongElementOfAnyOutputOfAnyOp) {
  for (const CheckCommand& command : Commands()) {
    const CheckSubject subject(command);
    subject.ForEachOutput([&](size_t i, size_t j) {
      const OpCheck& check = subject.ops[i];
      if (IsZeros(check)) return;
      const OpCheck faulty = WithFaultAfter(check, j, [](const Tensor& x) { ChangeLast(x, 1e-3); });
      ExpectFound(subject, i, faulty, check.tensors[j].name);
      std::vector<OpCheck> table = {faulty};
      const CheckReport report = subject.CheckOpsOf(table);
      const OpTensor& tensor = check.tensors[j];
      EXPECT_EQ(report.FirstFailure()->index,
                Coordinates(NumElements(tensor.shape) - 1, tensor.shape));
    });
  }
}

TEST(CheckFaultTest, AnOpThatDoesNothing) {
  for (const CheckCommand& command : Commands()) {
    const CheckSubject subject(command);
    for (size_t i = 0; i < subject.ops.size(); ++i) {
      const std::vector<OpTensor>& tensors = subject.ops[i].tensors;
      size_t first = 0;
      while (tensors[first].role == OpRole::kInput) ++first;
      ExpectFound(subject, i,
                  WithFault(subject.ops[i],
                            [](const Context&, const Tensors&) { return absl::OkStatus(); }),
                  tensors[first].name);
    }
  }
}

size_t Find(const CheckSubject& subject, const std::string& op, Pass pass) {
  for (size_t i = 0; i < subject.ops.size(); ++i) {
    if (subject.ops[i].op == op && subject.ops[i].pass == pass) return i;
  }
  LOG(FATAL) << "no " << op;
}

// Each key head is replaced by its neighbour.
TEST(CheckFaultTest, AHeadOffByOne) {
  const CheckCommand command = TinyCheckCommand(&kGpt2Family);
  const CheckSubject subject(command);
  const int64_t d = command.model.head_dim, width = command.model.hidden_size;
  const auto rotate_keys = [=](const Tensor& qkv) {
    float* values = qkv.data<float>();
    for (int64_t row = 0; row < qkv.dim(0); ++row) {
      float* keys = values + row * 3 * width + width;
      std::rotate(keys, keys + d, keys + width);
    }
  };
  const size_t forward = Find(subject, "causal_attention", Pass::kForward);
  ExpectFound(subject, forward,
              WithFault(subject.ops[forward],
                        [&](const Context& ctx, const Tensors& t) {
                          rotate_keys(t[0]);
                          return subject.ops[forward].run(ctx, t);
                        }),
              "y");
  const size_t backward = Find(subject, "causal_attention", Pass::kBackward);
  ExpectFound(subject, backward,
              WithFault(subject.ops[backward],
                        [&](const Context& ctx, const Tensors& t) {
                          const absl::Status status = subject.ops[backward].run(ctx, t);
                          rotate_keys(t[4]);
                          return status;
                        }),
              "dqkv");
}

using OpCalls = std::map<std::pair<std::string, Pass>, int64_t>;

// The calls that the first rank's profile counts in a step of two micro-batches.
OpCalls CountedCalls(const CheckCommand& command, const EngineOptions& options) {
  const std::set<std::string> collectives = {"all_reduce", "all_gather", "reduce_scatter",
                                             "gradient_reduction", "partial_gradients"};
  const CheckSubject subject(command);
  const int64_t count = command.config.micro_batch * command.config.seq_len;
  OpCalls calls;
  const absl::Status status =
      RunOnThreads(command.config.layout.sizes(), {}, [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const auto engine, MakeCheckEngine(command, options, mesh));
        OpProfile profile;
        engine->context().set_profile(&profile);
        const Tensor tokens = subject.batch.tokens.tensor().Rows(0, count);
        for (const bool last : {false, true}) {
          STRAKE_RETURN_IF_ERROR(engine->AccumulateGradients(tokens, tokens, 1, last));
        }
        STRAKE_RETURN_IF_ERROR(engine->SumGradients());
        STRAKE_RETURN_IF_ERROR(engine->Update({.lr = 0, .step = 1}, 1).status());
        STRAKE_RETURN_IF_ERROR(engine->Agree(false).status());
        if (mesh.rank() != 0) return absl::OkStatus();
        for (const auto& [key, entry] : profile.entries()) {
          if (collectives.count(key.first) == 0) calls[key] = entry.calls;
        }
        return absl::OkStatus();
      });
  EXPECT_TRUE(status.ok()) << status;
  return calls;
}

// Layouts whose steps make different calls.
std::vector<CheckCommand> RecordedCommands() {
  std::vector<CheckCommand> commands = Commands();
  for (const char* recompute : {"selective", "full"}) {
    for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
      CheckCommand command =
          TinyCheckCommand(family, {.tp = 2, .dp = 2, .sequence_parallel = true, .zero = 2});
      command.config.machine.activation_recompute = recompute;
      commands.push_back(command);
    }
  }
  return commands;
}

// A record of a step has each call of the step, with its cost, and no other; each has a check case.
TEST(CheckFaultTest, ARecordIsWhatAStepCalls) {
  for (const CheckCommand& command : RecordedCommands()) {
    for (const OpSet op_set : {OpSet::kAuto, OpSet::kReference}) {
      EngineOptions options = command.RankOptions();
      options.op_set = op_set;
      OpCalls recorded;
      for (const OpCall& call :
           RecordStep(options, command.config.layout.sizes(), /*rank=*/0, 2).calls) {
        if (call.is_collective()) continue;
        EXPECT_TRUE(HasCheckCase(call)) << call.ToString();
        recorded[{call.op, call.pass}] += call.times;
      }
      EXPECT_GT(recorded.size(), 15u);
      EXPECT_EQ(recorded, CountedCalls(command, options));
    }
  }
}

TEST(CheckFaultTest, ManyMicroBatchesAreRecordedAsRepeated) {
  const CheckCommand command = TinyCheckCommand(&kLlamaFamily, {.tp = 2, .zero = 2});
  const auto count = [&](int64_t num_micro_batches) {
    std::map<std::string, int64_t> calls;
    for (const OpCall& call :
         RecordStep(command.RankOptions(), command.config.layout.sizes(), 1, num_micro_batches)
             .calls) {
      calls[call.ToString()] += call.times;
    }
    return calls;
  };
  const auto two = count(2), three = count(3), many = count(1002);
  ASSERT_EQ(two.size(), many.size());
  for (const auto& [call, times] : many) {
    EXPECT_EQ(times, two.at(call) + 1000 * (three.at(call) - two.at(call))) << call;
  }
}

// The actions of every rank with its mesh and its engine before the step.
struct Plan {
  std::function<Mesh(const Mesh&)> wrap = nullptr;
  std::function<void(const Mesh&, Engine&)> change = nullptr;
};

// Runs the layout's section with a fault.
CheckReport CheckRanks(const CheckSubject& subject, const WholeStep& truth, const Plan& plan) {
  const CheckCommand& command = subject.command;
  const MeshVector sizes = command.config.layout.sizes();
  StepComparison comparison(&command, &subject.batch, &truth, command.RankOptions(), sizes,
                            &Nowhere());
  const absl::Status status =
      RunOnThreads(sizes, {.timeout = std::chrono::seconds(30)}, [&](const Mesh& m) {
        const auto run = [&](const Mesh& mesh) -> absl::Status {
          STRAKE_ASSIGN_OR_RETURN(const auto engine,
                                  MakeCheckEngine(command, command.RankOptions(), mesh));
          if (plan.change != nullptr) plan.change(mesh, *engine);
          return comparison.Run(*engine);
        };
        return plan.wrap == nullptr ? run(m) : run(plan.wrap(m));
      });
  EXPECT_TRUE(status.ok()) << status;
  return {.layout = comparison.Lines(), .layout_coverage = comparison.Coverage()};
}

TEST(CheckFaultTest, WithoutAFaultRanksPass) {
  for (const CheckCommand& command : Commands()) {
    const CheckSubject subject(command);
    const auto truth = subject.Truth();
    const CheckReport report = CheckRanks(subject, *truth, {});
    EXPECT_EQ(report.FirstFailure(), nullptr) << report.Verdict();
    const int64_t elements = NumParameters(command.model);
    EXPECT_EQ(report.layout_coverage->num_elements, elements);
    const LayoutConfig& layout = command.config.layout;
    EXPECT_GE(report.layout_coverage->num_comparisons,
              elements * (layout.zero > 0 ? 1 : layout.dp));
    EXPECT_EQ(report.layout_coverage->num_comparisons > elements, layout.num_ranks() > 1);
  }
}

// The layers use another epsilon than the model's: no op is wrong, and no weight.
TEST(CheckFaultTest, AModelThatIsWiredDifferently) {
  CheckSubject subject(TinyCheckCommand(&kLlamaFamily));
  const auto truth = subject.Truth();
  CheckCommand other = subject.command;
  other.model.norm_eps = 0.01;
  StepComparison comparison(&subject.command, &subject.batch, truth.get(), other.WholeOptions(),
                            {1, 1, 1, 1}, &Nowhere());
  const Mesh mesh = Mesh::SingleRank();
  const auto engine = MakeCheckEngine(other, other.WholeOptions(), mesh);
  ASSERT_TRUE(engine.ok());
  ASSERT_TRUE(comparison.Run(**engine).ok());
  CheckReport report = subject.CheckOpsOf(subject.ops);
  report.model = comparison.Lines();
  ASSERT_NE(report.FirstFailure(), nullptr);
  EXPECT_EQ(report.FirstFailure()->name, "loss");
  EXPECT_EQ(report.ExitCode(), 1);
  EXPECT_THAT(report.Verdict(), HasSubstr("Every op is right by itself"));
}

// One of the tensor-parallel, and one of the data-parallel ranks, has a stale shard.
TEST(CheckFaultTest, AStaleShard) {
  for (const ModelFamily* family : {&kGpt2Family, &kLlamaFamily}) {
    const CheckSubject subject(TinyCheckCommand(family, {.tp = 2, .dp = 2}));
    const auto truth = subject.Truth();
    for (const int rank : {1, 2}) {
      for (const size_t at : {0u, 3u, 8u}) {
        std::string name;
        const CheckReport report =
            CheckRanks(subject, *truth, {.change = [&](const Mesh& mesh, Engine& engine) {
                         if (mesh.rank() != rank) return;
                         const ParameterRecord& record = engine.parameters().records()[at];
                         name = record.segments.back().name;
                         record.parameter.value.data<float>()[record.shape().back() - 1] += 1e-6f;
                       }});
        ASSERT_NE(report.FirstFailure(), nullptr);
        EXPECT_EQ(report.FirstFailure()->name, name);
        EXPECT_EQ(report.FirstFailure()->tensor, "weight");
        EXPECT_EQ(report.FirstFailure()->rank, rank);
        EXPECT_EQ(report.ExitCode(), 1);
        EXPECT_THAT(report.Verdict(), HasSubstr(name));
        EXPECT_THAT(report.Verdict(), HasSubstr(absl::StrCat("on rank ", rank)));
      }
    }
  }
}

// Records a rank's calls, and makes all ranks omit one.
struct Skip {
  int64_t at = -1;
  std::vector<std::string> calls;  // "tp all_reduce_sum"
};

class SkippingCommunicator : public testing::ForwardingCommunicator {
 public:
  SkippingCommunicator(Communicator& inner, Skip* skip)
      : ForwardingCommunicator(inner), skip_(skip) {}
  SkippingCommunicator(std::unique_ptr<Communicator> inner, Skip* skip)
      : ForwardingCommunicator(std::move(inner)), skip_(skip) {}

 protected:
  std::function<absl::Status()> Start(CollectiveCall call) override {
    if (size() > 1) {
      skip_->calls.push_back(absl::StrCat(axis(), " ", CollectiveName(call.kind)));
      if (static_cast<int64_t>(skip_->calls.size()) - 1 == skip_->at) return nullptr;
    }
    return ForwardingCommunicator::Start(std::move(call));
  }
  std::unique_ptr<Communicator> Wrap(std::unique_ptr<Communicator> group) override {
    return std::make_unique<SkippingCommunicator>(std::move(group), skip_);
  }

 private:
  Skip* const skip_;
};

// Returns the first rank's calls.
std::vector<std::string> RunWithout(const CheckSubject& subject, const WholeStep& truth, int64_t at,
                                    CheckReport* report) {
  std::vector<Skip> skips(subject.command.config.layout.num_ranks(), Skip{at, {}});
  *report =
      CheckRanks(subject, truth, {.wrap = [&](const Mesh& mesh) {
                   return testing::WrapGroups(mesh, [&](Communicator& group) {
                     return std::make_unique<SkippingCommunicator>(group, &skips[mesh.rank()]);
                   });
                 }});
  return skips[0].calls;
}

// Every missing collective of a step is detected, except one whose result affects no number:
// whether a rank wants to stop. The next step would gather the weights of this one.
TEST(CheckFaultTest, AnyMissingCollective) {
  for (const LayoutConfig& layout :
       {LayoutConfig{.tp = 2, .dp = 2}, LayoutConfig{.tp = 2, .dp = 2, .zero = 2},
        LayoutConfig{.tp = 4, .sequence_parallel = true}}) {
    for (const char* model : {"gpt2", "llama", "olmo3"}) {
      const CheckSubject subject(TinyCheckCommand(FindLayoutModel(model), layout));
      const auto truth = subject.Truth();
      CheckReport report;
      const std::vector<std::string> calls = RunWithout(subject, *truth, -1, &report);
      EXPECT_EQ(report.ExitCode(), 0) << report.Verdict();
      ASSERT_GT(calls.size(), 20u);
      std::vector<std::string> missed;
      for (size_t at = 0; at < calls.size(); ++at) {
        RunWithout(subject, *truth, static_cast<int64_t>(at), &report);
        if (report.ExitCode() == 0) missed.push_back(calls[at]);
        if (report.ExitCode() == 1) {
          EXPECT_THAT(report.Verdict(), HasSubstr("look at the collectives"));
        }
      }
      EXPECT_EQ(missed, std::vector<std::string>{"tp all_reduce_sum"});
    }
  }
}

ShardCoverage CoverageOf(const std::function<void(int rank, ParameterArena&)>& change,
                         const std::vector<int>& ranks) {
  const ModelConfig config = TinyCheckCommand(&kGpt2Family).model;
  const auto whole = testing::SlicedParameters(config, 0, 1);
  CHECK(whole->Allocate(DType::kF64, false).ok());
  const WholeTensors truth(*whole, whole->values());
  ShardComparison comparison(&truth, /*dp_copies=*/1);
  for (const int rank : ranks) {
    const auto arena = testing::SlicedParameters(config, rank, 2);
    CHECK(arena->Allocate(DType::kF32, false).ok());
    change(rank, *arena);
    comparison.Add(rank, *arena, {0, arena->num_elements()}, arena->values());
  }
  return comparison.Coverage();
}

TEST(CheckFaultTest, CoverageCountsEachElementOncePerHolder) {
  const auto nothing = [](int, ParameterArena&) {};
  const int64_t elements = NumParameters(TinyCheckCommand(&kGpt2Family).model);
  const ShardCoverage all = CoverageOf(nothing, {0, 1});
  EXPECT_EQ(all.num_elements, elements);
  EXPECT_EQ(all.num_missed, 0);
  EXPECT_EQ(all.num_different, 0);
  EXPECT_EQ(all.num_dirty, 0);
  // A missing rank, and a rank that is added twice.
  EXPECT_GT(CoverageOf(nothing, {0}).num_missed, elements / 2);
  EXPECT_GT(CoverageOf(nothing, {0, 1, 1}).num_missed, elements / 2);
}

TEST(CheckFaultTest, HoldersThatDisagreeAndDirtyPadding) {
  const auto replica = [](int rank, ParameterArena& arena) {
    for (const ParameterRecord& record : arena.records()) {
      if (rank != 1 || record.name() != "transformer.ln_f.bias") continue;
      record.parameter.value.data<float>()[3] = -0.0f;
    }
  };
  EXPECT_EQ(CoverageOf(replica, {0, 1}).num_different, 1);
  const auto padding = [](int rank, ParameterArena& arena) {
    const ParameterRecord& table = arena.records()[0];
    if (rank == 1) table.parameter.value.data<float>()[table.num_elements() - 1] = 1e-30f;
  };
  EXPECT_EQ(CoverageOf(padding, {0, 1}).num_dirty, 1);
}

TEST(CheckFaultTest, MemoryIsComparedBeforeAnythingRuns) {
  const CheckMemoryPlan plan = PlanCheckMemory(TinyCheckCommand(&kGpt2Family, {.tp = 2}));
  EXPECT_GT(plan.ops_bytes, 0u);
  EXPECT_GT(plan.layout_bytes, plan.model_bytes / 2);
  EXPECT_TRUE(CheckMemoryFor(plan, plan.peak_bytes()).ok());
  const absl::Status status = CheckMemoryFor(plan, plan.peak_bytes() - 1);
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(status.message()), HasSubstr("the check needs "));
  EXPECT_THAT(std::string(status.message()), HasSubstr(" are free; choose a smaller --model"));
}

}  // namespace
}  // namespace strake
