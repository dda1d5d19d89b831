#include "postgresql_shim.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

typedef struct pg_conn conn;
typedef struct pg_result result;

#define FUNCTIONS(use)                                                                                              \
    use(conn *, PQconnectStartParams, const char *const *, const char *const *, int)                                \
    use(int, PQconnectPoll, conn *) use(int, PQstatus, conn *) use(int, PQsocket, conn *)                           \
    use(void, PQfinish, conn *) use(const char *, PQerrorMessage, conn *) use(int, PQserverVersion, conn *)         \
    use(const char *, PQparameterStatus, conn *, const char *) use(int, PQsetnonblocking, conn *, int)              \
    use(int, PQflush, conn *) use(int, PQconsumeInput, conn *) use(int, PQisBusy, conn *)                           \
    use(int, PQsendQuery, conn *, const char *)                                                                     \
    use(int, PQsendPrepare, conn *, const char *, const char *, int, const uint32_t *)                              \
    use(int, PQsendDescribePrepared, conn *, const char *)                                                          \
    use(int, PQsendQueryPrepared, conn *, const char *, int, const char *const *, const int *, const int *, int)    \
    use(int, PQsetSingleRowMode, conn *) use(result *, PQgetResult, conn *) use(int, PQresultStatus, result *)      \
    use(const char *, PQresultErrorField, result *, int) use(const char *, PQcmdTuples, result *)                   \
    use(const char *, PQcmdStatus, result *) use(void, PQclear, result *) use(int, PQnparams, result *)             \
    use(uint32_t, PQparamtype, result *, int) use(int, PQntuples, result *) use(int, PQnfields, result *)           \
    use(const char *, PQfname, result *, int) use(uint32_t, PQftype, result *, int)                                 \
    use(int, PQgetisnull, result *, int, int) use(int, PQgetlength, result *, int, int)                             \
    use(const char *, PQgetvalue, result *, int, int) use(struct shim_pq_notice *, PQnotifies, conn *)              \
    use(void, PQfreemem, void *) use(struct shim_pq_option *, PQconninfoParse, const char *, char **)               \
    use(void, PQconninfoFree, struct shim_pq_option *)                                                              \
    use(void *, PQsetNoticeProcessor, conn *, void (*)(void *, const char *), void *)

#define DECLARE(type, name, ...) static type (*p_##name)(__VA_ARGS__);
FUNCTIONS(DECLARE)

static int load_result = -ENOENT;

static void load(void) {
    void *library = dlopen("libpq.so.5", RTLD_NOW | RTLD_LOCAL);
    if (!library) return;
#define FIND(type, name, ...) \
    if (!(p_##name = (type(*)(__VA_ARGS__))dlsym(library, #name))) return;
    FUNCTIONS(FIND)
    load_result = 0;
}

int shim_pq_load(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, load);
    return load_result;
}

static void say_nothing(void *context, const char *message) {
    (void)context;
    (void)message;
}

conn *shim_pq_connect(const char *const *keywords, const char *const *values) {
    conn *connection = p_PQconnectStartParams(keywords, values, 1);
    if (connection) p_PQsetNoticeProcessor(connection, say_nothing, NULL);
    return connection;
}

int shim_pq_connect_poll(conn *connection) { return p_PQconnectPoll(connection); }
int shim_pq_status(conn *connection) { return p_PQstatus(connection); }
int shim_pq_socket(conn *connection) { return p_PQsocket(connection); }
void shim_pq_finish(conn *connection) { p_PQfinish(connection); }
const char *shim_pq_error(conn *connection) { return p_PQerrorMessage(connection); }
int shim_pq_server_version(conn *connection) { return p_PQserverVersion(connection); }
const char *shim_pq_parameter(conn *connection, const char *name) { return p_PQparameterStatus(connection, name); }
int shim_pq_set_nonblocking(conn *connection) { return p_PQsetnonblocking(connection, 1); }

int shim_pq_flush(conn *connection) { return p_PQflush(connection); }
int shim_pq_consume(conn *connection) { return p_PQconsumeInput(connection); }
int shim_pq_is_busy(conn *connection) { return p_PQisBusy(connection); }

int shim_pq_send_query(conn *connection, const char *text) { return p_PQsendQuery(connection, text); }

int shim_pq_send_prepare(conn *connection, const char *name, const char *text, int count, const uint32_t *types) {
    return p_PQsendPrepare(connection, name, text, count, types);
}

int shim_pq_send_describe(conn *connection, const char *name) { return p_PQsendDescribePrepared(connection, name); }

int shim_pq_send_prepared(conn *connection, const char *name, int count, const char *const *values, const int *lengths,
                          const int *formats) {
    return p_PQsendQueryPrepared(connection, name, count, values, lengths, formats, 1) &&
           p_PQsetSingleRowMode(connection);
}

result *shim_pq_result(conn *connection) { return p_PQgetResult(connection); }
int shim_pq_result_status(result *answer) { return p_PQresultStatus(answer); }
const char *shim_pq_result_field(result *answer, int field) { return p_PQresultErrorField(answer, field); }
const char *shim_pq_changed(result *answer) { return p_PQcmdTuples(answer); }
const char *shim_pq_command(result *answer) { return p_PQcmdStatus(answer); }
void shim_pq_clear(result *answer) { p_PQclear(answer); }
int shim_pq_parameter_count(result *answer) { return p_PQnparams(answer); }
uint32_t shim_pq_parameter_type(result *answer, int index) { return p_PQparamtype(answer, index); }
int shim_pq_rows(result *answer) { return p_PQntuples(answer); }
int shim_pq_columns(result *answer) { return p_PQnfields(answer); }
const char *shim_pq_name(result *answer, int column) { return p_PQfname(answer, column); }
uint32_t shim_pq_type(result *answer, int column) { return p_PQftype(answer, column); }
bool shim_pq_is_null(result *answer, int row, int column) { return p_PQgetisnull(answer, row, column) != 0; }
int shim_pq_length(result *answer, int row, int column) { return p_PQgetlength(answer, row, column); }
const char *shim_pq_value(result *answer, int row, int column) { return p_PQgetvalue(answer, row, column); }

struct shim_pq_notice *shim_pq_notice(conn *connection) { return p_PQnotifies(connection); }
void shim_pq_notice_free(struct shim_pq_notice *notice) { p_PQfreemem(notice); }

struct shim_pq_option *shim_pq_parse(const char *text) { return p_PQconninfoParse(text, NULL); }
void shim_pq_options_free(struct shim_pq_option *options) { p_PQconninfoFree(options); }
