// Batch normalisation over rows of channels. Blocks are (vectors of channels) x (rows): a thread keeps to its channels and
// walks rows, so that what belongs to a channel stays in registers and a warp reads contiguous memory.
//
// Sums are f32 per block, then f64 over the blocks in order.
#include "common.cuh"

const int THREADS = 256;

// Adds up 2·W values of the threads of one column; row 0 has the total.
template <int W> __device__ void over_rows(float* part, float* mine) {
  const int t = threadIdx.y * blockDim.x + threadIdx.x;
  for (int k = 0; k < 2 * W; k++) part[k * THREADS + t] = mine[k];
  __syncthreads();
  int half = 1;
  while (half < (int)blockDim.y) half <<= 1;
  for (half >>= 1; half > 0; half >>= 1) {
    if ((int)threadIdx.y < half && threadIdx.y + half < blockDim.y) {
      for (int k = 0; k < 2 * W; k++) part[k * THREADS + t] += part[k * THREADS + t + half * blockDim.x];
    }
    __syncthreads();
  }
  for (int k = 0; k < 2 * W; k++) mine[k] = part[k * THREADS + t];
}

// partial[piece] = Σ x, Σ x² per channel over the rows of the piece.
template <typename T, int W>
__device__ void moments(const T* x, float* partial, int rows, int channels, int rows_per_block, float* part) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * W;
  const int start = blockIdx.y * rows_per_block;
  const int end = min(start + rows_per_block, rows);
  float sums[2 * W];
  for (int k = 0; k < 2 * W; k++) sums[k] = 0.0f;
  if (c < channels) {
    for (int row = start + threadIdx.y; row < end; row += blockDim.y) {
      float v[W];
      load<T, W>(x + (long long)row * channels + c, v);
      for (int k = 0; k < W; k++) {
        sums[k] += v[k];
        sums[W + k] += v[k] * v[k];
      }
    }
  }
  over_rows<W>(part, sums);
  if (threadIdx.y == 0 && c < channels) {
    float* out = partial + (long long)blockIdx.y * 2 * channels + c;
    for (int k = 0; k < W; k++) {
      out[k] = sums[k];
      out[channels + k] = sums[W + k];
    }
  }
}
#define MOMENTS(T, S)                                                                                        \
  extern "C" __global__ void moments_##S(const T* x, float* partial, int rows, int channels, int per_block) { \
    __shared__ float part[2 * Wide<T>::N * THREADS];                                                         \
    moments<T, Wide<T>::N>(x, partial, rows, channels, per_block, part);                                     \
  }                                                                                                          \
  extern "C" __global__ void moments1_##S(const T* x, float* partial, int rows, int channels, int per_block) { \
    __shared__ float part[2 * THREADS];                                                                      \
    moments<T, 1>(x, partial, rows, channels, per_block, part);                                              \
  }
BOTH(MOMENTS)

// Both sums over the pieces for channel `c`, in f64, by the 8 rows of a block of 32x8; row 0 has them.
__device__ void over_pieces(const float* partial, int pieces, int channels, int c, double* first, double* second) {
  __shared__ double part[2][8][32];
  double a = 0.0, b = 0.0;
  if (c < channels) {
    for (int p = threadIdx.y; p < pieces; p += 8) {
      a += partial[(long long)p * 2 * channels + c];
      b += partial[(long long)p * 2 * channels + channels + c];
    }
  }
  part[0][threadIdx.y][threadIdx.x] = a;
  part[1][threadIdx.y][threadIdx.x] = b;
  __syncthreads();
  a = b = 0.0;
  for (int k = 0; k < 8; k++) {
    a += part[0][k][threadIdx.x];
    b += part[1][k][threadIdx.x];
  }
  *first = a;
  *second = b;
}

// coefficients: scale, shift, mean, 1/σ, a row of channels each.
__device__ void coefficients(float* out, int channels, int c, double mean, double var, float weight, float bias, float eps) {
  const double rstd = 1.0 / sqrt(var + (double)eps);
  const double scale = (double)weight * rstd;
  out[c] = (float)scale;
  out[channels + c] = (float)((double)bias - scale * mean);
  out[2 * channels + c] = (float)mean;
  out[3 * channels + c] = (float)rstd;
}

// Mean and biased variance from partial sums into `moments`. With `train` they normalise and the running statistics move
// towards them (the variance unbiased); else the running ones normalise.
extern "C" __global__ void norm_finish(const float* partial, int pieces, int channels, float count, float* moments,
                                       const float* weight, const float* bias, float* running_mean, float* running_var,
                                       float eps, float momentum, int train, float* out) {
  const int c = blockIdx.x * 32 + threadIdx.x;
  double sum, squares;
  over_pieces(partial, pieces, channels, c, &sum, &squares);
  if (threadIdx.y != 0 || c >= channels) return;
  const double n = (double)count, mean = sum / n;
  const double raw = squares / n - mean * mean, var = raw > 0.0 ? raw : (raw != raw ? raw : 0.0);
  moments[c] = (float)mean;
  moments[channels + c] = (float)var;
  if (!train) {
    coefficients(out, channels, c, running_mean[c], running_var[c], weight[c], bias[c], eps);
    return;
  }
  coefficients(out, channels, c, mean, var, weight[c], bias[c], eps);
  const double unbias = n / (n > 2.0 ? n - 1.0 : 1.0), m = (double)momentum;
  running_mean[c] = (float)((1.0 - m) * (double)running_mean[c] + m * mean);
  running_var[c] = (float)((1.0 - m) * (double)running_var[c] + m * var * unbias);
}

