/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state folder: opened quickly, since every command does; nothing is synced or checked here.
 */
#include "store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "store/db.h"
#include "store/images.h"
#include "store/lock.h"
#include "store/place.h"

/* Versions of the schema; steps are only ever added. */
static const char *const schema[] = {
	"CREATE TABLE images ("
	"  id TEXT PRIMARY KEY NOT NULL,"      /* sha256:<hex> of the configuration */
	"  created_s INTEGER NOT NULL,"
	"  size_bytes INTEGER NOT NULL,"       /* of images/<hex>.erofs */
	"  config BLOB NOT NULL);"             /* the OCI image configuration, as it came */
	"CREATE TABLE names ("
	"  name TEXT PRIMARY KEY NOT NULL,"
	"  image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE);"
	"CREATE INDEX names_image ON names(image);"
	"CREATE TABLE sources ("
	"  place TEXT PRIMARY KEY NOT NULL,"   /* what was imported */
	"  state TEXT NOT NULL,"               /* how it was recognised as unchanged */
	"  names TEXT NOT NULL,"               /* what it calls itself, one a line */
	"  image TEXT NOT NULL REFERENCES images(id) ON DELETE CASCADE);"
	"CREATE INDEX sources_image ON sources(image);",
};

#define SCHEMA_VERSION (sizeof(schema) / sizeof(*schema))

static int make_dir(const char *path, struct smolvm_error *err)
{
	struct stat st;

	if (stat(path, &st) == 0 && S_ISDIR(st.st_mode))
		return 0;
	return mkdir(path, 0700) == 0 || errno == EEXIST ? 0 : err_sys(err, "cannot make %s", path);
}

static int make_folders(struct smolvm *s, struct smolvm_error *err)
{
	int rc;

	s->images_dir = path_join(s->home, "images");
	s->tmp_dir = path_join(s->home, "tmp");
	s->scratch_dir = path_join(s->home, "scratch");
	if (!s->images_dir || !s->tmp_dir || !s->scratch_dir)
		return err_nomem(err);
	if (s->read_only)
		return 0;
	rc = make_dir(s->images_dir, err);
	if (rc == 0)
		rc = make_dir(s->tmp_dir, err);
	return rc < 0 ? rc : make_dir(s->scratch_dir, err);
}

/* Two processes that make a new database at the same time would be in each other's way. */
static int bring_up_to_date(struct smolvm *s, struct smolvm_error *err)
{
	AUTO_FREE char *lock_path = NULL;
	AUTO_FD lock = -1;
	int version = db_version(s->db, err);
	int rc;

	if (version < 0)
		return version;
	if (version == SCHEMA_VERSION)
		return 0;
	if (s->read_only && version < (int)SCHEMA_VERSION)
		return err_set(err, EROFS, "the state folder %s is of an older smolvm and cannot "
			       "be written to", s->home);
	lock_path = path_join(s->home, "smolvm.db.lock");
	if (!lock_path)
		return err_nomem(err);
	if (!s->read_only) {
		rc = lock_wait(lock_path, &lock);
		if (rc < 0)
			return err_set(err, -rc, "cannot lock %s: %s", lock_path, strerror(-rc));
	}
	return db_migrate(s->db, schema, SCHEMA_VERSION, err);
}

static int open_database(struct smolvm *s, struct smolvm_error *err)
{
	AUTO_FREE char *path = path_join(s->home, "smolvm.db");
	int rc;

	if (!path)
		return err_nomem(err);
	if (s->read_only && access(path, F_OK) < 0)
		return store_need_write(s, "make the state in it", err);
	rc = db_open(&s->db, path, s->read_only, err);
	if (rc == -ENOSPC && access(path, F_OK) == 0) {
		/* A disk that is full is no reason not to use what is there. */
		if (db_open(&s->db, path, true, NULL) == 0)
			rc = db_version(s->db, NULL) == SCHEMA_VERSION ? 0 : rc;
	}
	return rc < 0 ? rc : bring_up_to_date(s, err);
}

/* What was killed in the middle of something has left its files, but not its locks. */
static void sweep(struct smolvm *s)
{
	rundir_sweep(s->run_dir);
	if (!s->read_only && temp_sweep(s->tmp_dir) > 0)
		store_images_collect(s);
}

int smolvm_open(struct smolvm **ret, const char *home, struct smolvm_error *err)
{
	struct smolvm_error local = SMOLVM_ERROR_INIT;
	struct smolvm *s = calloc(1, sizeof(*s));
	bool chosen;
	int rc;

	if (!s)
		return err_nomem(err);
	if (!err)
		err = &local;
	rc = place_home(home, &s->home, &chosen, err);
	if (rc == 0) {
		s->read_only = access(s->home, W_OK | X_OK) < 0;
		rc = make_folders(s, err);
	}
	if (rc == 0)
		rc = open_database(s, err);
	if (rc == 0)
		rc = place_run_dir(s->home, chosen, &s->run_dir, err);
	if (rc < 0) {
		smolvm_close(s);
		return rc;
	}
	sweep(s);
	*ret = s;
	return 0;
}

void smolvm_close(struct smolvm *s)
{
	if (!s)
		return;
	db_close(s->db);
	free(s->home);
	free(s->images_dir);
	free(s->tmp_dir);
	free(s->scratch_dir);
	free(s->run_dir);
	free(s);
}

const char *smolvm_home(const struct smolvm *s)
{
	return s->home;
}

const char *store_run_dir(const struct smolvm *s)
{
	return s->run_dir;
}

const char *store_scratch_dir(const struct smolvm *s)
{
	return s->scratch_dir;
}

int store_need_write(const struct smolvm *s, const char *what, struct smolvm_error *err)
{
	if (!s->read_only)
		return 0;
	return err_set(err, EROFS, "cannot %s: the state folder %s cannot be written to "
		       "(SMOLVM_HOME names another)", what, s->home);
}
