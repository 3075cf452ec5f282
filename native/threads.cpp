#include "threads.hpp"

#include <chrono>
#include <utility>

#include "plain_floats.hpp"

namespace minivault {

std::atomic<int> ways_to_give{0};
std::atomic<bool> rounds_are_long{false};

namespace {

constexpr int kSpins = 4000;
constexpr int kWays = 4096;
constexpr std::chrono::milliseconds kLong{8};

inline void relax(int spins) {
    if (spins > kSpins || others_wait()) {
        std::this_thread::yield();
        return;
    }
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Thrown at a barrier that will never be full: another member has left with an exception.
struct Abandoned {};

}  // namespace

void give_way(bool waits) { ways_to_give.store(waits ? kWays : 0, std::memory_order_relaxed); }

Team::Team(int threads) : size_(threads < 1 ? 1 : threads) {
    try {
        for (int member = 1; member < size_; ++member) helpers_.emplace_back([this, member] { serve(member); });
    } catch (...) {
        stop();
        throw;
    }
}

Team::~Team() { stop(); }

void Team::stop() {
    {
        std::lock_guard lock(mutex_);
        stopping_.store(true);
        round_.fetch_add(1);
    }
    wake_.notify_all();
    for (auto& helper : helpers_) helper.join();
}

void Team::run(const std::function<void(int)>& work) {
    [[maybe_unused]] const PlainFloats plain;
    const auto begun = std::chrono::steady_clock::now();
    share(work);
    rounds_are_long.store(std::chrono::steady_clock::now() - begun > kLong, std::memory_order_relaxed);
}

void Team::share(const std::function<void(int)>& work) {
    if (size_ == 1) {
        work(0);
        return;
    }
    finished_.store(0, std::memory_order_relaxed);
    {
        std::lock_guard lock(mutex_);
        work_ = &work;
        round_.fetch_add(1, std::memory_order_release);
    }
    wake_.notify_all();
    attempt(0);
    // Order: `work` and what it refers to must outlive every helper's part, also when this one's has failed.
    for (int spins = 0; finished_.load(std::memory_order_acquire) != size_ - 1; ++spins) relax(spins);
    if (!failed_.load(std::memory_order_acquire)) return;
    arrived_.store(0, std::memory_order_relaxed);
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
}

void Team::serve(int member) {
    [[maybe_unused]] const PlainFloats plain;
    std::uint64_t seen = 0;
    for (;;) {
        // Between steps the engine thread is in Python for some tens of microseconds: wait awake for about that long.
        for (int spins = 0; spins < kSpins && round_.load(std::memory_order_acquire) == seen; ++spins) relax(0);
        if (round_.load(std::memory_order_acquire) == seen) {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return round_.load(std::memory_order_acquire) != seen; });
        }
        seen = round_.load(std::memory_order_acquire);
        if (stopping_.load()) return;
        attempt(member);
        finished_.fetch_add(1, std::memory_order_release);
    }
}

void Team::attempt(int member) {
    try {
        (*work_)(member);
    } catch (const Abandoned&) {  // who left it has said why
    } catch (...) {
        std::lock_guard lock(mutex_);
        if (!failure_) failure_ = std::current_exception();
        failed_.store(true, std::memory_order_release);
    }
}

void Team::barrier() {
    if (size_ == 1) return;
    const std::uint32_t generation = generation_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
        arrived_.store(0, std::memory_order_relaxed);
        generation_.fetch_add(1, std::memory_order_release);
        return;
    }
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) {
        if (failed_.load(std::memory_order_relaxed)) throw Abandoned{};
        relax(spins);
    }
}

}  // namespace minivault
