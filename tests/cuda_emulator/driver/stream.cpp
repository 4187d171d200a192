#include "stream.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <thread>

#include "memory.h"
#include "report.h"

namespace emulator {

std::recursive_mutex &lock() {
    static std::recursive_mutex mutex;
    return mutex;
}

namespace {
std::set<Stream *> &captures() {
    static std::set<Stream *> set;
    return set;
}

// CUDA_EMULATOR_SPOIL: how many calls a capture holds before it is spoilt.
size_t spoilt_at() {
    static const char *wish = std::getenv("CUDA_EMULATOR_SPOIL");
    return wish ? std::strtoull(wish, nullptr, 10) : SIZE_MAX;
}
} // namespace

void Graph::allocated(uint64_t address) {
    memory.push_back(address);
    live.insert(address);
}
void Graph::freed(uint64_t address) {
    live.erase(address);
    poison(address);
}
Graph::~Graph() {
    for (uint64_t address : memory) live.count(address) ? disown(address) : void(release_memory(address));
}

Stream &stream_of(void *handle) {
    static Stream legacy;
    static std::map<std::thread::id, Stream> of_threads;
    const auto value = reinterpret_cast<uintptr_t>(handle);
    if (value <= 1) return legacy;
    if (value == 2) return of_threads[std::this_thread::get_id()];
    return *static_cast<Stream *>(handle);
}

int submit(void *handle, const char *who, Work work) {
    std::lock_guard<std::recursive_mutex> guard(lock());
    if (reinterpret_cast<uintptr_t>(handle) <= 1 && !captures().empty()) {
        complain("%s on the legacy stream while another stream captures", who);
        for (Stream *stream : captures()) stream->capture->broken = true;
        return STREAM_CAPTURE_IMPLICIT;
    }
    Stream &stream = stream_of(handle);
    if (!stream.capture) return work();
    if (stream.capture->graph->nodes.size() == spoilt_at()) stream.capture->broken = true;
    if (stream.capture->broken) return STREAM_CAPTURE_INVALIDATED;
    stream.capture->graph->nodes.push_back(std::move(work));
    return SUCCESS;
}

int refuse_while_capturing(const char *who) {
    if (captures().empty()) return SUCCESS;
    complain("%s while a stream captures", who);
    for (Stream *stream : captures()) stream->capture->broken = true;
    return STREAM_CAPTURE_UNSUPPORTED;
}

// What a graph that can be launched holds on to.
struct Executable {
    std::shared_ptr<Graph> graph;
};

} // namespace emulator

using namespace emulator;
using Guard = std::lock_guard<std::recursive_mutex>;

API cuStreamCreate(void **stream, unsigned) {
    *stream = new Stream;
    return SUCCESS;
}
API cuStreamCreateWithPriority(void **stream, unsigned flags, int) { return cuStreamCreate(stream, flags); }
API cuStreamDestroy_v2(void *stream) {
    Guard guard(lock());
    captures().erase(static_cast<Stream *>(stream));
    delete static_cast<Stream *>(stream);
    return SUCCESS;
}
API cuStreamSynchronize(void *stream) {
    Guard guard(lock());
    return stream_of(stream).capture ? refuse_while_capturing("cuStreamSynchronize") : SUCCESS;
}
API cuStreamQuery(void *stream) { return cuStreamSynchronize(stream); }
API cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
API cuStreamAttachMemAsync(void *, uint64_t, size_t, unsigned) { return SUCCESS; }
API cuLaunchHostFunc(void *stream, void (*call)(void *), void *data) {
    return submit(stream, "cuLaunchHostFunc", [=] { return call(data), SUCCESS; });
}

API cuStreamBeginCapture_v2(void *handle, int) {
    Guard guard(lock());
    if (reinterpret_cast<uintptr_t>(handle) <= 1) return STREAM_CAPTURE_UNSUPPORTED;
    Stream &stream = stream_of(handle);
    if (stream.capture) return INVALID_VALUE;
    stream.capture = std::make_unique<Capture>();
    captures().insert(&stream);
    return SUCCESS;
}
API cuStreamEndCapture(void *handle, void **graph) {
    Guard guard(lock());
    Stream &stream = stream_of(handle);
    *graph = nullptr;
    if (!stream.capture) return INVALID_VALUE;
    std::unique_ptr<Capture> capture = std::move(stream.capture);
    captures().erase(&stream);
    if (capture->broken) return STREAM_CAPTURE_INVALIDATED;
    *graph = new std::shared_ptr<Graph>(capture->graph);
    return SUCCESS;
}
API cuStreamIsCapturing(void *handle, int *status) {
    Guard guard(lock());
    const auto &capture = stream_of(handle).capture;
    *status = !capture ? 0 : capture->broken ? 2 : 1;
    return SUCCESS;
}

API cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) {
    *executable = new Executable{*static_cast<std::shared_ptr<Graph> *>(graph)};
    return SUCCESS;
}
API cuGraphDestroy(void *graph) {
    Guard guard(lock());
    delete static_cast<std::shared_ptr<Graph> *>(graph);
    return SUCCESS;
}
API cuGraphExecDestroy(void *executable) {
    Guard guard(lock());
    delete static_cast<Executable *>(executable);
    return SUCCESS;
}
API cuGraphUpload(void *, void *) { return SUCCESS; }
API cuGraphLaunch(void *executable, void *stream) {
    std::shared_ptr<Graph> graph = static_cast<Executable *>(executable)->graph;
    return submit(stream, "cuGraphLaunch", [graph] {
        // What a launch of the graph leaves in its memory is nobody's business in the next.
        for (uint64_t address : graph->memory) poison(address), graph->live.insert(address);
        for (const Work &node : graph->nodes)
            if (int status = node()) return status;
        return int(SUCCESS);
    });
}
API cuGraphGetNodes(void *graph, void **, size_t *count) {
    *count = (*static_cast<std::shared_ptr<Graph> *>(graph))->nodes.size();
    return SUCCESS;
}

API cuEventCreate(void **event, unsigned) {
    static char something;
    *event = &something;
    return SUCCESS;
}
API cuEventDestroy_v2(void *) { return SUCCESS; }
API cuEventRecord(void *, void *) { return SUCCESS; }
API cuEventQuery(void *) { return SUCCESS; }
API cuEventSynchronize(void *) {
    Guard guard(lock());
    return refuse_while_capturing("cuEventSynchronize");
}
// Nothing takes time here; a little is given, because people divide by it.
API cuEventElapsedTime_v2(float *milliseconds, void *, void *) {
    *milliseconds = 0.001f;
    return SUCCESS;
}
API cuEventElapsedTime(float *milliseconds, void *a, void *b) { return cuEventElapsedTime_v2(milliseconds, a, b); }
