// From one stack to another and back.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)

namespace emulator {

struct Context {
    void *stack;
};

extern "C" void emulator_switch(void **save, void *to);

// Goes on in `to`; comes back when somebody leaves for `from`.
inline void leave(Context &from, Context &to) { emulator_switch(&from.stack, to.stack); }

// `end` is the upper end of the stack, which grows towards lower addresses.
inline void prepare(Context &context, char *end, void (*entry)()) {
    // From the top: a return address for nobody, the entry, six registers. At the entry the stack is as after a call.
    auto top = reinterpret_cast<uint64_t *>((reinterpret_cast<uint64_t>(end) & ~uint64_t(15)) - 8);
    top[0] = 0;
    top[-1] = reinterpret_cast<uint64_t>(entry);
    for (int i = 2; i <= 7; i++) top[-i] = 0;
    context.stack = top - 7;
}

} // namespace emulator

#else
#include <ucontext.h>

namespace emulator {

struct Context {
    ucontext_t context;
};

inline void leave(Context &from, Context &to) { swapcontext(&from.context, &to.context); }

inline void prepare(Context &context, char *end, void (*entry)()) {
    const size_t enough = 96 << 10;
    getcontext(&context.context);
    context.context.uc_stack.ss_sp = end - enough;
    context.context.uc_stack.ss_size = enough;
    context.context.uc_link = nullptr;
    makecontext(&context.context, entry, 0);
}

} // namespace emulator
#endif
