#include <cublasLt.h>

#include "core/testing/cublaslt_contract/interface.h"
#include "core/testing/cublaslt_contract/interface_list.h"

namespace strake::testing {

Interface ToolkitInterface() { return CublasLtInterface(); }

}  // namespace strake::testing
