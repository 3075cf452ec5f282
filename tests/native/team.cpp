// A team whose members fail: prints what `run` threw, and that the team goes on. Aborts or hangs where it does not.
#include <atomic>
#include <cstdio>
#include <stdexcept>
#include <string>

#include "../../native/threads.hpp"

using minivault::Team;

static std::string failing(Team& team, int who, bool behind_barrier) {
    try {
        team.run([&](int member) {
            if (behind_barrier) team.barrier();
            if (member == who) throw std::length_error("member " + std::to_string(member));
            team.barrier();
            team.barrier();
        });
    } catch (const std::length_error& error) {
        return error.what();
    }
    return "nothing";
}

int main() {
    for (int size = 1; size <= 3; ++size) {
        Team team(size);
        for (int round = 0; round < 10; ++round) {
            for (int who = 0; who < size; ++who) {
                for (const bool behind_barrier : {false, true}) {
                    if (failing(team, who, behind_barrier) != "member " + std::to_string(who)) return 1;
                    std::atomic<int> came{0};
                    team.run([&](int) {
                        team.barrier();
                        ++came;
                        team.barrier();
                        if (came.load() != size) came.store(-1000);
                    });
                    if (came.load() != size) return 2;
                }
            }
        }
    }
    std::puts("every failure came out, and every team went on");
}
