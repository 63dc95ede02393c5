#include "core/testing/cuda_emulator.h"

#include <signal.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/testing/fiber.h"
#include "core/testing/guarded_buffer.h"
#include "glog/logging.h"

namespace strake::testing {

thread_local constinit CudaBuiltins cuda_builtins;

namespace {

constexpr int kWarp = 32;
constexpr int64_t kMaxBlockThreads = 1024;
// Of sm_90; a block may use 48 KiB of static shared memory, and 227 KiB with the dynamic.
constexpr size_t kMaxStaticSharedBytes = 48 << 10;
constexpr size_t kMaxSharedBytes = 227 << 10;

constexpr int kBallot = -1;  // in the place of a shuffle's source lane

// Lanes of a warp, a bit each.
struct Warp {
  uint32_t waiting = 0;  // in a warp operation
  uint32_t exited = 0;
};

enum class State { kReady, kAtBarrier, kInWarp, kExited };

struct Thread {
  State state = State::kReady;
  CudaTime time;
  // What it waits in.
  const char* op = nullptr;
  CudaPlace place{};
  uint32_t mask = 0;
  uint64_t value = 0;  // its own, then the result
  int source_lane = 0;

  bool WaitsWith(const Thread& other) const {
    return mask == other.mask && (op == other.op || std::strcmp(op, other.op) == 0);
  }
};

std::string ToString(const CudaDim3& v) {
  return absl::StrCat("(", v.x, ", ", v.y, ", ", v.z, ")");
}

// Of a thread in a warp operation.
std::string Call(const Thread& thread) {
  return absl::StrCat(thread.op, " with mask 0x", absl::Hex(thread.mask), " at ",
                      testing::ToString(thread.place));
}

CudaDim3 Unflatten(int64_t i, const CudaDim3& shape) {
  return {static_cast<unsigned>(i % shape.x), static_cast<unsigned>(i / shape.x % shape.y),
          static_cast<unsigned>(i / shape.x / shape.y)};
}

// Ends a CUDA thread. An exception, because what stands on its stack must be destroyed.
struct ThreadFault {
  std::string message;
};

int64_t Count(const CudaDim3& shape) { return int64_t{1} * shape.x * shape.y * shape.z; }

// One launch.
class Grid {
 public:
  Grid(const std::string& kernel, CudaDim3 grid, CudaDim3 block, size_t dynamic_shared_bytes,
       const std::function<void()>& body);

  absl::Status Run();
  void RunThread();
  void SyncThreads(CudaPlace place);
  uint64_t WarpExchange(const char* op, uint32_t mask, uint64_t value, int source_lane,
                        CudaPlace place);
  void Preempt();
  [[noreturn]] void MemoryFault(const void* address);
  void UseStaticShared(size_t bytes, CudaPlace place);

  const CudaTime& now() const { return threads_[current_].time; }
  CudaSharedMemory& dynamic_shared() { return dynamic_shared_; }

 private:
  void RunBlock(int64_t block);
  void MakeReady(int thread);
  int TakeReady();
  void SwitchTo(int thread);
  void Leave();
  void Yield();
  bool AllWaitWith(const Thread& me) const;
  void ReleaseWarp(int first, uint32_t mask);
  std::string Waiting() const;

  const std::string& kernel_;
  const std::function<void()>& body_;
  const size_t dynamic_shared_bytes_;
  CudaSharedMemory dynamic_shared_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  std::vector<int> ready_;
  Fiber host_;
  int current_ = 0;
  int num_exited_ = 0;
  int num_at_barrier_ = 0;
  size_t static_shared_bytes_ = 0;
  std::string fault_;
  const void* fault_address_ = nullptr;
  bool memory_fault_ = false;
};

// Kept from launch to launch: making a stack costs more than running most threads.
thread_local std::vector<std::unique_ptr<Fiber>> fibers;
thread_local Grid* running = nullptr;
thread_local std::optional<std::mt19937_64> random_order;
thread_local uint64_t num_blocks = 0;

// A fibre runs one thread of one block after another.
void RunThreads() {
  while (true) running->RunThread();
}

void OnMemoryFault(int signal, siginfo_t* info, void*) {
  if (running != nullptr) running->MemoryFault(info->si_addr);
  // Not a kernel's: back to the faulting instruction, with the default action.
  ::signal(signal, SIG_DFL);
}

// Turns SIGSEGV and SIGBUS within kernels into faults.
class ScopedMemoryFaults {
 public:
  ScopedMemoryFaults() {
    struct sigaction action = {};
    action.sa_sigaction = OnMemoryFault;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;  // the handler does not return
    PCHECK(sigaction(SIGSEGV, &action, &segv_) == 0 && sigaction(SIGBUS, &action, &bus_) == 0);
  }
  ~ScopedMemoryFaults() {
    sigaction(SIGSEGV, &segv_, nullptr);
    sigaction(SIGBUS, &bus_, nullptr);
  }

