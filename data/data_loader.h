// DataLoader: training samples from ranges of a token stream, in a pseudo-random order computed by
// a function.
//
//   sample index i = tokens [i*T, i*T + T] of the n tokens of the ranges, one range after the
//   other;
//                    the last one is only a target
//   global sample g = index order_e(g mod N), epoch e = g / N;  N = (n - 1) / T
//   order_e = Permutation(N, seed, e), or the identity without `shuffle`
//
// T sequence length, N samples in an epoch. The global sample number alone is the position of a
// run: a rank loads the samples it is given, whatever the number of ranks or the batch size.
#ifndef STRAKE_DATA_DATA_LOADER_H_
#define STRAKE_DATA_DATA_LOADER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/tensor/tensor.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"

namespace strake {

class DataLoader {
 public:
  struct Options {
    int64_t seq_len = 0;
    uint64_t seed = 0;
    bool shuffle = true;
  };

  // Samples of tokens of `stream`, which must outlive the loader. Errors: a sequence length below
  // 1; ranges too short for one sample.
  static absl::StatusOr<DataLoader> Create(const TokenStream* stream, TokenRanges ranges,
                                           const Options& options);
  // The same of tokens [begin, end).
  static absl::StatusOr<DataLoader> Create(const TokenStream* stream, int64_t begin, int64_t end,
                                           const Options& options) {
    return Create(stream, TokenRanges({{begin, end}}), options);
  }

  // The number of samples in an epoch.
  int64_t num_samples() const { return num_samples_; }
  const Options& options() const { return options_; }

  // Loads global samples [first_sample, first_sample + count), one after the other:
  //   tokens  [count*T] i32  =
  //   targets [count*T] i32  =, targets[i] is the token after tokens[i]
  // Returns TokenRanges::Read's error. Safe to call from many threads.
  absl::Status Load(int64_t first_sample, int64_t count, Tensor tokens, Tensor targets) const;

  // The ranges of the stream that hold a global sample's tokens, in their order.
  std::vector<TokenRange> TokensOf(int64_t sample) const;

 private:
  DataLoader(const TokenStream* stream, TokenRanges ranges, int64_t num_samples,
             const Options& options)
      : stream_(stream), ranges_(std::move(ranges)), num_samples_(num_samples), options_(options) {}
  int64_t RowOf(int64_t sample) const;
  absl::Status LoadOne(int64_t sample, int32_t* tokens, int32_t* targets) const;

  const TokenStream* stream_;
  TokenRanges ranges_;
  int64_t num_samples_;
  Options options_;
};

}  // namespace strake

#endif  // STRAKE_DATA_DATA_LOADER_H_
