/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared-folder server: what a well-behaved guest sees, and what it sees of the host's doings.
 */
#include <linux/fs.h>
#include <time.h>

#include "fuse_guest.h"

#define ROOT FUSE_ROOT_ID

/* ---- the session ---- */

static int init(struct guest *g, uint32_t major, uint32_t minor, struct fuse_init_out *out)
{
	uint32_t in[4] = { major, minor, 1 << 20, ~0u };
	int r = guest_ask(g, FUSE_INIT, 0, in, sizeof(in), NULL);

	if (r == 0)
		guest_take(g, out, sizeof(*out));
	return r;
}

static void test_init(void **state)
{
	struct guest *g = *state;
	struct fuse_init_out out;

	assert_int_equal(init(g, 7, 45, &out), 0);
	assert_int_equal(out.major, 7);
	assert_int_equal(out.minor, WIRE_MINOR);
	assert_int_equal(out.max_write, GUEST_DATA_MAX);
	assert_int_equal(out.max_pages, GUEST_DATA_MAX / 4096);
	assert_true((out.flags & FUSE_ATOMIC_O_TRUNC) != 0 && (out.flags & FUSE_MAX_PAGES) != 0);
	assert_true((out.flags & (FUSE_POSIX_LOCKS | FUSE_FLOCK_LOCKS | FUSE_WRITEBACK_CACHE |
				  FUSE_POSIX_ACL)) == 0);
	assert_int_equal(init(g, 8, 0, &out), 0);
	assert_int_equal(out.major, 7);
	assert_int_equal(init(g, 7, 12, &out), -EPROTO);
	assert_int_equal(init(g, 6, 50, &out), -EPROTO);
}

/* Mounted anew: the nodes and handles of before are gone, and nothing that they held is left. */
static void test_new_session(void **state)
{
	static const uint32_t opcodes[] = { FUSE_INIT, FUSE_DESTROY };
	struct guest *g = *state;
	struct fuse_init_out out;
	uint64_t dir, file, fh;

	for (unsigned int i = 0; i < 2; i++) {
		dir = guest_mkdir(g, ROOT, i ? "a" : "b");
		file = guest_create(g, dir, "f", O_RDWR, 0644, &fh);
		assert_true(dir != 0 && file != 0 && g->fs->handles.used == 1);
		if (opcodes[i] == FUSE_INIT)
			assert_int_equal(init(g, 7, 45, &out), 0);
		else
			assert_int_equal(guest_ask(g, FUSE_DESTROY, 0, "", 0, NULL), 0);
		assert_int_equal(g->fs->nodes.count, 1);
		assert_int_equal(g->fs->handles.used, 0);
		assert_int_equal(guest_write(g, fh, 0, "x", 0), -EBADF);
		assert_int_equal(guest_getattr(g, file, NULL), -ESTALE);
		assert_int_equal(guest_getattr(g, ROOT, NULL), 0);
	}
	assert_true(g->fs->handles.limit > 0);
	assert_true(guest_lookup(g, ROOT, "a", NULL) != 0);
}

static void test_forgetting(void **state)
{
	struct guest *g = *state;
	uint64_t dir, file, again;
	struct fuse_batch_forget_in batch = { .count = 1 };
	struct fuse_forget_one one;

	assert_int_equal(mkdirat(g->share, "d", 0755), 0);
	host_write(g, "d/f", "x");
	dir = guest_lookup(g, ROOT, "d", NULL);
	file = guest_lookup(g, dir, "f", NULL);
	assert_true(file != 0 && guest_lookup(g, dir, "f", NULL) == file);
	assert_int_equal(g->fs->nodes.count, 3);
	guest_forget(g, dir, 1); /* still needed, for the way to the file */
	assert_int_equal(g->fs->nodes.count, 3);
	guest_forget(g, file, 1);
	assert_int_equal(guest_getattr(g, file, NULL), 0);
	one = (struct fuse_forget_one){ file, 1 };
	guest_begin(g);
	guest_add(g, &batch, sizeof(batch));
	guest_add(g, &one, sizeof(one));
	assert_int_equal(guest_send(g, FUSE_BATCH_FORGET, 0), 1);
	assert_int_equal(g->fs->nodes.count, 1);
	assert_int_equal(guest_getattr(g, file, NULL), -ESTALE);
	again = guest_lookup(g, ROOT, "d", NULL);
	assert_true(again != 0 && again != dir && again != file);
	guest_forget(g, ROOT, 100);
	assert_int_equal(guest_getattr(g, ROOT, NULL), 0);
}

