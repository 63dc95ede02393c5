#include "core/base/write_all.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "core/base/file_descriptor.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(WriteAllTest, GoesOnAfterAShortWrite) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const FileDescriptor in(ends[0]);
  std::string read_back;
  {
    FileDescriptor out(ends[1]);
    // More bytes than a pipe holds.
    std::thread writer([&] {
      EXPECT_TRUE(WriteAll(out.get(), std::string(1 << 20, 'x'), "pipe").ok());
      out = FileDescriptor(-1);
    });
    char buffer[5000];
    for (ssize_t n; (n = read(in.get(), buffer, sizeof(buffer))) > 0;) read_back.append(buffer, n);
    writer.join();
  }
  EXPECT_EQ(read_back, std::string(1 << 20, 'x'));
}

TEST(WriteAllTest, ErrorNamesPathAndReason) {
  const FileDescriptor full(open("/dev/full", O_WRONLY));
  ASSERT_TRUE(full.valid());
  const absl::Status status = WriteAll(full.get(), "text", "the/path");
  EXPECT_EQ(status.message(), "cannot write to the/path: No space left on device");
}

}  // namespace
}  // namespace strake
