// What cuDNN's descriptors hold here, and its status codes.
#pragma once

#include <array>

#include "memory.h"
#include "numbers.h"
#include "report.h"
#include "stream.h"

namespace emulator {

enum DnnStatus : int {
    DNN_SUCCESS = 0,
    DNN_BAD_PARAM = 2000,
    DNN_SUBTYPE_SHAPE = 2008,
    DNN_NOT_SUPPORTED = 3000,
    DNN_EXECUTION_FAILED = 5000,
};

// Dimensions are N, C, H, W whatever the order in memory; for a filter K, C, R, S.
using Four = std::array<long, 4>;

struct Dnn {
    void *stream = nullptr;
};
struct Tensor {
    int type = -1;
    Four size{}, stride{};
};
struct Filter {
    int type = -1, format = 0;
    Four size{};
    Tensor as_tensor() const;
};
struct Convolution {
    bool set = false;
    long pad[2], step[2], dilation[2];
    int mode, compute, groups = 1, math = 0;
};
struct Activation {
    int mode = -1;
    double coefficient = 0;
};

enum { NCHW = 0, NHWC = 1 };

// Element strides of packed values.
Four packed(const Four &size, int format);

// cudnnDataType_t as the emulator computes with it; false for those that it does not have.
bool kind_of(int type, Kind &kind);

} // namespace emulator
