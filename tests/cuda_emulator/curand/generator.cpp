// cuRAND: numbers of the right distribution, the same for the same seed; not those of the library.

#include <random>

#include "memory.h"
#include "stream.h"

using namespace emulator;

namespace {

enum { RAND_SUCCESS = 0, RAND_LENGTH = 105, RAND_LAUNCH_FAILURE = 201 };

struct Generator {
    void *stream = nullptr;
    std::mt19937_64 bits;
};

// Fills `out` with what `draw` gives. While the stream captures, numbers are drawn at every launch of the graph.
template <class T, class F> int generate(void *handle, const char *who, T *out, size_t n, F draw) {
    auto *generator = static_cast<Generator *>(handle);
    return submit(generator->stream, who, [=] {
        if (!inside(reinterpret_cast<uint64_t>(out), n * sizeof(T), who)) return RAND_LAUNCH_FAILURE;
        for (size_t i = 0; i < n; i++) out[i] = draw(generator->bits);
        return RAND_SUCCESS;
    });
}

// In (0, 1], as cuRAND has it.
double uniform(std::mt19937_64 &bits) { return (double(bits() >> 11) + 1) / 9007199254740992.0; }
double normal(std::mt19937_64 &bits) { return std::sqrt(-2 * std::log(uniform(bits))) * std::cos(6.283185307179586 * uniform(bits)); }

} // namespace

API curandCreateGenerator(void **out, int) {
    *out = new Generator;
    return RAND_SUCCESS;
}
API curandDestroyGenerator(void *handle) {
    delete static_cast<Generator *>(handle);
    return RAND_SUCCESS;
}
API curandSetPseudoRandomGeneratorSeed(void *handle, unsigned long long seed) {
    static_cast<Generator *>(handle)->bits.seed(seed);
    return RAND_SUCCESS;
}
API curandSetGeneratorOffset(void *handle, unsigned long long offset) {
    static_cast<Generator *>(handle)->bits.discard(offset);
    return RAND_SUCCESS;
}
API curandSetStream(void *handle, void *stream) {
    static_cast<Generator *>(handle)->stream = stream;
    return RAND_SUCCESS;
}
API curandGenerateUniform(void *handle, float *out, size_t n) {
    return generate(handle, __func__, out, n, [](auto &bits) { return float(uniform(bits)); });
}
API curandGenerateUniformDouble(void *handle, double *out, size_t n) {
    return generate(handle, __func__, out, n, [](auto &bits) { return uniform(bits); });
}
API curandGenerateNormal(void *handle, float *out, size_t n, float mean, float deviation) {
    if (n % 2) return RAND_LENGTH; // numbers come in pairs
    return generate(handle, __func__, out, n, [=](auto &bits) { return float(mean + deviation * normal(bits)); });
}
API curandGenerateNormalDouble(void *handle, double *out, size_t n, double mean, double deviation) {
    if (n % 2) return RAND_LENGTH;
    return generate(handle, __func__, out, n, [=](auto &bits) { return mean + deviation * normal(bits); });
}
