// Kernels by name, and their way onto the fibres.
#pragma once

#include <functional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "vector_types.h"

namespace emulator {

struct Kernel {
    // "candle" for those that are written by hand in candle_kernels.cpp, else the .cu file.
    const char *file;
    const char *name;
    // Bytes of each argument.
    std::vector<size_t> arguments;
    // Takes copies of the arguments and gives what one thread runs.
    std::function<std::function<void()>(void **)> bind;
};

void enlist(Kernel kernel);

template <class... A, size_t... I>
std::function<void()> bind(void (*kernel)(A...), [[maybe_unused]] void **arguments, std::index_sequence<I...>) {
    std::tuple<std::remove_const_t<A>...> copies(*static_cast<std::remove_const_t<A> *>(arguments[I])...);
    return [kernel, copies] { std::apply(kernel, copies); };
}

// A variable of this kind puts a kernel on the list.
struct Enlisted {
    template <class... A> Enlisted(const char *file, const char *name, void (*kernel)(A...)) {
        enlist({file, name, {sizeof(A)...}, [kernel](void **arguments) {
                    return emulator::bind(kernel, arguments, std::index_sequence_for<A...>());
                }});
    }
};

// The kernel `name` of the project or of candle; null if there is none.
const Kernel *find_kernel(bool candle, const std::string &name);

// Runs all blocks, one after another. False, after a line on stderr, if the kernel does what it must not.
bool run_grid(const char *name, dim3 blocks, dim3 threads, std::function<void()> kernel);

} // namespace emulator
