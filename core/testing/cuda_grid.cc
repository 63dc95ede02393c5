#include "core/testing/cuda_grid.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/testing/guarded_buffer.h"
#include "glog/logging.h"

namespace strake::testing {
namespace {

constexpr int kWarp = 32;
// Limit of sm_90: a block may use 48 KiB of static shared memory, and 227 KiB including dynamic.
constexpr size_t kMaxStaticSharedBytes = 48 << 10;

thread_local CudaGrid* running = nullptr;
thread_local uint64_t num_blocks = 0;

CudaDim3 Unflatten(int64_t i, const CudaDim3& shape) {
  return {static_cast<unsigned>(i % shape.x), static_cast<unsigned>(i / shape.x % shape.y),
          static_cast<unsigned>(i / shape.x / shape.y)};
}

}  // namespace

int64_t Count(const CudaDim3& shape) { return int64_t{1} * shape.x * shape.y * shape.z; }

std::string ToString(const CudaDim3& v) {
  return absl::StrCat("(", v.x, ", ", v.y, ", ", v.z, ")");
}

CudaGrid* CudaGrid::Running() { return running; }

// Kept from launch to launch, because creating a stack costs more than running most threads.
std::vector<std::unique_ptr<Fiber>>& CudaGrid::Fibers() {
  thread_local std::vector<std::unique_ptr<Fiber>> fibers;
  return fibers;
}

// Also kept: what blocks of other grids left there counts as never written.
CudaSharedMemory& CudaGrid::DynamicShared() {
  thread_local CudaSharedMemory memory(0, CudaPlace{nullptr, 0});
  return memory;
}

CudaGrid::CudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                   size_t dynamic_shared_bytes, const std::function<void()>& body,
                   std::mt19937_64* random)
    : kernel_(kernel),
      body_(body),
      dynamic_shared_bytes_(dynamic_shared_bytes),
      dynamic_shared_(DynamicShared()),
      threads_(Count(block)),
      warps_((threads_.size() + kWarp - 1) / kWarp),
      fibers_(Fibers()),
      random_(random) {
  cuda_builtins.grid_dim = grid;
  cuda_builtins.block_dim = block;
  dynamic_shared_.Resize(dynamic_shared_bytes);
  for (int t = 0; t < threads_.size(); ++t) threads_[t].index = Unflatten(t, block);
  while (fibers_.size() < threads_.size()) fibers_.push_back(std::make_unique<Fiber>(RunThreads));
}

std::string CudaGrid::Run() {
  std::vector<int64_t> blocks(Count(cuda_builtins.grid_dim));
  std::iota(blocks.begin(), blocks.end(), int64_t{0});
  if (random_) std::shuffle(blocks.begin(), blocks.end(), *random_);
  running = this;
  for (size_t i = 0; i < blocks.size() && fault_.empty(); ++i) RunBlock(blocks[i]);
  running = nullptr;
  if (!fault_.empty()) fibers_.clear();  // their stacks are in the middle of threads
  return fault_;
}

void CudaGrid::RunBlock(int64_t block) {
  cuda_builtins.block_idx = Unflatten(block, cuda_builtins.grid_dim);
  num_exited_ = num_at_barrier_ = 0;
  static_shared_bytes_ = 0;
  std::fill(warps_.begin(), warps_.end(), Warp());
  ++num_blocks;
  for (int t = threads_.size() - 1; t >= 0; --t) {
    threads_[t].time = {.block = num_blocks, .thread = static_cast<uint32_t>(t)};
    MakeReady(t);
  }
  current_ = TakeReady();
  cuda_builtins.thread_idx = threads_[current_].index;
  Fiber::Switch(host_, *fibers_[current_]);
  if (memory_fault_) {
    fault_ = absl::StrCat("accesses ", DescribeAddress(fault_address_));
  } else if (fault_.empty() && num_exited_ < threads_.size()) {
    fault_ = absl::StrCat("waits forever: ", Waiting());
  }
  if (fault_.empty()) return;
  fault_ = absl::StrCat("kernel ", kernel_, ", block ", ToString(cuda_builtins.block_idx),
                        ", thread ", ToString(cuda_builtins.thread_idx), ": ", fault_);
}

