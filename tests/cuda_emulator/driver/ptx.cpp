#include "ptx.h"

#include <cstring>
#include <sstream>

namespace emulator {

namespace {

// `.b8 name[24]` is 24 bytes, `.u64 name` is 8: the number behind the kind, times the one in brackets.
size_t bytes(const std::string &declaration) {
    size_t width = 0;
    std::istringstream words(declaration);
    for (std::string word; words >> word;) {
        static const char *kinds[] = {".b", ".u", ".s", ".f"};
        for (const char *kind : kinds)
            if (word.compare(0, 2, kind) == 0 && isdigit(word[2])) width = std::stoul(word.substr(2)) / 8;
    }
    const size_t bracket = declaration.find('[');
    return bracket == std::string::npos ? width : width * std::stoul("0" + declaration.substr(bracket + 1));
}

std::string name_of(const std::string &line) {
    const size_t from = line.find(".entry ") + 7;
    return line.substr(from, line.find_first_of("( \t,;", from) - from);
}

} // namespace

std::map<std::string, Entry> entries_of_ptx(const char *text) {
    std::map<std::string, Entry> entries;
    if (!std::strstr(text, ".version") || !std::strstr(text, ".target")) return entries;
    Entry *entry = nullptr;
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        if (line.find(".entry ") != std::string::npos) entry = &entries[name_of(line)];
        if (!entry) continue;
        if (line.find(".param ") != std::string::npos && line.find("ld.param") == std::string::npos)
            entry->arguments.push_back(bytes(line));
        if (line.find(".shared ") != std::string::npos) entry->shared += bytes(line);
        const size_t most = line.find(".maxntid ");
        if (most != std::string::npos) entry->most_threads = unsigned(std::stoul(line.substr(most + 9)));
        if (line == "}") entry = nullptr;
    }
    return entries;
}

} // namespace emulator
