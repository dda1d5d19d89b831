// What Swift cannot see of the C library: variadic calls, macros, and calls behind _GNU_SOURCE. No policy, no
// allocation; every function returns 0 or an error number unless it says otherwise.
#ifndef LLM_GATEWAY_SHIMS_H
#define LLM_GATEWAY_SHIMS_H

#include <gnu/libc-version.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/types.h>

#include "shim_curl.h"
#include "shim_executor.h"
#include "shim_microhttpd.h"

#pragma clang assume_nonnull begin

/// What a child process starts with. Descriptors are the parent's; -1 means /dev/null.
struct shim_spawn {
    const char *executable;
    char *const _Nullable *_Nonnull arguments;
    char *const _Nullable *_Nonnull environment;
    const char *_Nullable directory;
    int input;
    int output;
    int error;
    /// A descriptor that the child gets as 3, or -1. Everything from there on is closed.
    int extra;
    /// 1: a session of its own; 0: the parent's.
    int new_session;
};

/// Starts a process with default signal dispositions, an empty signal mask and no other descriptors.
int shim_spawn(const struct shim_spawn *request, pid_t *pid);

/// A descriptor that becomes readable when the process ends (Linux 5.3), or the error number negated.
int shim_pidfd_open(pid_t pid);
/// Sends a signal through a pid descriptor.
int shim_pidfd_send_signal(int descriptor, int signal);

/// open(2) with a mode; the descriptor, or the error number negated. O_CLOEXEC is always set.
int shim_open(const char *path, int flags, mode_t mode);

/// The same for a path that counts from an open folder.
int shim_open_in(int folder, const char *path, int flags, mode_t mode);
/// Sets or clears O_NONBLOCK.
int shim_set_nonblocking(int descriptor, bool on);
/// Sets or clears FD_CLOEXEC.
int shim_set_cloexec(int descriptor, bool on);
/// dup(2) to a descriptor of at least `minimum`, close on exec; the descriptor, or the error number negated.
int shim_dup_above(int descriptor, int minimum);
/// The two numbers of a device, which the macros of makedev(3) keep from Swift.
void shim_device_numbers(dev_t device, uint32_t *major_number, uint32_t *minor_number);
/// rename(2) that swaps two existing names at once.
int shim_exchange(const char *first, const char *second);
/// rename(2) that fails with EEXIST instead of replacing.
int shim_rename_new(const char *from, const char *to);

/// Removes everything in a directory by the names that the disk has, text or not; symlinks are not followed. 0, or -1.
int shim_empty_directory(const char *path);

/// syncfs(2).
int shim_sync_file_system(int descriptor);
/// Starts writing the dirty pages of a file to its disk without waiting (sync_file_range).
int shim_start_writing_back(int descriptor);

/// Decodes a wait status: the exit code, or -signal.
int shim_wait_result(int status);
/// The process that a siginfo_t of waitid(2) speaks of; 0 for none.
pid_t shim_siginfo_pid(const void *info);
/// Becomes the parent of orphaned descendants (prctl PR_SET_CHILD_SUBREAPER).
int shim_become_subreaper(void);
/// Sets the soft limit of open descriptors to the hard one.
int shim_raise_descriptor_limit(void);
/// Columns of a terminal, 0 when unknown.
int shim_terminal_columns(int descriptor);
/// The process id at the other end of a Unix socket, or the error number negated.
int shim_peer_pid(int descriptor);
/// Names the calling thread; at most 15 bytes.
int shim_name_thread(const char *name);
/// The size of pipe buffers: F_SETPIPE_SZ.
int shim_set_pipe_size(int descriptor, int bytes);

#pragma clang assume_nonnull end
#endif
