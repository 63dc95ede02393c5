// NcclHub: rank 0's part of the control traffic over TCP: it matches the ranks' calls.
//
// Every process sends its calls with tensors on the CPU, with their data, to rank 0. There they are
// compared and executed, in rank order, as between ranks that share memory; each rank receives its
// part of the result. Calls with tensors on a GPU come without data and are only compared.
#ifndef STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_
#define STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "parallel/comm/collective_call.h"
#include "parallel/comm/control_message.h"
#include "parallel/comm/threads/shared_memory_pieces.h"

namespace strake {

// The bytes that rank `rank` of a group passes into a call, and those it receives.
int64_t InputBytes(const CollectiveCall& call, int rank);
int64_t OutputBytes(const CollectiveCall& call, int rank);

// The new group that a split gives the ranks of one color.
struct NcclSplit {
  uint64_t group = 0;
  int color_index = 0;            // among the colors, in their order
  std::vector<int> parent_ranks;  // by rank in the new group

  std::vector<std::byte> Encode() const;
  // InvalidArgument unless the bytes give `parent_rank` a group of ranks of its parent's, of
  // `parent_size`.
  static absl::StatusOr<NcclSplit> Decode(const std::vector<std::byte>& bytes, int parent_rank,
                                          int parent_size);
};

class NcclHub {
 public:
  // Group 0 is all processes.
  explicit NcclHub(int num_processes);

  // Takes a call of rank join.from of a group, which process `process` sent. Returns nothing, all
  // ranks' results, or one kFail: ranks disagree, or one has left. InvalidArgument names what that
  // process cannot have sent, and its value.
  absl::StatusOr<std::vector<ControlMessage>> Join(int process, ControlMessage join);
  // Takes the end of a process. Returns nothing, or one kFail if others wait for it.
  std::vector<ControlMessage> Leave(int process);

 private:
  struct Operation {
    std::string axis;
    std::vector<int> ranks;  // by slot: all of the group, or the sender and the receiver
    JoinedCalls calls;       // by slot, as is the rest
    std::vector<int64_t> tickets;
    std::vector<std::vector<std::byte>> inputs, outputs;
    int num_joined = 0;
  };
  // Group, sender and receiver (-1 for a collective), and the sequence number.
  using Key = std::tuple<uint64_t, int, int, int64_t>;

  absl::Status CheckJoin(int process, const ControlMessage& join) const;
  Operation& Find(const Key& key, const ControlMessage& join);
  std::vector<ControlMessage> Finish(uint64_t group, Operation& operation);
  std::vector<ControlMessage> FailIfSomebodyLeft(uint64_t group, const Operation& operation) const;
  void Move(Operation& operation) const;
  void MakeGroups(uint64_t group, Operation& split);

  std::map<uint64_t, std::vector<int>> processes_;  // of a group, by rank
  std::vector<bool> left_;                          // by process
  std::map<Key, Operation> incomplete_;
  uint64_t num_groups_ = 1;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_NCCL_NCCL_HUB_H_
