/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device: requests by its queues, guests that break the rules, resets at work.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/path.h"
#include "virtio_guest.h"

#define HIPRIO	0
#define REQUEST 1
#define UNIQUE	0x1122334455667788ull

/**
 * struct fixture - a device on a temporary directory.
 * @body: the last answer's, of @body_len bytes.
 */
struct fixture {
	struct vg g;
	char dir[64];
	int dir_fd;
	uint8_t body[4096];
	size_t body_len;
};

static struct fixture *make(bool with_loop)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct smolvm_vmm_fs config = { .tag = "share0" };
	struct virtio_device *d;

	strcpy(f->dir, "/tmp/virtio-fs-test-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	f->dir_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	config.root_fd = open(f->dir, O_PATH | O_CLOEXEC);
	vg_init(&f->g, with_loop);
	assert_int_equal(fs_create(&d, &f->g.env, &config, NULL), 0);
	vg_attach(&f->g, d);
	return f;
}

static int setup_direct(void **state)
{
	struct fixture *f = make(false);

	vg_boot(&f->g, ~0ull, 64);
	*state = f;
	return 0;
}

static int setup_thread(void **state)
{
	struct fixture *f = make(true);

	vg_boot(&f->g, ~0ull, 64);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	vg_fini(&f->g);
	close(f->dir_fd);
	assert_int_equal(path_remove_tree(f->dir), 0);
	free(f);
	return 0;
}

