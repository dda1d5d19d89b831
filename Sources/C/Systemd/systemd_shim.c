#include "systemd_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#define FUNCTIONS(use)                                                                                              \
    use(sd_bus_new) use(sd_bus_set_address) use(sd_bus_set_bus_client) use(sd_bus_set_method_call_timeout)          \
    use(sd_bus_start) use(sd_bus_flush_close_unref) use(sd_bus_message_new_method_call) use(sd_bus_message_append)  \
    use(sd_bus_message_append_strv) use(sd_bus_message_unref) use(sd_bus_message_read_basic)                        \
    use(sd_bus_message_peek_type) use(sd_bus_message_read) use(sd_bus_message_is_signal) use(sd_bus_call)           \
    use(sd_bus_error_free) use(sd_bus_path_encode) use(sd_bus_call_method_async) use(sd_bus_message_get_errno)      \
    use(sd_bus_add_match) use(sd_bus_process) use(sd_bus_wait) use(sd_bus_message_enter_container)                  \
    use(sd_bus_message_exit_container)                                                                              \
    use(sd_bus_message_at_end) use(sd_bus_message_open_container) use(sd_bus_message_close_container)               \
    use(sd_bus_send) use(sd_bus_get_fd) use(sd_bus_message_get_reply_cookie) use(sd_bus_message_get_error)

#define DECLARE(name) static __typeof__(&name) p_##name;
FUNCTIONS(DECLARE)

static int load_result = -ENOENT;

static void load(void) {
    void *library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
#define FIND(name) \
    if (!(p_##name = (__typeof__(&name))dlsym(library, #name))) return;
    FUNCTIONS(FIND)
    load_result = 0;
}

int shim_bus_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return load_result;
}

static const char DESTINATION[] = "org.freedesktop.systemd1";
static const char MANAGER_PATH[] = "/org/freedesktop/systemd1";
static const char MANAGER[] = "org.freedesktop.systemd1.Manager";

static int copy(char *to, size_t size, const char *from) {
    size_t length = strlen(from);
    if (length >= size) return -ENOBUFS;
    memcpy(to, from, length + 1);
    return 0;
}

int shim_bus_open(const char *address, bool is_daemon, uint64_t timeout_usec, struct sd_bus **bus) {
    int result = p_sd_bus_new(bus);
    if (result < 0) return result;
    if ((result = p_sd_bus_set_address(*bus, address)) >= 0 &&
        (result = p_sd_bus_set_bus_client(*bus, is_daemon)) >= 0 &&
        (result = p_sd_bus_set_method_call_timeout(*bus, timeout_usec)) >= 0 && (result = p_sd_bus_start(*bus)) >= 0)
        return 0;
    p_sd_bus_flush_close_unref(*bus);
    *bus = NULL;
    return result;
}

void shim_bus_close(struct sd_bus *bus) { p_sd_bus_flush_close_unref(bus); }

static int finish_call(struct sd_bus *bus, sd_bus_message *call, char *reply, size_t size,
                       struct shim_bus_failure *failure) {
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *answer = NULL;
    int result = p_sd_bus_call(bus, call, 0, &error, &answer);
    failure->name[0] = failure->message[0] = 0;
    if (result < 0) {
        if (error.name) snprintf(failure->name, sizeof failure->name, "%s", error.name);
        if (error.message) snprintf(failure->message, sizeof failure->message, "%s", error.message);
    } else if (reply) {
        const char *text = NULL;
        char type = 0;
        result = p_sd_bus_message_peek_type(answer, &type, NULL);
        if (result > 0 && (type == 's' || type == 'o')) result = p_sd_bus_message_read_basic(answer, type, &text);
        result = result < 0 ? result : copy(reply, size, text ? text : "");
    }
    p_sd_bus_error_free(&error);
    p_sd_bus_message_unref(answer);
    p_sd_bus_message_unref(call);
    return result;
}

int shim_bus_call(struct sd_bus *bus, const char *member, const char *first, const char *second, char *reply,
                  size_t size, struct shim_bus_failure *failure) {
    sd_bus_message *call = NULL;
    int result = p_sd_bus_message_new_method_call(bus, &call, DESTINATION, MANAGER_PATH, MANAGER, member);
    if (result >= 0 && first) result = p_sd_bus_message_append(call, "s", first);
    if (result >= 0 && second) result = p_sd_bus_message_append(call, "s", second);
    if (result < 0) {
        p_sd_bus_message_unref(call);
        return result;
    }
    return finish_call(bus, call, reply, size, failure);
}

int shim_bus_set_enabled(struct sd_bus *bus, bool enabled, char *const *units, struct shim_bus_failure *failure) {
    sd_bus_message *call = NULL;
    const char *member = enabled ? "EnableUnitFiles" : "DisableUnitFiles";
    int result = p_sd_bus_message_new_method_call(bus, &call, DESTINATION, MANAGER_PATH, MANAGER, member);
    if (result >= 0) result = p_sd_bus_message_append_strv(call, (char **)units);
    if (result >= 0)
        result = enabled ? p_sd_bus_message_append(call, "bb", 0, 0) : p_sd_bus_message_append(call, "b", 0);
    if (result < 0) {
        p_sd_bus_message_unref(call);
        return result;
    }
    return finish_call(bus, call, NULL, 0, failure);
}

int shim_bus_set_linger(struct sd_bus *bus, uint32_t user, bool on, struct shim_bus_failure *failure) {
    sd_bus_message *call = NULL;
    int result = p_sd_bus_message_new_method_call(bus, &call, "org.freedesktop.login1", "/org/freedesktop/login1",
                                                  "org.freedesktop.login1.Manager", "SetUserLinger");
    if (result >= 0) result = p_sd_bus_message_append(call, "ubb", user, (int)on, 0);
    if (result < 0) {
        p_sd_bus_message_unref(call);
        return result;
    }
    return finish_call(bus, call, NULL, 0, failure);
}

int shim_bus_has_processes(struct sd_bus *bus, const char *unit) {
    sd_bus_message *call = NULL, *answer = NULL;
    int result = p_sd_bus_message_new_method_call(bus, &call, DESTINATION, MANAGER_PATH, MANAGER, "GetUnitProcesses");
    if (result >= 0) result = p_sd_bus_message_append(call, "s", unit);
    if (result >= 0) result = p_sd_bus_call(bus, call, 0, NULL, &answer);
    if (result >= 0) result = p_sd_bus_message_enter_container(answer, 'a', "(sus)");
    if (result >= 0) result = p_sd_bus_message_at_end(answer, 0);
    p_sd_bus_message_unref(answer);
    p_sd_bus_message_unref(call);
    return result < 0 ? result : result == 0;
}

int shim_bus_unit_path(const char *unit, char *path, size_t size) {
    char *encoded = NULL;
    int result = p_sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &encoded);
    if (result >= 0) result = copy(path, size, encoded);
    free(encoded);
    return result;
}

