/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state folder: opening, records, locks, and what is left by those who were killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/fd.h"
#include "base/path.h"
#include "store/db.h"
#include "store/images.h"
#include "store/lock.h"
#include "store/place.h"
#include "store/store.h"

#define ID_A "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define ID_B "sha256:aaaaaabbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char home[64];

static int make_home(void **state)
{
	snprintf(home, sizeof(home), "/tmp/smolvm-unit-XXXXXX");
	unsetenv("XDG_RUNTIME_DIR");
	return mkdtemp(home) ? 0 : -1;
}

static int remove_home(void **state)
{
	return path_remove_tree(home);
}

static struct smolvm *opened(void)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s = NULL;

	if (smolvm_open(&s, home, &err) < 0)
		fail_msg("%s", err.message);
	return s;
}

static bool exists(const char *dir, const char *name)
{
	AUTO_FREE char *path = path_join(dir, name);

	return access(path, F_OK) == 0;
}

static void write_file(const char *path, const char *text)
{
	AUTO_FD fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_int_equal(fd_write_all(fd, text, strlen(text)), 0);
}

static void opens_private_folders(void **state)
{
	struct smolvm *s = opened();
	struct stat st;

	assert_string_equal(smolvm_home(s), home);
	assert_int_equal(stat(store_scratch_dir(s), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(stat(store_run_dir(s), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_true(exists(home, "smolvm.db"));
	smolvm_close(s);
	smolvm_close(NULL);
	smolvm_close(opened());
}

static void environment_names_the_home(void **state)
{
	AUTO_FREE char *data = path_join(home, "data"), *mine = path_join(home, "mine");
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FREE char *path = NULL;
	bool chosen;

	setenv("XDG_DATA_HOME", data, 1);
	unsetenv("SMOLVM_HOME");
	assert_int_equal(place_home(NULL, &path, &chosen, &err), 0);
	assert_false(chosen);
	assert_true(strncmp(path, data, strlen(data)) == 0 && strstr(path, "/smolvm"));
	free(ptr_take(path));
	setenv("SMOLVM_HOME", mine, 1);
	assert_int_equal(place_home(NULL, &path, &chosen, &err), 0);
	assert_true(chosen);
	assert_string_equal(path, mine);
	free(ptr_take(path));
	setenv("SMOLVM_HOME", "/dev/null/x", 1);
	assert_int_equal(place_home(NULL, &path, &chosen, &err), -ENOTDIR);
	assert_non_null(strstr(err.message, "/dev/null/x"));
	unsetenv("SMOLVM_HOME");
	unsetenv("XDG_DATA_HOME");
}

static void run_folder_is_short(void **state)
{
	char deep[300];
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s;
	struct stat st;

	snprintf(deep, sizeof(deep), "%s/%0100d", home, 7);
	assert_int_equal(smolvm_open(&s, deep, &err), 0);
	assert_true(strlen(store_run_dir(s)) <= PLACE_RUN_DIR_MAX);
	assert_int_equal(stat(store_run_dir(s), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	rmdir(store_run_dir(s));
	smolvm_close(s);
}

static void newer_and_damaged_databases(void **state)
{
	AUTO_FREE char *path = path_join(home, "smolvm.db");
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s = opened();

	assert_true(db_run(s->db, &err, "PRAGMA user_version=77", "") >= 0);
	smolvm_close(s);
	assert_int_equal(smolvm_open(&s, home, &err), -EINVAL);
	assert_non_null(strstr(err.message, "newer smolvm"));
	write_file(path, "this is no database, and it is long enough to be told apart from one. "
		   "This is no database, and it is long enough to be told apart from one.");
	assert_int_equal(smolvm_open(&s, home, &err), -EINVAL);
	assert_non_null(strstr(err.message, "damaged: move it away"));
	write_file(path, "");
	smolvm_close(opened());
}

static void records(struct smolvm *s, const char *id, const char *names)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FREE char *path = NULL;
	AUTO_FD fd = -1;
	struct store_commit c = {
		.id = id, .config = "{}", .config_len = 2, .size_bytes = 5, .names = names,
		.source = { "/some/file", id, "n:1\n" },
	};

	assert_int_equal(temp_create(s->tmp_dir, &path, &fd), 0);
	assert_int_equal(fd_write_all(fd, "EROFS", 5), 0);
	c.temp_path = path;
	if (store_image_commit(s, &c, &err) < 0)
		fail_msg("%s", err.message);
}

static void images_have_names_ids_and_sources(void **state)
{
	struct store_source source = { "/some/file", ID_B, NULL };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct store_image image = { 0 }, *all = NULL;
	struct smolvm *s = opened();
	AUTO_FREE char *names = NULL;

	records(s, ID_A, "a:1\nshared:1\n");
	records(s, ID_B, "shared:1\n");
	assert_int_equal(store_image_by_name(s, "a:1", &image, &err), 1);
	assert_string_equal(image.id, ID_A);
	assert_string_equal(image.names[0], "a:1");
	assert_null(image.names[1]);
	assert_true(image.intact);
	assert_string_equal(image.config, "{}");
	store_image_fini(&image);
	assert_int_equal(store_image_by_name(s, "nothing:1", &image, &err), 0);
	assert_int_equal(store_image_by_prefix(s, "sha256:aaaaaa", &image, &err), -EINVAL);
	assert_int_equal(store_image_by_prefix(s, "sha256:aaaaaab", &image, &err), 1);
	assert_string_equal(image.id, ID_B);
	store_image_fini(&image);
	assert_int_equal(store_image_by_source(s, &source, &image, &names, &err), 1);
	assert_string_equal(image.id, ID_B);
	assert_string_equal(names, "n:1\n");
	store_image_fini(&image);
	source.state = ID_A; /* the later import has taken its place */
	assert_int_equal(store_image_by_source(s, &source, &image, &names, &err), 0);
	assert_int_equal(store_image_list(s, &all, &err), 2);
	assert_string_equal(all[0].id, ID_B);
	store_image_fini(&all[0]);
	store_image_fini(&all[1]);
	free(all);
	smolvm_close(s);
}

static void comes_from(struct smolvm *s, const char *id, const char *names, const char *place)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	AUTO_FREE char *path = NULL;
	AUTO_FD fd = -1;
	struct store_commit c = {
		.id = id,
		.config = "{}",
		.config_len = 2,
		.size_bytes = 5,
		.names = names,
		.source = { place, id, NULL },
	};

	assert_int_equal(temp_create(s->tmp_dir, &path, &fd), 0);
	assert_int_equal(fd_write_all(fd, "EROFS", 5), 0);
	c.temp_path = path;
	if (store_image_commit(s, &c, &err) < 0)
		fail_msg("%s", err.message);
	store_images_collect(s);
}

/* Whether its record and its file are both there; both or none. */
static bool there(struct smolvm *s, const char *id)
{
	struct store_image image = { 0 };
	AUTO_FREE char *name = NULL;
	int rc = store_image_by_id(s, id, &image, NULL);

	store_image_fini(&image);
	assert_true(asprintf(&name, "%s.erofs", strchr(id, ':') + 1) > 0);
	assert_int_equal(rc, exists(s->images_dir, name));
	return rc;
}

static void a_source_keeps_one_image(void **state)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s = opened();

	comes_from(s, ID_A, "", "/one");
	comes_from(s, ID_A, "", "/one"); /* unchanged */
	assert_true(there(s, ID_A));
	comes_from(s, ID_B, "", "/one");
	assert_false(there(s, ID_A));
	assert_true(there(s, ID_B));
	comes_from(s, ID_B, "", "/two"); /* kept by another source */
	comes_from(s, ID_A, "", "/one");
	assert_true(there(s, ID_B));
	comes_from(s, ID_A, "n:1\n", "/two");
	assert_false(there(s, ID_B));
	comes_from(s, ID_B, "", "/one"); /* kept by a name */
	comes_from(s, ID_B, "", "/two");
	assert_true(there(s, ID_A));
	comes_from(s, ID_A, "", "/one");
	comes_from(s, ID_B, "n:1\n", "/one"); /* which moves with the source */
	assert_false(there(s, ID_A));
	assert_int_equal(store_image_remove(s, ID_B, &err), 0);
	smolvm_close(s);
}

static void removal_takes_names_and_file(void **state)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct store_image image = { 0 };
	struct smolvm *s = opened();
	AUTO_FREE char *path = NULL;

	records(s, ID_A, "a:1\nb:1\n");
	assert_int_equal(store_image_by_id(s, ID_A, &image, &err), 1);
	path = strdup(image.path);
	store_image_fini(&image);
	assert_int_equal(store_image_unname(s, "a:1", &err), 1);
	assert_int_equal(store_image_unname(s, "a:1", &err), -ENOENT);
	assert_int_equal(access(path, F_OK), 0);
	assert_int_equal(store_image_unname(s, "b:1", &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(store_image_by_id(s, ID_A, &image, &err), 0);
	records(s, ID_A, "a:1\nb:1\n");
	assert_int_equal(store_image_remove(s, ID_A, &err), 0);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(store_image_by_name(s, "b:1", &image, &err), 0);
	assert_int_equal(store_image_remove(s, ID_A, &err), -ENOENT);
	smolvm_close(s);
}

static void a_commit_that_fails_leaves_nothing(void **state)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct store_image image = { 0 };
	struct smolvm *s = opened();
	struct store_commit c = {
		.id = ID_A, .config = "{}", .config_len = 2, .size_bytes = 5,
		.source = { "/some/file", NULL, NULL }, /* NULL is not allowed there */
	};
	AUTO_FREE char *path = NULL;
	AUTO_FD fd = -1;

	assert_int_equal(store_image_commit(s, &c, &err), -ENOENT);
	assert_int_equal(temp_create(s->tmp_dir, &path, &fd), 0);
	c.temp_path = path;
	assert_true(store_image_commit(s, &c, &err) < 0);
	assert_int_equal(store_image_by_id(s, ID_A, &image, &err), 0);
	assert_false(exists(s->images_dir, &ID_A[7]));
	assert_int_equal(temp_sweep(s->images_dir), 0);
	records(s, ID_A, "a:1\n");
	assert_int_equal(store_image_unname(s, "a:1", &err), 0);
	records(s, ID_A, "");
	c.id = ID_B;
	c.size_bytes = 0;
	write_file(path, "");
	assert_true(store_image_commit(s, &c, &err) < 0);
	assert_int_equal(store_image_by_id(s, ID_A, &image, &err), 1); /* nor is any dropped */
	store_image_fini(&image);
	smolvm_close(s);
}

static void files_without_records_are_collected(void **state)
{
	struct smolvm *s = opened();
	AUTO_FREE char *orphan = NULL, *other = path_join(s->images_dir, "notes.txt");
	struct store_image image = { 0 };

	assert_true(asprintf(&orphan, "%s/%s.erofs", s->images_dir, &ID_B[7]) > 0);
	write_file(orphan, "x");
	write_file(other, "x");
	records(s, ID_A, "");
	store_images_collect(s);
	assert_int_equal(access(orphan, F_OK), -1);
	assert_int_equal(access(other, F_OK), 0);
	assert_int_equal(store_image_by_id(s, ID_A, &image, NULL), 1);
	assert_true(image.intact);
	store_image_fini(&image);
	smolvm_close(s);
}

static void a_file_of_another_size_is_not_intact(void **state)
{
	struct store_image image = { 0 };
	struct smolvm *s = opened();

	records(s, ID_A, "");
	assert_int_equal(store_image_by_id(s, ID_A, &image, NULL), 1);
	write_file(image.path, "ER");
	store_image_fini(&image);
	assert_int_equal(store_image_by_id(s, ID_A, &image, NULL), 1);
	assert_false(image.intact);
	store_image_fini(&image);
	records(s, ID_A, "again:1\n");
	assert_int_equal(store_image_by_name(s, "again:1", &image, NULL), 1);
	assert_true(image.intact);
	store_image_fini(&image);
	smolvm_close(s);
}

static void locks_exclude_and_survive_in_children(void **state)
{
	AUTO_FREE char *path = path_join(home, "lock");
	int a, b, go[2];
	pid_t pid;

	assert_int_equal(lock_try(path, &a), 0);
	assert_int_equal(lock_try(path, &b), -EBUSY);
	assert_int_equal(pipe(go), 0);
	pid = fork();
	if (pid == 0) { /* holds what it has inherited until it is told to end */
		char c;

		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 ? 0 : 1);
	}
	close(go[0]);
	close(a);
	assert_int_equal(lock_try(path, &b), -EBUSY);
	close(go[1]);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(lock_try(path, &b), 0);
	close(b);
}

static void sweeps_leave_what_is_held(void **state)
{
	struct smolvm *s = opened();
	AUTO_FREE char *kept = NULL, *dropped = NULL;
	int kept_fd, dropped_fd;

	assert_int_equal(temp_create(s->tmp_dir, &kept, &kept_fd), 0);
	assert_int_equal(temp_create(s->tmp_dir, &dropped, &dropped_fd), 0);
	close(dropped_fd);
	smolvm_close(opened());
	assert_int_equal(access(kept, F_OK), 0);
	assert_int_equal(access(dropped, F_OK), -1);
	close(kept_fd);
	assert_int_equal(temp_sweep(s->tmp_dir), 1);
	smolvm_close(s);
}

static void run_folders_last_as_long_as_their_lock(void **state)
{
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm *s = opened();
	AUTO_FREE char *path = NULL, *again = NULL, *file = NULL;
	int lock, second;

	assert_int_equal(rundir_create(store_run_dir(s), "m", &path, &lock, &err), 0);
	assert_int_equal(rundir_create(store_run_dir(s), "m", &again, &second, &err), -EEXIST);
	file = path_join(path, "vm.sock");
	write_file(file, "x");
	assert_int_equal(rundir_sweep(store_run_dir(s)), 0);
	close(lock); /* its owner has died */
	assert_int_equal(rundir_create(store_run_dir(s), "m", &again, &second, &err), 0);
	assert_int_equal(access(file, F_OK), -1);
	rundir_remove(store_run_dir(s), "m", &second);
	assert_false(exists(store_run_dir(s), "m"));
	assert_false(exists(store_run_dir(s), "m.lock"));
	free(ptr_take(path));
	assert_int_equal(rundir_create(store_run_dir(s), "n", &path, &lock, &err), 0);
	close(lock);
	smolvm_close(opened());
	assert_false(exists(store_run_dir(s), "n"));
	assert_false(exists(store_run_dir(s), "n.lock"));
	smolvm_close(s);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, make_home, remove_home)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(opens_private_folders),
		CASE(environment_names_the_home),
		CASE(run_folder_is_short),
		CASE(newer_and_damaged_databases),
		CASE(images_have_names_ids_and_sources),
		CASE(a_source_keeps_one_image),
		CASE(removal_takes_names_and_file),
		CASE(a_commit_that_fails_leaves_nothing),
		CASE(files_without_records_are_collected),
		CASE(a_file_of_another_size_is_not_intact),
		CASE(locks_exclude_and_survive_in_children),
		CASE(sweeps_leave_what_is_held),
		CASE(run_folders_last_as_long_as_their_lock),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
