// Sequences cut into chunks, and their attention as calls of partial attention, for tests.
#ifndef STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_PROBLEM_H_
#define STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_PROBLEM_H_

#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "core/ops/attention/causal_attention.h"
#include "core/ops/attention/partial_attention.h"
#include "core/ops/documents.h"
#include "core/testing/attention_tolerance.h"
#include "core/testing/test_context.h"
#include "core/testing/test_tensor.h"
#include "gtest/gtest.h"

namespace strake::testing {

// Rows of a matrix from `row` on, of the columns from `column` on.
struct Block {
  const Tensor& matrix;
  int64_t row = 0, column = 0;
};

inline void CopyBlock(const Block& from, const Block& to, int64_t rows, int64_t columns) {
  const int64_t size = DTypeSize(from.matrix.dtype());
  const auto at = [size](const Block& block, int64_t row) {
    return static_cast<char*>(block.matrix.raw()) +
           ((block.row + row) * block.matrix.dim(1) + block.column) * size;
  };
  for (int64_t r = 0; r < rows; ++r) std::memcpy(at(to, r), at(from, r), columns * size);
}

// A cut of sequences of T tokens: the ends of the chunks, ascending; the last one is T.
using Chunks = std::vector<int64_t>;

// In which order a chunk of queries meets the chunks of keys: its own, or the next one, and then
// those before it, around the sequence; with or without those that it does not see.
enum class KeyOrder { kOwnFirst, kNextFirst };

// The tensors qkv, dy, y, lse and dqkv are of whole sequences, as in causal_attention.h, but for
// dtypes: y and dqkv are sums. Calls see them in matrices with rows of no chunk, which are not to
// be read or written, and the queries' chunks in reverse order.
struct ChunkedAttention {
  ChunkedAttention(DType dtype, const AttentionShape& whole, Chunks ends,
                   std::vector<int64_t> document_lengths = {})
      : shape(whole),
        chunks(std::move(ends)),
        lengths(std::move(document_lengths)),
        qkv(dtype, {Tokens(), QkvColumns()}),
        dy(dtype, {Tokens(), Columns()}),
        y(AccumulationDType(dtype), {Tokens(), Columns()}),
        lse(AccumulationDType(dtype), {shape.batch, shape.num_heads, shape.seq_len}),
        dqkv(AccumulationDType(dtype), {Tokens(), QkvColumns()}),
        positions(DType::kI32, {Tokens()}),
        q_rows(dtype, {shape.batch * NumRows(), QkvColumns()}),
        kv_rows(dtype, {shape.batch * NumKeys(), KvColumns()}),
        dy_rows(dtype, {shape.batch * NumRows(), Columns()}),
        y_rows(y->dtype(), {shape.batch * NumRows(), Columns()}),
        y_stored(dtype, {shape.batch * NumRows(), Columns()}),
        lse_rows(y->dtype(), {shape.batch, shape.num_heads, NumRows()}),
        dq_rows(y->dtype(), {shape.batch * NumRows(), Columns()}),
        dkv_rows(y->dtype(), {shape.batch * NumKeys(), KvColumns()}),
        position_rows(DType::kI32, {shape.batch * NumRows()}) {
    FillNormal(qkv, 1);
    FillNormal(dy, 2);
    if (lengths.empty()) return;
    EXPECT_EQ(SetDocumentPositions(lengths, shape.seq_len, positions), absl::OkStatus());
  }

  int64_t Tokens() const { return shape.batch * shape.seq_len; }
  int64_t Columns() const { return shape.num_heads * shape.head_dim; }
  int64_t KvColumns() const { return 2 * shape.num_kv_heads * shape.head_dim; }
  int64_t QkvColumns() const { return Columns() + KvColumns(); }
  int64_t NumRows() const { return shape.seq_len + 3; }
  int64_t NumKeys() const { return shape.seq_len + 5; }
  int num_chunks() const { return chunks.size(); }