 private:
  struct sigaction segv_, bus_;
};

Grid::Grid(const std::string& kernel, CudaDim3 grid, CudaDim3 block, size_t dynamic_shared_bytes,
           const std::function<void()>& body)
    : kernel_(kernel),
      body_(body),
      dynamic_shared_bytes_(dynamic_shared_bytes),
      dynamic_shared_(dynamic_shared_bytes, CudaPlace{nullptr, 0}),
      threads_(Count(block)),
      warps_((threads_.size() + kWarp - 1) / kWarp) {
  cuda_builtins.grid_dim = grid;
  cuda_builtins.block_dim = block;
  while (fibers.size() < threads_.size()) fibers.push_back(std::make_unique<Fiber>(RunThreads));
}

absl::Status Grid::Run() {
  const ScopedMemoryFaults memory_faults;
  std::vector<int64_t> blocks(Count(cuda_builtins.grid_dim));
  for (size_t i = 0; i < blocks.size(); ++i) blocks[i] = i;
  if (random_order) std::shuffle(blocks.begin(), blocks.end(), *random_order);
  running = this;
  for (size_t i = 0; i < blocks.size() && fault_.empty(); ++i) RunBlock(blocks[i]);
  running = nullptr;
  if (fault_.empty()) return absl::OkStatus();
  fibers.clear();  // they stand in the middle of threads
  return absl::InternalError(fault_);
}

void Grid::RunBlock(int64_t block) {
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
  cuda_builtins.thread_idx = Unflatten(current_, cuda_builtins.block_dim);
  Fiber::Switch(host_, *fibers[current_]);
  if (memory_fault_) {
    fault_ = absl::StrCat("accesses ", DescribeAddress(fault_address_));
  } else if (fault_.empty() && num_exited_ < threads_.size()) {
    fault_ = absl::StrCat("waits forever: ", Waiting());
  }
  if (fault_.empty()) return;
  fault_ = absl::StrCat("kernel ", kernel_, ", block ", ToString(cuda_builtins.block_idx),
                        ", thread ", ToString(cuda_builtins.thread_idx), ": ", fault_);
}

void Grid::RunThread() {
  try {
    body_();
  } catch (const ThreadFault& fault) {
    fault_ = fault.message;
    ready_.clear();  // back to the host
  }
  threads_[current_].state = State::kExited;
  warps_[current_ / kWarp].exited |= uint32_t{1} << current_ % kWarp;
  ++num_exited_;
  Leave();  // returns in another block, or another Grid
}

void Grid::MakeReady(int thread) {
  threads_[thread].state = State::kReady;
  ready_.push_back(thread);
}

int Grid::TakeReady() {
  if (random_order) std::swap(ready_[(*random_order)() % ready_.size()], ready_.back());
  const int thread = ready_.back();
  ready_.pop_back();
  return thread;
}

void Grid::SwitchTo(int thread) {
  Fiber& from = *fibers[std::exchange(current_, thread)];
  cuda_builtins.thread_idx = Unflatten(thread, cuda_builtins.block_dim);
  Fiber::Switch(from, *fibers[thread]);
}

// Until something makes the calling thread ready, and its turn comes.
void Grid::Leave() {
  if (ready_.empty()) {
    Fiber::Switch(*fibers[current_], host_);
  } else {
    SwitchTo(TakeReady());
  }
}

void Grid::Yield() {
  MakeReady(current_);
  const int next = TakeReady();
  if (next != current_) SwitchTo(next);
}

void Grid::Preempt() {
  if (random_order && (*random_order)() % 8 == 0) Yield();
}

// In a signal handler, on the stack of the thread: the message is made elsewhere. The host's
// context holds its own signal mask.
void Grid::MemoryFault(const void* address) {
  fault_address_ = address;
  memory_fault_ = true;
  Fiber::Switch(*fibers[current_], host_);
  LOG(FATAL) << "a thread went on after an access of " << address;
}

void Grid::SyncThreads(CudaPlace place) {
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

uint64_t Grid::WarpExchange(const char* op, uint32_t mask, uint64_t value, int source_lane,
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

// Whether the lanes of `me`'s mask, which all wait, wait for what `me` does.
bool Grid::AllWaitWith(const Thread& me) const {
  const Thread* const warp = &threads_[current_ / kWarp * kWarp];
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((me.mask >> lane & 1) != 0 && !warp[lane].WaitsWith(me)) return false;
  }
  return true;
}

void Grid::ReleaseWarp(int first, uint32_t mask) {
  uint64_t values[kWarp] = {};
  uint64_t ballot = 0;
  uint32_t warp_syncs = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1) == 0) continue;
    values[lane] = threads_[first + lane].value;
    ballot |= values[lane] << lane;
    warp_syncs = std::max(warp_syncs, threads_[first + lane].time.warp_syncs + 1);
  }
  for (int lane = kWarp - 1; lane >= 0; --lane) {
    if ((mask >> lane & 1) == 0) continue;
    Thread& thread = threads_[first + lane];
    if (thread.source_lane != kBallot && (mask >> thread.source_lane & 1) == 0) {
      CudaFault(absl::StrCat(Call(thread), ": lane ", lane, " reads lane ", thread.source_lane,
                             ", which is not in the mask"));
    }
    thread.value = thread.source_lane == kBallot ? ballot : values[thread.source_lane];
    // Of all warp operations only this one orders memory.
    if (absl::string_view(thread.op) == "__syncwarp") thread.time.warp_syncs = warp_syncs;
    if (first + lane != current_) MakeReady(first + lane);
  }
}

