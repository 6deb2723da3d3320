/* SPDX-License-Identifier: Apache-2.0 */
/* The guest's sockets: both ends of them played here. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "virtio_guest.h"
#include "virtio/vsock_priv.h"

#define RX 0
#define TX 1
#define GUEST_CID 3u
#define NOBODY 77u /* a port that nobody listens on */
#define PIECE (64u << 10)

struct packet {
	struct vsock_hdr h;
	uint8_t data[PIECE];
};

/* The guest: @rx_bytes of each receive buffer; @keep: buffers are not given back. */
struct vt {
	struct vg g;
	uint32_t rx_bytes;
	bool keep;
	uint64_t tx_gpa;      /* of the packet that is sent */
	uint32_t accept_port; /* incoming() takes this one only; 0: any */
	uint32_t hold_port;   /* incoming() says @held, and waits for @go */
	sem_t held, go;
	int accepted[VSOCK_CONNECTIONS_MAX];
	unsigned int n_accepted;
	unsigned int fds; /* open before the test */
};

static struct packet got; /* by vt_recv() */

static unsigned int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned int n = 0;

	assert_non_null(d);
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static void make_pair(int fds[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds),
			 0);
	assert_int_equal(fcntl(fds[0], F_SETFL, 0), 0); /* ours waits */
}

static int incoming(void *ctx, uint32_t port)
{
	struct vt *t = ctx;
	int fds[2];

	if (t->hold_port && port == t->hold_port) {
		sem_post(&t->held);
		while (sem_wait(&t->go) < 0)
			;
	}
	if (t->accept_port && port != t->accept_port)
		return -ECONNREFUSED;
	make_pair(fds);
	t->accepted[t->n_accepted] = fds[0];
	__atomic_fetch_add(&t->n_accepted, 1, __ATOMIC_RELEASE);
	return fds[1];
}

/* A device, not booted. */
static void vt_init(struct vt *t)
{
	struct virtio_device *d;

	memset(t, 0, sizeof(*t));
	t->fds = open_fds();
	vg_init(&t->g, true);
	assert_int_equal(
		vsock_create(&d, &t->g.env, &(struct smolvm_vmm_vsock){ 0, incoming, t }, NULL), 0);
	vg_attach(&t->g, d);
}

static void vt_give(struct vt *t, uint64_t gpa, uint32_t bytes)
{
	struct vg_buf b = { gpa, bytes, true };
	uint16_t old = t->g.queues[RX].avail;

	vg_add(&t->g, RX, &b, 1);
	if (vg_wants_kick(&t->g, RX, old))
		vg_kick(&t->g, RX);
}

static void vt_boot(struct vt *t, unsigned int n_rx, uint32_t rx_bytes)
{
	vg_boot(&t->g, ~0ull, 0);
	t->rx_bytes = rx_bytes;
	t->tx_gpa = vg_alloc(&t->g, PIECE + sizeof(struct vsock_hdr), 16);
	for (unsigned int i = 0; i < n_rx; i++)
		vt_give(t, vg_alloc(&t->g, rx_bytes, 16), rx_bytes);
}

static void vt_fini(struct vt *t)
{
	vg_fini(&t->g);
	for (unsigned int i = 0; i < t->n_accepted; i++)
		if (t->accepted[i] >= 0)
			close(t->accepted[i]);
	assert_int_equal(open_fds(), t->fds);
}

/* A packet of the guest, as it should be; tests spoil it. */
static struct vsock_hdr header(uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	return (struct vsock_hdr){
		.src_cid = GUEST_CID,
		.dst_cid = VSOCK_CID_HOST,
		.src_port = guest_port,
		.dst_port = host_port,
		.type = VSOCK_TYPE_STREAM,
		.op = op,
		.buf_alloc = 1u << 20,
	};
}

/* Send @h with @bytes of payload (h->len says what it says), wait until it has been taken. */
static void vt_send(struct vt *t, const struct vsock_hdr *h, const void *data, uint32_t bytes)
{
	struct vg_buf b = { t->tx_gpa, (uint32_t)sizeof(*h) + bytes, false };

	memcpy(vg_ptr(&t->g, b.gpa), h, sizeof(*h));
	if (bytes)
		memcpy((uint8_t *)vg_ptr(&t->g, b.gpa) + sizeof(*h), data, bytes);
	vg_add(&t->g, TX, &b, 1);
	vg_kick(&t->g, TX);
	/* Taken at once, but the interrupt comes late. */
	for (unsigned int i = 0; i < 1000 && !vg_has_used(&(struct vg_wait_for){ &t->g, TX }); i++)
		sched_yield();
	assert_true(vg_wait(&t->g, TX, NULL, NULL));
}

static void vt_op(struct vt *t, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	struct vsock_hdr h = header(op, guest_port, host_port);

	vt_send(t, &h, NULL, 0);
}

static void vt_down(struct vt *t, uint32_t guest_port, uint32_t host_port, uint32_t flags)
{
	struct vsock_hdr h = header(VSOCK_OP_SHUTDOWN, guest_port, host_port);

	h.flags = flags;
	vt_send(t, &h, NULL, 0);
}

static void vt_data(struct vt *t, uint32_t guest_port, uint32_t host_port, const void *data,
		    uint32_t bytes)
{
	struct vsock_hdr h = header(VSOCK_OP_RW, guest_port, host_port);

	h.len = bytes;
	vt_send(t, &h, data, bytes);
}

static bool take_packet(struct vt *t)
{
	uint32_t written;
	uint16_t head;
	uint64_t gpa;

	if (!vg_used(&t->g, RX, &head, &written))
		return false;
	gpa = vg_desc_at(&t->g, RX, head)->addr;
	assert_in_range(written, sizeof(got.h), sizeof(got));
	memcpy(&got, vg_ptr(&t->g, gpa), written);
	assert_int_equal(got.h.src_cid, VSOCK_CID_HOST);
	assert_int_equal(got.h.dst_cid, GUEST_CID);
	assert_int_equal(got.h.len, written - sizeof(got.h));
	if (!t->keep)
		vt_give(t, gpa, t->rx_bytes);
	return true;
}

