// Kernels for tests/cuda_emulator.rs: each uses, or misuses, one thing that the emulator has.
#include <cuda_bf16.h>

// The sum of a block's values: by shuffles within warps, through shared memory between them.
extern "C" __global__ void selftest_sum(const float* x, float* out, int n) {
  __shared__ float part[32];
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  float v = at < n ? x[at] : 0.0f;
  for (int lane = 16; lane > 0; lane >>= 1) v += __shfl_xor_sync(0xffffffffu, v, lane);
  if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  v = threadIdx.x < blockDim.x / 32 ? part[threadIdx.x] : 0.0f;
  for (int lane = 16; lane > 0; lane >>= 1) v += __shfl_down_sync(0xffffffffu, v, lane);
  if (threadIdx.x == 0) out[blockIdx.x] = v;
}

// Where values come from, for each way to shuffle: six numbers for each of 32 lanes.
extern "C" __global__ void selftest_shuffles(int* out) {
  const int lane = threadIdx.x;
  int* mine = out + 6 * lane;
  mine[0] = __shfl_sync(0xffffffffu, lane, 5);
  mine[1] = __shfl_up_sync(0xffffffffu, lane, 3);
  mine[2] = __shfl_down_sync(0xffffffffu, lane, 3);
  mine[3] = __shfl_xor_sync(0xffffffffu, lane, 6);
  mine[4] = __shfl_down_sync(0xffffffffu, lane, 1, 8);
  mine[5] = (int)__ballot_sync(0xffffffffu, lane % 3 == 0);
}

// A reversed copy of each block through shared memory, twice: the barriers between the phases matter.
extern "C" __global__ void selftest_reverse(const float* x, float* out) {
  __shared__ float row[64];
  const int base = blockIdx.x * 64, t = threadIdx.x;
  for (int round = 0; round < 3; round++) {
    row[t] = round == 0 ? x[base + t] : out[base + t];
    __syncthreads();
    out[base + t] = row[63 - t];
    __syncthreads();
  }
}

extern "C" __global__ void selftest_round(const float* x, __nv_bfloat16* out, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) out[i] = __float2bfloat16(x[i]);
}

extern "C" __global__ void selftest_count(int* out, float* sum) {
  atomicAdd(out, 1);
  atomicAdd(sum, 0.5f);
}

// What must not be done, by number: the launch has to say so.
extern "C" __global__ void selftest_misuse(float* x, int n, int which) {
  __shared__ float s[32];
  const int t = threadIdx.x;
  if (which == 0) x[n + t + 4] = 1.0f;                                       // behind an allocation
  if (which == 1) s[t + n] = 1.0f;                                                      // behind a shared array
  if (which == 2 && t == 0) x[0] = reinterpret_cast<const float4*>(x + 1)->y;           // not aligned
  if (which == 3) { if (t < 16) __syncthreads(); else __shfl_xor_sync(~0u, t, 1); }     // waits for ever
  if (which == 4) { if (t < 16) __shfl_xor_sync(~0u, t, 1); else __shfl_down_sync(~0u, t, 1); }
  if (which == 5) x[0] = *reinterpret_cast<float*>(8);                                  // nobody's memory
  if (which == 6) x[t] = s[t];                                                          // allowed; not a number
  if (which == 7 && t < 16) x[t] = __shfl_sync(0xffffu, 1.0f, 20);                      // from a lane outside the mask
  if (which == 8) { s[t] = 1.0f; x[t] = s[31 - t]; }                                    // no barrier in between
}
