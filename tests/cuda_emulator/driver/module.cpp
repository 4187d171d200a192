// Modules and launches. A module is PTX, which does not run here: its kernels are looked up by name among those that were
// compiled into the emulator, and what the PTX says of them is checked.

#include <cstring>
#include <fstream>
#include <sstream>

#include "launch.h"
#include "memory.h"
#include "ptx.h"
#include "report.h"
#include "stream.h"

using namespace emulator;
using Guard = std::lock_guard<std::recursive_mutex>;

namespace emulator {

namespace {
std::map<std::string, Kernel> &kernels(bool candle) {
    static std::map<std::string, Kernel> of[2];
    return of[candle];
}
} // namespace

void enlist(Kernel kernel) {
    auto &map = kernels(!std::strcmp(kernel.file, "candle"));
    if (!map.emplace(kernel.name, kernel).second) complain("two kernels are called %s", kernel.name);
}

const Kernel *find_kernel(bool candle, const std::string &name) {
    auto &map = kernels(candle);
    auto found = map.find(name);
    return found == map.end() ? nullptr : &found->second;
}

struct Module {
    std::map<std::string, Entry> entries;
    bool candle = true;
};

struct Function {
    const Kernel *kernel;
    const Entry *entry;
};

const size_t MOST_SHARED = 48 << 10;

int look_up(Function *&out, const Module &module, const char *name) {
    auto entry = module.entries.find(name);
    if (entry == module.entries.end()) {
        complain("the module has no kernel %s", name);
        return NOT_FOUND;
    }
    const Kernel *kernel = find_kernel(module.candle, name);
    if (!kernel) {
        complain("kernel %s of %s is not in the emulator", name, module.candle ? "candle" : "the project: build the emulator again");
        return NOT_FOUND;
    }
    if (kernel->arguments != entry->second.arguments) {
        complain("kernel %s has other arguments in the program than in the emulator: build that again", name);
        return NOT_FOUND;
    }
    if (entry->second.shared > MOST_SHARED) {
        complain("kernel %s has %zu bytes of shared arrays, of at most %zu", name, entry->second.shared, MOST_SHARED);
        return INVALID_IMAGE;
    }
    static std::map<std::pair<const Kernel *, const Entry *>, Function> functions;
    out = &(functions[{kernel, &entry->second}] = Function{kernel, &entry->second});
    return SUCCESS;
}

bool launchable(const Function &function, dim3 blocks, dim3 threads, unsigned shared) {
    const char *name = function.kernel->name;
    const uint64_t in_block = uint64_t(threads.x) * threads.y * threads.z;
    if (in_block == 0 || in_block > 1024 || threads.z > 64 || !blocks.x || !blocks.y || !blocks.z || blocks.x > INT32_MAX ||
        blocks.y > 65535 || blocks.z > 65535) {
        complain("kernel %s: %ux%ux%u blocks of %ux%ux%u threads cannot be", name, blocks.x, blocks.y, blocks.z, threads.x,
                 threads.y, threads.z);
        return false;
    }
    if (function.entry->most_threads && in_block > function.entry->most_threads) {
        complain("kernel %s: %lu threads, its launch bounds say %u", name, (unsigned long)in_block, function.entry->most_threads);
        return false;
    }
    if (shared) complain("kernel %s: dynamic shared memory is not emulated", name);
    return shared == 0;
}

} // namespace emulator

API cuModuleLoadData(void **out, const void *image) {
    Guard guard(lock());
    auto module = std::make_unique<Module>();
    module->entries = entries_of_ptx(static_cast<const char *>(image));
    if (module->entries.empty()) {
        complain("cuModuleLoadData: no PTX text with kernels");
        return INVALID_IMAGE;
    }
    // candle and the project may have kernels of the same name: a module is the project's if most of its kernels are.
    size_t ours = 0;
    for (const auto &entry : module->entries) ours += find_kernel(false, entry.first) != nullptr;
    module->candle = 2 * ours < module->entries.size();
    *out = module.release();
    return SUCCESS;
}
API cuModuleLoadDataEx(void **out, const void *image, unsigned, void *, void *) { return cuModuleLoadData(out, image); }
API cuModuleLoad(void **out, const char *path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return cuModuleLoadData(out, text.str().c_str());
}
// Functions point into their module: it stays.
API cuModuleUnload(void *) { return SUCCESS; }
API cuModuleGetFunction(void **out, void *module, const char *name) {
    Guard guard(lock());
    return look_up(*reinterpret_cast<Function **>(out), *static_cast<Module *>(module), name);
}
// CUfunction_attribute: 0 threads of a block, 1 static shared bytes.
API cuFuncGetAttribute(int *value, int attribute, void *handle) {
    const auto &entry = *static_cast<Function *>(handle)->entry;
    *value = attribute == 0 ? int(entry.most_threads ? entry.most_threads : 1024) : attribute == 1 ? int(entry.shared) : 0;
    return SUCCESS;
}
API cuFuncSetAttribute(void *, int, int) { return SUCCESS; }
API cuFuncSetCacheConfig(void *, int) { return SUCCESS; }
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, void *, int threads, size_t) {
    *blocks = threads > 0 ? 2048 / threads : 0;
    return SUCCESS;
}
API cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, void *f, int threads, size_t shared, unsigned) {
    return cuOccupancyMaxActiveBlocksPerMultiprocessor(blocks, f, threads, shared);
}
API cuOccupancyMaxPotentialBlockSize(int *blocks, int *threads, void *, void *, size_t, int) {
    *blocks = 8, *threads = 256;
    return SUCCESS;
}

API cuLaunchKernel(void *handle, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared,
                   void *stream, void **arguments, void **) {
    const Function function = *static_cast<Function *>(handle);
    const dim3 blocks(gx, gy, gz), threads(bx, by, bz);
    if (!launchable(function, blocks, threads, shared)) return INVALID_VALUE;
    const char *name = function.kernel->name;
    std::function<void()> body = function.kernel->bind(arguments);
    return submit(stream, name, [=] { return run_grid(name, blocks, threads, body) ? SUCCESS : ILLEGAL_ADDRESS; });
}
