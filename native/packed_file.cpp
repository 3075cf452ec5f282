#include "packed_file.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>

namespace minivault {
namespace {

constexpr char kMagic[8] = {'M', 'V', 'P', 'A', 'C', 'K', '0', '1'};
constexpr std::size_t kPage = 4096;
constexpr std::size_t kChunk = std::size_t{1} << 20;
constexpr std::uint64_t kMostSections = 1 << 20;

struct Header {
    char magic[8];
    PackedKey key;
    std::uint64_t count;
    std::uint64_t bytes;     // of the whole file
    std::uint64_t checksum;  // of all sections
};

struct Entry {
    std::uint64_t offset;
    std::uint64_t bytes;
};

std::size_t aligned(std::size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Against torn writes and rotten disks, not against an attacker: eight lanes of multiply and rotate.
std::uint64_t checksum_of(const std::uint8_t* data, std::size_t bytes, std::uint64_t seed) {
    constexpr std::uint64_t kPrime = 0x9E3779B97F4A7C15u;
    std::uint64_t lane[8];
    for (int i = 0; i < 8; ++i) lane[i] = seed + kPrime * static_cast<std::uint64_t>(i + 1);
    const auto mix = [](std::uint64_t h, std::uint64_t w) {
        h = (h ^ w) * kPrime;
        return h << 29 | h >> 35;
    };
    std::size_t at = 0;
    for (; at + 64 <= bytes; at += 64) {
        std::uint64_t words[8];
        std::memcpy(words, data + at, 64);
        for (int i = 0; i < 8; ++i) lane[i] = mix(lane[i], words[i]);
    }
    std::uint64_t tail[8] = {};
    std::memcpy(tail, data + at, bytes - at);
    std::uint64_t h = seed ^ bytes;
    for (int i = 0; i < 8; ++i) h = mix(mix(h, lane[i]), tail[i]);
    return h;
}

// Chunks are summed, so that the team may take them in any order.
std::uint64_t checksum_all(const std::vector<Section>& sections, Team& team) {
    struct Piece {
        const std::uint8_t* data;
        std::size_t bytes;
    };
    std::vector<Piece> pieces;
    for (const auto& section : sections) {
        for (std::size_t at = 0; at < section.bytes; at += kChunk) {
            pieces.push_back({section.data + at, std::min(kChunk, section.bytes - at)});
        }
    }
    std::atomic<std::uint64_t> total{0};
    WorkQueue queue;
    team.run([&](int) {
        for (int i = queue.take(1); i < static_cast<int>(pieces.size()); i = queue.take(1)) {
            total.fetch_add(checksum_of(pieces[i].data, pieces[i].bytes, static_cast<std::uint64_t>(i) + 1));
        }
    });
    return total.load();
}

bool write_all(int fd, const void* data, std::size_t bytes) {
    const auto* p = static_cast<const std::uint8_t*>(data);
    while (bytes > 0) {
        const ssize_t n = ::write(fd, p, std::min<std::size_t>(bytes, std::size_t{1} << 26));
        if (n <= 0) return false;
        p += n;
        bytes -= static_cast<std::size_t>(n);
    }
    return true;
}

bool pad_to_page(int fd, std::size_t written) {
    static const std::uint8_t zeros[kPage] = {};
    return write_all(fd, zeros, aligned(written) - written);
}

}  // namespace

PackedFile::~PackedFile() { munmap(const_cast<std::uint8_t*>(data_), bytes_); }

std::shared_ptr<const PackedFile> PackedFile::open(const std::string& path, const PackedKey& key, Team& team) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return nullptr;
    struct stat status{};
    const bool plausible = fstat(fd, &status) == 0 && static_cast<std::size_t>(status.st_size) >= sizeof(Header);
    const std::size_t size = plausible ? static_cast<std::size_t>(status.st_size) : 0;
    void* mapped = plausible ? mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0) : MAP_FAILED;
    ::close(fd);
    if (mapped == MAP_FAILED) return nullptr;
    std::shared_ptr<PackedFile> file(new PackedFile(static_cast<const std::uint8_t*>(mapped), size));
    Header header;
    std::memcpy(&header, mapped, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.key != key || header.bytes != size ||
        header.count > kMostSections || sizeof(Header) + header.count * sizeof(Entry) > size) {
        return nullptr;
    }
    for (std::uint64_t i = 0; i < header.count; ++i) {
        Entry entry;
        std::memcpy(&entry, file->data_ + sizeof(Header) + i * sizeof(Entry), sizeof entry);
        if (entry.offset > size || entry.bytes > size - entry.offset || entry.offset % kPage != 0) return nullptr;
        file->sections_.push_back({file->data_ + entry.offset, entry.bytes});
    }
    if (checksum_all(file->sections_, team) != header.checksum) return nullptr;
    return file;
}

bool PackedFile::write(const std::string& path, const PackedKey& key, const std::vector<Section>& sections, Team& team) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.key = key;
    header.count = sections.size();
    header.checksum = checksum_all(sections, team);
    const std::size_t front = sizeof(Header) + sections.size() * sizeof(Entry);
    std::vector<Entry> entries;
    std::size_t offset = aligned(front);
    for (const auto& section : sections) {
        entries.push_back({offset, section.bytes});
        offset += aligned(section.bytes);
    }
    header.bytes = offset;
    const std::string part = path + ".part";
    const int fd = ::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool good = write_all(fd, &header, sizeof header) && write_all(fd, entries.data(), entries.size() * sizeof(Entry)) &&
                pad_to_page(fd, front);
    for (const auto& section : sections) {
        good = good && write_all(fd, section.data, section.bytes) && pad_to_page(fd, section.bytes);
    }
    good = good && fsync(fd) == 0;
    ::close(fd);
    good = good && std::rename(part.c_str(), path.c_str()) == 0;
    if (!good) ::unlink(part.c_str());
    return good;
}

}  // namespace minivault
