#include "parallel/context/context_attention.h"

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/dtype.h"
#include "core/base/status_macros.h"
#include "core/base/thread_team.h"
#include "core/device/op_call.h"
#include "core/memory/activation_arena.h"
#include "core/ops/documents.h"
#include "core/tensor/sequence_chunks.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/complex_step.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"
#include "parallel/comm/dry_run_communicator.h"
#include "parallel/context/context_parallel.h"
#include "parallel/context/context_steps.h"
#include "parallel/mesh/mesh.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake {
namespace {

using testing::AttentionTolerance;
using testing::ComplexStepGradient;
using testing::FillNormal;
using testing::MaxAbs;
using testing::RelativeError;
using testing::SameBits;
using testing::TestContext;
using testing::TestTensor;
using testing::WeightedSum;

using Lengths = std::vector<int64_t>;

constexpr ContextComm kComms[] = {ContextComm::kRing, ContextComm::kAllGather};

// Attention of whole sequences, or, with the shape of a rank, of its tokens.
struct Attention {
  Attention(DType dtype, const AttentionShape& s)
      : shape(s),
        qkv(dtype, {s.batch * s.seq_len, (s.num_heads + 2 * s.num_kv_heads) * s.head_dim}),
        dy(dtype, {s.batch * s.seq_len, s.num_heads * s.head_dim}),
        y(dtype, dy->shape()),
        lse(AccumulationDType(dtype), {s.batch, s.num_heads, s.seq_len}),
        dqkv(dtype, qkv->shape()),
        positions(DType::kI32, {s.batch * s.seq_len}) {}
  Attention(DType dtype, const AttentionShape& s, const Lengths& lengths) : Attention(dtype, s) {
    this->lengths = lengths;
    FillNormal(qkv, 1);
    FillNormal(dy, 2);
    if (lengths.empty()) return;
    EXPECT_EQ(SetDocumentPositions(lengths, s.seq_len, positions), absl::OkStatus());
  }
  Documents documents() const {
    return lengths.empty() ? Documents() : Documents{positions, lengths};
  }
  absl::Status Forward(const Context& ctx, const ContextParallel& cp) const {
    return ContextAttentionForward(ctx, cp, qkv, shape, y, lse, documents());
  }
  absl::Status Backward(const Context& ctx, const ContextParallel& cp) const {
    return ContextAttentionBackward(ctx, cp, dy, qkv, y, lse, shape, dqkv, documents());
  }
  absl::Status Run(const Context& ctx, const ContextParallel& cp) const {
    STRAKE_RETURN_IF_ERROR(Forward(ctx, cp));
    return Backward(ctx, cp);
  }

  AttentionShape shape;
  Lengths lengths;
  TestTensor qkv, dy, y, lse, dqkv, positions;
};

// Copies a rank's tokens from tensors of whole sequences, or back.
class LocalTokens {
 public:
  LocalTokens(const SequenceChunks& chunks, const AttentionShape& whole)
      : chunks_(chunks), whole_(whole) {}

  AttentionShape shape() const {
    AttentionShape local = whole_;
    local.seq_len = chunks_.NumLocal(whole_.seq_len);
    return local;
  }
  // Copies results.
  void Put(const Attention& local, const Attention& whole) const {
    Copy(whole.y, local.y, whole_.batch, /*back=*/true);
    Copy(whole.lse, local.lse, whole_.batch * whole_.num_heads, /*back=*/true);
    Copy(whole.dqkv, local.dqkv, whole_.batch, /*back=*/true);
  }
  void GetInputs(const Attention& whole, const Attention& local) const {
    Copy(whole.qkv, local.qkv, whole_.batch, /*back=*/false);
    Copy(whole.dy, local.dy, whole_.batch, /*back=*/false);
    Copy(whole.positions, local.positions, whole_.batch, /*back=*/false);
  }

 private:
  void Copy(const Tensor& whole, const Tensor& local, int64_t num_sequences, bool back) const {
    const size_t token_bytes =
        num_sequences == 0 ? 0 : whole.num_bytes() / (num_sequences * whole_.seq_len);
    char* at = static_cast<char*>(local.raw());
    for (int64_t n = 0; n < num_sequences; ++n) {
      for (const ShardRange& chunk : chunks_.Of(whole_.seq_len)) {
        char* const in_whole =
            static_cast<char*>(whole.raw()) + (n * whole_.seq_len + chunk.begin) * token_bytes;
        std::memcpy(back ? in_whole : at, back ? at : in_whole, chunk.size() * token_bytes);
        at += chunk.size() * token_bytes;
      }
    }
  }

