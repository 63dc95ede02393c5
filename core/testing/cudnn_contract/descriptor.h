// Descriptors of cuDNN's backend API: what may be set on each, and what must be.
#ifndef STRAKE_CORE_TESTING_CUDNN_CONTRACT_DESCRIPTOR_H_
#define STRAKE_CORE_TESTING_CUDNN_CONTRACT_DESCRIPTOR_H_

#include <cudnn.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace strake::testing {

// Ends a call of the API: becomes its status, and the text of cudnnGetLastErrorString().
struct CudnnError {
  cudnnStatus_t status;
  std::string message;
};

struct Descriptor;
using DescriptorPtr = std::shared_ptr<Descriptor>;

struct Attribute {
  int64_t count = 0;
  std::vector<char> bytes;                 // of plain values
  std::vector<DescriptorPtr> descriptors;  // of CUDNN_TYPE_BACKEND_DESCRIPTOR
};

struct Descriptor {
  cudnnBackendDescriptorType_t type;
  bool finalized = false;
  std::map<cudnnBackendAttributeName_t, Attribute> attributes;
  std::string remark;  // for cudnnGetLastErrorString(), of a call that succeeds

  bool Has(cudnnBackendAttributeName_t name) const { return attributes.count(name) > 0; }
  // The attribute must be there.
  const DescriptorPtr& Refers(cudnnBackendAttributeName_t name) const {
    return attributes.at(name).descriptors.at(0);
  }
  template <typename T>
  std::vector<T> GetAll(cudnnBackendAttributeName_t name) const {
    const Attribute& attribute = attributes.at(name);
    std::vector<T> values(attribute.count);
    std::memcpy(values.data(), attribute.bytes.data(), attribute.bytes.size());
    return values;
  }
  template <typename T>
  T Get(cudnnBackendAttributeName_t name) const {
    T value;
    std::memcpy(&value, attributes.at(name).bytes.data(), sizeof(value));
    return value;
  }
  template <typename T>
  T Get(cudnnBackendAttributeName_t name, T otherwise) const {
    return Has(name) ? Get<T>(name) : otherwise;
  }
};

// cuDNN's handles of descriptors are addresses of these.
struct DescriptorHandle {
  DescriptorPtr descriptor;
};

DescriptorPtr NewDescriptor(cudnnBackendDescriptorType_t type);

// Sets an attribute as the library's own: results of a heuristic, a plan's size.
void SetResult(Descriptor* descriptor, cudnnBackendAttributeName_t name,
               std::vector<DescriptorPtr> values);
template <typename T>
void SetResult(Descriptor* descriptor, cudnnBackendAttributeName_t name,
               const std::vector<T>& values) {
  const char* const begin = reinterpret_cast<const char*>(values.data());
  descriptor->attributes[name] = {
      static_cast<int64_t>(values.size()), {begin, begin + values.size() * sizeof(T)}, {}};
}

// Throws a CudnnError if the descriptor has no such attribute, if it is finalized, or if type or
// count are wrong.
void SetAttribute(Descriptor* descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void* values);
void GetAttribute(const Descriptor& descriptor, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t requested, int64_t* count,
                  void* values);
// Throws a CudnnError if an attribute is missing.
void CheckComplete(const Descriptor& descriptor);

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUDNN_CONTRACT_DESCRIPTOR_H_
