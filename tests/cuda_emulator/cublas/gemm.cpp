// cuBLAS: matrix products in column-major order, sums in double, rounded once.

#include <functional>

#include "memory.h"
#include "numbers.h"
#include "report.h"
#include "stream.h"

using namespace emulator;

namespace {

enum { BLAS_SUCCESS = 0, BLAS_INVALID_VALUE = 7, BLAS_EXECUTION_FAILED = 13, BLAS_NOT_SUPPORTED = 15 };

struct Blas {
    void *stream = nullptr;
    int math = 0, pointers = 0;
};

struct Operand {
    const void *at;
    Kind kind;
    long rows, columns, leading, stride;
    bool transposed;

    size_t index(long row, long column) const { return size_t(transposed ? column + row * leading : row + column * leading); }
    size_t extent(long batch) const { return (size_t(stride) * size_t(batch - 1) + index(rows - 1, columns - 1) + 1) * size_of(kind); }
    Operand of_batch(long i) const {
        Operand o = *this;
        o.at = static_cast<const char *>(at) + size_t(i) * size_t(stride) * size_of(kind);
        return o;
    }
};

// Columns of op(B) or rows of op(A), each `inner` values together.
std::vector<float> lines(const Operand &o, bool rows) {
    const long outer = rows ? o.rows : o.columns, inner = rows ? o.columns : o.rows;
    std::vector<float> out(size_t(outer) * inner);
    for (long i = 0; i < outer; i++)
        for (long k = 0; k < inner; k++) out[size_t(i) * inner + k] = float(get(o.kind, o.at, rows ? o.index(i, k) : o.index(k, i)));
    return out;
}

void multiply(const Operand &a, const Operand &b, const Operand &c, double alpha, double beta) {
    const auto rows = lines(a, true), columns = lines(b, false);
    const long inner = a.columns;
    void *out = const_cast<void *>(c.at);
    for (long j = 0; j < c.columns; j++)
        for (long i = 0; i < c.rows; i++) {
            const float *x = &rows[size_t(i) * inner], *y = &columns[size_t(j) * inner];
            double sum = 0;
            for (long k = 0; k < inner; k++) sum += double(x[k]) * y[k];
            const size_t place = c.index(i, j);
            put(c.kind, out, place, alpha * sum + (beta == 0 ? 0 : beta * get(c.kind, out, place)));
        }
}

int gemm(void *handle, const char *who, Operand a, Operand b, Operand c, double alpha, double beta, long batch) {
    const Blas &blas = *static_cast<Blas *>(handle);
    if (blas.pointers != 0) return BLAS_NOT_SUPPORTED; // alpha and beta on the device
    if (c.rows < 0 || c.columns < 0 || a.columns < 0 || batch < 0) return BLAS_INVALID_VALUE;
    if (c.rows == 0 || c.columns == 0 || a.columns == 0 || batch == 0) return BLAS_SUCCESS;
    for (const Operand *o : {&a, &b, &c})
        if (o->leading < (o->transposed ? o->columns : o->rows)) {
            complain("%s: a leading dimension of %ld is too small", who, o->leading);
            return BLAS_INVALID_VALUE;
        }
    const int status = submit(blas.stream, who, [=] {
        for (const Operand *o : {&a, &b, &c})
            if (!inside(reinterpret_cast<uint64_t>(o->at), o->extent(batch), who)) return BLAS_INVALID_VALUE;
        for (long i = 0; i < batch; i++) multiply(a.of_batch(i), b.of_batch(i), c.of_batch(i), alpha, beta);
        return BLAS_SUCCESS;
    });
    return status == STREAM_CAPTURE_IMPLICIT ? BLAS_EXECUTION_FAILED : status;
}

// op(A) of m×k, op(B) of k×n, C of m×n. Operations: 0 as it is, 1 and 2 transposed.
int gemm(void *handle, const char *who, int ta, int tb, long m, long n, long k, double alpha, const void *a, Kind ak, long lda, long sa,
         const void *b, Kind bk, long ldb, long sb, double beta, void *c, Kind ck, long ldc, long sc, long batch) {
    return gemm(handle, who, {a, ak, m, k, lda, sa, ta != 0}, {b, bk, k, n, ldb, sb, tb != 0}, {c, ck, m, n, ldc, sc, false}, alpha, beta, batch);
}

// cudaDataType_t.
bool kind_of(int type, Kind &kind) {
    switch (type) {
    case 0: kind = Kind::f32; return true;
    case 1: kind = Kind::f64; return true;
    case 2: kind = Kind::f16; return true;
    case 14: kind = Kind::bf16; return true;
    default: return false;
    }
}

} // namespace

