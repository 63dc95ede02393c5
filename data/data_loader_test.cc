#include "data/data_loader.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/philox.h"
#include "core/tensor/sequence_chunks.h"
#include "core/testing/test_tensor.h"
#include "data/permutation.h"
#include "data/token_file.h"
#include "data/token_ranges.h"
#include "data/token_stream.h"
#include "data/train_val_split.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::SameBits;
using testing::TestTensor;

// Token i of the stream is i, so a sample's contents show its position. There are three files, and
// samples of more than 7 tokens span them.
TokenStream MakeStream(int64_t num_tokens) {
  std::vector<std::string> paths;
  int32_t token = 0;
  for (const int64_t end : {num_tokens / 2, num_tokens / 2 + 7, num_tokens}) {
    std::vector<int32_t> tokens;
    while (token < end) tokens.push_back(token++);
    paths.push_back(::testing::TempDir() + "/part" + std::to_string(paths.size()) + ".bin");
    const TokenEncoding encoding =
        paths.size() == 2 ? TokenEncoding::kUint32 : TokenEncoding::kUint16;
    EXPECT_TRUE(WriteTokenFile(paths.back(), tokens, encoding).ok());
  }
  auto stream = TokenStream::Open(paths, num_tokens);
  EXPECT_TRUE(stream.ok()) << stream.status();
  return std::move(stream).value();
}

DataLoader MakeLoader(const TokenStream& stream, int64_t begin, int64_t end,
                      const DataLoader::Options& options) {
  auto loader = DataLoader::Create(&stream, begin, end, options);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return std::move(loader).value();
}

// The first tokens of samples [first, first + count); checks all other tokens and targets.
std::vector<int32_t> SampleStarts(const DataLoader& loader, int64_t first, int64_t count) {
  const int64_t seq_len = loader.options().seq_len;
  TestTensor tokens(DType::kI32, {count * seq_len}), targets(DType::kI32, {count * seq_len});
  EXPECT_TRUE(loader.Load(first, count, tokens, targets).ok());
  std::vector<int32_t> starts;
  for (int64_t i = 0; i < count * seq_len; ++i) {
    if (i % seq_len == 0) starts.push_back(tokens->data<int32_t>()[i]);
    EXPECT_EQ(tokens->data<int32_t>()[i], starts.back() + i % seq_len);
    EXPECT_EQ(targets->data<int32_t>()[i], starts.back() + i % seq_len + 1);
  }
  return starts;
}

TEST(DataLoaderTest, RangesAreOneSequence) {
  const TokenStream stream = MakeStream(100);
  const TokenRanges ranges({{5, 12}, {12, 15}, {20, 20}, {45, 60}, {90, 100}});
  EXPECT_THAT(ranges.ranges(),
              ElementsAre(TokenRange{5, 15}, TokenRange{45, 60}, TokenRange{90, 100}));
  auto loader = DataLoader::Create(&stream, ranges, {.seq_len = 8, .shuffle = false});
  ASSERT_TRUE(loader.ok()) << loader.status();
  ASSERT_EQ(loader->num_samples(), 4);
  std::vector<int32_t> all;
  for (const TokenRange& range : ranges.ranges()) {
    for (int64_t i = range.begin; i < range.end; ++i) all.push_back(static_cast<int32_t>(i));
  }
  TestTensor tokens(DType::kI32, {8}), targets(DType::kI32, {8});
  for (int64_t sample = 0; sample < 4; ++sample) {
    ASSERT_TRUE(loader->Load(sample, 1, tokens, targets).ok());
    for (int64_t i = 0; i < 8; ++i) {
      EXPECT_EQ(tokens->data<int32_t>()[i], all[sample * 8 + i]);
      EXPECT_EQ(targets->data<int32_t>()[i], all[sample * 8 + i + 1]);
    }
  }
}

