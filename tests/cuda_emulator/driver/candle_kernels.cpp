// The few of candle's own kernels that plain tensors need: fill, copy, cast, affine, sum. Names and arguments are those of
// candle-kernels; what they do is written anew.

#include "cuda_bf16.h"
#include "launch.h"

namespace {

// Dimensions and strides of a view, the `which`-th after the dimensions; null where it is contiguous.
struct View {
    size_t rank;
    const size_t *info;
    size_t which = 1;

    size_t operator()(size_t i) const {
        if (!info) return i;
        size_t at = 0;
        for (size_t d = rank; d-- > 0; i /= info[d]) at += i % info[d] * info[which * rank + d];
        return at;
    }
};

// The values that this thread takes care of, in the usual stride.
template <class F> void each(size_t n, F work) {
    for (size_t i = size_t(blockIdx.x) * blockDim.x + threadIdx.x; i < n; i += size_t(blockDim.x) * gridDim.x) work(i);
}

template <class T> void fill(T *out, T value, size_t n) {
    each(n, [&](size_t i) { out[i] = value; });
}
template <class T> void const_set(size_t n, size_t rank, const size_t *info, T value, T *out) {
    each(n, [&](size_t i) { out[View{rank, info}(i)] = value; });
}
template <class T> void copy2d(const T *from, T *to, uint32_t rows, uint32_t columns, uint32_t from_stride, uint32_t to_stride) {
    each(size_t(rows) * columns, [&](size_t i) { to[i / columns * to_stride + i % columns] = from[i / columns * from_stride + i % columns]; });
}
template <class T> void ucopy(size_t n, size_t rank, const size_t *info, const T *in, T *out) {
    each(n, [&](size_t i) { out[i] = in ? in[View{rank, info}(i)] : out[i]; });
}
template <class From, class To> void cast(size_t n, size_t rank, const size_t *info, const From *in, To *out) {
    each(n, [&](size_t i) { out[i] = To(in[View{rank, info}(i)]); });
}
template <class T> void affine(size_t n, size_t rank, const size_t *info, const T *in, T *out, T factor, T summand) {
    each(n, [&](size_t i) { out[i] = T((in ? in[View{rank, info}(i)] : out[i]) * factor + summand); });
}
template <class T> void badd(size_t n, size_t rank, const size_t *info, const T *left, const T *right, T *out) {
    each(n, [&](size_t i) { out[i] = left[View{rank, info}(i)] + right[View{rank, info, 2}(i)]; });
}

#define PUT(kernel, name) emulator::Enlisted put_##name("candle", #name, kernel);
#define OF_TYPE(T, S)                                                                                                       \
    PUT(const_set<T>, const_set_##S)                                                                                        \
    PUT(copy2d<T>, copy2d_##S)                                                                                              \
    PUT(ucopy<T>, ucopy_##S)
OF_TYPE(float, f32)
OF_TYPE(double, f64)
OF_TYPE(__nv_bfloat16, bf16)
OF_TYPE(uint8_t, u8)
OF_TYPE(uint32_t, u32)
OF_TYPE(int64_t, i64)
PUT(fill<float>, fill_f32)
PUT(fill<double>, fill_f64)
PUT(fill<uint8_t>, fill_u8)
PUT(fill<uint32_t>, fill_u32)
PUT(fill<int64_t>, fill_i64)
PUT(affine<float>, affine_f32)
PUT(affine<double>, affine_f64)
PUT(badd<float>, badd_f32)

#define CAST(From, S, To, D) emulator::Enlisted cast_##S##_to_##D("candle", "cast_" #S "_" #D, cast<From, To>);
CAST(float, f32, __nv_bfloat16, bf16)
CAST(__nv_bfloat16, bf16, float, f32)
CAST(float, f32, double, f64)
CAST(double, f64, float, f32)
CAST(float, f32, uint32_t, u32)
CAST(uint32_t, u32, float, f32)
CAST(uint8_t, u8, float, f32)
CAST(float, f32, uint8_t, u8)
CAST(int64_t, i64, float, f32)
CAST(float, f32, int64_t, i64)
CAST(uint8_t, u8, __nv_bfloat16, bf16)

} // namespace
