// Static shared arrays: the thread-local storage of this library (see device/cuda_runtime.h).

#include <link.h>

#include <cstring>

#include "memory.h"

namespace emulator {

// So that there is such storage, and the loader has made it for this thread before it is asked for.
static thread_local volatile char anchor;

static char *start;
static size_t size;

static int find(dl_phdr_info *info, size_t, void *) {
    const auto here = reinterpret_cast<uint64_t>(&find);
    bool ours = false;
    size_t bytes = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const auto &header = info->dlpi_phdr[i];
        const uint64_t from = info->dlpi_addr + header.p_vaddr;
        ours |= header.p_type == PT_LOAD && here >= from && here < from + header.p_memsz;
        if (header.p_type == PT_TLS) bytes = header.p_memsz;
    }
    if (!ours) return 0;
    start = static_cast<char *>(info->dlpi_tls_data);
    size = bytes;
    return 1;
}

void find_shared() {
    anchor = 0;
    start = nullptr;
    dl_iterate_phdr(find, nullptr);
}

void poison_shared() {
    if (start) std::memset(start, 0xff, size);
}

} // namespace emulator
