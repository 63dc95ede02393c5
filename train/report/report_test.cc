#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/testing/temp_directory.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "train/report/run_curves.h"
#include "train/report/run_history.h"
#include "train/report/run_report.h"
#include "train/report/step_line.h"

namespace strake {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempDirectory;
using testing::WriteFile;

using Values = std::map<int64_t, double>;  // by step

// What the page's script finds in the element "data".
Json DataOf(const std::string& page) {
  const std::string begin = "<script type=\"application/json\" id=\"data\">";
  const size_t from = page.find(begin) + begin.size();
  return Json::parse(page.substr(from, page.find("</script>", from) - from));
}

Json CurveOf(const Json& run, const std::string& chart, const std::string& name) {
  for (const Json& curve : run["curves"]) {
    if (curve["chart"] == chart && curve["name"] == name) return curve;
  }
  ADD_FAILURE() << "no curve " << chart << " " << name << " in " << run["curves"].size();
  return Json::object();
}

// The points of a curve; NaN for a gap.
Values PointsOf(const Json& curve) {
  Values points;
  int64_t step = 0;
  for (size_t i = 0; i < curve["steps"].size(); ++i) {
    step += curve["steps"][i].get<int64_t>();
    const Json& value = curve["values"][i];
    points[step] = value.is_null() ? NAN : value.get<double>();
  }
  return points;
}

std::string Page(const std::string& directory) {
  const auto report = ReadRunReport(directory);
  EXPECT_TRUE(report.ok()) << report.status();
  return report.ok() ? ReportPage({&*report}) : "";
}

Json RunOf(const std::string& directory) { return DataOf(Page(directory))["runs"][0]; }

// A course with noise, and of some steps far too high or low.
double LossOf(int64_t step) {
  const double noise = static_cast<double>(step * 7919 % 1009) / 1009;
  const double spike = step == 314'159 ? 5 : step == 271'828 ? -1 : 0;
  return 2 + 8 / std::sqrt(static_cast<double>(step)) + 0.1 * noise + spike;
}

std::string LogLine(int64_t step, double loss) {
  return absl::StrCat("{\"step\":", step, ",\"loss\":", Json(loss).dump(),
                      ",\"lr\":0.001,\"grad_norm\":1.5,\"tokens\":64,\"seconds\":0.5,"
                      "\"tokens_per_second\":128}\n");
}

TEST(ReportTest, ShowsEachLineOfALog) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl",
            R"({"step":1,"loss":10.9,"lr":0.001,"grad_norm":2.5,"tokens":256,"seconds":0.5,)"
            R"("tokens_per_second":512,"mfu":0.415,"epoch":0.25,"time":1796200000.5,)"
            R"("sources":{"books":{"tokens":160,"loss":10.8},"</script>":{"tokens":1,"loss":3}}})"
            "\n"
            R"({"step":2,"loss":null,"lr":0.002,"grad_norm":0,"tokens":256,"seconds":0.5,)"
            R"("tokens_per_second":512})"
            "\n"
            R"({"step":2,"val_loss":10.7})"
            "\n"
            R"({"step":2,"val_data":"code","val_loss":10.5,"val_bits_per_byte":3.25})"
            "\n"
            R"({"step":2,"eval_task":"arc","acc":0.25,"acc_norm":0.5,"examples":100})"
            "\n");
  const Json run = RunOf(dir.path());
  const auto points = [&](const char* chart, const char* name) {
    return PointsOf(CurveOf(run, chart, name));
  };
  const Values loss = points("loss", "training");
  ASSERT_EQ(loss.size(), 2);
  EXPECT_EQ(loss.at(1), 10.9);
  EXPECT_TRUE(std::isnan(loss.at(2)));
  EXPECT_EQ(points("lr", ""), (Values{{1, 0.001}, {2, 0.002}}));
  EXPECT_EQ(points("mfu", ""), (Values{{1, 0.415}}));
  EXPECT_EQ(points("sources", "books"), (Values{{1, 10.8}}));
  EXPECT_EQ(points("sources", "</script>"), (Values{{1, 3}}));
  EXPECT_EQ(points("loss", "validation"), (Values{{2, 10.7}}));
  EXPECT_EQ(points("validation", "code"), (Values{{2, 10.5}}));
  EXPECT_EQ(points("bits_per_byte", "code"), (Values{{2, 3.25}}));
  EXPECT_EQ(points("tasks", "arc"), (Values{{2, 0.25}}));
  EXPECT_EQ(points("tasks", "arc, normalized"), (Values{{2, 0.5}}));
  EXPECT_EQ(run["step"], 2);
  EXPECT_EQ(run["epoch"], 0.25);
  EXPECT_EQ(run["time"], 1796200000.5);
  EXPECT_EQ(run["state"], "unfinished");
}

