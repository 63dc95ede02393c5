#include "tools/data_why/why.h"

#include <filesystem>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/format_quantity.h"
#include "core/base/printable.h"
#include "core/base/status_macros.h"
#include "data/blend.h"
#include "data/document_list.h"
#include "data/document_places.h"
#include "tools/cli/train_config.h"
#include "tools/data_why/part_text.h"
#include "train/run/run_data.h"
#include "train/run/run_record.h"

namespace strake {
namespace {

// The last folder and the name: the rest is that of a cache.
std::string ShortPath(const std::string& path) {
  const std::filesystem::path file(path);
  return file.parent_path().filename() / file.filename();
}

// "[0, 8)".
std::string Half(int64_t begin, int64_t end) { return absl::StrCat("[", begin, ", ", end, ")"); }

class Why {
 public:
  Why(const WhyOptions& options, const RunData& run, std::ostream* out)
      : options_(options), run_(run), out_(*out) {
    for (int i = 0; i < loader().num_sources(); ++i) {
      places_.emplace_back(&run.data->train_stream(i));
      texts_.emplace_back(run.data.get(), &run.data->train_stream(i));
    }
  }

  absl::Status Print() {
    const int64_t rows = run_.options.global_batch;
    const int64_t first = (options_.step - 1) * rows;
    if (!options_.list) {
      out_ << Printable(options_.run) << ", step " << options_.step << ": samples "
           << Half(first, first + rows) << " of " << run_.options.engine.seq_len << " "
           << Plural(run_.options.engine.seq_len, "token") << "\n";
    }
    for (int64_t row = 0; row < rows; ++row) {
      if (options_.row >= 0 && row != options_.row) continue;
      STRAKE_RETURN_IF_ERROR(PrintRow(row, first + row));
    }
    return absl::OkStatus();
  }

 private:
  const BlendLoader& loader() const { return run_.data->train_loader(); }

  absl::Status PrintRow(int64_t row, int64_t sample) {
    const Blend::Place place = loader().blend().At(sample);
    const DataLoader& source = loader().loader(place.source);
    if (!options_.list) PrintHeading(row, sample, place, source.num_samples());
    int64_t token = 0;  // of the row
    for (const TokenRange& range : source.TokensOf(place.sample)) {
      STRAKE_ASSIGN_OR_RETURN(const std::vector<DocumentTokens> parts,
                              places_[place.source].PartsOf(range));
      for (const DocumentTokens& part : parts) {
        if (options_.list) {
          PrintName(part, place.source);
        } else {
          STRAKE_RETURN_IF_ERROR(PrintPart(part, token, place.source));
        }
        token += part.tokens.num_tokens();
      }
    }
    return absl::OkStatus();
  }

  void PrintHeading(int64_t row, int64_t sample, const Blend::Place& place, int64_t num_samples) {
    out_ << "row " << row << ": sample " << sample;
    const std::vector<std::string>& names = run_.data->source_names();
    if (!names.empty()) {
      out_ << ", " << place.sample << " of source " << Printable(names[place.source]);
    }
    out_ << ", epoch " << place.sample / num_samples + 1 << "\n";
  }

  void PrintName(const DocumentTokens& part, int source) {
    std::string line = ToListLine(part.name);
    if (!part.is_known) {
      line = absl::StrCat("# not known: the documents of ", Printable(FileOf(part, source)));
    }
    if (printed_.insert(line).second) out_ << line << "\n";
  }

  const std::string& FileOf(const DocumentTokens& part, int source) const {
    return run_.data->train_stream(source).files()[part.file].path();
  }

  // "books/a.jsonl:10342  bytes [881, 1420)", or "tokens.bin" where documents are not known.
  absl::StatusOr<std::string> PlaceOf(const DocumentTokens& part, PartText* text) const {
    if (!part.is_known) return Printable(part.name.path);
    std::string place = ToListLine(part.name);
    if (!text->has_bytes(part)) return place;
    STRAKE_ASSIGN_OR_RETURN(const std::vector<int64_t> bytes, text->BytesOf(part));
    absl::StrAppend(&place, "  bytes ", Half(bytes.front(), bytes.back()));
    return place;
  }

