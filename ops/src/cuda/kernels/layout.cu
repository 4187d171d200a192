// Passes that move values: weights between our order and cuDNN's, padding, cropping, channels, enlargement.
// Mostly one thread per value that is written; indices decode from the innermost dimension outwards.
#include "common.cuh"

__device__ __forceinline__ int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// [rows, columns] → [columns, rows] in another element type, over a tile of 32x32 in shared memory so that both sides are
// contiguous. Weights [KH·KW·I, O] are brought into cuDNN's order [O, KH·KW·I] by it, and weight gradients back.
template <typename F, typename T> __device__ void transpose(const F* x, T* out, int rows, int columns) {
  __shared__ float tile[32][33];
  const int x0 = blockIdx.x * 32, y0 = blockIdx.y * 32;
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (y0 + i < rows && x0 + threadIdx.x < columns)
      tile[i][threadIdx.x] = wide(x[(long long)(y0 + i) * columns + x0 + threadIdx.x]);
  }
  __syncthreads();
  for (int i = threadIdx.y; i < 32; i += 8) {
    if (x0 + i < columns && y0 + threadIdx.x < rows)
      out[(long long)(x0 + i) * rows + y0 + threadIdx.x] = narrow<T>(tile[threadIdx.x][i]);
  }
}
#define TRANSPOSE(T, S)                                                                            \
  extern "C" __global__ void to_krsc_##S(const float* w, T* out, int rows, int columns) {          \
    transpose<float, T>(w, out, rows, columns);                                                    \
  }                                                                                                \
  extern "C" __global__ void from_krsc_##S(const T* w, float* out, int rows, int columns) {        \
    transpose<T, float>(w, out, rows, columns);                                                    \
  }
BOTH(TRANSPOSE)

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

// Every pixel four times: a thread takes W channels of a pixel that is written.
template <typename T, int W> __device__ void nearest2(const T* x, T* out, int n, int h, int w, int c) {
  const int i = thread(), vectors = c / W;
  if (i >= n * 4 * h * w * vectors) return;
  const int ch = i % vectors * W, ox = i / vectors % (2 * w), oy = i / vectors / (2 * w) % (2 * h);
  const int image = i / vectors / (2 * w) / (2 * h);
  float v[W];
  load<T, W>(x + (long long)((image * h + oy / 2) * w + ox / 2) * c + ch, v);
  store<T, W>(out + (long long)i * W, v);
}

// Sums of four; h and w are those of the small image.
template <typename T, int W> __device__ void nearest2_backward(const T* d, T* dx, int n, int h, int w, int c) {
  const int i = thread(), vectors = c / W;
  if (i >= n * h * w * vectors) return;
  const int ch = i % vectors * W, x = i / vectors % w, y = i / vectors / w % h, image = i / vectors / w / h;
  const long long row = 2 * w * c, at = ((long long)(image * 2 * h + 2 * y) * 2 * w + 2 * x) * c + ch;
  float sum[W], v[W];
  load<T, W>(d + at, sum);
  const long long others[3] = {at + c, at + row, at + row + c};
  for (int k = 0; k < 3; k++) {
    load<T, W>(d + others[k], v);
    for (int j = 0; j < W; j++) sum[j] += v[j];
  }
  store<T, W>(dx + (long long)i * W, sum);
}
#define NEAREST2(NAME, T, W)                                                                               \
  extern "C" __global__ void nearest2##NAME(const T* x, T* out, int n, int h, int w, int c) {              \
    nearest2<T, W>(x, out, n, h, w, c);                                                                    \
  }                                                                                                        \
  extern "C" __global__ void nearest2_backward##NAME(const T* d, T* dx, int n, int h, int w, int c) {      \
    nearest2_backward<T, W>(d, dx, n, h, w, c);                                                            \
  }
NEAREST2(_f32, float, 4)
NEAREST2(1_f32, float, 1)
NEAREST2(_bf16, bf16, 8)
NEAREST2(1_bf16, bf16, 1)

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