TEST(ReportTest, ThinsOutALongRunButKeepsItsExtremes) {
  constexpr int64_t kSteps = 1'000'000;
  RunReport report{.name = "long", .state = "finished"};
  for (int64_t step = 1; step <= kSteps; ++step) {
    report.curves.AddStep({.step = step,
                           .loss = LossOf(step),
                           .lr = 1e-3 / static_cast<double>(step),
                           .grad_norm = LossOf(step) / 3,
                           .tokens = 64,
                           .seconds = 0.1 + LossOf(step) / 7,
                           .tokens_per_second = LossOf(step) * 1000});
  }
  const std::string page = ReportPage({&report});
  EXPECT_LT(page.size(), 3'000'000);
  const Json curve = CurveOf(DataOf(page)["runs"][0], "loss", "training");
  const Values points = PointsOf(curve);
  EXPECT_GT(points.size(), 1000);
  for (const auto& [step, value] : points) EXPECT_EQ(value, LossOf(step)) << step;
  EXPECT_EQ(points.count(314'159), 1);
  EXPECT_EQ(points.count(271'828), 1);
  // No part is lost: neither of the means' counts, nor between two points.
  int64_t count = 0;
  for (const Json& part : curve["counts"]) count += part.get<int64_t>();
  EXPECT_EQ(count, kSteps);
  int64_t last = 0;
  for (const auto& [step, value] : points) {
    EXPECT_LE(step - last, 2048) << step;
    last = step;
  }
  EXPECT_LE(kSteps - last, 2048);
}

TEST(ReportTest, EachPartHasItsLowestAndHighestValueAndItsMean) {
  Curve curve;
  // A log is read from the last to the first.
  for (int64_t step = 3999; step >= 0; --step) curve.Add(step, LossOf(step + 1));
  const Json json = Json::parse("{" + curve.JsonMembers(/*max_parts=*/100) + "}");
  const Values points = PointsOf(json);
  ASSERT_EQ(json["means"].size(), 63);  // of 64 steps
  for (int64_t begin = 0; begin < 4000; begin += 64) {
    int64_t low = begin, high = begin;
    double sum = 0;
    const int64_t end = std::min<int64_t>(begin + 64, 4000);
    for (int64_t step = begin; step < end; ++step) {
      if (LossOf(step + 1) < LossOf(low + 1)) low = step;
      if (LossOf(step + 1) > LossOf(high + 1)) high = step;
      sum += LossOf(step + 1);
    }
    EXPECT_EQ(points.count(low), 1) << low;
    EXPECT_EQ(points.count(high), 1) << high;
    // Written with 7 digits.
    EXPECT_NEAR(json["means"][begin / 64].get<double>(), sum / (end - begin), 1e-5);
  }
}

TEST(ReportTest, ALineThatIsBeingWrittenIsLeftOut) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl", LogLine(1, 5) + LogLine(2, 4) + "{\"step\":3,\"lo");
  const Json run = RunOf(dir.path());
  EXPECT_EQ(PointsOf(CurveOf(run, "loss", "training")), (Values{{1, 5}, {2, 4}}));
  EXPECT_TRUE(run["events"].empty());
}

// Adds a line by each of the two ways, which must agree.
std::string CurvesOf(const std::string& line, bool* is_read) {
  RunCurves read, parsed;
  StepLine step_line;
  *is_read = ReadStepLine(line, /*max_step=*/1000, &step_line);
  if (*is_read) read.AddStepLine(step_line);
  const Json json = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  const bool is_line = !json.is_discarded() && parsed.AddLine(json);
  const std::string curves = parsed.Json(100);
  if (*is_read) {
    EXPECT_TRUE(is_line) << line;
    EXPECT_EQ(read.Json(100), curves) << line;
    EXPECT_EQ(read.epoch(), parsed.epoch()) << line;
  }
  return curves;
}

TEST(ReportTest, LinesOfStepsAreReadAsJson) {
  bool is_read = false;
  for (const char* line :
       {R"({"step":7,"loss":2.5})", R"({"step":0,"loss":null,"lr":1e-05,"grad_norm":-0.0})",
        R"({"step":7,"time":1.5,"loss":2,"mfu":0.5,"epoch":0.25,"targets":9})",
        R"({"step":7,"loss":-2.5e+300,"sources":{"a":{"tokens":1,"loss":2},"b":{"loss":null}}})",
        R"({"step":7,"loss":2,"sources":{"a":{"tokens":1}}})"}) {
    EXPECT_NE(CurvesOf(line, &is_read), "[]");
    EXPECT_TRUE(is_read) << line;
  }
  for (const char* line : {R"({"step":7})",
                           R"({"loss":7})",
                           R"({"step":-7,"loss":2})",
                           R"({"step":1.0,"loss":2})",
                           R"({"step":07,"loss":2})",
                           R"({"step":7,"loss":-0})",
                           R"({"step":7,"loss":.5})",
                           R"({"step":7,"loss":5.})",
                           R"({"step":7,"loss":+5})",
                           R"({"step":7,"loss":nan})",
                           R"({"step":7,"loss":1e999})",
                           R"({"step":7,"loss":1e})",
                           R"({"step":7,"loss":2)",
                           R"({"step":7,"loss":2}})",
                           R"({"step":7,"loss":2,})",
                           R"({"step":7, "loss":2})",
                           R"({"step":7,"loss":2,"loss":3})",
                           R"({"step":7,"loss":2,"val_loss":3})",
                           R"({"step":7,"loss":2,"x":"y"})",
                           R"({"step":7,"loss":2,"sources":{}})",
                           R"({"step":7,"loss":2,"sources":3})",
                           R"({"step":7,"loss":2,"sources":{"a":{"loss":1},"a":{"loss":2}}})",
                           R"({"step":7,"loss":2,"sources":{"\u0061":{"loss":1}}})",
                           R"({"step":1001,"loss":2})",
                           R"({"step":99999999999999999999,"loss":2})",
                           ""}) {
    CurvesOf(line, &is_read);
    EXPECT_FALSE(is_read) << line;
  }
}

TEST(ReportTest, DamagedLinesAreCounted) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl",
            "[]\n{\"loss\":1}\n" + LogLine(1, 5) + "{\"st\n" + LogLine(2, 4));
  const Json run = RunOf(dir.path());
  EXPECT_EQ(PointsOf(CurveOf(run, "loss", "training")), (Values{{1, 5}, {2, 4}}));
  ASSERT_EQ(run["events"].size(), 1);
  EXPECT_EQ(run["events"][0]["text"], "lines of metrics.jsonl that could not be read: 3");
}

TEST(ReportTest, BlankLinesAreNotDamaged) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl", "\n" + LogLine(1, 5) + " \t\r\n" + LogLine(2, 4) + "\n\n");
  const Json run = RunOf(dir.path());
  EXPECT_EQ(PointsOf(CurveOf(run, "loss", "training")), (Values{{1, 5}, {2, 4}}));
  EXPECT_TRUE(run["events"].empty());
}

