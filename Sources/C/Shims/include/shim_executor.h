// The concurrency runtime's hook for jobs that belong to no actor, which is declared in no header of the toolchain.
#ifndef LLM_GATEWAY_SHIM_EXECUTOR_H
#define LLM_GATEWAY_SHIM_EXECUTOR_H

#pragma clang assume_nonnull begin

/// Sends every job of the global executor to `enqueue` from now on; to be called before the first task exists.
void shim_take_global_jobs(void (*enqueue)(void *job));

/// Runs such a job on this thread as what it is: of no actor, and of a task without a preference.
void shim_run_global_job(void *job);

#pragma clang assume_nonnull end
#endif
