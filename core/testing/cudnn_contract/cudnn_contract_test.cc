// The stand-in for cuDNN itself: what it computes, and that it finds misuse of the API.
#include "core/testing/cudnn_contract/cudnn_contract.h"

#include <cudnn.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/dtype.h"
#include "core/base/dynamic_library.h"
#include "core/cuda/cuda_runtime.h"
#include "core/testing/emulated_gpu.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ScopedEmulatedGpu;
using testing::SetCudnnOptions;

const DynamicLibrary& Library() {
  static const auto* const library =
      new DynamicLibrary(*DynamicLibrary::Load("cuDNN", {"libcudnn.so.9"}));
  return *library;
}

template <typename F>
F* Function(const char* name) {
  return *Library().Function<F>(name);
}
#define CUDNN(name) Function<decltype(cudnn##name)>("cudnn" #name)

std::string LastError() {
  std::array<char, 256> text = {};
  CUDNN(GetLastErrorString)(text.data(), text.size());
  return text.data();
}

// A descriptor that is destroyed with it.
class Made {
 public:
  explicit Made(cudnnBackendDescriptorType_t type) {
    EXPECT_EQ(CUDNN(BackendCreateDescriptor)(type, &descriptor_), CUDNN_STATUS_SUCCESS);
  }
  ~Made() { (void)CUDNN(BackendDestroyDescriptor)(descriptor_); }
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;

  cudnnBackendDescriptor_t get() const { return descriptor_; }
  cudnnStatus_t Finalize() const { return CUDNN(BackendFinalize)(descriptor_); }

  template <typename T>
  cudnnStatus_t SetAll(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                       const std::vector<T>& values) const {
    return CUDNN(BackendSetAttribute)(descriptor_, name, type, values.size(), values.data());
  }
  template <typename T>
  cudnnStatus_t Set(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                    T value) const {
    return CUDNN(BackendSetAttribute)(descriptor_, name, type, 1, &value);
  }
  cudnnStatus_t Refer(cudnnBackendAttributeName_t name, const Made& to) const {
    return Set(name, CUDNN_TYPE_BACKEND_DESCRIPTOR, to.get());
  }
  template <typename T>
  T Get(cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type) const {
    T value = {};
    EXPECT_EQ(CUDNN(BackendGetAttribute)(descriptor_, name, type, 1, nullptr, &value),
              CUDNN_STATUS_SUCCESS)
        << LastError();
    return value;
  }

 private:
  cudnnBackendDescriptor_t descriptor_ = nullptr;
};

struct TensorSpec {
  int64_t uid;
  std::vector<int64_t> dims, strides;
  cudnnDataType_t dtype = CUDNN_DATA_BFLOAT16;
  bool is_virtual = false;
  const TensorSpec* offsets = nullptr;
};

struct MadeTensor : Made {
  explicit MadeTensor(const TensorSpec& spec) : Made(CUDNN_BACKEND_TENSOR_DESCRIPTOR) {
    SetAll(CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, spec.dims);
    SetAll(CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, spec.strides);
    Set(CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, spec.dtype);
    Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, spec.uid);
    Set(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, CUDNN_TYPE_INT64, int64_t{16});
    Set(CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, spec.is_virtual);
    if (spec.offsets != nullptr) {
      Refer(CUDNN_ATTR_TENSOR_RAGGED_OFFSET_DESC, MadeTensor(*spec.offsets));
    }
    EXPECT_EQ(Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
  }
};

// Not finalized.
struct MadeMatmul : Made {
  MadeMatmul(const TensorSpec& a, const TensorSpec& b, const TensorSpec& c)
      : Made(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
    const Made matmul(CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    matmul.Set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
    EXPECT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS);
    Refer(CUDNN_ATTR_OPERATION_MATMUL_ADESC, MadeTensor(a));
    Refer(CUDNN_ATTR_OPERATION_MATMUL_BDESC, MadeTensor(b));
    Refer(CUDNN_ATTR_OPERATION_MATMUL_CDESC, MadeTensor(c));
    Refer(CUDNN_ATTR_OPERATION_MATMUL_DESC, matmul);
  }
};

constexpr int64_t kA = 1, kB = 2, kC = 3, kLengths = 4, kOffsets = 5;

// c [8, 8] = a [8, 16] b [16, 8].
TensorSpec A() { return {kA, {1, 1, 8, 16}, {128, 128, 16, 1}}; }
TensorSpec B() { return {kB, {1, 1, 16, 8}, {128, 128, 8, 1}}; }
TensorSpec C() { return {kC, {1, 1, 8, 8}, {64, 64, 8, 1}}; }

