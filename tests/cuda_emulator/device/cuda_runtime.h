// What a kernel sees of CUDA C++ when g++ compiles it: keywords, built-in variables, vector types, warp and block
// operations. Threads are fibres (driver/fibres.cpp); everything else is ordinary C++.
#pragma once

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "fibres.h"
#include "vector_types.h"

#define __CUDA_ARCH__ 800

#ifdef EMULATOR_LISTS_KERNELS
// build.sh finds the kernels of a preprocessed source by this word.
#define __global__ emulator_kernel
#else
#define __global__
#endif
#define __device__
#define __host__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __constant__ static const
#define __launch_bounds__(...)
#define __grid_constant__
// The variables of this kind are the only ones of their thread of the process: the launcher finds them all as its
// thread-local storage and fills them with NaN before each block.
#define __shared__ static thread_local

#define threadIdx (emulator::self->index)
#define blockIdx (emulator::place.block)
#define blockDim (emulator::place.threads)
#define gridDim (emulator::place.blocks)
static const int warpSize = 32;

inline void __syncthreads() { emulator::barrier(); }
inline void __syncwarp(unsigned mask = ~0u) { emulator::exchange(emulator::Op::sync, mask, 0, 0, 32); }
inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap() { emulator::fail("__trap"); }

namespace emulator {
template <class T> T shuffle(Op op, unsigned mask, T value, int lane, int width) {
    static_assert(sizeof(T) <= 8, "a shuffle moves 4 or 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = exchange(op, mask, bits, lane, width);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}
} // namespace emulator

template <class T> T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
    return emulator::shuffle(emulator::Op::index, mask, value, lane, width);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return emulator::shuffle(emulator::Op::up, mask, value, int(by), width);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32) {
    return emulator::shuffle(emulator::Op::down, mask, value, int(by), width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32) {
    return emulator::shuffle(emulator::Op::exclusive_or, mask, value, with, width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    return unsigned(emulator::exchange(emulator::Op::ballot, mask, predicate != 0, 0, 32));
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

// Nothing runs at the same time, so that an ordinary update is atomic.
template <class T> T emulator_update(T *at, T value) {
    T old = *at;
    *at = value;
    return old;
}
inline float atomicAdd(float *at, float v) { return emulator_update(at, *at + v); }
inline double atomicAdd(double *at, double v) { return emulator_update(at, *at + v); }
inline int atomicAdd(int *at, int v) { return emulator_update(at, *at + v); }
inline unsigned atomicAdd(unsigned *at, unsigned v) { return emulator_update(at, *at + v); }
inline unsigned long long atomicAdd(unsigned long long *at, unsigned long long v) { return emulator_update(at, *at + v); }
inline int atomicMax(int *at, int v) { return emulator_update(at, *at > v ? *at : v); }
inline unsigned atomicMax(unsigned *at, unsigned v) { return emulator_update(at, *at > v ? *at : v); }
inline int atomicMin(int *at, int v) { return emulator_update(at, *at < v ? *at : v); }
inline unsigned atomicMin(unsigned *at, unsigned v) { return emulator_update(at, *at < v ? *at : v); }
inline int atomicExch(int *at, int v) { return emulator_update(at, v); }
inline unsigned atomicExch(unsigned *at, unsigned v) { return emulator_update(at, v); }
inline float atomicExch(float *at, float v) { return emulator_update(at, v); }
inline int atomicCAS(int *at, int is, int v) { return emulator_update(at, *at == is ? v : *at); }
inline unsigned atomicCAS(unsigned *at, unsigned is, unsigned v) { return emulator_update(at, *at == is ? v : *at); }

template <class T> T __ldg(const T *at) { return *at; }
template <class T> T __ldcs(const T *at) { return *at; }
template <class T> T __ldcg(const T *at) { return *at; }
template <class T> void __stcs(T *at, T v) { *at = v; }
template <class T> void __stcg(T *at, T v) { *at = v; }

inline float rsqrtf(float x) { return float(1.0 / std::sqrt(double(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fsqrt_rn(float a) { return sqrtf(a); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }

template <class To, class From> To emulator_bits(From from) {
    static_assert(sizeof(To) == sizeof(From), "the same bits");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}
inline int __float_as_int(float x) { return emulator_bits<int>(x); }
inline unsigned __float_as_uint(float x) { return emulator_bits<unsigned>(x); }
inline float __int_as_float(int x) { return emulator_bits<float>(x); }
inline float __uint_as_float(unsigned x) { return emulator_bits<float>(x); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}

#define EMULATOR_MIN_MAX(T)                                                                                                 \
    inline T min(T a, T b) { return b < a ? b : a; }                                                                        \
    inline T max(T a, T b) { return a < b ? b : a; }
EMULATOR_MIN_MAX(int)
EMULATOR_MIN_MAX(unsigned)
EMULATOR_MIN_MAX(long)
EMULATOR_MIN_MAX(unsigned long)
EMULATOR_MIN_MAX(long long)
EMULATOR_MIN_MAX(unsigned long long)
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
using std::isfinite;
using std::isinf;
using std::isnan;
