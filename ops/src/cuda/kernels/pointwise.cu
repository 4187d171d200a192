// Element-wise passes: 16 bytes per thread where all of it exists, single values at the end.
#include "common.cuh"

// Calls f(first, W) for the values of this thread.
template <typename T, typename F> __device__ __forceinline__ void spread(int n, F f) {
  const int W = Wide<T>::N;
  const long long first = (long long)(blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (first + W <= n) {
    f.template run<W>((int)first);
  } else {
    for (long long i = first; i < n; i++) f.template run<1>((int)i);
  }
}

template <typename T> struct Activate {
  const T* x;
  T* y;
  Act act;
  template <int W> __device__ void run(int i) {
    float v[W];
    load<T, W>(x + i, v);
    for (int k = 0; k < W; k++) v[k] = apply(act, v[k]);
    store<T, W>(y + i, v);
  }
};
#define ACTIVATE(T, S)                                                                             \
  extern "C" __global__ void activate_##S(const T* x, T* y, int n, float slope, float cap) {       \
    spread<T>(n, Activate<T>{x, y, Act{slope, cap}});                                              \
  }
BOTH(ACTIVATE)

// d ← d·act'(y)
template <typename T> struct Mask {
  T* d;
  const T* y;
  Act act;
  template <int W> __device__ void run(int i) {
    float v[W], out[W];
    load<T, W>(d + i, v);
    load<T, W>(y + i, out);
    for (int k = 0; k < W; k++) v[k] *= derivative(act, out[k]);
    store<T, W>(d + i, v);
  }
};
#define MASK(T, S)                                                                                 \
  extern "C" __global__ void mask_##S(T* d, const T* y, int n, float slope, float cap) {           \
    spread<T>(n, Mask<T>{d, y, Act{slope, cap}});                                                  \
  }
BOTH(MASK)

// out = act(a + b); out may be a.
template <typename T> struct Add {
  const T* a;
  const T* b;
  T* out;
  Act act;
  template <int W> __device__ void run(int i) {
    float v[W], w[W];
    load<T, W>(a + i, v);
    load<T, W>(b + i, w);
    for (int k = 0; k < W; k++) v[k] = apply(act, v[k] + w[k]);
    store<T, W>(out + i, v);
  }
};
#define ADD(T, S)                                                                                  \
  extern "C" __global__ void add_##S(const T* a, const T* b, T* out, int n, float slope, float cap) { \
    spread<T>(n, Add<T>{a, b, out, Act{slope, cap}});                                              \
  }
BOTH(ADD)

// x ← k·x
template <typename T> struct Scale {
  T* x;
  float factor;
  template <int W> __device__ void run(int i) {
    float v[W];
    load<T, W>(x + i, v);
    for (int k = 0; k < W; k++) v[k] *= factor;
    store<T, W>(x + i, v);
  }
};
#define SCALE(T, S)                                                                                \
  extern "C" __global__ void scale_##S(T* x, int n, float factor) { spread<T>(n, Scale<T>{x, factor}); }
BOTH(SCALE)

// The functions of UnaryOp; numbers as in `cuda/pointwise.rs`.
__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

__device__ __forceinline__ float smooth(int op, float x) {
  if (op == 0) return sigmoid(x);
  if (op == 1) return x * sigmoid(1.702f * x);
  if (op == 3) return fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
  if (op == 4) return x * fminf(fmaxf(x + 3.0f, 0.0f), 6.0f) / 6.0f;
  return x * sigmoid(x);
}

// From the output for the sigmoid, from the input for the others.
__device__ __forceinline__ float smooth_derivative(int op, float kept) {
  if (op == 0) return kept * (1.0f - kept);
  if (op == 3) return fabsf(kept) < 3.0f ? 1.0f / 6.0f : 0.0f;
  if (op == 4) return kept <= -3.0f ? 0.0f : kept >= 3.0f ? 1.0f : kept / 3.0f + 0.5f;
  const float slope = op == 1 ? 1.702f : 1.0f;
  const float s = sigmoid(slope * kept);
  return s + slope * kept * s * (1.0f - s);
}

template <typename T> struct Smooth {
  const T* x;
  T* y;
  int op;
  template <int W> __device__ void run(int i) {
    float v[W];
    load<T, W>(x + i, v);
    for (int k = 0; k < W; k++) v[k] = smooth(op, v[k]);
    store<T, W>(y + i, v);
  }
};
#define SMOOTH(T, S)                                                                               \
  extern "C" __global__ void smooth_##S(const T* x, T* y, int n, int op) { spread<T>(n, Smooth<T>{x, y, op}); }
BOTH(SMOOTH)

template <typename T> struct SmoothBackward {
  T* d;
  const T* kept;
  int op;
  template <int W> __device__ void run(int i) {
    float v[W], x[W];
    load<T, W>(d + i, v);
    load<T, W>(kept + i, x);
    for (int k = 0; k < W; k++) v[k] *= smooth_derivative(op, x[k]);
    store<T, W>(d + i, v);
  }
};
#define SMOOTH_BACKWARD(T, S)                                                                      \
  extern "C" __global__ void smooth_backward_##S(T* d, const T* kept, int n, int op) {             \
    spread<T>(n, SmoothBackward<T>{d, kept, op});                                                  \
  }
