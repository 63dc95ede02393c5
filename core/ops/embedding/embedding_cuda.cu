// Memory traffic. Forward: table rows are read once and y is written once. Backward: the tokens'
// indices are sorted stably by table row; then dy is read once, and the rows of dtable that tokens
// select are read and written once. The sort and the partial sums move less than a tenth of that.
#include "absl/status/statusor.h"
#include "core/cuda/kernel_list.h"
#include "core/cuda/portable.h"
#include "core/ops/cuda/sort_by_row.h"
#include "core/ops/cuda/vectorize.h"
#include "core/ops/embedding/embedding_cuda.h"

namespace strake::cuda {
namespace {

constexpr int kMaxThreads = 128;

// Block (n, y): vectors [y * blockDim.x, ...) of row n.
template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    EmbeddingForwardKernel(RowOf row_of, int64_t vocab_size, const T* table, int columns, T* y) {
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth) return;
  const int row = row_of(blockIdx.x);
  const int token = row_of.tokens[blockIdx.x];
  Vec<T, kWidth> value;
  if (row < row_of.rows) {
    value = LoadVec<kWidth>(table + int64_t{row} * columns + v * kWidth);
  } else {
    const float other = token >= 0 && token < vocab_size ? 0 : NAN;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) value.at[i] = FromFloat<T>(other);
  }
  StoreVec(y + int64_t{blockIdx.x} * columns + v * kWidth, value);
}

// Sums over chunks of the sorted indices, so that a frequent token is spread over many blocks. A
// run of equal rows that lies within a chunk is added to dtable. For a run that spans chunks, the
// sum over each chunk is written to partials: to [chunk, 0] if the run began before the chunk, else
// to [chunk, 1].
constexpr int kInFlight = 8;

template <int kWidth>
__device__ __forceinline__ void AddTo(float* to, const Vec<float, kWidth>& sum) {
  Vec<float, kWidth> value = LoadVec<kWidth>(to);
#pragma unroll
  for (int i = 0; i < kWidth; ++i) value.at[i] += sum.at[i];
  StoreVec(to, value);
}

template <typename T, int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    SumChunksKernel(RowOf row_of, const int* order, int num_tokens, const T* dy, int columns,
                    float* dtable, float* partials) {
  __shared__ Shared<int, kEmbeddingChunk> index;
  __shared__ Shared<int, kEmbeddingChunk + 2> row;  // also of the chunk's neighbours; -1: none
  for (int i = threadIdx.x; i < kEmbeddingChunk + 2; i += blockDim.x) {
    const int64_t at = int64_t{blockIdx.x} * kEmbeddingChunk + i - 1;
    const bool inside = at >= 0 && at < num_tokens;
    const int source = inside ? order[at] : -1;
    row[i] = inside ? row_of(source) : -1;
    if (i > 0 && i <= kEmbeddingChunk) index[i - 1] = source;
  }
  __syncthreads();
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth) return;

  Vec<float, kWidth> sum = {};
  bool began_before = row[0] == row[1];
  for (int begin = 0; begin < kEmbeddingChunk; begin += kInFlight) {
    Vec<T, kWidth> terms[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int r = row[begin + k + 1];
      if (r < 0 || r == row_of.rows) continue;
      terms[k] = LoadVec<kWidth>(dy + int64_t{index[begin + k]} * columns + v * kWidth);
    }
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) {
      const int r = row[begin + k + 1], next = row[begin + k + 2];
      if (r < 0 || r == row_of.rows) return;
#pragma unroll
      for (int i = 0; i < kWidth; ++i) sum.at[i] += ToFloat(terms[k].at[i]);
      const bool last = begin + k == kEmbeddingChunk - 1;
      if (next == r && !last) continue;
      if (began_before || next == r) {
        const int64_t partial = int64_t{blockIdx.x} * 2 + !began_before;
        StoreVec(partials + partial * columns + v * kWidth, sum);
      } else {
        AddTo(dtable + int64_t{r} * columns + v * kWidth, sum);
      }
      sum = {};
      began_before = false;
    }
  }
}

