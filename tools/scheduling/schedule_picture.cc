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

// Calls `draw` with the stage and the pass, for each pass that takes time.
template <typename Draw>
void ForEachPass(const PipelineSimulation& simulation, const Draw& draw) {
  for (size_t stage = 0; stage < simulation.stages.size(); ++stage) {
    for (const TimedAction& timed : simulation.stages[stage]) {
      if (timed.end > timed.begin) draw(static_cast<int>(stage), timed);
    }
  }
}

// Columns per unit of time, so that the shortest pass has room for its name and a space.
double ColumnsPerTime(const PipelineSimulation& simulation, bool has_chunks) {
  double columns = 0;
  ForEachPass(simulation, [&](int /*stage*/, const TimedAction& timed) {
    const double width = static_cast<double>(LetterAndLabel(timed.action, has_chunks).size()) + 1;
    columns = std::max(columns, std::ceil(width / (timed.end - timed.begin) - 1e-9));
  });
  return columns;
}

void DrawText(const TimedAction& timed, bool has_chunks, double scale, std::string* line) {
  const auto begin = static_cast<size_t>(std::lround(timed.begin * scale));
  const auto end = static_cast<size_t>(std::lround(timed.end * scale));
  std::string cell = LetterAndLabel(timed.action, has_chunks) + std::string(end - begin, '-');
  cell.resize(end - begin - 1);
  line->replace(begin, end - begin, cell + ' ');
  // Sets a wait off from the pass after it.
  if (begin > 0) (*line)[begin - 1] = ' ';
}

// The drawing's measures, in pixels.
constexpr int kLeft = 70, kTop = 40, kRow = 30, kBar = 24;

// Colours that colour-blind people tell apart (Okabe and Ito).
constexpr const char* kColors[] = {"#56b4e9", "#e69f00", "#009e73"};

std::string SvgLegend() {
  static constexpr const char* kNames[] = {"forward pass", "input gradient", "weight gradient"};
  std::string svg;
  for (int pass = 0; pass < 3; ++pass) {
    absl::StrAppendFormat(&svg,
                          "<rect x=\"%d\" y=\"12\" width=\"14\" height=\"14\" fill=\"%s\"/>"
                          "<text x=\"%d\" y=\"23\">%s</text>\n",
                          kLeft + 140 * pass, kColors[pass], kLeft + 140 * pass + 20, kNames[pass]);
  }
  return svg;
}

std::string SvgOfPass(int stage, const TimedAction& timed, bool has_chunks, double scale) {
  const int top = kTop + stage * kRow;
  const double left = kLeft + timed.begin * scale, length = (timed.end - timed.begin) * scale;
  return absl::StrFormat(
      "<g><title>stage %d: %s, from %g to %g</title><rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" "
      "height=\"%d\" fill=\"%s\" fill-opacity=\"%.2f\" stroke=\"#ffffff\"/><text x=\"%.2f\" "
      "y=\"%d\" text-anchor=\"middle\">%s</text></g>\n",
      stage, timed.action.ToString(), timed.begin, timed.end, left, top, length, kBar,
      kColors[static_cast<int>(timed.action.pass)], 1 - 0.2 * std::min(timed.action.chunk, 3),
      left + length / 2, top + 16, Label(timed.action, has_chunks));
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
  std::vector<std::string> lines(num_stages, std::string(length, '.'));
  ForEachPass(simulation, [&](int stage, const TimedAction& timed) {
    DrawText(timed, has_chunks, scale, &lines[stage]);
  });
  for (std::string& line : lines) line.back() = ' ';  // as between passes
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
  absl::StrAppend(&svg, SvgLegend());
  for (int stage = 0; stage < num_stages; ++stage) {
    absl::StrAppendFormat(&svg, "<text x=\"8\" y=\"%d\">stage %d</text>\n",
                          kTop + stage * kRow + 16, stage);
  }
  ForEachPass(simulation, [&](int stage, const TimedAction& timed) {
    absl::StrAppend(&svg, SvgOfPass(stage, timed, has_chunks, scale));
  });
  return svg + "</svg>\n";
}

}  // namespace strake
