// TempDirectory: a fresh folder for one test, removed at its end.
#ifndef STRAKE_CORE_TESTING_TEMP_DIRECTORY_H_
#define STRAKE_CORE_TESTING_TEMP_DIRECTORY_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "glog/logging.h"

namespace strake::testing {

class TempDirectory {
 public:
  TempDirectory() {
    const char* base = std::getenv("TEST_TMPDIR");
    path_ = std::string(base != nullptr ? base : "/tmp") + "/strakeXXXXXX";
    CHECK(mkdtemp(path_.data()) != nullptr) << path_;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  const std::string& path() const { return path_; }
  // The path of `name` in the folder.
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

inline void WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary);
  file << text;
  file.close();
  CHECK(file.good()) << path;
}

}  // namespace strake::testing

#endif  // STRAKE_CORE_TESTING_TEMP_DIRECTORY_H_