  const SequenceChunks chunks_;
  const AttentionShape whole_;
};

absl::Status OnRanks(int num_ranks, const std::function<absl::Status(Communicator& cp)>& body) {
  return RunOnThreads({1, 1, num_ranks, 1}, {.timeout = std::chrono::seconds(20), .check = true},
                      [&](const Mesh& mesh) { return body(mesh.communicator(MeshAxis::kCp)); });
}

enum class Passes { kForward, kBoth };

// Sets the results of `whole` to those of ranks.
absl::Status RunOnRanks(int num_ranks, ContextComm comm, const Attention& whole,
                        Passes passes = Passes::kBoth) {
  return OnRanks(num_ranks, [&](Communicator& group) {
    const ContextParallel cp(group, comm);
    const LocalTokens tokens(cp.chunks(), whole.shape);
    Attention local(whole.qkv->dtype(), tokens.shape());
    local.lengths = whole.lengths;
    tokens.GetInputs(whole, local);
    const TestContext ctx(OpSet::kAuto, /*num_threads=*/1, /*arena_bytes=*/1 << 22);
    STRAKE_RETURN_IF_ERROR(local.Forward(ctx, cp));
    if (passes == Passes::kBoth) STRAKE_RETURN_IF_ERROR(local.Backward(ctx, cp));
    tokens.Put(local, whole);
    return absl::OkStatus();
  });
}

struct Case {
  std::string name;
  AttentionShape shape;
  Lengths lengths = {};
};

// Cases for C ranks, with chunks of c tokens.
std::vector<Case> CasesOf(int num_ranks) {
  const int64_t c = 6, T = 2 * c * num_ranks;
  return {
      {"tokens as chunks", {1, int64_t{2} * num_ranks, 2, 2, 4}},
      {"two sequences, groups of heads", {2, T, 4, 2, 3}},
      {"a window of a token", {1, T, 2, 1, 5, 1}},
      {"a window below a chunk", {2, T, 2, 1, 5, c - 2}},
      {"a window of a chunk", {1, T, 3, 1, 4, c}},
      {"a window of a chunk and a half", {2, T, 4, 2, 4, c + c / 2}},
      {"a window that begins behind a tile of keys", {1, int64_t{80} * num_ranks, 2, 1, 4, 50}},
      {"a cap and a scale", {1, T, 2, 1, 4, 0, 0.4, 1.5}},
      // One that ends within the first chunk, one that begins and one that ends there, the rest.
      {"documents", {2, T, 4, 2, 4}, {4, T - 4, c, 1, T - c - 1}},
      // The third begins at the middle of the sequence, with a chunk.
      {"documents and a window", {1, T, 2, 2, 4, c + 2}, {2, T / 2 - 2, c - 1, T / 2 - c + 1}},
  };
}

void ForEachRing(const std::function<void(int num_ranks, ContextComm comm, const Case&)>& body) {
  for (const int num_ranks : {1, 2, 3, 4}) {
    for (const Case& c : CasesOf(num_ranks)) {
      for (const ContextComm comm : kComms) {
        SCOPED_TRACE(absl::StrCat(num_ranks, " ranks, ",
                                  comm == ContextComm::kRing ? "ring" : "all-gather", ", ",
                                  c.name));
        body(num_ranks, comm, c);
      }
    }
  }
}

// Sums of at most 320 products of numbers near 1, whose order differs.
constexpr double kF64Bound = 1e-12;

void ExpectClose(const Attention& a, const Attention& truth, double bound) {
  ASSERT_GT(MaxAbs(truth.y), 0);
  ASSERT_GT(MaxAbs(truth.dqkv), 0);
  EXPECT_LE(RelativeError(a.y, truth.y), bound);
  // A log's absolute error is a sum's relative one.
  EXPECT_LE(RelativeError(a.lse, truth.lse) * MaxAbs(truth.lse), bound * (1 + MaxAbs(truth.lse)));
  // Two products in sequence: the rounding of dp adds to that of p.
  EXPECT_LE(RelativeError(a.dqkv, truth.dqkv), 2 * bound);
}

TEST(ContextAttentionTest, IsThatOfOneRank) {
  ForEachRing([](int num_ranks, ContextComm comm, const Case& c) {
    const Attention truth(DType::kF64, c.shape, c.lengths), a(DType::kF64, c.shape, c.lengths);
    ASSERT_EQ(truth.Run(TestContext(), ContextParallel()), absl::OkStatus());
    ASSERT_EQ(RunOnRanks(num_ranks, comm, a), absl::OkStatus());
    ExpectClose(a, truth, kF64Bound);
  });
}

TEST(ContextAttentionTest, F32FollowsF64) {
  ForEachRing([](int num_ranks, ContextComm comm, const Case& c) {
    const Attention truth(DType::kF64, c.shape, c.lengths), a(DType::kF32, c.shape, c.lengths);
    ASSERT_EQ(truth.Run(TestContext(), ContextParallel()), absl::OkStatus());
    ASSERT_EQ(RunOnRanks(num_ranks, comm, a), absl::OkStatus());
    // A cap adds 8 roundings to a score's. Each of 2C merges rounds y, and each of C sums a
    // gradient, about 5 times.
    const double score = 1 + 9 * std::sqrt(c.shape.head_dim);
    const double cap = c.shape.score_softcap == 0 ? 0 : 4 * 8 * 0x1p-24 * score;
    const double merges = 10 * num_ranks * 0x1p-24;
    ExpectClose(a, truth, AttentionTolerance(c.shape.head_dim, c.shape.seq_len) + cap + merges);
  });
}

// Both round sums in f32 once: where the sums' own rounding moves one across a tie, by a unit in
// the last place of bf16, which y passes on to the gradients through its product with dy.
TEST(ContextAttentionTest, Bf16IsThatOfOneRankToARounding) {
  ForEachRing([](int num_ranks, ContextComm comm, const Case& c) {
    const Attention truth(DType::kBf16, c.shape, c.lengths), a(DType::kBf16, c.shape, c.lengths);
    ASSERT_EQ(truth.Run(TestContext(OpSet::kAuto, 1), ContextParallel()), absl::OkStatus());
    ASSERT_EQ(RunOnRanks(num_ranks, comm, a), absl::OkStatus());
    ExpectClose(a, truth, 0x1p-7);
  });
}

// The kernels cut keys that come at once into one rank's tiles.
TEST(ContextAttentionTest, GatheredKeysGiveTheForwardBitsOfOneRank) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const Case& c :
         {Case{"chunks of a tile", {2, 256, 4, 2, 16}},
          Case{"chunks of three tiles", {1, 768, 2, 1, 8}},
          Case{"a window", {1, 256, 2, 1, 8, 100}}, Case{"a cap", {1, 256, 2, 2, 8, 0, 0, 1.5}},
          Case{"documents of whole tiles", {1, 256, 2, 1, 8}, {64, 128, 64}}}) {
      SCOPED_TRACE(c.name);
      const Attention one(dtype, c.shape, c.lengths), a(dtype, c.shape, c.lengths);
      ASSERT_EQ(one.Forward(TestContext(OpSet::kAuto, 1), ContextParallel()), absl::OkStatus());
      ASSERT_EQ(RunOnRanks(2, ContextComm::kAllGather, a, Passes::kForward), absl::OkStatus());
      EXPECT_TRUE(SameBits(a.y, one.y));
      EXPECT_TRUE(SameBits(a.lse, one.lse));
    }
  }
}

