#include "core/base/dtype.h"

#include "glog/logging.h"

namespace strake {

size_t DTypeSize(DType dtype) {
  switch (dtype) {
    case DType::kU16:
    case DType::kBf16:
      return 2;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kC128:
      return 16;
  }
  LOG(FATAL) << "[dtype] no such dtype: " << static_cast<int>(dtype);
}

DType AccumulationDType(DType dtype) { return dtype == DType::kBf16 ? DType::kF32 : dtype; }

const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return "f32";
    case DType::kBf16:
      return "bf16";
    case DType::kF64:
      return "f64";
    case DType::kC128:
      return "c128";
    case DType::kI32:
      return "i32";
    case DType::kI64:
      return "i64";
    case DType::kU16:
      return "u16";
  }
  LOG(FATAL) << "[dtype] no such dtype: " << static_cast<int>(dtype);
}

}  // namespace strake