static void host_write(struct fixture *f, const char *name, const char *text)
{
	int fd = openat(f->dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* ---- requests ---- */

/* A request in one buffer. @len: what it says that it has; 0: what it has. */
static struct vg_buf request(struct fixture *f, uint32_t opcode, uint64_t nodeid, const void *body,
			     size_t n, uint32_t len)
{
	struct fuse_in_header in = { .len = (uint32_t)(sizeof(in) + n),
				     .opcode = opcode,
				     .unique = UNIQUE,
				     .nodeid = nodeid };
	uint8_t bytes[4096];

	if (len)
		in.len = len;
	assert_true(sizeof(in) + n <= sizeof(bytes));
	memcpy(bytes, &in, sizeof(in));
	if (n)
		memcpy(bytes + sizeof(in), body, n);
	return vg_out(&f->g, bytes, (uint32_t)(sizeof(in) + n));
}

/* What is in the buffer of an answer of @written bytes. Return: the error, 0 or negative. */
static int take_answer(struct fixture *f, struct vg_buf in, uint32_t written)
{
	struct fuse_out_header out;

	assert_true(written >= sizeof(out) && written <= in.len);
	memcpy(&out, vg_ptr(&f->g, in.gpa), sizeof(out));
	assert_int_equal(out.len, written);
	assert_true(out.unique == UNIQUE);
	f->body_len = written - sizeof(out);
	assert_true(f->body_len <= sizeof(f->body));
	memcpy(f->body, (uint8_t *)vg_ptr(&f->g, in.gpa) + sizeof(out), f->body_len);
	return out.error;
}

static int ask(struct fixture *f, uint32_t opcode, uint64_t nodeid, const void *body, size_t n)
{
	struct vg_buf bufs[2] = { request(f, opcode, nodeid, body, n, 0), vg_in(&f->g, 4096) };

	return take_answer(f, bufs[1], vg_request(&f->g, REQUEST, bufs, 2));
}

static void begin(struct fixture *f)
{
	uint32_t in[4] = { 7, 31, 1 << 20, 0 };
	struct fuse_init_out out = { 0 };

	assert_int_equal(ask(f, FUSE_INIT, 0, in, sizeof(in)), 0);
	memcpy(&out, f->body, f->body_len < sizeof(out) ? f->body_len : sizeof(out));
	assert_int_equal(out.major, 7);
	assert_int_equal(out.max_write, 1 << 20);
}

static uint64_t lookup(struct fixture *f, const char *name)
{
	struct fuse_entry_out e;

	if (ask(f, FUSE_LOOKUP, FUSE_ROOT_ID, name, strlen(name) + 1) < 0)
		return 0;
	memcpy(&e, f->body, sizeof(e));
	return e.nodeid;
}

static uint64_t open_file(struct fixture *f, uint64_t node)
{
	struct fuse_open_in in = { .flags = O_RDWR };
	struct fuse_open_out out;

	assert_int_equal(ask(f, FUSE_OPEN, node, &in, sizeof(in)), 0);
	memcpy(&out, f->body, sizeof(out));
	return out.fh;
}

static uint64_t requests(struct fixture *f)
{
	return __atomic_load_n(&f->g.counters.fs_requests, __ATOMIC_RELAXED);
}

/* ---- as it should be ---- */

static void test_config(void **state)
{
	struct fixture *f = *state;
	uint8_t config[48];
	uint8_t wanted[48] = "share0";

	wanted[36] = 1;
	assert_int_equal(vg_read(&f->g, VG_DEVICE_ID), VIRTIO_ID_FS);
	assert_int_equal(f->g.device->n_queues, 2);
	vg_config(&f->g, 0, config, sizeof(config));
	assert_memory_equal(config, wanted, sizeof(config));
}

static void test_files(void **state)
{
	struct fixture *f = *state;
	struct fuse_write_in w = { .size = 5 };
	struct fuse_read_in r = { .size = 100 };
	uint8_t body[sizeof(w) + 5];
	char on_host[8] = "";
	int fd;

	host_write(f, "f", "hello");
	begin(f);
	w.fh = r.fh = open_file(f, lookup(f, "f"));
	assert_int_equal(ask(f, FUSE_READ, 0, &r, sizeof(r)), 0);
	assert_int_equal(f->body_len, 5);
	assert_memory_equal(f->body, "hello", 5);
	memcpy(body, &w, sizeof(w));
	memcpy(body + sizeof(w), "HELLO", 5);
	assert_int_equal(ask(f, FUSE_WRITE, 0, body, sizeof(body)), 0);
	fd = openat(f->dir_fd, "f", O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, on_host, sizeof(on_host)), 5);
	close(fd);
	assert_string_equal(on_host, "HELLO");
	assert_int_equal(ask(f, FUSE_LOOKUP, FUSE_ROOT_ID, "none", 5), -ENOENT);
	assert_int_equal(requests(f), 6);
	assert_true(__atomic_load_n(&f->g.counters.fs_bytes, __ATOMIC_RELAXED) > 6 * 56);
	assert_false(vg_needs_reset(&f->g));
}

/* Cut into buffers at other places than a friendly driver would, by an indirect table. */
static void test_scattered(void **state)
{
	struct fixture *f = *state;
	struct vg_buf whole, bufs[64];
	uint8_t answer[sizeof(struct fuse_out_header) + sizeof(struct fuse_entry_out)];
	struct fuse_entry_out e;
	uint32_t written = 0;
	unsigned int n = 0, n_out;
	size_t at = 0;

	host_write(f, "name", "x");
	begin(f);
	whole = request(f, FUSE_LOOKUP, FUSE_ROOT_ID, "name", 5, 0);
	for (uint32_t i = 0; i < whole.len; i += 3)
		bufs[n++] = (struct vg_buf){ whole.gpa + i, whole.len - i < 3 ? whole.len - i : 3,
					     false };
	n_out = n;
	while (n < 64)
		bufs[n++] = vg_in(&f->g, 7);
	vg_add_indirect(&f->g, REQUEST, bufs, n);
	vg_kick(&f->g, REQUEST);
	assert_true(vg_wait(&f->g, REQUEST, NULL, &written));
	assert_int_equal(written, sizeof(answer));
	for (n = n_out; at < sizeof(answer); n++, at += 7)
		memcpy(answer + at, vg_ptr(&f->g, bufs[n].gpa),
		       sizeof(answer) - at < 7 ? sizeof(answer) - at : 7);
	memcpy(&e, answer + sizeof(struct fuse_out_header), sizeof(e));
	assert_true(e.nodeid != 0 && e.nodeid == lookup(f, "name"));
	assert_int_equal(e.attr.size, 1);
}

/* A megabyte in pages that do not follow each other, there and back, and past the file's end. */
static void test_much(void **state)
{
	struct fixture *f = *state;
	struct fuse_write_in w = { .size = 255 * 4096, .offset = 7 };
	struct fuse_read_in r = { .size = 255 * 4096, .offset = 4096 };
	static struct vg_buf bufs[258];
	uint64_t data = vg_alloc(&f->g, 256 * 8192, 4096), node;
	uint32_t n = 0, *p = vg_ptr(&f->g, data);
	const struct fuse_out_header *out;

	host_write(f, "f", "");
	begin(f);
	node = lookup(f, "f");
	w.fh = r.fh = open_file(f, node);
	for (uint32_t i = 0; i < 256 * 2048; i++)
		p[i] = i * 2654435761u;
	bufs[0] = request(f, FUSE_WRITE, 0, &w, sizeof(w), 80 + w.size);
	for (unsigned int i = 0; i < 255; i++)
		bufs[1 + i] = (struct vg_buf){ data + i * 8192, 4096, false };
	bufs[256] = vg_in(&f->g, 100);
	vg_add_indirect(&f->g, REQUEST, bufs, 257);
	vg_kick(&f->g, REQUEST);
	assert_true(vg_wait(&f->g, REQUEST, NULL, &n));
	assert_int_equal(take_answer(f, bufs[256], n), 0);
	bufs[0] = request(f, FUSE_READ, 0, &r, sizeof(r), 0);
	bufs[1] = vg_in(&f->g, sizeof(*out));
	for (unsigned int i = 0; i < 255; i++)
		bufs[2 + i] = vg_in(&f->g, i & 1 ? 4000 : 4192);
	bufs[257] = vg_in(&f->g, 4096);
	vg_add_indirect(&f->g, REQUEST, bufs, 258);
	vg_kick(&f->g, REQUEST);
	assert_true(vg_wait(&f->g, REQUEST, NULL, &n));
	out = vg_ptr(&f->g, bufs[1].gpa);
	assert_int_equal(n, sizeof(*out) + w.size + 7 - 4096);
	assert_int_equal(out->len, n);
	n -= sizeof(*out);
	for (uint32_t at = 0, b = 2, off = 0; at < n; at++, off++) {
		uint32_t in_file = at + 4096 - 7, page = in_file / 4096;
		const uint8_t *wanted = vg_ptr(&f->g, data + page * 8192 + in_file % 4096);

		if (off == bufs[b].len) {
			off = 0;
			b++;
		}
		if (*(uint8_t *)vg_ptr(&f->g, bufs[b].gpa + off) != *wanted)
			fail_msg("byte %u is wrong", at);
	}
}

/* Sizes that do not fit what the buffers are. */
static void test_wrong_sizes(void **state)
{
	struct fixture *f = *state;
	struct fuse_write_in w = { .size = 4096 };
	struct fuse_read_in r = { .size = 5000 };
	struct vg_buf bufs[3];

	host_write(f, "f", "");
	begin(f);
	w.fh = r.fh = open_file(f, lookup(f, "f"));
	bufs[0] = request(f, FUSE_READ, 0, &r, sizeof(r), 0);
	bufs[1] = vg_in(&f->g, 4096);
	assert_int_equal(take_answer(f, bufs[1], vg_request(&f->g, REQUEST, bufs, 2)), -EINVAL);
	w.size = 4095;
	bufs[0] = request(f, FUSE_WRITE, 0, &w, sizeof(w), 80 + 4096);
	bufs[1] = (struct vg_buf){ vg_alloc(&f->g, 4096, 16), 4096, false };
	bufs[2] = vg_in(&f->g, 100);
	assert_int_equal(take_answer(f, bufs[2], vg_request(&f->g, REQUEST, bufs, 3)), -EINVAL);
	w.size = 4096;
	bufs[0] = request(f, FUSE_WRITE, 0, &w, sizeof(w), 80 + 4096);
	bufs[1].len = 4095;
	bufs[2] = vg_in(&f->g, 100);
	vg_add(&f->g, REQUEST, bufs, 3);
	vg_kick(&f->g, REQUEST);
	assert_true(vg_wait_needs_reset(&f->g));
}

/* What has no answer comes back all the same. */
static void test_forget(void **state)
{
	struct fixture *f = *state;
	struct fuse_forget_in in = { 1 };
	struct fuse_getattr_in get = { 0 };
	struct vg_buf buf;
	uint64_t node;

	host_write(f, "f", "x");
	begin(f);
	node = lookup(f, "f");
	assert_int_equal(ask(f, FUSE_GETATTR, node, &get, sizeof(get)), 0);
	buf = request(f, FUSE_FORGET, node, &in, sizeof(in), 0);
	assert_int_equal(vg_request(&f->g, HIPRIO, &buf, 1), 0);
	assert_int_equal(ask(f, FUSE_GETATTR, node, &get, sizeof(get)), -ESTALE);
}

static void test_many_at_once(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in get = { 0 };
	uint16_t heads[20], head = 0;
	struct vg_buf bufs[2];
	struct vg_buf in[20];
	uint32_t written = 0;

	begin(f);
	for (unsigned int round = 0; round < 10; round++) {
		unsigned int irqs = vg_irqs(&f->g);

		for (unsigned int i = 0; i < 20; i++) {
			bufs[0] = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 0);
			bufs[1] = in[i] = vg_in(&f->g, 4096);
			heads[i] = vg_add(&f->g, REQUEST, bufs, 2);
		}
		vg_kick(&f->g, REQUEST);
		for (unsigned int i = 0; i < 20; i++) {
			assert_true(vg_wait(&f->g, REQUEST, &head, &written));
			assert_int_equal(head, heads[i]);
			assert_int_equal(take_answer(f, in[i], written), 0);
		}
		assert_true(vg_irqs(&f->g) - irqs <= 20);
	}
}