class CudnnContractTest : public ::testing::Test {
 protected:
  CudnnContractTest() {
    EXPECT_EQ(SetCudnnOptions({}), absl::OkStatus());
    EXPECT_EQ(CUDNN(Create)(&handle_), CUDNN_STATUS_SUCCESS);
    auto stream = CudaOwnStream::Create();
    EXPECT_TRUE(stream.ok());
    stream_ = *std::move(stream);
    EXPECT_EQ(CUDNN(SetStream)(handle_, stream_.get()), CUDNN_STATUS_SUCCESS);
  }
  ~CudnnContractTest() override { (void)CUDNN(Destroy)(handle_); }

  // The graph of one operation, which must be finalized.
  void MakeGraph(const Made& operation) {
    graph_.Set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle_);
    ASSERT_EQ(graph_.Refer(CUDNN_ATTR_OPERATIONGRAPH_OPS, operation), CUDNN_STATUS_SUCCESS)
        << LastError();
    ASSERT_EQ(graph_.Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
  }

  int64_t NumEngines() {
    heuristic_.Refer(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph_);
    heuristic_.Set(CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, CUDNN_HEUR_MODE_A);
    EXPECT_EQ(heuristic_.Finalize(), CUDNN_STATUS_SUCCESS);
    int64_t count = -1;
    EXPECT_EQ(CUDNN(BackendGetAttribute)(heuristic_.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count, nullptr),
              CUDNN_STATUS_SUCCESS);
    return count;
  }

