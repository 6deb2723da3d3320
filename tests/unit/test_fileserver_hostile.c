/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-folder server: guests that lie, hosts that trick, users without privilege, limits.
 */
#include <linux/fs.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "fuse_guest.h"

#define ROOT FUSE_ROOT_ID

/* ---- what is not a request ---- */

static void test_framing(void **state)
{
	struct guest *g = *state;
	struct fuse_in_header in = { .len = 100, .opcode = FUSE_GETATTR, .nodeid = ROOT };

	for (size_t len = 0; len < sizeof(in); len++)
		assert_int_equal(fileserver_handle(g->fs, (void *)&in, len, g->reply,
						   sizeof(g->reply)), -EPROTO);
	assert_int_equal(fileserver_handle(g->fs, (void *)&in, sizeof(in), g->reply,
					   sizeof(g->reply)), -EPROTO);
	in.len = sizeof(in);
	assert_int_equal(fileserver_handle(g->fs, (void *)&in, sizeof(in), g->reply, 100), -EPROTO);
}

/* Every operation number with every short body, on a good and on a bad node. */
static void test_short(void **state)
{
	static const uint8_t zeros[256];
	struct guest *g = *state;

	for (uint32_t op = 0; op < 70; op++) {
		for (size_t n = 0; n < sizeof(zeros); n++) {
			guest_begin(g);
			guest_add(g, zeros, n);
			guest_send(g, op, n % 2 == 0 ? ROOT : 0x500000001u);
		}
	}
	guest_begin(g);
	assert_int_equal(guest_send(g, 63, ROOT), -ENOSYS);
	assert_int_equal(guest_send(g, 0xffffffffu, ROOT), -ENOSYS);
	assert_int_equal(guest_send(g, FUSE_GETATTR, ROOT), -EINVAL);
	assert_int_equal(guest_getattr(g, 0, NULL), -ESTALE);
	assert_int_equal(guest_getattr(g, 2, NULL), -ESTALE);
	assert_int_equal(guest_getattr(g, UINT64_MAX, NULL), -ESTALE);
	assert_int_equal(guest_getattr(g, ROOT, NULL), 0);
}

/* ---- names that are no names ---- */

static int with_name(struct guest *g, uint32_t op, const char *name, size_t len)
{
	static const size_t fixed[] = {
		[FUSE_MKNOD] = sizeof(struct fuse_mknod_in),
		[FUSE_MKDIR] = sizeof(struct fuse_mkdir_in),
		[FUSE_CREATE] = sizeof(struct fuse_create_in),
		[FUSE_LINK] = sizeof(struct fuse_link_in),
		[FUSE_RENAME] = sizeof(struct fuse_rename_in),
		[FUSE_RENAME2] = sizeof(struct fuse_rename2_in),
	};
	uint64_t head[4] = { ROOT };

	if (op == FUSE_MKNOD)
		head[0] = S_IFREG | 0644;
	if (op == FUSE_MKDIR)
		head[0] = 0755;
	if (op == FUSE_CREATE)
		head[0] = O_RDWR | (uint64_t)(S_IFREG | 0644) << 32;
	guest_begin(g);
	guest_add(g, head, op < sizeof(fixed) / sizeof(fixed[0]) ? fixed[op] : 0);
	guest_add(g, name, len);
	if (op == FUSE_RENAME || op == FUSE_RENAME2 || op == FUSE_SYMLINK)
		guest_name(g, "second");
	return guest_send(g, op, ROOT);
}

static void test_names(void **state)
{
	static const uint32_t ops[] = { FUSE_LOOKUP, FUSE_MKNOD,  FUSE_MKDIR,  FUSE_SYMLINK,
					FUSE_CREATE, FUSE_UNLINK, FUSE_RMDIR,  FUSE_LINK,
					FUSE_RENAME, FUSE_RENAME2 };
	static const char *const names[] = { "",	   ".",	   "..", "/",  "a/b",
					     "../out", "/etc", "a/", "./x" };
	struct guest *g = *state;
	char *long_name = malloc(300);

	assert_int_equal(mkdirat(g->base_fd, "out", 0755), 0);
	host_write(g, "a", "");
	memset(long_name, 'n', 300);
	long_name[299] = '\0';
	for (size_t o = 0; o < sizeof(ops) / sizeof(ops[0]); o++) {
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			assert_int_equal(with_name(g, ops[o], names[i], strlen(names[i]) + 1),
					 -EINVAL);
		assert_int_equal(with_name(g, ops[o], long_name, 300), -ENAMETOOLONG);
		if (ops[o] != FUSE_SYMLINK && ops[o] != FUSE_RENAME && ops[o] != FUSE_RENAME2)
			assert_int_equal(with_name(g, ops[o], "no end", 6), -EINVAL);
	}
	/* The second name, too. */
	assert_int_equal(guest_rename(g, ROOT, "a", ROOT, "../a", 0), -EINVAL);
	assert_int_equal(guest_rename(g, ROOT, "a", ROOT, "..", 0), -EINVAL);
	assert_int_equal(guest_rename(g, ROOT, "a", 77, "b", 0), -ESTALE);
	assert_int_equal(faccessat(g->base_fd, "out", F_OK, 0), 0);
	assert_int_equal(unlinkat(g->base_fd, "out", AT_REMOVEDIR), 0); /* and nothing in it */
	free(long_name);
}

