// A CUDA driver of a machine without GPUs, as much of it as cuDNN asks for to compile its kernels:
// what it loads is not looked at.
extern "C" {

int cuInit(unsigned) { return 100; }  // CUDA_ERROR_NO_DEVICE

int cuDriverGetVersion(int* version) {
  *version = 13000;
  return 0;
}

int cuLibraryLoadData(void** library) {
  *library = library;
  return 0;
}

int cuLibraryGetKernel(void** kernel) {
  *kernel = kernel;
  return 0;
}

int cuKernelGetFunction(void** function) {
  *function = function;
  return 0;
}

// cuDNN looks these up, and does not call them to compile.
#define STRAKE_SUCCEEDS(NAME) \
  int NAME() { return 0; }
STRAKE_SUCCEEDS(cuCtxGetCurrent)
STRAKE_SUCCEEDS(cuCtxGetDevice)
STRAKE_SUCCEEDS(cuCtxGetLimit)
STRAKE_SUCCEEDS(cuCtxPopCurrent)
STRAKE_SUCCEEDS(cuCtxPushCurrent)
STRAKE_SUCCEEDS(cuDeviceGet)
STRAKE_SUCCEEDS(cuDeviceGetAttribute)
STRAKE_SUCCEEDS(cuDeviceGetCount)
STRAKE_SUCCEEDS(cuDevicePrimaryCtxRelease)
STRAKE_SUCCEEDS(cuDevicePrimaryCtxReset)
STRAKE_SUCCEEDS(cuDevicePrimaryCtxRetain)
STRAKE_SUCCEEDS(cuFuncGetAttribute)
STRAKE_SUCCEEDS(cuFuncSetAttribute)
STRAKE_SUCCEEDS(cuGetErrorName)
STRAKE_SUCCEEDS(cuGetErrorString)
STRAKE_SUCCEEDS(cuKernelGetAttribute)
STRAKE_SUCCEEDS(cuKernelSetAttribute)
STRAKE_SUCCEEDS(cuLaunchCooperativeKernel)
STRAKE_SUCCEEDS(cuLaunchKernel)
STRAKE_SUCCEEDS(cuLaunchKernelEx)
STRAKE_SUCCEEDS(cuLibraryLoadFromFile)
STRAKE_SUCCEEDS(cuLibraryUnload)
STRAKE_SUCCEEDS(cuLinkAddData)
STRAKE_SUCCEEDS(cuLinkAddData_v2)
STRAKE_SUCCEEDS(cuLinkAddFile_v2)
STRAKE_SUCCEEDS(cuLinkComplete)
STRAKE_SUCCEEDS(cuLinkCreate)
STRAKE_SUCCEEDS(cuLinkCreate_v2)
STRAKE_SUCCEEDS(cuLinkDestroy)
STRAKE_SUCCEEDS(cuMemcpyDtoH_v2)
STRAKE_SUCCEEDS(cuModuleGetFunction)
STRAKE_SUCCEEDS(cuModuleGetGlobal_v2)
STRAKE_SUCCEEDS(cuModuleLoadData)
STRAKE_SUCCEEDS(cuModuleLoadDataEx)
STRAKE_SUCCEEDS(cuModuleLoadFatBinary)
STRAKE_SUCCEEDS(cuModuleUnload)
STRAKE_SUCCEEDS(cuOccupancyMaxActiveBlocksPerMultiprocessor)
STRAKE_SUCCEEDS(cuOccupancyMaxPotentialClusterSize)
STRAKE_SUCCEEDS(cuStreamGetCtx)
STRAKE_SUCCEEDS(cuStreamGetGreenCtx)
STRAKE_SUCCEEDS(cuStreamSynchronize)
STRAKE_SUCCEEDS(cuTensorMapEncodeIm2col)
STRAKE_SUCCEEDS(cuTensorMapEncodeTiled)

}  // extern "C"
