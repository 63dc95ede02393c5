#include "train/trace/step_trace.h"

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/json.h"
#include "core/base/op_profile.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace strake {
namespace {

// A clock that goes on by a microsecond with each look at it.
TraceClock Counting(int64_t* now) {
  return [now] { return *now += 1000; };
}

nlohmann::json EventsOf(const StepTrace& trace, int64_t origin) {
  const auto events =
      ParseJson(absl::StrCat("[", trace.EventsJson(origin), "]"), "the trace's events");
  EXPECT_TRUE(events.ok()) << events.status();
  return events.ok() ? *events : nlohmann::json::array();
}

nlohmann::json EventNamed(const nlohmann::json& events, const std::string& name) {
  for (const nlohmann::json& event : events) {
    if (event.at("name") == name) return event;
  }
  ADD_FAILURE() << "no " << name;
  return {};
}

TEST(StepTraceTest, ShowsOpsInLayersInSteps) {
  int64_t now = 0;
  StepTrace trace({.rank = 3, .clock = Counting(&now)});
  ASSERT_TRUE(trace.BeginStep(7).ok());  // at 1 us
  {
    const ProfileSpan block(&trace, {.category = "layer", .name = "block", .index = 2});
    const OpTimer op(&trace, "matmul", Pass::kBackward, {.flops = 12, .bytes = 34});
  }
  ASSERT_TRUE(trace.EndStep().ok());
  const nlohmann::json events = EventsOf(trace, /*origin=*/1000);
  EXPECT_EQ(events[0].dump(),
            R"({"args":{"name":"rank 3"},"name":"process_name","ph":"M","pid":4,"tid":4})");
  EXPECT_EQ(
      EventNamed(events, "matmul").dump(),
      R"({"args":{"bytes":34,"flops":12,"pass":"backward"},"cat":"op","dur":1.0,"name":"matmul",)"
      R"("ph":"X","pid":4,"tid":4,"ts":2.0})");
  EXPECT_EQ(EventNamed(events, "block 2").at("ts"), 1);
  EXPECT_EQ(EventNamed(events, "block 2").at("dur"), 3);
  EXPECT_EQ(EventNamed(events, "step 7").at("ts"), 0);
  EXPECT_EQ(EventNamed(events, "step 7").at("dur"), 5);
}

TEST(StepTraceTest, ShowsCollectivesAndWaits) {
  int64_t now = 0;
  StepTrace trace({.clock = Counting(&now)});
  ASSERT_TRUE(trace.BeginStep(1).ok());
  {
    const ProfileSpan wait(&trace, {.category = "wait",
                                    .name = "all_gather",
                                    .index = 5,
                                    .axis = "d\"p",
                                    .num_ranks = 4,
                                    .bytes = 64,
                                    .file = "a/b.cc",
                                    .line = 9});
  }
  ASSERT_TRUE(trace.EndStep().ok());
  const nlohmann::json event = EventNamed(EventsOf(trace, 0), "wait: all_gather");
  EXPECT_EQ(event.at("cat"), "wait");
  EXPECT_EQ(event.at("args").dump(),
            R"({"at":"a/b.cc:9","axis":"d\"p","bytes":64,"ranks":4,"sequence":5})");
}

TEST(StepTraceTest, KeepsStepsBeyondTheLimit) {
  int64_t now = 0;
  StepTrace trace({.max_slices = 4, .clock = Counting(&now)});
  for (int64_t step = 1; step <= 3; ++step) {
    ASSERT_TRUE(trace.BeginStep(step).ok());
    for (int i = 0; i < 5; ++i) const OpTimer op(&trace, "sum", Pass::kForward);
    ASSERT_TRUE(trace.EndStep().ok());
  }
  // 3 ops and the first step, then steps alone.
  EXPECT_EQ(trace.slices().size(), 6u);
  EXPECT_EQ(trace.num_dropped(), 12);
  EXPECT_EQ(EventNamed(EventsOf(trace, 0), "process_labels").at("args").at("labels"),
            "12 slices are left out");
}

TEST(StepTraceTest, OuterSlicesComeFirstWhereTheClockStandsStill) {
  StepTrace trace({.clock = [] { return int64_t{5000}; }});
  ASSERT_TRUE(trace.BeginStep(1).ok());
  {
    const ProfileSpan outer(&trace, {.category = "layer", .name = "outer"});
    const ProfileSpan inner(&trace, {.category = "layer", .name = "inner"});
    const OpTimer op(&trace, "sum", Pass::kForward);
  }
  ASSERT_TRUE(trace.EndStep().ok());
  std::vector<std::string> names;
  for (const nlohmann::json& event : EventsOf(trace, 0)) names.push_back(event.at("name"));
  EXPECT_EQ(names, std::vector<std::string>(
                       {"process_name", "thread_name", "step 1", "outer", "inner", "sum"}));
  trace.Clear();
  EXPECT_EQ(EventsOf(trace, 0).size(), 1u);
}

TEST(ThreadTraceTest, IsCutAtTheTracesEnds) {
  int64_t now = 0;
  ThreadTrace thread(Counting(&now));
  {
    const ProfileSpan before(&thread, {.category = "io", .name = "before"});  // 1 to 2 us
  }
  thread.Begin({.category = "io", .name = "write"});  // 3 us
  const std::vector<TraceSlice> slices = thread.Between(2500, 9000);
  thread.End();
  ASSERT_EQ(slices.size(), 1u);
  EXPECT_STREQ(slices[0].label.name, "write");
  EXPECT_EQ(slices[0].begin, 3000);
  EXPECT_EQ(slices[0].end, 9000);
  EXPECT_EQ(thread.Between(1500, 3500).size(), 2u);
}

}  // namespace
}  // namespace strake
