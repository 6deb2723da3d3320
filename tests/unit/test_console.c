/* SPDX-License-Identifier: Apache-2.0 */
/*
 * virtio-console: ports as a driver meets them, data both ways, slow and broken peers, hostile
 * drivers.
 */
#include "virtio_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <termios.h>

#include "base/fd.h"

#define F_SIZE	    (1ull << 0)
#define F_MULTIPORT (1ull << 1)

enum { READY, ADD, REMOVE, PORT_READY, CONSOLE, RESIZE, OPEN, NAME };
enum { RX0, TX0, CTRL_IN, CTRL_OUT, RX1, TX1 };

#define PAGE 4096u

struct control {
	uint32_t id;
	uint16_t event, value;
};

struct t {
	struct vg g;
	bool loop;
};

static void begin(struct t *t, struct smolvm_vmm_console config)
{
	struct virtio_device *d;

	vg_init(&t->g, t->loop);
	assert_int_equal(console_create(&d, &t->g.env, &config, NULL), 0);
	vg_attach(&t->g, d);
	vg_boot(&t->g, ~0ull, 0);
}

static void end(struct t *t)
{
	vg_fini(&t->g);
}

/* Give queue @q a page to write into. Return: where. */
static uint64_t give(struct t *t, unsigned int q)
{
	struct vg_buf b = { vg_alloc(&t->g, PAGE, PAGE), PAGE, true };

	vg_add(&t->g, q, &b, 1);
	vg_kick(&t->g, q);
	return b.gpa;
}

static void say(struct t *t, uint32_t id, uint16_t event, uint16_t value)
{
	struct control m = { id, event, value };
	struct vg_buf b = vg_out(&t->g, &m, sizeof(m));

	vg_request(&t->g, CTRL_OUT, &b, 1);
}

/* The device's next message, which must be this one. */
static void hear(struct t *t, uint32_t id, uint16_t event, uint16_t value, const char *name)
{
	uint64_t gpa = give(t, CTRL_IN);
	struct control *m = vg_ptr(&t->g, gpa);
	uint32_t written = 0;

	assert_true(vg_wait(&t->g, CTRL_IN, NULL, &written));
	assert_int_equal(m->id, id);
	assert_int_equal(m->event, event);
	assert_int_equal(m->value, value);
	assert_int_equal(written, sizeof(*m) + strlen(name));
	assert_memory_equal(m + 1, name, strlen(name));
}

/* As Linux's driver does it, @n ports, of which the first is the console. */
static void shake_hands(struct t *t, unsigned int n, const char *const *names)
{
	say(t, 0, READY, 1);
	for (unsigned int i = 0; i < n; i++)
		hear(t, i, ADD, 1, "");
	for (unsigned int i = 0; i < n; i++) {
		say(t, i, PORT_READY, 1);
		if (i == 0)
			hear(t, 0, CONSOLE, 1, "");
		if (names && names[i])
			hear(t, i, NAME, 1, names[i]);
		hear(t, i, OPEN, 1, "");
	}
	say(t, 0, OPEN, 1);
}

/* Read @n bytes of the driver's side of queue @q, giving it pages. */
static void read_guest(struct t *t, unsigned int q, void *to, size_t n)
{
	size_t done = 0;

	while (done < n) {
		uint64_t brk = t->g.brk, gpa = give(t, q);
		uint32_t written = 0;

		assert_true(vg_wait(&t->g, q, NULL, &written));
		assert_true(written > 0 && written <= n - done);
		memcpy((uint8_t *)to + done, vg_ptr(&t->g, gpa), written);
		done += written;
		t->g.brk = brk;
	}
}

static uint16_t write_guest(struct t *t, unsigned int q, const void *data, uint32_t n)
{
	struct vg_buf b = vg_out(&t->g, data, n);
	uint16_t head = vg_add(&t->g, q, &b, 1);

	vg_kick(&t->g, q);
	return head;
}

static bool readable(int fd, int ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, ms) > 0;
}

