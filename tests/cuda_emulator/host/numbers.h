// Element types of the libraries, read and written as double.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace emulator {

enum class Kind { f32, f64, f16, bf16 };

inline size_t size_of(Kind kind) { return kind == Kind::f64 ? 8 : kind == Kind::f32 ? 4 : 2; }

inline float from_bf16(uint16_t b) {
    const uint32_t bits = uint32_t(b) << 16;
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
// Ties to even; every NaN becomes one.
inline uint16_t to_bf16(float f) {
    if (f != f) return 0x7fff;
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline float from_f16(uint16_t h) {
    const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    uint32_t bits = sign | (exponent + 112) << 23 | fraction << 13;
    if (exponent == 31) bits = sign | 0x7f800000 | fraction << 13;
    float f;
    std::memcpy(&f, &bits, 4);
    if (exponent == 0) f = (sign ? -1.0f : 1.0f) * float(fraction) / float(1 << 24);
    return f;
}
inline uint16_t to_f16(float f) {
    uint32_t bits;
    std::memcpy(&bits, &f, 4);
    const uint16_t sign = uint16_t(bits >> 16 & 0x8000);
    const uint32_t size = bits & 0x7fffffff;
    if (size > 0x7f800000) return uint16_t(sign | 0x7fff);
    if (size >= 0x477ff000) return uint16_t(sign | 0x7c00);
    if (size < 0x38800000) { // below the smallest normal number: a multiple of 2^-24
        float a;
        std::memcpy(&a, &size, 4);
        return uint16_t(sign | uint32_t(__builtin_nearbyintf(a * float(1 << 24))));
    }
    return uint16_t(sign | ((size + 0xfff + (size >> 13 & 1) - (112u << 23)) >> 13));
}

inline double get(Kind kind, const void *at, size_t i) {
    switch (kind) {
    case Kind::f32: return static_cast<const float *>(at)[i];
    case Kind::f64: return static_cast<const double *>(at)[i];
    case Kind::f16: return from_f16(static_cast<const uint16_t *>(at)[i]);
    default: return from_bf16(static_cast<const uint16_t *>(at)[i]);
    }
}
inline void put(Kind kind, void *at, size_t i, double value) {
    switch (kind) {
    case Kind::f32: static_cast<float *>(at)[i] = float(value); break;
    case Kind::f64: static_cast<double *>(at)[i] = value; break;
    case Kind::f16: static_cast<uint16_t *>(at)[i] = to_f16(float(value)); break;
    default: static_cast<uint16_t *>(at)[i] = to_bf16(float(value));
    }
}

} // namespace emulator