/* The next packet for the guest, into @got. */
static void vt_recv(struct vt *t)
{
	assert_true(vg_until(&t->g, vg_has_used, &(struct vg_wait_for){ &t->g, RX }));
	assert_true(take_packet(t));
}

static void vt_expect(struct vt *t, uint16_t op, uint32_t guest_port, uint32_t host_port)
{
	vt_recv(t);
	assert_int_equal(got.h.op, op);
	assert_int_equal(got.h.dst_port, guest_port);
	assert_int_equal(got.h.src_port, host_port);
}

/*
 * What was sent before has been dealt with, without a packet in return. Twice: a refusal comes
 * before what connections have to say, but not before the refusal of an earlier round.
 */
static void vt_quiet(struct vt *t)
{
	for (unsigned int i = 0; i < 2; i++) {
		vt_op(t, VSOCK_OP_CREDIT_UPDATE, NOBODY, NOBODY);
		vt_expect(t, VSOCK_OP_RST, NOBODY, NOBODY);
	}
}

/* A connection of the host to @port. Return: our end; *@ret_port: the host's port. */
static int host_connects(struct vt *t, uint32_t port, const char *greeting, uint32_t *ret_port)
{
	int fds[2];

	make_pair(fds);
	assert_int_equal(vsock_connect(t->g.device, port, fds[1], greeting, NULL), 0);
	vt_recv(t);
	assert_int_equal(got.h.op, VSOCK_OP_REQUEST);
	assert_int_equal(got.h.dst_port, port);
	assert_int_equal(got.h.type, VSOCK_TYPE_STREAM);
	assert_int_equal(got.h.fwd_cnt, 0);
	*ret_port = got.h.src_port;
	return fds[0];
}

static int connected(struct vt *t, uint32_t port, uint32_t *ret_port, uint32_t buf_alloc)
{
	int fd = host_connects(t, port, NULL, ret_port);
	struct vsock_hdr h = header(VSOCK_OP_RESPONSE, port, *ret_port);

	h.buf_alloc = buf_alloc;
	vt_send(t, &h, NULL, 0);
	return fd;
}

static void must_read(int fd, const char *text)
{
	char buf[256] = "";
	size_t len = strlen(text), n = 0;

	while (n < len) {
		ssize_t rc = read(fd, buf + n, len - n);

		assert_true(rc > 0);
		n += (size_t)rc;
	}
	assert_string_equal(buf, text);
}

static void must_end(int fd)
{
	char c;

	assert_int_equal(read(fd, &c, 1), 0);
	close(fd);
}

static uint8_t pattern(uint64_t at)
{
	return (uint8_t)(at * 131 + (at >> 8) * 7 + (at >> 16));
}

/* ---- in order ---- */

static void test_config(void **state)
{
	struct virtio_device *d;
	uint8_t config[12];
	struct vt t;

	(void)state;
	vt_init(&t);
	vg_config(&t.g, 0, config, sizeof(config));
	assert_memory_equal(config, "\3\0\0\0\0\0\0\0\0\0\0\0", sizeof(config));
	assert_int_equal(vg_read(&t.g, VG_DEVICE_ID), 19);
	for (uint32_t cid = 1; cid < 3; cid++)
		assert_int_equal(
			vsock_create(&d, &t.g.env, &(struct smolvm_vmm_vsock){ cid, 0, 0 }, NULL),
			-EINVAL);
	vt_fini(&t);
}

static void test_host_connects(void **state)
{
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fd = host_connects(&t, 1000, "OK 1000\n", &port);
	vt_op(&t, VSOCK_OP_RESPONSE, 1000, port);
	must_read(fd, "OK 1000\n");
	assert_int_equal(write(fd, "hello", 5), 5);
	vt_expect(&t, VSOCK_OP_RW, 1000, port);
	assert_int_equal(got.h.len, 5);
	assert_memory_equal(got.data, "hello", 5);
	assert_int_equal(got.h.fwd_cnt, 0);
	assert_int_equal(got.h.buf_alloc, VSOCK_BUFFER_BYTES);
	vt_data(&t, 1000, port, "goodbye", 7);
	must_read(fd, "goodbye");
	vt_op(&t, VSOCK_OP_CREDIT_REQUEST, 1000, port);
	vt_expect(&t, VSOCK_OP_CREDIT_UPDATE, 1000, port);
	assert_int_equal(got.h.fwd_cnt, 7);
	vt_down(&t, 1000, port, VSOCK_DOWN_BOTH);
	vt_expect(&t, VSOCK_OP_RST, 1000, port);
	must_end(fd);
	assert_int_equal(t.g.counters.vsock_bytes, 12);
	vt_fini(&t);
}

static void test_refused(void **state)
{
	char greeting[VSOCK_GREETING_MAX + 2];
	uint32_t port;
	struct vt t;
	int fds[2];

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fds[0] = host_connects(&t, 1000, "OK\n", &port);
	vt_op(&t, VSOCK_OP_RST, 1000, port);
	must_end(fds[0]);
	vt_quiet(&t);
	memset(greeting, 'x', sizeof(greeting) - 1);
	greeting[sizeof(greeting) - 1] = 0;
	make_pair(fds);
	assert_int_equal(vsock_connect(t.g.device, 1, fds[1], greeting, NULL), -EINVAL);
	must_end(fds[0]);
	vt_fini(&t);
}

static void test_before_the_driver(void **state)
{
	int fds[3][2];
	struct vt t;

	(void)state;
	vt_init(&t);
	for (unsigned int i = 0; i < 3; i++) {
		make_pair(fds[i]);
		assert_int_equal(vsock_connect(t.g.device, 10 + i, fds[i][1], NULL, NULL), 0);
	}
	vt_boot(&t, 2, 4096);
	for (unsigned int i = 0; i < 3; i++) {
		vt_recv(&t);
		assert_int_equal(got.h.op, VSOCK_OP_REQUEST);
		assert_int_equal(got.h.dst_port, 10 + i);
		vt_op(&t, VSOCK_OP_RST, 10 + i, got.h.src_port);
		must_end(fds[i][0]);
	}
	vt_fini(&t);
}