TEST(DataLoaderTest, InOrderSampleIsAtItsIndexTimesTheLength) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 0, 100, {.seq_len = 10, .shuffle = false});
  // The tenth sample would need token 100 as its last target.
  ASSERT_EQ(loader.num_samples(), 9);
  EXPECT_THAT(SampleStarts(loader, 0, 9), ElementsAre(0, 10, 20, 30, 40, 50, 60, 70, 80));
  EXPECT_THAT(SampleStarts(loader, 8, 3), ElementsAre(80, 0, 10));
  EXPECT_EQ(MakeLoader(stream, 0, 91, {.seq_len = 10}).num_samples(), 9);
  EXPECT_EQ(MakeLoader(stream, 0, 90, {.seq_len = 10}).num_samples(), 8);
}

TEST(DataLoaderTest, SamplesLieInsideTheRange) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 37, 64, {.seq_len = 5, .shuffle = false});
  EXPECT_EQ(loader.num_samples(), 5);
  EXPECT_THAT(SampleStarts(loader, 0, 5), ElementsAre(37, 42, 47, 52, 57));
}

TEST(DataLoaderTest, WhatIsHeldBackIsNeverTrainedOn) {
  const TokenStream stream = MakeStream(1000);
  for (const int64_t seq_len : {1, 7, 9, 99}) {
    const auto split = SplitTrainVal(stream.num_tokens(), std::nullopt, seq_len);
    ASSERT_TRUE(split.ok()) << split.status();
    const DataLoader train = MakeLoader(stream, 0, split->train.num_tokens(), {.seq_len = seq_len});
    for (const int32_t start : SampleStarts(train, 0, train.num_samples())) {
      EXPECT_LT(start + seq_len, 900) << "the last target";
    }
    const DataLoader val =
        MakeLoader(stream, split->train.num_tokens(), stream.num_tokens(), {.seq_len = seq_len});
    for (const int32_t start : SampleStarts(val, 0, val.num_samples())) EXPECT_GE(start, 900);
  }
}

