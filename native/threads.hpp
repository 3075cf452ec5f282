// A team of threads that walks through one function together, meeting at barriers. Knows nothing of what they compute.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace minivault {

// Tells all teams of this process that something else in it waits for a core (or no longer does). While it does, members
// whose rounds are long give theirs away between pieces of work, which are far shorter than a scheduler's slice. Short
// rounds do not: cores come free between them, and a member that leaves in the midst of one keeps all others waiting.
// They do so at most some thousand times: a wait without end (a disk that hangs) must not cost the cores for good.
void give_way(bool waits);

extern std::atomic<int> ways_to_give;
extern std::atomic<bool> rounds_are_long;

inline bool others_wait() {
    return ways_to_give.load(std::memory_order_relaxed) > 0 && rounds_are_long.load(std::memory_order_relaxed);
}

inline void step_aside() {
    if (!others_wait()) return;
    ways_to_give.fetch_sub(1, std::memory_order_relaxed);
    std::this_thread::yield();
}

// Hands out pieces of [0, count) to whoever asks first; who computes a piece never changes its bits.
class WorkQueue {
  public:
    void reset() { next_.store(0, std::memory_order_relaxed); }
    // Returns the start of a piece of `size`, or `count` and more when nothing is left.
    int take(int size) {
        step_aside();
        return next_.fetch_add(size, std::memory_order_relaxed);
    }

  private:
    alignas(64) std::atomic<int> next_{0};
};

class Team {
  public:
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }
    // Calls work(member) on every member, the caller being member 0; returns when all have returned. What the first of
    // them to fail threw is thrown again then; the others leave at their next barrier. One caller at a time.
    void run(const std::function<void(int)>& work);
    // Inside `run`: waits for all members, then all see queue `reset`. Spins, since phases are microseconds long, but
    // gives the core away soon, since others (the event loop) need it.
    void barrier();

  private:
    void share(const std::function<void(int)>& work);
    void serve(int member);
    void attempt(int member);
    void stop();

    int size_;
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<std::uint64_t> round_{0};
    std::atomic<int> finished_{0};
    std::atomic<bool> stopping_{false};
    const std::function<void(int)>* work_ = nullptr;
    std::exception_ptr failure_;  // under mutex_ while a round runs
    alignas(64) std::atomic<int> arrived_{0};
    alignas(64) std::atomic<std::uint32_t> generation_{0};
    std::atomic<bool> failed_{false};  // beside what is polled anyway
};

}  // namespace minivault
