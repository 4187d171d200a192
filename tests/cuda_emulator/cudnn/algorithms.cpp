// Which algorithms there are, and the workspace that they want. Backward, the first in the list is one that cuDNN calls not
// deterministic, so that a program that wants the same bits every time has to look.

#include <algorithm>

#include "geometry.h"

using namespace emulator;

namespace emulator {

namespace {

// The three result structures of cuDNN have this form.
struct Performance {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math;
    int reserved[3];
};

int list(const char *who, Pass pass, const void *x, const void *w, const void *conv, const void *y, int asked, int *given, void *out) {
    Problem p;
    if (int status = Problem::make(who, x, w, conv, y, p)) return status;
    if (asked < 1) return DNN_BAD_PARAM;
    const int forward[] = {1, 0}, backward[] = {0, 1};
    const int *order = pass == Pass::forward ? forward : backward;
    Performance results[2];
    for (int i = 0; i < 2; i++) {
        const int algorithm = order[i];
        const int status = algorithm == 1 || pass == Pass::forward || p.kind == Kind::f32 ? p.supports(who, pass, algorithm) : int(DNN_NOT_SUPPORTED);
        const bool same_bits = pass == Pass::forward || algorithm == 1;
        results[i] = {algorithm, status, status ? -1.0f : 0.1f * float(i + 1), p.workspace(pass, algorithm), same_bits, p.conv.math, {}};
    }
    // Those that cannot be used come last.
    std::stable_partition(results, results + 2, [](const Performance &p) { return p.status == DNN_SUCCESS; });
    *given = std::min(asked, 2);
    std::copy(results, results + *given, static_cast<Performance *>(out));
    return DNN_SUCCESS;
}

int workspace(const char *who, Pass pass, const void *x, const void *w, const void *conv, const void *y, int algorithm, size_t *bytes) {
    Problem p;
    if (int status = Problem::make(who, x, w, conv, y, p)) return status;
    *bytes = p.workspace(pass, algorithm);
    return p.supports(who, pass, algorithm);
}

int two(int *count) {
    *count = 2;
    return DNN_SUCCESS;
}

} // namespace
} // namespace emulator

API cudnnGetConvolutionForwardAlgorithmMaxCount(void *, int *count) { return two(count); }
API cudnnGetConvolutionBackwardDataAlgorithmMaxCount(void *, int *count) { return two(count); }
API cudnnGetConvolutionBackwardFilterAlgorithmMaxCount(void *, int *count) { return two(count); }

API cudnnGetConvolutionForwardAlgorithm_v7(void *, void *x, void *w, void *conv, void *y, int asked, int *given, void *out) {
    return list(__func__, Pass::forward, x, w, conv, y, asked, given, out);
}
API cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, void *w, void *dy, void *conv, void *dx, int asked, int *given, void *out) {
    return list(__func__, Pass::data, dx, w, conv, dy, asked, given, out);
}
API cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, void *x, void *dy, void *conv, void *dw, int asked, int *given, void *out) {
    return list(__func__, Pass::filter, x, dw, conv, dy, asked, given, out);
}
// Nothing is tried: the ranking is the same.
API cudnnFindConvolutionForwardAlgorithmEx(void *, void *xd, const void *, void *wd, const void *, void *conv, void *yd, void *,
                                           int asked, int *given, void *out, void *, size_t) {
    return list(__func__, Pass::forward, xd, wd, conv, yd, asked, given, out);
}
API cudnnFindConvolutionBackwardDataAlgorithmEx(void *, void *wd, const void *, void *dyd, const void *, void *conv, void *dxd,
                                                void *, int asked, int *given, void *out, void *, size_t) {
    return list(__func__, Pass::data, dxd, wd, conv, dyd, asked, given, out);
}
API cudnnFindConvolutionBackwardFilterAlgorithmEx(void *, void *xd, const void *, void *dyd, const void *, void *conv, void *dwd,
                                                  void *, int asked, int *given, void *out, void *, size_t) {
    return list(__func__, Pass::filter, xd, dwd, conv, dyd, asked, given, out);
}

API cudnnGetConvolutionForwardWorkspaceSize(void *, void *x, void *w, void *conv, void *y, int algorithm, size_t *bytes) {
    return workspace(__func__, Pass::forward, x, w, conv, y, algorithm, bytes);
}
API cudnnGetConvolutionBackwardDataWorkspaceSize(void *, void *w, void *dy, void *conv, void *dx, int algorithm, size_t *bytes) {
    return workspace(__func__, Pass::data, dx, w, conv, dy, algorithm, bytes);
}
API cudnnGetConvolutionBackwardFilterWorkspaceSize(void *, void *x, void *dy, void *conv, void *dw, int algorithm, size_t *bytes) {
    return workspace(__func__, Pass::filter, x, dw, conv, dy, algorithm, bytes);
}

API cudnnGetConvolution2dForwardOutputDim(void *conv, void *x, void *w, int *n, int *c, int *h, int *wide) {
    const auto &cv = *static_cast<Convolution *>(conv);
    const auto &xs = static_cast<Tensor *>(x)->size, &ws = static_cast<Filter *>(w)->size;
    auto out = [&](int d) { return int((xs[2 + d] + 2 * cv.pad[d] - (cv.dilation[d] * (ws[2 + d] - 1) + 1)) / cv.step[d] + 1); };
    *n = int(xs[0]), *c = int(ws[0]), *h = out(0), *wide = out(1);
    return DNN_SUCCESS;
}