/* ---- files ---- */

static void test_file(void **state)
{
	struct guest *g = *state;
	struct fuse_fsync_in sync = { 0 };
	struct fuse_open_out open_out;
	uint64_t fh, node;
	struct fuse_attr attr;
	mode_t old = umask(077); /* this process's umask has no say */

	node = guest_create(g, ROOT, "f", O_RDWR | O_EXCL, 0666, &fh);
	umask(old);
	assert_true(node != 0);
	assert_int_equal(guest_write(g, fh, 0, "hello world", 0), 11);
	host_holds(g, "f", "hello world");
	assert_int_equal(guest_read(g, FUSE_READ, fh, 6, 4096), 0);
	assert_int_equal(g->out_len, 5);
	assert_memory_equal(g->out, "world", 5);
	assert_int_equal(guest_read(g, FUSE_READ, fh, 11, 4096), 0);
	assert_int_equal(g->out_len, 0);
	assert_int_equal(guest_getattr(g, node, &attr), 0);
	assert_int_equal(attr.size, 11);
	assert_int_equal(attr.mode, S_IFREG | 0666);
	sync.fh = fh;
	assert_int_equal(guest_ask(g, FUSE_FSYNC, node, &sync, sizeof(sync), NULL), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_true(guest_create(g, ROOT, "f", O_RDWR | O_EXCL, 0666, &fh) == 0 && errno == EEXIST);
	assert_true(guest_create(g, ROOT, "f", O_RDWR, 0666, &fh) == node);
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_int_equal(guest_open(g, FUSE_OPEN, node, O_WRONLY | O_TRUNC, &open_out), 0);
	host_holds(g, "f", "");
	/* O_APPEND goes to the end that the file has on the host. */
	host_write(g, "f", "host ");
	assert_int_equal(guest_write(g, open_out.fh, 0, "guest", O_WRONLY | O_APPEND), 5);
	host_holds(g, "f", "host guest");
	assert_int_equal(guest_release(g, FUSE_RELEASE, open_out.fh), 0);
	assert_int_equal(guest_open(g, FUSE_OPEN, ROOT, O_RDONLY, &open_out), -EISDIR);
}

static int set_size(struct guest *g, uint64_t node, uint64_t size)
{
	struct fuse_setattr_in in = { .valid = FATTR_SIZE, .size = size };

	return guest_ask(g, FUSE_SETATTR, node, &in, sizeof(in), NULL);
}

static void test_unlinked(void **state)
{
	struct guest *g = *state;
	struct fuse_open_out again;
	struct fuse_attr attr;
	uint64_t fh, node = guest_create(g, ROOT, "f", O_RDWR, 0644, &fh);

	assert_int_equal(guest_write(g, fh, 0, "12345", 0), 5);
	assert_int_equal(guest_ask(g, FUSE_UNLINK, ROOT, "", 0, "f"), 0);
	assert_int_equal(guest_getattr(g, node, &attr), 0);
	assert_int_equal(attr.nlink, 0);
	assert_int_equal(set_size(g, node, 2), 0);
	assert_int_equal(guest_read(g, FUSE_READ, fh, 0, 10), 0);
	assert_int_equal(g->out_len, 2);
	assert_int_equal(guest_open(g, FUSE_OPEN, node, O_RDONLY, &again), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, again.fh), 0);
	guest_forget(g, node, 1);
	assert_int_equal(guest_read(g, FUSE_READ, fh, 0, 10), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_int_equal(g->fs->nodes.count, 1);
	assert_int_equal(g->fs->handles.used, 0);
}

static void test_sparse(void **state)
{
	struct guest *g = *state;
	struct fuse_fallocate_in fall = { .mode = 3, .length = 1 << 20 }; /* punch, keep size */
	struct fuse_lseek_in seek = { .whence = SEEK_DATA };
	struct fuse_copy_file_range_in copy = { .off_in = 3 << 20, .off_out = 10, .len = 3 };
	struct fuse_lseek_out at;
	uint64_t fh, node = guest_create(g, ROOT, "f", O_RDWR, 0644, &fh);

	assert_int_equal(guest_write(g, fh, 0, "begin", 0), 5);
	assert_int_equal(guest_write(g, fh, 3 << 20, "end", 0), 3);
	fall.fh = seek.fh = copy.fh_in = copy.fh_out = fh;
	copy.nodeid_out = node;
	assert_int_equal(guest_ask(g, FUSE_FALLOCATE, node, &fall, sizeof(fall), NULL), 0);
	assert_int_equal(guest_ask(g, FUSE_LSEEK, node, &seek, sizeof(seek), NULL), 0);
	guest_take(g, &at, sizeof(at));
	assert_true(at.offset == 3 << 20);
	assert_int_equal(guest_ask(g, FUSE_COPY_FILE_RANGE, node, &copy, sizeof(copy), NULL), 0);
	assert_int_equal(guest_read(g, FUSE_READ, fh, 10, 3), 0);
	assert_memory_equal(g->out, "end", 3);
}

static void test_xattr(void **state)
{
	struct guest *g = *state;
	struct fuse_getxattr_in get = { 0 };
	uint32_t set[2] = { 5, 0 }, size;
	char buf[16];
	uint64_t node;

	host_write(g, "f", "");
	node = guest_lookup(g, ROOT, "f", NULL);
	guest_begin(g);
	guest_add(g, set, sizeof(set));
	guest_name(g, "user.x");
	guest_add(g, "value", 5);
	assert_int_equal(guest_send(g, FUSE_SETXATTR, node), 0);
	snprintf(buf, sizeof(buf), "%s", "");
	assert_int_equal(guest_ask(g, FUSE_GETXATTR, node, &get, sizeof(get), "user.x"), 0);
	guest_take(g, &size, sizeof(size));
	assert_int_equal(size, 5);
	get.size = 100;
	assert_int_equal(guest_ask(g, FUSE_GETXATTR, node, &get, sizeof(get), "user.x"), 0);
	assert_int_equal(g->out_len, 5);
	get.size = 2;
	assert_int_equal(guest_ask(g, FUSE_GETXATTR, node, &get, sizeof(get), "user.x"), -ERANGE);
	assert_int_equal(guest_ask(g, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), -ERANGE);
	get.size = 100;
	assert_int_equal(guest_ask(g, FUSE_LISTXATTR, node, &get, sizeof(get), NULL), 0);
	assert_memory_equal(g->out, "user.x", 7);
	assert_int_equal(guest_ask(g, FUSE_GETXATTR, node, &get, sizeof(get), "security.selinux"),
			 -EOPNOTSUPP);
	assert_int_equal(guest_ask(g, FUSE_REMOVEXATTR, node, "", 0, "user.x"), 0);
	assert_int_equal(guest_ask(g, FUSE_REMOVEXATTR, node, "", 0, "user.x"), -ENODATA);
}

/* ---- names ---- */

static void test_rename(void **state)
{
	struct guest *g = *state;
	uint64_t a = guest_mkdir(g, ROOT, "a"), b = guest_mkdir(g, ROOT, "b"), in_a, fh, f;
	uint64_t other;

	in_a = guest_mkdir(g, a, "in");
	f = guest_create(g, in_a, "f", O_RDWR, 0644, &fh);
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_int_equal(guest_rename(g, a, "in", b, "moved", 0), 0);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	guest_time_passes(g);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	assert_int_equal(guest_rename(g, ROOT, "a", ROOT, "b", RENAME_NOREPLACE), -EEXIST);
	assert_int_equal(guest_rename(g, ROOT, "a", ROOT, "b", RENAME_EXCHANGE), 0);
	guest_time_passes(g);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	assert_true(host_has(g, "a/moved/f"));
	assert_int_equal(guest_rename(g, ROOT, "a", b, "a", 0), -EINVAL); /* b is at "a" now */
	assert_int_equal(guest_rename(g, ROOT, "a", a, "x", 0), 0);
	guest_time_passes(g);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	assert_true(host_has(g, "b/x/moved/f"));
	assert_int_equal(guest_rename(g, ROOT, "b", ROOT, "c", 4), -EINVAL); /* RENAME_WHITEOUT */
	other = guest_create(g, ROOT, "other", O_RDWR, 0644, &fh);
	assert_int_equal(guest_release(g, FUSE_RELEASE, fh), 0);
	assert_int_equal(guest_rename(g, in_a, "f", ROOT, "other", RENAME_EXCHANGE), 0);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	assert_int_equal(guest_getattr(g, other, NULL), 0);
	/* Everything goes in the end, whatever moved where. */
	guest_forget(g, a, 1);
	guest_forget(g, b, 1);
	guest_forget(g, in_a, 1);
	guest_forget(g, f, 1);
	guest_forget(g, other, 1);
	assert_int_equal(g->fs->nodes.count, 1);
}

static void test_links(void **state)
{
	struct guest *g = *state;
	struct fuse_link_in in;
	struct fuse_entry_out e;
	uint64_t f, l;

	host_write(g, "a", "x");
	f = guest_lookup(g, ROOT, "a", NULL);
	in.oldnodeid = f;
	assert_true(guest_entry(g, guest_ask(g, FUSE_LINK, ROOT, &in, sizeof(in), "b"), &e) == f);
	assert_int_equal(e.attr.nlink, 2);
	assert_true(guest_lookup(g, ROOT, "a", NULL) == f);
	assert_int_equal(guest_ask(g, FUSE_UNLINK, ROOT, "", 0, "a"), 0);
	assert_int_equal(guest_getattr(g, f, NULL), -ESTALE); /* the kernel looks up another name */
	assert_true(guest_lookup(g, ROOT, "b", NULL) == f);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	guest_begin(g);
	guest_name(g, "l");
	guest_name(g, "../../etc/passwd");
	l = guest_entry(g, guest_send(g, FUSE_SYMLINK, ROOT), NULL);
	assert_true(l != 0);
	assert_int_equal(guest_ask(g, FUSE_READLINK, l, "", 0, NULL), 0);
	assert_int_equal(g->out_len, 16);
	assert_memory_equal(g->out, "../../etc/passwd", 16);
	assert_int_equal(guest_ask(g, FUSE_READLINK, f, "", 0, NULL), -EINVAL);
}

/* ---- directories ---- */

/* Walk over the entries of one answer. Return: how many; *@next is where to go on. */
static unsigned int entries(struct guest *g, bool plus, uint64_t *next, uint8_t *seen)
{
	unsigned int n = 0;

	while (g->out_len > 0) {
		struct fuse_entry_out e;
		struct fuse_dirent d;
		char name[256] = "";
		size_t pad;
		int i;

		if (plus)
			guest_take(g, &e, sizeof(e));
		guest_take(g, &d, offsetof(struct fuse_dirent, name));
		guest_take(g, name, d.namelen);
		pad = FUSE_REC_ALIGN(d.namelen) - d.namelen;
		guest_take(g, (char[8]){ 0 }, pad);
		*next = d.off;
		if (sscanf(name, "f%d", &i) == 1)
			assert_int_equal(seen[i]++, 0);
		if (plus)
			assert_int_equal(e.nodeid != 0, name[0] == 'f');
		n++;
	}
	return n;
}

static void read_all(struct guest *g, bool plus, unsigned int many, bool remove)
{
	uint8_t *seen = calloc(1, many);
	struct fuse_open_out dir, other;
	uint64_t next = 0, i = 0;
	unsigned int total = 0, n;

	assert_int_equal(guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &dir), 0);
	assert_int_equal(guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &other), 0);
	do {
		char name[16];

		/* A second reader does not disturb the first. */
		assert_int_equal(guest_read(g, FUSE_READDIR, other.fh, 0, 4096), 0);
		assert_int_equal(guest_read(g, plus ? FUSE_READDIRPLUS : FUSE_READDIR, dir.fh, next,
					    4096), 0);
		total += n = entries(g, plus, &next, seen);
		snprintf(name, sizeof(name), "f%d", (int)i++);
		if (remove)
			unlinkat(g->share, name, 0);
	} while (n > 0);
	assert_true(remove || total == many + 2);
	assert_int_equal(guest_release(g, FUSE_RELEASEDIR, dir.fh), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASEDIR, other.fh), 0);
	free(seen);
}

