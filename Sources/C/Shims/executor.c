#include "shim_executor.h"

#include <stddef.h>
#include <stdint.h>

// swift/stdlib/public/Concurrency: `SWIFT_CC(swift) void (*)(Job *, swift_task_enqueueGlobal_original)`.
typedef __attribute__((swiftcall)) void (*original_enqueue)(void *job);
typedef __attribute__((swiftcall)) void (*enqueue_hook)(void *job, original_enqueue original);
extern enqueue_hook swift_task_enqueueGlobal_hook;

extern __attribute__((swiftcall)) void swift_job_run(void *job, void *actor, uintptr_t witnesses);

static void (*taken)(void *job);

static __attribute__((swiftcall)) void hand_over(void *job, original_enqueue original) {
    (void)original;
    taken(job);
}

void shim_take_global_jobs(void (*enqueue)(void *job)) {
    taken = enqueue;
    swift_task_enqueueGlobal_hook = hand_over;
}

// `SerialExecutorRef::generic()` is two nulls.
void shim_run_global_job(void *job) { swift_job_run(job, NULL, 0); }
