/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database: a thin layer over SQLite, whose only user it is.
 *
 * The file is in WAL mode: readers and one writer do not wait for each other. The WAL and its
 * index stay on disk (emptied) after the last process has closed the database, so that opening
 * makes and removes no files, and a folder that has become read-only can still be read.
 */
#include "store/db.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/err.h"
#include "base/fd.h"

struct db {
	sqlite3 *sql;
	char *path;
};

struct db_query {
	sqlite3_stmt *stmt;
	struct db *db;
};

static int errno_of(int rc, int sys)
{
	switch (rc & 0xff) {
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_READONLY:
		return EROFS;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return EACCES;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EINVAL;
	default:
		return sys > 0 ? sys : EIO;
	}
}

/* The one place where what SQLite says becomes one of our errors. */
static int fail(struct db *db, int rc, struct smolvm_error *err)
{
	int code = errno_of(rc, db->sql ? sqlite3_system_errno(db->sql) : 0);

	if (code == EINVAL)
		return err_set(err, EINVAL, "the database %s is damaged: move it away (mv '%s' "
			       "'%s.bad') and import the images again", db->path, db->path,
			       db->path);
	if (code == EBUSY)
		return err_set(err, EBUSY, "another smolvm has kept the database %s busy for %d s",
			       db->path, DB_BUSY_MS / 1000);
	if (code == ENOMEM)
		return err_nomem(err);
	if (code == EIO)
		return err_set(err, EIO, "database %s: %s", db->path,
			       db->sql ? sqlite3_errmsg(db->sql) : sqlite3_errstr(rc));
	return err_set(err, code, "database %s: %s", db->path, strerror(code));
}

/* "file:" and the path with what means something in a URI escaped. */
static char *immutable_uri(const char *path)
{
	static const char digits[] = "0123456789abcdef", head[] = "file:", tail[] = "?immutable=1";
	char *uri = malloc(sizeof(head) + strlen(path) * 3 + sizeof(tail));
	char *p = uri;

	if (!uri)
		return NULL;
	p = mempcpy(p, head, sizeof(head) - 1);
	for (; *path; path++) {
		if (strchr("%?#", *path)) {
			*p++ = '%';
			*p++ = digits[(unsigned char)*path >> 4];
			*p++ = digits[*path & 15];
		} else {
			*p++ = *path;
		}
	}
	memcpy(p, tail, sizeof(tail));
	return uri;
}

static int open_handle(struct db *db, const char *name, int flags, struct smolvm_error *err)
{
	int one = 1;
	int rc = sqlite3_open_v2(name, &db->sql, flags | SQLITE_OPEN_EXRESCODE, NULL);

	if (rc == SQLITE_OK) {
		sqlite3_busy_timeout(db->sql, DB_BUSY_MS);
		sqlite3_file_control(db->sql, "main", SQLITE_FCNTL_PERSIST_WAL, &one);
		rc = sqlite3_exec(db->sql, "PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON;"
				  "PRAGMA journal_size_limit=1048576; PRAGMA trusted_schema=OFF;"
				  "SELECT count(*) FROM sqlite_schema", NULL, NULL, NULL);
	}
	return rc == SQLITE_OK ? 0 : fail(db, rc, err);
}

static void close_handle(struct db *db)
{
	sqlite3_close(db->sql);
	db->sql = NULL;
}

/* A WAL that holds something must not be passed over: the file alone may be half of a commit. */
static bool wal_is_empty(const char *path)
{
	AUTO_FREE char *wal = NULL;
	struct stat st;

	if (asprintf(&wal, "%s-wal", path) < 0) {
		wal = NULL;
		return false;
	}
	return stat(wal, &st) < 0 ? errno == ENOENT : st.st_size == 0;
}

static int open_read_only(struct db *db, struct smolvm_error *err)
{
	AUTO_FREE char *uri = NULL;
	struct stat st;
	int rc;

	if (stat(db->path, &st) < 0)
		return err_sys(err, "database %s", db->path);
	rc = open_handle(db, db->path, SQLITE_OPEN_READONLY, err);
	if (rc == 0 || rc == -EINVAL || !wal_is_empty(db->path))
		return rc;
	/* Without a WAL index, which could not be made here. */
	close_handle(db);
	uri = immutable_uri(db->path);
	if (!uri)
		return err_nomem(err);
	return open_handle(db, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, err);
}

int db_open(struct db **ret, const char *path, bool read_only, struct smolvm_error *err)
{
	struct db *db = calloc(1, sizeof(*db));
	int rc;

	if (!db || !(db->path = strdup(path))) {
		free(db);
		return err_nomem(err);
	}
	rc = read_only ? open_read_only(db, err)
		       : open_handle(db, path, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, err);
	if (rc < 0) {
		db_close(db);
		return rc;
	}
	*ret = db;
	return 0;
}

void db_close(struct db *db)
{
	if (!db)
		return;
	close_handle(db);
	free(db->path);
	free(db);
}

int db_version(struct db *db, struct smolvm_error *err)
{
	struct db_query *q;
	int rc = db_prepare(db, &q, err, "PRAGMA user_version", "");

	if (rc < 0)
		return rc;
	rc = db_step(q, err);
	if (rc >= 0)
		rc = rc == 1 ? (int)db_int(q, 0) : err_set(err, EIO, "database %s", db->path);
	db_finish(q);
	return rc;
}

