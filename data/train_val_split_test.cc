#include "data/train_val_split.h"

#include <set>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(SplitTrainValTest, HoldsBackTheLastTenth) {
  const auto split = SplitTrainVal(1009, std::nullopt, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->train.ranges(), ElementsAre(TokenRange{0, 909}));
  EXPECT_THAT(split->val.ranges(), ElementsAre(TokenRange{909, 1009}));
  EXPECT_TRUE(split->holds_back_the_end);
}

TEST(SplitTrainValTest, TrainsOnEverythingWithValidationData) {
  const auto split = SplitTrainVal(1009, 50, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->train.ranges(), ElementsAre(TokenRange{0, 1009}));
  EXPECT_THAT(split->val.ranges(), ElementsAre(TokenRange{0, 50}));
}

TEST(SplitTrainValTest, TheShortestThatWorks) {
  EXPECT_TRUE(SplitTrainVal(90, std::nullopt, 8).ok());
  EXPECT_TRUE(SplitTrainVal(9, 9, 8).ok());
}

TEST(SplitTrainValTest, TooShortPartsAreNamedWithBothNumbers) {
  EXPECT_THAT(SplitTrainVal(89, std::nullopt, 8).status().message(),
              AllOf(HasSubstr("last 10 %"), HasSubstr("has 8 tokens"), HasSubstr("takes 9")));
  EXPECT_THAT(SplitTrainVal(9, std::nullopt, 10).status().message(),
              AllOf(HasSubstr("the training data has 9 tokens"), HasSubstr("takes 11")));
  EXPECT_THAT(SplitTrainVal(9, 8, 8).status().message(),
              AllOf(HasSubstr("the validation data has 8 tokens"), HasSubstr("takes 9")));
  EXPECT_THAT(SplitTrainVal(100, 100, INT64_MAX).status().message(),
              HasSubstr("takes 9223372036854775808"));
}

// Files of `num` documents of 3 to 12 tokens each.
FileDocuments ManyDocuments(int num) {
  FileDocuments file;
  for (int i = 0; i < num; ++i) {
    file.begins.push_back(file.num_tokens);
    file.num_tokens += 3 + i * 7 % 10;
  }
  return file;
}

TEST(SplitDocumentsTest, HoldsBackWholeDocumentsOfAllFiles) {
  const std::vector<FileDocuments> files = {ManyDocuments(200), ManyDocuments(300),
                                            ManyDocuments(100)};
  std::set<int64_t> bounds;
  int64_t num_tokens = 0;
  std::vector<int64_t> file_ends;
  for (const FileDocuments& file : files) {
    for (const int64_t begin : file.begins) bounds.insert(num_tokens + begin);
    num_tokens += file.num_tokens;
    file_ends.push_back(num_tokens);
  }
  bounds.insert(num_tokens);
  const auto split = SplitDocuments(files, /*seed=*/1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_FALSE(split->holds_back_the_end);
  EXPECT_LE(split->val.num_tokens(), num_tokens / 10);
  EXPECT_GE(split->val.num_tokens(), num_tokens / 10 - num_tokens / 640);
  EXPECT_EQ(split->train.num_tokens() + split->val.num_tokens(), num_tokens);
  std::set<int64_t> files_of_val;
  std::vector<bool> is_val(num_tokens, false);
  for (const TokenRange& range : split->val.ranges()) {
    EXPECT_TRUE(bounds.contains(range.begin)) << range.begin;
    EXPECT_TRUE(bounds.contains(range.end)) << range.end;
    for (int64_t i = range.begin; i < range.end; ++i) is_val[i] = true;
    for (size_t file = 0; file < file_ends.size(); ++file) {
      if (range.begin < file_ends[file]) {
        files_of_val.insert(file);
        break;
      }
    }
  }
  EXPECT_EQ(files_of_val.size(), 3) << "spread over the files";
  EXPECT_GT(split->val.ranges().size(), 30);
  for (const TokenRange& range : split->train.ranges()) {
    for (int64_t i = range.begin; i < range.end; ++i) EXPECT_FALSE(is_val[i]) << i;
  }
}

TEST(SplitDocumentsTest, TheSeedDrawsThem) {
  const std::vector<FileDocuments> files = {ManyDocuments(200)};
  const auto first = SplitDocuments(files, 1, 8), again = SplitDocuments(files, 1, 8),
             other = SplitDocuments(files, 2, 8);
  ASSERT_TRUE(first.ok() && again.ok() && other.ok());
  EXPECT_EQ(first->val, again->val);
  EXPECT_NE(first->val, other->val);
  EXPECT_NE(first->val.Hash(), other->val.Hash());
}

// Runs that were begun go on with their documents.
TEST(SplitDocumentsTest, TheDrawDoesNotChangeWithTheVersion) {
  const FileDocuments file = {100, {0, 5, 10, 15, 20, 30, 40, 45, 50, 60, 70, 80, 85, 90, 95}};
  const auto split = SplitDocuments({file}, 1, 4);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->val.ranges(), ElementsAre(TokenRange{70, 80}));
}