static void read_host(int fd, void *to, size_t n)
{
	size_t done = 0;

	while (done < n) {
		ssize_t r;

		assert_true(readable(fd, VG_WAIT_MS));
		r = read(fd, (uint8_t *)to + done, n - done);
		assert_true(r > 0);
		done += (size_t)r;
	}
}

static void make_pipe(int p[2])
{
	assert_int_equal(pipe2(p, O_CLOEXEC), 0);
}

static void make_pair(int p[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, p), 0);
}

/* A console that is nothing, and port 1, a socket with us at its other end, p[1]. */
static void begin_socket(struct t *t, int p[2])
{
	make_pair(p);
	begin(t, (struct smolvm_vmm_console){
			 .n_ports = 2, .ports = { { NULL, -1, -1 }, { NULL, p[0], p[0] } } });
}

/* ---- ports ---- */

static void test_handshake(void **state)
{
	static const char *const names[] = { NULL, "org.smolvm.one", "two" };
	struct t *t = *state;
	struct {
		uint16_t cols, rows;
		uint32_t ports, emergency;
	} c;
	int p[2];

	make_pair(p);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 3,
					      .ports = { { NULL, -1, -1 },
							 { names[1], p[0], p[0] },
							 { names[2], -1, -1 } } });
	assert_int_equal(t->g.device->n_queues, 8);
	vg_config(&t->g, 0, &c, sizeof(c));
	assert_int_equal(c.ports, 3);
	assert_true(t->g.features & F_MULTIPORT);
	assert_false(t->g.features & F_SIZE);
	shake_hands(t, 3, names);
	vg_boot(&t->g, ~0ull, 0); /* and once more */
	shake_hands(t, 3, names);
	assert_int_equal(t->g.counters.device_errors, 0);
	end(t);
	assert_int_equal(fcntl(p[0], F_GETFD), -1);
	close(p[1]);
}

static void test_refusals(void **state)
{
	char name[65] = "";
	struct smolvm_vmm_console bad[] = {
		{ .n_ports = 0 },
		{ .n_ports = SMOLVM_VMM_PORTS_MAX + 1 },
		{ .n_ports = 1, .ports = { { name, -1, -1 } } },
		{ .n_ports = 1, .ports = { { NULL, 9999, -1 } } },
		{ .n_ports = 2, .ports = { { NULL, 0, -1 }, { NULL, -1, 0 } } },
	};

	(void)state;
	memset(name, 'n', 64);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct virtio_env env = { 0 };
		struct virtio_device *d = NULL;
		struct smolvm_error err;

		assert_int_equal(console_create(&d, &env, &bad[i], &err),
				 i == 3 ? -EBADF : -EINVAL);
		assert_null(d);
	}
}

/* A driver of before there were ports has port 0, open at once. */
static void test_single_port(void **state)
{
	struct t *t = *state;
	char buf[5];
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, in[0], out[1] } } });
	vg_boot(&t->g, ~F_MULTIPORT, 0);
	assert_int_equal(write(in[1], "hello", 5), 5);
	read_guest(t, RX0, buf, 5);
	assert_memory_equal(buf, "hello", 5);
	write_guest(t, TX0, "world", 5);
	read_host(out[0], buf, 5);
	assert_memory_equal(buf, "world", 5);
	end(t);
	close(in[1]);
	close(out[0]);
}

/* Nothing is read before somebody has the port open. */
static void test_not_open(void **state)
{
	struct t *t = *state;
	char buf[5];
	int p[2];

	begin_socket(t, p);
	shake_hands(t, 2, NULL);
	assert_int_equal(write(p[1], "early", 5), 5);
	give(t, RX1);
	say(t, 1, OPEN, 0); /* there and back: the device has seen the buffer */
	assert_false(vg_used(&t->g, RX1, NULL, NULL));
	say(t, 1, OPEN, 1);
	assert_true(vg_wait(&t->g, RX1, NULL, NULL));
	say(t, 1, OPEN, 0);
	assert_int_equal(write(p[1], "later", 5), 5);
	give(t, RX1);
	say(t, 7, OPEN, 1); /* of nobody */
	assert_false(vg_used(&t->g, RX1, NULL, NULL));
	say(t, 1, OPEN, 1);
	assert_true(vg_wait(&t->g, RX1, NULL, NULL));
	write_guest(t, TX1, "hello", 5);
	read_host(p[1], buf, 5);
	end(t);
	close(p[1]);
}