// Sums the run that begins in chunk blockIdx.x and continues in the next, if there is one.
template <int kWidth>
__global__ void __launch_bounds__(kMaxThreads)
    SumPartialsKernel(RowOf row_of, const int* order, const float* partials, int columns,
                      float* dtable) {
  const int num_chunks = gridDim.x, chunk = blockIdx.x;
  const int v = blockIdx.y * blockDim.x + threadIdx.x;
  if (v >= columns / kWidth || chunk + 1 == num_chunks) return;
  const auto row_at = [&](int64_t place) { return row_of(order[place]); };
  const int row = row_at(int64_t{chunk + 1} * kEmbeddingChunk - 1);
  if (row == row_of.rows || row_at(int64_t{chunk + 1} * kEmbeddingChunk) != row) return;
  if (chunk > 0 && row_at(int64_t{chunk} * kEmbeddingChunk - 1) == row) return;

  int last = chunk + 1,
      past = num_chunks;  // the last chunk that the run reaches is in [last, past)
  while (past - last > 1) {
    const int middle = last + (past - last) / 2;
    (row_at(int64_t{middle} * kEmbeddingChunk) == row ? last : past) = middle;
  }
  Vec<float, kWidth> sum =
      LoadVec<kWidth>(partials + (int64_t{chunk} * 2 + 1) * columns + v * kWidth);
#pragma unroll 8
  for (int c = chunk + 1; c <= last; ++c) {
    const Vec<float, kWidth> term =
        LoadVec<kWidth>(partials + int64_t{c} * 2 * columns + v * kWidth);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) sum.at[i] += term.at[i];
  }
  AddTo(dtable + int64_t{row} * columns + v * kWidth, sum);
}

int BlockThreads(int64_t vectors) {
  const int64_t threads = CeilDiv(vectors, kWarpSize) * kWarpSize;
  return threads < kMaxThreads ? threads : kMaxThreads;
}

// A grid of (rows or chunks, parts of a row).
dim3 GridOf(int64_t count, int64_t vectors) {
  return dim3(count, CeilDiv(vectors, BlockThreads(vectors)));
}

// Treats padding like rows of another slice.
RowOf RowsOf(const int32_t* tokens, const VocabSlice& slice, int64_t table_rows) {
  return {tokens, slice.begin, static_cast<int>(slice.NumTokens(table_rows))};
}

template <typename T, int kWidth>
absl::Status LaunchForward(CudaStream stream, const RowOf& row_of, int64_t num_tokens,
                           int64_t vocab_size, const T* table, int64_t columns, T* y) {
  const int64_t vectors = columns / kWidth;
  return Launch<EmbeddingForwardKernel<T, kWidth>>(stream, GridOf(num_tokens, vectors),
                                                   BlockThreads(vectors), 0, row_of, vocab_size,
                                                   table, columns, y);
}

template <typename T, int kWidth>
absl::Status LaunchSums(CudaStream stream, const RowOf& row_of, const int* order,
                        int64_t num_tokens, const T* dy, int64_t columns, float* dtable,
                        float* partials) {
  const int64_t vectors = columns / kWidth;
  const dim3 grid = GridOf(CeilDiv(num_tokens, kEmbeddingChunk), vectors);
  const absl::Status status =
      Launch<SumChunksKernel<T, kWidth>>(stream, grid, BlockThreads(vectors), 0, row_of, order,
                                         num_tokens, dy, columns, dtable, partials);
  if (!status.ok()) return status;
  return Launch<SumPartialsKernel<kWidth>>(stream, grid, BlockThreads(vectors), 0, row_of, order,
                                           partials, columns, dtable);
}

}  // namespace

template <typename T>
absl::Status EmbeddingForward(CudaStream stream, const EmbeddingForwardArgs<T>& args) {
  if (args.num_tokens == 0 || args.columns == 0) return absl::OkStatus();
  const bool vectorizes = Vectorizes<T>(args.columns, {args.table, args.y});
  const auto launch = vectorizes ? LaunchForward<T, kVecWidth<T>> : LaunchForward<T, 1>;
  return launch(stream, RowsOf(args.tokens, args.slice, args.table_rows), args.num_tokens,
                args.slice.vocab_size, args.table, args.columns, args.y);
}

template <typename T>
absl::Status EmbeddingBackward(CudaStream stream, const EmbeddingBackwardArgs<T>& args) {
  if (args.num_tokens == 0 || args.columns == 0) return absl::OkStatus();
  const RowOf row_of = RowsOf(args.tokens, args.slice, args.table_rows);
  float* const partials = static_cast<float*>(args.workspace);
  int* const sort_workspace =
      reinterpret_cast<int*>(partials + NumEmbeddingPartials(args.num_tokens, args.columns));
  const absl::StatusOr<const int*> order =
      SortByRow(stream, row_of, args.num_tokens, sort_workspace);
  if (!order.ok()) return order.status();
  const bool vectorizes = Vectorizes<T>(args.columns, {args.dy, args.dtable, args.workspace});
  const auto launch = vectorizes ? LaunchSums<T, kVecWidth<T>> : LaunchSums<T, 1>;
  return launch(stream, row_of, *order, args.num_tokens, args.dy, args.columns, args.dtable,
                partials);
}

STRAKE_EMBEDDING_KERNELS(STRAKE_KERNEL_INSTANCES)

}  // namespace strake::cuda
