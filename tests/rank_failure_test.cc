// A rank that fails, or stops answering, in any collective of a training step: the other ranks end
// in time, and report which rank failed and where.
#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <regex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "glog/logging.h"
#include "gtest/gtest.h"
#include "models/families/llama.h"
#include "models/initialize.h"
#include "parallel/comm/testing/faulty_communicator.h"
#include "parallel/context/context_parallel.h"
#include "parallel/mesh/run_on_threads.h"
#include "parallel/pipeline/schedule.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using testing::Fault;
using testing::FaultPlan;
using testing::FaultyCommunicator;
using testing::InjectedError;
using testing::Numbered;
using testing::SetElement;
using testing::Stops;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;
using std::chrono::seconds;

// Longer than scheduling delays of a busy machine.
constexpr milliseconds kTimeout(2000);
constexpr seconds kSlack(30);
// For tests that must not reach it.
constexpr seconds kLongTimeout(60);
constexpr int kTrialsAtOnce = 64;

// What the other side of a call does.
std::string OtherSideOf(const std::string& collective) {
  if (collective == "send") return "recv";
  return collective == "recv" ? "send" : collective;
}

Mesh FaultyMesh(const Mesh& mesh, FaultPlan* plan) {
  const auto wrap = [plan](Communicator& group) {
    return std::make_unique<FaultyCommunicator>(group, plan);
  };
  std::array<std::unique_ptr<Communicator>, kNumMeshAxes> groups;
  for (int i = 0; i < kNumMeshAxes; ++i) {
    groups[i] = wrap(mesh.communicator(static_cast<MeshAxis>(i)));
  }
  return Mesh(mesh.sizes(), mesh.rank(), std::move(groups),
              mesh.sizes().cp > 1 ? wrap(mesh.gradient_group()) : nullptr);
}

struct Layout {
  const char* name;
  MeshVector sizes;
  int64_t num_kv_heads;
  bool sequence_parallel;
  int zero;
  PipelineOptions pipeline = {.micro_batches = 2};
  ContextComm context_comm = ContextComm::kRing;
};

constexpr int kNumRanks = 4;

EngineOptions OptionsOf(const Layout& layout) {
  ModelConfig model = kLlamaFamily.new_config();
  model.vocab_size = 31;
  model.max_positions = 8;
  model.hidden_size = 16;
  model.num_layers = layout.sizes.pp * layout.pipeline.chunks;
  model.tie_word_embeddings = layout.sizes.pp > 1;
  model.num_heads = 4;
  model.num_kv_heads = layout.num_kv_heads;
  model.head_dim = 4;
  model.intermediate_size = 16;
  return {.model = model,
          .seq_len = 8,
          .micro_batch = 1,
          .sequence_parallel = layout.sequence_parallel,
          .context_comm = layout.context_comm,
          .gradients = {.zero = layout.zero, .bucket_bytes = 2048},
          .pipeline = layout.pipeline};
}

absl::Status Step(Engine& engine, int64_t step) {
  const EngineOptions& options = engine.options();
  const testing::TestTensor tokens(DType::kI32, {options.seq_len / engine.mesh().sizes().cp});
  testing::FillTokens(tokens, /*seed=*/step, options.model.vocab_size);
  if (step == 1 && engine.mesh().sizes().pp > 1) {
    STRAKE_RETURN_IF_ERROR(engine.EvaluateLoss(tokens, tokens));
  }
  const int64_t num_micro_batches = options.pipeline.micro_batches;
  for (int64_t m = 1; m <= num_micro_batches; ++m) {
    STRAKE_RETURN_IF_ERROR(
        engine.AccumulateGradients(tokens, tokens, 1e-2, /*last=*/m == num_micro_batches));
  }
  STRAKE_RETURN_IF_ERROR(engine.SumGradients());
  STRAKE_RETURN_IF_ERROR(engine.Update({.lr = 1e-3, .step = step}, /*clip_norm=*/1).status());
  return engine.Agree(/*stop=*/false).status();
}

// Two steps, so that a fault in the last collective of the first step shows in the second.
absl::Status TwoSteps(const Layout& layout, const Mesh& mesh, int64_t* num_in_first_step,
                      const FaultPlan& plan) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                          Engine::Create(OptionsOf(layout), mesh));
  STRAKE_RETURN_IF_ERROR(InitializeParameters(/*seed=*/1, engine->team(), &engine->parameters()));
  STRAKE_RETURN_IF_ERROR(Step(*engine, 1));
  *num_in_first_step = plan.num_started;
  return Step(*engine, 2);
}

struct Outcome {
  absl::Status returned;             // by RunOnThreads()
  std::vector<absl::Status> status;  // by rank
  FaultPlan plan;                    // of the faulty rank
  int64_t num_in_first_step = 0;
  Clock::duration time{};  // from the fault until the others had ended
};