static void test_readdir(void **state)
{
	enum { MANY = 3000 };
	struct guest *g = *state;

	for (int i = 0; i < MANY; i++) {
		char name[16];

		snprintf(name, sizeof(name), "f%d", i);
		assert_int_equal(mknodat(g->share, name, S_IFREG | 0644, 0), 0);
	}
	read_all(g, false, MANY, false);
	assert_int_equal(g->fs->nodes.count, 1);
	read_all(g, true, MANY, false);
	assert_int_equal(g->fs->nodes.count, MANY + 1);
	read_all(g, true, MANY, true);
}

/* ---- what the host does meanwhile ---- */

/* READDIRPLUS, once the guest may use for a while what it says. */
static void list(struct guest *g)
{
	struct fuse_open_out dir;
	struct timespec now;
	struct stat st;

	assert_int_equal(fstatat(g->share, "f", &st, 0), 0);
	do
		clock_gettime(CLOCK_REALTIME, &now);
	while (now.tv_sec * 1000000000 + now.tv_nsec < attr_ctime_ns(&st) + 110000000);
	assert_int_equal(guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &dir), 0);
	assert_int_equal(guest_read(g, FUSE_READDIRPLUS, dir.fh, 0, 65536), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASEDIR, dir.fh), 0);
}

