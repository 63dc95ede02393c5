#include "core/cuda/cudnn_attention_shape.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace strake {
namespace {

// For what cuDNN adds itself, and for its alignment.
constexpr size_t kSlackBytes = 4096;

// The oldest version that needs no copy from the host within a pass if T is not a multiple of 128,
// and that is deterministic on sm_100.
constexpr int64_t kFirstVersion = 91800;

// One tile.
constexpr int64_t kMinSeqLen = 64;

// What cuDNN 9.19 asks for with documents, at most: 256 bytes for each in the forward pass, 400 in
// the backward pass, and 930 in that on sm_100, and not for fewer than 64.
constexpr size_t kDocumentBytes = 512;

int64_t RoundUp(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

size_t DocumentBytes(int64_t documents) { return kDocumentBytes * RoundUp(documents, 64); }

}  // namespace

std::string CudnnAttentionShape::ToString() const {
  std::string text = absl::StrCat("batch ", batch, ", seq_len ", seq_len, ", num_heads ", num_heads,
                                  ", num_kv_heads ", num_kv_heads, ", head_dim ", head_dim);
  if (window != 0) absl::StrAppend(&text, ", window ", window);
  if (score_scale != 0) absl::StrAppend(&text, ", score_scale ", score_scale);
  if (score_softcap != 0) absl::StrAppend(&text, ", score_softcap ", score_softcap);
  if (!deterministic) text += ", not deterministic";
  if (num_documents != 0) absl::StrAppend(&text, ", at most ", num_documents, " documents");
  return text;
}

absl::Status CheckCudnnTakes(const CudnnAttentionShape& shape) {
  if (shape.head_dim != 64 && shape.head_dim != 96 && shape.head_dim != 128) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuDNN is used for head_dim 64, 96 and 128, and not for ", shape.head_dim));
  }
  if (shape.score_softcap != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("cuDNN is used for scores without a soft cap, and not for score_softcap ",
                     shape.score_softcap));
  }
  if (shape.batch < 1 || shape.seq_len < kMinSeqLen) {
    return absl::InvalidArgumentError(absl::StrCat("cuDNN is used for seq_len from ", kMinSeqLen,
                                                   " on, and not for ", shape.ToString()));
  }
  return absl::OkStatus();
}

absl::Status CheckCudnnVersion(int64_t version, absl::string_view path) {
  if (version >= kFirstVersion) return absl::OkStatus();
  // Before 9.0, versions were written like 8907.
  const int64_t major = version / (version < 10000 ? 1000 : 10000);
  const int64_t minor = version % (version < 10000 ? 1000 : 10000) / 100;
  return absl::FailedPreconditionError(absl::StrCat("cuDNN ", major, ".", minor, " in ", path,
                                                    " is too old: 9.18 or newer is needed"));
}

int64_t CudnnMaxDocuments(int64_t batch, int64_t seq_len) {
  return batch * std::clamp<int64_t>(seq_len / kMinSeqLen, 1, 16);
}

size_t CudnnForwardWorkspaceBytes(const CudnnAttentionShape& s) {
  return kSlackBytes + DocumentBytes(s.num_documents);
}

size_t CudnnBackwardWorkspaceBytes(const CudnnAttentionShape& s) {
  const size_t slack_bytes = kSlackBytes + DocumentBytes(s.num_documents == 0 ? 0 : s.batch);
  const int64_t rows = s.batch * s.num_heads * s.seq_len;
  // Gradients of keys and values per query head, which are then summed over each group.
  const int64_t group_elements = s.num_heads == s.num_kv_heads ? 0 : 2 * rows * s.head_dim;
  const int64_t row_sums = 4 * rows;
  if (!s.deterministic) {
    // The gradient of the queries in f32, and on sm_80 another one in whole tiles.
    const int64_t padded_rows = s.batch * s.num_heads * RoundUp(s.seq_len, 128);
    return row_sums + 4 * (rows + padded_rows) * s.head_dim + 2 * group_elements + slack_bytes;
  }
  const int64_t scores = s.batch * s.num_heads * RoundUp(s.seq_len, 64) * RoundUp(s.seq_len, 128);
  return row_sums + std::max(2 * scores + 2 * group_elements, 4 * group_elements) + slack_bytes;
}

}  // namespace strake
