#include "tools/benchmarking/tune_products.h"

#include <algorithm>
#include <cstring>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <utility>

#include "absl/strings/str_format.h"
#include "core/base/durable_file.h"
#include "core/base/read_file.h"
#include "core/base/status_macros.h"
#include "core/cuda/cublaslt.h"
#include "core/cuda/cuda_runtime.h"
#include "core/cuda/product_tuning.h"
#include "core/ops/activation/activation_cuda.h"
#include "core/ops/activation/activation_kind.h"
#include "core/ops/bias_add/bias_add_cuda.h"
#include "core/ops/dispatch.h"
#include "tools/cli/terminal_lines.h"
#include "tools/gpu_tuning/product_tunings.h"
#include "train/plan/gpu_timing.h"

namespace strake {
namespace {

CudaEpilogue EpilogueOf(const OpCall& call) {
  if (call.Has("gelu_input")) return CudaEpilogue::kGelu;
  if (call.Has("gelu_grad_input")) return CudaEpilogue::kGeluGrad;
  if (call.Has("a_sums")) return CudaEpilogue::kSumA;
  return call.Has("b_sums") ? CudaEpilogue::kSumB : CudaEpilogue::kNone;
}

// The product of a call, without addresses.
CudaProduct ProductOf(const OpCall& call) {
  const bool transpose_a = call.Get("transpose_a") != 0;
  const OpOperand& c = *call.Find("c");
  return {.m = c.shape[0],
          .n = c.shape[1],
          .k = call.ShapeOf("a")[transpose_a ? 0 : 1],
          .transpose_a = transpose_a,
          .transpose_b = call.Get("transpose_b") != 0,
          .accumulate = c.role == OpRole::kInOut,
          .input = call.Find("a")->dtype,
          .output = c.dtype,
          .epilogue = EpilogueOf(call)};
}

// A product with operands in memory of its own.
struct ProductInMemory {
  CudaProduct product;
  std::vector<CudaMemory> memory;
};

absl::StatusOr<ProductInMemory> Allocate(const OpCall& call, CudaStream stream) {
  ProductInMemory p = {.product = ProductOf(call), .memory = {}};
  const auto allocate = [&](DType dtype, int64_t count) -> absl::StatusOr<void*> {
    STRAKE_ASSIGN_OR_RETURN(CudaMemory memory,
                            RandomNumbers(dtype, count, p.memory.size() + 1, stream));
    return p.memory.emplace_back(std::move(memory)).data();
  };
  CudaProduct& x = p.product;
  STRAKE_ASSIGN_OR_RETURN(x.a, allocate(x.input, x.m * x.k));
  STRAKE_ASSIGN_OR_RETURN(x.b, allocate(x.input, x.k * x.n));
  STRAKE_ASSIGN_OR_RETURN(x.c, allocate(x.output, x.m * x.n));
  if (call.Has("bias")) {
    STRAKE_ASSIGN_OR_RETURN(x.bias, allocate(x.input, x.n));
  }
  if (x.epilogue == CudaEpilogue::kGelu || x.epilogue == CudaEpilogue::kGeluGrad) {
    STRAKE_ASSIGN_OR_RETURN(x.gelu_input, allocate(x.input, x.m * x.n));
  } else if (x.epilogue != CudaEpilogue::kNone) {
    STRAKE_ASSIGN_OR_RETURN(void* const sums, allocate(DType::kF32, std::max(x.m, x.n)));
    x.sums = static_cast<float*>(sums);
  }
  return p;
}

// The file's table if it is for this GPU and library, else an empty one for them.
absl::StatusOr<ProductTuning> TableToExtend(const std::string& path, const std::string& gpu,
                                            int64_t version) {
  const ProductTuning empty = {.gpu = gpu, .cublaslt = version, .algorithms = {}};
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (absl::IsNotFound(text.status())) return empty;
  STRAKE_RETURN_IF_ERROR(text.status());
  STRAKE_ASSIGN_OR_RETURN(const ProductTuning table, ParseProductTuning(*text, path));
  return table.gpu == gpu && table.cublaslt == version ? table : empty;
}

// The product that is left to the library where it does not compute all of `p`: without GELU or
// sums, and if there are none, without the bias.
CudaProduct LeftToLibrary(CudaProduct p) {
  if (p.epilogue == CudaEpilogue::kNone) p.bias = nullptr;
  p.epilogue = CudaEpilogue::kNone;
  p.gelu_input = nullptr;
  p.sums = nullptr;
  return p;
}

// What LeftToLibrary() leaves out, as kernels of their own. Writes to the product's memory.
absl::Status EnqueueRest(CudaStream stream, const CudaProduct& p, float* workspace) {
  return DispatchCuda("matmul", p.input, [&]<typename T>() -> absl::Status {
    T* const gelu_input = static_cast<T*>(p.gelu_input);
    T* const c = static_cast<T*>(p.c);
    if (p.epilogue == CudaEpilogue::kNone) {
      return cuda::BiasAddForward<T>(
          stream,
          {.x = c, .bias = static_cast<const T*>(p.bias), .rows = p.m, .columns = p.n, .y = c});
    }
    if (p.epilogue == CudaEpilogue::kGelu) {
      return cuda::ActivationForward<T>(
          stream, {.kind = ActivationKind::kGeluTanh, .x = gelu_input, .size = p.m * p.n, .y = c});
    }
    if (p.epilogue == CudaEpilogue::kGeluGrad) {
      return cuda::ActivationBackward<T>(stream, {.kind = ActivationKind::kGeluTanh,
                                                  .dy = c,
                                                  .x = gelu_input,
                                                  .size = p.m * p.n,
                                                  .dx = c});
    }
    const bool of_a = p.epilogue == CudaEpilogue::kSumA;
    return cuda::BiasAddBackward<T>(stream, {.dy = static_cast<const T*>(of_a ? p.a : p.b),
                                             .rows = p.k,
                                             .columns = of_a ? p.m : p.n,
                                             .dbias = p.sums,
                                             .workspace = workspace});
  });
}

absl::StatusOr<double> SecondsOfRest(CudaStream stream, const CudaProduct& p) {
  const int64_t columns = std::max(p.m, p.n);
  STRAKE_ASSIGN_OR_RETURN(
      const CudaMemory workspace,
      CudaMemory::Allocate(cuda::BiasAddBackwardWorkspaceSize(p.k, columns) * sizeof(float)));
  return BestSeconds(stream,
                     [&] { return EnqueueRest(stream, p, static_cast<float*>(workspace.data())); });
}

class Tuner {
 public:
  explicit Tuner(const CudaContext& cuda) : cuda_(cuda) {}

