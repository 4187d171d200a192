// Pooling and resizing. One thread per value that is written: a backward pass gathers from the windows that hold a pixel,
// in order, so that nothing is added by two threads.
#include "common.cuh"

__device__ __forceinline__ int thread() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Mean over pixels: [N,P,C] → [N,C] f32.
template <typename T> __device__ void global_mean(const T* x, float* out, int n, int pixels, int c) {
  const int i = thread();
  if (i >= n * c) return;
  const T* from = x + (long long)(i / c) * pixels * c + i % c;
  float sum = 0.0f;
  for (int p = 0; p < pixels; p++) sum += wide(from[(long long)p * c]);
  out[i] = sum / (float)pixels;
}
#define GLOBAL_MEAN(T, S)                                                                          \
  extern "C" __global__ void global_mean_##S(const T* x, float* out, int n, int pixels, int c) {   \
    global_mean<T>(x, out, n, pixels, c);                                                          \
  }
BOTH(GLOBAL_MEAN)

template <typename T> __device__ void global_mean_backward(const float* d, T* dx, int n, int pixels, int c) {
  const int i = thread();
  if (i >= n * pixels * c) return;
  dx[i] = narrow<T>(d[i / c / pixels * c + i % c] / (float)pixels);
}
#define GLOBAL_MEAN_BACKWARD(T, S)                                                                          \
  extern "C" __global__ void global_mean_backward_##S(const float* d, T* dx, int n, int pixels, int c) {    \
    global_mean_backward<T>(d, dx, n, pixels, c);                                                           \
  }
BOTH(GLOBAL_MEAN_BACKWARD)

struct Windows {
  int h, w, oh, ow, c, kernel, stride, padding, kind;  // kind 0: maximum, 1: mean over the kernel, 2: mean over pixels
};

__device__ __forceinline__ int first(const Windows& p, int o) { return max(o * p.stride - p.padding, 0); }
__device__ __forceinline__ int last(const Windows& p, int o, int size) {
  return min(o * p.stride - p.padding + p.kernel, size);
}
__device__ __forceinline__ bool beats(float v, float best) { return v > best || (v != v && best == best); }

// Index (in the image's channel) of the maximum of window (oy, ox): the first in row order.
template <typename T> __device__ int best_of(const Windows& p, const T* image, int oy, int ox) {
  int best = first(p, oy) * p.w + first(p, ox);
  for (int y = first(p, oy); y < last(p, oy, p.h); y++)
    for (int x = first(p, ox); x < last(p, ox, p.w); x++)
      if (beats(wide(image[(long long)(y * p.w + x) * p.c]), wide(image[(long long)best * p.c]))) best = y * p.w + x;
  return best;
}

__device__ __forceinline__ float weight(const Windows& p, int oy, int ox) {
  const int count = p.kind == 1 ? p.kernel * p.kernel : (last(p, oy, p.h) - first(p, oy)) * (last(p, ox, p.w) - first(p, ox));
  return 1.0f / (float)count;
}

template <typename T> __device__ void pool(const T* x, T* out, int n, Windows p) {
  const int i = thread();
  if (i >= n * p.oh * p.ow * p.c) return;
  const int ox = i / p.c % p.ow, oy = i / p.c / p.ow % p.oh, image = i / p.c / p.ow / p.oh;
  const T* from = x + (long long)image * p.h * p.w * p.c + i % p.c;
  if (p.kind == 0) {
    out[i] = from[(long long)best_of(p, from, oy, ox) * p.c];
    return;
  }
  float sum = 0.0f;
  for (int y = first(p, oy); y < last(p, oy, p.h); y++)
    for (int column = first(p, ox); column < last(p, ox, p.w); column++)
      sum += wide(from[(long long)(y * p.w + column) * p.c]);
  out[i] = narrow<T>(sum * weight(p, oy, ox));
}
#define POOL(T, S)                                                                                           \
  extern "C" __global__ void pool_##S(const T* x, T* out, int n, int h, int w, int oh, int ow, int c,        \
                                      int kernel, int stride, int padding, int kind) {                       \
    pool<T>(x, out, n, Windows{h, w, oh, ow, c, kernel, stride, padding, kind});                             \
  }
BOTH(POOL)

