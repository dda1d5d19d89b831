// libsystemd's bus, loaded on first use: linked, it would cost every command a millisecond of start-up. No policy; every
// function returns 0 or more on success and an error number negated otherwise.
#ifndef LLM_GATEWAY_SYSTEMD_SHIM_H
#define LLM_GATEWAY_SYSTEMD_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

struct sd_bus;

/// What the other side answered instead of a reply: a D-Bus error name and a sentence.
struct shim_bus_failure {
    char name[128];
    char message[512];
};

/// Loads libsystemd.so.0. -ENOENT: it is not installed, or it is too old.
int shim_bus_load(void);

/// Connects to a D-Bus address. With `is_daemon` the other side is a message bus, else systemd itself.
int shim_bus_open(const char *address, bool is_daemon, uint64_t timeout_usec, struct sd_bus *_Nullable *_Nonnull bus);
void shim_bus_close(struct sd_bus *bus);

/// Calls a method of systemd's manager with up to two texts; the first text or object path of the reply is copied.
int shim_bus_call(struct sd_bus *bus, const char *member, const char *_Nullable first, const char *_Nullable second,
                  char *_Nullable reply, size_t size, struct shim_bus_failure *failure);

/// EnableUnitFiles (persistent, not forced) or DisableUnitFiles for these unit names; the list ends with NULL.
int shim_bus_set_enabled(struct sd_bus *bus, bool enabled, char *_Nullable const *_Nonnull units,
                         struct shim_bus_failure *failure);

/// Asks logind to let a user's service manager run without a login, or no longer; never asks a person for a password.
int shim_bus_set_linger(struct sd_bus *bus, uint32_t user, bool on, struct shim_bus_failure *failure);

/// Whether there are processes in the control group of a unit or below it: 1 or 0.
int shim_bus_has_processes(struct sd_bus *bus, const char *unit);

/// The object path of a unit.
int shim_bus_unit_path(const char *unit, char *path, size_t size);

/// A property to ask for, and what came back.
struct shim_bus_property {
    const char *path;
    const char *interface;
    const char *name;
    /// Its D-Bus type: 's', 'u', 't', 'b', 'a' for an array of texts, or 'p' for an array of pairs of texts.
    char type;
    /// 0 or more: it is here; an error number negated otherwise.
    int result;
    /// Of the types u, t and b.
    uint64_t number;
    /// Room for a text; those of an array are joined by line ends, and those of a pair by a space.
    char *_Nullable text;
    size_t size;
};

/// Asks for all properties at once and waits for all answers. Signals that come in between are dropped.
int shim_bus_read(struct sd_bus *bus, struct shim_bus_property *list, size_t count);

/// Asks a message bus for the signals of systemd's manager; systemd itself sends them unasked.
int shim_bus_watch_jobs(struct sd_bus *bus);
/// Handles one message or waits for one. 1: a job has ended, its path and result are copied; 0: something else happened.
int shim_bus_next_job(struct sd_bus *bus, uint64_t timeout_usec, char *job, size_t job_size, char *result,
                      size_t result_size);

/// A scope around one process.
struct shim_bus_scope {
    const char *name;
    const char *slice;
    const char *description;
    uint32_t pid;
    /// Whether what it uses is counted.
    bool accounts;
    /// Whether the end of one of its processes for want of memory leaves the others alone; of scopes since systemd 253.
    bool bears_oom;
};

/// Asks for a transient scope and waits for nothing; the cookie tells a refusal from others.
int shim_bus_start_scope(struct sd_bus *bus, const struct shim_bus_scope *scope, uint64_t *cookie);

/// What becomes readable when there is an event; -1 or less when the connection is gone.
int shim_bus_descriptor(struct sd_bus *bus);

enum shim_bus_event_kind {
    /// Nothing has come.
    shim_bus_nothing,
    /// Something that nobody asked for, or a consent.
    shim_bus_other,
    /// A call was refused: `cookie` and `failure`.
    shim_bus_refused,
    /// A job of the manager has ended: `unit` and `result`.
    shim_bus_job_ended,
};

struct shim_bus_event {
    enum shim_bus_event_kind kind;
    uint64_t cookie;
    struct shim_bus_failure failure;
    char unit[256];
    char result[64];
};

/// Takes what has come, without waiting for it.
int shim_bus_take_event(struct sd_bus *bus, struct shim_bus_event *event);

#pragma clang assume_nonnull end
#endif