static int migrate_step(struct db *db, const char *statements, int version,
			struct smolvm_error *err)
{
	char pragma[48];
	int rc = db_begin(db, err);
	int sql_rc;

	if (rc < 0)
		return rc;
	if (db_version(db, err) >= version) { /* another process was quicker */
		db_rollback(db);
		return 0;
	}
	snprintf(pragma, sizeof(pragma), "PRAGMA user_version=%d", version);
	sql_rc = sqlite3_exec(db->sql, statements, NULL, NULL, NULL);
	if (sql_rc == SQLITE_OK)
		sql_rc = sqlite3_exec(db->sql, pragma, NULL, NULL, NULL);
	rc = sql_rc == SQLITE_OK ? db_commit(db, err) : fail(db, sql_rc, err);
	if (rc < 0)
		db_rollback(db);
	return rc;
}

int db_migrate(struct db *db, const char *const *steps, size_t n_steps, struct smolvm_error *err)
{
	int version = db_version(db, err);
	int rc;

	if (version < 0)
		return version;
	if ((size_t)version > n_steps)
		return err_set(err, EINVAL, "the database %s was written by a newer smolvm "
			       "(version %d, this one knows %zu): use that one, or another "
			       "folder (SMOLVM_HOME)", db->path, version, n_steps);
	if ((size_t)version == n_steps)
		return 0;
	/* A file system that cannot do WAL gets the older, slower journal; both are safe. */
	rc = sqlite3_exec(db->sql, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
	if ((rc & 0xff) == SQLITE_IOERR || (rc & 0xff) == SQLITE_PROTOCOL)
		rc = sqlite3_exec(db->sql, "PRAGMA journal_mode=DELETE", NULL, NULL, NULL);
	if (rc != SQLITE_OK)
		return fail(db, rc, err);
	for (int i = version; i < (int)n_steps; i++) {
		rc = migrate_step(db, steps[i], i + 1, err);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int db_begin(struct db *db, struct smolvm_error *err)
{
	int rc = sqlite3_exec(db->sql, "BEGIN IMMEDIATE", NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail(db, rc, err);
}

int db_commit(struct db *db, struct smolvm_error *err)
{
	int rc = sqlite3_exec(db->sql, "COMMIT", NULL, NULL, NULL);

	return rc == SQLITE_OK ? 0 : fail(db, rc, err);
}

void db_rollback(struct db *db)
{
	if (!sqlite3_get_autocommit(db->sql))
		sqlite3_exec(db->sql, "ROLLBACK", NULL, NULL, NULL);
}

static int bind(sqlite3_stmt *stmt, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int i = 1; *types && rc == SQLITE_OK; types++, i++) {
		if (*types == 's') {
			rc = sqlite3_bind_text(stmt, i, va_arg(ap, const char *), -1,
					       SQLITE_STATIC);
		} else if (*types == 'i') {
			rc = sqlite3_bind_int64(stmt, i, va_arg(ap, int64_t));
		} else {
			const void *p = va_arg(ap, const void *);

			rc = sqlite3_bind_blob64(stmt, i, p, va_arg(ap, size_t), SQLITE_STATIC);
		}
	}
	return rc;
}

static int prepare_va(struct db *db, struct db_query **ret, struct smolvm_error *err,
		      const char *sql, const char *types, va_list ap)
{
	struct db_query *q = calloc(1, sizeof(*q));
	int rc;

	if (!q)
		return err_nomem(err);
	q->db = db;
	rc = sqlite3_prepare_v2(db->sql, sql, -1, &q->stmt, NULL);
	if (rc == SQLITE_OK)
		rc = bind(q->stmt, types, ap);
	if (rc != SQLITE_OK) {
		rc = fail(db, rc, err);
		db_finish(q);
		return rc;
	}
	*ret = q;
	return 0;
}

int db_prepare(struct db *db, struct db_query **ret, struct smolvm_error *err, const char *sql,
	       const char *types, ...)
{
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = prepare_va(db, ret, err, sql, types, ap);
	va_end(ap);
	return rc;
}

int db_step(struct db_query *q, struct smolvm_error *err)
{
	int rc = sqlite3_step(q->stmt);

	return rc == SQLITE_ROW ? 1 : rc == SQLITE_DONE ? 0 : fail(q->db, rc, err);
}

void db_finish(struct db_query *q)
{
	if (!q)
		return;
	sqlite3_finalize(q->stmt);
	free(q);
}

int64_t db_int(struct db_query *q, int column)
{
	return sqlite3_column_int64(q->stmt, column);
}

const char *db_text(struct db_query *q, int column)
{
	return (const char *)sqlite3_column_text(q->stmt, column);
}

const void *db_blob(struct db_query *q, int column, size_t *ret_len)
{
	const void *p = sqlite3_column_blob(q->stmt, column);

	*ret_len = (size_t)sqlite3_column_bytes(q->stmt, column);
	return p;
}

int db_run(struct db *db, struct smolvm_error *err, const char *sql, const char *types, ...)
{
	struct db_query *q = NULL;
	va_list ap;
	int rc;

	va_start(ap, types);
	rc = prepare_va(db, &q, err, sql, types, ap);
	va_end(ap);
	if (!q)
		return rc;
	rc = db_step(q, err);
	db_finish(q);
	return rc < 0 ? rc : sqlite3_changes(db->sql);
}
