// What the core asks of the operating system: pages of memory, and files that are mapped or made. One source for POSIX
// and one for Windows. Knows nothing of what is kept there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace minivault {

// Zeroed memory that begins at a page. Throws std::bad_alloc.
std::uint8_t* take_pages(std::size_t bytes);
void free_pages(std::uint8_t* pages, std::size_t bytes);

// These bytes of a mapped file were just read and will not be needed again; a hint that never loses data.
void let_go_of(const std::uint8_t* data, std::size_t bytes);

// A file in memory, read-only. `data` is null if there is no such file, or it is empty or cannot be mapped.
struct FileView {
    const std::uint8_t* data = nullptr;
    std::size_t bytes = 0;
};
FileView map_file(const std::string& path);
void unmap_file(const FileView& view);

// A file while it is written, for its owner alone: it lies beside its path until `publish` gives it its name, whole and
// durable. One that is not published is taken away. Paths are UTF-8.
class NewFile {
  public:
    explicit NewFile(const std::string& path);
    ~NewFile();
    NewFile(const NewFile&) = delete;
    NewFile& operator=(const NewFile&) = delete;

    // Both are false if the disk does not take it, and after that for good.
    bool write(const void* data, std::size_t bytes);
    bool publish();

  private:
    void close();

    std::string path_;
    std::string part_;
    std::intptr_t handle_;
    bool good_;
};

}  // namespace minivault