static int add_line(struct shim_bus_property *item, size_t *used, const char *first, const char *second) {
    int count = snprintf(item->text + *used, item->size - *used, "%s%s%s%s", *used ? "\n" : "", first,
                         second ? " " : "", second ? second : "");
    if (count < 0 || (size_t)count >= item->size - *used) return -ENOBUFS;
    *used += (size_t)count;
    return 1;
}

static int read_lines(sd_bus_message *answer, struct shim_bus_property *item) {
    const char *line = NULL;
    size_t used = 0;
    int result = p_sd_bus_message_enter_container(answer, 'a', "s");
    while (result >= 0 && (result = p_sd_bus_message_read_basic(answer, 's', &line)) > 0)
        result = add_line(item, &used, line, NULL);
    return result;
}

static int read_pairs(sd_bus_message *answer, struct shim_bus_property *item) {
    const char *first = NULL, *second = NULL;
    size_t used = 0;
    int result = p_sd_bus_message_enter_container(answer, 'a', "(ss)");
    while (result >= 0 && (result = p_sd_bus_message_enter_container(answer, 'r', "ss")) > 0) {
        if ((result = p_sd_bus_message_read_basic(answer, 's', &first)) >= 0)
            result = p_sd_bus_message_read_basic(answer, 's', &second);
        if (result >= 0) result = add_line(item, &used, first, second);
        if (result >= 0) result = p_sd_bus_message_exit_container(answer);
    }
    return result;
}

static int read_value(sd_bus_message *answer, struct shim_bus_property *item) {
    const char plain[] = {item->type, item->type == 'a' ? 's' : 0, 0};
    const char *type = item->type == 'p' ? "a(ss)" : plain;
    const char *text = NULL;
    uint32_t narrow = 0;
    int truth = 0;
    int result = p_sd_bus_message_enter_container(answer, 'v', type);
    if (result < 0) return result;
    switch (item->type) {
    case 'a': return read_lines(answer, item);
    case 'p': return read_pairs(answer, item);
    case 's':
        result = p_sd_bus_message_read_basic(answer, 's', &text);
        return result < 0 ? result : copy(item->text, item->size, text);
    case 't': return p_sd_bus_message_read_basic(answer, 't', &item->number);
    case 'u':
        result = p_sd_bus_message_read_basic(answer, 'u', &narrow);
        item->number = narrow;
        return result;
    default:
        result = p_sd_bus_message_read_basic(answer, 'b', &truth);
        item->number = (uint64_t)truth;
        return result;
    }
}

// Until an answer has come, the result is above everything that an answer makes of it.
static const int PENDING = 1 << 16;

static int take_answer(sd_bus_message *answer, void *data, sd_bus_error *unused) {
    (void)unused;
    struct shim_bus_property *item = data;
    int number = p_sd_bus_message_get_errno(answer);
    item->result = number > 0 ? -number : read_value(answer, item);
    return 0;
}

