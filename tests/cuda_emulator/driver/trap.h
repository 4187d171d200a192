// What the emulator does not have.
#pragma once

#include <cstdio>

// extern "C" without arguments: the caller's are left where they are.
#define TRAP(name, status)                                                                                                  \
    extern "C" __attribute__((visibility("default"))) long name() {                                                        \
        fprintf(stderr, "cuda emulator: " #name " is not emulated\n");                                                     \
        return status;                                                                                                      \
    }