TEST(ContextAttentionTest, GivesTheSameBitsEachTime) {
  for (const ContextComm comm : kComms) {
    const Attention a(DType::kF32, {2, 48, 4, 2, 8}, {}), b(DType::kF32, {2, 48, 4, 2, 8}, {});
    ASSERT_EQ(RunOnRanks(4, comm, a), absl::OkStatus());
    ASSERT_EQ(RunOnRanks(4, comm, b), absl::OkStatus());
    EXPECT_TRUE(SameBits(a.y, b.y));
    EXPECT_TRUE(SameBits(a.lse, b.lse));
    EXPECT_TRUE(SameBits(a.dqkv, b.dqkv));
  }
}

TEST(ContextAttentionTest, GradientsByComplexStep) {
  for (const ContextComm comm : kComms) {
    for (const Case& c : {Case{"plain", {1, 8, 2, 1, 2}}, Case{"window", {1, 8, 2, 2, 2, 3}},
                          Case{"cap and documents", {1, 8, 2, 1, 2, 0, 0, 0.8}, {3, 5}}}) {
      SCOPED_TRACE(c.name);
      const Attention a(DType::kC128, c.shape, c.lengths);
      ASSERT_EQ(RunOnRanks(2, comm, a), absl::OkStatus());
      TestTensor expected(DType::kF64, a.qkv->shape());
      const TestTensor computed(DType::kC128, a.dqkv->shape());
      std::memcpy(computed->raw(), a.dqkv->raw(), computed->num_bytes());
      ComplexStepGradient(
          a.qkv,
          [&] {
            EXPECT_EQ(RunOnRanks(2, comm, a, Passes::kForward), absl::OkStatus());
            return WeightedSum(a.y, a.dy);
          },
          expected);
      EXPECT_GT(MaxAbs(expected), 0.1);
      EXPECT_LT(RelativeError(computed, expected), 1e-13);
    }
  }
}

