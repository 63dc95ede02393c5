#include "tools/scheduling/schedule_picture.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace strake {
namespace {

std::string Label(const PipelineAction& action, bool has_chunks) {
  return absl::StrCat(action.micro_batch,
                      has_chunks ? std::string(1, static_cast<char>('a' + action.chunk)) : "");
}

std::string LetterAndLabel(const PipelineAction& action, bool has_chunks) {
  return absl::StrCat(std::string(1, "FBW"[static_cast<int>(action.pass)]),
                      Label(action, has_chunks));
}

bool TakesTime(const TimedAction& timed) { return timed.end > timed.begin; }

// Columns per unit of time, so that the shortest pass has room for its name and a space.
double ColumnsPerTime(const PipelineSimulation& simulation, bool has_chunks) {
  double columns = 0;
  for (const std::vector<TimedAction>& stage : simulation.stages) {
    for (const TimedAction& timed : stage) {
      if (!TakesTime(timed)) continue;
      const double width = static_cast<double>(LetterAndLabel(timed.action, has_chunks).size()) + 1;
      columns = std::max(columns, std::ceil(width / (timed.end - timed.begin) - 1e-9));
    }
  }
  return columns;
}

std::string StageLine(const std::vector<TimedAction>& stage, bool has_chunks, double scale,
                      size_t length) {
  std::string line(length, '.');
  for (const TimedAction& timed : stage) {
    if (!TakesTime(timed)) continue;
    const auto begin = static_cast<size_t>(std::lround(timed.begin * scale));
    const auto end = static_cast<size_t>(std::lround(timed.end * scale));
    std::string cell = LetterAndLabel(timed.action, has_chunks) + std::string(end - begin, '-');
    cell.resize(end - begin - 1);
    line.replace(begin, end - begin, cell + ' ');
    // Sets a wait off from the pass behind it.
    if (begin > 0) line[begin - 1] = ' ';
  }
  line.back() = ' ';
  return line;
}

}  // namespace

double ColumnsOfSchedule(const PipelineSimulation& simulation, bool has_chunks) {
  return simulation.time * ColumnsPerTime(simulation, has_chunks);
}

std::string TextOfSchedule(const PipelineSimulation& simulation, bool has_chunks, int columns) {
  const double scale = ColumnsPerTime(simulation, has_chunks);
  const auto length = static_cast<size_t>(std::lround(simulation.time * scale));
  const int num_stages = static_cast<int>(simulation.stages.size());
  const std::string widest = absl::StrCat("stage ", num_stages - 1, "  ");
  // Panels end between passes that are as long as the shortest one.
  const auto step = static_cast<size_t>(scale);
  const size_t room = std::max<int>(columns - static_cast<int>(widest.size()), 1);
  const size_t panel = std::max(room / step * step, step);
  std::vector<std::string> lines;
  for (const std::vector<TimedAction>& stage : simulation.stages) {
    lines.push_back(StageLine(stage, has_chunks, scale, length));
  }
  std::string text;
  for (size_t begin = 0; begin < length; begin += panel) {
    if (begin > 0) absl::StrAppend(&text, "\n");
    for (int stage = 0; stage < num_stages; ++stage) {
      absl::StrAppend(&text, absl::StrFormat("%-*s", static_cast<int>(widest.size()),
                                             absl::StrCat("stage ", stage)));
      absl::StrAppend(&text, absl::StripTrailingAsciiWhitespace(lines[stage].substr(begin, panel)),
                      "\n");
    }
  }
  return text;
}

std::string SvgOfSchedule(const PipelineSimulation& simulation, bool has_chunks) {
  // Colours that colour-blind people tell apart (Okabe and Ito).
  static constexpr const char* kColors[] = {"#56b4e9", "#e69f00", "#009e73"};
  static constexpr const char* kNames[] = {"forward pass", "input gradient", "weight gradient"};
  constexpr int kLeft = 70, kTop = 40, kRow = 30, kBar = 24;
  const double scale = 9 * ColumnsPerTime(simulation, has_chunks);
  const int num_stages = static_cast<int>(simulation.stages.size());
  const int width =
      std::max(kLeft + static_cast<int>(std::ceil(simulation.time * scale)) + 10, 520);
  const int height = kTop + num_stages * kRow + 10;
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%%\" height=\"100%%\" "
      "fill=\"#ffffff\"/>\n",
      width, height, width, height);
  for (int pass = 0; pass < 3; ++pass) {
    absl::StrAppendFormat(&svg,
                          "<rect x=\"%d\" y=\"12\" width=\"14\" height=\"14\" fill=\"%s\"/>"
                          "<text x=\"%d\" y=\"23\">%s</text>\n",
                          kLeft + 140 * pass, kColors[pass], kLeft + 140 * pass + 20, kNames[pass]);
  }
  for (int stage = 0; stage < num_stages; ++stage) {
    const int top = kTop + stage * kRow;
    absl::StrAppendFormat(&svg, "<text x=\"8\" y=\"%d\">stage %d</text>\n", top + 16, stage);
    for (const TimedAction& timed : simulation.stages[stage]) {
      if (!TakesTime(timed)) continue;
      const double left = kLeft + timed.begin * scale, length = (timed.end - timed.begin) * scale;
      absl::StrAppendFormat(
          &svg,
          "<g><title>stage %d: %s, from %g to %g</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" "
          "height=\"%d\" fill=\"%s\" fill-opacity=\"%.2f\" stroke=\"#ffffff\"/><text x=\"%.2f\" "
          "y=\"%d\" text-anchor=\"middle\">%s</text></g>\n",
          stage, timed.action.ToString(), timed.begin, timed.end, left, top, length, kBar,
          kColors[static_cast<int>(timed.action.pass)], 1 - 0.2 * std::min(timed.action.chunk, 3),
          left + length / 2, top + 16, Label(timed.action, has_chunks));
    }
  }
  return svg + "</svg>\n";
}

}  // namespace strake