  // Not finalized.
  void MakePlan(const Made& operation) {
    MakeGraph(operation);
    ASSERT_EQ(NumEngines(), 1) << LastError();
    const Made config(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    cudnnBackendDescriptor_t to = config.get();
    ASSERT_EQ(CUDNN(BackendGetAttribute)(heuristic_.get(), CUDNN_ATTR_ENGINEHEUR_RESULTS,
                                         CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, nullptr, &to),
              CUDNN_STATUS_SUCCESS);
    ASSERT_EQ(plan_.Refer(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config), CUDNN_STATUS_SUCCESS);
  }
  void MakeMatmulPlan(const TensorSpec& a = A()) {
    const MadeMatmul matmul(a, B(), C());
    ASSERT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
    MakePlan(matmul);
  }

  cudnnStatus_t Execute(const std::vector<int64_t>& uids, const std::vector<void*>& addresses) {
    const Made pack(CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    pack.SetAll(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, uids);
    pack.SetAll(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, addresses);
    pack.Set(CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, workspace_);
    const cudnnStatus_t finalized = pack.Finalize();
    if (finalized != CUDNN_STATUS_SUCCESS) return finalized;
    return CUDNN(BackendExecute)(handle_, plan_.get(), pack.get());
  }

  ScopedEmulatedGpu gpu_{{}};  // a test's faults are its own
  cudnnHandle_t handle_ = nullptr;
  CudaOwnStream stream_;
  Made graph_{CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR};
  Made heuristic_{CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR};
  Made plan_{CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
  void* workspace_ = nullptr;
};

// Device memory with small integers, whose products are exact.
class OnDevice {
 public:
  OnDevice(int64_t num_elements, int64_t factor) : host_(num_elements) {
    for (int64_t i = 0; i < num_elements; ++i) host_[i] = Bf16(i * factor % 7 - 3);
    memory_ = *CudaMemory::Allocate(num_elements * sizeof(Bf16));
    EXPECT_TRUE(CopyToDevice(data(), host_.data(), num_elements * sizeof(Bf16), nullptr).ok());
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
  }

  void* data() const { return memory_.data(); }
  float host(int64_t i) const { return static_cast<float>(host_[i]); }
  std::vector<float> Read() {
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
    EXPECT_TRUE(CopyToHost(host_.data(), data(), host_.size() * sizeof(Bf16), nullptr).ok());
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
    std::vector<float> values;
    for (const Bf16 value : host_) values.push_back(static_cast<float>(value));
    return values;
  }

 private:
  std::vector<Bf16> host_;
  CudaMemory memory_;
};

std::vector<float> Product(const OnDevice& a, int64_t row_stride, int64_t column_stride,
                           const OnDevice& b) {
  std::vector<float> c(64, 0);
  for (int64_t i = 0; i < 8; ++i) {
    for (int64_t j = 0; j < 8; ++j) {
      for (int64_t l = 0; l < 16; ++l) {
        c[i * 8 + j] += a.host(i * row_stride + l * column_stride) * b.host(l * 8 + j);
      }
    }
  }
  return c;
}

TEST_F(CudnnContractTest, ComputesByTheStridesThatItIsGiven) {
  const OnDevice a(128, 3), b(128, 5);
  OnDevice c(64, 1);
  const CudaMemory workspace = *CudaMemory::Allocate(256);
  workspace_ = workspace.data();
  // The same memory as a matrix of 16 rows, transposed.
  MakeMatmulPlan({kA, {1, 1, 8, 16}, {128, 128, 1, 8}});
  ASSERT_EQ(plan_.Finalize(), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(plan_.Get<int64_t>(CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64), 256);
  ASSERT_EQ(Execute({kA, kB, kC}, {a.data(), b.data(), c.data()}), CUDNN_STATUS_SUCCESS)
      << LastError();
  EXPECT_THAT(c.Read(), AllOf(ElementsAreArray(Product(a, 1, 8, b)),
                              Not(ElementsAreArray(Product(a, 16, 1, b)))));
  std::vector<uint8_t> left(256);
  ASSERT_TRUE(CopyToHost(left.data(), workspace.data(), 256, nullptr).ok());
  ASSERT_TRUE(SynchronizeCudaDevice().ok());
  EXPECT_THAT(left, Each(0xff));
}

// Entries of at most 8 rows of 8 numbers in one tensor: c = a b for each, with one b.
class RaggedCudnnTest : public CudnnContractTest {
 protected:
  // Returns what the device says.
  std::string Run(const std::vector<int32_t>& lengths, const std::vector<int64_t>& offsets) {
    const TensorSpec length = {kLengths, {2, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_INT32};
    const TensorSpec offset = {kOffsets, {3, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_INT64};
    TensorSpec a = {kA, {2, 1, 8, 8}, {64, 64, 8, 1}}, c = a;
    c.uid = kC;
    a.offsets = c.offsets = &offset;
    const MadeMatmul matmul(a, {kB, {1, 1, 8, 8}, {64, 64, 8, 1}}, c);
    matmul.Refer(CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, MadeTensor(length));
    EXPECT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
    MakePlan(matmul);
    EXPECT_EQ(plan_.Finalize(), CUDNN_STATUS_SUCCESS);
    const CudaMemory workspace = *CudaMemory::Allocate(1 << 15);
    workspace_ = workspace.data();
    const CudaMemory device_lengths = Copy(lengths), device_offsets = Copy(offsets);
    EXPECT_EQ(
        Execute({kA, kB, kC, kLengths, kOffsets},
                {a_.data(), b_.data(), c_.data(), device_lengths.data(), device_offsets.data()}),
        CUDNN_STATUS_SUCCESS)
        << LastError();
    return std::string(SynchronizeCudaStream(stream_.get()).message());
  }

  template <typename T>
  static CudaMemory Copy(const std::vector<T>& values) {
    CudaMemory memory = *CudaMemory::Allocate(values.size() * sizeof(T));
    EXPECT_TRUE(
        CopyToDevice(memory.data(), values.data(), values.size() * sizeof(T), nullptr).ok());
    EXPECT_TRUE(SynchronizeCudaDevice().ok());
    return memory;
  }

  OnDevice a_{96, 3}, b_{64, 5}, c_{96, 1};  // 12 rows
};

TEST_F(RaggedCudnnTest, WritesTheRowsOfEachEntryAlone) {
  const std::vector<float> before = c_.Read();
  EXPECT_EQ(Run({3, 5}, {8, 40, 88}), "");  // rows 1 to 3, and 5 to 9
  const std::vector<float> after = c_.Read();
  for (int64_t row = 0; row < 12; ++row) {
    const bool written = (row >= 1 && row < 4) || (row >= 5 && row < 10);
    for (int64_t column = 0; column < 8; ++column) {
      float sum = 0;
      for (int64_t k = 0; k < 8; ++k) sum += a_.host(row * 8 + k) * b_.host(k * 8 + column);
      EXPECT_EQ(after[row * 8 + column], written ? sum : before[row * 8 + column]) << row;
    }
  }
}

TEST_F(RaggedCudnnTest, TakesEntriesWithoutRows) {
  const std::vector<float> before = c_.Read();
  EXPECT_EQ(Run({0, 0}, {96, 96, 96}), "");
  EXPECT_EQ(c_.Read(), before);
}

TEST_F(RaggedCudnnTest, FindsEntriesThatOverlap) {
  EXPECT_THAT(Run({3, 5}, {8, 24, 64}), HasSubstr("entry 0, which reaches into the next"));
}

TEST_F(RaggedCudnnTest, FindsEntriesThatAreNotAligned) {
  EXPECT_THAT(Run({3, 5}, {8, 44, 88}), HasSubstr("entry 1, which is not aligned"));
}

TEST_F(RaggedCudnnTest, FindsLengthsThatAreTooLarge) {
  EXPECT_THAT(Run({3, 9}, {0, 24, 96}), HasSubstr("entry 1 of 9 rows"));
}

TEST_F(CudnnContractTest, OffsetsAreOneMoreThanTheBatchHas) {
  const TensorSpec offset = {kOffsets, {1, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_INT64};
  TensorSpec a = A();
  a.offsets = &offset;
  const MadeMatmul matmul(a, B(), C());
  EXPECT_EQ(matmul.Finalize(), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  EXPECT_THAT(LastError(), HasSubstr("tensor 5 [ 1 1 1 1 ] is not of 2 integers"));
}

TEST_F(CudnnContractTest, OffsetsWithoutLengthsAreFound) {
  const TensorSpec offset = {kOffsets, {2, 1, 1, 1}, {1, 1, 1, 1}, CUDNN_DATA_INT64};
  TensorSpec a = A();
  a.offsets = &offset;
  const MadeMatmul matmul(a, B(), C());
  ASSERT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
  MakeGraph(matmul);
  EXPECT_EQ(NumEngines(), 0);
  EXPECT_EQ(LastError(), "tensor 1 has offsets, and no matmul has lengths");
}

TEST_F(CudnnContractTest, ExecutesOnlyFinalizedPlans) {
  MakeMatmulPlan();
  EXPECT_EQ(Execute({kA}, {this}), CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
}

TEST_F(CudnnContractTest, NeedsAnAddressForEachTensor) {
  const OnDevice a(128, 3), b(128, 5), c(65, 1);
  const CudaMemory workspace = *CudaMemory::Allocate(256);
  MakeMatmulPlan();
  ASSERT_EQ(plan_.Finalize(), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(Execute({kA, kB, kC}, {a.data(), b.data(), c.data()}),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(LastError(), "the plan needs a workspace");
  workspace_ = workspace.data();
  EXPECT_EQ(Execute({kA, kB}, {a.data(), b.data()}), CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(LastError(), "tensor 3 has no address");
  EXPECT_EQ(Execute({kA, kB, kC}, {a.data(), nullptr, c.data()}),
            CUDNN_STATUS_BAD_PARAM_NULL_POINTER);
  EXPECT_EQ(Execute({kA, kB, kC, 4}, {a.data(), b.data(), c.data(), c.data()}),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(LastError(), "the graph has no tensor 4 in memory");
  EXPECT_EQ(Execute({kA, kB, kB}, {a.data(), b.data(), c.data()}),
            CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
  EXPECT_EQ(Execute({kA, kB, kC}, {a.data(), b.data()}), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(Execute({kA, kB, kC}, {a.data(), b.data(), static_cast<char*>(c.data()) + 2}),
            CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER);
}

TEST_F(CudnnContractTest, NeedsAStreamAndALiveHandle) {
  MakeMatmulPlan();
  ASSERT_EQ(plan_.Finalize(), CUDNN_STATUS_SUCCESS);
  cudnnHandle_t fresh = nullptr;
  ASSERT_EQ(CUDNN(Create)(&fresh), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(CUDNN(BackendExecute)(fresh, plan_.get(), plan_.get()),
            CUDNN_STATUS_BAD_PARAM_STREAM_MISMATCH);
  ASSERT_EQ(CUDNN(Destroy)(fresh), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(CUDNN(Destroy)(fresh), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(LastError(), "there is no such handle");
}

TEST_F(CudnnContractTest, StatisticsOfRowsAreF32) {
  const Made reduction(CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
  reduction.Set(CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT);
  reduction.Set(CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE,
                CUDNN_REDUCE_TENSOR_MAX);
  ASSERT_EQ(reduction.Finalize(), CUDNN_STATUS_SUCCESS);
  const Made operation(CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
  operation.Refer(CUDNN_ATTR_OPERATION_REDUCTION_DESC, reduction);
  operation.Refer(CUDNN_ATTR_OPERATION_REDUCTION_XDESC, MadeTensor(A()));
  operation.Refer(CUDNN_ATTR_OPERATION_REDUCTION_YDESC,
                  MadeTensor({kC, {1, 1, 8, 1}, {8, 8, 1, 1}, CUDNN_DATA_BFLOAT16}));
  ASSERT_EQ(operation.Finalize(), CUDNN_STATUS_SUCCESS) << LastError();
  MakeGraph(operation);
  EXPECT_EQ(NumEngines(), 0);
  EXPECT_EQ(LastError(), "tensor 3 is a statistic of rows and not f32");
}

TEST_F(CudnnContractTest, FactorsInMemoryAreBf16) {
  const MadeMatmul matmul({kA, {1, 1, 8, 16}, {128, 128, 16, 1}, CUDNN_DATA_FLOAT}, B(), C());
  ASSERT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS);
  MakeGraph(matmul);
  EXPECT_EQ(NumEngines(), 0);
  EXPECT_EQ(LastError(), "tensor 1 is multiplied and not bf16");
}

TEST_F(CudnnContractTest, AMatmulWhoseShapesDoNotFitIsFound) {
  const MadeMatmul matmul(A(), {kB, {1, 1, 8, 8}, {64, 64, 8, 1}}, C());
  EXPECT_EQ(matmul.Finalize(), CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH);
  EXPECT_THAT(LastError(), HasSubstr("tensor 1 [ 1 1 8 16 ] and tensor 2 [ 1 1 8 8 ]"));
}

TEST_F(CudnnContractTest, AComparisonHasTwoInputs) {
  const Made mode(CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
  mode.Set(CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, CUDNN_POINTWISE_CMP_GT);
  mode.Set(CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_BOOLEAN);
  ASSERT_EQ(mode.Finalize(), CUDNN_STATUS_SUCCESS);
  const Made operation(CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
  operation.Refer(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, mode);
  operation.Refer(CUDNN_ATTR_OPERATION_POINTWISE_XDESC, MadeTensor(A()));
  TensorSpec y = A();
  y.uid = kC;
  operation.Refer(CUDNN_ATTR_OPERATION_POINTWISE_YDESC, MadeTensor(y));
  EXPECT_EQ(operation.Finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(LastError(), HasSubstr("has 1 inputs"));
}

TEST_F(CudnnContractTest, TwoTensorsOfOneUidAreFound) {
  TensorSpec b = B();
  b.uid = kA;
  const MadeMatmul matmul(A(), b, C());
  EXPECT_EQ(matmul.Finalize(), CUDNN_STATUS_BAD_PARAM_DUPLICATED_ENTRIES);
}

TEST_F(CudnnContractTest, AVirtualTensorThatNothingWritesIsFound) {
  TensorSpec a = A();
  a.is_virtual = true;
  const MadeMatmul matmul(a, B(), C());
  ASSERT_EQ(matmul.Finalize(), CUDNN_STATUS_SUCCESS);
  graph_.Set(CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, handle_);
  ASSERT_EQ(graph_.Refer(CUDNN_ATTR_OPERATIONGRAPH_OPS, matmul), CUDNN_STATUS_SUCCESS);
  EXPECT_EQ(graph_.Finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(LastError(), "no operation writes the virtual tensor 1");
}

TEST_F(CudnnContractTest, AttributesAreOfTheDescriptorsTypeAndSetInTime) {
  const Made tensor(CUDNN_BACKEND_TENSOR_DESCRIPTOR);
  EXPECT_EQ(tensor.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT32, 1),
            CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE);
  EXPECT_EQ(tensor.Set(CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, CUDNN_DATA_FLOAT),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(
      tensor.SetAll(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, std::vector<int64_t>{1, 2}),
      CUDNN_STATUS_BAD_PARAM);
  EXPECT_EQ(tensor.Finalize(), CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(LastError(), HasSubstr("is not set"));
  const MadeTensor finalized(A());
  EXPECT_EQ(finalized.Set(CUDNN_ATTR_TENSOR_UNIQUE_ID, CUDNN_TYPE_INT64, int64_t{9}),
            CUDNN_STATUS_BAD_PARAM);
  EXPECT_THAT(LastError(), HasSubstr("after the descriptor is finalized"));
  const Made matmul(CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
  EXPECT_EQ(matmul.Refer(CUDNN_ATTR_OPERATION_MATMUL_ADESC, tensor),
            CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED);
  EXPECT_EQ(matmul.Refer(CUDNN_ATTR_OPERATION_MATMUL_DESC, finalized),
            CUDNN_STATUS_BAD_PARAM_DESCRIPTOR_TYPE);
}

}  // namespace
}  // namespace strake