static struct vsock_conn *only_connection(struct vt *t)
{
	struct vsock *v = (struct vsock *)t->g.device;

	return link_entry(v->all.next, struct vsock_conn, all);
}

static void test_no_answer(void **state)
{
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 4, 4096);
	fd = host_connects(&t, 9, "no", &port);
	pthread_mutex_lock(&t.g.device->lock);
	only_connection(&t)->deadline_ms = 1; /* the ten seconds are over */
	pthread_mutex_unlock(&t.g.device->lock);
	must_end(fd);
	vt_expect(&t, VSOCK_OP_RST, 9, port);
	vt_quiet(&t);
	vt_fini(&t);
}

static void test_guest_connects(void **state)
{
	struct vt t;

	(void)state;
	vt_init(&t);
	t.accept_port = 5;
	vt_boot(&t, 16, 4096);
	vt_op(&t, VSOCK_OP_REQUEST, 2000, 5);
	vt_expect(&t, VSOCK_OP_RESPONSE, 2000, 5);
	vt_op(&t, VSOCK_OP_REQUEST, 2001, 6);
	vt_expect(&t, VSOCK_OP_RST, 2001, 6);
	vt_data(&t, 2000, 5, "abc", 3);
	must_read(t.accepted[0], "abc");
	assert_int_equal(write(t.accepted[0], "def", 3), 3);
	vt_expect(&t, VSOCK_OP_RW, 2000, 5);
	assert_memory_equal(got.data, "def", 3);
	/* The same ports once more: neither can be the one that was meant. */
	vt_op(&t, VSOCK_OP_REQUEST, 2000, 5);
	vt_expect(&t, VSOCK_OP_RST, 2000, 5);
	must_end(t.accepted[0]);
	t.accepted[0] = -1;
	vt_fini(&t);
}

