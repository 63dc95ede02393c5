// The parts of report.html, made from report.html, report.css and report.js.
#ifndef STRAKE_TRAIN_REPORT_REPORT_TEMPLATE_H_
#define STRAKE_TRAIN_REPORT_REPORT_TEMPLATE_H_

namespace strake {

// Has @TITLE@, @STYLE@, @DATA@ and @SCRIPT@ where these belong.
const char* ReportSkeleton();
const char* ReportStyle();
const char* ReportScript();

}  // namespace strake

#endif  // STRAKE_TRAIN_REPORT_REPORT_TEMPLATE_H_