/* ---- handles that are not the guest's ---- */

static void test_handles(void **state)
{
	struct guest *g = *state;
	struct fuse_copy_file_range_in copy = { .len = 10 };
	struct fuse_fallocate_in fall = { .length = 10 };
	struct fuse_lseek_in seek = { .whence = SEEK_DATA };
	struct fuse_fsync_in sync = { 0 };
	struct fuse_open_out dir;
	uint64_t fh, second, bad[8], node = guest_create(g, ROOT, "f", O_RDWR, 0644, &fh);

	assert_int_equal(guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &dir), 0);
	assert_true(guest_create(g, ROOT, "g", O_RDWR, 0644, &second) != 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, second), 0);
	memcpy(bad, (uint64_t[8]){ 0, 1, 0xffffffff, UINT64_MAX, fh + 1, fh + (1ull << 32), dir.fh,
				   second }, sizeof(bad));
	for (size_t i = 0; i < 8; i++) {
		fall.fh = seek.fh = sync.fh = copy.fh_in = bad[i];
		copy.fh_out = fh;
		assert_int_equal(guest_read(g, FUSE_READ, bad[i], 0, 10), -EBADF);
		assert_int_equal(guest_write(g, bad[i], 0, "x", 0), -EBADF);
		assert_int_equal(guest_ask(g, FUSE_FSYNC, node, &sync, sizeof(sync), NULL), -EBADF);
		assert_int_equal(guest_ask(g, FUSE_LSEEK, node, &seek, sizeof(seek), NULL), -EBADF);
		assert_int_equal(guest_ask(g, FUSE_FALLOCATE, node, &fall, sizeof(fall), NULL),
				 -EBADF);
		assert_int_equal(guest_ask(g, FUSE_COPY_FILE_RANGE, node, &copy, sizeof(copy),
					   NULL), -EBADF);
		assert_int_equal(guest_release(g, FUSE_RELEASE, bad[i]), 0);
		if (bad[i] != dir.fh)
			assert_int_equal(guest_read(g, FUSE_READDIR, bad[i], 0, 4096), -EBADF);
	}
	assert_int_equal(guest_read(g, FUSE_READDIR, fh, 0, 4096), -EBADF);
	/* The next use of the slot is not reached by the number of the last. */
	assert_true(guest_create(g, ROOT, "h", O_RDWR, 0644, &fh) != 0);
	assert_true(fh != second && (uint32_t)fh == (uint32_t)second);
	assert_int_equal(guest_read(g, FUSE_READ, second, 0, 10), -EBADF);
}

/* ---- numbers that do not fit ---- */