void Grid::UseStaticShared(size_t bytes, CudaPlace place) {
  static_shared_bytes_ += bytes;
  if (static_shared_bytes_ > kMaxStaticSharedBytes ||
      static_shared_bytes_ + dynamic_shared_bytes_ > kMaxSharedBytes) {
    CudaFault(absl::StrCat("with ", bytes, " bytes declared at ", testing::ToString(place),
                           ", the block uses ", static_shared_bytes_, " bytes of static and ",
                           dynamic_shared_bytes_, " of dynamic shared memory; the limits are ",
                           kMaxStaticSharedBytes, " and ", kMaxSharedBytes, " together"));
  }
}

// "3 threads in __syncthreads at rms_norm.cu:12, first (0, 0, 0); 1 thread has exited, (3, 0, 0)".
std::string Grid::Waiting() const {
  std::vector<std::pair<std::string, std::pair<int, int>>> groups;  // what; how many, first
  for (int t = 0; t < threads_.size(); ++t) {
    const Thread& thread = threads_[t];
    const std::string what =
        thread.state == State::kExited ? "exited"
        : thread.state == State::kInWarp
            ? "in " + Call(thread)
            : absl::StrCat("in ", thread.op, " at ", testing::ToString(thread.place));
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
                    " threads ", what, ", the first ",
                    ToString(Unflatten(count.second, cuda_builtins.block_dim)));
  }
  return text;
}

}  // namespace

ScopedRandomCudaOrder::ScopedRandomCudaOrder(uint64_t seed) { random_order.emplace(seed); }
ScopedRandomCudaOrder::~ScopedRandomCudaOrder() { random_order.reset(); }

absl::Status RunCudaGrid(const std::string& kernel, CudaDim3 grid, CudaDim3 block,
                         size_t dynamic_shared_bytes, const std::function<void()>& thread) {
  CHECK(running == nullptr) << "a kernel launched " << kernel;
  const int64_t max_x = int64_t{1} << 31, max_yz = 65535;
  if (Count(grid) == 0 || grid.x >= max_x || grid.y > max_yz || grid.z > max_yz ||
      Count(block) == 0 || Count(block) > kMaxBlockThreads || block.z > 64 ||
      dynamic_shared_bytes > kMaxSharedBytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kernel ", kernel, ": cannot launch a grid of ", ToString(grid), " blocks of ",
        ToString(block), " threads with ", dynamic_shared_bytes,
        " bytes of dynamic shared memory; the limits are (2^31-1, 65535, 65535) blocks, ",
        kMaxBlockThreads, " threads (64 in z), ", kMaxSharedBytes, " bytes"));
  }
  return Grid(kernel, grid, block, dynamic_shared_bytes, thread).Run();
}

void CudaSyncThreads(CudaPlace place) { running->SyncThreads(place); }

uint64_t CudaShuffle(const char* op, uint32_t mask, uint64_t value, int source_lane,
                     CudaPlace place) {
  return running->WarpExchange(op, mask, value, source_lane, place);
}

uint32_t CudaBallot(const char* op, uint32_t mask, bool predicate, CudaPlace place) {
  return running->WarpExchange(op, mask, predicate ? 1 : 0, kBallot, place);
}

CudaSharedMemory& CudaDynamicShared() { return running->dynamic_shared(); }
CudaTime CudaNow() { return running->now(); }
void CudaPreempt() { running->Preempt(); }
void CudaUseStaticShared(size_t bytes, CudaPlace place) { running->UseStaticShared(bytes, place); }
void CudaFault(const std::string& message) { throw ThreadFault{message}; }

}  // namespace strake::testing
