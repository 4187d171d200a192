// Passes that move values: weights between our order and cuDNN's, padding, cropping, channels, enlargement.
// One thread per value that is written; indices decode from the innermost dimension outwards.
#include "common.cuh"

__device__ __forceinline__ int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// [KH,KW,I,O] f32 → [O,KH,KW,I]; `taps` is KH·KW.
template <typename T> __device__ void to_krsc(const float* w, T* out, int taps, int c_in, int c_out) {
  const int i = thread();
  if (i >= taps * c_in * c_out) return;
  const int c = i % c_in, tap = i / c_in % taps, o = i / c_in / taps;
  out[i] = narrow<T>(w[(tap * c_in + c) * c_out + o]);
}
#define TO_KRSC(T, S)                                                                              \
  extern "C" __global__ void to_krsc_##S(const float* w, T* out, int taps, int c_in, int c_out) {  \
    to_krsc<T>(w, out, taps, c_in, c_out);                                                         \
  }
BOTH(TO_KRSC)

// The way back, of a weight gradient.
template <typename T> __device__ void from_krsc(const T* w, float* out, int taps, int c_in, int c_out) {
  const int i = thread();
  if (i >= taps * c_in * c_out) return;
  const int o = i % c_out, c = i / c_out % c_in, tap = i / c_out / c_in;
  out[i] = wide(w[(o * taps + tap) * c_in + c]);
}
#define FROM_KRSC(T, S)                                                                            \
  extern "C" __global__ void from_krsc_##S(const T* w, float* out, int taps, int c_in, int c_out) { \
    from_krsc<T>(w, out, taps, c_in, c_out);                                                       \
  }
BOTH(FROM_KRSC)

// A window of an image, zeros outside: out[n,y,x,:] = in[n, y − top, x − left, :]. Padding with top, left > 0, cropping with
// negative ones.
template <typename T>
__device__ void shift_image(const T* x, T* out, int n, int h, int w, int oh, int ow, int c, int top, int left) {
  const int i = thread();
  if (i >= n * oh * ow * c) return;
  const int ch = i % c, ox = i / c % ow, oy = i / c / ow % oh, image = i / c / ow / oh;
  const int y = oy - top, column = ox - left;
  const bool inside = y >= 0 && y < h && column >= 0 && column < w;
  out[i] = inside ? x[((image * h + y) * w + column) * c + ch] : narrow<T>(0.0f);
}
#define SHIFT_IMAGE(T, S)                                                                                    \
  extern "C" __global__ void shift_image_##S(const T* x, T* out, int n, int h, int w, int oh, int ow, int c, \
                                             int top, int left) {                                            \
    shift_image<T>(x, out, n, h, w, oh, ow, c, top, left);                                                   \
  }
BOTH(SHIFT_IMAGE)

// Channels `from_start..` of x into channels `to_start..` of out, `count` of each row.
template <typename T>
__device__ void move_channels(const T* x, T* out, int rows, int count, int from_width, int from_start, int to_width,
                              int to_start) {
  const int i = thread();
  if (i >= rows * count) return;
  const int c = i % count, row = i / count;
  out[row * to_width + to_start + c] = x[row * from_width + from_start + c];
}
#define MOVE_CHANNELS(T, S)                                                                                  \
  extern "C" __global__ void move_channels_##S(const T* x, T* out, int rows, int count, int from_width,      \
                                               int from_start, int to_width, int to_start) {                 \
    move_channels<T>(x, out, rows, count, from_width, from_start, to_width, to_start);                       \
  }
BOTH(MOVE_CHANNELS)

// Every pixel four times.
template <typename T> __device__ void nearest2(const T* x, T* out, int n, int h, int w, int c) {
  const int i = thread();
  if (i >= n * 4 * h * w * c) return;
  const int ch = i % c, ox = i / c % (2 * w), oy = i / c / (2 * w) % (2 * h), image = i / c / (2 * w) / (2 * h);
  out[i] = x[((image * h + oy / 2) * w + ox / 2) * c + ch];
}
#define NEAREST2(T, S)                                                                             \
  extern "C" __global__ void nearest2_##S(const T* x, T* out, int n, int h, int w, int c) {        \
    nearest2<T>(x, out, n, h, w, c);                                                               \
  }
BOTH(NEAREST2)

// Sums of four; h and w are those of the small image.
template <typename T> __device__ void nearest2_backward(const T* d, T* dx, int n, int h, int w, int c) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int ch = i % c, x = i / c % w, y = i / c / w % h, image = i / c / w / h;
  const int row = 2 * w * c, at = ((image * 2 * h + 2 * y) * 2 * w + 2 * x) * c + ch;
  dx[i] = narrow<T>(wide(d[at]) + wide(d[at + c]) + wide(d[at + row]) + wide(d[at + row + c]));
}
#define NEAREST2_BACKWARD(T, S)                                                                    \
  extern "C" __global__ void nearest2_backward_##S(const T* d, T* dx, int n, int h, int w, int c) { \
    nearest2_backward<T>(d, dx, n, h, w, c);                                                       \
  }
BOTH(NEAREST2_BACKWARD)

// Strided pixels with zero channels on both sides.
template <typename T>
__device__ void subsample(const T* x, T* out, int n, int h, int w, int c, int oh, int ow, int c_out, int stride,
                          int before) {
  const int i = thread();
  if (i >= n * oh * ow * c_out) return;
  const int ch = i % c_out - before, ox = i / c_out % ow, oy = i / c_out / ow % oh, image = i / c_out / ow / oh;
  const bool inside = ch >= 0 && ch < c;
  out[i] = inside ? x[((image * h + oy * stride) * w + ox * stride) * c + ch] : narrow<T>(0.0f);
}
#define SUBSAMPLE(T, S)                                                                                      \
  extern "C" __global__ void subsample_##S(const T* x, T* out, int n, int h, int w, int c, int oh, int ow,   \
                                           int c_out, int stride, int before) {                              \
    subsample<T>(x, out, n, h, w, c, oh, ow, c_out, stride, before);                                         \
  }
BOTH(SUBSAMPLE)

template <typename T>
__device__ void subsample_backward(const T* d, T* dx, int n, int h, int w, int c, int oh, int ow, int c_out, int stride,
                                   int before) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int ch = i % c, x = i / c % w, y = i / c / w % h, image = i / c / w / h;
  const bool taken = y % stride == 0 && x % stride == 0;
  dx[i] = taken ? d[((image * oh + y / stride) * ow + x / stride) * c_out + before + ch] : narrow<T>(0.0f);
}
#define SUBSAMPLE_BACKWARD(T, S)                                                                             \
  extern "C" __global__ void subsample_backward_##S(const T* d, T* dx, int n, int h, int w, int c, int oh,   \
                                                    int ow, int c_out, int stride, int before) {             \
    subsample_backward<T>(d, dx, n, h, w, c, oh, ow, c_out, stride, before);                                 \
  }
BOTH(SUBSAMPLE_BACKWARD)

// [N, P, C] → [N, C, P] and, with the two sizes exchanged, back.
template <typename T> __device__ void transpose_inner(const T* x, T* out, int n, int outer, int inner) {
  const int i = thread();
  if (i >= n * outer * inner) return;
  const int o = i % outer, k = i / outer % inner, image = i / outer / inner;
  out[i] = x[(image * outer + o) * inner + k];
}
#define TRANSPOSE_INNER(T, S)                                                                      \
  extern "C" __global__ void transpose_inner_##S(const T* x, T* out, int n, int outer, int inner) { \
    transpose_inner<T>(x, out, n, outer, inner);                                                   \
  }
BOTH(TRANSPOSE_INNER)
