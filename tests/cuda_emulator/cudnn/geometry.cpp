#include "geometry.h"

namespace emulator {

namespace {

int refuse(const char *who, const std::string &why) {
    complain("%s: %s", who, why.c_str());
    return DNN_BAD_PARAM;
}

std::string text(const Four &v) { return "[" + std::to_string(v[0]) + "," + std::to_string(v[1]) + "," + std::to_string(v[2]) + "," + std::to_string(v[3]) + "]"; }

// A stride says nothing where the size is 1.
bool is_packed(const Tensor &t, int format) {
    const Four want = packed(t.size, format);
    for (int i = 0; i < 4; i++)
        if (t.size[i] > 1 && t.stride[i] != want[i]) return false;
    return true;
}

} // namespace

size_t extent(const Tensor &t) {
    size_t last = 0;
    for (int i = 0; i < 4; i++) last += size_t(t.size[i] - 1) * size_t(t.stride[i]);
    Kind kind = Kind::f32;
    kind_of(t.type, kind);
    return (last + 1) * size_of(kind);
}

int Problem::make(const char *who, const void *x, const void *w, const void *conv, const void *y, Problem &p) {
    if (!x || !w || !conv || !y) return refuse(who, "a descriptor is null");
    p.x = *static_cast<const Tensor *>(x), p.y = *static_cast<const Tensor *>(y);
    p.w = *static_cast<const Filter *>(w), p.conv = *static_cast<const Convolution *>(conv);
    if (!p.conv.set || !kind_of(p.x.type, p.kind) || p.w.type < 0 || p.y.type < 0) return refuse(who, "a descriptor is not set");
    const Convolution &c = p.conv;
    if (p.x.type != p.w.type || p.x.type != p.y.type) return refuse(who, "x, w and y have different types");
    const Four &xs = p.x.size, &ws = p.w.size, &ys = p.y.size;
    const std::string sizes = "x " + text(xs) + ", w " + text(ws) + ", y " + text(ys);
    if (xs[1] != ws[1] * c.groups || ws[0] % c.groups || ys[1] != ws[0]) return refuse(who, "channels disagree: " + sizes + ", groups " + std::to_string(c.groups));
    if (xs[0] != ys[0]) return refuse(who, "batches disagree: " + sizes);
    for (int d = 0; d < 2; d++) {
        const long room = xs[2 + d] + 2 * c.pad[d] - (c.dilation[d] * (ws[2 + d] - 1) + 1);
        if (room < 0 || ys[2 + d] != room / c.step[d] + 1)
            return refuse(who, "heights or widths disagree: " + sizes + ", padding " + std::to_string(c.pad[d]) + ", stride " +
                                   std::to_string(c.step[d]) + ", dilation " + std::to_string(c.dilation[d]));
    }
    return DNN_SUCCESS;
}

int Problem::supports(const char *who, Pass pass, int algorithm) const {
    auto no = [&](const char *why) {
        complain("%s: %s", who, why);
        return DNN_NOT_SUPPORTED;
    };
    if (conv.mode != 1) return no("only cross-correlation is emulated");
    if (conv.compute != 0) return no("sums of this type are not emulated");
    if (kind == Kind::bf16 && conv.math == 3) return no("bfloat16 needs a math type with tensor cores");
    const bool channels_last = w.format == NHWC;
    if (channels_last && !(is_packed(x, NHWC) && is_packed(y, NHWC))) return no("the filter is channels-last, x or y is not, or not packed");
    if (!channels_last && !(is_packed(x, NCHW) && is_packed(y, NCHW))) return no("the filter is channels-first, x or y is not, or not packed");
    // The implicit matrix products, which every layout, stride and dilation has. Of the others cuDNN has some for some shapes.
    if (algorithm < 0 || algorithm > 1) return no("of algorithms only 0 and 1 are emulated");
    if (pass == Pass::filter && kind == Kind::bf16 && algorithm == 0) return no("bfloat16 filter gradients need algorithm 1");
    return DNN_SUCCESS;
}

size_t Problem::workspace(Pass pass, int algorithm) const {
    if (pass == Pass::forward && algorithm == 0) return 0;
    return 256 + 16 * size_t(w.size[0] % 7) + 128 * size_t(x.size[0] % 5) + 64 * size_t(pass);
}

} // namespace emulator