// Runs one thread of one block after another, on one fibre.
void CudaGrid::RunThreads() {
  while (true) running->RunThread();
}

void CudaGrid::RunThread() {
  try {
    body_();
  } catch (const ThreadFault& fault) {
    fault_ = fault.message;
    ready_.clear();  // so that Leave() switches to the host
  }
  threads_[current_].state = State::kExited;
  warps_[current_ / kWarp].exited |= uint32_t{1} << current_ % kWarp;
  ++num_exited_;
  Leave();  // returns in another block, or in another grid
}

void CudaGrid::MakeReady(int thread) {
  threads_[thread].state = State::kReady;
  ready_.push_back(thread);
}

int CudaGrid::TakeReady() {
  if (random_) std::swap(ready_[(*random_)() % ready_.size()], ready_.back());
  const int thread = ready_.back();
  ready_.pop_back();
  return thread;
}

void CudaGrid::SwitchTo(int thread) {
  Fiber& from = *fibers_[std::exchange(current_, thread)];
  cuda_builtins.thread_idx = threads_[thread].index;
  Fiber::Switch(from, *fibers_[thread]);
}

// Waits until the calling thread is made ready, and its turn comes.
void CudaGrid::Leave() {
  if (ready_.empty()) {
    Fiber::Switch(*fibers_[current_], host_);
  } else {
    SwitchTo(TakeReady());
  }
}

void CudaGrid::Yield() {
  MakeReady(current_);
  const int next = TakeReady();
  if (next != current_) SwitchTo(next);
}

void CudaGrid::Preempt() {
  if (random_ && (*random_)() % 8 == 0) Yield();
}

// Runs in a signal handler, on the thread's stack, so the message is composed elsewhere.
void CudaGrid::MemoryFault(const void* address) {
  fault_address_ = address;
  memory_fault_ = true;
  Fiber::Switch(*fibers_[current_], host_);
  LOG(FATAL) << "a thread went on after an access of " << address;
}

void CudaGrid::SyncThreads(CudaPlace place) {
  Thread& me = threads_[current_];
  me.op = "__syncthreads";
  me.place = place;
  me.state = State::kAtBarrier;
  if (++num_at_barrier_ < threads_.size()) return Leave();
  for (const Thread& thread : threads_) {
    if (thread.place.line != place.line || absl::string_view(thread.place.file) != place.file) {
      CudaFault(absl::StrCat("meets others in another __syncthreads: ", Waiting()));
    }
  }
  num_at_barrier_ = 0;
  for (int t = threads_.size() - 1; t >= 0; --t) {
    ++threads_[t].time.barriers;
    if (t != current_) MakeReady(t);
  }
  Yield();
}

uint64_t CudaGrid::WarpExchange(const char* op, uint32_t mask, uint64_t value, int source_lane,
                                CudaPlace place) {
  Thread& me = threads_[current_];
  me.op = op;
  me.place = place;
  me.mask = mask;
  me.value = value;
  me.source_lane = source_lane;
  me.state = State::kInWarp;
  const int first = current_ / kWarp * kWarp;
  const uint32_t my_bit = uint32_t{1} << (current_ - first);
  Warp& warp = warps_[current_ / kWarp];
  if ((mask & my_bit) == 0) CudaFault(absl::StrCat(Call(me), ": its own lane is not in the mask"));
  if (first + std::bit_width(mask) > threads_.size()) {
    CudaFault(absl::StrCat(Call(me), ": the block has no lane ", std::bit_width(mask) - 1,
                           " in this warp"));
  }
  if ((mask & warp.exited) != 0) {
    CudaFault(absl::StrCat(Call(me), ": lane ", std::countr_zero(mask & warp.exited),
                           " of the mask has exited"));
  }
  warp.waiting |= my_bit;
  if ((mask & warp.waiting) == mask && AllWaitWith(me)) {
    warp.waiting &= ~mask;
    ReleaseWarp(first, mask);
    Yield();
  } else {
    Leave();
  }
  return me.value;
}

