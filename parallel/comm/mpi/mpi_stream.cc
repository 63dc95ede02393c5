#include "parallel/comm/mpi/mpi_stream.h"

#include <algorithm>

namespace strake {
namespace {

// In flight per stream: one moves while the next is announced.
constexpr size_t kMaxInFlight = 4;

}  // namespace

int64_t MpiStream::SegmentEnd(int64_t begin) const {
  return std::min(begin + kMpiSegmentBytes, num_bytes_);
}

int MpiStream::Post(int64_t begin, int64_t end) {
  const int64_t at =
      ring_segments_ == 0 ? begin : begin / kMpiSegmentBytes % ring_segments_ * kMpiSegmentBytes;
  const auto [communicator, process, tag] = channel_;
  const int count = static_cast<int>(end - begin);
  requests_.push_back(MPI_REQUEST_NULL);
  MPI_Request* const request = &requests_.back();
  return direction_ == Direction::kSend
             ? MPI_Isend(buffer_ + at, count, MPI_BYTE, process, tag, communicator, request)
             : MPI_Irecv(buffer_ + at, count, MPI_BYTE, process, tag, communicator, request);
}

int MpiStream::Progress(bool& moved) {
  if (const int error = Drain(moved); error != MPI_SUCCESS) return error;
  while (requests_.size() < kMaxInFlight && posted_ < num_bytes_ &&
         SegmentEnd(posted_) <= allowed_) {
    const int64_t end = SegmentEnd(posted_);
    if (const int error = Post(posted_, end); error != MPI_SUCCESS) return error;
    posted_ = end;
    moved = true;
  }
  return MPI_SUCCESS;
}

int MpiStream::Drain(bool& moved) {
  while (!requests_.empty()) {
    int complete = 0;
    const int error = MPI_Test(&requests_.front(), &complete, MPI_STATUS_IGNORE);
    if (error != MPI_SUCCESS) return error;
    if (!complete) break;
    requests_.pop_front();
    done_ = SegmentEnd(done_);
    moved = true;
  }
  return MPI_SUCCESS;
}

void MpiStream::CancelReceives() {
  if (direction_ == Direction::kSend) return;  // Open MPI cannot cancel sends
  for (MPI_Request& request : requests_) MPI_Cancel(&request);
}

}  // namespace strake
