// The scheduler of a block's threads: see device/fibres.h.

#include "fibres.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "launch.h"
#include "memory.h"
#include "report.h"
#include "switch.h"

namespace emulator {

Thread *self;
Place place;

namespace {

enum class State { fresh, ready, at_barrier, at_exchange, ended };

struct Fibre : Thread {
    State state;
    // While it waits: where it goes on, and on which stack.
    Context context;
    char *stack;
    // What it brings to an exchange, and what it takes from it.
    Op op;
    unsigned mask;
    int lane, width;
    uint64_t value;
};

const size_t STACK = 160 << 10;
const unsigned MOST_THREADS = 1024;

Fibre fibres[MOST_THREADS];
// A stack serves one thread after another, for as long as they end without waiting; a thread that waits keeps it.
std::vector<char *> free_stacks;
char *stack_in_use;
unsigned stacks;
Context scheduler;
std::function<void()> body;
unsigned count, alive, next;
std::vector<unsigned> order;
bool progress;
std::string failure;
sigjmp_buf fault_return;
volatile sig_atomic_t running;
pthread_t runner;

Fibre &current() { return *static_cast<Fibre *>(self); }

std::string where() {
    const uint3 b = place.block, t = self->index;
    return format("block (%u,%u,%u) thread (%u,%u,%u)", b.x, b.y, b.z, t.x, t.y, t.z);
}

// What runs on a fresh stack: threads that have not begun, until one waits. It goes on here when it no longer does.
void run_threads() {
    while (next < count && failure.empty()) {
        Fibre &fibre = fibres[order[next++]];
        self = &fibre;
        fibre.state = State::ready;
        body();
        current().state = State::ended;
        alive--;
    }
    free_stacks.push_back(stack_in_use);
    Context nobody;
    leave(nobody, scheduler);
    __builtin_unreachable();
}

void wait(State state) {
    Fibre &fibre = current();
    fibre.state = state;
    fibre.stack = stack_in_use;
    leave(fibre.context, scheduler);
}

char *take_stack() {
    if (free_stacks.empty()) {
        void *fresh = mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (fresh == MAP_FAILED) std::abort();
        // Not all at the same place of a page, where they would drive each other out of the cache.
        return static_cast<char *>(fresh) + STACK - 16384 + 448 * (stacks++ % 32);
    }
    char *stack = free_stacks.back();
    free_stacks.pop_back();
    return stack;
}

void begin_threads() {
    stack_in_use = take_stack();
    Context fresh;
    prepare(fresh, stack_in_use, run_threads);
    leave(scheduler, fresh);
}

void resume(Fibre &fibre) {
    self = &fibre;
    stack_in_use = fibre.stack;
    leave(scheduler, fibre.context);
}

// The lane that `reader` takes its value from, in 0..32, as the device's manual has it: itself where that leaves its segment.
unsigned source(const Fibre &reader, unsigned own) {
    const unsigned width = unsigned(reader.width), start = own & ~(width - 1), by = unsigned(reader.lane);
    switch (reader.op) {
    case Op::index: return start + (by & (width - 1));
    case Op::up: return own >= start + by ? own - by : own;
    case Op::down: return own + by < start + width ? own + by : own;
    case Op::exclusive_or: return (own ^ by) < start + width ? own ^ by : own;
    default: return own;
    }
}

bool same(const Fibre &a, const Fibre &b) { return a.op == b.op && a.mask == b.mask; }

// All lanes of `mask` in the warp that starts at `first` are there: values change hands.
void complete(unsigned first, unsigned mask) {
    uint64_t brought[32], ballot = 0;
    unsigned here = 0;
    for (unsigned lane = 0; lane < 32; lane++) {
        const Fibre &fibre = fibres[first + lane];
        if (!(mask >> lane & 1) || first + lane >= count || fibre.state != State::at_exchange) continue;
        here |= 1u << lane;
        brought[lane] = fibre.value;
        if (fibre.value) ballot |= 1u << lane;
    }
    for (unsigned lane = 0; lane < 32; lane++) {
        if (!(here >> lane & 1)) continue;
        Fibre &fibre = fibres[first + lane];
        const unsigned from = source(fibre, lane);
        fibre.value = fibre.op == Op::ballot ? ballot : here >> from & 1 ? brought[from] : ~uint64_t(0);
        fibre.state = State::ready;
    }
}

// Whether the exchange that the fibre waits at has everybody; fails where the others of its mask do something else.
bool everybody(unsigned first, const Fibre &waiting) {
    for (unsigned lane = 0; lane < 32 && first + lane < count; lane++) {
        const Fibre &other = fibres[first + lane];
        if (!(waiting.mask >> lane & 1) || other.state == State::ended) continue;
        if (other.state != State::at_exchange) return false;
        if (!same(other, waiting)) {
            failure = format("lanes of a warp exchange with different operations or masks (%#x, %#x)", waiting.mask, other.mask);
            return false;
        }
    }
    return true;
}

void release() {
    for (unsigned i = 0; i < count; i++) {
        if (fibres[i].state == State::at_exchange && everybody(i & ~31u, fibres[i])) {
            complete(i & ~31u, fibres[i].mask);
            progress = true;
        }
        if (!failure.empty()) return;
    }
    unsigned waiting = 0;
    for (unsigned i = 0; i < count; i++) waiting += fibres[i].state == State::at_barrier;
    if (waiting == 0 || waiting != alive) return;
    for (unsigned i = 0; i < count; i++)
        if (fibres[i].state == State::at_barrier) fibres[i].state = State::ready;
    progress = true;
}

void run_block() {
    poison_shared();
    alive = count;
    next = 0;
    for (unsigned i = 0; i < count; i++) {
        fibres[i].state = State::fresh;
        const unsigned x = place.threads.x, y = place.threads.y;
        fibres[i].index = {i % x, i / x % y, i / x / y};
    }
    while (next < count && failure.empty()) begin_threads();
    while (alive > 0 && failure.empty()) {
        progress = false;
        release();
        if (!progress && failure.empty()) failure = "threads wait for others that never come: a barrier or exchange that not all reach";
        for (unsigned i : order)
            if (failure.empty() && fibres[i].state == State::ready) resume(fibres[i]);
    }
}

// CUDA_EMULATOR_ORDER: forward, reverse or a number that seeds a shuffle. A missing barrier shows in one of them.
std::vector<unsigned> order_of_threads() {
    std::vector<unsigned> threads(count);
    for (unsigned i = 0; i < count; i++) threads[i] = i;
    const char *wish = std::getenv("CUDA_EMULATOR_ORDER");
    if (!wish || !std::strcmp(wish, "forward")) return threads;
    if (!std::strcmp(wish, "reverse")) return {threads.rbegin(), threads.rend()};
    std::mt19937 random(unsigned(std::atoi(wish)));
    for (unsigned i = count; i > 1; i--) std::swap(threads[i - 1], threads[random() % i]);
    return threads;
}

void on_fault(int signal, siginfo_t *info, void *) {
    if (!running || !pthread_equal(runner, pthread_self())) {
        // Not a kernel's: as it would have been without the emulator.
        ::signal(signal, SIG_DFL);
        return;
    }
    failure = signal == SIGSEGV || signal == SIGBUS ? describe(reinterpret_cast<uint64_t>(info->si_addr))
                                                    : std::string("undefined behaviour (alignment, bounds or division)");
    siglongjmp(fault_return, 1);
}

struct FaultHandler {
    struct sigaction before[4];
    static constexpr int signals[4] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE};
    stack_t old_stack;
    std::vector<char> stack = std::vector<char>(64 << 10);

