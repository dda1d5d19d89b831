#include "shim_executor.h"

// swift/stdlib/public/Concurrency: `SWIFT_CC(swift) void (*)(Job *, swift_task_enqueueGlobal_original)`.
typedef __attribute__((swiftcall)) void (*original_enqueue)(void *job);
typedef __attribute__((swiftcall)) void (*enqueue_hook)(void *job, original_enqueue original);
extern enqueue_hook swift_task_enqueueGlobal_hook;

static void (*taken)(void *job);

static __attribute__((swiftcall)) void hand_over(void *job, original_enqueue original) {
    (void)original;
    taken(job);
}

void shim_take_global_jobs(void (*enqueue)(void *job)) {
    taken = enqueue;
    swift_task_enqueueGlobal_hook = hand_over;
}
