#include "parallel/comm/mpi/mpi_transport.h"

#include <algorithm>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "parallel/comm/mpi/mpi_operation.h"

namespace strake {
namespace {

constexpr int kMessageTag = 0;
// The number of messages that can arrive without being queued by MPI.
constexpr int kNumReceives = 16;

std::string ErrorString(int error) {
  char text[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(error, text, &length);
  return std::string(text, length);
}

int ProcessesOnThisMachine() {
  MPI_Comm machine;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  int size = 1;
  MPI_Comm_size(machine, &size);
  MPI_Comm_free(&machine);
  return size;
}

MPI_Comm DuplicateWorld() {
  MPI_Comm duplicate;
  MPI_Comm_dup(MPI_COMM_WORLD, &duplicate);
  // Once MPI is initialized, errors are returned to us.
  MPI_Comm_set_errhandler(duplicate, MPI_ERRORS_RETURN);
  return duplicate;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiTransport>> MpiTransport::Create() {
  int initialized = 0;
  MPI_Initialized(&initialized);
  if (initialized) {
    return absl::FailedPreconditionError("[mpi] MPI was initialized before in this process");
  }
  int provided = 0;
  // Until an error handler is set, MPI prints an error of MPI_Init itself, and exits.
  if (const int error = MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided);
      error != MPI_SUCCESS) {
    return absl::UnavailableError(absl::StrCat("[mpi] MPI_Init: ", ErrorString(error)));
  }
  if (provided < MPI_THREAD_SERIALIZED) {
    return absl::UnimplementedError(
        absl::StrCat("[mpi] this MPI offers thread level ", provided,
                     "; MPI_THREAD_SERIALIZED is needed: install one built with threads"));
  }
  auto transport = std::unique_ptr<MpiTransport>(new MpiTransport);
  transport->Start();
  return transport;
}

void MpiTransport::Start() {
  MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
  MPI_Comm_size(MPI_COMM_WORLD, &size_);
  crowded_ = ProcessesOnThisMachine() > static_cast<int>(std::thread::hardware_concurrency());
  messages_ = DuplicateWorld();
  streams_ = DuplicateWorld();
  int* largest = nullptr;
  int found = 0;
  MPI_Comm_get_attr(MPI_COMM_WORLD, MPI_TAG_UB, &largest, &found);
  max_tag_ = found ? *largest : 32767;  // what MPI guarantees
  const int64_t counts_bytes = 2 * size_ * static_cast<int64_t>(sizeof(int64_t));
  incoming_.resize(kNumReceives);
  for (Incoming& incoming : incoming_) {
    incoming.bytes.resize(kMaxControlTextBytes + counts_bytes + kMpiInlineBytes);
    Post(incoming);
  }
}

int MpiTransport::NewTags() {
  const int tag = next_tag_;
  next_tag_ = next_tag_ > max_tag_ - 4 ? 0 : next_tag_ + 2;
  return tag;
}

void MpiTransport::Post(Incoming& incoming) {
  Check(MPI_Irecv(incoming.bytes.data(), static_cast<int>(incoming.bytes.size()), MPI_BYTE,
                  MPI_ANY_SOURCE, kMessageTag, messages_, &incoming.request),
        "MPI_Irecv");
}

void MpiTransport::Send(int process, const ControlMessage& message) {
  if (!broken_.ok()) return;
  sends_.push_back({EncodeControlMessage(message)});
  Outgoing& outgoing = sends_.back();
  Check(MPI_Isend(outgoing.bytes.data(), static_cast<int>(outgoing.bytes.size()), MPI_BYTE, process,
                  kMessageTag, messages_, &outgoing.request),
        "MPI_Isend");
}

bool MpiTransport::Progress(const Receiver& receive) {
  bool moved = false;
  while (broken_.ok() && ReceiveNext(receive)) moved = true;
  while (broken_.ok() && DropSent()) moved = true;
  return moved;
}

bool MpiTransport::ReceiveNext(const Receiver& receive) {
  Incoming& incoming = incoming_[next_incoming_];
  int complete = 0;
  MPI_Status status;
  Check(MPI_Test(&incoming.request, &complete, &status), "receiving a message");
  if (!complete || !broken_.ok()) return false;
  int num_bytes = 0;
  MPI_Get_count(&status, MPI_BYTE, &num_bytes);
  absl::StatusOr<ControlMessage> message =
      DecodeControlMessage(absl::MakeConstSpan(incoming.bytes.data(), num_bytes));
  next_incoming_ = (next_incoming_ + 1) % incoming_.size();
  Post(incoming);
  const absl::Status received = message.ok() ? receive(*std::move(message)) : message.status();
  if (!received.ok()) {
    Break(absl::Status(received.code(), absl::StrCat("[mpi] from process ", status.MPI_SOURCE,
                                                     " of ", size_, ": ", received.message())));
  }
  return true;
}

bool MpiTransport::DropSent() {
  if (sends_.empty()) return false;
  int complete = 0;
  Check(MPI_Test(&sends_.front().request, &complete, MPI_STATUS_IGNORE), "sending a message");
  if (complete) sends_.pop_front();
  return complete;
}

void MpiTransport::Break(absl::Status cause) {
  if (broken_.ok()) broken_ = std::move(cause);
}

void MpiTransport::Check(int error, const char* what) {
  if (error == MPI_SUCCESS || !broken_.ok()) return;
  Break(absl::UnavailableError(absl::StrCat("[mpi] ", absl::string_view(what), " on process ",
                                            rank_, " of ", size_, ": ", ErrorString(error))));
}

bool MpiTransport::AllEnd() {
  if (!broken_.ok()) return false;
  if (!std::exchange(ending_, true)) Check(MPI_Ibarrier(messages_, &end_), "MPI_Ibarrier");
  int complete = 0;
  Check(MPI_Test(&end_, &complete, MPI_STATUS_IGNORE), "MPI_Ibarrier");
  return complete && broken_.ok();
}

void MpiTransport::Finalize() {
  for (Incoming& incoming : incoming_) {
    MPI_Cancel(&incoming.request);
    MPI_Wait(&incoming.request, MPI_STATUS_IGNORE);
  }
  MPI_Comm_free(&messages_);
  MPI_Comm_free(&streams_);
  MPI_Finalize();
  Break(absl::FailedPreconditionError("[mpi] MPI has ended in this process"));
}

}  // namespace strake
