#include "core/base/control_group.h"

#include <filesystem>
#include <string>

#include "core/testing/temp_directory.h"
#include "gtest/gtest.h"

namespace strake {
namespace {

// A folder that stands for "/".
class ControlGroupTest : public ::testing::Test {
 protected:
  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(root_ / path).parent_path());
    testing::WriteFile(root_ / path, text + "\n");
  }
  ControlGroupLimits Limits() const { return ReadControlGroupLimits(root_.path()); }

  const testing::TempDirectory root_;
};

class ControlGroup2Test : public ControlGroupTest {
 protected:
  ControlGroup2Test() {
    Write("proc/self/cgroup", "0::/jobs/train");
    Write("proc/self/mountinfo",
          "25 30 0:23 / /proc rw - proc proc rw\n"
          "35 24 0:30 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw");
  }
};

TEST_F(ControlGroup2Test, NothingLimits) {
  EXPECT_FALSE(Limits().free_memory_bytes.has_value());
  EXPECT_FALSE(Limits().num_cores.has_value());
  Write("sys/fs/cgroup/jobs/train/memory.max", "max");
  Write("sys/fs/cgroup/jobs/train/memory.current", "100");
  Write("sys/fs/cgroup/jobs/train/cpu.max", "max 100000");
  EXPECT_FALSE(Limits().free_memory_bytes.has_value());
  EXPECT_FALSE(Limits().num_cores.has_value());
}

TEST_F(ControlGroup2Test, CachedFilesAreFree) {
  Write("sys/fs/cgroup/jobs/train/memory.max", "1000");
  Write("sys/fs/cgroup/jobs/train/memory.current", "900");
  EXPECT_EQ(Limits().free_memory_bytes, 100);
  Write("sys/fs/cgroup/jobs/train/memory.stat", "anon 200\nfile 700\ninactive_file 600\nslab 0");
  EXPECT_EQ(Limits().free_memory_bytes, 700);
  Write("sys/fs/cgroup/jobs/train/memory.current", "2000");
  EXPECT_EQ(Limits().free_memory_bytes, 0);
}

TEST_F(ControlGroup2Test, TheTightestLevelCounts) {
  Write("sys/fs/cgroup/jobs/train/memory.max", "1000");
  Write("sys/fs/cgroup/jobs/train/memory.current", "100");
  Write("sys/fs/cgroup/jobs/memory.max", "2000");
  Write("sys/fs/cgroup/jobs/memory.current", "1800");
  EXPECT_EQ(Limits().free_memory_bytes, 200);
  Write("sys/fs/cgroup/jobs/train/cpu.max", "350000 100000");
  EXPECT_EQ(Limits().num_cores, 3.5);
  Write("sys/fs/cgroup/jobs/cpu.max", "100000 100000");
  EXPECT_EQ(Limits().num_cores, 1);
  Write("sys/fs/cgroup/cpu.max", "50000 100000");
  EXPECT_EQ(Limits().num_cores, 0.5);
}

TEST_F(ControlGroup2Test, AContainersOwnGroupIsTheTop) {
  Write("proc/self/mountinfo", "35 24 0:30 /docker/1f /sys/fs/cgroup ro - cgroup2 cgroup rw");
  Write("sys/fs/cgroup/memory.max", "1000");
  Write("sys/fs/cgroup/memory.current", "1");
  for (const char* group : {"0::/docker/1f", "0::/", "0::/../../init.scope"}) {
    Write("proc/self/cgroup", group);
    EXPECT_EQ(Limits().free_memory_bytes, 999) << group;
  }
  Write("proc/self/cgroup", "0::/docker/1f/inner");
  Write("sys/fs/cgroup/inner/cpu.max", "200000 100000");
  EXPECT_EQ(Limits().num_cores, 2);
}

TEST_F(ControlGroupTest, Version1) {
  Write("proc/self/cgroup", "7:pids:/\n4:memory:/jobs/a\n1:cpu,cpuacct:/jobs\n0::/");
  Write("proc/self/mountinfo",
        "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
        "31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:3 - cgroup cgroup rw,cpu,cpuacct");
  Write("sys/fs/cgroup/memory/jobs/a/memory.limit_in_bytes", "9223372036854771712");
  Write("sys/fs/cgroup/memory/jobs/a/memory.usage_in_bytes", "700");
  Write("sys/fs/cgroup/memory/jobs/memory.limit_in_bytes", "1000");
  Write("sys/fs/cgroup/memory/jobs/memory.usage_in_bytes", "700");
  Write("sys/fs/cgroup/memory/jobs/memory.stat", "inactive_file 1\ntotal_inactive_file 300");
  EXPECT_EQ(Limits().free_memory_bytes, 600);
  Write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "-1");
  Write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_period_us", "100000");
  EXPECT_FALSE(Limits().num_cores.has_value());
  Write("sys/fs/cgroup/cpu,cpuacct/jobs/cpu.cfs_quota_us", "150000");
  EXPECT_EQ(Limits().num_cores, 1.5);
}

TEST_F(ControlGroupTest, WhatCannotBeReadLimitsNothing) {
  EXPECT_FALSE(Limits().free_memory_bytes.has_value());
  for (const char* text : {"", "0", "::", "0::", "0::/a\n4:memory", "x y z - cgroup2"}) {
    Write("proc/self/cgroup", text);
    Write("proc/self/mountinfo", text);
    EXPECT_FALSE(Limits().free_memory_bytes.has_value()) << text;
    EXPECT_FALSE(Limits().num_cores.has_value()) << text;
  }
}

}  // namespace
}  // namespace strake
