// main() of a strake_fuzz_test: runs LLVMFuzzerTestOneInput over the corpus files that the command
// line names, then over mutations of them, which are the same in every run. Writes an input that
// crashes to a file, and prints the file's name.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "core/base/philox.h"
#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
// Exists in binaries built with a sanitizer, whose own reports end a process without a signal.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());

namespace strake {
namespace {

constexpr int kMaxMutations = 20000;
constexpr std::chrono::milliseconds kMaxTime(2000);

std::vector<std::string>& Corpus() {
  static auto* corpus = new std::vector<std::string>;
  return *corpus;
}

// The input that LLVMFuzzerTestOneInput is processing, for the crash handler. It is plain memory,
// because a handler may neither allocate nor lock.
const char* current_input = nullptr;
size_t current_size = 0;
char crash_path[512];

void WriteCrashInput() {
  if (current_input == nullptr) return;
  const int file = open(crash_path, O_CREAT | O_WRONLY | O_TRUNC, 0644);
  const bool written = file >= 0 && write(file, current_input, current_size) >= 0;
  const char* text = written ? "the input that crashed is in " : "cannot write the input to ";
  if (write(STDERR_FILENO, text, std::strlen(text)) < 0) return;
  if (write(STDERR_FILENO, crash_path, std::strlen(crash_path)) < 0) return;
  if (write(STDERR_FILENO, "\n", 1) < 0) return;
}

void HandleSignal(int signal) {
  WriteCrashInput();
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void InstallCrashHandler() {
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  std::snprintf(crash_path, sizeof(crash_path), "%s/crash_input_%d",
                folder != nullptr ? folder : "/tmp", static_cast<int>(getpid()));
  if (__sanitizer_set_death_callback != nullptr) {
    __sanitizer_set_death_callback(&WriteCrashInput);
    return;
  }
  for (const int signal : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    std::signal(signal, &HandleSignal);
  }
}

void RunOne(const std::string& input) {
  // A copy of exact size on the heap, so that a sanitizer detects a read of one byte too many.
  const std::vector<char> bytes(input.begin(), input.end());
  current_input = bytes.data();
  current_size = bytes.size();
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  current_input = nullptr;
}

// The random choices for one mutated input.
class Choices {
 public:
  explicit Choices(uint64_t number) : random_(0, RandomUse::kTesting, number) {}
  // In [0, bound); 0 for an empty range.
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_.Bits(next_++) % bound; }

 private:
  const Philox random_;
  uint64_t next_ = 0;
};

// Integers at which arithmetic tends to fail, in binary and as text.
constexpr int64_t kIntegers[] = {0,
                                 1,
                                 -1,
                                 0x7f,
                                 0x80,
                                 0xff,
                                 0x7fff,
                                 0xffff,
                                 INT32_MAX,
                                 INT32_MIN,
                                 UINT32_MAX,
                                 int64_t{1} << 32,
                                 int64_t{1} << 53,
                                 int64_t{1} << 62,
                                 INT64_MAX,
                                 INT64_MIN};
constexpr const char* kTexts[] = {"0",
                                  "-1",
                                  "2147483648",
                                  "9223372036854775808",
                                  "18446744073709551616",
                                  "1e999",
                                  "0.5",
                                  "{",
                                  "}",
                                  "[",
                                  "]",
                                  "\"",
                                  ",",
                                  ":",
                                  "null",
                                  "\\u0000",
                                  "\xff\xfe",
                                  "\n"};

void OverwriteInteger(Choices& choices, std::string* input) {
  const int64_t value = kIntegers[choices.Below(std::size(kIntegers))];
  const size_t width = size_t{1} << choices.Below(4);
  if (input->size() < width) return;
  std::memcpy(input->data() + choices.Below(input->size() - width + 1), &value, width);
}

void ReplaceNumber(Choices& choices, std::string* input) {
  constexpr const char* kDigits = "0123456789";
  const size_t begin = input->find_first_of(kDigits, choices.Below(input->size()));
  if (begin == std::string::npos) return;
  const size_t end = std::min(input->find_first_not_of(kDigits, begin), input->size());
  input->replace(begin, end - begin, kTexts[choices.Below(6)]);
}

void Mutate(Choices& choices, std::string* input) {
  const size_t at = choices.Below(input->size());
  switch (choices.Below(8)) {
    case 0:
      if (!input->empty()) (*input)[at] ^= 1 << choices.Below(8);
      return;
    case 1:
      input->resize(at);
      return;
    case 2:
      input->erase(at, 1 + choices.Below(32));
      return;
    case 3:
      input->insert(at, 1 + choices.Below(32), static_cast<char>(choices.Below(256)));
      return;
    case 4:
      input->insert(at, kTexts[choices.Below(std::size(kTexts))]);
      return;
    case 5: {
      const std::string& other = Corpus()[choices.Below(Corpus().size())];
      input->replace(at, std::string::npos, other, choices.Below(other.size()));
      return;
    }
    case 6:
      OverwriteInteger(choices, input);
      return;
    case 7:
      ReplaceNumber(choices, input);
      return;
  }
}

TEST(FuzzTest, Corpus) {
  RunOne("");
  for (const std::string& input : Corpus()) RunOne(input);
}

TEST(FuzzTest, Mutations) {
  const auto start = std::chrono::steady_clock::now();
  int number = 0;
  for (; number < kMaxMutations; ++number) {
    if (std::chrono::steady_clock::now() - start > kMaxTime) break;
    Choices choices(number);
    std::string input = Corpus()[choices.Below(Corpus().size())];
    const size_t num_mutations = 1 + choices.Below(4);
    for (size_t i = 0; i < num_mutations; ++i) Mutate(choices, &input);
    RunOne(input);
  }
  RecordProperty("mutations", number);
}

bool ReadCorpus(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read corpus file %s\n", argv[i]);
      return false;
    }
    Corpus().emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (Corpus().empty()) Corpus().emplace_back();
  return true;
}

}  // namespace
}  // namespace strake

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (!strake::ReadCorpus(argc, argv)) return 1;
  strake::InstallCrashHandler();
  return RUN_ALL_TESTS();
}
