// A warm step allocates nothing: this program replaces malloc and related functions and counts the
// calls.
#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <tuple>

#include "comm/local_communicator.h"
#include "configs/run.pb.h"
#include "launch/train/trainer.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0};

void Count() {
  if (counting.load(std::memory_order_relaxed)) allocations.fetch_add(1);
}

}  // namespace

extern "C" {
void* __libc_malloc(size_t size);
void* __libc_calloc(size_t count, size_t size);
void* __libc_realloc(void* block, size_t size);
void* __libc_memalign(size_t alignment, size_t size);

void* malloc(size_t size) {
  Count();
  return __libc_malloc(size);
}
void* calloc(size_t count, size_t size) {
  Count();
  return __libc_calloc(count, size);
}
void* realloc(void* block, size_t size) {
  Count();
  return __libc_realloc(block, size);
}
void* aligned_alloc(size_t alignment, size_t size) {
  Count();
  return __libc_memalign(alignment, size);
}
int posix_memalign(void** block, size_t alignment, size_t size) {
  Count();
  *block = __libc_memalign(alignment, size);
  return *block == nullptr ? ENOMEM : 0;
}
}

namespace unipool {
namespace {

using testing::Variant;

TEST(Allocation, TheCounterCounts) {
  counting = true;
  int* volatile block = new int(1);
  counting = false;
  delete block;
  EXPECT_EQ(allocations.exchange(0), 1);
}

class WarmStepTest
    : public ::testing::TestWithParam<std::tuple<Variant, config::Model::Recompute>> {};

TEST_P(WarmStepTest, AllocatesNothing) {
  const testing::TempFolder folder;
  testing::WriteTinyDataset(folder.Path("text"));
  config::Run run = testing::TinyRun(std::get<0>(GetParam()), folder.Path("text"));
  run.mutable_model()->set_recompute(std::get<1>(GetParam()));
  run.mutable_data()->set_micro_batch(4);
  const auto corpus = Corpus::Open(run.data()).value();
  const auto world =
      World::Create(run, std::move(CreateLocalCommunicators(1, absl::Seconds(60))[0])).value();
  const auto trainer = Trainer::Create(run, *corpus, *world).value();
  for (int i = 0; i < 3; ++i) ASSERT_OK(trainer->Step());
  counting = true;
  const bool ok = trainer->Step().ok() && trainer->Step().ok();
  counting = false;
  EXPECT_TRUE(ok);
  EXPECT_EQ(allocations.exchange(0), 0);
}

INSTANTIATE_TEST_SUITE_P(
    Variants, WarmStepTest,
    ::testing::Combine(
        ::testing::Values(Variant::kDense, Variant::kVanilla, Variant::kUniPool,
                          Variant::kUniPoolTop2, Variant::kSigmoid, Variant::kUniPoolLocal),
        ::testing::Values(config::Model::NONE, config::Model::EXPERT, config::Model::BLOCK)));

}  // namespace
}  // namespace unipool
