#include "core/ops/matmul/onednn_matmul.h"
#include "glog/logging.h"

namespace strake::cpu {

bool CanMultiply(DType) { return false; }

void Multiply(const Product&, const MatmulRange&) {
  LOG(FATAL) << "[matmul] this build has no oneDNN";
}

}  // namespace strake::cpu