TEST(ReportTest, WhereStepsGoBackTheLaterLinesCount) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl", LogLine(1, 5) + LogLine(2, 4) + LogLine(3, 3) +
                                       "{\"step\":3,\"val_loss\":9}\n" + LogLine(2, 4.5) +
                                       "{\"step\":2,\"val_loss\":8}\n" + LogLine(3, 3.5));
  const Json run = RunOf(dir.path());
  EXPECT_EQ(PointsOf(CurveOf(run, "loss", "training")), (Values{{1, 5}, {2, 4.5}, {3, 3.5}}));
  EXPECT_EQ(PointsOf(CurveOf(run, "loss", "validation")), (Values{{2, 8}}));
  EXPECT_EQ(run["events"][0]["text"], "lines of metrics.jsonl whose steps were made once more: 3");
}

TEST(ReportTest, AFolderWithoutMetricsIsAnError) {
  const TempDirectory dir;
  EXPECT_EQ(ReadRunReport(dir.path()).status().message(),
            dir.path() + ": has no metrics.jsonl; a run's folder is needed, the --out of training");
  WriteFile(dir / "metrics.jsonl", "");
  EXPECT_THAT(std::string(ReadRunReport(dir.path()).status().message()),
              HasSubstr("metrics.jsonl: has no line of a step or a validation"));
}

