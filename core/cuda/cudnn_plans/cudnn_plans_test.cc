// The installed cuDNN compiles the kernels of our presets' attention, for GPUs that are not there.
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/dynamic_library.h"
#include "core/cuda/cudnn_graphs.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using cudnn_frontend::DeviceProperties;
using cudnn_frontend::error_t;

struct Gpu {
  const char* name;
  int architecture, num_multiprocessors, shared_bytes_per_block;
};
constexpr Gpu kA100 = {"A100", 80, 108, 166912};
constexpr Gpu kH200 = {"H200", 90, 132, 232448};
constexpr Gpu kB200 = {"B200", 100, 148, 232448};

// Returns the value of CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION. Properties that are the same for
// all three, or do not matter for attention, are the H200's.
std::string PropertiesOf(const Gpu& gpu) {
  return absl::StrCat(
      R"({"deviceName": ")", gpu.name, R"(", "cudaDeviceId": 0, "deviceVer": )",
      10 * gpu.architecture, R"(, "driverVer": 13000, "multiProcessorCount": )",
      gpu.num_multiprocessors, R"(, "maxSharedMemoryPerBlockOptin": )", gpu.shared_bytes_per_block,
      R"(, "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,)",
      R"( "oversizedSharedMemoryPerBlock": 0, "maxGridSize": [2147483647, 65535, 65535],)",
      R"( "maxBlockSize": [1024, 1024, 64], "regsPerBlock": 65536, "maxRegistersPerSM": 65536,)",
      R"( "maxCtasPerSM": 32, "maxThreadsPerBlock": 1024, "maxThreadsPerSM": 2048,)",
      R"( "warpSize": 32, "smClockRateKHz": 1980000, "memClockRateKHz": 3201000,)",
      R"( "memoryBusWidth": 6144, "l2CacheSize": 62914560, "totalGlobalMem": 150000000000,)",
      R"( "supportCoopLaunch": 1, "isTccDriver": 0, "pciDeviceId": 0})");
}

struct Preset {
  const char* name;
  CudnnAttentionShape shape;
};
// Shapes at the largest micro-batches of tools/gpu_bundle/parts/sizes.sh.
const Preset kGpt2Small = {"GPT-2 124M", {64, 1024, 12, 12, 64}};
const Preset kGpt2Xl = {"GPT-2 1558M", {32, 1024, 25, 25, 64}};
const Preset kLlama = {"Llama-3-8B", {2, 8192, 32, 8, 128}};
const Preset kRagged = {"ragged tiles", {3, 333, 6, 2, 64}};
const Preset kMistral = {"Mistral 7B", {2, 8192, 32, 8, 128, true, /*window=*/4096}};
const Preset kPhi3 = {"Phi-3-mini", {2, 4096, 32, 32, 96, true, /*window=*/2047}};
const Preset kShortWindow = {"a short window", {3, 1000, 6, 2, 64, true, /*window=*/100, 0.1}};

CudnnAttentionShape WithDocuments(CudnnAttentionShape shape) {
  shape.num_documents = CudnnMaxDocuments(shape.batch, shape.seq_len);
  return shape;
}
const Preset kGpt2Documents = {"GPT-2 124M, documents", WithDocuments({64, 1024, 12, 12, 64})};
const Preset kLlamaDocuments = {"Llama-3-8B, documents", WithDocuments({2, 8192, 32, 8, 128})};
const Preset kRaggedDocuments = {"a short window, documents",
                                 WithDocuments({3, 1000, 6, 2, 96, true, /*window=*/100, 0.1})};

class CudnnPlansTest : public ::testing::Test {
 protected:
  void SetUp() override {
    // cuDNN looks for libcuda.so.1, and by then a library of that name is loaded.
    const auto driver = DynamicLibrary::Load("the driver", {"core/cuda/cudnn_plans/libcuda.so.1"});
    ASSERT_TRUE(driver.ok()) << driver.status();
    const absl::Status loaded = LoadCudnn();
    if (!loaded.ok()) GTEST_SKIP() << loaded.message();
  }

