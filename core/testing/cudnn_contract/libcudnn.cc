// cuDNN's functions, as far as its frontend calls them to build and run attention.
#include <cudnn.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <set>
#include <string>

#include "core/testing/cudnn_contract/cudnn_options.h"
#include "core/testing/cudnn_contract/descriptor.h"
#include "core/testing/cudnn_contract/execution_plan.h"

struct cudnnContext {
  bool has_stream = false;
  cudaStream_t stream = nullptr;
};

namespace strake::testing {
namespace {

struct Library {
  std::mutex mutex;  // held during every call
  CudnnOptions options;
  std::set<cudnnHandle_t> handles;
  std::set<DescriptorHandle*> descriptors;
};

Library& TheLibrary() {
  static auto* const library = new Library();
  return *library;
}

thread_local std::string last_error;

// Returns what `call` throws as a status and a text.
template <typename Call>
cudnnStatus_t Guard(const Call& call) {
  const std::lock_guard lock(TheLibrary().mutex);
  try {
    call();
    return CUDNN_STATUS_SUCCESS;
  } catch (const CudnnError& error) {
    last_error = error.message;
    return error.status;
  }
}

cudnnContext& Live(cudnnHandle_t handle) {
  if (TheLibrary().handles.count(handle) > 0) return *handle;
  throw CudnnError{CUDNN_STATUS_BAD_PARAM, "there is no such handle"};
}

DescriptorHandle& Live(cudnnBackendDescriptor_t descriptor) {
  auto* const handle = static_cast<DescriptorHandle*>(descriptor);
  if (TheLibrary().descriptors.count(handle) > 0) return *handle;
  throw CudnnError{CUDNN_STATUS_BAD_PARAM, "there is no such descriptor"};
}

// Checks the handles that an attribute is set to or read into.
void CheckValues(cudnnBackendAttributeType_t type, int64_t count, const void* values) {
  if (values == nullptr) return;
  for (int64_t i = 0; i < count; ++i) {
    if (type == CUDNN_TYPE_HANDLE) (void)Live(static_cast<const cudnnHandle_t*>(values)[i]);
    if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR) continue;
    const cudnnBackendDescriptor_t value = static_cast<const cudnnBackendDescriptor_t*>(values)[i];
    if (value != nullptr) (void)Live(value);
  }
}

void Copy(const std::string& text, char* message, size_t max_size) {
  if (max_size == 0) return;
  const size_t length = std::min(text.size(), max_size - 1);
  std::memcpy(message, text.data(), length);
  message[length] = 0;
}

}  // namespace
}  // namespace strake::testing

using strake::testing::CudnnError;
using strake::testing::DescriptorHandle;
using strake::testing::Guard;
using strake::testing::Live;
using strake::testing::TheLibrary;

extern "C" {

void StrakeSetCudnnOptions(const strake::testing::CudnnOptions& options) {
  (void)Guard([&] { TheLibrary().options = options; });
}

size_t cudnnGetVersion() { return TheLibrary().options.version; }

const char* cudnnGetErrorString(cudnnStatus_t status) {
  switch (status / 1000) {
    case 0:
      return "CUDNN_STATUS_SUCCESS";
    case 1:
      return "CUDNN_STATUS_NOT_INITIALIZED";
    case 2:
      return "CUDNN_STATUS_BAD_PARAM";
    case 3:
      return "CUDNN_STATUS_NOT_SUPPORTED";
    case 4:
      return "CUDNN_STATUS_INTERNAL_ERROR";
    default:
      return "CUDNN_STATUS_EXECUTION_FAILED";
  }
}

void cudnnGetLastErrorString(char* message, size_t max_size) {
  strake::testing::Copy(strake::testing::last_error, message, max_size);
  strake::testing::last_error.clear();
}

cudnnStatus_t cudnnCreate(cudnnHandle_t* handle) {
  return Guard([&] {
    if (TheLibrary().options.no_gpu) {
      throw CudnnError{CUDNN_STATUS_NOT_INITIALIZED, "told to have no GPU"};
    }
    *handle = *TheLibrary().handles.insert(new cudnnContext()).first;
  });
}

cudnnStatus_t cudnnDestroy(cudnnHandle_t handle) {
  return Guard([&] {
    const cudnnContext* const dead = &Live(handle);
    TheLibrary().handles.erase(handle);
    delete dead;
  });
}

cudnnStatus_t cudnnSetStream(cudnnHandle_t handle, cudaStream_t stream) {
  return Guard([&] { Live(handle) = {true, stream}; });
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t* stream) {
  return Guard([&] { *stream = Live(handle).stream; });
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type,
                                           cudnnBackendDescriptor_t* descriptor) {
  return Guard([&] {
    *descriptor =
        *TheLibrary()
             .descriptors.insert(new DescriptorHandle{strake::testing::NewDescriptor(type)})
             .first;
  });
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor) {
  return Guard([&] {
    const DescriptorHandle* const dead = &Live(descriptor);
    TheLibrary().descriptors.erase(static_cast<DescriptorHandle*>(descriptor));
    delete dead;
  });
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor) {
  return Guard([&] {
    strake::testing::Descriptor* const finalized = Live(descriptor).descriptor.get();
    strake::testing::Finalize(TheLibrary().options, finalized);
    strake::testing::last_error = finalized->remark;
  });
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count,
                                       const void* values) {
  return Guard([&] {
    strake::testing::CheckValues(type, count, values);
    strake::testing::SetAttribute(Live(descriptor).descriptor.get(), name, type, count, values);
  });
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor,
                                       cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t requested,
                                       int64_t* count, void* values) {
  return Guard([&] {
    strake::testing::CheckValues(type, requested, values);
    strake::testing::GetAttribute(*Live(descriptor).descriptor, name, type, requested, count,
                                  values);
  });
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                                  cudnnBackendDescriptor_t variant_pack) {
  return Guard([&] {
    const cudnnContext& context = Live(handle);
    if (!context.has_stream) {
      throw CudnnError{CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH, "the handle was given no stream"};
    }
    strake::testing::Execute(TheLibrary().options, context.stream, *Live(plan).descriptor,
                             *Live(variant_pack).descriptor);
  });
}

}  // extern "C"