API cublasCreate_v2(void **handle) {
    *handle = new Blas;
    return BLAS_SUCCESS;
}
API cublasDestroy_v2(void *handle) {
    delete static_cast<Blas *>(handle);
    return BLAS_SUCCESS;
}
API cublasSetStream_v2(void *handle, void *stream) {
    static_cast<Blas *>(handle)->stream = stream;
    return BLAS_SUCCESS;
}
API cublasGetStream_v2(void *handle, void **stream) {
    *stream = static_cast<Blas *>(handle)->stream;
    return BLAS_SUCCESS;
}
API cublasSetMathMode(void *handle, int mode) {
    static_cast<Blas *>(handle)->math = mode;
    return BLAS_SUCCESS;
}
API cublasGetMathMode(void *handle, int *mode) {
    *mode = static_cast<Blas *>(handle)->math;
    return BLAS_SUCCESS;
}
API cublasSetPointerMode_v2(void *handle, int mode) {
    static_cast<Blas *>(handle)->pointers = mode;
    return BLAS_SUCCESS;
}
API cublasGetPointerMode_v2(void *handle, int *mode) {
    *mode = static_cast<Blas *>(handle)->pointers;
    return BLAS_SUCCESS;
}
API cublasSetAtomicsMode(void *, int) { return BLAS_SUCCESS; }
API cublasSetWorkspace_v2(void *, void *scratch, size_t bytes) {
    return inside(reinterpret_cast<uint64_t>(scratch), bytes, "cublasSetWorkspace") ? BLAS_SUCCESS : BLAS_INVALID_VALUE;
}
API cublasGetVersion_v2(void *, int *version) {
    *version = 130100;
    return BLAS_SUCCESS;
}

API cublasSgemm_v2(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, const float *b, int ldb,
                   const float *beta, float *c, int ldc) {
    return gemm(handle, __func__, ta, tb, m, n, k, *alpha, a, Kind::f32, lda, 0, b, Kind::f32, ldb, 0, *beta, c, Kind::f32, ldc, 0, 1);
}
API cublasSgemmStridedBatched(void *handle, int ta, int tb, int m, int n, int k, const float *alpha, const float *a, int lda, long long sa,
                              const float *b, int ldb, long long sb, const float *beta, float *c, int ldc, long long sc, int batch) {
    return gemm(handle, __func__, ta, tb, m, n, k, *alpha, a, Kind::f32, lda, sa, b, Kind::f32, ldb, sb, *beta, c, Kind::f32, ldc, sc, batch);
}
API cublasSgemv_v2(void *handle, int transposed, int m, int n, const float *alpha, const float *a, int lda, const float *x, int incx,
                   const float *beta, float *y, int incy) {
    if (incx < 1 || incy < 1) return BLAS_NOT_SUPPORTED;
    const long rows = transposed ? n : m, inner = transposed ? m : n;
    // x is a row of one value in each column of `incx`, read transposed; so is y.
    return gemm(handle, __func__, {a, Kind::f32, rows, inner, lda, 0, transposed != 0}, {x, Kind::f32, inner, 1, incx, 0, true},
                {y, Kind::f32, rows, 1, incy, 0, true}, *alpha, *beta, 1);
}
API cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, long long sa,
                               const void *b, int bt, int ldb, long long sb, const void *beta, void *c, int ct, int ldc, long long sc, int batch,
                               int compute, int) {
    Kind ak, bk, ck;
    if (!kind_of(at, ak) || !kind_of(bt, bk) || !kind_of(ct, ck) || ak != bk) return BLAS_NOT_SUPPORTED;
    // cublasComputeType_t: sums in f32 with f32 scalars, in full or, where that is allowed, as TF32.
    const bool f32 = compute == 68 || compute == 69 || compute == 74 || compute == 75 || compute == 77;
    if (!f32 || ak == Kind::f64 || ck == Kind::f64 || (ck != ak && ck != Kind::f32)) {
        complain("%s: types %d, %d, %d with sums of type %d are not emulated", __func__, at, bt, ct, compute);
        return BLAS_NOT_SUPPORTED;
    }
    return gemm(handle, __func__, ta, tb, m, n, k, *static_cast<const float *>(alpha), a, ak, lda, sa, b, bk, ldb, sb,
                *static_cast<const float *>(beta), c, ck, ldc, sc, batch);
}
API cublasGemmEx(void *handle, int ta, int tb, int m, int n, int k, const void *alpha, const void *a, int at, int lda, const void *b, int bt,
                 int ldb, const void *beta, void *c, int ct, int ldc, int compute, int algorithm) {
    return cublasGemmStridedBatchedEx(handle, ta, tb, m, n, k, alpha, a, at, lda, 0, b, bt, ldb, 0, beta, c, ct, ldc, 0, 1, compute, algorithm);
}
