// The sizes of one convolution, checked as cuDNN checks them.
#pragma once

#include "descriptors.h"

namespace emulator {

enum class Pass { forward, data, filter };

struct Problem {
    Tensor x, y;
    Filter w;
    Convolution conv;
    Kind kind;

    // x, w and y in this order, whatever the pass writes; false after a line on stderr.
    static int make(const char *who, const void *x, const void *w, const void *conv, const void *y, Problem &out);

    // Whether the pass can be done by the algorithm: a status.
    int supports(const char *who, Pass pass, int algorithm) const;

    // Bytes of scratch memory that the emulator asks for: little, but never nothing where cuDNN might ask for some.
    size_t workspace(Pass pass, int algorithm) const;
};

// Bytes from the first to behind the last value of a tensor.
size_t extent(const Tensor &tensor);

} // namespace emulator