  TokenSpan Queries(int chunk) const {
    const int64_t begin = chunk == 0 ? 0 : chunks[chunk - 1];
    return {NumRows() - 1 - chunks[chunk], begin, chunks[chunk] - begin};
  }
  static TokenSpan KeysAt(int64_t begin, int64_t end) { return {begin + 2, begin, end - begin}; }
  TokenSpan Keys(int chunk) const { return KeysAt(Queries(chunk).position, chunks[chunk]); }

  PartialAttention Part(const TokenSpan& queries, const TokenSpan& keys) const {
    PartialAttention part = {shape, NumKeys(), queries, keys};
    part.shape.seq_len = NumRows();
    return part;
  }
  Documents RowDocuments() const {
    return lengths.empty() ? Documents() : Documents{position_rows, lengths};
  }
  Documents WholeDocuments() const {
    return lengths.empty() ? Documents() : Documents{positions, lengths};
  }

  // Copies the inputs of the chunks to where calls read them.
  void Scatter() const {
    ForEachChunk([&](int64_t token, int64_t row, int64_t key, int64_t count) {
      CopyBlock({qkv, token}, {q_rows, row}, count, Columns());
      CopyBlock({qkv, token, Columns()}, {kv_rows, key}, count, KvColumns());
      CopyBlock({dy, token}, {dy_rows, row}, count, Columns());
      std::memcpy(position_rows->data<int32_t>() + row, positions->data<int32_t>() + token,
                  count * sizeof(int32_t));
    });
  }

  absl::Status ForwardCall(const Context& ctx, const TokenSpan& queries, const TokenSpan& keys,
                           bool merge) const {
    return PartialAttentionForward(ctx, q_rows, kv_rows, Part(queries, keys), merge, y_rows,
                                   lse_rows, RowDocuments());
  }
  absl::Status BackwardCall(const Context& ctx, const TokenSpan& queries,
                            const TokenSpan& keys) const {
    return PartialAttentionBackward(ctx, dy_rows, q_rows, kv_rows, y_stored, lse_rows,
                                    Part(queries, keys), dq_rows, dkv_rows, RowDocuments());
  }

  // Sets y and lse by a call for each pair of chunks.
  void Forward(const Context& ctx, KeyOrder order = KeyOrder::kOwnFirst) const {
    Scatter();
    ForEachPair(order, [&](const TokenSpan& queries, const TokenSpan& keys, bool first) {
      ASSERT_EQ(ForwardCall(ctx, queries, keys, !first), absl::OkStatus());
    });
    GatherOutputs();
  }
  void GatherOutputs() const {
    const Tensor lse_of = Matrix(lse), lse_row_of = Matrix(lse_rows);
    ForEachChunk([&](int64_t token, int64_t row, int64_t, int64_t count) {
      CopyBlock({y_rows, row}, {y, token}, count, Columns());
      const int64_t b = token / shape.seq_len, H = shape.num_heads;
      CopyBlock({lse_row_of, b * H, row % NumRows()}, {lse_of, b * H, token % shape.seq_len}, H,
                count);
    });
  }
  // Sets y, lse and dqkv.
  void Run(const Context& ctx, KeyOrder order = KeyOrder::kOwnFirst) const {
    Forward(ctx, order);
    Backward(ctx, order);
  }
  void Backward(const Context& ctx, KeyOrder order) const {
    CopyConvert(y_rows, y_stored);
    FillConstant(dq_rows, 0);
    FillConstant(dkv_rows, 0);
    ForEachPair(order, [&](const TokenSpan& queries, const TokenSpan& keys, bool) {
      ASSERT_EQ(BackwardCall(ctx, queries, keys), absl::OkStatus());
    });
    GatherGradients();
  }
  void GatherGradients() const {
    ForEachChunk([&](int64_t token, int64_t row, int64_t key, int64_t count) {
      CopyBlock({dq_rows, row}, {dqkv, token}, count, Columns());
      CopyBlock({dkv_rows, key}, {dqkv, token, Columns()}, count, KvColumns());
    });
  }

