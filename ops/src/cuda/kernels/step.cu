// Updates of all tensors of a network in one launch. `table` begins with two numbers (f32, in the low bits) that change from step
// to step; then it has six entries per tensor: four pointers (what each means is said below), the first block of the tensor, and
// its number of values in the low 32 bits with flags above. A block takes 1024 values of one tensor.
const int PER_BLOCK = 1024;

struct Piece {
  float* p[4];
  // Its values; how many blocks its tensor has.
  int start, end, blocks, flags;
};

__device__ __forceinline__ float number(const unsigned long long* table, int i) {
  return __uint_as_float((unsigned)table[i]);
}

// The piece of this block: of the last tensor whose first block is not behind it.
__device__ Piece piece(const unsigned long long* table, int tensors) {
  const unsigned long long* first = table + 6;
  int low = 0, high = tensors - 1;
  while (low < high) {
    const int middle = (low + high + 1) / 2;
    if (first[6 * middle] <= (unsigned long long)blockIdx.x) low = middle;
    else high = middle - 1;
  }
  const unsigned long long* row = table + 2 + 6 * low;
  const int values = (int)(row[5] & 0xffffffffull);
  Piece out;
  for (int k = 0; k < 4; k++) out.p[k] = reinterpret_cast<float*>(row[k]);
  out.start = (int)(blockIdx.x - row[4]) * PER_BLOCK;
  out.end = min(out.start + PER_BLOCK, values);
  out.blocks = (values - 1) / PER_BLOCK + 1;
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

// Numbers: what is added. Pointers: square matrices one after the other. Flags: their side. To the diagonals.
extern "C" __global__ void raise(const unsigned long long* table, int tensors) {
  const float by = number(table, 0);
  const Piece piece_ = piece(table, tensors);
  const int side = piece_.flags;
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += blockDim.x) {
    if (i % (side * side) % (side + 1) == 0) piece_.p[0][i] += by;
  }
}

// Threads of the blocks below.
const int THREADS = 256;

// Sums of a·a, b·b and a·b.
struct Sums {
  float aa, bb, ab;
};

// The sum of every thread's v, for all threads.
__device__ __forceinline__ float total(float v) {
  __shared__ float part[THREADS];
  __syncthreads();
  part[threadIdx.x] = v;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half >>= 1) {
    if ((int)threadIdx.x < half) part[threadIdx.x] += part[threadIdx.x + half];
    __syncthreads();
  }
  return part[0];
}

// Pointers: a, b. Their sums over the values of each block.
extern "C" __global__ void dots(const unsigned long long* table, int tensors, Sums* sums) {
  const Piece piece_ = piece(table, tensors);
  const float *a = piece_.p[0], *b = piece_.p[1];
  Sums own = {0.0f, 0.0f, 0.0f};
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += THREADS) {
    own.aa += a[i] * a[i];
    own.bb += b[i] * b[i];
    own.ab += a[i] * b[i];
  }
  own = {total(own.aa), total(own.bb), total(own.ab)};
  if (threadIdx.x == 0) sums[blockIdx.x] = own;
}

// The sums of the whole tensor of this block, from those of its blocks.
__device__ __forceinline__ Sums over_all(const Piece& piece_, const Sums* sums) {
  const int first = (int)blockIdx.x - piece_.start / PER_BLOCK;
  Sums own = {0.0f, 0.0f, 0.0f};
  for (int i = threadIdx.x; i < piece_.blocks; i += THREADS) {
    own.aa += sums[first + i].aa;
    own.bb += sums[first + i].bb;
    own.ab += sums[first + i].ab;
  }
  return {total(own.aa), total(own.bb), total(own.ab)};
}

// Pointers: x, and it again. x over its length; zeros stay.
extern "C" __global__ void shorten(const unsigned long long* table, int tensors, const Sums* sums) {
  const Piece piece_ = piece(table, tensors);
  const float length = sqrtf(over_all(piece_, sums).aa);
  if (length == 0.0f) return;
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += THREADS) piece_.p[0][i] /= length;
}

// Numbers: learning rate and length of a step per unit of it. Pointers: parameter, direction. The parameter a step against its
// direction, at its own length; beside zeros it stays.
extern "C" __global__ void turn(const unsigned long long* table, int tensors, const Sums* sums) {
  const Piece piece_ = piece(table, tensors);
  const Sums all = over_all(piece_, sums);
  if (all.aa == 0.0f || all.bb == 0.0f) return;
  const float step = number(table, 0) * number(table, 1) * sqrtf(all.aa / all.bb);
  const float scale = sqrtf(all.aa / (all.aa - 2.0f * step * all.ab + step * step * all.bb));
  float *p = piece_.p[0], *o = piece_.p[1];
  for (int i = piece_.start + threadIdx.x; i < piece_.end; i += THREADS) p[i] = scale * (p[i] - step * o[i]);
}
