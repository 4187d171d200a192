#include "report.h"

#include <cstdarg>
#include <cstdio>

namespace emulator {

static std::string formatted(const char *pattern, va_list list) {
    char line[1024];
    vsnprintf(line, sizeof line, pattern, list);
    return line;
}

std::string format(const char *pattern, ...) {
    va_list list;
    va_start(list, pattern);
    std::string text = formatted(pattern, list);
    va_end(list);
    return text;
}

void complain(const char *pattern, ...) {
    va_list list;
    va_start(list, pattern);
    std::string text = formatted(pattern, list);
    va_end(list);
    fprintf(stderr, "cuda emulator: %s\n", text.c_str());
}

} // namespace emulator