static void test_half_close(void **state)
{
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	/* The host ends first, the guest goes on. */
	fd = connected(&t, 1, &port, 1 << 20);
	assert_int_equal(write(fd, "last", 4), 4);
	shutdown(fd, SHUT_WR);
	vt_expect(&t, VSOCK_OP_RW, 1, port);
	vt_expect(&t, VSOCK_OP_SHUTDOWN, 1, port);
	assert_int_equal(got.h.flags, VSOCK_DOWN_SEND);
	vt_data(&t, 1, port, "reply", 5);
	must_read(fd, "reply");
	vt_down(&t, 1, port, VSOCK_DOWN_SEND);
	must_end(fd);
	vt_expect(&t, VSOCK_OP_SHUTDOWN, 1, port);
	assert_int_equal(got.h.flags, VSOCK_DOWN_BOTH);
	vt_op(&t, VSOCK_OP_RST, 1, port);
	vt_quiet(&t);

	/* The guest ends first, the host goes on. */
	fd = connected(&t, 2, &port, 1 << 20);
	vt_data(&t, 2, port, "ask", 3);
	vt_down(&t, 2, port, VSOCK_DOWN_SEND);
	must_read(fd, "ask");
	assert_int_equal(read(fd, &(char){ 0 }, 1), 0);
	assert_int_equal(write(fd, "answer", 6), 6);
	vt_expect(&t, VSOCK_OP_RW, 2, port);
	assert_memory_equal(got.data, "answer", 6);
	close(fd);
	vt_expect(&t, VSOCK_OP_SHUTDOWN, 2, port);
	assert_int_equal(got.h.flags, VSOCK_DOWN_BOTH);
	vt_down(&t, 2, port, VSOCK_DOWN_BOTH);
	vt_expect(&t, VSOCK_OP_RST, 2, port);
	vt_quiet(&t);

	/* The guest reads no more: the host is told by its writes. */
	fd = connected(&t, 3, &port, 1 << 20);
	vt_down(&t, 3, port, VSOCK_DOWN_RCV);
	assert_int_equal(send(fd, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	vt_data(&t, 3, port, "still", 5);
	must_read(fd, "still");
	vt_down(&t, 3, port, VSOCK_DOWN_SEND);
	vt_expect(&t, VSOCK_OP_RST, 3, port);
	must_end(fd);
	vt_fini(&t);
}

/* The host's end is gone: what it left behind arrives, what the guest sends is dropped. */
static void test_host_gone(void **state)
{
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fd = connected(&t, 1, &port, 4);
	assert_int_equal(write(fd, "12345678", 8), 8);
	close(fd);
	vt_expect(&t, VSOCK_OP_RW, 1, port);
	assert_int_equal(got.h.len, 4);
	vt_expect(&t, VSOCK_OP_CREDIT_REQUEST, 1, port);
	vt_data(&t, 1, port, "nobody", 6); /* buf_alloc says 1 MiB now */
	vt_expect(&t, VSOCK_OP_RW, 1, port);
	assert_memory_equal(got.data, "5678", 4);
	vt_expect(&t, VSOCK_OP_SHUTDOWN, 1, port);
	if (got.h.flags != VSOCK_DOWN_BOTH) { /* one after the other is fine as well */
		vt_expect(&t, VSOCK_OP_SHUTDOWN, 1, port);
		assert_int_equal(got.h.flags, VSOCK_DOWN_BOTH);
	}
	vt_down(&t, 1, port, VSOCK_DOWN_BOTH);
	vt_expect(&t, VSOCK_OP_RST, 1, port);
	vt_quiet(&t);
	vt_fini(&t);
}

/* The guest closes with data unread: the host's end sees an end, not an error. */
static void test_unread(void **state)
{
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fd = connected(&t, 1, &port, 0);
	assert_int_equal(write(fd, "unread", 6), 6);
	vt_expect(&t, VSOCK_OP_CREDIT_REQUEST, 1, port);
	vt_data(&t, 1, port, "bye", 3);
	vt_down(&t, 1, port, VSOCK_DOWN_BOTH);
	must_read(fd, "bye");
	must_end(fd);
	vt_fini(&t);
}

/* ---- credit ---- */

static void test_credit_of_the_guest(void **state)
{
	struct vsock_hdr h;
	uint32_t port, sum;
	uint8_t data[1000];
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fd = connected(&t, 1, &port, 100);
	for (unsigned int i = 0; i < sizeof(data); i++)
		data[i] = pattern(i);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	h = header(VSOCK_OP_CREDIT_UPDATE, 1, port);
	h.buf_alloc = 100;
	for (sum = 0; sum < sizeof(data);) {
		vt_expect(&t, VSOCK_OP_RW, 1, port);
		assert_true(got.h.len <= 100);
		assert_memory_equal(got.data, data + sum, got.h.len);
		sum += got.h.len;
		if (sum == sizeof(data))
			break;
		if (sum % 100)
			continue;
		vt_expect(&t, VSOCK_OP_CREDIT_REQUEST, 1, port);
		vt_send(&t, &h, NULL, 0); /* nothing consumed yet */
		vt_quiet(&t);
		h.fwd_cnt = sum;
		vt_send(&t, &h, NULL, 0);
	}
	close(fd);
	vt_fini(&t);
}

static void test_credit_lies(void **state)
{
	static const struct {
		uint32_t buf_alloc, fwd_cnt;
	} lies[] = { { 10, 0 }, { 10, 5 }, { 10, 4 },  { 10, 0xfffffff0 },
		     { 0, 8 },  { 3, 10 }, { 1, 200 }, { 0xffffffff, 0x80000000 } };
	uint32_t port, sum = 0;
	struct vsock_hdr h;
	uint8_t data[500] = { 0 };
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 64, 4096);
	fd = connected(&t, 1, &port, 10);
	assert_int_equal(write(fd, data, sizeof(data)), sizeof(data));
	h = header(VSOCK_OP_CREDIT_UPDATE, 1, port);
	for (unsigned int i = 0; i < 2 * sizeof(lies) / sizeof(lies[0]); i++) {
		h.buf_alloc = lies[i % 8].buf_alloc;
		h.fwd_cnt = lies[i % 8].fwd_cnt;
		vt_send(&t, &h, NULL, 0);
	}
	/* It got what it asked for, and can still have all of it. */
	h.buf_alloc = 4000;
	h.fwd_cnt = 0;
	vt_send(&t, &h, NULL, 0);
	while (sum < sizeof(data)) {
		vt_recv(&t);
		assert_true(got.h.op == VSOCK_OP_RW || got.h.op == VSOCK_OP_CREDIT_REQUEST);
		sum += got.h.len;
	}
	assert_int_equal(sum, sizeof(data));
	close(fd);
	vt_fini(&t);
}

/* Everything that there is to say has been said. Return: the last fwd_cnt, @fwd without any. */
static uint32_t settled(struct vt *t, uint32_t fwd)
{
	for (unsigned int i = 0; i < 2; i++) {
		vt_op(t, VSOCK_OP_CREDIT_UPDATE, NOBODY, NOBODY);
		for (vt_recv(t); got.h.dst_port != NOBODY; vt_recv(t)) {
			assert_int_equal(got.h.op, VSOCK_OP_CREDIT_UPDATE);
			fwd = got.h.fwd_cnt;
		}
	}
	return fwd;
}

/*
 * Send as much as the credit allows to a host that does not read. *@sent: what was sent before and
 * is sent after.
 */
static void fill_up(struct vt *t, uint32_t gport, uint32_t hport, uint32_t *sent)
{
	static uint8_t data[PIECE];

	for (;;) {
		uint32_t room;

		vt_op(t, VSOCK_OP_CREDIT_REQUEST, gport, hport);
		room = VSOCK_BUFFER_BYTES - (*sent - settled(t, 0));
		if (!room)
			return;
		room = room < PIECE ? room : PIECE;
		for (uint32_t i = 0; i < room; i++)
			data[i] = pattern(*sent + i);
		vt_data(t, gport, hport, data, room);
		*sent += room;
	}
}

static void must_read_pattern(int fd, uint64_t bytes)
{
	static uint8_t data[PIECE];
	uint64_t at = 0;

	while (at < bytes) {
		ssize_t n = read(fd, data, sizeof(data));

		assert_true(n > 0);
		for (ssize_t i = 0; i < n; i++)
			assert_int_equal(data[i], pattern(at + (uint64_t)i));
		at += (uint64_t)n;
	}
	assert_int_equal(at, bytes);
}

static void test_credit_of_the_host(void **state)
{
	uint32_t port, sent = 0;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	fd = connected(&t, 1, &port, 1 << 20);
	fill_up(&t, 1, port, &sent);
	assert_true(sent >= VSOCK_BUFFER_BYTES);
	must_read_pattern(fd, sent);
	/* Now there is room again, and the guest is told without asking. */
	do
		vt_expect(&t, VSOCK_OP_CREDIT_UPDATE, 1, port);
	while (sent - got.h.fwd_cnt > VSOCK_BUFFER_BYTES / 2);
	fill_up(&t, 1, port, &sent);
	vt_data(&t, 1, port, "!", 1); /* one byte more than allowed */
	vt_expect(&t, VSOCK_OP_RST, 1, port);
	close(fd);
	vt_quiet(&t);
	vt_fini(&t);
}

/* The guest closes in order, and its system gives up waiting; the host reads late. */
static void test_slow_host(void **state)
{
	uint32_t port, sent;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	for (int patient = 0; patient < 2; patient++) {
		fd = connected(&t, 1, &port, 1 << 20);
		sent = 0;
		fill_up(&t, 1, port, &sent);
		vt_down(&t, 1, port, VSOCK_DOWN_BOTH);
		vt_quiet(&t);
		if (!patient) {
			vt_op(&t, VSOCK_OP_RST, 1, port);
			vt_op(&t, VSOCK_OP_RW, 1, port); /* it is gone */
			vt_expect(&t, VSOCK_OP_RST, 1, port);
		}
		must_read_pattern(fd, sent);
		must_end(fd);
		if (patient)
			vt_expect(&t, VSOCK_OP_RST, 1, port);
	}
	vt_quiet(&t);
	vt_fini(&t);
}

struct feed {
	int fd;
	uint64_t bytes;
};

static void *feed(void *arg)
{
	static const size_t sizes[] = { 1, 70000, 13, 4096, 300, 65536, 7 };
	static uint8_t data[70000];
	struct feed *f = arg;
	uint64_t at = 0;

	for (unsigned int i = 0; at < f->bytes; i++) {
		size_t len = sizes[i % 7] < f->bytes - at ? sizes[i % 7] : f->bytes - at;
		size_t done = 0;

		for (size_t k = 0; k < len; k++)
			data[k] = pattern(at + k);
		while (done < len) {
			ssize_t n = write(f->fd, data + done, len - done);

			if (n <= 0)
				return NULL;
			done += (size_t)n;
		}
		at += len;
	}
	shutdown(f->fd, SHUT_WR);
	return NULL;
}

/* Small buffers, few of them, little credit: everything arrives all the same, in order. */
static void test_slow_guest(void **state)
{
	static const struct {
		unsigned int buffers;
		uint32_t bytes, credit;
	} runs[] = {
		{ 3, 300, 1000 }, { 1, 45, 10 }, { 128, 3776, 262144 }, { 20, 70000, 1 << 30 }
	};
	struct vt t;

	(void)state;
	for (unsigned int r = 0; r < 4; r++) {
		struct feed f = { .bytes = r == 1 ? 3000 : 1 << 20 };
		uint64_t at = 0;
		struct vsock_hdr h;
		pthread_t thread;
		uint32_t port;

		vt_init(&t);
		vt_boot(&t, runs[r].buffers, runs[r].bytes);
		f.fd = connected(&t, 1, &port, runs[r].credit);
		pthread_create(&thread, NULL, feed, &f);
		h = header(VSOCK_OP_CREDIT_UPDATE, 1, port);
		h.buf_alloc = runs[r].credit;
		for (;;) {
			vt_recv(&t);
			if (got.h.op == VSOCK_OP_SHUTDOWN)
				break;
			for (uint32_t i = 0; i < got.h.len; i++)
				assert_int_equal(got.data[i], pattern(at + i));
			at += got.h.len;
			assert_true(at - h.fwd_cnt <= runs[r].credit);
			if (got.h.op == VSOCK_OP_CREDIT_REQUEST ||
			    at - h.fwd_cnt >= runs[r].credit / 2) {
				h.fwd_cnt = (uint32_t)at;
				vt_send(&t, &h, NULL, 0);
			}
		}
		assert_int_equal(at, f.bytes);
		pthread_join(thread, NULL);
		close(f.fd);
		vt_fini(&t);
	}
}

/* ---- many ---- */

#define MANY 300

static void test_many(void **state)
{
	static int fds[MANY];
	static uint32_t ports[MANY];
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 64, 4096);
	for (unsigned int i = 0; i < MANY; i++)
		fds[i] = connected(&t, 1000 + i % 7, &ports[i], 1 << 20);
	for (unsigned int i = 0; i < MANY; i++) {
		char text[32];

		snprintf(text, sizeof(text), "to %u\n", i);
		vt_data(&t, 1000 + i % 7, ports[i], text, (uint32_t)strlen(text));
		must_read(fds[i], text);
		assert_int_equal(write(fds[i], text, strlen(text)), strlen(text));
		vt_expect(&t, VSOCK_OP_RW, 1000 + i % 7, ports[i]);
		assert_memory_equal(got.data, text, strlen(text));
	}
	for (unsigned int i = 0; i < MANY; i++) {
		vt_down(&t, 1000 + i % 7, ports[i], VSOCK_DOWN_BOTH);
		vt_expect(&t, VSOCK_OP_RST, 1000 + i % 7, ports[i]);
		must_end(fds[i]);
	}
	vt_quiet(&t);
	vt_fini(&t);
}