/* ---- data ---- */

struct transfer {
	int fd;
	uint8_t *data;
	size_t n;
};

static void *feed(void *ctx)
{
	struct transfer *x = ctx;

	if (fd_write_all(x->fd, x->data, x->n) < 0)
		abort();
	return NULL;
}

static void *drain(void *ctx)
{
	struct transfer *x = ctx;

	if (fd_read_full(x->fd, x->data, x->n) != (ssize_t)x->n)
		abort();
	return NULL;
}

/* A megabyte and a bit each way at once, in odd pieces. */
static void test_bulk(void **state)
{
	struct t *t = *state;
	size_t n = (1u << 20) + 777, sent = 0;
	uint8_t *there = malloc(n), *arrived = malloc(n), *back = malloc(n);
	pthread_t feeder, drainer;
	int p[2];

	assert_true(there && arrived && back);
	for (size_t i = 0; i < n; i++)
		there[i] = (uint8_t)(i * 31 + i / 256);
	begin_socket(t, p);
	shake_hands(t, 2, NULL);
	say(t, 1, OPEN, 1);
	pthread_create(&feeder, NULL, feed, &(struct transfer){ p[1], there, n });
	read_guest(t, RX1, arrived, n);
	pthread_join(feeder, NULL);
	assert_memory_equal(arrived, there, n);

	pthread_create(&drainer, NULL, drain, &(struct transfer){ p[1], back, n });
	for (unsigned int i = 0; sent < n; i++) {
		uint64_t brk = t->g.brk;
		size_t part = 1 + i * 997 % 20000, half = part / 2;
		struct vg_buf bufs[2];

		part = part < n - sent ? part : n - sent;
		half = half < part ? half : 0;
		bufs[0] = vg_out(&t->g, there + sent, (uint32_t)half);
		bufs[1] = vg_out(&t->g, there + sent + half, (uint32_t)(part - half));
		vg_request(&t->g, TX1, bufs, 2);
		sent += part;
		t->g.brk = brk;
	}
	pthread_join(drainer, NULL);
	assert_memory_equal(back, there, n);
	assert_int_equal(t->g.counters.console_bytes, 2 * n);
	end(t);
	close(p[1]);
	free(there);
	free(arrived);
	free(back);
}

/* One read fills several buffers, and the rest waits in the last. */
static void test_many_buffers(void **state)
{
	struct t *t = *state;
	static uint8_t data[3 * PAGE + 100];
	uint64_t gpa[20];
	uint32_t written = 0;
	int p[2];

	make_pair(p);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, p[0], -1 } } });
	shake_hands(t, 1, NULL);
	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i / 3);
	for (unsigned int i = 0; i < 20; i++)
		gpa[i] = give(t, RX0);
	say(t, 0, OPEN, 1);
	assert_int_equal(fd_write_all(p[1], data, sizeof(data)), 0);
	for (unsigned int i = 0; i < 4; i++) {
		assert_true(vg_wait(&t->g, RX0, NULL, &written));
		assert_int_equal(written, i < 3 ? PAGE : 100);
		assert_memory_equal(vg_ptr(&t->g, gpa[i]), data + i * PAGE, written);
	}
	assert_int_equal(write(p[1], "more", 4), 4);
	assert_true(vg_wait(&t->g, RX0, NULL, &written));
	assert_int_equal(written, 4);
	assert_memory_equal(vg_ptr(&t->g, gpa[4]), "more", 4);
	end(t);
	close(p[1]);
}