BOTH(SMOOTH_BACKWARD)

// The same values in the other element type.
extern "C" __global__ void cast_f32_bf16(const float* x, bf16* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __float2bfloat16(x[i]);
}

extern "C" __global__ void cast_bf16_f32(const bf16* x, float* y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __bfloat162float(x[i]);
}

// What a convolution leaves to its epilogue, in place: y ← act(y + bias + residual); bias and residual may be null.
template <typename T, int W> __device__ void after(T* y, const float* bias, const T* residual, int n, int channels, Act act) {
  const long long at = (long long)(blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (at >= n) return;
  float v[W], r[W];
  load<T, W>(y + at, v);
  if (residual) load<T, W>(residual + at, r);
  const int c = (int)(at % channels);
  for (int k = 0; k < W; k++) {
    const float with_bias = v[k] + (bias ? bias[c + k] : 0.0f);
    v[k] = apply(act, residual ? with_bias + r[k] : with_bias);
  }
  store<T, W>(y + at, v);
}
#define AFTER(T, S)                                                                                          \
  extern "C" __global__ void after_##S(T* y, const float* bias, const T* residual, int n, int channels,      \
                                       float slope, float cap) {                                             \
    after<T, Wide<T>::N>(y, bias, residual, n, channels, Act{slope, cap});                                   \
  }                                                                                                          \
  extern "C" __global__ void after1_##S(T* y, const float* bias, const T* residual, int n, int channels,     \
                                        float slope, float cap) {                                            \
    after<T, 1>(y, bias, residual, n, channels, Act{slope, cap});                                            \
  }
BOTH(AFTER)

// y = x above 0, slope[c]·x elsewhere
template <typename T> __device__ void prelu(const T* x, const float* slope, T* y, int n, int channels) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float v = wide(x[i]);
  y[i] = narrow<T>(v > 0.0f ? v : slope[i % channels] * v);
}
#define PRELU(T, S)                                                                                          \
  extern "C" __global__ void prelu_##S(const T* x, const float* slope, T* y, int n, int channels) {          \
    prelu<T>(x, slope, y, n, channels);                                                                      \
  }
BOTH(PRELU)

// d ← d·prelu'(x), and in `parts` what every value adds to the gradient of its channel's slope.
template <typename T>
__device__ void prelu_backward(T* d, const T* x, const float* slope, T* parts, int n, int channels) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float g = wide(d[i]), v = wide(x[i]);
  const bool below = v <= 0.0f;
  parts[i] = narrow<T>(below ? g * v : 0.0f);
  d[i] = narrow<T>(below ? slope[i % channels] * g : g);
}
#define PRELU_BACKWARD(T, S)                                                                                 \
  extern "C" __global__ void prelu_backward_##S(T* d, const T* x, const float* slope, T* parts, int n,       \
                                                int channels) {                                              \
    prelu_backward<T>(d, x, slope, parts, n, channels);                                                      \
  }
BOTH(PRELU_BACKWARD)

// out[n,p,c] = x[n,p,c]·s[n,c]
template <typename T> __device__ void gate(const T* x, const float* s, T* out, int n, int pixels, int channels) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const int c = i % channels, image = i / channels / pixels;
  out[i] = narrow<T>(wide(x[i]) * s[image * channels + c]);
}
#define GATE(T, S)                                                                                           \
  extern "C" __global__ void gate_##S(const T* x, const float* s, T* out, int n, int pixels, int channels) { \
    gate<T>(x, s, out, n, pixels, channels);                                                                 \
  }
BOTH(GATE)

// d ← d·s and ds = Σ d·x over pixels, with d as it was; one thread per image and channel, rows of a block share pixels.
template <typename T>
__device__ void gate_backward(T* d, const T* x, const float* s, float* ds, int pixels, int channels) {
  __shared__ float part[8][33];
  const int c = blockIdx.x * 32 + threadIdx.x, image = blockIdx.y;
  float sum = 0.0f;
  if (c < channels) {
    const float factor = s[image * channels + c];
    for (int p = threadIdx.y; p < pixels; p += 8) {
      const int at = (image * pixels + p) * channels + c;
      const float g = wide(d[at]);
      sum += g * wide(x[at]);
      d[at] = narrow<T>(g * factor);
    }
  }
  part[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y == 0 && c < channels) {
    for (int k = 1; k < 8; k++) sum += part[k][threadIdx.x];
    ds[image * channels + c] = sum;
  }
}
#define GATE_BACKWARD(T, S)                                                                                  \
  extern "C" __global__ void gate_backward_##S(T* d, const T* x, const float* s, float* ds, int pixels,      \
                                               int channels) {                                               \
    gate_backward<T>(d, x, s, ds, pixels, channels);                                                         \
  }
BOTH(GATE_BACKWARD)