/* ---- guests that break the rules ---- */

static void fails(struct fixture *f, struct vg_buf out, uint32_t in_bytes)
{
	struct vg_buf bufs[2] = { out, vg_in(&f->g, in_bytes ? in_bytes : 1) };

	vg_add(&f->g, REQUEST, bufs, in_bytes ? 2 : 1);
	vg_kick(&f->g, REQUEST);
	assert_true(vg_wait_needs_reset(&f->g));
	assert_false(vg_used(&f->g, REQUEST, NULL, NULL));
	assert_int_equal(f->g.counters.device_errors, 1);
	f->g.counters.device_errors = 0;
	f->g.brk = VG_RAM_GPA;
	vg_boot(&f->g, ~0ull, 64);
	begin(f); /* a reset makes it good again */
}

static void test_malformed(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in get = { 0 };
	struct vg_buf b;

	begin(f);
	b = vg_out(&f->g, "short", 5);
	fails(f, b, 4096);
	b = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 41);
	fails(f, b, 4096);
	b = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 0xffffffff);
	fails(f, b, 4096);
	b = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 0);
	fails(f, b, 0);
	b = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 0);
	fails(f, b, 100);
	/* Only the device may write where the request should be. */
	b = vg_in(&f->g, 4096);
	fails(f, b, 4096);
	/* More than a message has. */
	b = (struct vg_buf){ vg_alloc(&f->g, (1 << 20) + 8192, 16), (1 << 20) + 8192, false };
	fails(f, b, 4096);
	b = (struct vg_buf){ VG_RAM_GPA, 32 << 20, false };
	fails(f, b, 4096);
	b = (struct vg_buf){ VG_RAM_GPA + VG_RAM_BYTES - 8, 4096, false };
	fails(f, b, 4096);
}

