// Allocations, copies and fills of the driver.

#include <cstring>

#include "memory.h"
#include "report.h"
#include "stream.h"

using namespace emulator;
using Guard = std::lock_guard<std::recursive_mutex>;

namespace {

// A failed check becomes the status that it has.
int copy(void *stream, const char *who, uint64_t to, bool to_device, uint64_t from, bool from_device, size_t size) {
    return submit(stream, who, [=] {
        if ((to_device && !inside(to, size, who)) || (from_device && !inside(from, size, who))) return INVALID_VALUE;
        std::memmove(reinterpret_cast<void *>(to), reinterpret_cast<void *>(from), size);
        return SUCCESS;
    });
}

template <class T> int fill(void *stream, const char *who, uint64_t to, T value, size_t n) {
    return submit(stream, who, [=] {
        if (to % sizeof(T) || !inside(to, n * sizeof(T), who)) return INVALID_VALUE;
        for (size_t i = 0; i < n; i++) std::memcpy(reinterpret_cast<T *>(to) + i, &value, sizeof value);
        return SUCCESS;
    });
}

// What waits for its end has no place in a graph.
#define ALONE                                                                                                               \
    Guard guard(lock());                                                                                                    \
    if (int status = refuse_while_capturing(__func__)) return status

uint64_t bits(const void *pointer) { return reinterpret_cast<uint64_t>(pointer); }

} // namespace

API cuMemAlloc_v2(uint64_t *address, size_t size) {
    ALONE;
    if (size == 0) return INVALID_VALUE;
    *address = allocate(size);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemFree_v2(uint64_t address) {
    ALONE;
    return address == 0 || release_memory(address) ? SUCCESS : INVALID_VALUE;
}
// While the stream captures, the memory is the graph's: it stays until that is destroyed.
API cuMemAllocAsync(uint64_t *address, size_t size, void *handle) {
    Guard guard(lock());
    *address = 0;
    if (size == 0) return SUCCESS;
    Stream &stream = stream_of(handle);
    if (stream.capture && stream.capture->broken) return STREAM_CAPTURE_INVALIDATED;
    Graph *graph = stream.capture ? stream.capture->graph.get() : nullptr;
    *address = allocate(size, graph);
    if (*address && graph) graph->allocated(*address);
    return *address ? SUCCESS : OUT_OF_MEMORY;
}
API cuMemAllocFromPoolAsync(uint64_t *address, size_t size, void *, void *stream) { return cuMemAllocAsync(address, size, stream); }
API cuMemFreeAsync(uint64_t address, void *handle) {
    Guard guard(lock());
    if (address == 0) return SUCCESS;
    Graph *owner = owner_of(address);
    Stream &stream = stream_of(handle);
    if (stream.capture && stream.capture->broken) return STREAM_CAPTURE_INVALIDATED;
    if (stream.capture && owner != stream.capture->graph.get()) {
        complain("cuMemFreeAsync while the stream captures, of memory that the graph has not allocated");
        return INVALID_VALUE;
    }
    if (owner) {
        owner->freed(address);
        return submit(handle, __func__, [=] { return owner->freed(address), SUCCESS; });
    }
    return release_memory(address) ? SUCCESS : INVALID_VALUE;
}
API cuMemGetInfo_v2(size_t *free, size_t *total) {
    Guard guard(lock());
    *total = memory_total();
    *free = *total - memory_used();
    return SUCCESS;
}
API cuMemHostAlloc(void **pointer, size_t size, unsigned) {
    *pointer = ::operator new(size, std::align_val_t(64));
    return SUCCESS;
}
API cuMemFreeHost(void *pointer) {
    ::operator delete(pointer, std::align_val_t(64));
    return SUCCESS;
}

API cuMemcpyHtoD_v2(uint64_t to, const void *from, size_t size) {
    ALONE;
    return copy(nullptr, __func__, to, true, bits(from), false, size);
}
API cuMemcpyDtoH_v2(void *to, uint64_t from, size_t size) {
    ALONE;
    return copy(nullptr, __func__, bits(to), false, from, true, size);
}
API cuMemcpyDtoD_v2(uint64_t to, uint64_t from, size_t size) {
    ALONE;
    return copy(nullptr, __func__, to, true, from, true, size);
}
// From pageable memory the driver reads at once, and again at each launch of a graph: no program can mean that.
API cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
    Guard guard(lock());
    if (stream_of(stream).capture) return refuse_while_capturing(__func__);
    return copy(stream, __func__, to, true, bits(from), false, size);
}
API cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
    Guard guard(lock());
    if (stream_of(stream).capture) return refuse_while_capturing(__func__);
    return copy(stream, __func__, bits(to), false, from, true, size);
}
API cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
    return copy(stream, __func__, to, true, from, true, size);
}
API cuMemcpyPeerAsync(uint64_t to, void *, uint64_t from, void *, size_t size, void *stream) {
    return copy(stream, __func__, to, true, from, true, size);
}

API cuMemsetD8_v2(uint64_t to, unsigned char value, size_t n) {
    ALONE;
    return fill(nullptr, __func__, to, value, n);
}
API cuMemsetD16_v2(uint64_t to, unsigned short value, size_t n) {
    ALONE;
    return fill(nullptr, __func__, to, value, n);
}
API cuMemsetD32_v2(uint64_t to, unsigned value, size_t n) {
    ALONE;
    return fill(nullptr, __func__, to, value, n);
}
API cuMemsetD8Async(uint64_t to, unsigned char value, size_t n, void *stream) { return fill(stream, __func__, to, value, n); }
API cuMemsetD16Async(uint64_t to, unsigned short value, size_t n, void *stream) { return fill(stream, __func__, to, value, n); }
API cuMemsetD32Async(uint64_t to, unsigned value, size_t n, void *stream) { return fill(stream, __func__, to, value, n); }
