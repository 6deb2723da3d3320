/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The database: a thin layer over SQLite, whose only user it is.
 */
#ifndef STORE_DB_H
#define STORE_DB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <smolvm/error.h>

struct db;
struct db_query;

/* How long a write waits for that of another process. */
#define DB_BUSY_MS 10000

/**
 * db_open() - open a database, and make it when it is missing.
 * @path:      its file. In an error it is named, so it should be absolute.
 * @read_only: the folder cannot be written to: only look, and make nothing.
 *
 * Durable enough for records of things that can be made again: after a power failure the last
 * commits may be missing, but nothing is torn. Nothing is written until something is changed.
 * Errors: -ENOENT (@read_only and no such file), -EACCES, -EROFS, -ENOSPC, -EINVAL (damaged),
 * -EBUSY, -ENOMEM, -EIO. The functions below give the same ones.
 */
int db_open(struct db **ret, const char *path, bool read_only, struct smolvm_error *err);

/** db_close() - every query must have ended. */
void db_close(struct db *db);

/**
 * db_migrate() - bring the schema up to date.
 * @steps: the statements of each version, the first of which makes version 1 out of an empty
 *         database. Steps are only ever added at the end.
 *
 * The caller makes sure that no two processes are in here at once (only an optimisation is lost
 * otherwise). Errors: also -EINVAL for a database of a newer smolvm.
 */
int db_migrate(struct db *db, const char *const *steps, size_t n_steps, struct smolvm_error *err);

/** db_version() - how many steps have been made in it, or a negative errno. */
int db_version(struct db *db, struct smolvm_error *err);

/* A change: everything between db_begin() and db_commit() happens or nothing of it. One process
 * at a time; others wait at db_begin(). db_rollback() after a failure. */
int db_begin(struct db *db, struct smolvm_error *err);
int db_commit(struct db *db, struct smolvm_error *err);
void db_rollback(struct db *db);

/**
 * db_prepare() - a statement with its values.
 * @types: a letter for each ?: 's' const char * (NULL is SQL's), 'i' int64_t,
 *         'b' const void * and then size_t. Strings and blobs must stay until db_finish().
 */
int db_prepare(struct db *db, struct db_query **ret, struct smolvm_error *err, const char *sql,
	       const char *types, ...);

/** db_step() - the next row. Return: 1, 0 when there is none, or a negative errno. */
int db_step(struct db_query *q, struct smolvm_error *err);
void db_finish(struct db_query *q);

/* Columns of the current row, counted from 0; pointers are valid until the next step. */
int64_t db_int(struct db_query *q, int column);
const char *db_text(struct db_query *q, int column);
const void *db_blob(struct db_query *q, int column, size_t *ret_len);

/** db_run() - a statement without rows, at once. Return: the rows changed, or a negative errno. */
int db_run(struct db *db, struct smolvm_error *err, const char *sql, const char *types, ...);

#endif