static void test_numbers(void **state)
{
	struct guest *g = *state;
	struct fuse_write_in w = { .size = 100 };
	struct fuse_setattr_in set = { .valid = FATTR_SIZE, .size = UINT64_MAX };
	struct fuse_fallocate_in fall = { .offset = UINT64_MAX, .length = 5 };
	struct fuse_lseek_in seek = { .whence = SEEK_SET };
	struct fuse_batch_forget_in batch = { .count = UINT32_MAX };
	uint32_t xset[2] = { 1000, 0 };
	struct fuse_attr attr;
	uint64_t fh, node = guest_create(g, ROOT, "f", O_RDWR, 0644, &fh);

	assert_int_equal(guest_read(g, FUSE_READ, fh, 0, GUEST_DATA_MAX + 1), -EINVAL);
	assert_int_equal(guest_read(g, FUSE_READ, fh, 0, UINT32_MAX), -EINVAL);
	assert_int_equal(guest_read(g, FUSE_READ, fh, UINT64_MAX, 10), -EINVAL);
	assert_int_equal(guest_write(g, fh, INT64_MAX, "xx", 0), -EINVAL);
	w.fh = fh;
	assert_int_equal(guest_ask(g, FUSE_WRITE, node, &w, sizeof(w), "too short"), -EINVAL);
	assert_int_equal(guest_ask(g, FUSE_SETATTR, node, &set, sizeof(set), NULL), -EFBIG);
	set = (struct fuse_setattr_in){ .valid = FATTR_MTIME, .mtimensec = 1000000000 };
	assert_int_equal(guest_ask(g, FUSE_SETATTR, node, &set, sizeof(set), NULL), -EINVAL);
	set = (struct fuse_setattr_in){ .valid = FATTR_SIZE };
	assert_int_equal(guest_ask(g, FUSE_SETATTR, ROOT, &set, sizeof(set), NULL), -EINVAL);
	set = (struct fuse_setattr_in){ .valid = FATTR_SIZE | FATTR_FH, .fh = 99 };
	assert_int_equal(guest_ask(g, FUSE_SETATTR, node, &set, sizeof(set), NULL), -EBADF);
	fall.fh = seek.fh = fh;
	assert_int_equal(guest_ask(g, FUSE_FALLOCATE, node, &fall, sizeof(fall), NULL), -EFBIG);
	assert_int_equal(guest_ask(g, FUSE_LSEEK, node, &seek, sizeof(seek), NULL), -EINVAL);
	guest_begin(g);
	guest_add(g, xset, sizeof(xset));
	guest_name(g, "user.x");
	assert_int_equal(guest_send(g, FUSE_SETXATTR, node), -EINVAL);
	assert_int_equal(guest_ask(g, FUSE_BATCH_FORGET, 0, &batch, sizeof(batch), "1234567"), 1);
	/* Forgetting more than there was to remember ends at nothing. */
	guest_forget(g, node, UINT64_MAX);
	assert_int_equal(guest_getattr(g, node, &attr), 0); /* it is open */
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_int_equal(guest_getattr(g, node, &attr), -ESTALE);
}

/* ---- a host that puts other things in place ---- */

static void test_swapped(void **state)
{
	struct guest *g = *state;
	struct fuse_setattr_in set = { .valid = FATTR_MODE, .mode = 0777 };
	struct fuse_open_out o;
	uint64_t d, f, p;
	struct stat st;
	int fd;

	assert_int_equal(mkdirat(g->base_fd, "out", 0700), 0);
	fd = openat(g->base_fd, "out/f", O_CREAT | O_WRONLY, 0600);
	assert_int_equal(write(fd, "secret", 6), 6);
	close(fd);
	assert_int_equal(mkdirat(g->share, "d", 0755), 0);
	host_write(g, "d/f", "public");
	d = guest_lookup(g, ROOT, "d", NULL);
	f = guest_lookup(g, d, "f", NULL);
	/* The file becomes a link out of the share, ... */
	assert_int_equal(renameat(g->share, "d/f", g->share, "kept"), 0);
	assert_int_equal(symlinkat("../../out/f", g->share, "d/f"), 0);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDWR, &o), -ESTALE);
	assert_int_equal(guest_getattr(g, f, NULL), -ESTALE);
	assert_int_equal(guest_ask(g, FUSE_SETATTR, f, &set, sizeof(set), NULL), -ESTALE);
	p = guest_lookup(g, d, "f", NULL);
	assert_int_equal(guest_open(g, FUSE_OPEN, p, O_RDWR, &o), -ENXIO);
	assert_int_equal(guest_ask(g, FUSE_SETATTR, p, &set, sizeof(set), NULL), -EOPNOTSUPP);
	assert_true(guest_create(g, d, "f", O_RDWR, 0644, &o.fh) == 0 && errno == ESTALE);
	assert_true(guest_lookup(g, p, "x", NULL) == 0 && errno == ENOTDIR);
	/* ... the directory does. */
	assert_int_equal(unlinkat(g->share, "d/f", 0), 0);
	assert_int_equal(unlinkat(g->share, "d", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("../out", g->share, "d"), 0);
	guest_time_passes(g);
	assert_true(guest_lookup(g, d, "f", NULL) == 0);
	assert_true(guest_mkdir(g, d, "x") == 0);
	p = guest_lookup(g, ROOT, "d", NULL);
	assert_true(guest_lookup(g, p, "f", NULL) == 0 && errno == ENOTDIR);
	assert_int_equal(guest_open(g, FUSE_OPENDIR, p, O_RDONLY, &o), -ENOTDIR);
	assert_int_equal(fstatat(g->base_fd, "out/f", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
}

/* Nothing waits for the other end of a fifo. */
static void test_special(void **state)
{
	struct guest *g = *state;
	struct fuse_open_out o;
	struct fuse_entry_out e;
	uint64_t p, f;

	alarm(20);
	assert_int_equal(mkfifoat(g->share, "p", 0666), 0);
	p = guest_lookup(g, ROOT, "p", &e);
	assert_true(p != 0 && S_ISFIFO(e.attr.mode));
	assert_int_equal(guest_open(g, FUSE_OPEN, p, O_RDONLY, &o), -ENXIO);
	assert_int_equal(guest_open(g, FUSE_OPEN, p, O_WRONLY, &o), -ENXIO);
	assert_true(guest_create(g, ROOT, "p", O_RDWR, 0644, &o.fh) == 0 && errno == ESTALE);
	host_write(g, "f", "");
	f = guest_lookup(g, ROOT, "f", NULL);
	assert_int_equal(unlinkat(g->share, "f", 0), 0);
	assert_int_equal(mkfifoat(g->share, "f", 0666), 0);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), -ESTALE);
	alarm(0);
}

