#include "runtime/stream.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

namespace unipool {
namespace {

constexpr auto kMoment = std::chrono::milliseconds(20);

// Work blocks in Pass() until the test opens the gate.
class Gate {
 public:
  void Open() { open_ = true; }
  void Pass() const {
    while (!open_) std::this_thread::yield();
  }

 private:
  std::atomic<bool> open_ = false;
};

TEST(Stream, ComputeStreamRunsAtOnceOnTheCallingThread) {
  const auto stream = Stream::Create(Device{});
  std::thread::id seen;
  stream->Run([&seen] { seen = std::this_thread::get_id(); });
  EXPECT_EQ(seen, std::this_thread::get_id());
  EXPECT_EQ(stream->Record().stream, nullptr);
}

TEST(Stream, SideStreamRunsInOrderOnAnotherThread) {
  const auto stream = Stream::Create(Device{}, Stream::Kind::kSide);
  std::vector<int> order;
  std::vector<int>* const order_pointer = &order;
  std::thread::id seen;
  bool aside = false;
  stream->Run([&seen, &aside] {
    seen = std::this_thread::get_id();
    aside = OnSideThread();
  });
  for (int i = 0; i < 1000; ++i) stream->Run([order_pointer, i] { order_pointer->push_back(i); });
  stream->Synchronize();
  EXPECT_NE(seen, std::this_thread::get_id());
  EXPECT_TRUE(aside);
  EXPECT_FALSE(OnSideThread());
  ASSERT_EQ(order.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(Stream, WaitHoldsBackLaterWorkOfAnotherStream) {
  const auto first = Stream::Create(Device{}, Stream::Kind::kSide);
  const auto second = Stream::Create(Device{}, Stream::Kind::kSide);
  Gate gate;
  std::atomic<bool> first_done = false, second_saw = false;
  first->Run([&gate, &first_done] {
    gate.Pass();
    first_done = true;
  });
  second->Wait(first->Record());
  second->Run([&first_done, &second_saw] { second_saw = first_done.load(); });
  std::this_thread::sleep_for(kMoment);
  gate.Open();
  second->Synchronize();
  EXPECT_TRUE(second_saw);
}

TEST(Stream, ComputeStreamWaitsForTheEventAndNoLonger) {
  const auto compute = Stream::Create(Device{});
  const auto side = Stream::Create(Device{}, Stream::Kind::kSide);
  std::atomic<bool> before = false;
  Gate gate;
  side->Run([&before] {
    std::this_thread::sleep_for(kMoment);
    before = true;
  });
  const Event event = side->Record();
  // enqueued after the event, so waiting for it would deadlock
  side->Run([&gate] { gate.Pass(); });
  compute->Wait(event);
  EXPECT_TRUE(before);
  gate.Open();
}

TEST(Stream, DefaultAndOwnEventsHaveAlwaysHappened) {
  const auto side = Stream::Create(Device{}, Stream::Kind::kSide);
  const auto compute = Stream::Create(Device{});
  side->Wait(Event{});
  side->Wait(side->Record());
  side->Wait(compute->Record());
  compute->Wait(Event{});
  side->Synchronize();
  side->BlockUntil(0);
}

TEST(Stream, FullQueueBlocksTheCallerUntilThereIsRoom) {
  const auto side = Stream::Create(Device{}, Stream::Kind::kSide);
  constexpr int kMany = 2000;
  Gate gate;
  std::atomic<int> enqueued = 0, done = 0;
  side->Run([&gate] { gate.Pass(); });
  std::thread caller([&] {
    for (int i = 0; i < kMany; ++i) {
      side->Run([&done] { ++done; });
      ++enqueued;
    }
  });
  std::this_thread::sleep_for(kMoment);
  EXPECT_LT(enqueued, kMany);
  EXPECT_EQ(done, 0);
  gate.Open();
  caller.join();
  side->Synchronize();
  EXPECT_EQ(done, kMany);
}

TEST(Stream, DestructionFinishesTheQueue) {
  std::atomic<int> done = 0;
  {
    const auto side = Stream::Create(Device{}, Stream::Kind::kSide);
    for (int i = 0; i < 100; ++i) side->Run([&done] { ++done; });
  }
  EXPECT_EQ(done, 100);
}

TEST(Stream, CarriesTheLargestWork) {
  struct Large {
    std::atomic<int>* sum;
    int values[46];
    void operator()() const {
      for (const int value : values) *sum += value;
    }
  };
  static_assert(sizeof(Large) == Stream::kMaxWorkBytes);
  std::atomic<int> sum = 0;
  Large large{&sum, {}};
  for (int i = 0; i < 46; ++i) large.values[i] = i;
  for (const auto kind : {Stream::Kind::kCompute, Stream::Kind::kSide}) {
    const auto stream = Stream::Create(Device{}, kind);
    stream->Run(large);
    stream->Synchronize();
  }
  EXPECT_EQ(sum, 2 * 45 * 46 / 2);
}

}  // namespace
}  // namespace unipool
