// A team of threads: phases end when their pieces are done, whoever came; a failure comes out, and the team goes on.
// Prints what it has seen. Aborts or hangs where that is not so.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "../../native/threads.hpp"

using minivault::Team;
using minivault::WorkQueue;

static constexpr int kPhases = 40;
static constexpr int kPieces = 7;

// Each piece adds one to what the phase before has left in every place: wrong if a phase begins before the last has ended,
// or a piece is done twice or by nobody.
static bool counts(Team& team, std::vector<WorkQueue>& queues, int sleeper) {
    std::vector<int> before(kPieces, 0);
    std::vector<int> after(kPieces, 0);
    for (auto& queue : queues) queue.reset();
    team.run([&](int member) {
        if (member == sleeper) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        for (int p = 0; p < kPhases; ++p) {
            std::vector<int>& from = p % 2 ? after : before;
            std::vector<int>& to = p % 2 ? before : after;
            team.phase(queues[p], [&](WorkQueue& q) {
                for (int i = q.take(1); i < kPieces; i = q.take(1)) {
                    int least = from[0];
                    for (const int value : from) least = value < least ? value : least;
                    to[i] = least + 1;
                }
            });
        }
    });
    for (const int value : before) {
        if (value != kPhases) return false;
    }
    return true;
}

// A helper that does not come before all is done is not waited for; nor is one that comes late and finds nothing to do.
static bool goes_alone(Team& team, std::vector<WorkQueue>& queues) {
    for (auto& queue : queues) queue.reset();
    std::atomic<bool> done{false};
    std::atomic<int> pieces{0};
    team.run([&](int member) {
        while (member != 0 && !done.load()) std::this_thread::yield();
        for (int p = 0; p < kPhases; ++p) {
            team.phase(queues[p], [&](WorkQueue& q) {
                for (int i = q.take(1); i < kPieces; i = q.take(1)) ++pieces;
            });
        }
        if (member == 0) done.store(true);
    });
    return pieces.load() == kPhases * kPieces;
}

static std::string failing(Team& team, std::vector<WorkQueue>& queues, int piece, int phase) {
    for (auto& queue : queues) queue.reset();
    try {
        team.run([&](int) {
            for (int p = 0; p < kPhases; ++p) {
                team.phase(queues[p], [&](WorkQueue& q) {
                    for (int i = q.take(1); i < kPieces; i = q.take(1)) {
                        if (p == phase && i == piece) throw std::length_error("piece " + std::to_string(i));
                    }
                });
            }
        });
    } catch (const std::length_error& error) {
        return error.what();
    }
    return "nothing";
}

int main() {
    for (int size = 1; size <= 4; ++size) {
        Team team(size);
        std::vector<WorkQueue> queues(kPhases);
        for (int round = 0; round < 300; ++round) {
            // As while records wait for the disk: members go away between pieces.
            minivault::give_way(round % 2);
            minivault::rounds_are_long.store(round % 2);
            if (!counts(team, queues, round % 3 ? -1 : round % size)) return 1;
            if (!goes_alone(team, queues)) return 2;
            const int piece = round % kPieces;
            if (failing(team, queues, piece, round % kPhases) != "piece " + std::to_string(piece)) return 3;
        }
    }
    std::puts("every phase was whole, every failure came out, and every team went on");
}