    FaultHandler() {
        stack_t own{stack.data(), 0, stack.size()};
        sigaltstack(&own, &old_stack);
        struct sigaction action {};
        action.sa_sigaction = on_fault;
        action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
        for (int i = 0; i < 4; i++) sigaction(signals[i], &action, &before[i]);
    }
    ~FaultHandler() {
        for (int i = 0; i < 4; i++) sigaction(signals[i], &before[i], nullptr);
        sigaltstack(&old_stack, nullptr);
    }
};

void run_blocks() {
    order = order_of_threads();
    for (unsigned z = 0; z < place.blocks.z; z++)
        for (unsigned y = 0; y < place.blocks.y; y++)
            for (unsigned x = 0; x < place.blocks.x; x++) {
                place.block = {x, y, z};
                run_block();
                if (!failure.empty()) return;
            }
}

} // namespace

void barrier() { wait(State::at_barrier); }

uint64_t exchange(Op op, unsigned mask, uint64_t value, int lane, int width) {
    Fibre &fibre = current();
    const unsigned own = unsigned(&fibre - fibres) & 31;
    if (!(mask >> own & 1)) fail("a thread exchanges with a mask that does not name it");
    if (width < 1 || width > 32 || (width & (width - 1))) fail("the width of a shuffle is no power of two up to 32");
    fibre.op = op, fibre.mask = mask, fibre.lane = lane, fibre.width = width, fibre.value = value;
    wait(State::at_exchange);
    return fibre.value;
}

void fail(const char *why) {
    failure = why;
    leave(current().context, scheduler);
    __builtin_unreachable();
}

void mark(const char *why) {
    if (running && failure.empty()) failure = why;
}

bool run_grid(const char *name, dim3 blocks, dim3 threads, std::function<void()> kernel) {
    place.threads = threads, place.blocks = blocks;
    body = std::move(kernel);
    count = threads.x * threads.y * threads.z;
    failure.clear();
    find_shared();
    {
        FaultHandler handler;
        if (sigsetjmp(fault_return, 1) == 0) {
            runner = pthread_self();
            running = 1;
            run_blocks();
        }
        running = 0;
    }
    body = nullptr;
    if (failure.empty()) return true;
    // The stacks of threads that will not go on are lost: a launch that fails is rare.
    complain("kernel %s, %s: %s", name, where().c_str(), failure.c_str());
    return false;
}

} // namespace emulator

// libubsan calls this after it has printed file, line and reason of an error in a kernel.
extern "C" __attribute__((visibility("default"))) void __ubsan_on_report() {
    emulator::mark("undefined behaviour, reported above");
}
