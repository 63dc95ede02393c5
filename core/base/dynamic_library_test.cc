#include "core/base/dynamic_library.h"

#include <cmath>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(DynamicLibraryTest, LoadsTheFirstThatThereIs) {
  const auto library = DynamicLibrary::Load("libm", {"libnone.so.9", "libm.so.6"});
  ASSERT_TRUE(library.ok()) << library.status();
  EXPECT_THAT(library->path(), HasSubstr("/libm.so.6"));
  const auto cosine = library->Function<double(double)>("cos");
  ASSERT_TRUE(cosine.ok()) << cosine.status();
  EXPECT_EQ((*cosine)(0.75), std::cos(0.75));
}

TEST(DynamicLibraryTest, AMissingLibraryIsNamedWithEveryReason) {
  const std::string broken = ::testing::TempDir() + "/libbroken.so";
  std::ofstream(broken) << "no library, but longer than the header of one would be: "
                        << std::string(64, '.');
  const absl::Status status = DynamicLibrary::Load("Nothing", {"libnothing.so.2", broken}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("Nothing cannot be loaded (libnothing.so.2: cannot open"),
                    HasSubstr("libbroken.so: invalid ELF header"), HasSubstr("LD_LIBRARY_PATH"),
                    Not(HasSubstr("\n"))));
}

TEST(DynamicLibraryTest, AMissingFunctionIsNamedWithItsLibrary) {
  const auto library = DynamicLibrary::Load("libm", {"libm.so.6"});
  ASSERT_TRUE(library.ok()) << library.status();
  const absl::Status status = library->Function<void()>("strake_no_such_function").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(
      std::string(status.message()),
      AllOf(HasSubstr("libm has no function strake_no_such_function"), HasSubstr("/libm.so.6")));
}

}  // namespace
}  // namespace strake
