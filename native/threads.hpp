// A team of threads that walks through one function together, phase by phase. Knows nothing of what they compute.
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
// rounds do not: cores come free between them, and leaving costs them more than it gives.
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

// One phase of a round: hands out pieces of [0, count) to whoever asks first; who computes a piece never changes its
// bits. A phase is over when every piece has been computed, whoever of the team was there: a member that has no core just
// now keeps nobody waiting, unless it left with a piece in its hands.
class WorkQueue {
  public:
    // Not while anybody uses it.
    void reset() {
        next_.store(0, std::memory_order_relaxed);
        inside_.store(0, std::memory_order_relaxed);
        over_.store(false, std::memory_order_relaxed);
    }
    // Returns the start of a piece of `size`, or `count` and more when nothing is left.
    int take(int size) {
        if (others_wait()) {
            // Away from its core it has no piece, and nobody has to wait for it.
            inside_.fetch_sub(1, std::memory_order_release);
            step_aside();
            inside_.fetch_add(1, std::memory_order_relaxed);
        }
        // Order: who is told that nothing is left knows of everybody inside who was given something.
        return next_.fetch_add(size, std::memory_order_acq_rel);
    }

  private:
    friend class Team;
    alignas(64) std::atomic<int> next_{0};
    std::atomic<int> inside_{0};
    std::atomic<bool> over_{false};
};

class Team {
  public:
    explicit Team(int threads);
    ~Team();
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;

    int size() const { return size_; }
    // Calls work(member) on the caller, who is member 0, and on every other member that finds a core before the caller
    // has done it all; returns when all who began have returned. What the first of them to fail threw is thrown again
    // then; the others leave at the end of their phase. One caller at a time.
    void run(const std::function<void(int)>& work);
    // Inside `run`, by all members in the same order of queues: calls work(queue), which takes pieces until none is left,
    // and returns when all pieces are done. Members that come late to a phase that is over pass through it. Waits
    // awake, since phases are microseconds long, but gives the core away soon: others (the event loop) need it.
    template <typename Work>
    void phase(WorkQueue& queue, Work work) {
        if (queue.over_.load(std::memory_order_acquire)) return;
        queue.inside_.fetch_add(1, std::memory_order_relaxed);
        work(queue);
        queue.inside_.fetch_sub(1, std::memory_order_release);
        wait_for_others(queue);
        queue.over_.store(true, std::memory_order_release);
    }

  private:
    void wait_for_others(const WorkQueue& queue) const;
    void share(const std::function<void(int)>& work);
    void serve(int member);
    bool enter(std::uint64_t& seen);
    void attempt(int member);
    void stop();

    int size_;
    std::vector<std::thread> helpers_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<bool> stopping_{false};
    const std::function<void(int)>* work_ = nullptr;
    std::exception_ptr failure_;  // under mutex_ while a round runs
    // The round's number, whether helpers may still enter it, and how many of them are inside.
    alignas(64) std::atomic<std::uint64_t> round_{0};
    std::atomic<bool> failed_{false};  // beside what is polled anyway
};

}  // namespace minivault