/* ---- read-only ---- */

static void test_read_only(void **state)
{
	static const uint32_t changes[] = {
		FUSE_SETATTR, FUSE_SYMLINK,  FUSE_MKNOD,  FUSE_MKDIR,	FUSE_UNLINK,
		FUSE_RMDIR,   FUSE_RENAME,   FUSE_LINK,	  FUSE_WRITE,	FUSE_SETXATTR,
		FUSE_CREATE,  FUSE_FALLOCATE, FUSE_RENAME2, FUSE_REMOVEXATTR, FUSE_COPY_FILE_RANGE,
	};
	static const uint8_t zeros[128];
	struct fuse_access_in access = { .mask = W_OK };
	struct guest *g = *state;
	struct fuse_open_out o;
	uint64_t f;

	host_write(g, "f", "x");
	guest_serve(g, "share", true);
	f = guest_lookup(g, ROOT, "f", NULL);
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++)
		assert_int_equal(guest_ask(g, changes[i], f, zeros, sizeof(zeros), NULL), -EROFS);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDWR, &o), -EROFS);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_WRONLY, &o), -EROFS);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY | O_TRUNC, &o), -EROFS);
	assert_int_equal(guest_ask(g, FUSE_ACCESS, f, &access, sizeof(access), NULL), -EROFS);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), 0);
	host_holds(g, "f", "x");
}

/* ---- owners ---- */

static int chown_to(struct guest *g, uint64_t node, uint32_t uid, uint32_t gid)
{
	struct fuse_setattr_in in = { .valid = FATTR_UID | FATTR_GID, .uid = uid, .gid = gid };

	return guest_ask(g, FUSE_SETATTR, node, &in, sizeof(in), NULL);
}