  static void ExpectFits(const Gpu& gpu, const Preset& preset, const char* pass, size_t planned,
                         const absl::StatusOr<CudnnGraph>& graph) {
    SCOPED_TRACE(absl::StrCat(gpu.name, ", ", preset.name, ", ", pass));
    if (absl::StrContains(graph.status().message(), "PREREQUISITE_MISSING")) {
      GTEST_SKIP() << graph.status().message();  // NVRTC, which compiles the kernels
    }
    ASSERT_TRUE(graph.ok()) << graph.status();
    int64_t bytes = -1;
    std::string engine;
    ASSERT_TRUE((*graph)->get_workspace_size(bytes).is_good());
    ASSERT_TRUE((*graph)->get_plan_name(engine).is_good());
    std::cout << gpu.name << ", " << preset.name << ", " << pass << ": workspace " << bytes
              << " bytes, planned " << planned << ", " << engine << "\n";
    EXPECT_LE(bytes, planned);
    EXPECT_GE(bytes, 0);
  }

  static void ExpectPlans(const Gpu& gpu, const Preset& preset) {
    auto properties = std::make_shared<DeviceProperties>();
    const std::string json = PropertiesOf(gpu);
    error_t read = properties->deserialize({json.begin(), json.end()});
    ASSERT_TRUE(read.is_good()) << read.get_message();
    const CudnnTarget target = {gpu.architecture, nullptr, properties};
    CudnnAttentionShape shape = preset.shape;
    ExpectFits(gpu, preset, "forward", CudnnForwardWorkspaceBytes(shape),
               BuildCudnnForward(target, shape));
    ExpectFits(gpu, preset, "backward", CudnnBackwardWorkspaceBytes(shape),
               BuildCudnnBackward(target, shape));
    shape.deterministic = false;
    ExpectFits(gpu, preset, "backward, not deterministic", CudnnBackwardWorkspaceBytes(shape),
               BuildCudnnBackward(target, shape));
  }
};

TEST_F(CudnnPlansTest, Gpt2OnH200) {
  ExpectPlans(kH200, kGpt2Small);
  ExpectPlans(kH200, kGpt2Xl);
}
TEST_F(CudnnPlansTest, LlamaOnH200) { ExpectPlans(kH200, kLlama); }
TEST_F(CudnnPlansTest, RaggedTilesOnH200) { ExpectPlans(kH200, kRagged); }
TEST_F(CudnnPlansTest, LlamaOnA100) { ExpectPlans(kA100, kLlama); }
TEST_F(CudnnPlansTest, RaggedTilesOnA100) { ExpectPlans(kA100, kRagged); }
TEST_F(CudnnPlansTest, RaggedTilesOnB200) { ExpectPlans(kB200, kRagged); }
TEST_F(CudnnPlansTest, WindowsOnH200) {
  ExpectPlans(kH200, kMistral);
  ExpectPlans(kH200, kPhi3);
  ExpectPlans(kH200, kShortWindow);
}
TEST_F(CudnnPlansTest, WindowsOnA100) {
  ExpectPlans(kA100, kPhi3);
  ExpectPlans(kA100, kShortWindow);
}
TEST_F(CudnnPlansTest, WindowsOnB200) {
  ExpectPlans(kB200, kPhi3);
  ExpectPlans(kB200, kShortWindow);
}

TEST_F(CudnnPlansTest, DocumentsOnH200) {
  ExpectPlans(kH200, kGpt2Documents);
  ExpectPlans(kH200, kLlamaDocuments);
  ExpectPlans(kH200, kRaggedDocuments);
}
TEST_F(CudnnPlansTest, DocumentsOnB200) {
  ExpectPlans(kB200, kGpt2Documents);
  ExpectPlans(kB200, kRaggedDocuments);
}
// There, neither backward pass takes lse at offsets; our own kernels run.
TEST_F(CudnnPlansTest, DocumentsOnA100AreRefused) {
  auto properties = std::make_shared<DeviceProperties>();
  const std::string json = PropertiesOf(kA100);
  ASSERT_TRUE(properties->deserialize({json.begin(), json.end()}).is_good());
  CudnnAttentionShape shape = kRaggedDocuments.shape;
  for (const bool deterministic : {true, false}) {
    shape.deterministic = deterministic;
    const auto graph = BuildCudnnBackward({80, nullptr, properties}, shape);
    EXPECT_TRUE(absl::StrContains(graph.status().message(), "not supported for bprop thd"))
        << graph.status();
  }
}

}  // namespace
}  // namespace strake
