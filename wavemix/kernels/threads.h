// Threads that share the work on many members' groups without stopping one another (threads.cpp).
#pragma once
#include <memory>
#include <new>
#include <vector>

// Stages of work on `members` times `groups` items. A member's next stage begins when all groups of its last one are
// done; members wait for nothing else. `item` does one group, `joint` what follows a stage of one member (in one thread,
// before its next stage). `worker` numbers the thread, from 0.
struct Work {
  int members, groups, stages;
  void (*item)(const void *context, int stage, int member, int group, int worker);
  void (*joint)(const void *context, int stage, int member);
  const void *context;
};
void run(const Work &work);
int workers();  // threads that `run` uses, at most

// item(stage, member, group, worker), joint(stage, member)
template <class Item, class Joint>
static void stages(int members, int groups, int count, const Item &item, const Joint &joint) {
  struct Both { const Item &item; const Joint &joint; } both{item, joint};
  run({members, groups, count,
       [](const void *at, int stage, int m, int g, int worker) { ((const Both *)at)->item(stage, m, g, worker); },
       [](const void *at, int stage, int m) { ((const Both *)at)->joint(stage, m); }, &both});
}
// item(t, worker) for every t below count, in any order
template <class Item>
static void parallel(int count, const Item &item) {
  stages(1, count, 1, [&](int, int, int t, int worker) { item(t, worker); }, [](int, int) {});
}
