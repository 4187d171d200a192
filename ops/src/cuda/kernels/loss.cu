// Losses over rows of logits, a warp per row: value per row and gradient with respect to the logits, in f32. The host adds the
// values up in f64.
#include "common.cuh"

__device__ __forceinline__ int row_of() { return blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; }
__device__ __forceinline__ int lane() { return threadIdx.x % 32; }

// The largest value of a row (the first place of it comes out too).
__device__ float row_max(const float* row, int k, int* place) {
  float best = -INFINITY;
  int at = k;
  for (int c = lane(); c < k; c += 32)
    if (row[c] > best || at == k) {
      best = row[c];
      at = c;
    }
  warp_first_max(best, at);
  *place = at;
  return best;
}

// log Σ exp(row/t), given the largest value.
__device__ float log_sum(const float* row, int k, float inverse, float largest) {
  float sum = 0.0f;
  for (int c = lane(); c < k; c += 32) sum += expf((row[c] - largest) * inverse);
  return logf(warp_sum(sum)) + largest * inverse;
}

// Weighted cross-entropy against rows of probabilities, or against labels if those are given.
extern "C" __global__ void cross_entropy(const float* logits, const float* targets, const unsigned* labels,
                                         const float* weights, int n, int k, float* grad, float* values) {
  const int row = row_of();
  if (row >= n) return;
  const float* z = logits + (long long)row * k;
  int place;
  const float largest = row_max(z, k, &place), sum = log_sum(z, k, 1.0f, largest);
  const float w = (weights ? weights[row] : 1.0f) / (float)n;
  float value = 0.0f, mass = 0.0f;
  for (int c = lane(); c < k; c += 32) {
    const float t = labels ? (labels[row] == (unsigned)c ? 1.0f : 0.0f) : targets[(long long)row * k + c];
    // A target of 0 has no part, however unlikely the class.
    if (t != 0.0f) value -= t * (z[c] - sum);
    mass += t;
  }
  value = warp_sum(value);
  mass = warp_sum(mass);
  // NaN logits leave no trace above where their target is 0.
  for (int c = lane(); c < k; c += 32) {
    const float t = labels ? (labels[row] == (unsigned)c ? 1.0f : 0.0f) : targets[(long long)row * k + c];
    grad[(long long)row * k + c] = w * (mass * expf(z[c] - sum) - t);
  }
  if (lane() == 0) values[row] = sum != sum ? sum : w * value;
}

// T²·KL(softmax(t/T) ‖ softmax(s/T)), or with T = 0 half the mean square of centred differences.
extern "C" __global__ void matching(const float* student, const float* teacher, const float* weights, float temperature,
                                    int n, int k, float* grad, float* values) {
  const int row = row_of();
  if (row >= n) return;
  const float* s = student + (long long)row * k;
  const float* t = teacher + (long long)row * k;
  float* g = grad + (long long)row * k;
  const float w = (weights ? weights[row] : 1.0f) / (float)n;
  float value = 0.0f;
  if (temperature == 0.0f) {
    float sum = 0.0f;
    for (int c = lane(); c < k; c += 32) sum += s[c] - t[c];
    const float mean = warp_sum(sum) / (float)k;
    for (int c = lane(); c < k; c += 32) {
      const float d = s[c] - t[c] - mean;
      value += d * d;
      g[c] = w * d / (float)k;
    }
    value = warp_sum(value) / (2.0f * (float)k);
  } else {
    const float inverse = 1.0f / temperature;
    int place;
    const float log_s = log_sum(s, k, inverse, row_max(s, k, &place));
    const float log_t = log_sum(t, k, inverse, row_max(t, k, &place));
    for (int c = lane(); c < k; c += 32) {
      const float ls = s[c] * inverse - log_s, lt = t[c] * inverse - log_t, p = expf(lt);
      if (p > 0.0f || p != p) value += p * (lt - ls);
      g[c] = w * temperature * (expf(ls) - p);
    }
    value = warp_sum(value) * temperature * temperature;
  }
  if (lane() == 0) values[row] = w * value;
}