// Payloads of a rank's keys and values of one chunk.
int64_t ChunkBytes(const AttentionShape& local) {
  return local.batch * local.seq_len / 2 * 2 * local.num_kv_heads * local.head_dim *
         int64_t{sizeof(float)};
}

TEST(ContextAttentionTest, RingCountsTheChunksThatMove) {
  for (const int num_ranks : {2, 3, 4}) {
    for (const Case& c : CasesOf(num_ranks)) {
      const auto status = OnRanks(num_ranks, [&](Communicator& group) {
        const ContextParallel cp(group);
        const LocalTokens tokens(cp.chunks(), c.shape);
        const Attention local(DType::kF32, tokens.shape(), {});
        int64_t received = 0, sent = 0;
        for (const ContextStep& step : ContextSteps(cp.chunks(), tokens.shape())) {
          received += step.received.size() * ChunkBytes(tokens.shape());
          sent += step.sent.size() * ChunkBytes(tokens.shape());
        }
        if (c.shape.window == 0) {
          const int64_t higher = num_ranks - 1 - cp.rank(), lower = cp.rank();
          EXPECT_EQ(received, (lower + 2 * higher) * ChunkBytes(tokens.shape()));
          EXPECT_EQ(sent, (higher + 2 * lower) * ChunkBytes(tokens.shape()));
        }
        const TestContext ctx(OpSet::kAuto, 1, 1 << 22);
        group.ClearStats();
        STRAKE_RETURN_IF_ERROR(local.Forward(ctx, cp));
        EXPECT_EQ(group.stats()[CollectiveKind::kRecv].bytes, received);
        EXPECT_EQ(group.stats()[CollectiveKind::kSend].bytes, sent);
        group.ClearStats();
        STRAKE_RETURN_IF_ERROR(local.Backward(ctx, cp));
        // Gradients go the way back.
        EXPECT_EQ(group.stats()[CollectiveKind::kRecv].bytes, received + sent);
        EXPECT_EQ(group.stats()[CollectiveKind::kSend].bytes, sent + received);
        EXPECT_EQ(group.stats().Total().bytes, 2 * (sent + received));
        return absl::OkStatus();
      });
      EXPECT_EQ(status, absl::OkStatus()) << c.name;
    }
  }
}

TEST(ContextAttentionTest, AllGatherCountsTheSequences) {
  const AttentionShape shape = {2, 24, 4, 2, 3};
  EXPECT_EQ(OnRanks(3,
                    [&](Communicator& group) {
                      const ContextParallel cp(group, ContextComm::kAllGather);
                      const AttentionShape own = LocalTokens(cp.chunks(), shape).shape();
                      const Attention local(DType::kF32, own, {});
                      group.ClearStats();
                      STRAKE_RETURN_IF_ERROR(local.Run(TestContext(OpSet::kAuto, 1, 1 << 22), cp));
                      const int64_t bytes = 6 * ChunkBytes(own);
                      const auto& stats = group.stats();
                      EXPECT_EQ(stats[CollectiveKind::kAllGather].bytes, 2 * bytes);
                      EXPECT_EQ(stats[CollectiveKind::kReduceScatterSum].bytes, bytes);
                      EXPECT_EQ(stats.Total().calls, 3);
                      return absl::OkStatus();
                    }),
            absl::OkStatus());
}