/* open() after the host's write() sees what was written, also right after a listing. */
static void test_close_to_open(void **state)
{
	struct guest *g = *state;
	struct fuse_entry_out e;
	struct fuse_open_out o;
	uint64_t f, now;

	host_write(g, "f", "one");
	f = guest_lookup(g, ROOT, "f", &e);
	assert_true(e.entry_valid == 0 && e.attr.size == 3);
	host_write(g, "f", "longer");
	assert_true(guest_lookup(g, ROOT, "f", &e) == f && e.attr.size == 6);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), 0);
	assert_int_equal(o.open_flags & FOPEN_KEEP_CACHE, 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, o.fh), 0);

	list(g);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, o.fh), 0);
	host_write(g, "f", "still longer than that");
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), -ESTALE);
	assert_true(guest_lookup(g, ROOT, "f", &e) == f && e.attr.size == 22);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, o.fh), 0);

	/* ESTALE comes once: a guest that cannot look up (its own /proc/self/fd) gets on. */
	list(g);
	host_write(g, "f", "and again");
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), -ESTALE);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), 0);
	assert_int_equal(guest_release(g, FUSE_RELEASE, o.fh), 0);

	/* The way editors save: another file takes the name. */
	list(g);
	host_write(g, "new", "replaced");
	assert_int_equal(renameat(g->share, "new", g->share, "f"), 0);
	assert_int_equal(guest_open(g, FUSE_OPEN, f, O_RDONLY, &o), -ESTALE);
	now = guest_lookup(g, ROOT, "f", NULL);
	assert_true(now != 0 && now != f);
	assert_int_equal(guest_open(g, FUSE_OPEN, now, O_RDONLY, &o), 0);
	assert_int_equal(guest_read(g, FUSE_READ, o.fh, 0, 100), 0);
	assert_memory_equal(g->out, "replaced", 8);
	assert_int_equal(unlinkat(g->share, "f", 0), 0);
	assert_true(guest_lookup(g, ROOT, "f", NULL) == 0 && errno == ENOENT);
}

