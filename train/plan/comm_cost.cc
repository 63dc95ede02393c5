#include "train/plan/comm_cost.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/device/op_call.h"
#include "glog/logging.h"
#include "models/transformer.h"
#include "train/engine/stage_models.h"
#include "train/engine/step_record.h"

namespace strake {
namespace {

using Kind = CollectiveKind;

// What a rank sends in a call: messages, and the part of the payload that they are together.
struct Sent {
  int messages;
  double payloads;
};
Sent SentIn(Kind kind, int num_ranks) {
  const int round = num_ranks - 1;
  switch (kind) {
    case Kind::kAllReduceSum:
    case Kind::kAllReduceMax:
      return {2 * round, 2.0 * round / num_ranks};
    case Kind::kReduceScatterSum:
    case Kind::kAllGather:
      return {round, 1.0 * round / num_ranks};
    case Kind::kSend:
      return {1, 1};
    case Kind::kRecv:
      return {0, 0};
    default:
      LOG(FATAL) << "[comm_cost] a training step has no " << CollectiveName(kind);
  }
}

// The order of a phase's rows.
constexpr const char* kAxes[] = {"tp", "kv", "pp", "cp", "dp", "dp_cp"};
constexpr Kind kKinds[] = {Kind::kAllReduceMax, Kind::kAllReduceSum, Kind::kReduceScatterSum,
                           Kind::kAllGather,    Kind::kSend,         Kind::kRecv};

// The position of the first entry that satisfies `is` in one of the lists above.
template <typename List, typename Is>
int IndexOf(const List& list, const OpCall& call, const Is& is) {
  const auto found = std::find_if(std::begin(list), std::end(list), is);
  CHECK(found != std::end(list)) << "[comm_cost] no place for " << call.ToString();
  return static_cast<int>(found - std::begin(list));
}

// The phase of a layer that a step records; all others are in the blocks.
CommPhase PhaseOf(const OpCall& call) {
  static const auto* phases =
      new std::map<std::string, CommPhase>{{"tokens", CommPhase::kEmbedding},
                                           {"head", CommPhase::kHead},
                                           {"loss", CommPhase::kLoss},
                                           {"tied table", CommPhase::kTiedTable},
                                           {"gradients", CommPhase::kGradients},
                                           {"partial gradients", CommPhase::kPartialGradients},
                                           {"weights", CommPhase::kShardedOptimizer},
                                           {"clipping", CommPhase::kNorm},
                                           {"control", CommPhase::kControl}};
  const auto found = phases->find(call.layer);
  if (found != phases->end()) return found->second;
  if (call.axis == "cp") return CommPhase::kContext;
  if (call.axis == "pp") return CommPhase::kPipeline;
  return call.pass == Pass::kForward ? CommPhase::kForward : CommPhase::kBackward;
}

void CheckOptions(const CommCostOptions& o) {
  CHECK(o.seq_len > 0 && o.micro_batch > 0 && o.num_micro_batches > 0)
      << "[comm_cost] seq_len " << o.seq_len << ", micro_batch " << o.micro_batch
      << ", num_micro_batches " << o.num_micro_batches;
  const int64_t num_tokens = o.seq_len / o.sizes.cp * o.micro_batch;  // of a rank of cp
  CHECK(!o.sequence_parallel || num_tokens % o.sizes.tp == 0)
      << "[comm_cost] " << num_tokens << " tokens over " << o.sizes.tp
      << " sequence-parallel ranks";
  CHECK(o.rank >= 0 && o.rank < NumRanks(o.sizes))
      << "[comm_cost] rank " << o.rank << " in sizes " << o.sizes.ToString();
}

// Checks in floating point, which does not overflow, from a step of few tokens.
absl::Status CheckTotal(const CommCostOptions& o) {
  constexpr int64_t kFewTokens = 64;
  EngineOptions few = o;
  few.seq_len = std::min(o.seq_len, kFewTokens * o.sizes.tp * o.sizes.cp);
  few.micro_batch = few.seq_len < o.seq_len ? 1 : std::min(o.micro_batch, kFewTokens);
  // A pipeline may need as many micro-batches as stages.
  const int64_t num_recorded = std::min<int64_t>(o.num_micro_batches, o.sizes.pp);
  double bytes = 0;
  for (const OpCall& call : RecordStep(few, o.sizes, o.rank, num_recorded).calls) {
    bytes += call.cost.bytes;
  }
  const double most = bytes / num_recorded * double(o.num_micro_batches) *
                      (double(o.seq_len) / few.seq_len) * (double(o.micro_batch) / few.micro_batch);
  if (most < 0x1p62) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "[comm_cost] ", o.num_micro_batches, " micro-batches of ", o.micro_batch, " sequences of ",
      o.seq_len, " tokens make up to ", most, " bytes; at most 2^62 are counted"));
}

}  // namespace

const char* CommPhaseName(CommPhase phase) {
  static constexpr const char* kNames[] = {
      "embedding",         "forward",  "backward",   "head",      "loss",
      "context",           "pipeline", "tied_table", "gradients", "partial_gradients",
      "sharded_optimizer", "norm",     "control"};
  return kNames[static_cast<int>(phase)];
}

double CommCostRow::RingBytes() const {
  return double(bytes) * SentIn(collective, num_ranks).payloads;
}

double CommCostRow::Seconds(const CommLink& link) const {
  const double messages = double(calls) * SentIn(collective, num_ranks).messages;
  return RingBytes() / link.bytes_per_second + messages * link.latency_seconds;
}

absl::StatusOr<std::vector<CommCostRow>> CommCost(const CommCostOptions& options) {
  CheckOptions(options);
  CommCostOptions o = options;
  STRAKE_RETURN_IF_ERROR(CheckTensorParallel(o.model, o.sizes.tp));
  STRAKE_RETURN_IF_ERROR(CheckSequence(o.seq_len, o.sizes.cp));
  o.pipeline.micro_batches = o.num_micro_batches;
  STRAKE_RETURN_IF_ERROR(CheckPipeline(o, o.sizes.pp));
  // Few tokens may be cut elsewhere.
  static_cast<EngineOptions&>(o) = WithLayersOfParts(o, o.sizes.pp);
  STRAKE_RETURN_IF_ERROR(CheckTotal(o));
  std::map<std::tuple<CommPhase, int, int>, CommCostRow> rows;
  const StepRecord record = RecordStep(o, o.sizes, o.rank, o.num_micro_batches);
  for (const OpCall& call : record.calls) {
    if (!call.is_collective() || call.cost.bytes == 0) continue;
    const CommPhase phase = PhaseOf(call);
    const int axis = IndexOf(kAxes, call, [&](const char* name) { return call.axis == name; });
    const int kind = IndexOf(
        kKinds, call, [&](Kind each) { return std::string(CollectiveName(each)) == call.op; });
    CommCostRow& row = rows.try_emplace({phase, axis, kind},
                                        CommCostRow{phase, call.axis, call.num_ranks, kKinds[kind]})
                           .first->second;
    row.calls += call.times;
    row.bytes += call.times * static_cast<int64_t>(call.cost.bytes);
  }
  std::vector<CommCostRow> result;
  for (const auto& [key, row] : rows) result.push_back(row);
  return result;
}

}  // namespace strake