  // Returns the seconds of the fastest way; infinite for what the library does not support.
  absl::StatusOr<double> Tune(const CudaProduct& p) {
    const std::string name = ToString(p);
    const auto done = best_.find(name);
    if (done != best_.end()) return done->second;
    double& best = best_[name] = std::numeric_limits<double>::infinity();
    STRAKE_ASSIGN_OR_RETURN(const int num_algorithms, cuda_.cublaslt().NumAlgorithms(p));
    TunedProduct tuned = {.product = name, .seconds = {}};
    for (int i = 0; i < num_algorithms; ++i) {
      STRAKE_ASSIGN_OR_RETURN(tuned.seconds.emplace_back(), BestSeconds(cuda_.stream(), [&] {
                                return cuda_.cublaslt().MultiplyBy(i, cuda_.stream(), p);
                              }));
    }
    // The bias alone is left to another kernel only where the library refuses it.
    if (p.epilogue != CudaEpilogue::kNone || (num_algorithms == 0 && p.bias != nullptr)) {
      STRAKE_ASSIGN_OR_RETURN(tuned.unfused_seconds, SecondsUnfused(p));
    }
    if (num_algorithms == 0) return best = tuned.unfused_seconds;
    best = std::min(*std::min_element(tuned.seconds.begin(), tuned.seconds.end()),
                    tuned.unfused_seconds);
    tuned_.push_back(std::move(tuned));
    return best;
  }

