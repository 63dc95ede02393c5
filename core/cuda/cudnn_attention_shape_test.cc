#include "core/cuda/cudnn_attention_shape.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::HasSubstr;

TEST(CheckCudnnTakesTest, HeadsOf64To128InSequencesOfATileOrMore) {
  EXPECT_TRUE(CheckCudnnTakes({1, 64, 1, 1, 64}).ok());
  EXPECT_TRUE(CheckCudnnTakes({3, 1000, 8, 2, 128}).ok());
  EXPECT_TRUE(CheckCudnnTakes({1, 64, 4, 4, 96}).ok());
  EXPECT_THAT(CheckCudnnTakes({1, 64, 1, 1, 80}).message(), HasSubstr("not for 80"));
  EXPECT_THAT(CheckCudnnTakes({1, 63, 1, 1, 64}).message(),
              HasSubstr("seq_len from 64 on, and not for batch 1, seq_len 63"));
  EXPECT_FALSE(CheckCudnnTakes({0, 64, 1, 1, 64}).ok());
}

TEST(CheckCudnnTakesTest, WindowsAndScalesAndNoSoftCaps) {
  CudnnAttentionShape shape = {1, 64, 1, 1, 64, true, /*window=*/16, /*score_scale=*/0.25};
  EXPECT_TRUE(CheckCudnnTakes(shape).ok());
  shape.score_softcap = 50;
  EXPECT_THAT(CheckCudnnTakes(shape).message(),
              HasSubstr("without a soft cap, and not for score_softcap 50"));
  EXPECT_THAT(shape.ToString(), HasSubstr("window 16, score_scale 0.25, score_softcap 50"));
}

TEST(CudnnAttentionShapeTest, AWindowOfAllTokensIsNone) {
  EXPECT_TRUE(CudnnAttentionShape({1, 64, 1, 1, 64, true, 63}).HasWindow());
  EXPECT_FALSE(CudnnAttentionShape({1, 64, 1, 1, 64, true, 64}).HasWindow());
  EXPECT_FALSE(CudnnAttentionShape({1, 64, 1, 1, 64}).HasWindow());
}

TEST(CheckCudnnVersionTest, NamesWhatIsTooOld) {
  EXPECT_TRUE(CheckCudnnVersion(91800, "libcudnn.so.9").ok());
  EXPECT_TRUE(CheckCudnnVersion(92601, "libcudnn.so.9").ok());
  EXPECT_EQ(CheckCudnnVersion(91701, "/opt/libcudnn.so.9").message(),
            "cuDNN 9.17 in /opt/libcudnn.so.9 is too old: 9.18 or newer is needed");
  EXPECT_THAT(CheckCudnnVersion(8907, "x").message(), HasSubstr("cuDNN 8.9 "));
}

// The sizes that the libraries reported for these shapes: the larger of 9.19 and 9.28 on sm_90.
TEST(CudnnWorkspaceTest, HoldsWhatTheLibraryWants) {
  struct Case {
    CudnnAttentionShape shape;
    size_t wanted_bytes;
  };
  for (const Case& c : {Case{{1, 128, 2, 1, 64}, 132352},
                        {{16, 1024, 25, 25, 64}, 840499456},
                        {{1, 8192, 32, 8, 128}, 4430233856},
                        {{2, 100, 4, 2, 128}, 822528},  // sm_100
                        {{2, 2048, 8, 4, 96}, 146931968},
                        {{3, 333, 6, 2, 64}, 6867112}}) {
    const size_t planned = CudnnBackwardWorkspaceBytes(c.shape);
    EXPECT_GE(planned, c.wanted_bytes) << c.shape.ToString();
    EXPECT_LE(planned, c.wanted_bytes + 8192) << c.shape.ToString();
    EXPECT_GE(CudnnForwardWorkspaceBytes(c.shape), 256);
  }
}

// Figures are those of sm_80, which wants most.
TEST(CudnnWorkspaceTest, HoldsWhatTheLibraryWantsWhereItIsNotDeterministic) {
  EXPECT_GE(CudnnBackwardWorkspaceBytes({16, 1024, 12, 12, 64, false}), 101449856);
  EXPECT_GE(CudnnBackwardWorkspaceBytes({1, 8192, 32, 8, 128, false}), 403701888);
  EXPECT_LE(CudnnBackwardWorkspaceBytes({1, 8192, 32, 8, 128, false}), 403701888 + 4096);
  EXPECT_GE(CudnnBackwardWorkspaceBytes({2, 2048, 8, 4, 96, false}), 37879936);
  EXPECT_GE(CudnnBackwardWorkspaceBytes({3, 333, 6, 2, 64, false}), 4641320);
}

TEST(CudnnMaxDocumentsTest, IsOneForATileAndAtMost16ForASequence) {
  EXPECT_EQ(CudnnMaxDocuments(3, 64), 3);
  EXPECT_EQ(CudnnMaxDocuments(3, 127), 3);
  EXPECT_EQ(CudnnMaxDocuments(3, 128), 6);
  EXPECT_EQ(CudnnMaxDocuments(64, 1024), 1024);
  EXPECT_EQ(CudnnMaxDocuments(2, 8192), 32);
  EXPECT_EQ(CudnnMaxDocuments(3, 10), 3);
}

CudnnAttentionShape WithDocuments(CudnnAttentionShape shape) {
  shape.num_documents = CudnnMaxDocuments(shape.batch, shape.seq_len);
  return shape;
}

// The sizes that 9.19 reported on sm_90.
TEST(CudnnWorkspaceTest, HoldsWhatTheLibraryWantsWithDocuments) {
  const CudnnAttentionShape gpt2 = WithDocuments({64, 1024, 12, 12, 64});
  const CudnnAttentionShape llama = WithDocuments({2, 8192, 32, 8, 128});
  EXPECT_GE(CudnnForwardWorkspaceBytes(gpt2), 262912);
  EXPECT_GE(CudnnBackwardWorkspaceBytes(gpt2), 1613784064);
  EXPECT_GE(CudnnBackwardWorkspaceBytes({64, 1024, 12, 12, 64, false, 0, 0, 0, 1024}), 204497920);
  EXPECT_GE(CudnnForwardWorkspaceBytes(llama), 17152);
  EXPECT_GE(CudnnBackwardWorkspaceBytes(llama), 8860468480);
  // Documents cost no other workspace than sequences.
  EXPECT_LE(CudnnBackwardWorkspaceBytes(llama),
            CudnnBackwardWorkspaceBytes({2, 8192, 32, 8, 128}) + (1 << 16));
}

}  // namespace
}  // namespace strake
