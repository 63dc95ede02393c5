// What an Engine does with fingerprints: identifies its state, and compares replicas.
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "core/base/fingerprint.h"
#include "core/base/status_macros.h"
#include "models/layer_parameters.h"
#include "train/engine/arena_fingerprint.h"
#include "train/engine/engine.h"

namespace strake {
namespace {

using Wanted = absl::FunctionRef<bool(const ParameterSegment&)>;

// The weights of one rank, and what computes their fingerprint.
struct RankWeights {
  const Context& ctx;
  const ParameterArena& parameters;

  absl::StatusOr<Fingerprint> Of(Wanted wanted) const {
    return FingerprintOfArrays(ctx, parameters, {{"", parameters.values()}}, wanted);
  }
};

Tensor TensorOf(Fingerprint& fingerprint) { return Tensor(fingerprint.lanes, DType::kI64, {2}); }

absl::Status Compare(Communicator& group, const RankWeights& weights, Wanted wanted,
                     absl::string_view name) {
  STRAKE_ASSIGN_OR_RETURN(Fingerprint fingerprint, weights.Of(wanted));
  return group.CompareReplicated(TensorOf(fingerprint), name);
}

// Compares the wanted segments, which every rank of the group holds. Where their sums differ,
// compares one after the other, to name the tensor.
absl::Status CompareSegments(Communicator& group, const RankWeights& weights, Wanted wanted) {
  if (group.size() == 1) return absl::OkStatus();
  const absl::Status all = Compare(group, weights, wanted, "the weights' fingerprint");
  if (!absl::IsDataLoss(all)) return all;
  for (const ParameterRecord& record : weights.parameters.records()) {
    for (const ParameterSegment& each : record.segments) {
      if (!wanted(each)) continue;
      STRAKE_RETURN_IF_ERROR(Compare(
          group, weights, [&](const ParameterSegment& segment) { return &segment == &each; },
          absl::StrCat("the fingerprint of ", each.name)));
    }
  }
  return all;
}

}  // namespace

absl::Status Engine::CompareReplicas() {
  STRAKE_RETURN_IF_ERROR(GatherWeights());
  STRAKE_RETURN_IF_ERROR(CompareReplicas(base_));
  STRAKE_RETURN_IF_ERROR(CompareReplicas(parameters_));
  return CompareTiedTable();
}

// The first and the last stage have a copy. The others join, which keeps the ranks of pp in step.
absl::Status Engine::CompareTiedTable() {
  if (!has_stages() || !options_.model.tie_word_embeddings) return absl::OkStatus();
  const std::string name = TensorName(TensorNamesOf(options_.model).token_embedding) + ".weight";
  const RankWeights weights = {*context_, base() != nullptr ? base_ : parameters_};
  STRAKE_ASSIGN_OR_RETURN(Fingerprint fingerprint, weights.Of([&](const ParameterSegment& segment) {
    return segment.name == name;
  }));
  Communicator& pp = mesh_->communicator(MeshAxis::kPp);
  const int ends[] = {0, pp.size() - 1};
  return pp.CompareReplicated(TensorOf(fingerprint), absl::StrCat("the fingerprint of ", name),
                              ends);
}

absl::Status Engine::CompareReplicas(const ParameterArena& arena) {
  if (arena.num_elements() == 0) return absl::OkStatus();
  const RankWeights weights = {*context_, arena};
  STRAKE_RETURN_IF_ERROR(CompareSegments(mesh_->gradient_group(), weights,
                                         [](const ParameterSegment&) { return true; }));
  const int num_ranks = tp_.size();
  STRAKE_RETURN_IF_ERROR(CompareSegments(
      mesh_->communicator(MeshAxis::kTp), weights,
      [=](const ParameterSegment& segment) { return segment.slice.num_holders == num_ranks; }));
  Communicator* const kv = partial_gradients_->kv_communicator();
  if (kv == nullptr) return absl::OkStatus();
  return CompareSegments(*kv, weights, [=](const ParameterSegment& segment) {
    return segment.slice.num_holders > 1 && segment.slice.num_holders < num_ranks;
  });
}

absl::StatusOr<Fingerprint> Engine::StateFingerprint() const {
  std::vector<ArenaArray> arrays;
  const auto add = [&](const char* suffix, const std::vector<ArenaPart>& parts) {
    for (const ArenaPart& part : parts) arrays.push_back({suffix, part.values, part.begin});
  };
  if (mesh_->gradient_group().rank() == 0 ||
      weight_gather_.has_value()) {  // else others' state is the same
    add(".exp_avg", optimizer_->Parts(optimizer_->exp_avg()));
    add(".exp_avg_sq", optimizer_->Parts(optimizer_->exp_avg_sq()));
    add("", optimizer_->UnroundedWeights());
  }
  STRAKE_ASSIGN_OR_RETURN(
      Fingerprint fingerprint,
      FingerprintOfArrays(*context_, parameters_, arrays,
                          [](const ParameterSegment& segment) { return segment.slice.owner; }));
  for (const MeshAxis axis : kMeshAxes) {
    Communicator& group = mesh_->communicator(axis);
    if (group.size() == 1) continue;
    STRAKE_RETURN_IF_ERROR(group.AllReduceSum(TensorOf(fingerprint)).Wait().status());
  }
  return fingerprint;
}

}  // namespace strake
