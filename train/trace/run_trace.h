// RunTrace: the steps of a run that are traced, on all ranks, and the file that shows them.
#ifndef STRAKE_TRAIN_TRACE_RUN_TRACE_H_
#define STRAKE_TRAIN_TRACE_RUN_TRACE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/op_profile.h"
#include "parallel/mesh/mesh.h"
#include "train/engine/engine.h"
#include "train/trace/step_trace.h"

namespace strake {

// What became of the file, on the first rank.
struct TraceFile {
  std::string path;
  absl::Status status = {};  // of writing it
  int64_t max_slices = 0;
  bool is_cut = false;  // whether a rank had more slices than that
};

// Every rank of the mesh makes one and calls the same functions in the same order. Times of ranks
// on one machine are of one clock; those of other machines begin where rank 0's do.
class RunTrace {
 public:
  // Traces the steps from `first` to `last`. Both references must outlive the trace. Returns an
  // error of a collective.
  static absl::StatusOr<std::unique_ptr<RunTrace>> Create(int64_t first, int64_t last,
                                                          const Mesh& mesh, Engine& engine);

  // Ends what an error has left.
  ~RunTrace() { Observe(nullptr); }

  // Stand around each step; nothing happens in those that are not traced. Errors are those of a
  // GPU.
  absl::Status BeginStep(int64_t step);
  absl::Status EndStep(int64_t step);

  // Returns whether steps have been traced, and the last one, which may come before `last` where
  // the run `ended`, is done.
  bool IsReady(int64_t step, bool ended) const;

  // Writes DIRECTORY/trace/steps_A-B.json, on the first rank, with the steps of all ranks, and
  // forgets them. Returns the error of a collective. Call it once.
  absl::StatusOr<TraceFile> Write(const std::string& directory);

  // The profile of the thread that writes checkpoints.
  OpProfile* saver() { return trace_.saver(); }

 private:
  RunTrace(int64_t first, int64_t last, const Mesh& mesh, Engine& engine);

  absl::Status SetOrigin();
  void Observe(OpProfile* profile);
  std::string PathIn(const std::string& directory) const;

  const int64_t first_, last_;
  const Mesh& mesh_;
  Engine& engine_;
  StepTrace trace_;
  int64_t origin_ = 0;
  int64_t first_traced_ = 0, last_traced_ = 0;  // 0: none yet
  bool written_ = false;
};

}  // namespace strake

#endif  // STRAKE_TRAIN_TRACE_RUN_TRACE_H_
