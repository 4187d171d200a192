// The three convolutions as plain loops: values are spread out channels-last, sums are taken in double, and what comes out is
// rounded once.

#include "geometry.h"

using namespace emulator;

namespace emulator {

namespace {

using Values = std::vector<float>;
using Sums = std::vector<double>;

// A tensor in the order N, H, W, C (a filter: K, R, S, C).
Values spread(const Tensor &t, Kind kind, const void *from) {
    const auto [n, c, h, w] = t.size;
    Values out(size_t(n) * c * h * w);
    size_t at = 0;
    for (long i = 0; i < n; i++)
        for (long y = 0; y < h; y++)
            for (long x = 0; x < w; x++)
                for (long ch = 0; ch < c; ch++)
                    out[at++] = float(get(kind, from, size_t(i * t.stride[0] + ch * t.stride[1] + y * t.stride[2] + x * t.stride[3])));
    return out;
}

// out = alpha·sums + beta·out; with beta 0 what was there is not read.
void gather(const Tensor &t, Kind kind, void *to, const Sums &sums, double alpha, double beta) {
    const auto [n, c, h, w] = t.size;
    size_t at = 0;
    for (long i = 0; i < n; i++)
        for (long y = 0; y < h; y++)
            for (long x = 0; x < w; x++)
                for (long ch = 0; ch < c; ch++) {
                    const size_t place = size_t(i * t.stride[0] + ch * t.stride[1] + y * t.stride[2] + x * t.stride[3]);
                    const double before = beta == 0 ? 0 : beta * get(kind, to, place);
                    put(kind, to, place, alpha * sums[at++] + before);
                }
}

// Calls `visit(y, w, x, c)` with the offsets of an output value, the first of a filter tap's values, the first of the input
// values that it meets, and how many there are.
template <class F> void visit(const Problem &p, F visit) {
    const auto [n, channels, h, w] = p.x.size;
    const auto [k, c, r, s] = p.w.size;
    const long oh = p.y.size[2], ow = p.y.size[3], per_group = k / p.conv.groups;
    for (long i = 0; i < n; i++)
        for (long oy = 0; oy < oh; oy++)
            for (long ox = 0; ox < ow; ox++)
                for (long ky = 0; ky < r; ky++)
                    for (long kx = 0; kx < s; kx++) {
                        const long y = oy * p.conv.step[0] - p.conv.pad[0] + ky * p.conv.dilation[0];
                        const long x = ox * p.conv.step[1] - p.conv.pad[1] + kx * p.conv.dilation[1];
                        if (y < 0 || y >= h || x < 0 || x >= w) continue;
                        const size_t in = size_t(((i * h + y) * w + x) * channels), out = size_t(((i * oh + oy) * ow + ox) * k);
                        for (long o = 0; o < k; o++)
                            visit(out + o, size_t(((o * r + ky) * s + kx) * c), in + o / per_group * c, c);
                    }
}

Sums forward(const Problem &p, const Values &x, const Values &w) {
    Sums y(size_t(p.y.size[0]) * p.y.size[1] * p.y.size[2] * p.y.size[3]);
    visit(p, [&](size_t out, size_t tap, size_t in, long c) {
        double sum = 0;
        for (long i = 0; i < c; i++) sum += double(x[in + i]) * w[tap + i];
        y[out] += sum;
    });
    return y;
}

Sums backward_data(const Problem &p, const Values &dy, const Values &w) {
    Sums dx(size_t(p.x.size[0]) * p.x.size[1] * p.x.size[2] * p.x.size[3]);
    visit(p, [&](size_t out, size_t tap, size_t in, long c) {
        const double d = dy[out];
        for (long i = 0; i < c; i++) dx[in + i] += d * w[tap + i];
    });
    return dx;
}

Sums backward_filter(const Problem &p, const Values &x, const Values &dy) {
    Sums dw(size_t(p.w.size[0]) * p.w.size[1] * p.w.size[2] * p.w.size[3]);
    visit(p, [&](size_t out, size_t tap, size_t in, long c) {
        const double d = dy[out];
        for (long i = 0; i < c; i++) dw[tap + i] += d * x[in + i];
    });
    return dw;
}

// alpha and beta are floats for every type of values that there is here.
double scalar(const void *at) { return *static_cast<const float *>(at); }

// The three pointers of a call, the scratch memory, and what is said of them.
struct Call {
    const char *who;
    Pass pass;
    int algorithm;
    const void *handle, *x, *w, *y;
    void *scratch;
    size_t bytes;
    double alpha, beta;
};

int check(const Problem &p, const Call &call) {
    if (int status = p.supports(call.who, call.pass, call.algorithm)) return status;
    const struct {
        const void *at;
        size_t size;
    } operands[] = {{call.x, extent(p.x)}, {call.w, extent(p.w.as_tensor())}, {call.y, extent(p.y)}};
    for (const auto &operand : operands) {
        const auto address = reinterpret_cast<uint64_t>(operand.at);
        if (!inside(address, operand.size, call.who)) return DNN_BAD_PARAM;
        if (address % 16) {
            complain("%s: an operand does not begin at a multiple of 16 bytes", call.who);
            return DNN_BAD_PARAM;
        }
    }
    const size_t wanted = p.workspace(call.pass, call.algorithm);
    if (call.bytes < wanted) {
        complain("%s: %zu bytes of workspace, %zu are needed", call.who, call.bytes, wanted);
        return DNN_BAD_PARAM;
    }
    return inside(reinterpret_cast<uint64_t>(call.scratch), call.bytes, call.who) ? DNN_SUCCESS : DNN_BAD_PARAM;
}

int run(const Problem &p, const Call &call) {
    if (int status = check(p, call)) return status;
    if (call.bytes) std::memset(call.scratch, 0xff, call.bytes); // cuDNN leaves nothing as it was either
    const Tensor w = p.w.as_tensor();
    if (call.pass == Pass::forward)
        gather(p.y, p.kind, const_cast<void *>(call.y), forward(p, spread(p.x, p.kind, call.x), spread(w, p.kind, call.w)), call.alpha, call.beta);
    if (call.pass == Pass::data)
        gather(p.x, p.kind, const_cast<void *>(call.x), backward_data(p, spread(p.y, p.kind, call.y), spread(w, p.kind, call.w)), call.alpha, call.beta);
    if (call.pass == Pass::filter)
        gather(w, p.kind, const_cast<void *>(call.w), backward_filter(p, spread(p.x, p.kind, call.x), spread(p.y, p.kind, call.y)), call.alpha, call.beta);
    return DNN_SUCCESS;
}

int submit_call(const Problem &p, const Call &call) {
    void *stream = static_cast<const Dnn *>(call.handle)->stream;
    const int status = submit(stream, call.who, [p, call] { return run(p, call); });
    return status == STREAM_CAPTURE_IMPLICIT ? DNN_EXECUTION_FAILED : status;
}

} // namespace
} // namespace emulator