/* Nodes of before are unknown after a reset and a new mount, and descriptors are given back. */
static void test_mounted_anew(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in get = { 0 };
	uint64_t node, other;
	int before = -1;

	host_write(f, "f", "x");
	host_write(f, "g", "y");
	for (int i = 0; i < 5; i++) {
		int fd = dup(f->dir_fd);

		close(fd);
		if (i)
			assert_int_equal(fd, before);
		before = fd;
		begin(f);
		node = lookup(f, "f");
		other = lookup(f, "g");
		open_file(f, other);
		virtio_mmio_reset(&f->g.mmio);
		f->g.brk = VG_RAM_GPA;
		vg_boot(&f->g, ~0ull, 64);
		begin(f);
		assert_int_equal(ask(f, FUSE_GETATTR, node, &get, sizeof(get)), -ESTALE);
	}
}

/* ---- reset while the file system blocks ---- */

static void *reset(void *ctx)
{
	struct fixture *f = ctx;

	vg_write(&f->g, VG_STATUS, 0);
	__atomic_store_n(&f->body_len, 12345, __ATOMIC_RELAXED);
	return NULL;
}

static bool is_active(struct fixture *f)
{
	bool active;

	pthread_mutex_lock(&f->g.device->lock);
	active = f->g.device->active;
	pthread_mutex_unlock(&f->g.device->lock);
	return active;
}

