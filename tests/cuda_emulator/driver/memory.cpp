#include "memory.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "report.h"

namespace emulator {

namespace {

struct Allocation {
    char *pages;
    size_t mapped, size;
    Graph *owner;

    char *begin() const { return pages + mapped - PAGE - rounded(); }
    size_t rounded() const { return (size + 15) & ~size_t(15); }
    static const size_t PAGE = 4096;
};

const unsigned char GUARD = 0xa5;

std::map<uint64_t, Allocation> &allocations() {
    static std::map<uint64_t, Allocation> map;
    return map;
}
size_t used;

// The allocation at or before an address.
const Allocation *before(uint64_t address) {
    auto next = allocations().upper_bound(address);
    return next == allocations().begin() ? nullptr : &(--next)->second;
}

bool all(const char *from, const char *to) {
    for (; from < to; from++)
        if (static_cast<unsigned char>(*from) != GUARD) return false;
    return true;
}

void check_guards(const Allocation &a) {
    if (!all(a.pages, a.begin())) complain("something was written before an allocation of %zu bytes", a.size);
    if (!all(a.begin() + a.size, a.begin() + a.rounded()))
        complain("something was written behind an allocation of %zu bytes", a.size);
}

} // namespace

size_t memory_total() {
    const char *wish = std::getenv("CUDA_EMULATOR_MEMORY");
    return wish ? std::strtoull(wish, nullptr, 10) : size_t(4) << 30;
}
size_t memory_used() { return used; }

uint64_t allocate(size_t size, Graph *owner) {
    if (size > memory_total() || used > memory_total() - size) return 0;
    Allocation a{nullptr, 0, size, owner};
    a.mapped = (a.rounded() + Allocation::PAGE - 1) / Allocation::PAGE * Allocation::PAGE + Allocation::PAGE;
    void *pages = mmap(nullptr, a.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) return 0;
    a.pages = static_cast<char *>(pages);
    mprotect(a.pages + a.mapped - Allocation::PAGE, Allocation::PAGE, PROT_NONE);
    std::memset(a.pages, GUARD, a.begin() - a.pages);
    std::memset(a.begin(), 0xff, size);
    std::memset(a.begin() + size, GUARD, a.rounded() - size);
    used += size;
    const auto address = reinterpret_cast<uint64_t>(a.begin());
    allocations()[address] = a;
    return address;
}

bool release_memory(uint64_t address) {
    auto found = allocations().find(address);
    if (found == allocations().end()) return false;
    check_guards(found->second);
    munmap(found->second.pages, found->second.mapped);
    used -= found->second.size;
    allocations().erase(found);
    return true;
}

bool inside(uint64_t address, size_t size, const char *who) {
    const Allocation *a = before(address);
    const auto begin = a ? reinterpret_cast<uint64_t>(a->begin()) : 0;
    if (size == 0 || (a && address - begin <= a->size && size <= a->size - (address - begin))) return true;
    complain("%s: %zu bytes from %s", who, size, describe(address).c_str());
    return false;
}

Graph *owner_of(uint64_t address) {
    auto found = allocations().find(address);
    return found == allocations().end() ? nullptr : found->second.owner;
}

void disown(uint64_t address) {
    auto found = allocations().find(address);
    if (found != allocations().end()) found->second.owner = nullptr;
}

void poison(uint64_t address) {
    auto found = allocations().find(address);
    if (found != allocations().end()) std::memset(found->second.begin(), 0xff, found->second.size);
}

std::string describe(uint64_t address) {
    const Allocation *a = before(address);
    if (!a) return format("address %#lx, where nothing is allocated", (unsigned long)address);
    const uint64_t offset = address - reinterpret_cast<uint64_t>(a->begin());
    if (offset < a->size + Allocation::PAGE) return format("byte %lu of an allocation of %zu", (unsigned long)offset, a->size);
    return format("address %#lx, where nothing is allocated", (unsigned long)address);
}

} // namespace emulator