API cudnnConvolutionForward(void *handle, const void *alpha, void *xd, const void *x, void *wd, const void *w, void *conv,
                            int algorithm, void *scratch, size_t bytes, const void *beta, void *yd, void *y) {
    Problem p;
    if (int status = Problem::make(__func__, xd, wd, conv, yd, p)) return status;
    return submit_call(p, {"cudnnConvolutionForward", Pass::forward, algorithm, handle, x, w, y, scratch, bytes, scalar(alpha), scalar(beta)});
}
API cudnnConvolutionBackwardData(void *handle, const void *alpha, void *wd, const void *w, void *dyd, const void *dy, void *conv,
                                 int algorithm, void *scratch, size_t bytes, const void *beta, void *dxd, void *dx) {
    Problem p;
    if (int status = Problem::make(__func__, dxd, wd, conv, dyd, p)) return status;
    return submit_call(p, {"cudnnConvolutionBackwardData", Pass::data, algorithm, handle, dx, w, dy, scratch, bytes, scalar(alpha), scalar(beta)});
}
API cudnnConvolutionBackwardFilter(void *handle, const void *alpha, void *xd, const void *x, void *dyd, const void *dy, void *conv,
                                   int algorithm, void *scratch, size_t bytes, const void *beta, void *dwd, void *dw) {
    Problem p;
    if (int status = Problem::make(__func__, xd, dwd, conv, dyd, p)) return status;
    return submit_call(p, {"cudnnConvolutionBackwardFilter", Pass::filter, algorithm, handle, x, dw, dy, scratch, bytes, scalar(alpha), scalar(beta)});
}

// y = activation(alpha1·conv(x) + alpha2·z + bias), in two steps over y: what a fused kernel would round once is rounded twice
// where y is 16 bits wide.
API cudnnConvolutionBiasActivationForward(void *handle, const void *alpha1, void *xd, const void *x, void *wd, const void *w,
                                          void *conv, int algorithm, void *scratch, size_t bytes, const void *alpha2, void *zd,
                                          const void *z, void *bd, const void *bias, void *activation, void *yd, void *y) {
    Problem p;
    if (int status = Problem::make(__func__, xd, wd, conv, yd, p)) return status;
    const Tensor zt = *static_cast<Tensor *>(zd), bt = *static_cast<Tensor *>(bd);
    const int mode = static_cast<Activation *>(activation)->mode;
    if (zt.size != p.y.size || zt.stride != p.y.stride || bt.size != Four{1, p.y.size[1], 1, 1}) return DNN_BAD_PARAM;
    if ((mode != 1 && mode != 5) || (mode == 5 && algorithm != 1)) return DNN_NOT_SUPPORTED; // relu; nothing, by algorithm 1
    const double a2 = scalar(alpha2);
    const Call call{"cudnnConvolutionBiasActivationForward", Pass::forward, algorithm, handle, x, w, y, scratch, bytes, scalar(alpha1), 0};
    Kind bias_kind;
    if (!kind_of(bt.type, bias_kind)) return DNN_BAD_PARAM;
    return submit(static_cast<Dnn *>(handle)->stream, call.who, [=] {
        if (!inside(reinterpret_cast<uint64_t>(z), extent(zt), call.who) || !inside(reinterpret_cast<uint64_t>(bias), extent(bt), call.who)) return int(DNN_BAD_PARAM);
        // z may be y itself, and y is written first.
        const Values added = spread(zt, p.kind, z);
        if (int status = run(p, call)) return status;
        const Values product = spread(p.y, p.kind, y);
        Sums sums(product.size());
        for (size_t i = 0; i < sums.size(); i++) {
            sums[i] = product[i] + a2 * added[i] + get(bias_kind, bias, i % size_t(p.y.size[1]));
            if (mode == 1 && sums[i] < 0) sums[i] = 0;
        }
        gather(p.y, p.kind, y, sums, 1, 0);
        return int(DNN_SUCCESS);
    });
}