TEST(ReportTest, TellsWhatARunIs) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl", LogLine(1, 5) + LogLine(2, 4));
  WriteFile(dir / "run.json",
            R"({"format_version":1,"step":2,"samples":2,"identity":{},"config":{"steps":2}})");
  EXPECT_EQ(RunOf(dir.path())["state"], "finished");
  WriteFile(
      dir / "report.jsonl",
      R"({"kind":"plan","model":"Llama","memory":[{"name":"weights","bytes":12}]})"
      "\n"
      R"({"kind":"started","time":1796200000,"step":0})"
      "\n"
      R"({"kind":"sample","step":1,"prompt":"a","continuation":"b"})"
      "\n"
      R"({"kind":"sample","step":2,"prompt":"a","continuation":"<!-- old"})"
      "\n"
      R"({"kind":"resumed","time":1796200100,"step":1})"
      "\n"
      R"({"kind":"sample","step":2,"prompt":"a","continuation":"<!-- new"})"
      "\n"
      R"({"kind":"ops","step":2,"seconds":0.5,"ops":[{"op":"matmul","pass":"forward","calls":3,)"
      R"("seconds":0.25,"flops":1e9,"bytes":1e6,"limit":0.125}]})"
      "\n"
      R"({"kind":"ops","step":3,"seconds":0.5,"ops":[{"op":"matmul","pass":"forward"}]})"
      "\n"
      R"({"kind":"stopped","time":1796200200,"step":2})"
      "\nhalf");
  const std::string page = Page(dir.path());
  EXPECT_THAT(page, Not(HasSubstr("<!-- new")));
  const Json run = DataOf(page)["runs"][0];
  EXPECT_EQ(run["state"], "stopped");
  EXPECT_EQ(run["steps"], 2);
  EXPECT_EQ(run["config"], Json({{"steps", 2}}));
  EXPECT_EQ(run["model"], "Llama");
  EXPECT_EQ(run["memory"][0]["bytes"], 12);
  EXPECT_EQ(run["ops_step"], 2) << "a record without numbers is left out";
  EXPECT_EQ(run["ops_seconds"], 0.5);
  EXPECT_EQ(run["ops"][0]["limit"], 0.125);
  EXPECT_EQ(run["events"].size(), 3);
  ASSERT_EQ(run["samples"].size(), 2);
  EXPECT_EQ(run["samples"][1]["continuation"], "<!-- new");
}