static void test_privileged(void **state)
{
	struct guest *g = *state;
	struct fuse_mknod_in fifo = { .mode = S_IFIFO | 0640 };
	struct fuse_entry_out e;
	struct stat st;
	uint64_t fh;

	if (!g->fs->ids.privileged)
		skip();
	g->uid = 1234;
	g->gid = 5678;
	assert_true(guest_create(g, ROOT, "f", O_RDWR, 04755, &fh) != 0);
	assert_int_equal(fstatat(g->share, "f", &st, 0), 0);
	assert_true(st.st_uid == 1234 && st.st_gid == 5678 && (st.st_mode & 07777) == 04755);
	assert_true(guest_mkdir(g, ROOT, "d") != 0);
	assert_int_equal(guest_ask(g, FUSE_MKNOD, ROOT, &fifo, sizeof(fifo), "p"), 0);
	guest_take(g, &e, sizeof(e));
	assert_true(e.attr.uid == 1234 && e.attr.gid == 5678 && e.attr.mode == (S_IFIFO | 0640));
	/* Below a set-gid directory the group is the directory's. */
	assert_int_equal(fchownat(g->share, "d", 0, 7, 0), 0);
	assert_int_equal(fchmodat(g->share, "d", 02775, 0), 0);
	assert_true(guest_mkdir(g, guest_lookup(g, ROOT, "d", NULL), "in") != 0);
	assert_int_equal(fstatat(g->share, "d/in", &st, 0), 0);
	assert_true(st.st_uid == 1234 && st.st_gid == 7 && (st.st_mode & 07777) == 02755);
	/* A writer without privilege takes set-uid away. */
	{
		struct fuse_write_in w = { .fh = fh, .size = 2,
					   .write_flags = FUSE_WRITE_KILL_SUIDGID };

		assert_int_equal(guest_ask(g, FUSE_WRITE, 0, &w, sizeof(w), "x"), 0);
		assert_int_equal(fstatat(g->share, "f", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, 0755);
	}
}

/* In a child: the host's user 1000 stands for the guest's 0 (and 50 for its group). */
static void mapped(struct guest *g)
{
	struct fuse_attr attr;
	struct stat st;
	uint64_t f, root, fh;

	assert_int_equal(setgid(1001), 0);
	assert_int_equal(setuid(1000), 0);
	guest_serve(g, "share", false);
	fileserver_set_guest_user(g->fs, 0, 50);
	assert_false(g->fs->ids.privileged);
	g->uid = g->gid = 0;
	f = guest_create(g, ROOT, "mine", O_RDWR, 0644, &fh);
	assert_int_equal(guest_getattr(g, f, &attr), 0);
	assert_true(attr.uid == 0 && attr.gid == 50);
	assert_int_equal(fstatat(g->share, "mine", &st, 0), 0);
	assert_true(st.st_uid == 1000 && st.st_gid == 1001);
	assert_int_equal(chown_to(g, f, 0, 50), 0);
	assert_int_equal(chown_to(g, f, (uint32_t)-1, (uint32_t)-1), 0);
	assert_int_equal(chown_to(g, f, 1000, 50), -EPERM); /* not the same as 0 in the guest */
	assert_int_equal(chown_to(g, f, 7, 50), -EPERM);
	assert_int_equal(chown_to(g, f, 0, 8), -EPERM);
	root = guest_lookup(g, ROOT, "roots", NULL);
	assert_int_equal(guest_getattr(g, root, &attr), 0);
	assert_true(attr.uid == 5 && attr.gid == 6);
	assert_int_equal(chown_to(g, root, 0, 50), -EPERM);
	assert_true(guest_create(g, ROOT, "roots", O_RDWR, 0644, &fh) == 0 && errno == EACCES);
}

static void in_child(struct guest *g, void (*fn)(struct guest *g))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		fn(g);
		_exit(0); /* a failed assertion ends it otherwise */
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void test_mapped(void **state)
{
	struct guest *g = *state;

	if (geteuid() != 0)
		skip();
	host_write(g, "roots", "");
	assert_int_equal(fchownat(g->share, "roots", 5, 6, 0), 0);
	assert_int_equal(fchmod(g->share, 0777), 0);
	assert_int_equal(fchmod(g->base_fd, 0755), 0);
	in_child(g, mapped);
}

/* ---- limits ---- */

static void few_files(struct guest *g)
{
	struct rlimit limit = { 40, 40 };
	struct fuse_open_out o;
	uint64_t nodes[200], dir = ROOT, fh;
	unsigned int open = 0;
	int r;

	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	guest_serve(g, "share", false);
	/* Deep and wide, all of it known, with less descriptors than directories. */
	for (int i = 0; i < 50; i++) {
		dir = nodes[i] = guest_mkdir(g, dir, "deeper");
		assert_true(dir != 0);
	}
	for (int i = 50; i < 200; i++) {
		char name[16];

		snprintf(name, sizeof(name), "w%d", i);
		nodes[i] = guest_mkdir(g, ROOT, name);
		assert_true(nodes[i] != 0);
	}
	for (int i = 0; i < 200; i++)
		assert_true(guest_mkdir(g, nodes[i * 61 % 200], "x") != 0);
	guest_time_passes(g);
	assert_int_equal(guest_rename(g, nodes[49], "x", nodes[150], "y", 0), 0);
	assert_int_equal(guest_rename(g, nodes[150], "y", nodes[49], "z", 0), 0);
	assert_true(guest_lookup(g, dir, "z", NULL) != 0);
	assert_true(guest_create(g, ROOT, "f", O_RDWR, 0644, &fh) != 0);
	while ((r = guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &o)) == 0)
		open++;
	assert_int_equal(r, -ENFILE);
	assert_true(open >= 15 && open <= 20);
	assert_true(guest_create(g, ROOT, "g", O_RDWR, 0644, &fh) == 0 && errno == ENFILE);
	assert_false(host_has(g, "g"));
	assert_true(guest_mkdir(g, dir, "still-works") != 0);
}

static void test_few_files(void **state)
{
	in_child(*state, few_files);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
		TEST(test_framing),   TEST(test_short),	    TEST(test_names),
		TEST(test_handles),   TEST(test_numbers),   TEST(test_swapped),
		TEST(test_special),   TEST(test_read_only), TEST(test_privileged),
		TEST(test_mapped),    TEST(test_few_files),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
