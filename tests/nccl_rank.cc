// nccl_rank TASK TIMEOUT_MS: a process of a group that meets as NCCL's processes do (RANK,
// WORLD_SIZE, MASTER_ADDR, MASTER_PORT). NCCL itself is a fake, so tensors are on the CPU. Prints
// what came of it.
//
//   N      sums N numbers over the ranks, and compares the bits with those of ranks on threads
//   wait   waits for the others, again and again, and prints a line after the first time
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "core/base/status_macros.h"
#include "core/testing/test_tensor.h"
#include "parallel/comm/nccl/nccl_communicator.h"
#include "parallel/comm/testing/nccl/contract_nccl.h"
#include "parallel/mesh/run_on_threads.h"

namespace strake::testing {
namespace {

absl::Status Sum(Communicator& comm, const Tensor& x) {
  FillNormal(x, comm.rank());
  return comm.AllReduceSum(x).Wait().status();
}

absl::Status SumLikeThreads(Communicator& world, int64_t n) {
  TestTensor here(DType::kF32, {n}), on_threads(DType::kF32, {n});
  STRAKE_RETURN_IF_ERROR(Sum(world, here));
  STRAKE_RETURN_IF_ERROR(
      RunOnThreads({.dp = 1, .pp = 1, .cp = 1, .tp = world.size()}, {}, [&](const Mesh& mesh) {
        TestTensor own(DType::kF32, {n});
        return Sum(mesh.communicator(MeshAxis::kTp), mesh.rank() == 0 ? on_threads : own);
      }));
  if (SameBits(here, on_threads)) return absl::OkStatus();
  return absl::InternalError("other bits than on threads");
}

absl::Status WaitAgainAndAgain(Communicator& world) {
  STRAKE_RETURN_IF_ERROR(world.Barrier());
  std::puts("met");
  std::fflush(stdout);
  while (true) STRAKE_RETURN_IF_ERROR(world.Barrier());
}

absl::Status Run(const std::string& task, int timeout_ms) {
  SetNcclBehavior({.start_alone = true});
  STRAKE_ASSIGN_OR_RETURN(const NcclRendezvous rendezvous, NcclRendezvousFromEnvironment());
  STRAKE_ASSIGN_OR_RETURN(
      const std::unique_ptr<Communicator> world,
      CreateNcclWorld(rendezvous, {.timeout = std::chrono::milliseconds(timeout_ms)},
                      ContractNccl()));
  if (task == "wait") return WaitAgainAndAgain(*world);
  return SumLikeThreads(*world, std::stoi(task));
}

}  // namespace
}  // namespace strake::testing

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const absl::Status status = strake::testing::Run(argv[1], std::stoi(argv[2]));
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
