// Read bandwidth of the memory: each thread sums its own part of a buffer far larger than the caches.
// Usage: bandwidth THREADS MIB; prints the best of several passes in bytes per second.
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

constexpr size_t kLanes = 32;

uint64_t sum(const uint64_t* values, size_t count) {
  uint64_t lanes[kLanes] = {};
  for (size_t i = 0; i + kLanes <= count; i += kLanes) {
    __builtin_prefetch(values + i + 512);
    __builtin_prefetch(values + i + 520);
    __builtin_prefetch(values + i + 528);
    __builtin_prefetch(values + i + 536);
    for (size_t lane = 0; lane < kLanes; ++lane) lanes[lane] += values[i + lane];
  }
  uint64_t total = 0;
  for (uint64_t lane : lanes) total += lane;
  return total;
}

double pass(const std::vector<uint64_t*>& parts, size_t count, volatile uint64_t* sink) {
  std::vector<std::thread> threads;
  const auto started = std::chrono::steady_clock::now();
  for (uint64_t* part : parts) threads.emplace_back([=] { *sink = sum(part, count); });
  for (std::thread& thread : threads) thread.join();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 2;
  const size_t bytes = (argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1024) << 20;
  const size_t count = bytes / threads / sizeof(uint64_t);
  std::vector<uint64_t*> parts;
  for (int i = 0; i < threads; ++i) {
    void* memory = std::aligned_alloc(1 << 21, (count * sizeof(uint64_t) + (1 << 21) - 1) >> 21 << 21);
    if (memory == nullptr) return 1;
    std::memset(memory, i + 1, count * sizeof(uint64_t));
    parts.push_back(static_cast<uint64_t*>(memory));
  }
  volatile uint64_t sink = 0;
  double best = 1e9;
  for (int i = 0; i < 8; ++i) {
    const double seconds = pass(parts, count, &sink);
    if (seconds < best) best = seconds;
  }
  std::printf("%.0f\n", static_cast<double>(threads) * count * sizeof(uint64_t) / best);
  for (uint64_t* part : parts) std::free(part);
}