/* The guest keeps the pages of a file that has not changed for long. */
static void test_keep_cache(void **state)
{
	struct guest *g = *state;
	struct fuse_open_out o;
	struct stat st;
	uint64_t node = ROOT;

	assert_int_equal(stat("/bin/sh", &st), 0);
	guest_serve(g, "/bin/sh", true);
	assert_int_equal(guest_open(g, FUSE_OPEN, node, O_RDONLY, &o), 0);
	assert_int_equal(o.open_flags & FOPEN_KEEP_CACHE, 0);
	if (time(NULL) - st.st_ctime < 120)
		skip();
	assert_int_equal(guest_open(g, FUSE_OPEN, node, O_RDONLY, &o), 0);
	assert_true((o.open_flags & FOPEN_KEEP_CACHE) != 0);
}

static void test_host_renames(void **state)
{
	struct guest *g = *state;
	uint64_t d, sub, f, f2;

	assert_int_equal(mkdirat(g->share, "d", 0755), 0);
	assert_int_equal(mkdirat(g->share, "d/sub", 0755), 0);
	host_write(g, "d/sub/f", "x");
	d = guest_lookup(g, ROOT, "d", NULL);
	sub = guest_lookup(g, d, "sub", NULL);
	f = guest_lookup(g, sub, "f", NULL);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	/* A directory that is held open goes on when it moves within the share ... */
	assert_int_equal(renameat(g->share, "d", g->share, "e"), 0);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	guest_time_passes(g);
	assert_int_equal(guest_getattr(g, f, NULL), 0);
	assert_true(guest_lookup(g, ROOT, "e", NULL) == d);
	/* ... and ends when it leaves. */
	assert_int_equal(renameat(g->share, "e/sub", g->base_fd, "outside"), 0);
	guest_time_passes(g);
	assert_int_equal(guest_getattr(g, f, NULL), -ESTALE);
	assert_true(guest_lookup(g, sub, "f", NULL) == 0 && errno == ESTALE);
	/* Another file of that name is not taken for it. */
	assert_int_equal(mkdirat(g->share, "e/sub", 0755), 0);
	host_write(g, "e/sub/f", "y");
	assert_int_equal(guest_getattr(g, f, NULL), -ESTALE);
	f2 = guest_lookup(g, guest_lookup(g, d, "sub", NULL), "f", NULL);
	assert_true(f2 != 0 && f2 != f);
}

