// One device, its primary context and its memory pool.

#include <cstring>

#include "memory.h"
#include "report.h"
#include "stream.h"

using namespace emulator;

static char context, pool;

API cuInit(unsigned) { return SUCCESS; }
API cuDriverGetVersion(int *version) {
    *version = 13000;
    return SUCCESS;
}
API cuDeviceGetCount(int *count) {
    *count = 1;
    return SUCCESS;
}
API cuDeviceGet(int *device, int ordinal) {
    *device = 0;
    return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}
API cuDeviceGetName(char *name, int size, int) {
    if (size < 1) return INVALID_VALUE;
    std::strncpy(name, "emulated", size);
    name[size - 1] = 0;
    return SUCCESS;
}
API cuDeviceGetUuid_v2(char *uuid, int) {
    std::memcpy(uuid, "emulated device ", 16);
    return SUCCESS;
}
API cuDeviceGetUuid(char *uuid, int device) { return cuDeviceGetUuid_v2(uuid, device); }
API cuDeviceTotalMem_v2(size_t *size, int) {
    *size = memory_total();
    return SUCCESS;
}
// The numbers are those of the driver's CUdevice_attribute; the values those of compute capability 9.0.
API cuDeviceGetAttribute(int *value, int attribute, int) {
    static const struct {
        int attribute, value;
    } known[] = {
        {1, 1024},   {2, 1024}, {3, 1024}, {4, 64},      // threads of a block, and its three dimensions
        {5, 2147483647}, {6, 65535}, {7, 65535},         // blocks of a grid
        {8, 49152},  {9, 65536},  {10, 32}, {12, 65536}, // shared and constant memory, warp, registers
        {13, 1000000}, {16, 4}, {17, 0}, {20, 0},        // clock, multiprocessors, time limit, mode
        {18, 0},     {19, 1},     {31, 1},  {36, 1000000}, {37, 1024}, {38, 1 << 20}, {39, 2048}, {40, 1},
        {41, 1},     {75, 9},     {76, 0},  {81, 233472}, {82, 65536}, {83, 1}, {97, 232448}, {106, 32}, {115, 1},
    };
    for (const auto &entry : known)
        if (entry.attribute == attribute) {
            *value = entry.value;
            return SUCCESS;
        }
    complain("cuDeviceGetAttribute: attribute %d is not known here; it is 0", attribute);
    *value = 0;
    return SUCCESS;
}
API cuDeviceGetDefaultMemPool(void **out, int) {
    *out = &pool;
    return SUCCESS;
}
API cuDeviceGetMemPool(void **out, int) {
    *out = &pool;
    return SUCCESS;
}
API cuDeviceSetMemPool(int, void *) { return SUCCESS; }
API cuMemPoolSetAttribute(void *, int, void *) { return SUCCESS; }
API cuMemPoolGetAttribute(void *, int, void *value) {
    *static_cast<uint64_t *>(value) = memory_used();
    return SUCCESS;
}
API cuMemPoolTrimTo(void *, size_t) { return SUCCESS; }

API cuDevicePrimaryCtxRetain(void **out, int) {
    *out = &context;
    return SUCCESS;
}
API cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
API cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return SUCCESS; }
API cuCtxGetCurrent(void **out) {
    *out = &context;
    return SUCCESS;
}
API cuCtxSetCurrent(void *) { return SUCCESS; }
API cuCtxGetDevice(int *device) {
    *device = 0;
    return SUCCESS;
}
API cuCtxSetFlags(unsigned) { return SUCCESS; }
API cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    *least = *greatest = 0;
    return SUCCESS;
}
API cuCtxSynchronize() {
    std::lock_guard<std::recursive_mutex> guard(lock());
    return refuse_while_capturing("cuCtxSynchronize");
}
API cuProfilerStart() { return SUCCESS; }
API cuProfilerStop() { return SUCCESS; }

API cuGetErrorName(int status, const char **name) {
    switch (status) {
    case SUCCESS: *name = "CUDA_SUCCESS"; break;
    case INVALID_VALUE: *name = "CUDA_ERROR_INVALID_VALUE"; break;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case INVALID_IMAGE: *name = "CUDA_ERROR_INVALID_IMAGE"; break;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    case ILLEGAL_ADDRESS: *name = "CUDA_ERROR_ILLEGAL_ADDRESS"; break;
    case NOT_SUPPORTED: *name = "CUDA_ERROR_NOT_SUPPORTED"; break;
    case STREAM_CAPTURE_UNSUPPORTED: *name = "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"; break;
    case STREAM_CAPTURE_INVALIDATED: *name = "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"; break;
    case STREAM_CAPTURE_IMPLICIT: *name = "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT"; break;
    default: *name = "CUDA_ERROR of another kind";
    }
    return SUCCESS;
}
API cuGetErrorString(int status, const char **text) {
    cuGetErrorName(status, text);
    return SUCCESS;
}
