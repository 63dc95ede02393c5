// A cuBLASLt on the emulated GPU that checks how it is called, for core/cuda/cublaslt.cc.
//
// The functions of toolkit/cublasLt.h are defined here. They check each call against what the
// library's header and manual ask of it: descriptors initialized and their attributes known, sized
// and valid; sizes, leading dimensions and dtypes that fit together; pointers of epilogues and
// their alignment; addresses as aligned as was promised to the heuristic; an algorithm that the
// heuristic gave for this very product; enough aligned workspace; matrices in device memory; a
// stream that exists; handles destroyed once. A call that breaks a rule returns an error status,
// computes nothing and is a violation. Else the product is computed as the descriptors say.
//
// Stricter than the library: it knows only the dtypes and epilogues that Strake uses, and takes no
// null algorithm and no pointer that its epilogue does not use.
#ifndef STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_CONTRACT_H_
#define STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_CONTRACT_H_

#include <cstddef>
#include <set>
#include <string>
#include <vector>

namespace strake::testing {

// What the library does within its rights. Epilogues and statuses are numbers of cublasLt.h.
struct CublasLtBehaviour {
  // The heuristic gives no algorithm for these epilogues: `refusal` is its status, or of its one
  // result if `refused_by_result`. With 0, CUBLAS_STATUS_SUCCESS, there is no result.
  std::set<int> refused_epilogues = {};
  int refusal = 0;
  bool refused_by_result = false;
  // The workspace of each algorithm that the heuristic knows, in its order. An algorithm that needs
  // more than the preference allows is left out, unless `ignores_max_workspace`. Algorithm i sums
  // over k in i + 1 parts, so algorithms differ in bits.
  std::vector<size_t> workspaces = {1024, 0, 4096, 1 << 20};
  bool ignores_max_workspace = false;
  int create_status = 0, matmul_status = 0;  // of cublasLtCreate(), cublasLtMatmul()
  size_t version = 130100;
};

// Sets the behaviour for all threads during its lifetime.
class ScopedCublasLtBehaviour {
 public:
  explicit ScopedCublasLtBehaviour(const CublasLtBehaviour& behaviour);
  ~ScopedCublasLtBehaviour();
  ScopedCublasLtBehaviour(const ScopedCublasLtBehaviour&) = delete;
  ScopedCublasLtBehaviour& operator=(const ScopedCublasLtBehaviour&) = delete;
};

// Returns the violations since the last call, oldest first. Each is also logged.
std::vector<std::string> TakeCublasLtViolations();

// Handles that were created, and not destroyed.
int NumCublasLtHandles();

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_CUBLASLT_CONTRACT_CONTRACT_H_