static void test_ended(void **state)
{
	struct t *t = *state;
	char buf[4];
	int in[2], out[2];

	make_pipe(in);
	make_pipe(out);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 2,
					      .ports = { { NULL, -1, -1 },
							 { NULL, in[0], out[1] } } });
	shake_hands(t, 2, NULL);
	say(t, 1, OPEN, 1);
	assert_int_equal(write(in[1], "last", 4), 4);
	close(in[1]);
	read_guest(t, RX1, buf, 4);
	assert_memory_equal(buf, "last", 4);
	give(t, RX1); /* only who reads on meets the end */
	hear(t, 1, OPEN, 0, "");
	write_guest(t, TX1, "on", 2); /* the other way is open */
	read_host(out[0], buf, 2);
	give(t, CTRL_IN);
	say(t, 1, OPEN, 0);
	say(t, 1, OPEN, 1);
	assert_false(vg_used(&t->g, CTRL_IN, NULL, NULL)); /* told once */
	end(t);
	close(out[0]);
}

static bool output_waits(struct t *t, int fd)
{
	int queued = 0;

	(void)t;
	assert_int_equal(ioctl(fd, FIONREAD, &queued), 0);
	return queued > 0;
}

/* A reader that does not read holds the guest back; then everything arrives, in order. */
static void test_slow_reader(void **state)
{
	struct t *t = *state;
	enum { N = 60, BYTES = 16384 };
	static uint8_t data[BYTES], back[BYTES];
	unsigned int done = 0;
	int p[2];

	make_pipe(p);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, -1, p[1] } } });
	shake_hands(t, 1, NULL);
	for (unsigned int i = 0; i < N; i++) {
		memset(data, (int)i, BYTES);
		write_guest(t, TX0, data, BYTES);
	}
	/* A pipe's 64 KiB hold four: those come back and no other. */
	for (; done < 4; done++)
		assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	assert_true(output_waits(t, p[0]));
	say(t, 0, OPEN, 1);
	assert_false(vg_used(&t->g, TX0, NULL, NULL));
	for (unsigned int i = 0; i < N; i++) {
		memset(data, (int)i, BYTES);
		for (unsigned int k = 0; k < BYTES; k += 1024)
			read_host(p[0], back + k, 1024);
		assert_memory_equal(back, data, BYTES);
		while (vg_used(&t->g, TX0, NULL, NULL))
			done++;
	}
	for (; done < N; done++)
		assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	assert_false(readable(p[0], 0));
	end(t);
	close(p[0]);
}

static void test_reader_gone(void **state)
{
	struct t *t = *state;
	static uint8_t data[PAGE];
	int p[2];

	make_pipe(p);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, -1, p[1] } } });
	shake_hands(t, 1, NULL);
	for (unsigned int i = 0; i < 30; i++)
		write_guest(t, TX0, data, PAGE); /* more than it holds */
	close(p[0]);
	for (unsigned int i = 0; i < 30; i++)
		assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	write_guest(t, TX0, data, PAGE);
	assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	end(t);
}

static void test_full_disk(void **state)
{
	struct t *t = *state;
	int in = open("/dev/null", O_RDONLY), out = open("/dev/full", O_WRONLY);

	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, in, out } } });
	shake_hands(t, 1, NULL);
	for (unsigned int i = 0; i < 3; i++) {
		write_guest(t, TX0, "lost", 4);
		assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	}
	give(t, RX0);
	hear(t, 0, OPEN, 0, "");
	end(t);
}

