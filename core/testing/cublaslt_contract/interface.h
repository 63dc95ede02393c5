// What two headers of the name cublasLt.h declare: names, and values, sizes or types.
#ifndef STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_INTERFACE_H_
#define STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_INTERFACE_H_

#include <string>
#include <utility>
#include <vector>

namespace strake::testing {

using Interface = std::vector<std::pair<std::string, std::string>>;

Interface ContractInterface();  // toolkit/cublasLt.h
Interface ToolkitInterface();   // the CUDA toolkit's; empty without one

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_INTERFACE_H_
