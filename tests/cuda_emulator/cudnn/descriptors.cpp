// Handle and descriptors of cuDNN's legacy interface.

#include "descriptors.h"

using namespace emulator;

namespace emulator {

Four packed(const Four &size, int format) {
    const auto [n, c, h, w] = size;
    (void)n;
    if (format == NHWC) return {h * w * c, 1, w * c, c};
    return {c * h * w, h * w, w, 1};
}

bool kind_of(int type, Kind &kind) {
    switch (type) {
    case 0: kind = Kind::f32; return true;
    case 2: kind = Kind::f16; return true;
    case 9: kind = Kind::bf16; return true;
    default: return false;
    }
}

Tensor Filter::as_tensor() const { return {type, size, packed(size, format)}; }

namespace {

int refuse(const char *who, const char *why) {
    complain("%s: %s", who, why);
    return DNN_BAD_PARAM;
}

int set_tensor(const char *who, void *out, int type, const Four &size, const Four &stride) {
    Kind kind;
    if (!kind_of(type, kind)) return refuse(who, "a type of values that is not emulated");
    for (int i = 0; i < 4; i++)
        if (size[i] < 1 || stride[i] < 1) return refuse(who, "a size or stride below 1");
    *static_cast<Tensor *>(out) = {type, size, stride};
    return DNN_SUCCESS;
}

int set_filter(const char *who, void *out, int type, int format, const Four &size) {
    Kind kind;
    if (!kind_of(type, kind) || format < NCHW || format > NHWC) return refuse(who, "a type or format that is not emulated");
    for (long s : size)
        if (s < 1) return refuse(who, "a size below 1");
    *static_cast<Filter *>(out) = {type, format, size};
    return DNN_SUCCESS;
}

Four four(const int *values) { return {values[0], values[1], values[2], values[3]}; }

template <class T> int create(void **out) {
    *out = new T;
    return DNN_SUCCESS;
}
template <class T> int destroy(void *what) {
    delete static_cast<T *>(what);
    return DNN_SUCCESS;
}

} // namespace
} // namespace emulator

extern "C" __attribute__((visibility("default"))) size_t cudnnGetVersion() { return 91900; }
extern "C" __attribute__((visibility("default"))) size_t cudnnGetCudartVersion() { return 13000; }
extern "C" __attribute__((visibility("default"))) const char *cudnnGetErrorString(int status) {
    switch (status) {
    case DNN_SUCCESS: return "CUDNN_STATUS_SUCCESS";
    case DNN_BAD_PARAM: return "CUDNN_STATUS_BAD_PARAM";
    case DNN_NOT_SUPPORTED: return "CUDNN_STATUS_NOT_SUPPORTED";
    default: return "CUDNN_STATUS of another kind";
    }
}
API cudnnOpsVersionCheck() { return DNN_SUCCESS; }
API cudnnCnnVersionCheck() { return DNN_SUCCESS; }
API cudnnAdvVersionCheck() { return DNN_SUCCESS; }

API cudnnCreate(void **handle) { return create<Dnn>(handle); }
API cudnnDestroy(void *handle) { return destroy<Dnn>(handle); }
API cudnnSetStream(void *handle, void *stream) {
    static_cast<Dnn *>(handle)->stream = stream;
    return DNN_SUCCESS;
}
API cudnnGetStream(void *handle, void **stream) {
    *stream = static_cast<Dnn *>(handle)->stream;
    return DNN_SUCCESS;
}

API cudnnCreateTensorDescriptor(void **out) { return create<Tensor>(out); }
API cudnnDestroyTensorDescriptor(void *what) { return destroy<Tensor>(what); }
API cudnnSetTensor4dDescriptor(void *out, int format, int type, int n, int c, int h, int w) {
    if (format < NCHW || format > NHWC) return refuse(__func__, "a format that is not emulated");
    const Four size{n, c, h, w};
    return set_tensor(__func__, out, type, size, packed(size, format));
}
API cudnnSetTensor4dDescriptorEx(void *out, int type, int n, int c, int h, int w, int ns, int cs, int hs, int ws) {
    return set_tensor(__func__, out, type, {n, c, h, w}, {ns, cs, hs, ws});
}
API cudnnSetTensorNdDescriptor(void *out, int type, int rank, const int *size, const int *stride) {
    if (rank != 4) return refuse(__func__, "only tensors of four dimensions are emulated");
    return set_tensor(__func__, out, type, four(size), four(stride));
}
API cudnnSetTensorNdDescriptorEx(void *out, int format, int type, int rank, const int *size) {
    if (rank != 4) return refuse(__func__, "only tensors of four dimensions are emulated");
    return cudnnSetTensor4dDescriptor(out, format, type, size[0], size[1], size[2], size[3]);
}

API cudnnCreateFilterDescriptor(void **out) { return create<Filter>(out); }
API cudnnDestroyFilterDescriptor(void *what) { return destroy<Filter>(what); }
API cudnnSetFilter4dDescriptor(void *out, int type, int format, int k, int c, int r, int s) {
    return set_filter(__func__, out, type, format, {k, c, r, s});
}
API cudnnSetFilterNdDescriptor(void *out, int type, int format, int rank, const int *size) {
    if (rank != 4) return refuse(__func__, "only filters of four dimensions are emulated");
    return set_filter(__func__, out, type, format, four(size));
}

API cudnnCreateConvolutionDescriptor(void **out) { return create<Convolution>(out); }
API cudnnDestroyConvolutionDescriptor(void *what) { return destroy<Convolution>(what); }
API cudnnSetConvolution2dDescriptor(void *out, int ph, int pw, int sh, int sw, int dh, int dw, int mode, int compute) {
    if (ph < 0 || pw < 0 || sh < 1 || sw < 1 || dh < 1 || dw < 1) return refuse(__func__, "padding, stride or dilation out of range");
    auto &conv = *static_cast<Convolution *>(out);
    conv = {true, {ph, pw}, {sh, sw}, {dh, dw}, mode, compute, 1, 0};
    return DNN_SUCCESS;
}
API cudnnSetConvolutionNdDescriptor(void *out, int rank, const int *pad, const int *step, const int *dilation, int mode, int compute) {
    if (rank != 2) return refuse(__func__, "only convolutions over two dimensions are emulated");
    return cudnnSetConvolution2dDescriptor(out, pad[0], pad[1], step[0], step[1], dilation[0], dilation[1], mode, compute);
}
API cudnnSetConvolutionGroupCount(void *out, int groups) {
    if (groups < 1) return refuse(__func__, "less than one group");
    static_cast<Convolution *>(out)->groups = groups;
    return DNN_SUCCESS;
}
API cudnnSetConvolutionMathType(void *out, int math) {
    if (math < 0 || math > 3) return refuse(__func__, "no such math type");
    static_cast<Convolution *>(out)->math = math;
    return DNN_SUCCESS;
}
API cudnnSetConvolutionReorderType(void *, int) { return DNN_SUCCESS; }

API cudnnCreateActivationDescriptor(void **out) { return create<Activation>(out); }
API cudnnDestroyActivationDescriptor(void *what) { return destroy<Activation>(what); }
API cudnnSetActivationDescriptor(void *out, int mode, int, double coefficient) {
    *static_cast<Activation *>(out) = {mode, coefficient};
    return DNN_SUCCESS;
}
API cudnnCreatePoolingDescriptor(void **out) { return create<char>(out); }
API cudnnDestroyPoolingDescriptor(void *what) { return destroy<char>(what); }