TEST(DataLoaderTest, EveryEpochHoldsEverySampleOnceInAnotherOrder) {
  const TokenStream stream = MakeStream(1000);
  const DataLoader loader = MakeLoader(stream, 0, 1000, {.seq_len = 9, .seed = 3});
  const int64_t n = loader.num_samples();
  ASSERT_EQ(n, 111);
  std::vector<std::vector<int32_t>> epochs;
  for (int64_t epoch = 0; epoch < 3; ++epoch) {
    epochs.push_back(SampleStarts(loader, epoch * n, n));
    const Permutation order(n, 3, epoch);
    std::map<int32_t, int> seen;
    for (int64_t i = 0; i < n; ++i) {
      EXPECT_EQ(epochs.back()[i], order(i) * 9);
      ++seen[epochs.back()[i]];
    }
    EXPECT_EQ(seen.size(), n);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  EXPECT_NE(epochs[1], epochs[2]);
  EXPECT_NE(SampleStarts(MakeLoader(stream, 0, 1000, {.seq_len = 9, .seed = 4}), 0, n), epochs[0]);
}

TEST(DataLoaderTest, HowTheSamplesAreAskedForDoesNotMatter) {
  const TokenStream stream = MakeStream(300);
  const DataLoader loader = MakeLoader(stream, 0, 300, {.seq_len = 8, .seed = 1});
  constexpr int64_t kFirst = 20, kCount = 60;  // into the second epoch
  TestTensor tokens(DType::kI32, {kCount * 8}), targets(DType::kI32, {kCount * 8});
  ASSERT_TRUE(loader.Load(kFirst, kCount, tokens, targets).ok());
  for (const int64_t part : {1, 4, 15}) {
    TestTensor part_tokens(DType::kI32, {kCount * 8}), part_targets(DType::kI32, {kCount * 8});
    for (int64_t at = 0; at < kCount; at += part) {
      ASSERT_TRUE(loader
                      .Load(kFirst + at, part, part_tokens->Rows(at * 8, (at + part) * 8),
                            part_targets->Rows(at * 8, (at + part) * 8))
                      .ok());
    }
    EXPECT_TRUE(SameBits(part_tokens, tokens)) << part;
    EXPECT_TRUE(SameBits(part_targets, targets)) << part;
  }
}

TEST(DataLoaderTest, OneTokenSamplesAndNoSamples) {
  const TokenStream stream = MakeStream(20);
  const DataLoader loader = MakeLoader(stream, 0, 20, {.seq_len = 1, .shuffle = false});
  EXPECT_EQ(loader.num_samples(), 19);
  EXPECT_THAT(SampleStarts(loader, 17, 3), ElementsAre(17, 18, 0));
  EXPECT_TRUE(SampleStarts(loader, 5, 0).empty());
}

TEST(DataLoaderTest, TooShortPrintsBothNumbers) {
  const TokenStream stream = MakeStream(100);
  EXPECT_EQ(MakeLoader(stream, 91, 100, {.seq_len = 8}).num_samples(), 1);
  EXPECT_THAT(DataLoader::Create(&stream, 91, 100, {.seq_len = 9}).status().message(),
              AllOf(HasSubstr("has 9 tokens"), HasSubstr("takes 10")));
  EXPECT_FALSE(DataLoader::Create(&stream, 50, 50, {.seq_len = 1}).ok());
  EXPECT_THAT(DataLoader::Create(&stream, 0, 100, {.seq_len = 0}).status().message(),
              HasSubstr("sequence length 0"));
}

// --- Documents. Token i of the stream is i here, too, and token 0 is in no range: a 0 is padding.
// ---

// What a loader's samples are of.
struct Corpus {
  std::vector<TokenRange> documents = {};  // in the ranges
  std::vector<TokenRange> ranges = {};
  StreamDocuments known = {};
};

int64_t RandomBelow(uint64_t seed, int64_t i, int64_t n) {
  return static_cast<int64_t>(Philox(seed, RandomUse::kTesting).Bits(i) % static_cast<uint64_t>(n));
}

// Documents of 1 to `longest` tokens, the k-th left out of the ranges where k % 5 = 3.
Corpus RandomCorpus(uint64_t seed, int64_t longest, int64_t num_documents, bool conversations) {
  Corpus corpus;
  int64_t begin = 1;
  std::vector<TokenRange> targets;
  corpus.known.begins = {0};
  for (int64_t k = 0; k < num_documents; ++k) {
    const int64_t length = 1 + RandomBelow(seed, 3 * k, longest);
    corpus.known.begins.push_back(begin);
    if (k % 5 != 3) {
      corpus.documents.push_back({begin, begin + length});
      corpus.ranges.push_back(corpus.documents.back());
    }
    const int64_t from = begin + RandomBelow(seed, 3 * k + 1, length);
    const int64_t to = from + RandomBelow(seed, 3 * k + 2, begin + length - from + 1);
    if (from < to) targets.push_back({from, to});
    begin += length;
  }
  corpus.known.begins.push_back(begin);
  if (conversations) corpus.known.targets = TargetRanges{begin + 5, targets};
  return corpus;
}

bool IsTarget(const Corpus& corpus, int64_t token) {
  if (!corpus.known.targets) return true;
  for (const TokenRange& range : corpus.known.targets->ranges) {
    if (range.begin <= token && token < range.end) return true;
  }
  return false;
}

// A row by its definition, one token at a time.
struct SlowRow {
  std::vector<int32_t> tokens, targets, positions;
  std::vector<int64_t> lengths;
  bool operator==(const SlowRow&) const = default;

  int64_t num_targets() const {
    return std::count_if(targets.begin(), targets.end(), [](int32_t t) { return t != kNoTarget; });
  }
  void Add(const Corpus& corpus, int64_t begin, int64_t end, int64_t next) {
    for (int64_t token = begin; token < end; ++token) {
      const bool counts = (token + 1 < end || next == end) && IsTarget(corpus, token + 1);
      tokens.push_back(token);
      targets.push_back(counts ? token + 1 : kNoTarget);
      positions.push_back(token - begin);
    }
    if (begin < end) lengths.push_back(end - begin);
  }
  void Pad(int64_t seq_len) {
    const int64_t left = seq_len - tokens.size();
    for (int64_t i = 0; i < left; ++i) {
      tokens.push_back(0);
      targets.push_back(kNoTarget);
      positions.push_back(i);
    }
    if (left > 0) lengths.push_back(left);
  }
};

// Text in windows of the stream: positions begin anew in each row.
std::vector<SlowRow> SlowWindows(const Corpus& corpus, int64_t seq_len) {
  std::vector<SlowRow> rows;
  int64_t num_tokens = 0, at = 0;
  for (const TokenRange& document : corpus.documents) num_tokens += document.num_tokens();
  rows.resize((num_tokens - 1) / seq_len);
  for (const TokenRange& document : corpus.documents) {
    for (int64_t begin = document.begin; begin < document.end;) {
      const int64_t end = std::min(document.end, begin + seq_len - at % seq_len);
      if (at / seq_len == static_cast<int64_t>(rows.size())) return rows;
      rows[at / seq_len].Add(corpus, begin, end, end < document.end ? end : -1);
      at += end - begin;
      begin = end;
    }
  }
  return rows;
}

// A row of each document, or text in rows of seq_len targets.
std::vector<SlowRow> SlowPadded(const Corpus& corpus, int64_t seq_len) {
  std::vector<SlowRow> rows;
  for (const TokenRange& document : corpus.documents) {
    for (int64_t begin = document.begin; begin < document.end; begin += seq_len) {
      SlowRow row;
      const int64_t end = std::min(begin + seq_len, document.end);
      const bool goes_on = !corpus.known.targets && end < document.end;
      row.Add(corpus, begin, end, goes_on ? end : -1);
      row.Pad(seq_len);
      if (row.num_targets() > 0) rows.push_back(row);
      if (corpus.known.targets) break;
    }
  }
  return rows;
}

SlowRow LoadRow(const DataLoader& loader, int64_t sample) {
  const Shape shape = {loader.options().seq_len};
  TestTensor tokens(DType::kI32, shape), targets(DType::kI32, shape), positions(DType::kI32, shape);
  TokenBatch batch = {.tokens = tokens, .targets = targets, .positions = positions};
  EXPECT_TRUE(loader.Load(sample, 1, &batch).ok());
  const auto values = [&](const Tensor& tensor) {
    return std::vector<int32_t>(tensor.data<int32_t>(), tensor.data<int32_t>() + shape[0]);
  };
  return {values(tokens), values(targets), values(positions), batch.lengths};
}

std::vector<SlowRow> LoadRows(const DataLoader& loader, int64_t first, int64_t count) {
  std::vector<SlowRow> rows;
  for (int64_t i = 0; i < count; ++i) rows.push_back(LoadRow(loader, first + i));
  return rows;
}

absl::StatusOr<DataLoader> LoaderOf(const TokenStream& stream, const Corpus& corpus,
                                    const DataLoader::Options& options) {
  return DataLoader::Create(&stream, TokenRanges(corpus.ranges), options, corpus.known);
}

// Checks NumTargets() and TokensOf() of a sample against its row.
void ExpectIsCounted(const DataLoader& loader, int64_t sample, const SlowRow& row) {
  EXPECT_EQ(loader.NumTargets(sample, 1), row.num_targets());
  std::vector<int32_t> tokens;
  for (const TokenRange& range : loader.TokensOf(sample)) {
    for (int64_t token = range.begin; token < range.end; ++token) tokens.push_back(token);
  }
  tokens.resize(row.tokens.size());
  EXPECT_EQ(tokens, row.tokens);
}

TEST(DataLoaderTest, DocumentsAreThoseOfTheSlowDefinition) {
  const TokenStream stream = MakeStream(400);
  for (uint64_t seed = 0; seed < 120; ++seed) {
    const int64_t seq_len = 1 + RandomBelow(seed, 1000, 8);
    const bool conversations = seed % 2 == 1, pad = conversations || seed % 4 == 0;
    const Corpus corpus = RandomCorpus(seed, seq_len + seed % 4, 20, conversations);
    const std::vector<SlowRow> rows =
        pad ? SlowPadded(corpus, seq_len) : SlowWindows(corpus, seq_len);
    DataLoader::Options options = {.seq_len = seq_len, .seed = seed, .shuffle = false};
    options.documents = pad ? DocumentMode::kPad : DocumentMode::kMask;
    options.truncate = true;
    const auto loader = LoaderOf(stream, corpus, options);
    if (rows.empty()) {
      EXPECT_THAT(loader.status().message(), HasSubstr("no row with a token to learn"));
      continue;
    }
    ASSERT_TRUE(loader.ok()) << loader.status();
    ASSERT_EQ(loader->num_samples(), rows.size()) << seed;
    EXPECT_EQ(LoadRows(*loader, 0, rows.size()), rows) << seed;
    options.shuffle = true;
    const auto shuffled = LoaderOf(stream, corpus, options);
    const int64_t n = rows.size();
    for (int64_t sample = 0; sample < 2 * n; ++sample) {
      const SlowRow& row = rows[Permutation(n, seed, sample / n)(sample % n)];
      EXPECT_EQ(LoadRow(*shuffled, sample), row) << seed;
      ExpectIsCounted(*shuffled, sample, row);
    }
  }
}

// The documents of packed rows, in order, each as a row of its own.
std::vector<SlowRow> Unpacked(const std::vector<SlowRow>& packed) {
  std::vector<SlowRow> documents;
  for (const SlowRow& row : packed) {
    int64_t begin = 0;
    for (const int64_t length : row.lengths) {
      const auto part = [&](const std::vector<int32_t>& values) {
        return std::vector<int32_t>(values.begin() + begin, values.begin() + begin + length);
      };
      if (row.tokens[begin] != 0) {
        documents.push_back({part(row.tokens), part(row.targets), part(row.positions), {length}});
        documents.back().Pad(row.tokens.size());
      }
      begin += length;
    }
  }
  std::sort(documents.begin(), documents.end(),
            [](const SlowRow& a, const SlowRow& b) { return a.tokens[0] < b.tokens[0]; });
  return documents;
}

// The rows that documents take by best fit, the longest first, with a look at every row for each.
int64_t SlowNumRows(const std::vector<SlowRow>& documents, int64_t seq_len) {
  std::vector<int64_t> lengths, rooms;
  for (const SlowRow& document : documents) lengths.push_back(document.lengths[0]);
  std::sort(lengths.rbegin(), lengths.rend());
  for (const int64_t length : lengths) {
    int64_t* best = nullptr;
    for (int64_t& room : rooms) {
      if (room >= length && (best == nullptr || room < *best)) best = &room;
    }
    if (best == nullptr) best = &rooms.emplace_back(seq_len);
    *best -= length;
  }
  return static_cast<int64_t>(rooms.size());
}

TEST(DataLoaderTest, ConversationsArePackedWholeAndOnceInEachEpoch) {
  const TokenStream stream = MakeStream(3000);
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const int64_t seq_len = 2 + RandomBelow(seed, 1000, 40);
    const Corpus corpus = RandomCorpus(seed, seq_len + seed % 3, 60, /*conversations=*/true);
    const std::vector<SlowRow> documents = SlowPadded(corpus, seq_len);
    DataLoader::Options options = {.seq_len = seq_len, .seed = seed, .shuffle = seed % 4 != 0};
    options.documents = DocumentMode::kMask;
    options.truncate = true;
    const auto loader = LoaderOf(stream, corpus, options);
    ASSERT_TRUE(loader.ok()) << loader.status();
    const int64_t n = loader->num_samples();
    EXPECT_EQ(n, SlowNumRows(documents, seq_len)) << seed;
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const std::vector<SlowRow> rows = LoadRows(*loader, epoch * n, n);
      EXPECT_EQ(Unpacked(rows), documents) << seed;
      for (int64_t i = 0; i < n; ++i) ExpectIsCounted(*loader, epoch * n + i, rows[i]);
    }
  }
}