/* Connections that wait for buffers take turns. */
static void test_turns(void **state)
{
	static uint8_t data[100000];
	unsigned int seen[3] = { 0 }, packets = 0;
	uint32_t ports[3];
	struct vt t;
	int fds[3];

	(void)state;
	vt_init(&t);
	vt_boot(&t, 4, 1024);
	for (unsigned int i = 0; i < 3; i++) {
		fds[i] = connected(&t, i, &ports[i], 1 << 20);
		fcntl(fds[i], F_SETFL, O_NONBLOCK);
	}
	t.keep = true; /* nothing is read until all of them wait */
	for (unsigned int i = 0; i < 3; i++)
		assert_true(write(fds[i], data, sizeof(data)) > 90000);
	t.keep = false;
	for (; packets < 60; packets++) {
		vt_recv(&t);
		assert_int_equal(got.h.op, VSOCK_OP_RW);
		seen[got.h.dst_port]++;
	}
	for (unsigned int i = 0; i < 3; i++) {
		assert_true(seen[i] >= 5);
		close(fds[i]);
	}
	vt_fini(&t);
}

static void test_limits(void **state)
{
	unsigned int yes = 0, no = 0;
	int fds[2] = { -1, -1 };
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 128, 4096);
	for (unsigned int i = 0; i < VSOCK_CONNECTIONS_MAX + 100; i++) {
		vt_op(&t, VSOCK_OP_REQUEST, 5000 + i, 1);
		vt_recv(&t);
		assert_int_equal(got.h.dst_port, 5000 + i);
		if (got.h.op == VSOCK_OP_RESPONSE)
			yes++;
		else
			no++;
	}
	assert_int_equal(yes, VSOCK_INCOMING_MAX);
	assert_int_equal(no, VSOCK_CONNECTIONS_MAX + 100 - VSOCK_INCOMING_MAX);
	/* The rest is the host's. */
	for (unsigned int i = 0; i <= VSOCK_CONNECTIONS_MAX - VSOCK_INCOMING_MAX; i++) {
		int rc;

		make_pair(fds);
		rc = vsock_connect(t.g.device, 1, fds[1], NULL, NULL);
		if (i < VSOCK_CONNECTIONS_MAX - VSOCK_INCOMING_MAX) {
			assert_int_equal(rc, 0);
			close(fds[0]);
		} else {
			assert_int_equal(rc, -ENOMEM);
			must_end(fds[0]);
		}
	}
	vt_fini(&t);
}