TEST(ReportTest, RecordsThatCannotBeDrawnAreLeftOut) {
  const TempDirectory dir;
  WriteFile(dir / "metrics.jsonl", LogLine(1, 5));
  std::string history = R"({"kind":"memory","observed":"most","bytes":7})"
                        "\n"
                        R"({"kind":"communicated","step":1,"collectives":[{"calls":2,"bytes":4}]})"
                        "\n";
  for (const char* record :
       {R"({"kind":"plan","model":3,"layout":"tp 2","memory":[{"name":"weights"}],)"
        R"("collectives":[{"calls":1,"bytes":"many"}]})",
        R"({"kind":"memory","observed":"most"})", R"({"kind":"memory","observed":1,"bytes":2})",
        R"({"kind":"communicated","step":1,"collectives":[3]})",
        R"({"kind":"communicated","step":1,"collectives":[{"calls":1}]})",
        R"({"kind":"communicated","step":1})",
        R"({"kind":"communicated","collectives":[{"calls":1,"bytes":2}]})",
        R"({"kind":"sample","step":1,"prompt":"a"})", R"({"kind":"sample","step":-1})",
        R"({"kind":"warning","text":"without a step"})", R"({"kind":"unknown","step":1})",
        R"({"kind":7})", "[]", "{", ""}) {
    absl::StrAppend(&history, record, "\n");
  }
  WriteFile(dir / "report.jsonl", history);
  const Json run = RunOf(dir.path());
  EXPECT_EQ(run["layout"], "tp 2");
  for (const char* key : {"model", "memory", "collectives"}) EXPECT_FALSE(run.contains(key)) << key;
  EXPECT_EQ(run["observed_bytes"], 7);
  EXPECT_EQ(run["communicated"][0]["calls"], 2);
  EXPECT_TRUE(run["samples"].empty());
  EXPECT_TRUE(run["events"].empty());
}

TEST(ReportTest, ShowsTheFirstAndTheLastOfManyEvents) {
  RunHistory history;
  for (uint64_t step = 0; step < 2000; ++step) {
    history.Add({{"kind", "warning"}, {"step", step}, {"text", "again"}});
  }
  const auto events = history.Members()["events"];
  ASSERT_EQ(events.size(), 500);
  EXPECT_EQ(events[249]["step"], 249);
  EXPECT_EQ(events[250]["step"], 1750);
}

TEST(ReportTest, ComparesRuns) {
  RunReport first{.name = "runs/a"}, second{.name = "runs/c"};
  first.curves.AddStep({.step = 1, .loss = 2});
  second.curves.AddStep({.step = 1, .loss = 3});
  const Json data = DataOf(ReportPage({&first, &second}));
  ASSERT_EQ(data["runs"].size(), 2);
  EXPECT_EQ(PointsOf(CurveOf(data["runs"][1], "loss", "training")), (Values{{1, 3}}));
}

TEST(ReportTest, TheTitleIsTheName) {
  const auto title = [](const std::string& name) {
    const RunReport report{.name = name};
    const std::string page = ReportPage({&report});
    EXPECT_EQ(DataOf(page)["runs"].size(), 1) << name;
    const size_t begin = page.find("<title>") + 7;
    return page.substr(begin, page.find("</title>") - begin);
  };
  EXPECT_EQ(title("runs/a&b"), "runs/a&amp;b");
  EXPECT_EQ(title("a \"quoted\" \\ name"), "a \"quoted\" \\ name");
  EXPECT_EQ(title("</title>\xff"), "&lt;/title&gt;\uFFFD");
}

TEST(ReportTest, LoadsNothing) {
  RunReport report{.name = "run"};
  report.curves.AddStep({.step = 1, .loss = 2});
  std::string page = ReportPage({&report});
  // The name of SVG elements is all that looks like an address.
  const std::string svg = "http://www.w3.org/2000/svg";
  page.erase(page.find(svg), svg.size());
  for (const char* text : {"http:", "https:", "src=", "@import", "url(\"", "fetch("}) {
    EXPECT_THAT(page, Not(HasSubstr(text)));
  }
}

}  // namespace
}  // namespace strake
