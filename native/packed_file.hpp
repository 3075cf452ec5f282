// Packed weights on disk: sections of bytes behind a header with a key and a checksum, mapped into memory at the next
// start. Knows nothing of what the sections hold.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "platform.hpp"
#include "threads.hpp"

namespace minivault {

// What the weights were packed from, and how: 32 bytes chosen by the caller.
using PackedKey = std::array<std::uint8_t, 32>;

struct Section {
    const std::uint8_t* data;
    std::size_t bytes;
};

// A file in memory, read-only; unmapped with the last section that is in use.
class PackedFile {
  public:
    // Null if there is no such file, or it was not written whole, for this key, by this version, or is damaged.
    static std::shared_ptr<const PackedFile> open(const std::string& path, const PackedKey& key, Team& team);
    // Writes beside `path`, syncs, then renames. False if the disk does not take it; nothing is left behind then.
    static bool write(const std::string& path, const PackedKey& key, const std::vector<Section>& sections, Team& team);

    ~PackedFile();
    PackedFile(const PackedFile&) = delete;
    PackedFile& operator=(const PackedFile&) = delete;

    const std::vector<Section>& sections() const { return sections_; }

  private:
    explicit PackedFile(const FileView& view) : view_(view) {}

    FileView view_;
    std::vector<Section> sections_;
};

}  // namespace minivault
