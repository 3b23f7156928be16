#include "runtime/cgroup.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

constexpr int64_t kMiB = 1 << 20;

// Folders of groups, and the two files in which the kernel lists the groups of a process and their
// mount points.
class CgroupTest : public ::testing::Test {
 protected:
  // Mounts `root` of a hierarchy at the folder `name`; `options` are its controllers.
  void Mount(const std::string& type, const std::string& root, const std::string& name,
             const std::string& options) {
    absl::StrAppend(&mounts_, "35 24 0:30 ", root, " ", folder_.Path(name),
                    " rw,nosuid shared:9 - ", type, " cgroup rw,", options, "\n");
    folder_.Write("proc/mountinfo", mounts_);
  }

  CgroupLimits Read(const std::string& groups) {
    folder_.Write("proc/cgroup", groups);
    return ReadCgroupLimits(folder_.Path("proc"));
  }

  std::string mounts_ = "22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n";
  TempFolder folder_;
};

TEST_F(CgroupTest, LimitsOfTheOwnGroupAreReadInVersion2) {
  Mount("cgroup2", "/", "unified", "nsdelegate");
  folder_.Write("unified/slurm/job_7/cpu.max", "150000 100000\n");
  folder_.Write("unified/slurm/job_7/memory.max", absl::StrCat(400 * kMiB, "\n"));
  const CgroupLimits limits = Read("0::/slurm/job_7\n");
  EXPECT_EQ(limits.cores, 1.5);
  EXPECT_EQ(limits.memory_bytes, 400 * kMiB);
  EXPECT_EQ(limits.memory_group, folder_.Path("unified/slurm/job_7"));
}

TEST_F(CgroupTest, ASmallerLimitOfAParentCounts) {
  Mount("cgroup2", "/", "unified", "nsdelegate");
  folder_.Write("unified/user.slice/run.scope/cpu.max", "max 100000\n");
  folder_.Write("unified/user.slice/run.scope/memory.max", absl::StrCat(900 * kMiB, "\n"));
  folder_.Write("unified/user.slice/cpu.max", "200000 100000\n");
  folder_.Write("unified/user.slice/memory.high", absl::StrCat(300 * kMiB, "\n"));
  folder_.Write("unified/memory.max", absl::StrCat(500 * kMiB, "\n"));
  const CgroupLimits limits = Read("0::/user.slice/run.scope\n");
  EXPECT_EQ(limits.cores, 2);
  EXPECT_EQ(limits.memory_bytes, 300 * kMiB);
  EXPECT_EQ(limits.memory_group, folder_.Path("unified/user.slice"));
}

TEST_F(CgroupTest, Version1HasAHierarchyForEachController) {
  Mount("cgroup", "/", "cpu", "cpu,cpuacct");
  Mount("cgroup", "/", "memory", "memory");
  Mount("cgroup2", "/", "unified", "nsdelegate");
  folder_.Write("cpu/a/cpu.cfs_quota_us", "50000\n");
  folder_.Write("cpu/a/cpu.cfs_period_us", "100000\n");
  folder_.Write("memory/b/c/memory.limit_in_bytes", "9223372036854771712\n");
  folder_.Write("memory/b/memory.limit_in_bytes", absl::StrCat(64 * kMiB, "\n"));
  folder_.Write("memory/a/memory.limit_in_bytes", absl::StrCat(kMiB, "\n"));  // another group
  const CgroupLimits limits = Read("3:memory:/b/c\n2:cpu,cpuacct:/a\n1:name=systemd:/\n0::/\n");
  EXPECT_EQ(limits.cores, 0.5);
  EXPECT_EQ(limits.memory_bytes, 64 * kMiB);
}

// A container without a cgroup namespace: the group has its name on the host, and the mount shows
// only the part below the container's own group.
TEST_F(CgroupTest, TheGroupOfAContainerIsTheRootOfItsMount) {
  Mount("cgroup", "/docker/4f", "memory", "memory");
  folder_.Write("memory/memory.limit_in_bytes", absl::StrCat(80 * kMiB, "\n"));
  folder_.Write("memory/job/memory.limit_in_bytes", absl::StrCat(70 * kMiB, "\n"));
  EXPECT_EQ(Read("3:memory:/docker/4f\n").memory_bytes, 80 * kMiB);
  EXPECT_EQ(Read("3:memory:/docker/4f/job\n").memory_bytes, 70 * kMiB);
  EXPECT_EQ(Read("3:memory:/docker/4fe/job\n").memory_bytes, 80 * kMiB);
  EXPECT_EQ(Read("3:memory:/../../job\n").memory_bytes, 80 * kMiB);
}

TEST_F(CgroupTest, NothingIsLimitedWithoutLimits) {
  Mount("cgroup2", "/", "unified", "nsdelegate");
  folder_.Write("unified/a/cpu.max", "max 100000\n");
  folder_.Write("unified/a/memory.max", "max\n");
  Mount("cgroup", "/", "cpu", "cpu");
  folder_.Write("cpu/cpu.cfs_quota_us", "-1\n");
  folder_.Write("cpu/cpu.cfs_period_us", "100000\n");
  for (const char* groups : {"0::/a\n1:cpu:/\n", "0::/gone\n", "", "nonsense\n1:\n"}) {
    const CgroupLimits limits = Read(groups);
    EXPECT_TRUE(std::isinf(limits.cores)) << groups;
    EXPECT_EQ(limits.memory_bytes, CgroupLimits::kUnlimited) << groups;
    EXPECT_EQ(limits.memory_group, "") << groups;
  }
}

TEST_F(CgroupTest, AMountPointMayContainASpace) {
  absl::StrAppend(&mounts_, "35 24 0:30 / ", folder_.Path("my\\040groups"),
                  " rw - cgroup2 cgroup rw\n");
  folder_.Write("proc/mountinfo", mounts_);
  folder_.Write("my groups/memory.max", absl::StrCat(5 * kMiB, "\n"));
  EXPECT_EQ(Read("0::/\n").memory_bytes, 5 * kMiB);
}

}  // namespace
}  // namespace unipool