/* ---- hostile ---- */

static void test_headers(void **state)
{
	static const struct {
		uint64_t src_cid, dst_cid;
		uint16_t type, op;
		uint32_t len, bytes;
		bool refused;
	} bad[] = {
		{ 4, 2, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 1ull << 32 | 3, 2, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 2, 3, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 3, 3, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 3, 1, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 3, ~0ull, 1, VSOCK_OP_REQUEST, 0, 0, false },
		{ 3, 2, 1, VSOCK_OP_RST, 0, 0, false },
		{ 3, 2, 2, VSOCK_OP_RST, 0, 0, false },
		{ 3, 2, 0, VSOCK_OP_REQUEST, 0, 0, true },
		{ 3, 2, 2, VSOCK_OP_REQUEST, 0, 0, true },
		{ 3, 2, 0xffff, VSOCK_OP_RW, 1, 1, true },
		{ 3, 2, 1, VSOCK_OP_RESPONSE, 0, 0, true },
		{ 3, 2, 1, VSOCK_OP_SHUTDOWN, 0, 0, true },
		{ 3, 2, 1, VSOCK_OP_RW, 5, 5, true },
		{ 3, 2, 1, VSOCK_OP_RW, ~0u, 5, true },
		{ 3, 2, 1, VSOCK_OP_CREDIT_UPDATE, 0, 0, true },
		{ 3, 2, 1, VSOCK_OP_CREDIT_REQUEST, 0, 0, true },
		{ 3, 2, 1, 0, 0, 0, true },
		{ 3, 2, 1, 8, 0, 0, true },
		{ 3, 2, 1, 0xffff, 0, 0, true },
	};
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vsock_hdr h = header(bad[i].op, 100 + i, 200 + i);

		h.src_cid = bad[i].src_cid;
		h.dst_cid = bad[i].dst_cid;
		h.type = bad[i].type;
		h.len = bad[i].len;
		vt_send(&t, &h, "payload", bad[i].bytes);
		if (bad[i].refused) {
			vt_expect(&t, VSOCK_OP_RST, 100 + i, 200 + i);
			assert_int_equal(got.h.type, bad[i].type);
		}
		vt_quiet(&t);
	}
	assert_int_equal(t.n_accepted, 0);
	vt_fini(&t);
}

/* On a connection: what breaks its rules ends it, and nothing else. */
static void test_abuse(void **state)
{
	static const struct {
		uint16_t op;
		uint32_t len, bytes, down;
	} bad[] = {
		{ VSOCK_OP_REQUEST, 0, 0, 0 },
		{ VSOCK_OP_RESPONSE, 0, 0, 0 },
		{ 0, 0, 0, 0 },
		{ 8, 0, 0, 0 },
		{ 0x8005, 4, 4, 0 },
		{ VSOCK_OP_RW, 8, 7, 0 },
		{ VSOCK_OP_RW, ~0u, 7, 0 },
		{ VSOCK_OP_RW, PIECE + 1, 7, 0 },
		{ VSOCK_OP_SHUTDOWN, 4, 4, 0 },
		{ VSOCK_OP_CREDIT_UPDATE, 1, 1, 0 },
		{ VSOCK_OP_RW, 1, 1, VSOCK_DOWN_SEND },
	};
	uint32_t port, other_port;
	int fd, other;
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 16, 4096);
	other = connected(&t, 2, &other_port, 1 << 20);
	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct vsock_hdr h;

		fd = connected(&t, 1, &port, 1 << 20);
		if (bad[i].down)
			vt_down(&t, 1, port, bad[i].down);
		h = header(bad[i].op, 1, port);
		h.len = bad[i].len;
		vt_send(&t, &h, "payload", bad[i].bytes);
		vt_expect(&t, VSOCK_OP_RST, 1, port);
		must_end(fd);
	}
	/* Before it has been accepted. */
	fd = host_connects(&t, 1, "never", &port);
	vt_data(&t, 1, port, "early", 5);
	vt_expect(&t, VSOCK_OP_RST, 1, port);
	must_end(fd);
	vt_data(&t, 2, other_port, "fine", 4);
	must_read(other, "fine");
	close(other);
	vt_fini(&t);
}

/* Requests that are cut in odd ways. */
static void test_pieces(void **state)
{
	struct vg_buf b[sizeof(struct vsock_hdr) + 5];
	struct vsock_hdr h;
	uint32_t port;
	struct vt t;
	int fd;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 0, 4096);
	/* Receive buffers of one byte each. */
	for (unsigned int k = 0; k < 2; k++) {
		b[0] = vg_in(&t.g, sizeof(h) + 5);
		for (unsigned int i = 0; i < sizeof(h) + 5; i++)
			b[i] = (struct vg_buf){ b[0].gpa + i, 1, true };
		vg_add(&t.g, RX, b, sizeof(h) + 5);
	}
	vg_kick(&t.g, RX);
	t.keep = true;
	fd = host_connects(&t, 1, NULL, &port);
	h = header(VSOCK_OP_RESPONSE, 1, port);
	for (unsigned int i = 0; i < sizeof(h); i++)
		b[i] = vg_out(&t.g, (uint8_t *)&h + i, 1);
	vg_request(&t.g, TX, b, sizeof(h));
	h = header(VSOCK_OP_RW, 1, port);
	h.len = 5;
	for (unsigned int i = 0; i < sizeof(h); i++)
		memcpy(vg_ptr(&t.g, b[i].gpa), (uint8_t *)&h + i, 1);
	for (unsigned int i = 0; i < 5; i++)
		b[sizeof(h) + i] = vg_out(&t.g, &"piece"[i], 1);
	vg_request(&t.g, TX, b, sizeof(h) + 5);
	must_read(fd, "piece");
	vg_add_indirect(&t.g, TX, b, sizeof(h) + 5);
	vg_kick(&t.g, TX);
	assert_true(vg_wait(&t.g, TX, NULL, NULL));
	must_read(fd, "piece");
	assert_int_equal(write(fd, "12345", 5), 5);
	vt_expect(&t, VSOCK_OP_RW, 1, port);
	assert_int_equal(got.h.len, 5);
	/* Too short for a header, or nothing at all: dropped. */
	vg_request(&t.g, TX, b, sizeof(h) - 1);
	vg_request(&t.g, TX, &(struct vg_buf){ VG_RAM_GPA, 0, false }, 1);
	assert_false(vg_needs_reset(&t.g));
	close(fd);
	vt_fini(&t);
}

