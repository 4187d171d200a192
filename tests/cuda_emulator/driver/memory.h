// Device memory: pages of the host, filled with NaN, with a page behind each allocation that nobody may touch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {

struct Graph;

// Fresh memory of `size` bytes, aligned to 16, all bits set; 0 if the card is full. `owner` is the graph that it belongs to.
uint64_t allocate(size_t size, Graph *owner = nullptr);

// Gives it back after a look at its guards. False if there is no such allocation.
bool release_memory(uint64_t address);

// Whether [address, address + size) lies in one allocation; says so on stderr, with `who`, if it does not.
__attribute__((visibility("default"))) bool inside(uint64_t address, size_t size, const char *who);

// The graph that an allocation belongs to.
Graph *owner_of(uint64_t address);

// From now on the allocation is like any other.
void disown(uint64_t address);

// Fills an allocation with NaN once more.
void poison(uint64_t address);

// What is at and before an address, in words.
std::string describe(uint64_t address);

size_t memory_total();
size_t memory_used();

// The static shared arrays of the kernels: where they are for this thread of the process, and all bits of them set.
void find_shared();
void poison_shared();

} // namespace emulator