  // Calls body(first token, its row, its key's row, count) for each chunk of each sequence.
  template <typename Body>
  void ForEachChunk(const Body& body) const {
    for (int64_t b = 0; b < shape.batch; ++b) {
      for (int chunk = 0; chunk < num_chunks(); ++chunk) {
        const TokenSpan queries = Queries(chunk);
        body(b * shape.seq_len + queries.position, b * NumRows() + queries.row,
             b * NumKeys() + Keys(chunk).row, queries.count);
      }
    }
  }
  // Calls body(queries, keys, whether they are the first of the queries).
  template <typename Body>
  void ForEachPair(KeyOrder order, const Body& body) const {
    const int n = num_chunks();
    for (int chunk = 0; chunk < n; ++chunk) {
      bool first = true;
      for (int i = 0; i < n; ++i) {
        const int from = chunk + (order == KeyOrder::kNextFirst ? 1 : 0);
        const TokenSpan queries = Queries(chunk), keys = Keys((from + n - i) % n);
        // The ring's order leaves out what is not seen; the other tries it.
        if (order == KeyOrder::kOwnFirst && !SeesAny(shape, queries, keys)) continue;
        body(queries, keys, first);
        first = false;
      }
    }
  }
  // An lse as one row per head.
  static Tensor Matrix(const Tensor& lse) {
    return Tensor(lse.raw(), lse.dtype(), {lse.dim(0) * lse.dim(1), lse.dim(2)});
  }

  std::string ToString() const {
    std::string text = qkv->ToString() + " of heads of " + std::to_string(shape.head_dim) +
                       ", window " + std::to_string(shape.window) + ", documents " +
                       std::to_string(lengths.size()) + ", chunks to";
    for (const int64_t end : chunks) text += " " + std::to_string(end);
    return text;
  }

  AttentionShape shape;
  Chunks chunks;
  std::vector<int64_t> lengths;
  TestTensor qkv, dy, y, lse, dqkv, positions;
  TestTensor q_rows, kv_rows, dy_rows, y_rows, y_stored, lse_rows, dq_rows, dkv_rows, position_rows;
};

// The truth of the backward pass starts from the rounded y and lse. Each merge rounds y about four
// times more.
inline void ExpectFollowsF64(const ChunkedAttention& a) {
  const TestContext reference;
  const auto in_f64 = [](const Tensor& x, TestTensor& to) { CopyConvert(x, to); };
  TestTensor qkv(DType::kF64, a.qkv->shape()), dy(DType::kF64, a.dy->shape()),
      y(DType::kF64, a.y->shape()), lse(DType::kF64, a.lse->shape()),
      dqkv(DType::kF64, a.dqkv->shape());
  in_f64(a.qkv, qkv);
  in_f64(a.dy, dy);
  const Documents documents = a.WholeDocuments();
  ASSERT_TRUE(CausalAttentionForward(reference, qkv, a.shape, y, lse, documents).ok());
  const double tolerance =
      AttentionTolerance(a.shape.head_dim, a.shape.seq_len) + 4 * 0x1p-24 * 4 * a.num_chunks();
  EXPECT_LE(RelativeError(a.y, y), tolerance);
  EXPECT_LE(RelativeError(a.lse, lse) * MaxAbs(lse), tolerance * (1 + MaxAbs(lse)));
  const TestTensor stored(a.qkv->dtype(), a.y->shape());
  CopyConvert(a.y, stored);
  in_f64(stored, y);
  in_f64(a.lse, lse);
  ASSERT_TRUE(CausalAttentionBackward(reference, dy, qkv, y, lse, a.shape, dqkv, documents).ok());
  EXPECT_LE(RelativeError(a.dqkv, dqkv), 2 * tolerance);
  EXPECT_GT(MaxAbs(dqkv), 0.1);
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_OPS_ATTENTION_PARTIAL_ATTENTION_PROBLEM_H_
