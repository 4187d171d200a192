// Updates of all tensors of a network in one launch. `table` begins with two numbers (f32, in the low bits) that change from step
// to step; then it has six entries per tensor: four pointers (what each means is said below), the first block of the tensor, and
// its number of values in the low 32 bits with flags above. A block takes 1024 values of one tensor.
const int PER_BLOCK = 1024;

struct Piece {
  float* p[4];
  int start, end, flags;
};

__device__ __forceinline__ float number(const unsigned long long* table, int i) {
  return __uint_as_float((unsigned)table[i]);
}

// The piece of this block: the last tensor whose first block is not behind it.
__device__ Piece piece(const unsigned long long* table, int tensors) {
  table += 2;
  int low = 0, high = tensors - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (table[6 * middle + 4] <= (unsigned long long)blockIdx.x) low = middle;
    else high = middle - 1;
  }
  const unsigned long long* row = table + 6 * low;
  Piece out;
  for (int k = 0; k < 4; k++) out.p[k] = reinterpret_cast<float*>(row[k]);
  const int n = (int)(row[5] & 0xffffffffull);
  out.start = (int)(blockIdx.x - row[4]) * PER_BLOCK;
  out.end = min(out.start + PER_BLOCK, n);
  out.flags = (int)(row[5] >> 32);
  return out;
}

// Numbers: learning rate. Pointers: parameter, gradient, velocity. Flags: 1 the velocity is new, 2 weight decay pulls.
extern "C" __global__ void sgd(const unsigned long long* table, int tensors, float momentum, int nesterov,
                               float weight_decay) {
  const float lr = number(table, 0);
  const Piece piece_ = piece(table, tensors);
  float *p = piece_.p[0], *g = piece_.p[1], *v = piece_.p[2];
  const float decay = piece_.flags & 2 ? weight_decay : 0.0f;
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += blockDim.x) {
    const float grad = g[i] + decay * p[i];
    const float velocity = piece_.flags & 1 ? grad : momentum * v[i] + grad;
    v[i] = velocity;
    p[i] -= lr * (nesterov ? grad + momentum * velocity : velocity);
  }
}

// Numbers: step length and the square root of the second correction. Pointers: parameter, gradient, first moment, second moment.
// Flag 1: the moments are new.
extern "C" __global__ void adam(const unsigned long long* table, int tensors, float beta1, float beta2, float eps) {
  const float step = number(table, 0), root = number(table, 1);
  const Piece piece_ = piece(table, tensors);
  float *p = piece_.p[0], *g = piece_.p[1], *m = piece_.p[2], *v = piece_.p[3];
  const bool fresh = piece_.flags & 1;
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += blockDim.x) {
    const float grad = g[i];
    const float first = beta1 * (fresh ? 0.0f : m[i]) + (1.0f - beta1) * grad;
    const float second = beta2 * (fresh ? 0.0f : v[i]) + (1.0f - beta2) * grad * grad;
    m[i] = first;
    v[i] = second;
    p[i] -= step * first / (sqrtf(second) / root + eps);
  }
}

// Numbers: alpha and beta. Pointers: a, b. a ← alpha·a + beta·b; with alpha 0, a is not read.
extern "C" __global__ void blend(const unsigned long long* table, int tensors) {
  const float alpha = number(table, 0), beta = number(table, 1);
  const Piece piece_ = piece(table, tensors);
  float *a = piece_.p[0], *b = piece_.p[1];
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += blockDim.x) {
    a[i] = alpha == 0.0f ? beta * b[i] : alpha * a[i] + beta * b[i];
  }
}
