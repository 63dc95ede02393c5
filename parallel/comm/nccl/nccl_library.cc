#include "parallel/comm/nccl/nccl_library.h"

#include "absl/strings/str_cat.h"
#include "core/base/dynamic_library.h"
#include "core/base/status_macros.h"

namespace strake {
namespace {

constexpr int kFirstVersion = 21800;

template <typename F>
absl::Status Find(const DynamicLibrary& library, const char* name, F** function) {
  STRAKE_ASSIGN_OR_RETURN(*function, library.Function<F>(name));
  return absl::OkStatus();
}

absl::Status FindAll(const DynamicLibrary& library, NcclLibrary* nccl) {
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGetUniqueId", &nccl->get_unique_id));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclCommInitRankConfig", &nccl->comm_init_rank_config));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclCommSplit", &nccl->comm_split));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclCommDestroy", &nccl->comm_destroy));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclCommAbort", &nccl->comm_abort));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclCommGetAsyncError", &nccl->comm_get_async_error));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGetErrorString", &nccl->get_error_string));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGetLastError", &nccl->get_last_error));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGroupStart", &nccl->group_start));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGroupEnd", &nccl->group_end));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclAllReduce", &nccl->all_reduce));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclReduce", &nccl->reduce));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclReduceScatter", &nccl->reduce_scatter));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclAllGather", &nccl->all_gather));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclBroadcast", &nccl->broadcast));
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclSend", &nccl->send));
  return Find(library, "ncclRecv", &nccl->recv);
}

absl::StatusOr<NcclLibrary> Load() {
  STRAKE_ASSIGN_OR_RETURN(const DynamicLibrary library,
                          DynamicLibrary::Load("NCCL", {"libnccl.so.2"}));
  NcclLibrary nccl;
  STRAKE_RETURN_IF_ERROR(Find(library, "ncclGetVersion", &nccl.get_version));
  int version = 0;
  (void)nccl.get_version(&version);
  STRAKE_RETURN_IF_ERROR(CheckNcclVersion(version, library.path()));
  STRAKE_RETURN_IF_ERROR(FindAll(library, &nccl));
  return nccl;
}

}  // namespace

absl::StatusOr<const NcclLibrary*> LoadNccl() {
  static const auto* const nccl = new absl::StatusOr<NcclLibrary>(Load());
  if (!nccl->ok()) return nccl->status();
  return &**nccl;
}

absl::Status CheckNcclVersion(int version, absl::string_view path) {
  if (version >= kFirstVersion) return absl::OkStatus();
  // Versions up to 2.8 are written like 2803, later ones like 20900.
  const int base = version < 10000 ? 1000 : 10000;
  return absl::FailedPreconditionError(
      absl::StrCat("[nccl] ", path, " is NCCL ", version / base, ".", version % base / 100, ".",
                   version % 100, ", and 2.18 or later is needed: install it, or name the folder ",
                   "of another libnccl.so.2 in LD_LIBRARY_PATH"));
}

absl::Status NcclStatus(const NcclLibrary& nccl, NcclResult result, absl::string_view call,
                        NcclComm comm) {
  if (result == NcclResult::kSuccess || result == NcclResult::kInProgress) return absl::OkStatus();
  const char* const last = nccl.get_last_error(comm);
  const bool has_last = last != nullptr && *last != '\0';
  return absl::InternalError(absl::StrCat(
      "[nccl] ", call, " failed: ", nccl.get_error_string(result), has_last ? "; NCCL says: " : "",
      has_last ? last : "", "; NCCL_DEBUG=WARN in the environment prints more"));
}

}  // namespace strake
