#include "parallel/mesh/run_on_threads.h"

#include <memory>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "parallel/comm/threads/threads_communicator.h"

namespace strake {

absl::Status RunOnThreads(const MeshVector& sizes, const CommunicatorOptions& options,
                          absl::FunctionRef<absl::Status(const Mesh& mesh)> body) {
  const auto worlds = CreateThreadsCommunicators(NumRanks(sizes), options);
  std::vector<std::optional<Mesh>> meshes(worlds.size());
  std::mutex mutex;
  absl::Status first_error;
  const auto fail = [&](size_t rank, const absl::Status& status) {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      // A rank that ends with an error may drop collectives, and other ranks may report that first.
      if (first_error.ok() || (absl::IsAborted(first_error) && !absl::IsAborted(status))) {
        first_error = status;
      }
    }
    worlds[rank]->Abort(status);
  };
  const auto run = [&](size_t rank) {
    const absl::Status status = [&] {
      absl::StatusOr<Mesh> mesh = Mesh::Create(sizes, *worlds[rank]);
      if (!mesh.ok()) return mesh.status();
      return body(meshes[rank].emplace(*std::move(mesh)));
    }();
    if (!status.ok()) fail(rank, status);
  };
  std::vector<std::thread> threads;
  try {
    for (size_t rank = 1; rank < worlds.size(); ++rank) threads.emplace_back(run, rank);
  } catch (const std::system_error& error) {
    fail(/*rank=*/0, absl::ResourceExhaustedError(absl::StrCat(
                         "the system gives no thread to rank ", threads.size() + 1, " of ",
                         worlds.size(), " (", error.what(), "); run fewer ranks in a process")));
  }
  run(0);
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

}  // namespace strake
