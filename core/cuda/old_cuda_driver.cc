// A CUDA driver that serves CUDA 11.4, for old_cuda_driver_test.
extern "C" {

int cuInit(unsigned) { return 0; }

int cuDriverGetVersion(int* version) {
  *version = 11040;
  return 0;
}

}  // extern "C"
