#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <new>

#include "platform.hpp"

namespace minivault {

std::uint8_t* take_pages(std::size_t bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
    if (bytes >= (std::size_t{4} << 20)) madvise(p, bytes, MADV_HUGEPAGE);  // advice: failing costs speed only
#endif
    return static_cast<std::uint8_t*>(p);
}

void free_pages(std::uint8_t* pages, std::size_t bytes) { munmap(pages, bytes); }

void let_go_of([[maybe_unused]] const std::uint8_t* data, [[maybe_unused]] std::size_t bytes) {
#ifdef MADV_PAGEOUT
    const auto begin = (reinterpret_cast<std::uintptr_t>(data) + 4095) / 4096 * 4096;
    const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / 4096 * 4096;
    if (end > begin + (std::size_t{1} << 20)) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_PAGEOUT);
#endif
}

FileView map_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return {};
    struct stat status{};
    const std::size_t size = fstat(fd, &status) == 0 ? static_cast<std::size_t>(status.st_size) : 0;
    void* mapped = size > 0 ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    ::close(fd);
    if (mapped == MAP_FAILED) return {};
    return {static_cast<const std::uint8_t*>(mapped), size};
}

void unmap_file(const FileView& view) { munmap(const_cast<std::uint8_t*>(view.data), view.bytes); }

NewFile::NewFile(const std::string& path)
    : path_(path), part_(path + ".part"), handle_(::open(part_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600)),
      good_(handle_ >= 0) {}

NewFile::~NewFile() {
    if (handle_ < 0) return;
    close();
    ::unlink(part_.c_str());
}

void NewFile::close() {
    ::close(static_cast<int>(handle_));
    handle_ = -1;
}

bool NewFile::write(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    while (good_ && bytes > 0) {
        const ssize_t n = ::write(static_cast<int>(handle_), p, std::min<std::size_t>(bytes, std::size_t{1} << 26));
        good_ = n > 0;
        if (!good_) break;
        p += n;
        bytes -= static_cast<std::size_t>(n);
    }
    return good_;
}

bool NewFile::publish() {
    if (!good_) return false;
    good_ = fsync(static_cast<int>(handle_)) == 0;
    close();
    good_ = good_ && std::rename(part_.c_str(), path_.c_str()) == 0;
    if (!good_) ::unlink(part_.c_str());
    return good_;
}

}  // namespace minivault
