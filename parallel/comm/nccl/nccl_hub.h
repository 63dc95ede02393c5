// NcclHub: rank 0's part in what ranks tell each other over TCP: it meets their calls.
//
// Every process sends its calls with tensors on the CPU, the data included, to rank 0, where they
// are compared and done, in rank order, as by ranks that share memory; each rank gets its part of
// the result. Calls with tensors on a GPU come, without data, to be compared alone.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "parallel/comm/nccl/nccl_message.h"
#include "parallel/comm/threads/shared_memory_pieces.h"

namespace strake {

// Bytes that rank `rank` of a group puts into a call, and gets out of it.
int64_t InputBytes(const CollectiveCall& call, int rank);
int64_t OutputBytes(const CollectiveCall& call, int rank);

// What the ranks of one color learn of a split: a new group.
struct NcclSplit {
  uint64_t group = 0;
  int color_index = 0;            // among the colors, in their order
  std::vector<int> parent_ranks;  // by rank in the new group

  std::vector<std::byte> Encode() const;
  static NcclSplit Decode(const std::vector<std::byte>& bytes);
};

class NcclHub {
 public:
  // Group 0 is all processes.
  explicit NcclHub(int num_processes);

  // To a process, or to all for -1.
  struct Delivery {
    int to;
    NcclMessage message;
  };
  // A rank (content.from, of the group) joins: nothing, all ranks' results, or a failure.
  std::vector<Delivery> Join(NcclMessage join);
  // A process comes to its end: a failure if others wait for it.
  std::vector<Delivery> Leave(int process);

 private:
  struct Operation {
    std::string axis;
    std::vector<int> ranks;  // by slot: all of the group, or the sender and the receiver
    JoinedCalls calls;       // by slot, as is the rest
    std::vector<int> tickets;
    std::vector<std::vector<std::byte>> inputs, outputs;
    int num_joined = 0;
  };
  // Group, sender and receiver (-1 for a collective), and the sequence number.
  using Key = std::tuple<uint64_t, int, int, int64_t>;

  std::vector<Delivery> Finish(uint64_t group, Operation& operation);
  std::vector<Delivery> FailIfSomebodyLeft(uint64_t group, const Operation& operation) const;
  void Move(Operation& operation) const;
  void MakeGroups(uint64_t group, Operation& split);

  std::map<uint64_t, std::vector<int>> processes_;  // of a group, by rank
  std::vector<bool> left_;                          // by process
  std::map<Key, Operation> incomplete_;
  uint64_t num_groups_ = 1;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_