/* Regular files are always ready; terminals have their own ways. */
static void test_files_and_terminals(void **state)
{
	struct t *t = *state;
	char buf[6] = "", name[64];
	int file = fd_memfd("in"), out = fd_memfd("out"), keep, master, slave;
	struct termios raw;

	assert_int_equal(write(file, "abcde", 5), 5);
	assert_int_equal(lseek(file, 0, SEEK_SET), 0);
	keep = fcntl(out, F_DUPFD_CLOEXEC, 0);
	master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
	assert_int_equal(ptsname_r(master, name, sizeof(name)), 0);
	slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	assert_true(slave >= 0);
	assert_int_equal(tcgetattr(slave, &raw), 0);
	cfmakeraw(&raw);
	assert_int_equal(tcsetattr(slave, TCSANOW, &raw), 0);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 2,
					      .ports = { { NULL, file, out },
							 { NULL, slave, slave } } });
	shake_hands(t, 2, NULL);
	read_guest(t, RX0, buf, 5);
	assert_string_equal(buf, "abcde");
	give(t, RX0);
	hear(t, 0, OPEN, 0, "");
	write_guest(t, TX0, "fghij", 5);
	assert_true(vg_wait(&t->g, TX0, NULL, NULL));
	assert_int_equal(pread(keep, buf, 6, 0), 5);
	assert_string_equal(buf, "fghij");

	say(t, 1, OPEN, 1);
	assert_int_equal(write(master, "typed", 5), 5);
	read_guest(t, RX1, buf, 5);
	assert_string_equal(buf, "typed");
	write_guest(t, TX1, "shown", 5);
	read_host(master, buf, 5);
	assert_string_equal(buf, "shown");
	close(master);
	give(t, RX1);
	hear(t, 1, OPEN, 0, "");
	end(t);
	close(keep);
}

/* ---- hostile drivers ---- */

static void test_bad_control(void **state)
{
	struct t *t = *state;
	struct vg_buf b;
	uint64_t gpa;

	begin(t, (struct smolvm_vmm_console){ .n_ports = 2,
					      .ports = { { NULL, -1, -1 }, { "n", -1, -1 } } });
	say(t, 2, PORT_READY, 1);
	say(t, ~0u, PORT_READY, 1);
	say(t, ~0u, OPEN, 1);
	say(t, 0, 8, 1);
	say(t, 0, 0xffff, 1);
	say(t, 0, ADD, 1);
	say(t, 0, PORT_READY, 0);
	say(t, 0, READY, 0);
	for (uint32_t n = 1; n < 8; n++) {
		b = vg_out(&t->g, "\0\0\0\0\0\0\1", n);
		vg_request(&t->g, CTRL_OUT, &b, 1);
	}
	b = vg_in(&t->g, 8);
	vg_request(&t->g, CTRL_OUT, &b, 1);
	give(t, CTRL_IN);
	for (unsigned int i = 0; i < 1000; i++) {
		uint64_t brk = t->g.brk;

		assert_true(i == 0 || !vg_used(&t->g, CTRL_IN, NULL, NULL));
		say(t, 9, PORT_READY, 1);
		t->g.brk = brk;
	}
	assert_false(vg_used(&t->g, CTRL_IN, NULL, NULL));
	say(t, 0, READY, 1); /* the page given is used, */
	assert_true(vg_wait(&t->g, CTRL_IN, NULL, NULL));
	for (unsigned int i = 0; i < 50; i++)
		say(t, 0, READY, 1); /* and what waits is one of a kind: */
	hear(t, 0, ADD, 1, "");
	hear(t, 1, ADD, 1, "");
	say(t, 1, PORT_READY, 1);
	b = vg_in(&t->g, 3); /* a message is cut to what the buffer holds */
	vg_request(&t->g, CTRL_IN, &b, 1);
	gpa = give(t, CTRL_IN);
	assert_true(vg_wait(&t->g, CTRL_IN, NULL, NULL));
	assert_int_equal(((struct control *)vg_ptr(&t->g, gpa))->event, OPEN);
	assert_false(vg_needs_reset(&t->g));
	end(t);
}

