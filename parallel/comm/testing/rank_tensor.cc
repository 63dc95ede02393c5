#include "parallel/comm/testing/rank_tensor.h"

#include <utility>

#include "glog/logging.h"

namespace strake::testing {
namespace {

thread_local ScopedRankDevice* rank_gpu = nullptr;

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  CHECK(value.ok()) << value.status();
  return std::move(value).value();
}

void CheckOk(const absl::Status& status) { CHECK(status.ok()) << status; }

}  // namespace

ScopedRankDevice::ScopedRankDevice(Device device, Communicator& comm) {
  if (device == Device::kCpu) return;
  CHECK(rank_gpu == nullptr) << "one at a time";
  CheckOk(SetCudaDevice(0));
  stream_ = ValueOrDie(CudaOwnStream::Create());
  comm.BindCudaStream(stream());
  rank_gpu = this;
}

ScopedRankDevice::~ScopedRankDevice() {
  if (rank_gpu != this) return;
  CheckOk(SynchronizeCudaStream(stream()));
  rank_gpu = nullptr;
}

ScopedRankDevice* ScopedRankDevice::OnGpu() { return rank_gpu; }

void* ScopedRankDevice::Staging(size_t num_bytes) {
  staging_.push_back(ValueOrDie(PinnedMemory::Allocate(num_bytes)));
  return staging_.back().data();
}

RankTensor::RankTensor(DType dtype, Shape shape) {
  if (rank_gpu == nullptr) {
    on_cpu_.emplace(dtype, std::move(shape));
    tensor_ = *on_cpu_;
    return;
  }
  const size_t num_bytes = NumElements(shape) * DTypeSize(dtype);
  on_gpu_ = ValueOrDie(CudaMemory::Allocate(num_bytes));
  CheckOk(SetBytesOnDevice(on_gpu_.data(), 0xff, num_bytes, rank_gpu->stream()));
  tensor_ = Tensor(on_gpu_.data(), dtype, std::move(shape), Device::kCuda);
}

void FillOnHost(const Tensor& x, absl::FunctionRef<void(const Tensor& host)> fill) {
  if (x.device() == Device::kCpu) return fill(x);
  if (x.num_elements() == 0) return;
  const Tensor host(rank_gpu->Staging(x.num_bytes()), x.dtype(), x.shape());
  fill(host);
  CheckOk(CopyToDevice(x.raw(), host.raw(), x.num_bytes(), rank_gpu->stream()));
}

HostImage::HostImage(const Tensor& x) : tensor_(x) {
  if (x.device() == Device::kCpu) return;
  buffer_ = TensorBuffer(x.dtype(), x.shape());
  tensor_ = buffer_.tensor();
  CheckOk(CopyToHost(tensor_.raw(), x.raw(), x.num_bytes(), rank_gpu->stream()));
  CheckOk(SynchronizeCudaStream(rank_gpu->stream()));
}

}  // namespace strake::testing
