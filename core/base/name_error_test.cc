#include "core/base/name_error.h"

#include <memory>

#include "gtest/gtest.h"

namespace strake {
namespace {

TEST(NameErrorTest, ComesBeforeTheMessageAndKeepsTheCode) {
  const absl::Status named = NameError("--data", absl::NotFoundError("a.txt: is empty"));
  EXPECT_EQ(named, absl::NotFoundError("--data: a.txt: is empty"));
  EXPECT_EQ(NameError("--out", named), absl::NotFoundError("--out: --data: a.txt: is empty"));
  EXPECT_EQ(NameError("--data", absl::OkStatus()), absl::OkStatus());
}

TEST(NameErrorTest, AValueStaysWhatItIs) {
  auto value = NameError("--data", absl::StatusOr<std::unique_ptr<int>>(std::make_unique<int>(3)));
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(**value, 3);
  value = NameError("--data", absl::StatusOr<std::unique_ptr<int>>(absl::DataLossError("cut")));
  EXPECT_EQ(value.status(), absl::DataLossError("--data: cut"));
}

}  // namespace
}  // namespace strake