std::vector<std::string> OpsOf(const OpRecorder& recorder) {
  std::vector<std::string> ops;
  for (const OpCall& call : recorder.calls()) {
    if (!call.is_collective()) ops.push_back(call.ToString());
  }
  return ops;
}

// A dry run in a group that moves data, one in a group for dry runs, and the run that they plan.
absl::Status ExpectDryRunPlans(Communicator& group, ContextComm comm, const AttentionShape& shape) {
  ThreadTeam team(1);
  const AttentionShape own = LocalTokens({group.rank(), group.size()}, shape).shape();
  const Attention local(DType::kF32, own, {});
  OpRecorder planned, recorded, real;
  ActivationArena plan = ActivationArena::DryRun(), dry = ActivationArena::DryRun();
  const auto run = [&](ActivationArena& arena, Communicator& communicator, OpRecorder* recorder) {
    Context ctx(&team, &arena);
    ctx.set_recorder(recorder);
    return local.Run(ctx, ContextParallel(communicator, comm));
  };
  group.ClearStats();
  STRAKE_RETURN_IF_ERROR(run(plan, group, &planned));
  EXPECT_EQ(group.stats().Total().calls, 0);
  DryRunCommunicator recording(group.rank(), group.size(), "cp", &recorded);
  STRAKE_RETURN_IF_ERROR(run(dry, recording, &recorded));
  STRAKE_ASSIGN_OR_RETURN(ActivationArena arena, ActivationArena::Create(plan.peak_bytes()));
  arena.set_poison(true);
  STRAKE_RETURN_IF_ERROR(run(arena, group, &real));
  EXPECT_GT(plan.peak_bytes(), 0);
  EXPECT_EQ(arena.peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(dry.peak_bytes(), plan.peak_bytes());
  EXPECT_EQ(arena.used_bytes(), 0);
  EXPECT_EQ(OpsOf(planned), OpsOf(real));
  EXPECT_EQ(OpsOf(recorded), OpsOf(real));
  double bytes = 0;
  for (const OpCall& call : recorded.calls()) {
    if (call.is_collective()) bytes += call.cost.bytes;
  }
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(bytes, group.stats().Total().bytes);
  return absl::OkStatus();
}

TEST(ContextAttentionTest, DryRunsPlanMemoryAndRecordCalls) {
  for (const int num_ranks : {2, 3, 4}) {
    for (const ContextComm comm : kComms) {
      for (const int64_t window : {0, 9}) {
        EXPECT_EQ(OnRanks(num_ranks,
                          [&](Communicator& group) {
                            return ExpectDryRunPlans(group, comm,
                                                     {2, int64_t{12} * num_ranks, 4, 2, 8, window});
                          }),
                  absl::OkStatus());
      }
    }
  }
}

// y, and the gradients of queries and of keys and values, are rounded once.
TEST(ContextAttentionTest, Bf16IsSummedInF32) {
  for (const ContextComm comm : kComms) {
    OpRecorder recorder;
    ThreadTeam team(1);
    ActivationArena plan = ActivationArena::DryRun();
    Context ctx(&team, &plan);
    ctx.set_recorder(&recorder);
    DryRunCommunicator group(/*rank=*/1, /*size=*/3, "cp", &recorder);
    const Attention local(DType::kBf16, {2, 8, 4, 2, 8});
    ASSERT_EQ(local.Run(ctx, ContextParallel(group, comm)), absl::OkStatus());
    int64_t num_casts = 0;
    for (const OpCall& call : recorder.calls()) {
      num_casts += call.op == std::string("cast");
      if (call.op == std::string("partial_attention") && call.Has("dq")) {
        EXPECT_EQ(call.Find("dq")->dtype, DType::kF32);
        EXPECT_EQ(call.Find("dkv")->dtype, DType::kF32);
      }
    }
    EXPECT_EQ(num_casts, 3);
  }
}

}  // namespace
}  // namespace strake
