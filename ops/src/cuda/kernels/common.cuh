// What every kernel file shares: element types, vectors of 16 bytes, activations, sums over warps.
//
// Conventions: kernels are `extern "C" __global__` with arguments by value and static shared arrays; element types are
// float (`_f32`) and bfloat16 (`_bf16`), arithmetic is f32; sums are taken in an order that depends on sizes alone.
#pragma once
#include <cuda_bf16.h>

typedef __nv_bfloat16 bf16;

// Instantiates a wrapper macro for both element types.
#define BOTH(WRAPPER) WRAPPER(float, f32) WRAPPER(bf16, bf16)

__device__ __forceinline__ float wide(float v) { return v; }
__device__ __forceinline__ float wide(bf16 v) { return __bfloat162float(v); }
template <typename T> __device__ __forceinline__ T narrow(float v);
template <> __device__ __forceinline__ float narrow<float>(float v) { return v; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float v) { return __float2bfloat16(v); }

// Values in 16 bytes.
template <typename T> struct Wide;
template <> struct Wide<float> { static const int N = 4; };
template <> struct Wide<bf16> { static const int N = 8; };

// W values from memory: 16 bytes at once if W says so.
template <typename T, int W> __device__ __forceinline__ void load(const T* from, float* to) {
  if (W == 1) {
    to[0] = wide(from[0]);
  } else {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const T* values = reinterpret_cast<const T*>(&raw);
#pragma unroll
    for (int i = 0; i < W; i++) to[i] = wide(values[i]);
  }
}

template <typename T, int W> __device__ __forceinline__ void store(T* to, const float* from) {
  if (W == 1) {
    to[0] = narrow<T>(from[0]);
  } else {
    uint4 raw;
    T* values = reinterpret_cast<T*>(&raw);
#pragma unroll
    for (int i = 0; i < W; i++) values[i] = narrow<T>(from[i]);
    *reinterpret_cast<uint4*>(to) = raw;
  }
}

// min(max(x, slope·x), cap); NaN stays NaN.
struct Act {
  float slope, cap;
};

__device__ __forceinline__ float apply(Act act, float x) {
  const float below = act.slope * x;
  const float v = below > x ? below : x;
  return act.cap < v ? act.cap : v;
}

// The derivative, given the output.
__device__ __forceinline__ float derivative(Act act, float y) {
  return act.cap > y ? (y > 0.0f ? 1.0f : act.slope) : 0.0f;
}

__device__ __forceinline__ float warp_sum(float v) {
  for (int lane = 16; lane > 0; lane >>= 1) v += __shfl_xor_sync(0xffffffffu, v, lane);
  return v;
}

// The largest value and the first place where it is.
__device__ __forceinline__ void warp_first_max(float& v, int& at) {
  for (int lane = 16; lane > 0; lane >>= 1) {
    const float other = __shfl_xor_sync(0xffffffffu, v, lane);
    const int place = __shfl_xor_sync(0xffffffffu, at, lane);
    if (other > v || (other == v && place < at)) {
      v = other;
      at = place;
    }
  }
}