TEST(SplitDocumentsTest, OneTextIsCutAtItsEnd) {
  const auto split = SplitDocuments({{1009, {0}}}, 1, 8), end = SplitTrainVal(1009, {}, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->train, end->train);
  EXPECT_EQ(split->val, end->val);
  EXPECT_TRUE(split->holds_back_the_end);
}

TEST(SplitDocumentsTest, FilesOfUnknownOrLongDocumentsGiveTheirLastTenth) {
  for (const std::vector<int64_t>& begins : {std::vector<int64_t>(), {0}}) {
    const auto split = SplitDocuments({{100, begins}, {200, begins}, {150, begins}}, 1, 8);
    ASSERT_TRUE(split.ok()) << split.status();
    EXPECT_THAT(split->val.ranges(),
                ElementsAre(TokenRange{90, 100}, TokenRange{280, 300}, TokenRange{435, 450}));
    EXPECT_THAT(split->train.ranges(),
                ElementsAre(TokenRange{0, 90}, TokenRange{100, 280}, TokenRange{300, 435}));
    EXPECT_FALSE(split->holds_back_the_end);
  }
}

TEST(SplitDocumentsTest, LongTextsOfOneFileGiveTheirLastTenth) {
  const std::vector<int64_t> begins = {0, 200, 400, 600, 800};
  const auto split = SplitDocuments({{1000, begins, begins}}, 1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->val.ranges(),
              ElementsAre(TokenRange{180, 200}, TokenRange{380, 400}, TokenRange{580, 600},
                          TokenRange{780, 800}, TokenRange{980, 1000}));
  EXPECT_FALSE(split->holds_back_the_end);
}

TEST(SplitDocumentsTest, ATextInSeveralFilesGivesItsLastTenth) {
  // Texts of 300, 300 and 200 tokens; the second in three files.
  const std::vector<FileDocuments> files = {
      {400, {0, 300}, {0, 300}}, {100, {0}, {}}, {300, {0, 100}, {100}}};
  const auto split = SplitDocuments(files, 1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->val.ranges(),
              ElementsAre(TokenRange{270, 300}, TokenRange{570, 600}, TokenRange{780, 800}));
}

TEST(SplitDocumentsTest, ShortDocumentsOfOneTextDoNotFillWhatLongOnesLeave) {
  FileDocuments lines = {500};
  for (int64_t i = 0; i < 50; ++i) lines.begins.push_back(10 * i);
  const auto split = SplitDocuments({{1000, {0}}, lines, {1000, {0}}, {2500, {0}}}, 1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  int64_t of_lines = 0;
  for (const TokenRange& range : split->val.ranges()) {
    if (range.begin >= 1000 && range.end <= 1500) of_lines += range.num_tokens();
  }
  EXPECT_EQ(of_lines, 50);
  EXPECT_EQ(split->val.num_tokens(), 500);
}

TEST(SplitDocumentsTest, WholeFilesWhereEachIsADocument) {
  const std::vector<FileDocuments> files(40, {10, {0}});
  const auto split = SplitDocuments(files, 1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->val.num_tokens(), 40);
  for (const TokenRange& range : split->val.ranges()) EXPECT_EQ(range.begin % 10, 0);
}

TEST(SplitDocumentsTest, DocumentsThatAreOfNoUseInPartsAreNotCut) {
  FileDocuments file = {100, {0, 30, 50, 80}};
  file.whole = true;
  const auto split = SplitDocuments({file}, 1, 0);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_THAT(split->val.ranges(), ElementsAre(TokenRange{30, 50})) << "the shortest";
  EXPECT_THAT(split->train.ranges(), ElementsAre(TokenRange{0, 30}, TokenRange{50, 100}));
  file.begins = {0};
  EXPECT_THAT(SplitDocuments({file}, 1, 0).status().message(), HasSubstr("has no tokens"));
}

// A document may begin in the file before.
TEST(SplitDocumentsTest, TokensBeforeTheFirstDocumentAreOne) {
  FileDocuments file = ManyDocuments(100);
  file.begins.erase(file.begins.begin());
  const auto split = SplitDocuments({file}, 1, 8),
             whole = SplitDocuments({ManyDocuments(100)}, 1, 8);
  ASSERT_TRUE(split.ok()) << split.status();
  EXPECT_EQ(split->val, whole->val);
}

TEST(SplitDocumentsTest, TooShortPartsAreNamed) {
  EXPECT_THAT(SplitDocuments({{89, {0}}}, 1, 8).status().message(),
              AllOf(HasSubstr("last 10 %"), HasSubstr("has 8 tokens"), HasSubstr("takes 9")));
  EXPECT_THAT(SplitDocuments({{40, {0}}, {49, {0}}}, 1, 8).status().message(),
              AllOf(HasSubstr("held back for validation, has 8 tokens"), HasSubstr("takes 9")));
}

}  // namespace
}  // namespace strake
