// One run of bytes in transfer between a buffer here and one of another process. It is cut into
// segments: MPI counts in int, and sums should work on parts that stay in the cache.
#ifndef STRAKE_PARALLEL_COMM_MPI_MPI_STREAM_H_
#define STRAKE_PARALLEL_COMM_MPI_MPI_STREAM_H_

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <deque>

namespace strake {

// Small enough that an arrived segment is still in the cache when it is summed, large enough that
// the message overhead is small. A multiple of every element's size.
inline constexpr int64_t kMpiSegmentBytes = 128 << 10;

class MpiStream {
 public:
  enum class Direction { kSend, kReceive };
  // The connection of a stream. Both ends have the same tag, unique among the receiver's streams.
  struct Channel {
    MPI_Comm communicator;
    int process;
    int tag;
  };

  // With ring_segments > 0 the buffer holds only that many segments, and segment i is in place i %
  // ring_segments. Moves nothing before Allow().
  MpiStream(Direction direction, Channel channel, std::byte* buffer, int64_t num_bytes,
            int64_t ring_segments = 0)
      : direction_(direction),
        channel_(channel),
        buffer_(buffer),
        num_bytes_(num_bytes),
        ring_segments_(ring_segments) {}
  MpiStream(const MpiStream&) = delete;
  MpiStream& operator=(const MpiStream&) = delete;

  // Allows reading, or writing, segments within the first `num_bytes`.
  void Allow(int64_t num_bytes) { allowed_ = num_bytes; }

  // Starts and completes segments. Sets `moved` to true if there were any. Returns MPI's error
  // code.
  int Progress(bool& moved);

  // Like Progress(), but starts none: for a failed group, whose buffers are given back.
  int Drain(bool& moved);
  // Cancels receives without data. Drain() completes them.
  void CancelReceives();

  int64_t done_bytes() const { return done_; }
  bool finished() const { return done_ == num_bytes_; }
  bool idle() const { return requests_.empty(); }

 private:
  int64_t SegmentEnd(int64_t begin) const;
  int Post(int64_t begin, int64_t end);

  const Direction direction_;
  const Channel channel_;
  std::byte* const buffer_;
  const int64_t num_bytes_;
  const int64_t ring_segments_;
  int64_t allowed_ = 0, posted_ = 0, done_ = 0;
  std::deque<MPI_Request> requests_;  // of segments [done_, posted_), in order
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_MPI_MPI_STREAM_H_