/* Somebody's lease of a file holds back who opens it, until it is given up. */
static void test_reset_waits(void **state)
{
	struct fixture *f = *state;
	struct fuse_open_in in = { .flags = O_RDWR };
	struct vg_buf bufs[2];
	uint64_t node;
	pthread_t thread;
	int fd;

	signal(SIGIO, SIG_IGN);
	host_write(f, "f", "x");
	fd = openat(f->dir_fd, "f", O_RDONLY | O_CLOEXEC);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		skip();
	begin(f);
	node = lookup(f, "f");
	bufs[0] = request(f, FUSE_OPEN, node, &in, sizeof(in), 0);
	bufs[1] = vg_in(&f->g, 4096);
	memset(vg_ptr(&f->g, bufs[1].gpa), 0xee, 4096);
	vg_add(&f->g, REQUEST, bufs, 2);
	vg_kick(&f->g, REQUEST);
	while (fcntl(fd, F_GETLEASE) == F_RDLCK) /* until somebody waits for it */
		sched_yield();
	f->body_len = 0;
	assert_int_equal(pthread_create(&thread, NULL, reset, f), 0);
	while (is_active(f)) /* until the reset has begun */
		sched_yield();
	assert_int_equal(requests(f), 2);
	assert_int_equal(__atomic_load_n(&f->body_len, __ATOMIC_RELAXED), 0);
	assert_int_equal(fcntl(fd, F_SETLEASE, F_UNLCK), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(f->body_len, 12345);
	assert_int_equal(requests(f), 3);
	assert_false(vg_used(&f->g, REQUEST, NULL, NULL)); /* too late */
	close(fd);
	vg_boot(&f->g, ~0ull, 64);
	begin(f);
	assert_true(lookup(f, "f") != 0);
}

static void test_resets_at_any_time(void **state)
{
	struct fixture *f = *state;
	struct fuse_getattr_in get = { 0 };
	struct vg_buf bufs[2];

	for (int i = 0; i < 200; i++) {
		f->g.brk = VG_RAM_GPA;
		vg_boot(&f->g, i & 1 ? ~0ull : ~VIRTIO_F_EVENT_IDX, 64);
		for (int k = 0; k < i % 7; k++) {
			bufs[0] = request(f, FUSE_GETATTR, FUSE_ROOT_ID, &get, sizeof(get), 0);
			bufs[1] = vg_in(&f->g, 4096);
			vg_add(&f->g, REQUEST, bufs, 2);
			vg_kick(&f->g, REQUEST);
		}
		fs_set_user(f->g.device, (uint32_t)i, 0);
		if (i % 3 == 0)
			sched_yield();
		vg_write(&f->g, VG_STATUS, 0);
	}
}

static void test_refused(void **state)
{
	struct smolvm_vmm_fs config = { .root_fd = -1, .tag = "" };
	struct virtio_device *d;
	struct vg g;

	vg_init(&g, false);
	assert_int_equal(fs_create(&d, &g.env, &config, NULL), -EINVAL);
	config.tag = "a tag of more than thirty-six bytes...";
	assert_int_equal(fs_create(&d, &g.env, &config, NULL), -EINVAL);
	config.tag = "t";
	assert_int_equal(fs_create(&d, &g.env, &config, NULL), -EBADF);
	config.root_fd = open("/dev/null", O_PATH | O_CLOEXEC);
	assert_int_equal(fs_create(&d, &g.env, &config, NULL), -ENOTDIR);
	close(config.root_fd);
	vg_fini(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define DIRECT(name) { #name, name, setup_direct, teardown, NULL }
#define THREAD(name) { #name " (thread)", name, setup_thread, teardown, NULL }
		DIRECT(test_config),	     DIRECT(test_files),
		THREAD(test_files),	     DIRECT(test_scattered),
		THREAD(test_scattered),	     DIRECT(test_much),
		THREAD(test_much),	     DIRECT(test_wrong_sizes),
		DIRECT(test_forget),
		THREAD(test_forget),	     DIRECT(test_many_at_once),
		THREAD(test_many_at_once),   DIRECT(test_malformed),
		THREAD(test_malformed),	     DIRECT(test_mounted_anew),
		THREAD(test_mounted_anew),   THREAD(test_reset_waits),
		THREAD(test_resets_at_any_time), cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