// The coefficients of a frozen norm.
extern "C" __global__ void norm_frozen(const float* weight, const float* bias, const float* mean, const float* var,
                                       float eps, int channels, float* out) {
  const int c = blockIdx.x * blockDim.x + threadIdx.x;
  if (c < channels) coefficients(out, channels, c, mean[c], var[c], weight[c], bias[c], eps);
}

// Σ per channel alone: the gradient of a bias.
extern "C" __global__ void column_sums(const float* partial, int pieces, int channels, float* out) {
  const int c = blockIdx.x * 32 + threadIdx.x;
  double sum, squares;
  over_pieces(partial, pieces, channels, c, &sum, &squares);
  if (threadIdx.y == 0 && c < channels) out[c] = (float)sum;
}

// y = act(scale·x + shift + residual); residual may be null.
template <typename T, int W>
__device__ void norm_apply(const T* x, const float* scale, const float* shift, const T* residual, T* y, int rows,
                           int channels, int rows_per_block, Act act) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (c >= channels) return;
  float a[W], b[W];
  for (int k = 0; k < W; k++) {
    a[k] = scale[c + k];
    b[k] = shift[c + k];
  }
  const int start = blockIdx.y * rows_per_block;
  const int end = min(start + rows_per_block, rows);
  for (int row = start + threadIdx.y; row < end; row += blockDim.y) {
    const long long at = (long long)row * channels + c;
    float v[W], r[W];
    load<T, W>(x + at, v);
    if (residual) load<T, W>(residual + at, r);
    for (int k = 0; k < W; k++) {
      const float mapped = a[k] * v[k] + b[k];
      v[k] = apply(act, residual ? mapped + r[k] : mapped);
    }
    store<T, W>(y + at, v);
  }
}
#define NORM_APPLY(NAME, T, W)                                                                               \
  extern "C" __global__ void NAME(const T* x, const float* scale, const float* shift, const T* residual,     \
                                  T* y, int rows, int channels, int per_block, float slope, float cap) {     \
    norm_apply<T, W>(x, scale, shift, residual, y, rows, channels, per_block, Act{slope, cap});              \
  }
NORM_APPLY(norm_apply_f32, float, 4)
NORM_APPLY(norm_apply1_f32, float, 1)
NORM_APPLY(norm_apply_bf16, bf16, 8)
NORM_APPLY(norm_apply1_bf16, bf16, 1)

// The gradient through the activation: by the written output if there is one, else by the map of the input.
__device__ __forceinline__ float through(Act act, float d, float x, float scale, float shift, const float* y, int k) {
  return d * derivative(act, y ? y[k] : apply(act, scale * x + shift));
}

// partial[piece] = Σ g and Σ g·(x − mean), g being `d` through the activation. With `keep`, g is written over `d`.
template <typename T, int W>
__device__ void norm_backward_sums(T* d, const T* x, const T* y, const float* coefficients, float* partial, int rows,
                                   int channels, int rows_per_block, Act act, int keep, float* part) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * W;
  float sums[2 * W], scale[W], shift[W], mean[W];
  for (int k = 0; k < 2 * W; k++) sums[k] = 0.0f;
  if (c < channels) {
    for (int k = 0; k < W; k++) {
      scale[k] = coefficients[c + k];
      shift[k] = coefficients[channels + c + k];
      mean[k] = coefficients[2 * channels + c + k];
    }
    const int start = blockIdx.y * rows_per_block;
    const int end = min(start + rows_per_block, rows);
    for (int row = start + threadIdx.y; row < end; row += blockDim.y) {
      const long long at = (long long)row * channels + c;
      float g[W], v[W], out[W];
      load<T, W>(d + at, g);
      load<T, W>(x + at, v);
      if (y) load<T, W>(y + at, out);
      for (int k = 0; k < W; k++) {
        g[k] = through(act, g[k], v[k], scale[k], shift[k], y ? out : nullptr, k);
        sums[k] += g[k];
        sums[W + k] += g[k] * (v[k] - mean[k]);
      }
      if (keep) store<T, W>(d + at, g);
    }
  }
  over_rows<W>(part, sums);
  if (threadIdx.y == 0 && c < channels) {
    float* out = partial + (long long)blockIdx.y * 2 * channels + c;
    for (int k = 0; k < W; k++) {
      out[k] = sums[k];
      out[channels + k] = sums[W + k];
    }
  }
}
#define NORM_BACKWARD_SUMS(NAME, T, W)                                                                       \
  extern "C" __global__ void NAME(T* d, const T* x, const T* y, const float* coefficients, float* partial,   \
                                  int rows, int channels, int per_block, float slope, float cap, int keep) { \
    __shared__ float part[2 * W * THREADS];                                                                  \
    norm_backward_sums<T, W>(d, x, y, coefficients, partial, rows, channels, per_block, Act{slope, cap},     \
                             keep, part);                                                                    \
  }