int shim_bus_read(struct sd_bus *bus, struct shim_bus_property *list, size_t count) {
    for (size_t i = 0; i < count; i++) {
        list[i].result = PENDING;
        list[i].number = 0;
        if (list[i].size) list[i].text[0] = 0;
        int result = p_sd_bus_call_method_async(bus, NULL, DESTINATION, list[i].path, "org.freedesktop.DBus.Properties",
                                                "Get", take_answer, &list[i], "ss", list[i].interface, list[i].name);
        if (result < 0) return result;
    }
    for (size_t i = 0; i < count;) {
        if (list[i].result != PENDING) {
            i++;
            continue;
        }
        // Every call has the connection's limit, after which its answer is an error.
        int result = p_sd_bus_process(bus, NULL);
        if (result == 0) result = p_sd_bus_wait(bus, UINT64_MAX);
        if (result < 0) return result;
    }
    return 0;
}

int shim_bus_watch_jobs(struct sd_bus *bus) {
    return p_sd_bus_add_match(bus, NULL,
                              "type='signal',sender='org.freedesktop.systemd1',"
                              "interface='org.freedesktop.systemd1.Manager',member='JobRemoved'",
                              NULL, NULL);
}

int shim_bus_next_job(struct sd_bus *bus, uint64_t timeout_usec, char *job, size_t job_size, char *result_text,
                      size_t result_size) {
    sd_bus_message *message = NULL;
    int result = p_sd_bus_process(bus, &message);
    if (result == 0) result = p_sd_bus_wait(bus, timeout_usec);
    if (result < 0 || !message) return result < 0 ? result : 0;
    int found = 0;
    if (p_sd_bus_message_is_signal(message, MANAGER, "JobRemoved") > 0) {
        uint32_t number = 0;
        const char *path = NULL, *unit = NULL, *outcome = NULL;
        result = p_sd_bus_message_read(message, "uoss", &number, &path, &unit, &outcome);
        if (result >= 0) result = copy(job, job_size, path);
        if (result >= 0) result = copy(result_text, result_size, outcome);
        found = result >= 0;
    }
    p_sd_bus_message_unref(message);
    return result < 0 ? result : found;
}

static const char *const ACCOUNTING[] = {"CPUAccounting", "MemoryAccounting", "TasksAccounting"};

int shim_bus_start_scope(struct sd_bus *bus, const struct shim_bus_scope *scope, uint64_t *cookie) {
    sd_bus_message *call = NULL;
    int result =
        p_sd_bus_message_new_method_call(bus, &call, DESTINATION, MANAGER_PATH, MANAGER, "StartTransientUnit");
    if (result >= 0) result = p_sd_bus_message_append(call, "ss", scope->name, "fail");
    if (result >= 0) result = p_sd_bus_message_open_container(call, 'a', "(sv)");
    if (result >= 0) result = p_sd_bus_message_append(call, "(sv)", "PIDs", "au", 1, scope->pid);
    if (result >= 0) result = p_sd_bus_message_append(call, "(sv)", "Slice", "s", scope->slice);
    if (result >= 0) result = p_sd_bus_message_append(call, "(sv)", "Description", "s", scope->description);
    if (result >= 0) result = p_sd_bus_message_append(call, "(sv)", "CollectMode", "s", "inactive-or-failed");
    for (size_t i = 0; i < 3 && scope->accounts && result >= 0; i++)
        result = p_sd_bus_message_append(call, "(sv)", ACCOUNTING[i], "b", 1);
    if (result >= 0 && scope->bears_oom) result = p_sd_bus_message_append(call, "(sv)", "OOMPolicy", "s", "continue");
    if (result >= 0) result = p_sd_bus_message_close_container(call);
    if (result >= 0) result = p_sd_bus_message_append(call, "a(sa(sv))", 0);
    if (result >= 0) result = p_sd_bus_send(bus, call, cookie);
    p_sd_bus_message_unref(call);
    return result;
}

int shim_bus_descriptor(struct sd_bus *bus) { return p_sd_bus_get_fd(bus); }

static void take_refusal(sd_bus_message *answer, struct shim_bus_event *event) {
    const sd_bus_error *error = p_sd_bus_message_get_error(answer);
    if (!error || !error->name) return;
    event->kind = shim_bus_refused;
    snprintf(event->failure.name, sizeof event->failure.name, "%s", error->name);
    snprintf(event->failure.message, sizeof event->failure.message, "%s", error->message ? error->message : "");
}

int shim_bus_take_event(struct sd_bus *bus, struct shim_bus_event *event) {
    sd_bus_message *message = NULL;
    int result = p_sd_bus_process(bus, &message);
    event->kind = result > 0 ? shim_bus_other : shim_bus_nothing;
    if (result <= 0 || !message) return result;
    if (p_sd_bus_message_is_signal(message, MANAGER, "JobRemoved") > 0) {
        uint32_t number = 0;
        const char *path = NULL, *unit = NULL, *outcome = NULL;
        result = p_sd_bus_message_read(message, "uoss", &number, &path, &unit, &outcome);
        // A name that is too long is none that was asked for.
        if (result > 0 && copy(event->unit, sizeof event->unit, unit) >= 0 &&
            copy(event->result, sizeof event->result, outcome) >= 0)
            event->kind = shim_bus_job_ended;
    } else if (p_sd_bus_message_get_reply_cookie(message, &event->cookie) >= 0) {
        take_refusal(message, event);
    }
    p_sd_bus_message_unref(message);
    return result < 0 ? result : 0;
}
