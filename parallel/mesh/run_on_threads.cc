#include "parallel/mesh/run_on_threads.h"

#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "parallel/comm/threads_communicator.h"

namespace strake {

absl::Status RunOnThreads(const MeshVector& sizes, const CommunicatorOptions& options,
                          absl::FunctionRef<absl::Status(const Mesh& mesh)> body) {
  const auto worlds = CreateThreadsCommunicators(NumRanks(sizes), options);
  std::vector<std::optional<Mesh>> meshes(worlds.size());
  std::mutex mutex;
  absl::Status first_error;
  const auto run = [&](size_t rank) {
    const absl::Status status = [&] {
      absl::StatusOr<Mesh> mesh = Mesh::Create(sizes, *worlds[rank]);
      if (!mesh.ok()) return mesh.status();
      return body(meshes[rank].emplace(*std::move(mesh)));
    }();
    if (status.ok()) return;
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (first_error.ok()) first_error = status;
    }
    worlds[rank]->Abort(status);
  };
  std::vector<std::thread> threads;
  for (size_t rank = 1; rank < worlds.size(); ++rank) threads.emplace_back(run, rank);
  run(0);
  for (std::thread& thread : threads) thread.join();
  return first_error;
}

}  // namespace strake