// KL(softmax(t/T) ‖ softmax(s/T)) of every row, and whether both decide alike.
extern "C" __global__ void gaps(const float* student, const float* teacher, float temperature, int n, int k, float* gap,
                                float* alike) {
  const int row = row_of();
  if (row >= n) return;
  const float* s = student + (long long)row * k;
  const float* t = teacher + (long long)row * k;
  const float inverse = 1.0f / temperature;
  int s_place, t_place;
  const float log_s = log_sum(s, k, inverse, row_max(s, k, &s_place));
  const float log_t = log_sum(t, k, inverse, row_max(t, k, &t_place));
  float value = 0.0f;
  for (int c = lane(); c < k; c += 32) {
    const float ls = s[c] * inverse - log_s, lt = t[c] * inverse - log_t, p = expf(lt);
    if (p > 0.0f || p != p) value += p * (lt - ls);
  }
  value = warp_sum(value);
  if (lane() == 0) {
    gap[row] = value < 0.0f ? 0.0f : value;
    alike[row] = s_place == t_place ? 1.0f : 0.0f;
  }
}

// −KL(p_T ‖ p_S)/n where both decide alike, with both gradients.
extern "C" __global__ void disagreement(const float* teacher, const float* adversary, int n, int k, float* dt, float* ds,
                                        float* values, float* alike) {
  const int row = row_of();
  if (row >= n) return;
  const float* t = teacher + (long long)row * k;
  const float* s = adversary + (long long)row * k;
  int t_place, s_place;
  const float t_max = row_max(t, k, &t_place), s_max = row_max(s, k, &s_place);
  const bool same = t_place == s_place;
  const float log_t = log_sum(t, k, 1.0f, t_max), log_s = log_sum(s, k, 1.0f, s_max);
  float kl = 0.0f;
  for (int c = lane(); c < k; c += 32) {
    const float lt = t[c] - log_t, p = expf(lt);
    if (p > 0.0f || p != p) kl += p * (lt - (s[c] - log_s));
  }
  kl = warp_sum(kl);
  const float share = same ? 1.0f / (float)n : 0.0f;
  for (int c = lane(); c < k; c += 32) {
    const float lt = t[c] - log_t, ls = s[c] - log_s, p = expf(lt);
    dt[(long long)row * k + c] = same ? -p * (lt - ls - kl) * share : 0.0f;
    ds[(long long)row * k + c] = same ? -(expf(ls) - p) * share : 0.0f;
  }
  if (lane() == 0) {
    values[row] = same ? -kl * share : 0.0f;
    alike[row] = same ? 1.0f : 0.0f;
  }
}

// Batch-norm matching of one layer: block 0 the means, block 1 the variances, 256 threads each. The deviation is
// (own·observed + past_share·past − goal)/unit; its norm times `scale` is the value, `factor` multiplies the gradient.
extern "C" __global__ void bn_deviation(const float* observed, const float* goal, const float* unit, const float* past,
                                        float own, float past_share, float scale, float factor, int channels, float* grad,
                                        float* values) {
  __shared__ float part[256];
  const int offset = blockIdx.x * channels;
  float sum = 0.0f;
  for (int c = threadIdx.x; c < channels; c += 256) {
    const float seen = own * observed[offset + c] + (past ? past_share * past[offset + c] : 0.0f);
    const float d = (seen - goal[offset + c]) / unit[offset + c];
    sum += d * d;
  }
  part[threadIdx.x] = sum;
  __syncthreads();
  for (int half = 128; half > 0; half >>= 1) {
    if ((int)threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  const float norm = sqrtf(part[0]);
  for (int c = threadIdx.x; c < channels; c += 256) {
    const float seen = own * observed[offset + c] + (past ? past_share * past[offset + c] : 0.0f);
    const float u = unit[offset + c], d = (seen - goal[offset + c]) / u;
    grad[offset + c] = norm > 0.0f ? factor * scale * own * d / (norm * u) : 0.0f;
  }
  if (threadIdx.x == 0) values[blockIdx.x] = scale * norm;
}

// Columns `start..width` of every row become 0.
extern "C" __global__ void clear_columns(float* x, int rows, int width, int start) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x, count = width - start;
  if (i < rows * count) x[(long long)(i / count) * width + start + i % count] = 0.0f;
}
