// What the emulator has to say goes to stderr, a line at a time.
#pragma once

#include <string>

namespace emulator {

__attribute__((format(printf, 1, 2))) std::string format(const char *pattern, ...);

// Prints a line.
__attribute__((visibility("default"), format(printf, 1, 2))) void complain(const char *pattern, ...);

} // namespace emulator