// Runs with the fault of `faulty_rank` in collective `at`.
Outcome RunWithFault(const Layout& layout, Fault fault, int64_t at, int faulty_rank) {
  Outcome outcome;
  outcome.status.resize(kNumRanks);
  std::mutex mutex;
  std::condition_variable changed;
  int num_others_ended = 0;
  Clock::time_point began = Clock::now(), ended = began;
  outcome.plan = {.fault = fault, .at = at, .stop = [&] {
                    std::unique_lock<std::mutex> lock(mutex);
                    began = Clock::now();
                    outcome.plan.num_joined_at_stop = outcome.plan.num_joined;
                    changed.wait(lock, [&] { return num_others_ended == kNumRanks - 1; });
                  }};
  const CommunicatorOptions options = {
      .timeout = Stops(fault) ? kTimeout : std::chrono::duration_cast<milliseconds>(kLongTimeout),
      .check = false};
  outcome.returned = RunOnThreads(layout.sizes, options, [&](const Mesh& mesh) {
    const bool faulty = mesh.rank() == faulty_rank;
    FaultPlan healthy;
    FaultPlan& plan = faulty ? outcome.plan : healthy;
    int64_t num_in_first_step = 0;
    const Mesh wrapped = FaultyMesh(mesh, &plan);
    const absl::Status status = TwoSteps(layout, wrapped, &num_in_first_step, plan);
    const std::lock_guard<std::mutex> lock(mutex);
    outcome.status[mesh.rank()] = status;
    if (faulty) outcome.num_in_first_step = num_in_first_step;
    if (faulty && !Stops(fault)) began = Clock::now();
    if (!faulty) {
      ++num_others_ended;
      ended = std::max(ended, Clock::now());
    }
    changed.notify_all();
    return status;
  });
  outcome.time = ended - began;
  return outcome;
}

// This rank's coordinate, as its groups count.
int RankOnAxis(const Layout& layout, int rank, const std::string& axis) {
  const MeshVector at = CoordinatesOf(layout.sizes, rank);
  if (axis == "tp") return at.tp;
  if (axis == "dp") return at.dp;
  if (axis == "cp") return at.cp;
  if (axis == "dp_cp") return GradientGroupRank(layout.sizes, at);
  if (axis == "world") return rank;
  if (axis == "pp") return at.pp;
  if (axis.starts_with("pp ")) return absl::StrCat(at.pp) == axis.substr(3, 1) ? 0 : 1;
  const int holders = layout.sizes.tp / static_cast<int>(layout.num_kv_heads);
  return at.tp % holders;  // axis kv
}

// Expects that the error names the collective that this rank was in, and the rank that made it
// fail: where it failed, or, if it was missed, at which collective.
void ExpectNamesTheCause(const Layout& layout, const Outcome& outcome, int faulty_rank,
                         const std::string& message) {
  static const std::regex place(
      R"(\[[a-z_]+ #[0-9]+, axis (tp|cp|dp|dp_cp|kv|pp( [0-9]->[0-9])?), rank [0-9] of [0-9]\] )");
  EXPECT_TRUE(std::regex_search(message, place)) << message;
  static const std::regex cause(
      R"(rank ([0-9]) of axis ([a-z_]+( [0-9]->[0-9])?) (aborted: a torn page)"
      R"(|dropped [a-z_]+ #[0-9]+ of |left the group before [a-z_]+ #[0-9]+ )"
      R"(|did not join within 2000 ms: rank [0-9] waits in ([a-z_]+) #([0-9]+) of ))");
  std::smatch match;
  ASSERT_TRUE(std::regex_search(message, match, cause)) << message;
  const std::string axis = match[2];
  EXPECT_EQ(match[1], absl::StrCat(RankOnAxis(layout, faulty_rank, axis))) << message;
  if (match[3].matched) {
    const std::string stage = absl::StrCat(CoordinatesOf(layout.sizes, faulty_rank).pp);
    EXPECT_NE(match[3].str().find(stage), std::string::npos) << message;
  }
  EXPECT_EQ(match[6].matched, Stops(outcome.plan.fault)) << message;
  // Messages that were on their way do not hide the error of a stage.
  if (outcome.plan.fault == Fault::kErrorBefore && outcome.plan.axis.starts_with("pp ")) {
    EXPECT_EQ(match[4], "aborted: a torn page") << message;
  }
  if (match[6].matched) {
    // A collective or message there that it did not join.
    std::map<std::string, int64_t> num_joined = outcome.plan.num_joined_at_stop;
    EXPECT_GE(std::stoi(match[6]), num_joined[Numbered(axis, OtherSideOf(match[5]))]) << message;
  }
}

void ExpectOthersFail(const Layout& layout, Fault fault, int64_t at, int faulty_rank) {
  SCOPED_TRACE(absl::StrCat("collective ", at, " of rank ", faulty_rank));
  const Outcome outcome = RunWithFault(layout, fault, at, faulty_rank);
  EXPECT_TRUE(outcome.plan.happened);
  EXPECT_LT(outcome.time, (Stops(fault) ? kTimeout : milliseconds(0)) + kSlack);
  EXPECT_FALSE(outcome.returned.ok());
  for (int rank = 0; rank < kNumRanks; ++rank) {
    const std::string message(outcome.status[rank].message());
    if (rank == faulty_rank && !Stops(fault)) {
      EXPECT_EQ(outcome.status[rank], InjectedError());
    } else {
      ExpectNamesTheCause(layout, outcome, faulty_rank, message);
    }
  }
}

