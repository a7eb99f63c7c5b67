// Work is handed out group by group: a thread that is free takes the next group of a member, first of the member it
// worked on last. A thread that the system has stopped holds up only the group it has in hand, and only that group's
// member. A thread that finds nothing to do looks again for some microseconds, then offers its core to others between
// looks, and sleeps in the end. OpenMP's threads meet after every loop and spin until the last has come: beside one other
// process on two cores that is the scheduler's whole time slice, dozens of times a step.
#include "threads.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#if defined(__x86_64__) || defined(__i386__)
#include <immintrin.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace {

void rest() {  // one look's pause
#if defined(__x86_64__) || defined(__i386__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

using Clock = std::chrono::steady_clock;
using std::chrono::microseconds;
constexpr microseconds LOOK{20};    // so long a thread that has nothing to do keeps its core to itself
constexpr microseconds AWAKE{5000};  // so long it offers it to others, but looks again; then it sleeps: waking takes longer

// Whether to look again at once. `looks` counts from 1, `since` is when the waiting began.
bool patient(int looks, Clock::time_point since) {
  if (looks % 64) { rest(); return true; }
  auto waited = Clock::now() - since;
  if (waited > LOOK) std::this_thread::yield();
  return waited < AWAKE;
}

// A member's stage, and how many of its groups are taken from the front and from the back: one word, changed as one.
struct alignas(64) Member {
  std::atomic<unsigned long long> taken{0};
  std::atomic<int> undone{0};
};
constexpr unsigned long long FRONT = 1ull << 20, STAGE = 1ull << 40, LOW = FRONT - 1;

struct State {  // outlives its call for threads that still look at it
  const Work work;
  std::vector<Member> members;
  std::atomic<int> unfinished;
  explicit State(const Work &work) : work(work), members(work.members), unfinished(work.members) {
    for (Member &member : members) member.undone = work.groups;
  }

  // Does one group of member m, if one is to be had. Even workers take from the front, odd ones from the back, so that
  // most groups stay with the thread whose cache they are in.
  bool one(int m, int worker) {
    Member &member = members[m];
    auto taken = member.taken.load(std::memory_order_acquire);
    int stage, group;
    do {
      int front = taken >> 20 & LOW, back = taken & LOW;
      if (front + back == work.groups) return false;
      stage = taken >> 40;
      group = worker % 2 ? work.groups - 1 - back : front;
    } while (!member.taken.compare_exchange_weak(taken, taken + (worker % 2 ? 1 : FRONT), std::memory_order_acq_rel));
    work.item(work.context, stage, m, group, worker);
    if (member.undone.fetch_sub(1, std::memory_order_acq_rel) > 1) return true;
    work.joint(work.context, stage, m);
    if (stage + 1 == work.stages) {
      unfinished.fetch_sub(1, std::memory_order_release);
    } else {
      member.undone.store(work.groups, std::memory_order_relaxed);
      member.taken.store((stage + 1) * STAGE, std::memory_order_release);
    }
    return true;
  }
  bool finished() const { return unfinished.load(std::memory_order_acquire) <= 0; }
};

// Works on what there is until all is done.
void share(State &state, int worker, int of) {
  const int K = state.work.members;
  int m = (long)worker * K / of, looks = 0;  // everyone begins with a member of his own, if there are enough
  Clock::time_point since;
  while (!state.finished()) {
    int tried = 0;
    for (; tried < K && !state.one(m, worker); tried++) m = (m + 1) % K;
    if (tried < K) { looks = 0; continue; }
    if (!looks++) since = Clock::now();
    patient(looks, since);
  }
}

struct Pool {
  std::mutex busy;  // with a call

  void run(const Work &work, int count) {
    for (; threads < count - 1; threads++) std::thread([this, worker = threads + 1] { serve(worker); }).detach();
    auto state = std::make_shared<State>(work);
    bool sleepers;
    {
      std::lock_guard<std::mutex> lock(mutex);
      current = state;
      sharing = count;
      number.fetch_add(1, std::memory_order_release);
      sleepers = asleep;
    }
    if (sleepers) wake.notify_all();
    share(*state, 0, count);
  }

 private:
  std::mutex mutex;  // of what follows
  std::condition_variable wake;
  std::shared_ptr<State> current;
  std::atomic<long> number{0};  // of calls so far
  int threads = 0, sharing = 1, asleep = 0;

  void serve(int worker) {
    for (long seen = 0;;) {
      auto since = Clock::now();
      for (int looks = 1; number.load(std::memory_order_acquire) == seen && patient(looks, since); looks++) {}
      std::unique_lock<std::mutex> lock(mutex);
      asleep++;
      wake.wait(lock, [&] { return number.load() != seen; });
      asleep--;
      seen = number.load();
      std::shared_ptr<State> state = current;
      int of = sharing;
      lock.unlock();
      if (worker < of) share(*state, worker, of);
    }
  }
};

// Never taken down: its threads may be looking at it when the process ends. A fork has none of them and begins anew.
Pool *pool = new Pool;
thread_local int thread_count = 1;  // of the calls of one thread
#if defined(__unix__) || defined(__APPLE__)
int forks = pthread_atfork(nullptr, nullptr, [] { pool = new Pool; });
#endif

}

int workers() { return thread_count; }

void run(const Work &work) {
  if (!work.members || !work.groups) return;  // nothing would ever be the last to be done
  long count = std::min<long>(thread_count, (long)work.members * work.groups);
  std::unique_lock<std::mutex> alone(pool->busy, std::defer_lock);
  if (count > 1 && alone.try_lock()) return pool->run(work, count);
  State state(work);  // one thread, or the others are another call's
  share(state, 0, 1);
}

extern "C" void threads(int count) { thread_count = std::max(1, count); }
