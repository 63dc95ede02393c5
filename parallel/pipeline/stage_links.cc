#include "parallel/pipeline/stage_links.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "glog/logging.h"

namespace strake {
namespace {

constexpr int kNumColors = 3;

// Edge i is between stages i and i + 1. Edges of one color have no stage in common, so that one
// split makes all their groups. In a ring of an odd number of stages the last edge needs a third
// color.
int ColorOf(int edge, int stages) {
  return edge == stages - 1 && stages % 2 == 1 ? kNumColors - 1 : edge % 2;
}

}  // namespace

absl::StatusOr<StageLinks> StageLinks::Create(Communicator& pp, int chunks, CallSite site) {
  const int stages = pp.size(), stage = pp.rank();
  const int num_edges = chunks > 1 && stages > 1 ? stages : stages - 1;
  StageLinks links;
  for (int color = 0; color < kNumColors; ++color) {
    bool is_used = false;
    std::optional<int> mine;
    for (int edge = 0; edge < num_edges; ++edge) {
      if (ColorOf(edge, stages) != color) continue;
      is_used = true;
      if (edge == stage || (edge + 1) % stages == stage) mine = edge;
    }
    if (!is_used) continue;
    for (const PipelinePass pass : {PipelinePass::kForward, PipelinePass::kInputGradient}) {
      std::vector<int> members = {stage};
      if (mine) members = {*mine, (*mine + 1) % stages};
      if (pass == PipelinePass::kInputGradient) std::swap(members.front(), members.back());
      STRAKE_ASSIGN_OR_RETURN(
          std::unique_ptr<Communicator> group,
          pp.SplitInto(members, absl::StrCat(pp.axis(), " ", members.front(), "->", members.back()),
                       site));
      if (!mine) continue;
      Groups& groups = group->rank() == 0 ? links.to_ : links.from_;
      groups[static_cast<int>(pass)] = std::move(group);
    }
  }
  return links;
}

Communicator& StageLinks::GroupOf(const Groups& groups, PipelinePass pass) {
  CHECK(pass != PipelinePass::kWeightGradient) << "[stage_links] weight gradients stay";
  const auto& group = groups[static_cast<int>(pass)];
  CHECK(group != nullptr) << "[stage_links] no stage is there for pass " << static_cast<int>(pass);
  return *group;
}

Pending<Tensor> StageLinks::Send(PipelinePass pass, const Tensor& x, CallSite site) {
  Communicator& group = GroupOf(to_, pass);
  Pending<Tensor> sent = group.Send(x, /*to=*/1, site);
  group.StartMessages();
  return sent;
}

Pending<Tensor> StageLinks::Receive(PipelinePass pass, Tensor y, CallSite site) {
  Communicator& group = GroupOf(from_, pass);
  Pending<Tensor> received = group.Recv(std::move(y), /*from=*/0, site);
  group.StartMessages();
  return received;
}

std::vector<Communicator*> StageLinks::communicators() const {
  std::vector<Communicator*> all;
  for (const Groups* groups : {&to_, &from_}) {
    for (const auto& group : *groups) {
      if (group != nullptr) all.push_back(group.get());
    }
  }
  return all;
}

}  // namespace strake