template <typename T> __device__ void pool_backward(const T* d, const T* x, T* dx, int n, Windows p) {
  const int i = thread();
  if (i >= n * p.h * p.w * p.c) return;
  const int c = i % p.c, column = i / p.c % p.w, y = i / p.c / p.w % p.h, image = i / p.c / p.w / p.h;
  const T* from = x + (long long)image * p.h * p.w * p.c + c;
  const T* grad = d + (long long)image * p.oh * p.ow * p.c + c;
  // Windows whose reach holds this pixel.
  const int reach_y = y + p.padding - p.kernel, reach_x = column + p.padding - p.kernel;
  const int oy0 = reach_y < 0 ? 0 : reach_y / p.stride + 1, ox0 = reach_x < 0 ? 0 : reach_x / p.stride + 1;
  const int oy1 = min((y + p.padding) / p.stride, p.oh - 1), ox1 = min((column + p.padding) / p.stride, p.ow - 1);
  float sum = 0.0f;
  for (int oy = oy0; oy <= oy1; oy++)
    for (int ox = ox0; ox <= ox1; ox++) {
      const float g = wide(grad[(long long)(oy * p.ow + ox) * p.c]);
      if (p.kind != 0) sum += g * weight(p, oy, ox);
      else if (best_of(p, from, oy, ox) == y * p.w + column) sum += g;
    }
  dx[i] = narrow<T>(sum);
}
#define POOL_BACKWARD(T, S)                                                                                  \
  extern "C" __global__ void pool_backward_##S(const T* d, const T* x, T* dx, int n, int h, int w, int oh,   \
                                               int ow, int c, int kernel, int stride, int padding,           \
                                               int kind) {                                                   \
    pool_backward<T>(d, x, dx, n, Windows{h, w, oh, ow, c, kernel, stride, padding, kind});                  \
  }
BOTH(POOL_BACKWARD)

// Window `o` of `windows` over `size`: from ⌊o·size/windows⌋ to ⌈(o+1)·size/windows⌉.
__device__ __forceinline__ int low(int o, int size, int windows) { return o * size / windows; }
__device__ __forceinline__ int high(int o, int size, int windows) { return ((o + 1) * size + windows - 1) / windows; }

template <typename T> __device__ void adaptive(const T* x, T* out, int n, int h, int w, int oh, int ow, int c) {
  const int i = thread();
  if (i >= n * oh * ow * c) return;
  const int ox = i / c % ow, oy = i / c / ow % oh, image = i / c / ow / oh;
  const int y0 = low(oy, h, oh), y1 = high(oy, h, oh), x0 = low(ox, w, ow), x1 = high(ox, w, ow);
  float sum = 0.0f;
  for (int y = y0; y < y1; y++)
    for (int column = x0; column < x1; column++) sum += wide(x[((long long)(image * h + y) * w + column) * c + i % c]);
  out[i] = narrow<T>(sum / (float)((y1 - y0) * (x1 - x0)));
}
#define ADAPTIVE(T, S)                                                                                       \
  extern "C" __global__ void adaptive_##S(const T* x, T* out, int n, int h, int w, int oh, int ow, int c) {  \
    adaptive<T>(x, out, n, h, w, oh, ow, c);                                                                 \
  }
BOTH(ADAPTIVE)

template <typename T> __device__ void adaptive_backward(const T* d, T* dx, int n, int h, int w, int oh, int ow, int c) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int column = i / c % w, y = i / c / w % h, image = i / c / w / h;
  float sum = 0.0f;
  for (int oy = 0; oy < oh; oy++) {
    const int y0 = low(oy, h, oh), y1 = high(oy, h, oh);
    if (y < y0 || y >= y1) continue;
    for (int ox = 0; ox < ow; ox++) {
      const int x0 = low(ox, w, ow), x1 = high(ox, w, ow);
      if (column < x0 || column >= x1) continue;
      sum += wide(d[((long long)(image * oh + oy) * ow + ox) * c + i % c]) / (float)((y1 - y0) * (x1 - x0));
    }
  }
  dx[i] = narrow<T>(sum);
}
#define ADAPTIVE_BACKWARD(T, S)                                                                              \
  extern "C" __global__ void adaptive_backward_##S(const T* d, T* dx, int n, int h, int w, int oh, int ow,   \
                                                   int c) {                                                  \
    adaptive_backward<T>(d, dx, n, h, w, oh, ow, c);                                                         \
  }
