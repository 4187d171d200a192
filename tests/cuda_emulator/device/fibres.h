// The threads of a block as fibres: they run one after another, each until it ends or waits for others.
#pragma once

#include <cstdint>

#include "vector_types.h"

namespace emulator {

// What the threads of a warp do together.
enum class Op { sync, index, up, down, exclusive_or, ballot };

struct Thread {
    uint3 index;
};

struct Place {
    uint3 block;
    dim3 threads, blocks;
};

// The thread that runs, and where it is. Every launch holds the lock of the driver, so there is one of each.
extern Thread *self;
extern Place place;

// Waits until every thread of the block that has not ended is here.
void barrier();

// Waits until every thread of the warp that `mask` names and that has not ended is here; then gives what the operation says.
// From a lane that has ended or is not in the mask comes NaN: all bits set.
uint64_t exchange(Op op, unsigned mask, uint64_t value, int lane, int width);

// Ends the launch with an error.
[[noreturn]] void fail(const char *why);

} // namespace emulator