static void test_odd_requests(void **state)
{
	struct t *t = *state;
	struct vg_buf bufs[70];
	char buf[4];
	int p[2];

	make_pair(p);
	begin(t, (struct smolvm_vmm_console){ .n_ports = 1, .ports = { { NULL, p[0], p[0] } } });
	shake_hands(t, 1, NULL);
	bufs[0] = vg_in(&t->g, 10);
	assert_int_equal(vg_request(&t->g, TX0, bufs, 1), 0); /* nothing to write */
	bufs[0] = (struct vg_buf){ VG_RAM_GPA, 0, false };
	assert_int_equal(vg_request(&t->g, TX0, bufs, 1), 0);
	assert_int_equal(write(p[1], "data", 4), 4);
	bufs[0] = vg_out(&t->g, "", 1);
	vg_add(&t->g, RX0, bufs, 1); /* no room for a byte */
	bufs[1] = vg_in(&t->g, 3);
	bufs[2] = vg_in(&t->g, 30);
	vg_add(&t->g, RX0, bufs, 3);
	vg_kick(&t->g, RX0);
	assert_true(vg_wait(&t->g, RX0, NULL, NULL));
	assert_true(vg_wait(&t->g, RX0, NULL, NULL));
	assert_memory_equal(vg_ptr(&t->g, bufs[1].gpa), "dat", 3);
	assert_memory_equal(vg_ptr(&t->g, bufs[2].gpa), "a", 1);
	write_guest(t, TX0, "okay", 4);
	read_host(p[1], buf, 4);
	for (unsigned int i = 0; i < 70; i++)
		bufs[i] = vg_in(&t->g, 1);
	vg_add_indirect(&t->g, RX0, bufs, 65);
	vg_kick(&t->g, RX0);
	assert_true(vg_wait_needs_reset(&t->g));
	vg_boot(&t->g, ~0ull, 0);
	shake_hands(t, 1, NULL);
	write_guest(t, TX0, "okay", 4);
	read_host(p[1], buf, 4);
	vg_avail_idx(&t->g, CTRL_OUT, 500);
	vg_kick(&t->g, CTRL_OUT);
	assert_true(vg_wait_needs_reset(&t->g));
	end(t);
	close(p[1]);
}

/* Reset with a request half written and buffers taken: they are touched no more. */
static void test_reset_held(void **state)
{
	struct t *t = *state;
	static uint8_t data[65536];
	int p[2];

	begin_socket(t, p);
	for (unsigned int i = 0; i < 20; i++) {
		t->g.brk = VG_RAM_GPA;
		vg_boot(&t->g, ~0ull, 0);
		shake_hands(t, 2, NULL);
		say(t, 1, OPEN, 1);
		for (unsigned int k = 0; k < 10; k++) {
			write_guest(t, TX1, data, sizeof(data));
			give(t, RX1);
		}
		virtio_mmio_reset(&t->g.mmio);
		assert_int_equal(write(p[1], "x", 1), 1);
		memset(vg_ptr(&t->g, VG_RAM_GPA), 0xee, 1u << 20);
	}
	end(t);
	close(p[1]);
}

static struct t the;

static int with_loop(void **state)
{
	the.loop = true;
	*state = &the;
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_handshake, with_loop),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test_setup(test_single_port, with_loop),
		cmocka_unit_test_setup(test_not_open, with_loop),
		cmocka_unit_test_setup(test_bulk, with_loop),
		cmocka_unit_test_setup(test_many_buffers, with_loop),
		cmocka_unit_test_setup(test_ended, with_loop),
		cmocka_unit_test_setup(test_slow_reader, with_loop),
		cmocka_unit_test_setup(test_reader_gone, with_loop),
		cmocka_unit_test_setup(test_full_disk, with_loop),
		cmocka_unit_test_setup(test_files_and_terminals, with_loop),
		cmocka_unit_test_setup(test_bad_control, with_loop),
		cmocka_unit_test_setup(test_odd_requests, with_loop),
		cmocka_unit_test_setup(test_reset_held, with_loop),
	};
	const struct sigaction ignore = { .sa_handler = SIG_IGN };

	sigaction(SIGPIPE, &ignore, NULL); /* the machine's threads have it blocked */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
