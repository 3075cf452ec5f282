#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <algorithm>
#include <new>

#include "platform.hpp"

namespace minivault {
namespace {

HANDLE handle_of(std::intptr_t value) { return reinterpret_cast<HANDLE>(value); }

const auto kNone = reinterpret_cast<std::intptr_t>(INVALID_HANDLE_VALUE);

// Empty for what is not UTF-8, which no file is called.
std::wstring wide(const std::string& text) {
    const int size = static_cast<int>(text.size());
    std::wstring result(MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text.data(), size, nullptr, 0), L'\0');
    MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, text.data(), size, result.data(), static_cast<int>(result.size()));
    return result;
}

FileView map_open(HANDLE file) {
    LARGE_INTEGER size{};
    if (!GetFileSizeEx(file, &size) || size.QuadPart == 0) return {};
    const HANDLE mapping = CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (mapping == nullptr) return {};
    const void* data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    CloseHandle(mapping);
    if (data == nullptr) return {};
    return {static_cast<const std::uint8_t*>(data), static_cast<std::size_t>(size.QuadPart)};
}

}  // namespace

// Large pages need a privilege that is seldom given: they are not asked for.
std::uint8_t* take_pages(std::size_t bytes) {
    void* p = VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
    if (p == nullptr) throw std::bad_alloc();
    return static_cast<std::uint8_t*>(p);
}

void free_pages(std::uint8_t* pages, std::size_t) { VirtualFree(pages, 0, MEM_RELEASE); }

void let_go_of(const std::uint8_t*, std::size_t) {}

FileView map_file(const std::string& path) {
    const HANDLE file = CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                    OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
    if (file == INVALID_HANDLE_VALUE) return {};
    const FileView view = map_open(file);
    CloseHandle(file);
    return view;
}

void unmap_file(const FileView& view) { UnmapViewOfFile(view.data); }

NewFile::NewFile(const std::string& path)
    : path_(path), part_(path + ".part"),
      handle_(reinterpret_cast<std::intptr_t>(CreateFileW(wide(part_).c_str(), GENERIC_WRITE, 0, nullptr, CREATE_ALWAYS,
                                                          FILE_ATTRIBUTE_NORMAL, nullptr))),
      good_(handle_ != kNone) {}

NewFile::~NewFile() {
    if (handle_ == kNone) return;
    close();
    DeleteFileW(wide(part_).c_str());
}

void NewFile::close() {
    CloseHandle(handle_of(handle_));
    handle_ = kNone;
}

bool NewFile::write(const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    while (good_ && bytes > 0) {
        DWORD written = 0;
        const auto most = static_cast<DWORD>(std::min<std::size_t>(bytes, std::size_t{1} << 26));
        good_ = WriteFile(handle_of(handle_), p, most, &written, nullptr) && written > 0;
        p += written;
        bytes -= written;
    }
    return good_;
}

// A file that is mapped cannot be replaced: then the former one stays.
bool NewFile::publish() {
    if (!good_) return false;
    good_ = FlushFileBuffers(handle_of(handle_));
    close();
    const std::wstring part = wide(part_);
    good_ = good_ && MoveFileExW(part.c_str(), wide(path_).c_str(), MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH);
    if (!good_) DeleteFileW(part.c_str());
    return good_;
}

}  // namespace minivault
