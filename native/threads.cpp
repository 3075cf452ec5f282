#include "threads.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace minivault {
namespace {

constexpr int kSpins = 4000;

inline void relax(int spins) {
    if (spins > kSpins) {
        std::this_thread::yield();
        return;
    }
#if defined(__x86_64__)
    _mm_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Round to nearest, no flushing of subnormals: a library that was loaded may have set it otherwise for its thread.
class PlainFloats {
  public:
#if defined(__x86_64__)
    PlainFloats() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80); }
    ~PlainFloats() { _mm_setcsr(saved_); }

  private:
    unsigned saved_;
#elif defined(__aarch64__)
    PlainFloats() {
        asm volatile("mrs %0, fpcr" : "=r"(saved_));
        asm volatile("msr fpcr, %0" : : "r"(std::uint64_t{0}));
    }
    ~PlainFloats() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

  private:
    std::uint64_t saved_ = 0;
#endif
};

}  // namespace

Team::Team(int threads) : size_(threads < 1 ? 1 : threads) {
    for (int member = 1; member < size_; ++member) helpers_.emplace_back([this, member] { serve(member); });
}

Team::~Team() {
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
    work(0);
    for (int spins = 0; finished_.load(std::memory_order_acquire) != size_ - 1; ++spins) relax(spins);
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
        (*work_)(member);
        finished_.fetch_add(1, std::memory_order_release);
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
    for (int spins = 0; generation_.load(std::memory_order_acquire) == generation; ++spins) relax(spins);
}

}  // namespace minivault