  // "document 17 of 1f0c/tokens-00000.bin, tokens [5120, 5252)".
  std::string TokensOf(const DocumentTokens& part, int source) const {
    const std::string tokens =
        Half(part.tokens.begin - part.file_begin, part.tokens.end - part.file_begin);
    const std::string& file = FileOf(part, source);
    // Of text as it is, tokens are bytes.
    if (part.name == DocumentName{.path = file}) {
      return part.is_known ? "" : absl::StrCat("  tokens ", tokens);
    }
    return absl::StrCat("  document ", part.document, " of ", Printable(ShortPath(file)),
                        ", tokens ", tokens);
  }

  absl::Status PrintPart(const DocumentTokens& part, int64_t token, int source) {
    PartText* const text = &texts_[source];
    STRAKE_ASSIGN_OR_RETURN(const std::string place, PlaceOf(part, text));
    STRAKE_ASSIGN_OR_RETURN(const std::string excerpt, text->Excerpt(part));
    out_ << "  " << Half(token, token + part.tokens.num_tokens()) << "  " << place
         << TokensOf(part, source) << "  " << excerpt << "\n";
    return options_.tokens ? PrintTokens(part, token, text) : absl::OkStatus();
  }

  absl::Status PrintTokens(const DocumentTokens& part, int64_t token, PartText* text) {
    STRAKE_ASSIGN_OR_RETURN(const std::vector<int32_t> tokens, text->TokensOf(part));
    std::vector<int64_t> bytes;
    if (text->has_bytes(part)) {
      STRAKE_ASSIGN_OR_RETURN(bytes, text->BytesOf(part));
    }
    for (size_t i = 0; i < tokens.size(); ++i) {
      STRAKE_ASSIGN_OR_RETURN(const std::string shown,
                              text->TokenText(part, static_cast<int64_t>(i)));
      out_ << absl::StrFormat("    %d  id %d", token + static_cast<int64_t>(i), tokens[i]);
      if (part.is_known) out_ << "  " << ToListLine(part.name);
      if (!bytes.empty()) out_ << "  byte " << bytes[i];
      out_ << "  " << shown << "\n";
    }
    return absl::OkStatus();
  }

  const WhyOptions& options_;
  const RunData& run_;
  std::ostream& out_;
  std::vector<DocumentPlaces> places_;  // of each source
  std::vector<PartText> texts_;
  std::set<std::string> printed_;
};

absl::Status CheckStepAndRow(const WhyOptions& options, const TrainerOptions& run) {
  const int64_t steps = run.schedule.total_steps;
  if (options.step < 1 || options.step > steps) {
    return absl::InvalidArgumentError(absl::StrCat("step ", options.step, ": the run in ",
                                                   options.run, " has steps 1 to ", steps));
  }
  if (options.row >= run.global_batch) {
    return absl::InvalidArgumentError(absl::StrCat("row ", options.row, ": a step of the run in ",
                                                   options.run, " has rows 0 to ",
                                                   run.global_batch - 1));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status PrintWhy(const WhyOptions& options, std::ostream* out, const OnWork& on_work) {
  const auto record = ReadRunRecord(options.run);
  if (absl::IsNotFound(record.status())) {
    return absl::NotFoundError(absl::StrCat(options.run,
                                            ": holds no run.json; give the folder of a "
                                            "run, or one of its checkpoints"));
  }
  STRAKE_RETURN_IF_ERROR(record.status());
  STRAKE_ASSIGN_OR_RETURN(const TrainerOptions run_options,
                          DataOptionsOf(*record, options.run + "/run.json"));
  STRAKE_RETURN_IF_ERROR(CheckStepAndRow(options, run_options));
  if (on_work != nullptr) on_work({.what = "opening the run's data"});
  STRAKE_ASSIGN_OR_RETURN(const RunData run, OpenRunData(options.run, *record, run_options));
  if (on_work != nullptr) on_work({});
  return Why(options, run, out).Print();
}

}  // namespace strake
