// Streams: work runs at once, or is kept for a graph while its stream captures.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "status.h"

namespace emulator {

// What a call leaves to be done; gives a status.
using Work = std::function<int()>;

struct Graph {
    std::vector<Work> nodes;
    // What it has allocated, and what of that is not freed.
    std::vector<uint64_t> memory;
    std::set<uint64_t> live;

    void allocated(uint64_t address);
    void freed(uint64_t address);
    ~Graph();
};

struct Capture {
    std::shared_ptr<Graph> graph = std::make_shared<Graph>();
    bool broken = false;
};

struct Stream {
    std::unique_ptr<Capture> capture;
};

// One call of the driver or of a library at a time.
__attribute__((visibility("default"))) std::recursive_mutex &lock();

// The stream behind a handle: null and 1 are the legacy stream, 2 is that of the calling thread.
Stream &stream_of(void *handle);

// Does the work now, or adds it to the graph that the stream captures.
__attribute__((visibility("default"))) int submit(void *stream, const char *who, Work work);

// A call that waits, or that has no place in a graph: refused, and the capture spoilt, while anything captures.
int refuse_while_capturing(const char *who);

} // namespace emulator