static void test_broken_queues(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		struct vg_buf b[2];
		uint32_t port;
		struct vt t;
		int fd;

		vt_init(&t);
		vt_boot(&t, i == 0 || i == 4 ? 16 : 1, 4096);
		t.keep = true;
		fd = connected(&t, 1, &port, 1 << 20);
		switch (i) {
		case 0: /* a packet without end */
			b[0] = (struct vg_buf){ VG_RAM_GPA, 1 << 20, false };
			vg_add(&t.g, TX, b, 1);
			vg_kick(&t.g, TX);
			break;
		case 1: /* no room for a header */
			b[0] = vg_in(&t.g, sizeof(struct vsock_hdr));
			vg_add(&t.g, RX, b, 1);
			break;
		case 2: /* no place to write to */
			b[0] = (struct vg_buf){ 4096, 4096, true };
			vg_add(&t.g, RX, b, 1);
			break;
		case 3: /* something to read among it */
			b[0] = vg_out(&t.g, "?", 1);
			b[1] = vg_in(&t.g, 4096);
			vg_add(&t.g, RX, b, 2);
			break;
		case 4: /* an index from nowhere */
			vg_avail_idx(&t.g, TX, 20000);
			vg_kick(&t.g, TX);
			break;
		}
		send(fd, "x", 1, MSG_NOSIGNAL);
		vg_kick(&t.g, RX);
		assert_true(vg_wait_needs_reset(&t.g));
		/* The host is not left waiting. */
		assert_true(read(fd, &(char){ 0 }, 1) <= 0);
		close(fd);
		/* And it works again after a reset. */
		t.keep = false;
		vt_boot(&t, 16, 4096);
		fd = connected(&t, 1, &port, 1 << 20);
		vt_data(&t, 1, port, "again", 5);
		must_read(fd, "again");
		close(fd);
		vt_fini(&t);
	}
}

#define FLOOD 100000u

/* As many requests as there is room for, again and again. Return: how many have been taken. */
static unsigned int flood(struct vt *t, unsigned int count, uint16_t op)
{
	unsigned int sent = 0, done = 0;
	struct vsock_hdr h = header(op, 1, 1);
	struct vg_buf b = vg_out(&t->g, &h, sizeof(h));

	while (done < count) {
		for (; sent < count && t->g.queues[TX].n_free; sent++)
			vg_add(&t->g, TX, &b, 1);
		vg_kick(&t->g, TX);
		if (!vg_used(&t->g, TX, NULL, NULL)) {
			while (take_packet(t))
				assert_int_equal(got.h.op, VSOCK_OP_RST);
			continue;
		}
		do
			done++;
		while (vg_used(&t->g, TX, NULL, NULL));
	}
	return done;
}

static void test_flood(void **state)
{
	struct vt t;

	(void)state;
	vt_init(&t);
	t.accept_port = 99;
	vt_boot(&t, 100, 64);
	assert_int_equal(flood(&t, FLOOD, VSOCK_OP_REQUEST), FLOOD);
	vt_fini(&t);
}

/* A guest that wants answers and gives no buffers for them: nothing more is taken from it. */
static void test_no_buffers(void **state)
{
	struct vsock_hdr h = header(VSOCK_OP_RW, 1, 1);
	unsigned int taken = 0, answers = 0;
	struct vg_buf b;
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 0, 4096);
	b = vg_out(&t.g, &h, sizeof(h));
	for (unsigned int i = 0; i < 128; i++)
		vg_add(&t.g, TX, &b, 1);
	vg_kick(&t.g, TX);
	while (taken < VSOCK_RESETS_MAX) {
		assert_true(vg_wait(&t.g, TX, NULL, NULL));
		taken++;
	}
	for (unsigned int i = 0; i < 1000; i++)
		vg_kick(&t.g, TX);
	assert_false(vg_used(&t.g, TX, NULL, NULL));
	for (unsigned int i = 0; i < 10; i++)
		vt_give(&t, vg_alloc(&t.g, 4096, 16), t.rx_bytes = 4096);
	while (answers < 128) {
		vt_expect(&t, VSOCK_OP_RST, 1, 1);
		answers++;
	}
	while (taken < 128) {
		assert_true(vg_wait(&t.g, TX, NULL, NULL));
		taken++;
	}
	vt_fini(&t);
}

static bool interrupted(void *ctx)
{
	return vg_irqs(ctx) > 0;
}

/* That a packet was taken is told late, but it is told, without anything else happening. */
static void test_late_interrupt(void **state)
{
	struct vsock_hdr h = header(VSOCK_OP_RST, NOBODY, NOBODY);
	struct vg_buf b;
	struct vt t;

	(void)state;
	vt_init(&t);
	vt_boot(&t, 4, 4096);
	b = vg_out(&t.g, &h, sizeof(h));
	vg_add(&t.g, TX, &b, 1);
	assert_false(interrupted(&t.g));
	vg_kick(&t.g, TX);
	assert_true(vg_until(&t.g, interrupted, &t.g));
	assert_true(vg_used(&t.g, TX, NULL, NULL));
	vt_fini(&t);
}

/* ---- resets ---- */

