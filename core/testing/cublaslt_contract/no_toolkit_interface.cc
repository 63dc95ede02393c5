#include "core/testing/cublaslt_contract/interface.h"

namespace strake::testing {

Interface ToolkitInterface() { return {}; }

}  // namespace strake::testing
