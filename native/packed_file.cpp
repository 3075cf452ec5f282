#include "packed_file.hpp"

#include <algorithm>
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

void pad_to_page(NewFile& file, std::size_t written) {
    static const std::uint8_t zeros[kPage] = {};
    file.write(zeros, aligned(written) - written);
}

}  // namespace

PackedFile::~PackedFile() { unmap_file(view_); }

std::shared_ptr<const PackedFile> PackedFile::open(const std::string& path, const PackedKey& key, Team& team) {
    const FileView view = map_file(path);
    if (view.data == nullptr) return nullptr;
    std::shared_ptr<PackedFile> file(new PackedFile(view));
    if (view.bytes < sizeof(Header)) return nullptr;
    Header header;
    std::memcpy(&header, view.data, sizeof header);
    if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0 || header.key != key || header.bytes != view.bytes ||
        header.count > kMostSections || sizeof(Header) + header.count * sizeof(Entry) > view.bytes) {
        return nullptr;
    }
    for (std::uint64_t i = 0; i < header.count; ++i) {
        Entry entry;
        std::memcpy(&entry, view.data + sizeof(Header) + i * sizeof(Entry), sizeof entry);
        if (entry.offset > view.bytes || entry.bytes > view.bytes - entry.offset || entry.offset % kPage != 0) return nullptr;
        file->sections_.push_back({view.data + entry.offset, entry.bytes});
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
    NewFile file(path);
    file.write(&header, sizeof header);
    file.write(entries.data(), entries.size() * sizeof(Entry));
    pad_to_page(file, front);
    for (const auto& section : sections) {
        file.write(section.data, section.bytes);
        pad_to_page(file, section.bytes);
    }
    return file.publish();
}

}  // namespace minivault