static void test_reset(void **state)
{
	uint32_t port;
	struct vt t;
	int fds[20];

	(void)state;
	vt_init(&t);
	for (unsigned int round = 0; round < 5; round++) {
		t.g.brk = VG_RAM_GPA;
		vt_boot(&t, 16, 4096);
		for (unsigned int i = 0; i < 20; i++) {
			fds[i] = connected(&t, i, &port, 10);
			assert_int_equal(write(fds[i], "much more than ten", 18), 18);
			vt_expect(&t, VSOCK_OP_RW, i, port);
			vt_expect(&t, VSOCK_OP_CREDIT_REQUEST, i, port);
		}
		vt_data(&t, 0, port - 19, "on its way", 10);
		vt_down(&t, 1, port - 18, VSOCK_DOWN_BOTH);
		vg_write(&t.g, VG_STATUS, 0);
		for (unsigned int i = 0; i < 20; i++) {
			static char sink[PIECE];
			ssize_t n;

			do
				n = read(fds[i], sink, sizeof(sink));
			while (n > 0);
			close(fds[i]);
		}
	}
	vt_fini(&t);
}

/* While the owner is asked about one connection: another one does not reach the next driver. */
static void test_reset_while_asking(void **state)
{
	struct vt t;

	(void)state;
	vt_init(&t);
	t.accept_port = 5;
	t.hold_port = 6;
	sem_init(&t.held, 0, 0);
	sem_init(&t.go, 0, 0);
	vt_boot(&t, 16, 4096);
	for (uint32_t i = 0; i < 2; i++) {
		struct vsock_hdr h = header(VSOCK_OP_REQUEST, 2000 + i, 5 + i);
		struct vg_buf b = { vg_alloc(&t.g, sizeof(h), 16), sizeof(h), false };

		memcpy(vg_ptr(&t.g, b.gpa), &h, sizeof(h));
		vg_add(&t.g, TX, &b, 1);
	}
	vg_kick(&t.g, TX);
	assert_int_equal(sem_wait(&t.held), 0);
	vg_write(&t.g, VG_STATUS, 0);
	t.g.brk = VG_RAM_GPA;
	vt_boot(&t, 16, 4096);
	sem_post(&t.go);
	vt_quiet(&t);
	must_end(t.accepted[0]);
	t.accepted[0] = -1;
	sem_destroy(&t.held);
	sem_destroy(&t.go);
	vt_fini(&t);
}

struct dialler {
	struct vt *t;
	bool stop;
};

static void *dial(void *arg)
{
	struct dialler *d = arg;

	while (!__atomic_load_n(&d->stop, __ATOMIC_RELAXED)) {
		char text[8] = "";
		int fds[2];

		make_pair(fds);
		if (vsock_connect(d->t->g.device, 1, fds[1], "hi\n", NULL) == 0) {
			ssize_t n;

			do
				n = read(fds[0], text, 1);
			while (n > 0 && write(fds[0], text, 1) == 1);
		}
		close(fds[0]);
	}
	return NULL;
}

/* Several threads connect while the guest answers, breaks its queues and resets. */
static void test_threads(void **state)
{
	struct dialler d = { 0 };
	pthread_t threads[3];
	struct vt t;

	(void)state;
	vt_init(&t);
	d.t = &t;
	for (unsigned int i = 0; i < 3; i++)
		pthread_create(&threads[i], NULL, dial, &d);
	for (unsigned int round = 0; round < 20; round++) {
		t.g.brk = VG_RAM_GPA;
		vt_boot(&t, 16, 4096);
		for (unsigned int i = 0; i < 30; i++) {
			vt_recv(&t);
			if (got.h.op == VSOCK_OP_REQUEST)
				vt_op(&t, i % 3 ? VSOCK_OP_RESPONSE : VSOCK_OP_RST, 1,
				      got.h.src_port);
			else if (got.h.op == VSOCK_OP_RW)
				vt_op(&t, VSOCK_OP_RST, 1, got.h.src_port);
		}
		if (round % 4 == 3) {
			vg_avail_idx(&t.g, TX, 20000);
			vg_kick(&t.g, TX);
			assert_true(vg_wait_needs_reset(&t.g));
		}
		vg_write(&t.g, VG_STATUS, 0);
	}
	__atomic_store_n(&d.stop, true, __ATOMIC_RELAXED);
	vt_boot(&t, 16, 4096);
	for (unsigned int i = 0; i < 3; i++) {
		while (pthread_tryjoin_np(threads[i], NULL)) {
			if (vg_has_used(&(struct vg_wait_for){ &t.g, RX }) && take_packet(&t) &&
			    got.h.op == VSOCK_OP_REQUEST)
				vt_op(&t, VSOCK_OP_RST, 1, got.h.src_port);
		}
	}
	vt_fini(&t);
}

static int setup(void **state)
{
	struct rlimit limit;

	(void)state;
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return -1;
	limit.rlim_cur = limit.rlim_max < 8192 ? limit.rlim_max : 8192;
	return setrlimit(RLIMIT_NOFILE, &limit);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),        cmocka_unit_test(test_host_connects),
		cmocka_unit_test(test_refused),       cmocka_unit_test(test_before_the_driver),
		cmocka_unit_test(test_no_answer),     cmocka_unit_test(test_guest_connects),
		cmocka_unit_test(test_half_close),    cmocka_unit_test(test_host_gone),
		cmocka_unit_test(test_unread),        cmocka_unit_test(test_credit_of_the_guest),
		cmocka_unit_test(test_credit_lies),   cmocka_unit_test(test_credit_of_the_host),
		cmocka_unit_test(test_slow_host),     cmocka_unit_test(test_slow_guest),
		cmocka_unit_test(test_many),          cmocka_unit_test(test_turns),
		cmocka_unit_test(test_limits),        cmocka_unit_test(test_headers),
		cmocka_unit_test(test_abuse),         cmocka_unit_test(test_pieces),
		cmocka_unit_test(test_broken_queues), cmocka_unit_test(test_flood),
		cmocka_unit_test(test_no_buffers),    cmocka_unit_test(test_late_interrupt),
		cmocka_unit_test(test_reset),         cmocka_unit_test(test_reset_while_asking),
		cmocka_unit_test(test_threads),
	};

	return cmocka_run_group_tests(tests, setup, NULL);
}