// Calls body(0), ..., body(n - 1), several at once: they wait more than they compute.
void ForEachAtOnce(int64_t n, const std::function<void(int64_t)>& body) {
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kTrialsAtOnce; ++t) {
    threads.emplace_back([&] {
      for (int64_t i = next++; i < n; i = next++) body(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// Ends the test with a message if it hangs.
class Watchdog {
 public:
  ~Watchdog() {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      done_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

 private:
  void Watch() {
    std::unique_lock<std::mutex> lock(mutex_);
    CHECK(changed_.wait_for(lock, seconds(100), [this] { return done_; })) << "ranks hang";
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread thread_{[this] { Watch(); }};
};

class RankFailureTest : public ::testing::TestWithParam<Layout> {
 protected:
  void TestFault(Fault fault) {
    // Stages have different numbers of messages.
    std::vector<int64_t> counts;
    for (int rank = 0; rank < kNumRanks; ++rank) {
      const Outcome clean = RunWithFault(GetParam(), Fault::kNone, -1, rank);
      ASSERT_TRUE(clean.returned.ok()) << clean.returned;
      ASSERT_GT(clean.num_in_first_step, 10);
      counts.push_back(clean.num_in_first_step);
    }
    // Patterns of four messages move on from rank to rank.
    ForEachAtOnce(*std::max_element(counts.begin(), counts.end()), [&](int64_t at) {
      const auto rank = static_cast<int>((at + at / kNumRanks) % kNumRanks);
      if (at < counts[rank]) ExpectOthersFail(GetParam(), fault, at, rank);
    });
  }

 private:
  const Watchdog watchdog_{};
};

TEST_P(RankFailureTest, AnErrorBeforeEachCollective) { TestFault(Fault::kErrorBefore); }
TEST_P(RankFailureTest, AnErrorInsideEachCollective) { TestFault(Fault::kErrorInside); }
TEST_P(RankFailureTest, StoppedBeforeEachCollective) { TestFault(Fault::kStopBefore); }
TEST_P(RankFailureTest, StoppedInsideEachCollective) { TestFault(Fault::kStopInside); }

// Every rank knows the norm, and one rank knows the tensor.
TEST(NonFiniteGradientTest, IsNamedByTheRankThatHasIt) {
  for (const Layout& layout :
       {Layout{"", {1, 1, 1, 4}, 4, false, 0}, Layout{"", {2, 1, 1, 2}, 4, true, 2}}) {
    for (int culprit = 0; culprit < kNumRanks; ++culprit) {
      const auto run = [&](const Mesh& mesh) -> absl::Status {
        STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine,
                                Engine::Create(OptionsOf(layout), mesh));
        STRAKE_RETURN_IF_ERROR(
            InitializeParameters(/*seed=*/1, engine->team(), &engine->parameters()));
        STRAKE_RETURN_IF_ERROR(Step(*engine, 1));
        if (mesh.rank() == culprit) SetElement(engine->grads()[0].values, 0, HUGE_VAL);
        return engine->Update({.lr = 1e-3, .step = 2}, /*clip_norm=*/1).status();
      };
      const absl::Status status = RunOnThreads(layout.sizes, {.timeout = seconds(20)}, run);
      EXPECT_EQ(status.code(), absl::StatusCode::kInternal);
      static const std::regex named(
          R"(the gradient norm is inf; the first tensor that is not finite is the gradient of )"
          R"(model\.[a-z0-9_.]+, element [0-9]+ of f32\[[0-9, ]+\] \(inf\))");
      EXPECT_TRUE(std::regex_search(std::string(status.message()), named)) << status;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Layouts, RankFailureTest,
    ::testing::Values(Layout{"Zero1SequenceParallel", {2, 1, 1, 2}, 4, true, 1},
                      Layout{"Zero2", {2, 1, 1, 2}, 1, false, 2},
                      Layout{"SharedKeyValueHeads", {1, 1, 1, 4}, 2, true, 0},
                      Layout{"RingZero1", {2, 1, 2, 1}, 4, false, 1},
                      Layout{"GatheredKeysZero2",
                             {1, 1, 4, 1},
                             2,
                             false,
                             2,
                             {.micro_batches = 2},
                             ContextComm::kAllGather},
                      Layout{"Stages", {1, 4, 1, 1}, 4, false, 0, {.micro_batches = 6}},
                      Layout{"ZeroBubbleZero1",
                             {2, 2, 1, 1},
                             4,
                             false,
                             1,
                             {.kind = PipelineKind::kZeroBubble, .micro_batches = 4}},
                      Layout{
                          "Interleaved",
                          {1, 4, 1, 1},
                          4,
                          false,
                          0,
                          {.kind = PipelineKind::kInterleaved, .chunks = 2, .micro_batches = 4}}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace strake