NORM_BACKWARD_SUMS(norm_backward_sums_f32, float, 4)
NORM_BACKWARD_SUMS(norm_backward_sums1_f32, float, 1)
NORM_BACKWARD_SUMS(norm_backward_sums_bf16, bf16, 8)
NORM_BACKWARD_SUMS(norm_backward_sums1_bf16, bf16, 1)

// dx = a·g + b·(x − mean) + c: the three rows of `k`, and the gradients of weight and bias.
//
// With `train` the statistics are the batch's: b and c take back what mean and variance carry. `dmoments` (null if
// nobody asks) are the gradients of mean and biased variance themselves; `partial` is null where no gradient came.
extern "C" __global__ void norm_backward_finish(const float* partial, int pieces, int channels, float count,
                                                const float* coefficients, const float* dmoments, const float* moments,
                                                int train, float* k, float* dweight, float* dbias) {
  const int c = blockIdx.x * 32 + threadIdx.x;
  double sum = 0.0, moment = 0.0;
  if (partial) over_pieces(partial, pieces, channels, c, &sum, &moment);
  if (threadIdx.y != 0 || c >= channels) return;
  const double scale = coefficients[c], mean = coefficients[2 * channels + c], rstd = coefficients[3 * channels + c];
  const double n = (double)count, dw = rstd * moment;
  double b = 0.0, offset = 0.0;
  if (train) {
    b = -scale * rstd * dw / n;
    offset = -scale * sum / n;
  }
  if (dmoments) {
    const double dmean = dmoments[c], dvar = dmoments[channels + c];
    b += 2.0 * dvar / n;
    // The deviation there is from the batch's mean, here from the one that normalised.
    offset += (dmean + 2.0 * dvar * (mean - (double)moments[c])) / n;
  }
  k[c] = (float)scale;
  k[channels + c] = (float)b;
  k[2 * channels + c] = (float)offset;
  if (dweight) dweight[c] = (float)dw;
  if (dbias) dbias[c] = (float)sum;
}

// dx = a·g + b·(x − mean) + c. `d` may be null (g = 0) or be dx itself; `masked`: d is already g.
template <typename T, int W>
__device__ void norm_backward(const T* d, const T* x, const T* y, const float* coefficients, const float* k3, T* dx,
                              int rows, int channels, int rows_per_block, Act act, int masked) {
  const int c = (blockIdx.x * blockDim.x + threadIdx.x) * W;
  if (c >= channels) return;
  float scale[W], shift[W], mean[W], a[W], b[W], offset[W];
  for (int k = 0; k < W; k++) {
    scale[k] = coefficients[c + k];
    shift[k] = coefficients[channels + c + k];
    mean[k] = coefficients[2 * channels + c + k];
    a[k] = k3[c + k];
    b[k] = k3[channels + c + k];
    offset[k] = k3[2 * channels + c + k];
  }
  const int start = blockIdx.y * rows_per_block;
  const int end = min(start + rows_per_block, rows);
  for (int row = start + threadIdx.y; row < end; row += blockDim.y) {
    const long long at = (long long)row * channels + c;
    float g[W], v[W], out[W];
    load<T, W>(x + at, v);
    if (d) load<T, W>(d + at, g);
    if (d && y && !masked) load<T, W>(y + at, out);
    for (int k = 0; k < W; k++) {
      float grad = 0.0f;
      if (d) grad = masked ? g[k] : through(act, g[k], v[k], scale[k], shift[k], y ? out : nullptr, k);
      v[k] = a[k] * grad + b[k] * (v[k] - mean[k]) + offset[k];
    }
    store<T, W>(dx + at, v);
  }
}
#define NORM_BACKWARD(NAME, T, W)                                                                            \
  extern "C" __global__ void NAME(const T* d, const T* x, const T* y, const float* coefficients,             \
                                  const float* k3, T* dx, int rows, int channels, int per_block, float slope, \
                                  float cap, int masked) {                                                   \
    norm_backward<T, W>(d, x, y, coefficients, k3, dx, rows, channels, per_block, Act{slope, cap}, masked);  \
  }
NORM_BACKWARD(norm_backward_f32, float, 4)
NORM_BACKWARD(norm_backward1_f32, float, 1)
NORM_BACKWARD(norm_backward_bf16, bf16, 8)
NORM_BACKWARD(norm_backward1_bf16, bf16, 1)