// Returns whether the lanes of `me`'s mask, which all wait, wait in the same operation as `me`.
bool CudaGrid::AllWaitWith(const Thread& me) const {
  const Thread* const warp = &threads_[current_ / kWarp * kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((me.mask >> lane & 1) != 0 && !warp[lane].WaitsWith(me)) return false;
  }
  return true;
}

void CudaGrid::ReleaseWarp(int first, uint32_t mask) {
  uint64_t values[kWarp] = {};
  uint64_t ballot = 0;
  uint32_t warp_syncs = 0;
  // Of all warp operations, only __syncwarp orders memory.
  const bool orders = absl::string_view(threads_[current_].op) == "__syncwarp";
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    values[lane] = threads_[first + lane].value;
    ballot |= values[lane] << lane;
    warp_syncs = std::max(warp_syncs, threads_[first + lane].time.warp_syncs + 1);
  }
  for (int lane = kWarp - 1; lane >= 0; --lane) {
    if ((mask >> lane & 1) == 0) continue;
    Thread& thread = threads_[first + lane];
    if (thread.source_lane != kCudaBallot && (mask >> thread.source_lane & 1) == 0) {
      CudaFault(absl::StrCat(Call(thread), ": lane ", lane, " reads lane ", thread.source_lane,
                             ", which is not in the mask"));
    }
    thread.value = thread.source_lane == kCudaBallot ? ballot : values[thread.source_lane];
    if (orders) thread.time.warp_syncs = warp_syncs;
    if (first + lane != current_) MakeReady(first + lane);
  }
}

void CudaGrid::UseStaticShared(size_t bytes, CudaPlace place) {
  static_shared_bytes_ += bytes;
  if (static_shared_bytes_ > kMaxStaticSharedBytes ||
      static_shared_bytes_ + dynamic_shared_bytes_ > kMaxCudaSharedBytes) {
    CudaFault(absl::StrCat("with ", bytes, " bytes declared at ", ToString(place),
                           ", the block uses ", static_shared_bytes_, " bytes of static and ",
                           dynamic_shared_bytes_, " of dynamic shared memory; the limits are ",
                           kMaxStaticSharedBytes, " and ", kMaxCudaSharedBytes, " together"));
  }
}

// "3 threads in __syncthreads at rms_norm.cu:12, first (0, 0, 0); 1 thread has exited, (3, 0, 0)".
std::string CudaGrid::Waiting() const {
  std::vector<std::pair<std::string, std::pair<int, int>>> groups;  // what; how many, first
  for (int t = 0; t < threads_.size(); ++t) {
    const Thread& thread = threads_[t];
    const std::string what = thread.state == State::kExited ? "exited"
                             : thread.state == State::kInWarp
                                 ? "in " + Call(thread)
                                 : absl::StrCat("in ", thread.op, " at ", ToString(thread.place));
    const auto group = std::find_if(groups.begin(), groups.end(),
                                    [&](const auto& group) { return group.first == what; });
    if (group == groups.end()) {
      groups.push_back({what, {1, t}});
    } else {
      ++group->second.first;
    }
  }
  std::string text;
  for (const auto& [what, count] : groups) {
    absl::StrAppend(&text, text.empty() ? "" : "; ", count.first, " of ", threads_.size(),
                    " threads ", what, ", the first ", ToString(threads_[count.second].index));
  }
  return text;
}

// Describes the operation of a thread in a warp operation.
std::string CudaGrid::Call(const Thread& thread) {
  return absl::StrCat(thread.op, " with mask 0x", absl::Hex(thread.mask), " at ",
                      ToString(thread.place));
}

}  // namespace strake::testing
