// What a module says about its kernels.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace emulator {

struct Entry {
    // Bytes of each argument.
    std::vector<size_t> arguments;
    // Bytes of static shared arrays that are declared inside the kernel.
    size_t shared = 0;
    // The most threads of a block by __launch_bounds__; 0 where that says nothing.
    unsigned most_threads = 0;
};

// The kernels of PTX text, by name; none of anything else.
std::map<std::string, Entry> entries_of_ptx(const char *text);

} // namespace emulator