TEST(DataLoaderTest, PackedConversationsHaveOtherNeighboursInEachEpoch) {
  const TokenStream stream = MakeStream(400);
  Corpus corpus = {.ranges = {{1, 301}}, .known = {.targets = TargetRanges{400, {{1, 301}}}}};
  for (int64_t begin = 1; begin < 301; begin += 3) corpus.known.begins.push_back(begin);
  const DataLoader::Options options = {.seq_len = 6, .documents = DocumentMode::kMask};
  const auto loader = LoaderOf(stream, corpus, options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  ASSERT_EQ(loader->num_samples(), 50);
  std::map<int32_t, int32_t> neighbours;
  for (const SlowRow& row : LoadRows(*loader, 0, 50)) neighbours[row.tokens[0]] = row.tokens[3];
  int64_t num_kept = 0;
  for (const SlowRow& row : LoadRows(*loader, 50, 50)) {
    num_kept += neighbours.count(row.tokens[0]) > 0 && neighbours[row.tokens[0]] == row.tokens[3];
  }
  EXPECT_LT(num_kept, 5);
}

TEST(DataLoaderTest, TokensWithinARowAreReadAsOneAtATime) {
  const TokenStream stream = MakeStream(400);
  const Corpus corpus = RandomCorpus(3, 9, 40, /*conversations=*/false);
  DataLoader::Options options = {.seq_len = 7, .documents = DocumentMode::kMask};
  const auto loader = LoaderOf(stream, corpus, options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  TestTensor tokens(DType::kI32, {70}), targets(DType::kI32, {70}), positions(DType::kI32, {70});
  TokenBatch batch = {.tokens = tokens, .targets = targets, .positions = positions};
  ASSERT_TRUE(loader->Load(15, 10, &batch).ok());
  std::vector<int64_t> lengths;
  int64_t num_targets = 0;
  for (int64_t i = 0; i < 10; ++i) {
    const SlowRow row = LoadRow(*loader, 15 + i);
    lengths.insert(lengths.end(), row.lengths.begin(), row.lengths.end());
    num_targets += row.num_targets();
    for (int64_t j = 0; j < 7; ++j) {
      EXPECT_EQ(positions->data<int32_t>()[i * 7 + j], row.positions[j]);
      EXPECT_EQ(targets->data<int32_t>()[i * 7 + j], row.targets[j]);
    }
  }
  EXPECT_EQ(batch.lengths, lengths);
  EXPECT_EQ(loader->NumTargets(15, 10), num_targets);
}

TEST(DataLoaderTest, LongConversationsAreErrorsOrCut) {
  const TokenStream stream = MakeStream(100);
  const Corpus corpus = {.ranges = {{0, 30}},
                         .known = {{0, 10, 22}, TargetRanges{100, {{2, 5}, {19, 22}, {25, 30}}}}};
  for (const DocumentMode mode : {DocumentMode::kMask, DocumentMode::kPad}) {
    DataLoader::Options options = {.seq_len = 10, .shuffle = false, .documents = mode};
    EXPECT_THAT(LoaderOf(stream, corpus, options).status().message(),
                HasSubstr("12 tokens, more than the 10 of a sequence"));
    options.seq_len = 9;
    options.truncate = true;
    const auto loader = LoaderOf(stream, corpus, options);
    ASSERT_TRUE(loader.ok()) << loader.status();
    EXPECT_EQ(loader->rows().num_dropped(), 1) << "its answer is at its end";
    EXPECT_EQ(loader->num_samples(), 2);
    EXPECT_EQ(loader->NumTargets(0, 2), 3 + 5);
  }
}

// --- Ranks that share samples. ---

// The samples' values in the chunks of a rank, of T per sample.
std::vector<int32_t> InChunks(const Tensor& whole, int64_t seq_len, const SequenceChunks& chunks) {
  std::vector<int32_t> values;
  for (int64_t begin = 0; begin < whole.num_elements(); begin += seq_len) {
    for (const ShardRange& chunk : chunks.Of(seq_len)) {
      const int32_t* const from = whole.data<int32_t>() + begin;
      values.insert(values.end(), from + chunk.begin, from + chunk.end);
    }
  }
  return values;
}

std::vector<int32_t> ValuesOf(const Tensor& x) {
  return {x.data<int32_t>(), x.data<int32_t>() + x.num_elements()};
}

// Compares what each of C ranks loads with its chunks of what one does.
void ExpectChunksOfTheWhole(const DataLoader& loader, int num_ranks, const std::string& what) {
  const int64_t seq_len = loader.options().seq_len,
                count = std::min<int64_t>(7, 2 * loader.num_samples());
  const Shape shape = {count * seq_len}, part = {count * seq_len / num_ranks};
  const int64_t first = loader.num_samples() - 1;  // into the second epoch
  TestTensor tokens(DType::kI32, shape), targets(DType::kI32, shape), positions(DType::kI32, shape);
  TokenBatch whole = {.tokens = tokens, .targets = targets, .positions = positions};
  ASSERT_TRUE(loader.Load(first, count, &whole).ok());
  for (int rank = 0; rank < num_ranks; ++rank) {
    const SequenceChunks chunks = {.rank = rank, .num_ranks = num_ranks};
    TestTensor own[3] = {{DType::kI32, part}, {DType::kI32, part}, {DType::kI32, part}};
    TokenBatch local = {.tokens = own[0], .targets = own[1], .positions = own[2]};
    ASSERT_TRUE(loader.Load(first, count, &local, chunks).ok());
    EXPECT_EQ(ValuesOf(local.tokens), InChunks(tokens, seq_len, chunks)) << what;
    EXPECT_EQ(ValuesOf(local.targets), InChunks(targets, seq_len, chunks)) << what;
    EXPECT_EQ(ValuesOf(local.positions), InChunks(positions, seq_len, chunks)) << what;
    EXPECT_EQ(local.lengths, whole.lengths) << what;
  }
}

TEST(DataLoaderTest, ChunksOfAllRanksAreTheWholeSamples) {
  const TokenStream stream = MakeStream(1200);
  struct Mode {
    DocumentMode documents;
    bool conversations;
  };
  int num_compared = 0;
  for (const Mode& mode : {Mode{DocumentMode::kConcat, false}, Mode{DocumentMode::kMask, false},
                           Mode{DocumentMode::kPad, false}, Mode{DocumentMode::kMask, true},
                           Mode{DocumentMode::kPad, true}}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      for (const int num_ranks : {1, 2, 3, 4}) {
        const int64_t multiple = num_ranks == 1 ? 1 : 2 * num_ranks;
        const int64_t seq_len = multiple * (1 + RandomBelow(seed, 2000, 24 / multiple));
        const Corpus corpus = RandomCorpus(seed, 1 + seed * 2, 40, mode.conversations);
        const auto loader = LoaderOf(
            stream, corpus,
            {.seq_len = seq_len, .seed = seed, .documents = mode.documents, .truncate = true});
        if (!loader.ok()) continue;  // too few tokens
        ++num_compared;
        ExpectChunksOfTheWhole(*loader, num_ranks,
                               absl::StrCat("mode ", static_cast<int>(mode.documents), ", seed ",
                                            seed, ", ", num_ranks, " ranks, T ", seq_len));
      }
    }
  }
  EXPECT_GT(num_compared, 360) << "of 400";
}

// A token that is outside the vocabulary is an error for those who read it.
TEST(DataLoaderTest, RanksReadTheirTokensAndTheNextOnesAlone) {
  constexpr int64_t kSeqLen = 12;
  constexpr int kNumRanks = 3;
  std::vector<int> num_read(kNumRanks);
  for (int64_t bad = 0; bad <= kSeqLen; ++bad) {
    // Bytes, of which most are a hole: a larger file than those that are scanned when opened.
    const std::string path = ::testing::TempDir() + "/bad.txt";
    std::ofstream(path) << std::string(bad, 'a') << char{127};
    std::filesystem::resize_file(path, TokenFile::kMaxScanBytes + 1);
    const auto stream = TokenStream::Open({path}, /*vocab_size=*/100);
    ASSERT_TRUE(stream.ok()) << stream.status();
    const DataLoader loader = MakeLoader(*stream, 0, kSeqLen + 1, {.seq_len = kSeqLen});
    for (int rank = 0; rank < kNumRanks; ++rank) {
      const SequenceChunks chunks = {.rank = rank, .num_ranks = kNumRanks};
      TestTensor tokens(DType::kI32, {4}), targets(DType::kI32, {4});
      TokenBatch batch = {.tokens = tokens, .targets = targets};
      bool reads = false;
      for (const ShardRange& chunk : chunks.Of(kSeqLen)) {
        reads = reads || (chunk.begin <= bad && bad <= chunk.end);
      }
      EXPECT_EQ(loader.Load(0, 1, &batch, chunks).ok(), !reads) << "token " << bad << ", " << rank;
      num_read[rank] += reads;
    }
  }
  // The last rank's chunks meet.
  EXPECT_THAT(num_read, ElementsAre(6, 6, 5));
}

// Of rows of four, what follows the last is in none.
TEST(DataLoaderTest, TextWithoutATokenToLearnIsAnError) {
  const TokenStream stream = MakeStream(100);
  const DataLoader::Options options = {.seq_len = 4, .documents = DocumentMode::kMask};
  Corpus corpus = {.ranges = {{0, 20}}};
  for (int64_t begin = 0; begin <= 17; ++begin) corpus.known.begins.push_back(begin);
  EXPECT_EQ(LoaderOf(stream, corpus, options).status().message(),
            "20 tokens hold no row with a token to learn");
  corpus.known.begins.erase(corpus.known.begins.begin() + 16);
  const auto loader = LoaderOf(stream, corpus, options);
  ASSERT_TRUE(loader.ok()) << loader.status();
  EXPECT_EQ(loader->NumTargets(0, loader->num_samples()), 1);
}

TEST(DataLoaderDeathTest, WrongShapesAndRangesAreNamed) {
  const TokenStream stream = MakeStream(100);
  const DataLoader loader = MakeLoader(stream, 0, 100, {.seq_len = 8});
  TestTensor tokens(DType::kI32, {16}), targets(DType::kI32, {8});
  EXPECT_DEATH((void)loader.Load(0, 2, tokens, targets), "i32\\[16\\], targets i32\\[8\\]");
  EXPECT_DEATH((void)loader.Load(-1, 2, tokens, tokens), "2 samples of 8 from -1");
  TokenBatch batch = {.tokens = targets, .targets = targets};
  EXPECT_DEATH((void)loader.Load(0, 3, &batch, {.rank = 0, .num_ranks = 3}),
               "samples of 8 tokens over 3 ranks");
  EXPECT_DEATH((void)DataLoader::Create(&stream, 0, 101, {.seq_len = 8}), "\\[0, 101\\) of 100");
}

}  // namespace
}  // namespace strake