  std::vector<TunedProduct> tuned() && { return std::move(tuned_); }

 private:
  absl::StatusOr<double> SecondsUnfused(const CudaProduct& p) {
    STRAKE_ASSIGN_OR_RETURN(const double product, Tune(LeftToLibrary(p)));
    STRAKE_ASSIGN_OR_RETURN(const double rest, SecondsOfRest(cuda_.stream(), p));
    return product + rest;
  }

  const CudaContext& cuda_;
  std::map<std::string, double> best_;  // seconds, by product; its values stay where they are
  std::vector<TunedProduct> tuned_;
};

}  // namespace

int ChooseAlgorithm(const TunedProduct& product) {
  constexpr double kNoise = 0.98;
  const std::vector<double>& seconds = product.seconds;
  const auto fastest = std::min_element(seconds.begin(), seconds.end());
  if (product.unfused_seconds <= kNoise * *fastest) return ProductTuning::kUnfused;
  return *fastest <= kNoise * seconds[0] ? static_cast<int>(fastest - seconds.begin()) : 0;
}

std::string TuningLine(const TunedProduct& product, int chosen) {
  const double first = product.seconds[0] * 1e6;
  if (chosen == ProductTuning::kUnfused) {
    return absl::StrFormat("%s: unfused, %.1f us, the first algorithm %.1f us", product.product,
                           product.unfused_seconds * 1e6, first);
  }
  return absl::StrFormat("%s: algorithm %d of %d, %.1f us, the first %.1f us", product.product,
                         chosen, product.seconds.size(), product.seconds[chosen] * 1e6, first);
}

absl::StatusOr<std::vector<TunedProduct>> TuneProducts(const CudaContext& cuda,
                                                       const std::vector<OpCall>& calls,
                                                       const OnWork& on_work) {
  // Two passes may have the same product in different calls.
  std::set<std::string> seen;
  std::vector<const OpCall*> different;
  for (const OpCall& call : calls) {
    if (std::strcmp(call.op, "matmul") != 0) continue;
    if (seen.insert(call.ToString()).second) different.push_back(&call);
  }
  Tuner tuner(cuda);
  WorkState work = {.what = "timing algorithms of products",
                    .total = static_cast<double>(different.size()),
                    .unit = WorkUnit::kCount};
  for (const OpCall* const call : different) {
    if (on_work != nullptr) on_work(work);
    ++work.done;
    STRAKE_ASSIGN_OR_RETURN(const ProductInMemory p, Allocate(*call, cuda.stream()));
    STRAKE_RETURN_IF_ERROR(tuner.Tune(p.product).status());
  }
  return std::move(tuner).tuned();
}

absl::Status TuneToFile(int device, const std::vector<OpCall>& calls, const std::string& path,
                        Progress* screen) {
  STRAKE_ASSIGN_OR_RETURN(const std::unique_ptr<CudaContext> cuda, CudaContext::Create(device));
  STRAKE_ASSIGN_OR_RETURN(const CudaDevice gpu, DescribeCudaDevice(device));
  STRAKE_ASSIGN_OR_RETURN(ProductTuning table,
                          TableToExtend(path, gpu.name, cuda->cublaslt().version()));
  STRAKE_ASSIGN_OR_RETURN(const std::vector<TunedProduct> tuned,
                          TuneProducts(*cuda, calls, screen->Teller()));
  screen->EndWork();
  for (const TunedProduct& each : tuned) {
    table.algorithms.erase(each.product);
    const int chosen = ChooseAlgorithm(each);
    if (chosen != 0) table.algorithms[each.product] = chosen;
    std::cout << WrapLines(TuningLine(each, chosen), screen->line_columns()) << "\n";
  }
  return WriteFileDurably(path, ProductTuningText(table));
}

}  // namespace strake
