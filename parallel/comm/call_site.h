// CallSite: where in the source a collective was called.
#ifndef STRAKE_PARALLEL_COMM_CALL_SITE_H_
#define STRAKE_PARALLEL_COMM_CALL_SITE_H_

namespace strake {

// CallSite::Here() as a default argument is the place of the call that omits the argument. clang 14
// has no std::source_location.
struct CallSite {
  static constexpr CallSite Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
    return {.file = file, .line = line};
  }
  const char* file = "";
  int line = 0;
};

}  // namespace strake

#endif  // STRAKE_PARALLEL_COMM_CALL_SITE_H_