/* Two directories change places, so that places remembered in between would form a circle. */
static void test_circle(void **state)
{
	struct guest *g = *state;
	uint64_t a, b;

	assert_int_equal(mkdirat(g->share, "a", 0755), 0);
	assert_int_equal(mkdirat(g->share, "a/b", 0755), 0);
	a = guest_lookup(g, ROOT, "a", NULL);
	b = guest_lookup(g, a, "b", NULL);
	assert_true(guest_lookup(g, b, "none", NULL) == 0 && errno == ENOENT);
	assert_int_equal(renameat(g->share, "a/b", g->share, "b"), 0);
	assert_int_equal(renameat(g->share, "a", g->share, "b/a"), 0);
	assert_true(guest_lookup(g, b, "a", NULL) == a);
	guest_time_passes(g);
	guest_getattr(g, a, NULL); /* ends, whatever the answer */
	assert_true(guest_lookup(g, ROOT, "b", NULL) == b);
	assert_int_equal(guest_getattr(g, a, NULL), 0);
	guest_forget(g, a, 2);
	guest_forget(g, b, 2);
	assert_int_equal(g->fs->nodes.count, 1);
}

/* ---- kinds of shares ---- */

static void test_single_file(void **state)
{
	struct guest *g = *state;
	struct fuse_attr attr;
	struct fuse_open_out o;

	host_write(g, "f", "alone");
	guest_serve(g, "share/f", false);
	assert_int_equal(guest_getattr(g, ROOT, &attr), 0);
	assert_int_equal(attr.mode & S_IFMT, S_IFREG);
	assert_int_equal(guest_open(g, FUSE_OPEN, ROOT, O_RDWR, &o), 0);
	assert_int_equal(guest_write(g, o.fh, 0, "A", 0), 1);
	host_holds(g, "f", "Alone");
	assert_int_equal(set_size(g, ROOT, 2), 0);
	host_holds(g, "f", "Al");
	assert_true(guest_lookup(g, ROOT, "f", NULL) == 0 && errno == ENOTDIR);
	assert_int_equal(guest_open(g, FUSE_OPENDIR, ROOT, O_RDONLY, &o), -ENOTDIR);
}

static void test_refused_roots(void **state)
{
	struct guest *g = *state;
	struct fileserver_config config = { .data_max = GUEST_DATA_MAX };
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct fileserver *fs = NULL;

	config.root_fd = open("/dev/null", O_PATH | O_CLOEXEC);
	assert_int_equal(fileserver_create(&fs, &config, &err), -ENOTDIR);
	assert_true(err.message[0] != '\0');
	close(config.root_fd);
	config.root_fd = g->share;
	config.data_max = 0;
	assert_int_equal(fileserver_create(&fs, &config, &err), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, guest_setup, guest_teardown)
		TEST(test_init),	  TEST(test_new_session),   TEST(test_forgetting),
		TEST(test_file),
		TEST(test_unlinked),	  TEST(test_sparse),	    TEST(test_xattr),
		TEST(test_rename),	  TEST(test_links),	    TEST(test_readdir),
		TEST(test_close_to_open), TEST(test_keep_cache),    TEST(test_host_renames),
		TEST(test_circle),	  TEST(test_single_file),   TEST(test_refused_roots),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
