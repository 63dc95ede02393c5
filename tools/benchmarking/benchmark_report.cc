#include "tools/benchmarking/benchmark_report.h"

#include <algorithm>
#include <optional>
#include <ostream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "core/base/format_quantity.h"
#include "nlohmann/json.hpp"
#include "tools/benchmarking/benchmark_forecast.h"
#include "tools/cli/terminal_lines.h"
#include "train/engine/stage_models.h"

namespace strake {
namespace {

using Json = nlohmann::ordered_json;

// The width of the table of ops with limits or forecasts beside it.
constexpr int kWholeTableColumns = 120;

double Median(std::vector<double> sorted) {
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

Json OpKinds(const BenchmarkMeasurement& m) {
  Json json = Json::array();
  for (const auto& [key, entry] : m.ops) {
    Json op;
    op["op"] = key.first;
    op["pass"] = PassName(key.second);
    op["seconds_per_step"] = entry.seconds / m.num_profiled_steps;
    op["percent_of_step"] = 100 * entry.seconds / m.profiled_seconds;
    op["calls_per_step"] = double(entry.calls) / m.num_profiled_steps;
    op["gflops"] = entry.cost.flops / entry.seconds / 1e9;
    json.push_back(op);
  }
  return json;
}

double OutsideOpsSeconds(const BenchmarkMeasurement& m) {
  double seconds = m.profiled_seconds;
  for (const auto& [key, entry] : m.ops) seconds -= entry.seconds;
  return seconds / m.num_profiled_steps;
}

double PeakFlops(const BenchmarkConfig& config, const BenchmarkMeasurement& m) {
  return config.machine.dtype_kind() == DType::kBf16 ? m.bf16_peak_flops : m.fma_peak_flops;
}

// Ops are the first rank's, which uses its share of the machine.
double RooflineSeconds(const BenchmarkConfig& config, const BenchmarkMeasurement& m,
                       const OpCost& cost) {
  return config.layout.num_ranks() *
         std::max(cost.flops / PeakFlops(config, m), cost.bytes / m.memory_bytes_per_second);
}

void AddRooflines(const BenchmarkConfig& config, const BenchmarkMeasurement& m, Json* json) {
  auto op = (*json)["op_kinds"].begin();
  double sum = 0;
  for (const auto& [key, entry] : m.ops) {
    const double roofline = RooflineSeconds(config, m, entry.cost);
    sum += roofline;
    (*op)["flops_per_step"] = entry.cost.flops / m.num_profiled_steps;
    (*op)["bytes_per_step"] = entry.cost.bytes / m.num_profiled_steps;
    (*op)["gigabytes_per_second"] = entry.cost.bytes / entry.seconds / 1e9;
    (*op)["roofline_seconds_per_step"] = roofline / m.num_profiled_steps;
    (*op)["percent_of_roofline"] = 100 * roofline / entry.seconds;
    ++op;
  }
  (*json)["roofline_seconds_per_step"] = sum / m.num_profiled_steps;
  (*json)["percent_of_roofline"] = 100 * sum / m.profiled_seconds;
}

void AddCpu(const BenchmarkConfig& config, const BenchmarkMeasurement& m, double flops_per_second,
            Json* json) {
  Json& r = *json;
  r["fma_peak_gflops"] = m.fma_peak_flops / 1e9;
  r["percent_of_fma_peak"] = 100 * flops_per_second / m.fma_peak_flops;
  if (config.machine.dtype_kind() == DType::kBf16) {
    r["bf16_peak_gflops"] = m.bf16_peak_flops / 1e9;
    r["percent_of_bf16_peak"] = 100 * flops_per_second / m.bf16_peak_flops;
  }
  r["memory_gigabytes_per_second"] = m.memory_bytes_per_second / 1e9;
}

// "6 N + 6 L C T" with its numbers. C is the width of attention: heads times their size.
std::string FlopsFormula(const ModelConfig& model, int64_t seq_len) {
  return absl::StrFormat(
      "6 N + 6 L C T per token, N = %d parameters that are multiplied, L = %d, C = %d, T = %d",
      static_cast<int64_t>(TrainingFlopsPerToken(model, 0) / 6), model.num_layers,
      model.num_heads * model.head_dim, seq_len);
}

void AddGpu(const BenchmarkConfig& config, const BenchmarkMeasurement& m, double flops_per_second,
            Json* json) {
  Json& r = *json;
  const double num_gpus = config.num_gpus();
  r["gpu"] = m.gpu_name;
  r["num_gpus"] = config.num_gpus();
  r["attention_note"] = m.attention_note;
  r["product_gflops"] = m.gpu.product_flops / 1e9;
  r["product_shape"] = m.gpu.product.ToString();
  r["percent_of_products"] = 100 * flops_per_second / num_gpus / m.gpu.product_flops;
  const std::optional<double> nominal = NominalBf16Flops(m.gpu_name);
  if (nominal.has_value() && config.machine.dtype_kind() == DType::kBf16) {
    r["nominal_gflops"] = *nominal / 1e9;
    r["percent_of_nominal"] = 100 * flops_per_second / num_gpus / *nominal;
  }
  r["copy_gigabytes_per_second"] = m.gpu.copy_bytes_per_second / 1e9;
  r["observed_gpu_bytes"] = m.observed_gpu_bytes;
  const double steps = m.num_profiled_steps;
  r["communication"] = {{"seconds_per_step", m.communication.total / steps},
                        {"exposed_seconds_per_step", m.communication.exposed / steps},
                        {"hidden_seconds_per_step", m.communication.hidden / steps}};
}

void PrintLayout(const Json& r, std::ostream* out) {
  const int64_t tp = r["tp"], cp = r["cp"], pp = r["pp"], dp = r["dp"];
  if (tp * cp * pp * dp == 1) return;
  const std::string context =
      cp == 1 ? "" : absl::StrCat(" cp ", cp, " (", r["cp_comm"].get<std::string>(), ") x");
  const std::string stages =
      pp == 1 ? ""
              : absl::StrCat(" pp ", pp, " (", r["pp_schedule"].get<std::string>(), ", layers ",
                             r["pp_layers"].get<std::string>(), ") x");
  *out << absl::StrFormat(
      "tp %d x%s%s dp %d = %d ranks (%s) of that many threads%s, ZeRO %d%s; ops below are the "
      "first "
      "rank's\n",
      tp, context, stages, dp, tp * cp * pp * dp, r["comm"].get<std::string>(),
      r["sequence_parallel"].get<bool>() ? ", sequence parallel" : "", r["zero"].get<int64_t>(),
      r["grad_reduce_dtype"] == "bf16" ? ", gradients reduced in bf16" : "");
}

void PrintOneRank(const Json& r, std::ostream* out) {
  if (!r.contains("one_rank")) return;
  const auto& one = r["one_rank"];
  *out << absl::StrFormat(
      "one rank with %d threads, in turn: %.1f ms per step; the layout has %.3f of its speed\n",
      one["threads"].get<int64_t>(), 1e3 * one["seconds_per_step"].get<double>(),
      one["ratio"].get<double>());
}

void PrintCpu(const Json& r, std::ostream* out) {
  *out << absl::StrFormat(
      "%.1f GFLOP/s, %.1f %% of the %.1f GFLOP/s of fused multiply-adds measured in this run\n",
      r["gflops"].get<double>(), r["percent_of_fma_peak"].get<double>(),
      r["fma_peak_gflops"].get<double>());
  if (r.contains("bf16_peak_gflops")) {
    *out << absl::StrFormat("%.1f %% of the %.1f GFLOP/s of bf16 products\n",
                            r["percent_of_bf16_peak"].get<double>(),
                            r["bf16_peak_gflops"].get<double>());
  }
  *out << absl::StrFormat("memory, read and written in place: %.1f GB/s\n",
                          r["memory_gigabytes_per_second"].get<double>());
  PrintOneRank(r, out);
  *out << absl::StrFormat("memory: %s planned, %s resident at the peak\n",
                          FormatBytes(r["planned_bytes"]), FormatBytes(r["peak_rss_bytes"]));
}

void PrintGpu(const Json& r, std::ostream* out) {
  const std::string note = r["attention_note"];
  if (!note.empty()) {
    *out << "note: attention runs on Strake's own kernels, slower than cuDNN's: " << note << "\n";
  }
  *out << absl::StrFormat(
      "%.4g TFLOP/s on %d x %s: %.1f %% of the %.4g TFLOP/s of a product of %s (M x N x K) "
      "measured in this run\n",
      r["gflops"].get<double>() / 1e3, r["num_gpus"].get<int64_t>(), r["gpu"].get<std::string>(),
      r["percent_of_products"].get<double>(), r["product_gflops"].get<double>() / 1e3,
      r["product_shape"].get<std::string>());
  if (r.contains("nominal_gflops")) {
    *out << absl::StrFormat("%.1f %% of the GPU's nominal %.4g TFLOP/s\n",
                            r["percent_of_nominal"].get<double>(),
                            r["nominal_gflops"].get<double>() / 1e3);
  }
  *out << absl::StrFormat(
      "a copy in its memory, read and written: %.1f GB/s\n"
      "memory: %s planned, %s observed on the GPU, %s resident on the host at the peak\n",
      r["copy_gigabytes_per_second"].get<double>(), FormatBytes(r["planned_bytes"]),
      FormatBytes(r["observed_gpu_bytes"]), FormatBytes(r["peak_rss_bytes"]));
  PrintForecast(r, out);
  const Json& communication = r["communication"];
  *out << absl::StrFormat(
      "communication: %.3f ms per step, at least %.3f ms of it hidden behind ops; exposed, where "
      "ops waited for it or for another rank: %.3f ms\n",
      1e3 * communication["seconds_per_step"].get<double>(),
      1e3 * communication["hidden_seconds_per_step"].get<double>(),
      1e3 * communication["exposed_seconds_per_step"].get<double>());
}

// Blank where the value is 0.
std::string Cell(int width, int decimals, double x) {
  return absl::StrFormat("%*s", width, x > 0 ? absl::StrFormat("%.*f", decimals, x) : "");
}

std::string RooflineCells(const Json& op) {
  const double percent = op["percent_of_roofline"];
  if (percent == 0) return "";
  return Cell(10, 2, op["flops_per_step"].get<double>() / 1e9) +
         Cell(10, 1, op["bytes_per_step"].get<double>() / 1e6) +
         Cell(8, 1, op["gigabytes_per_second"]) + Cell(11, 1, percent) + " %";
}

std::string CellsBeside(const Json& op) {
  return op.contains("flops_per_step") ? RooflineCells(op) : ForecastCells(op);
}

std::string HeadingBeside(const Json& r) {
  return r.contains("gpu") ? ForecastHeading(r) : "     GFLOP        MB    GB/s  of roofline";
}

void PrintOp(const Json& op, bool beside, std::ostream* out) {
  *out << absl::StrFormat("%-22s %-10s %12.3f %6.1f %% %8.0f %s%s\n", op["op"].get<std::string>(),
                          op["pass"].get<std::string>(), 1e3 * op["seconds_per_step"].get<double>(),
                          op["percent_of_step"].get<double>(), op["calls_per_step"].get<double>(),
                          Cell(10, 1, op["gflops"]), beside ? CellsBeside(op) : "");
}

void PrintSum(const char* what, double seconds, double step_seconds, std::ostream* out) {
  *out << absl::StrFormat("%-33s %12.3f %6.1f %%\n", what, 1e3 * seconds,
                          100 * seconds / step_seconds);
}

void PrintOps(const Json& r, bool beside, std::ostream* out) {
  const bool on_cuda = r.contains("gpu");
  const double step_seconds = r["profiled_seconds_per_step"];
  *out << absl::StrFormat(
      "\nops, %s of %.1f ms on average\n",
      on_cuda ? "by CUDA events, in other steps, without a CUDA graph," : "in steps",
      1e3 * step_seconds);
  *out << absl::StrFormat("%-22s %-10s %12s %8s %8s %10s%s\n", "op", "pass", "ms per step", "share",
                          "calls", "GFLOP/s", beside ? HeadingBeside(r) : "");
  std::vector<Json> ops = r["op_kinds"];
  std::stable_sort(ops.begin(), ops.end(), [](const Json& a, const Json& b) {
    return a["seconds_per_step"].get<double>() > b["seconds_per_step"].get<double>();
  });
  for (const Json& op : ops) PrintOp(op, beside, out);
  PrintSum("outside of ops", r["outside_ops_seconds_per_step"], step_seconds, out);
  if (on_cuda) return;
  PrintSum("all ops at their rooflines", r["roofline_seconds_per_step"], step_seconds, out);
}

}  // namespace

Json BenchmarkReport(const BenchmarkConfig& config, const ModelConfig& model,
                     const BenchmarkMeasurement& m) {
  const double tokens = config.num_tokens(), seconds = Median(m.step_seconds);
  const double flops_per_token = TrainingFlopsPerToken(model, config.seq_len);
  const double flops_per_second = flops_per_token * tokens / seconds;
  Json json;
  json["model"] = config.model;
  json["parameters"] = NumParameters(model);
  json["micro_batch"] = config.micro_batch;
  json["global_batch"] = config.global_batch;
  json["seq_len"] = config.seq_len;
  json["steps"] = config.steps;
  json["device"] = config.machine.device;
  json["dtype"] = config.machine.dtype;
  json["threads"] = config.machine.threads;
  json["ops"] = config.machine.ops;
  json["deterministic"] = config.machine.deterministic;
  json["tp"] = config.layout.tp;
  json["cp"] = config.layout.cp;
  json["cp_comm"] = config.layout.cp_comm;
  json["pp"] = config.layout.pp;
  json["pp_schedule"] = config.layout.pp_schedule;
  json["pp_chunks"] = config.layout.pp_chunks;
  json["pp_in_flight"] = config.layout.pp_in_flight;
  json["pp_layers"] = absl::StrJoin(
      LayersOfParts(config.RankOptions(model), static_cast<int>(config.layout.pp)), ",");
  json["dp"] = config.layout.dp;
  json["sequence_parallel"] = config.layout.sequence_parallel;
  json["zero"] = config.layout.zero;
  json["grad_reduce_dtype"] = config.layout.grad_reduce_dtype;
  json["comm"] = config.layout.comm;
  json["seconds_per_step"] = seconds;
  json["tokens_per_second"] = tokens / seconds;
  json["flops_per_token"] = flops_per_token;
  json["flops_formula"] = FlopsFormula(model, config.seq_len);
  json["gflops"] = flops_per_second / 1e9;
  if (!config.on_cuda()) AddCpu(config, m, flops_per_second, &json);
  json["planned_bytes"] = m.planned_bytes;
  json["peak_rss_bytes"] = m.peak_rss_bytes;
  if (config.on_cuda()) AddGpu(config, m, flops_per_second, &json);
  if (!m.one_rank_seconds.empty()) {
    const double alone = Median(m.one_rank_seconds);
    json["one_rank"] = {{"threads", config.machine.threads * config.layout.num_ranks()},
                        {"seconds_per_step", alone},
                        {"ratio", alone / seconds}};
  }
  json["profiled_seconds_per_step"] = m.profiled_seconds / m.num_profiled_steps;
  json["outside_ops_seconds_per_step"] = OutsideOpsSeconds(m);
  json["op_kinds"] = OpKinds(m);
  config.on_cuda() ? AddForecast(m.forecast, tokens, &json) : AddRooflines(config, m, &json);
  return json;
}

namespace {

void PrintWide(const Json& r, bool beside, std::ostream* out) {
  const bool on_cuda = r.contains("gpu");
  const std::string computes =
      on_cuda ? "GPU"
              : absl::StrFormat("%d threads, %s ops", r["threads"].get<int64_t>(),
                                r["ops"].get<std::string>());
  *out << absl::StrFormat("%s (%s parameters), batch %d x %d, %s, %s\n",
                          r["model"].get<std::string>(), FormatCount(r["parameters"]),
                          r["global_batch"].get<int64_t>(), r["seq_len"].get<int64_t>(),
                          r["dtype"].get<std::string>(), computes);
  PrintLayout(r, out);
  *out << absl::StrFormat("%.1f tokens/s, %.1f ms per step (median of %d)\n",
                          r["tokens_per_second"].get<double>(),
                          1e3 * r["seconds_per_step"].get<double>(), r["steps"].get<int64_t>());
  *out << absl::StrFormat("FLOP counted: %s\n", r["flops_formula"].get<std::string>());
  on_cuda ? PrintGpu(r, out) : PrintCpu(r, out);
  PrintOps(r, beside, out);
}

}  // namespace

void PrintBenchmarkReport(const Json& report, int columns, std::ostream* out) {
  std::ostringstream text;
  PrintWide(report, columns == 0 || columns >= kWholeTableColumns, &text);
  *out << WrapLines(text.str(), columns);
}

}  // namespace strake
