// libpq, loaded on first use: a machine whose records are in a file needs none. What is used of it is declared here, as
// https://www.postgresql.org/docs/current/libpq.html has it, so that a build needs no header. No policy.
#ifndef LLM_GATEWAY_POSTGRESQL_SHIM_H
#define LLM_GATEWAY_POSTGRESQL_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

struct pg_conn;
struct pg_result;

/// A message of another session; the texts live until it is freed.
struct shim_pq_notice {
    const char *channel;
    int sender;
    const char *payload;
};

/// One setting of a connection string.
struct shim_pq_option {
    const char *_Nullable keyword;
    const char *_Nullable variable;
    const char *_Nullable compiled;
    const char *_Nullable value;
    const char *_Nullable label;
    const char *_Nullable display;
    int size;
};

/// What PQconnectPoll and PQresultStatus answer.
enum {
    SHIM_PQ_POLL_FAILED = 0,
    SHIM_PQ_POLL_READING = 1,
    SHIM_PQ_POLL_WRITING = 2,
    SHIM_PQ_POLL_OK = 3,
    SHIM_PQ_EMPTY_QUERY = 0,
    SHIM_PQ_COMMAND_OK = 1,
    SHIM_PQ_TUPLES_OK = 2,
    SHIM_PQ_SINGLE_TUPLE = 9,
    SHIM_PQ_CONNECTION_OK = 0,
};

/// Loads libpq.so.5. -ENOENT: it is not installed, or it is too old.
int shim_pq_load(void);

/// Begins to connect; notices of the server are left unsaid. NULL: out of memory.
struct pg_conn *_Nullable shim_pq_connect(const char *_Nullable const *_Nonnull keywords,
                                          const char *_Nullable const *_Nonnull values);
int shim_pq_connect_poll(struct pg_conn *connection);
int shim_pq_status(struct pg_conn *connection);
int shim_pq_socket(struct pg_conn *connection);
void shim_pq_finish(struct pg_conn *connection);
const char *shim_pq_error(struct pg_conn *connection);
int shim_pq_server_version(struct pg_conn *connection);
const char *_Nullable shim_pq_parameter(struct pg_conn *connection, const char *name);
int shim_pq_set_nonblocking(struct pg_conn *connection);

int shim_pq_flush(struct pg_conn *connection);
int shim_pq_consume(struct pg_conn *connection);
int shim_pq_is_busy(struct pg_conn *connection);

/// 1 on success, 0 on failure, as all that send.
int shim_pq_send_query(struct pg_conn *connection, const char *text);
int shim_pq_send_prepare(struct pg_conn *connection, const char *name, const char *text, int count,
                         const uint32_t *types);
int shim_pq_send_describe(struct pg_conn *connection, const char *name);
/// Runs a prepared statement; values and results are binary, rows come one by one.
int shim_pq_send_prepared(struct pg_conn *connection, const char *name, int count,
                          const char *_Nullable const *_Nonnull values, const int *lengths, const int *formats);

struct pg_result *_Nullable shim_pq_result(struct pg_conn *connection);
int shim_pq_result_status(struct pg_result *result);
const char *_Nullable shim_pq_result_field(struct pg_result *result, int field);
const char *shim_pq_changed(struct pg_result *result);
const char *shim_pq_command(struct pg_result *result);
void shim_pq_clear(struct pg_result *result);
int shim_pq_parameter_count(struct pg_result *result);
uint32_t shim_pq_parameter_type(struct pg_result *result, int index);
int shim_pq_rows(struct pg_result *result);
int shim_pq_columns(struct pg_result *result);
const char *_Nullable shim_pq_name(struct pg_result *result, int column);
uint32_t shim_pq_type(struct pg_result *result, int column);
bool shim_pq_is_null(struct pg_result *result, int row, int column);
int shim_pq_length(struct pg_result *result, int row, int column);
const char *shim_pq_value(struct pg_result *result, int row, int column);

/// The next message of another session; NULL when there is none. To be freed.
struct shim_pq_notice *_Nullable shim_pq_notice(struct pg_conn *connection);
void shim_pq_notice_free(struct shim_pq_notice *notice);

/// A connection string's settings, ended by one without a keyword; NULL when it cannot be understood. To be freed.
struct shim_pq_option *_Nullable shim_pq_parse(const char *text);
void shim_pq_options_free(struct shim_pq_option *options);

#pragma clang assume_nonnull end

#endif