BOTH(ADAPTIVE_BACKWARD)

// Where output `o` of `to` reads an axis of `from`: two places and the weight of the second. Half-pixel centres, or, aligned,
// the corner pixels of both on each other.
__device__ __forceinline__ void between(int o, int from, int to, int aligned, int& lower, int& upper, float& share) {
  const float at = aligned ? (float)o * ((float)(from - 1) / (float)max(to - 1, 1))
                           : fmaxf(((float)o + 0.5f) * ((float)from / (float)to) - 0.5f, 0.0f);
  lower = min((int)at, from - 1);
  upper = min(lower + 1, from - 1);
  share = at - (float)lower;
}

template <typename T>
__device__ void bilinear(const T* x, T* out, int n, int h, int w, int oh, int ow, int c, int aligned) {
  const int i = thread();
  if (i >= n * oh * ow * c) return;
  const int ox = i / c % ow, oy = i / c / ow % oh, image = i / c / ow / oh;
  int y0, y1, x0, x1;
  float fy, fx;
  between(oy, h, oh, aligned, y0, y1, fy);
  between(ox, w, ow, aligned, x0, x1, fx);
  const T* from = x + (long long)image * h * w * c + i % c;
  const float a = wide(from[(long long)(y0 * w + x0) * c]), b = wide(from[(long long)(y0 * w + x1) * c]);
  const float e = wide(from[(long long)(y1 * w + x0) * c]), f = wide(from[(long long)(y1 * w + x1) * c]);
  out[i] = narrow<T>((1.0f - fy) * ((1.0f - fx) * a + fx * b) + fy * ((1.0f - fx) * e + fx * f));
}
#define BILINEAR(T, S)                                                                                       \
  extern "C" __global__ void bilinear_##S(const T* x, T* out, int n, int h, int w, int oh, int ow, int c,    \
                                          int aligned) {                                                     \
    bilinear<T>(x, out, n, h, w, oh, ow, c, aligned);                                                        \
  }
BOTH(BILINEAR)

// How much output `o` reads of place `at`.
__device__ __forceinline__ float share_of(int o, int at, int from, int to, int aligned) {
  int lower, upper;
  float share;
  between(o, from, to, aligned, lower, upper, share);
  return (lower == at ? 1.0f - share : 0.0f) + (upper == at ? share : 0.0f);
}

// Outputs that may read place `at`: their centres lie within one place of it.
__device__ __forceinline__ void readers(int at, int from, int to, int aligned, int& start, int& end) {
  if (aligned && from == 1) {
    start = 0;
    end = to;
    return;
  }
  const float scale = aligned ? (float)max(to - 1, 1) / (float)(from - 1) : (float)to / (float)from;
  const float shift = aligned ? 0.0f : 0.5f;  // from a place to its centre
  start = at == 0 ? 0 : max((int)(((float)(at - 1) + shift) * scale - shift) - 1, 0);
  end = at == from - 1 ? to : min((int)(((float)(at + 1) + shift) * scale - shift) + 2, to);
}

template <typename T>
__device__ void bilinear_backward(const T* d, T* dx, int n, int h, int w, int oh, int ow, int c, int aligned) {
  const int i = thread();
  if (i >= n * h * w * c) return;
  const int column = i / c % w, y = i / c / w % h, image = i / c / w / h;
  int y0, y1, x0, x1;
  readers(y, h, oh, aligned, y0, y1);
  readers(column, w, ow, aligned, x0, x1);
  float sum = 0.0f;
  for (int oy = y0; oy < y1; oy++) {
    const float fy = share_of(oy, y, h, oh, aligned);
    if (fy == 0.0f) continue;
    for (int ox = x0; ox < x1; ox++) {
      const float fx = share_of(ox, column, w, ow, aligned);
      if (fx != 0.0f) sum += fy * fx * wide(d[((long long)(image * oh + oy) * ow + ox) * c + i % c]);
    }
  }
  dx[i] = narrow<T>(sum);
}
#define BILINEAR_BACKWARD(T, S)                                                                              \
  extern "C" __global__ void bilinear_backward_##S(const T* d, T* dx, int n, int h, int w, int oh, int ow,   \
                                                   int c, int aligned) {                                     \
    bilinear_backward<T>(d, dx, n, h, w, oh, ow, c, aligned);                                                \
  }
BOTH(BILINEAR_BACKWARD)
