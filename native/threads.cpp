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

// The parts of a team's `round_`.
constexpr std::uint64_t kInside = 0xffff;
constexpr std::uint64_t kOpen = 0x10000;
constexpr int kNumber = 17;

// Thrown in a phase that will never be over: another member has left it with an exception.
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
    {
        std::lock_guard lock(mutex_);
        work_ = &work;
        const std::uint64_t number = (round_.load(std::memory_order_relaxed) >> kNumber) + 1;
        round_.store(number << kNumber | kOpen, std::memory_order_release);
    }
    wake_.notify_all();
    attempt(0);
    // Order: `work` and what it refers to must outlive the part of every helper that is inside, also when this one's has
    // failed.
    round_.fetch_and(~kOpen, std::memory_order_relaxed);
    for (int spins = 0; round_.load(std::memory_order_acquire) & kInside; ++spins) relax(spins);
    if (!failed_.load(std::memory_order_acquire)) return;
    failed_.store(false, std::memory_order_relaxed);
    std::rethrow_exception(std::exchange(failure_, nullptr));
}

// Goes into a round that is open and not the one `seen`.
bool Team::enter(std::uint64_t& seen) {
    std::uint64_t round = round_.load(std::memory_order_acquire);
    while ((round & kOpen) && round >> kNumber != seen) {
        if (!round_.compare_exchange_weak(round, round + 1, std::memory_order_acquire)) continue;
        seen = round >> kNumber;
        return true;
    }
    return false;
}

void Team::serve(int member) {
    [[maybe_unused]] const PlainFloats plain;
    std::uint64_t seen = 0;
    for (;;) {
        bool inside = false;
        // Between steps the engine thread is in Python for some tens of microseconds: wait awake for about that long.
        for (int spins = 0; spins < kSpins && !(inside = enter(seen)); ++spins) relax(0);
        if (!inside) {
            std::unique_lock lock(mutex_);
            wake_.wait(lock, [&] { return stopping_.load() || (inside = enter(seen)); });
        }
        if (!inside) return;
        attempt(member);
        round_.fetch_sub(1, std::memory_order_release);
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

void Team::wait_for_others(const WorkQueue& queue) const {
    for (int spins = 0; queue.inside_.load(std::memory_order_acquire) != 0; ++spins) {
        if (failed_.load(std::memory_order_relaxed)) throw Abandoned{};
        relax(spins);
    }
}

}  // namespace minivault
