#include "core/testing/emulated_gpu_graphs.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace strake::testing {

EmulatedGraphLaunch::EmulatedGraphLaunch(std::shared_ptr<const std::vector<EmulatedNode>> nodes,
                                         uint64_t seed, uint64_t number)
    : nodes_(std::move(nodes)), seed_(seed), number_(number) {
  std::seed_seq seeds = {seed, number / 3};
  random_.seed(seeds);
  before_.resize(nodes_->size());
  for (size_t node = 0; node < nodes_->size(); ++node) {
    for (const size_t other : (*nodes_)[node].after) before_[other].push_back(node);
  }
}

absl::Status EmulatedGraphLaunch::Run() {
  if (num_left_ == 0) Begin();
  while (num_left_ > 0) {
    bool ran = false;
    for (const size_t node : Drawn()) {
      const absl::Status status = (*nodes_)[node].run();
      if (absl::IsUnavailable(status)) continue;
      if (!status.ok()) {
        return absl::Status(status.code(),
                            absl::StrCat(std::string(status.message()), " (node ", node, " of ",
                                         nodes_->size(), " of a graph, in the order of launch ",
                                         number_, " with seed ", seed_, ")"));
      }
      Finish(node);
      ran = true;
      break;
    }
    if (!ran) return absl::UnavailableError("the graph waits for other work");
  }
  return absl::OkStatus();
}

void EmulatedGraphLaunch::Begin() {
  num_left_ = nodes_->size();
  ranks_.clear();
  num_awaited_.clear();
  for (size_t node = 0; node < nodes_->size(); ++node) {
    const EmulatedNode& each = (*nodes_)[node];
    if (ranks_.count(each.stream) == 0) ranks_[each.stream] = random_();
    num_awaited_.push_back(each.after.size());
    if (each.after.empty()) ready_.push_back(node);
  }
}

std::vector<size_t> EmulatedGraphLaunch::Drawn() {
  std::vector<size_t> drawn = ready_;
  std::shuffle(drawn.begin(), drawn.end(), random_);
  if (number_ % 3 == 0) return drawn;
  const auto rank = [&](size_t node) { return ranks_.at((*nodes_)[node].stream); };
  const bool reversed = number_ % 3 == 2;
  std::stable_sort(drawn.begin(), drawn.end(), [&](size_t a, size_t b) {
    return reversed ? rank(b) < rank(a) : rank(a) < rank(b);
  });
  return drawn;
}

void EmulatedGraphLaunch::Finish(size_t node) {
  --num_left_;
  ready_.erase(std::find(ready_.begin(), ready_.end(), node));
  for (const size_t next : before_[node]) {
    if (--num_awaited_[next] == 0) ready_.push_back(next);
  }
}

}  // namespace strake::testing
