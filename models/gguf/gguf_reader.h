// For tests: reads a GGUF file as its format says, independently of the writer.
#ifndef STRAKE_MODELS_GGUF_GGUF_READER_H_
#define STRAKE_MODELS_GGUF_GGUF_READER_H_

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/half.h"
#include "glog/logging.h"
#include "nlohmann/json.hpp"

namespace strake::testing {

struct GgufFileTensor {
  std::vector<int64_t> dims;  // from the innermost on, as in the file
  uint32_t dtype = 0;
  int64_t begin = 0;  // in the file
  std::vector<float> values;
  std::vector<float> scales;  // of Q8_0, by block
};

// CHECKs all that the format says.
class GgufFile {
 public:
  explicit GgufFile(const std::string& bytes) : bytes_(bytes) {
    CHECK_EQ(Text(4), "GGUF");
    CHECK_EQ(Number<uint32_t>(), 3u);
    const auto num_tensors = Number<uint64_t>(), num_keys = Number<uint64_t>();
    for (uint64_t i = 0; i < num_keys; ++i) {
      const std::string key = String();
      key_names.push_back(key);
      keys[key] = Value(Number<uint32_t>());
    }
    CHECK_EQ(keys.size(), num_keys) << "a key comes twice";
    std::vector<uint64_t> offsets;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      tensor_names.push_back(String());
      GgufFileTensor& tensor = tensors[tensor_names.back()];
      for (auto left = Number<uint32_t>(); left > 0; --left) {
        tensor.dims.push_back(static_cast<int64_t>(Number<uint64_t>()));
      }
      tensor.dtype = Number<uint32_t>();
      offsets.push_back(Number<uint64_t>());
    }
    CHECK_EQ(tensors.size(), num_tensors) << "a tensor comes twice";
    const size_t data = (at_ + 31) / 32 * 32;
    size_t end = data;
    for (uint64_t i = 0; i < num_tensors; ++i) {
      CHECK_EQ(offsets[i] % 32, 0u);
      CHECK_EQ(data + offsets[i], (end + 31) / 32 * 32) << "data of " << tensor_names[i];
      at_ = data + offsets[i];
      Read(&tensors[tensor_names[i]]);
      end = at_;
    }
    CHECK_EQ(bytes_.size(), (end + 31) / 32 * 32);
  }

  std::map<std::string, nlohmann::json> keys;
  std::map<std::string, GgufFileTensor> tensors;
  std::vector<std::string> key_names, tensor_names;  // in the file's order

 private:
  std::string Text(size_t size) {
    CHECK_LE(at_ + size, bytes_.size()) << "the file ends early";
    at_ += size;
    return bytes_.substr(at_ - size, size);
  }
  template <typename T>
  T Number() {
    T number;
    std::memcpy(&number, Text(sizeof(T)).data(), sizeof(T));
    return number;
  }
  std::string String() { return Text(Number<uint64_t>()); }

  nlohmann::json Value(uint32_t type) {
    switch (type) {
      case 4:
        return Number<uint32_t>();
      case 5:
        return Number<int32_t>();
      case 6:
        return Number<float>();
      case 7:
        return Number<uint8_t>() != 0;
      case 8:
        return String();
      case 9:
        break;
      default:
        LOG(FATAL) << "type " << type;
    }
    const auto element = Number<uint32_t>();
    nlohmann::json list = nlohmann::json::array();
    for (auto left = Number<uint64_t>(); left > 0; --left) list.push_back(Value(element));
    return list;
  }

  void Read(GgufFileTensor* tensor) {
    tensor->begin = static_cast<int64_t>(at_);
    int64_t left = 1;
    for (const int64_t dim : tensor->dims) left *= dim;
    while (left > 0) {
      if (tensor->dtype == 8) {
        tensor->scales.push_back(HalfValue(Number<uint16_t>()));
        for (int i = 0; i < 32; ++i, --left) {
          tensor->values.push_back(tensor->scales.back() * float(Number<int8_t>()));
        }
        continue;
      }
      --left;
      if (tensor->dtype == 0) {
        tensor->values.push_back(Number<float>());
      } else if (tensor->dtype == 1) {
        tensor->values.push_back(HalfValue(Number<uint16_t>()));
      } else {
        CHECK_EQ(tensor->dtype, 30u);
        tensor->values.push_back(std::bit_cast<float>(uint32_t{Number<uint16_t>()} << 16));
      }
    }
  }

  const std::string bytes_;
  size_t at_ = 0;
};

}  // namespace strake::testing

#endif  // STRAKE_MODELS_GGUF_GGUF_READER_H_
