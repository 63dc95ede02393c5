// NCCL 2.17, which has no ncclCommSplit, for old_nccl_test.
extern "C" int ncclGetVersion(int* version) {
  *version = 21701;
  return 0;
}
