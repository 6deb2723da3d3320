/* SPDX-License-Identifier: Apache-2.0 */
/* The network card: its guest and the other end of its stream played here. */
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <sched.h>
#include <sys/socket.h>

#include "virtio_guest.h"

#define RX 0
#define TX 1

#define HDR 12u
#define FRAME_MAX 65550u
#define F_MAC (1ull << 5)
#define F_MRG_RXBUF (1ull << 15)
#define F_STATUS (1ull << 16)
#define OFFLOADS (0x7f83ull | 1ull << 3 | 1ull << 17) /* checksums, segments, MTU, control */

struct nt {
	struct vg g;
	int fd; /* the stream's other end */
	uint32_t rx_bytes;
	uint64_t tx_gpa;
	unsigned int fds;
};

static uint8_t frame[FRAME_MAX + 16];

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

static void nt_init(struct nt *t)
{
	struct smolvm_vmm_net config = { .mac = { 2, 1, 2, 3, 4, 5 } };
	struct virtio_device *d;
	int fds[2];

	memset(t, 0, sizeof(*t));
	t->fds = open_fds();
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	t->fd = fds[0];
	config.fd = fds[1];
	vg_init(&t->g, true);
	assert_int_equal(net_create(&d, &t->g.env, &config, NULL), 0);
	vg_attach(&t->g, d);
}

static void nt_give(struct nt *t, uint64_t gpa, uint32_t bytes)
{
	struct vg_buf b = { gpa, bytes, true };
	uint16_t old = t->g.queues[RX].avail;

	vg_add(&t->g, RX, &b, 1);
	if (vg_wants_kick(&t->g, RX, old))
		vg_kick(&t->g, RX);
}

static void nt_boot(struct nt *t, uint64_t features, unsigned int n_rx, uint32_t rx_bytes)
{
	vg_boot(&t->g, features, 0);
	t->rx_bytes = rx_bytes;
	t->tx_gpa = vg_alloc(&t->g, HDR + sizeof(frame), 16);
	for (unsigned int i = 0; i < n_rx; i++)
		nt_give(t, vg_alloc(&t->g, rx_bytes, 16), rx_bytes);
}

static void nt_fini(struct nt *t)
{
	vg_fini(&t->g);
	if (t->fd >= 0)
		close(t->fd);
	assert_int_equal(open_fds(), t->fds);
}

static uint8_t pattern(uint32_t seed, uint32_t i)
{
	return (uint8_t)(seed * 31 + i * 7 + (i >> 8));
}

static void write_all(int fd, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

static void read_all(int fd, void *data, size_t len)
{
	uint8_t *p = data;

	while (len) {
		ssize_t n = read(fd, p, len);

		assert_true(n > 0);
		p += n;
		len -= (size_t)n;
	}
}

/* The other end sends a frame of @len bytes. */
static void peer_sends(int fd, uint32_t seed, uint32_t len)
{
	static uint8_t out[4 + FRAME_MAX];
	uint32_t be = htobe32(len);

	memcpy(out, &be, 4);
	for (uint32_t i = 0; i < len; i++)
		out[4 + i] = pattern(seed, i);
	write_all(fd, out, 4 + len);
}

static void peer_gets(int fd, uint32_t seed, uint32_t len)
{
	static uint8_t in[FRAME_MAX];
	uint32_t be;

	read_all(fd, &be, 4);
	assert_int_equal(be32toh(be), len);
	read_all(fd, in, len);
	for (uint32_t i = 0; i < len; i++)
		assert_int_equal(in[i], pattern(seed, i));
}

/* The guest gets a frame, over as many buffers as it takes. */
static void guest_gets(struct nt *t, uint32_t seed, uint32_t len)
{
	uint32_t at = 0, total = len + HDR;
	unsigned int buffers = 1;

	for (unsigned int k = 0; k < buffers; k++) {
		uint32_t written = 0;
		uint16_t head = 0, num;
		uint64_t gpa;
		uint8_t *p;

		assert_true(vg_wait(&t->g, RX, &head, &written));
		gpa = vg_desc_at(&t->g, RX, head)->addr;
		p = vg_ptr(&t->g, gpa);
		assert_int_equal(written, total - at < t->rx_bytes ? total - at : t->rx_bytes);
		if (k == 0) {
			assert_memory_equal(p, "\0\0\0\0\0\0\0\0\0\0", 10);
			memcpy(&num, p + 10, 2);
			buffers = num;
			assert_int_equal(buffers, (total + t->rx_bytes - 1) / t->rx_bytes);
		}
		for (uint32_t i = 0; i < written; i++)
			if (at + i >= HDR)
				assert_int_equal(p[i], pattern(seed, at + i - HDR));
		at += written;
		nt_give(t, gpa, t->rx_bytes);
	}
	assert_int_equal(at, total);
}

/* The guest's frame, its buffers as @cut says: the first has that many bytes. */
static void guest_fills(struct nt *t, uint32_t seed, uint32_t len, uint32_t cut, struct vg_buf b[2])
{
	uint8_t *p = vg_ptr(&t->g, t->tx_gpa);

	memset(p, 0, HDR);
	for (uint32_t i = 0; i < len; i++)
		p[HDR + i] = pattern(seed, i);
	b[0] = (struct vg_buf){ t->tx_gpa, cut, false };
	b[1] = (struct vg_buf){ t->tx_gpa + cut, len + HDR - cut, false };
}

static void guest_sends(struct nt *t, uint32_t seed, uint32_t len)
{
	struct vg_buf b[2];

	guest_fills(t, seed, len, HDR, b);
	assert_int_equal(vg_request(&t->g, TX, b, 2), 0);
}

static bool link_is_down(void *ctx)
{
	struct nt *t = ctx;
	uint8_t status[2];

	vg_config(&t->g, 6, status, 2);
	return status[0] == 0;
}

static void test_config(void **state)
{
	static const struct smolvm_vmm_net group = { 0, { 1, 0, 0, 0, 0, 1 } };
	struct smolvm_vmm_net any[2] = { { 0 } };
	struct virtio_device *d;
	uint8_t config[12], macs[2][6];
	struct nt t;
	int fds[2];

	(void)state;
	nt_init(&t);
	vg_config(&t.g, 0, config, sizeof(config));
	assert_memory_equal(config, "\2\1\2\3\4\5\1\0\0\0\0\0", sizeof(config));
	assert_int_equal(vg_offered(&t.g) & (F_MAC | F_STATUS | F_MRG_RXBUF),
			 F_MAC | F_STATUS | F_MRG_RXBUF);
	assert_int_equal(vg_offered(&t.g) & OFFLOADS & ~F_MAC & ~F_MRG_RXBUF & ~F_STATUS, 0);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		any[i].fd = fds[1];
		assert_int_equal(net_create(&d, &t.g.env, &any[i], NULL), 0);
		d->ops->config_read(d, 0, macs[i], 6);
		assert_int_equal(macs[i][0] & 3, 2);
		d->ops->destroy(d);
		close(fds[0]);
	}
	assert_memory_not_equal(macs[0], macs[1], 6);
	any[0].fd = t.g.irq_fd;
	assert_int_equal(net_create(&d, &t.g.env, &any[0], NULL), -EINVAL);
	any[0] = group;
	any[0].fd = t.fd;
	assert_int_equal(net_create(&d, &t.g.env, &any[0], NULL), -EINVAL);
	nt_fini(&t);
}

static void test_both_ways(void **state)
{
	static const uint32_t sizes[] = { 14, 60, 1514, 1515, 9000, 65535, FRAME_MAX };
	static const uint64_t features[] = { ~0ull, ~F_MRG_RXBUF, 0, ~VIRTIO_F_EVENT_IDX };
	struct nt t;

	(void)state;
	for (unsigned int f = 0; f < 4; f++) {
		bool merge = features[f] & F_MRG_RXBUF;

		nt_init(&t);
		nt_boot(&t, features[f], merge ? 128 : 20, merge ? 1526 : FRAME_MAX + HDR);
		for (unsigned int i = 0; i < 7; i++) {
			peer_sends(t.fd, i, sizes[i]);
			guest_gets(&t, i, sizes[i]);
			guest_sends(&t, i + 50, sizes[i]);
			peer_gets(t.fd, i + 50, sizes[i]);
		}
		assert_int_equal(t.g.counters.net_packets, 14);
		nt_fini(&t);
	}
}

/* Frames in pieces on the stream, and pieces of several frames together. */
static void test_pieces(void **state)
{
	struct vg_buf b[2];
	uint8_t *p;
	struct nt t;

	(void)state;
	nt_init(&t);
	nt_boot(&t, ~0ull, 64, 1526);
	p = frame;
	for (uint32_t k = 0; k < 100; k++, p += 4 + 64) {
		memcpy(p, "\0\0\0\x40", 4);
		for (uint32_t i = 0; i < 64; i++)
			p[4 + i] = pattern(k, i);
	}
	for (size_t at = 0, n = 1; at < 6800; at += n, n = n % 300 + 7) {
		write_all(t.fd, frame + at, n < 6800 - at ? n : 6800 - at);
		if (n % 5 == 0)
			sched_yield();
	}
	for (uint32_t k = 0; k < 100; k++)
		guest_gets(&t, k, 64);
	for (uint32_t cut = 1; cut < 70; cut++) {
		guest_fills(&t, cut, 64, cut, b);
		vg_request(&t.g, TX, b, 2);
		peer_gets(t.fd, cut, 64);
	}
	nt_fini(&t);
}

struct flow {
	struct nt *t;
	unsigned int frames;
};

static uint32_t size_of(unsigned int i)
{
	return 14 + i * 7919u % (FRAME_MAX - 13);
}

static void *peer_reads(void *arg)
{
	struct flow *f = arg;

	for (unsigned int i = 0; i < f->frames; i++)
		peer_gets(f->t->fd, i, size_of(i));
	return NULL;
}

static void *peer_writes(void *arg)
{
	struct flow *f = arg;

	for (unsigned int i = 0; i < f->frames; i++)
		peer_sends(f->t->fd, i, size_of(i));
	return NULL;
}

/* More than either side takes at once. */
static void test_flow(void **state)
{
	struct flow f = { .frames = 300 };
	pthread_t reads, writes;
	struct nt t;

	(void)state;
	nt_init(&t);
	f.t = &t;
	nt_boot(&t, ~0ull, 60, 1526);
	pthread_create(&writes, NULL, peer_writes, &f);
	for (unsigned int i = 0; i < f.frames; i++)
		guest_gets(&t, i, size_of(i));
	pthread_join(writes, NULL);
	for (unsigned int i = 0, done = 0; done < f.frames;) {
		uint64_t brk = t.g.brk;

		/* Nobody reads until the queue holds many. */
		for (; i < f.frames && i < done + 60; i++) {
			struct vg_buf b[2];

			t.tx_gpa = vg_alloc(&t.g, HDR + FRAME_MAX, 16);
			guest_fills(&t, i, size_of(i), HDR, b);
			vg_add(&t.g, TX, b, 2);
		}
		vg_kick(&t.g, TX);
		if (done == 0)
			pthread_create(&reads, NULL, peer_reads, &f);
		for (; done < i; done++)
			assert_true(vg_wait(&t.g, TX, NULL, NULL));
		t.g.brk = brk;
	}
	pthread_join(reads, NULL);
	nt_fini(&t);
}

/* A reset with half a frame on the stream: the other end gets the whole of it, then new ones. */
static void test_reset(void **state)
{
	struct vg_buf b[2];
	uint32_t be, len, first = 0;
	struct nt t;

	(void)state;
	nt_init(&t);
	nt_boot(&t, ~0ull, 60, 1526);
	for (unsigned int i = 0; i < 10; i++) {
		t.tx_gpa = vg_alloc(&t.g, HDR + FRAME_MAX, 16);
		guest_fills(&t, 1, FRAME_MAX, HDR, b);
		vg_add(&t.g, TX, b, 2);
	}
	vg_kick(&t.g, TX);
	assert_true(vg_wait(&t.g, TX, NULL, NULL));
	peer_sends(t.fd, 5, 100);
	guest_gets(&t, 5, 100);
	vg_write(&t.g, VG_STATUS, 0);
	memset(t.g.ram, 0xee, 8 << 20);
	t.g.brk = VG_RAM_GPA;
	nt_boot(&t, ~0ull, 60, 1526);
	guest_fills(&t, 2, 60, HDR, b);
	vg_add(&t.g, TX, b, 2);
	vg_kick(&t.g, TX);
	for (;;) {
		read_all(t.fd, &be, 4);
		len = be32toh(be);
		read_all(t.fd, frame, len);
		for (uint32_t i = 0; i < len; i++)
			assert_int_equal(frame[i], pattern(len == 60 ? 2 : 1, i));
		if (len == 60)
			break;
		first++;
	}
	assert_in_range(first, 1, 9);
	assert_true(vg_wait(&t.g, TX, NULL, NULL));
	peer_sends(t.fd, 6, 100);
	guest_gets(&t, 6, 100);
	nt_fini(&t);
}

/* What the other end may not say takes the link down, and nothing else. */
static void test_bad_stream(void **state)
{
	static const uint32_t lengths[] = { 0, 1, 13, FRAME_MAX + 1, 0x7fffffff, 0xffffffff };
	struct nt t;

	(void)state;
	for (unsigned int i = 0; i < 8; i++) {
		nt_init(&t);
		nt_boot(&t, ~0ull, 60, 1526);
		peer_sends(t.fd, 3, 777);
		if (i < 6) {
			uint32_t be = htobe32(lengths[i]);

			write_all(t.fd, &be, 4);
			send(t.fd, frame, 100, MSG_NOSIGNAL);
		} else {
			if (i == 7)
				write_all(t.fd, "\0\0\1\0half", 8);
			close(t.fd);
			t.fd = -1;
		}
		guest_gets(&t, 3, 777);
		assert_true(vg_until(&t.g, link_is_down, &t));
		assert_false(vg_needs_reset(&t.g));
		/* Frames go nowhere, but they go. */
		for (unsigned int k = 0; k < 300; k++)
			guest_sends(&t, k, 100);
		/* And so it is after a reset. */
		t.g.brk = VG_RAM_GPA;
		nt_boot(&t, ~0ull, 10, 1526);
		assert_true(link_is_down(&t));
		guest_sends(&t, 1, 100);
		nt_fini(&t);
	}
}

/* The other end goes away while no driver is there, or the guest takes nothing. */
static void test_gone(void **state)
{
	struct nt t;

	(void)state;
	nt_init(&t);
	close(t.fd);
	t.fd = -1;
	assert_true(vg_until(&t.g, link_is_down, &t));
	nt_fini(&t);

	nt_init(&t);
	nt_boot(&t, ~0ull, 0, 1526);
	peer_sends(t.fd, 1, 500);
	close(t.fd);
	t.fd = -1;
	t.rx_bytes = 1526;
	nt_give(&t, vg_alloc(&t.g, 1526, 16), 1526);
	guest_gets(&t, 1, 500);
	assert_true(vg_until(&t.g, link_is_down, &t));
	nt_fini(&t);
}

/* Frames of a size that no frame has are dropped; so are those that the guest has no place for. */
static void test_dropped(void **state)
{
	static const uint32_t bad[] = { 1, 5, HDR, HDR + 13, HDR + FRAME_MAX + 1, 200000 };
	struct nt t;
	uint64_t gpa;

	(void)state;
	nt_init(&t);
	nt_boot(&t, ~0ull, 64, 100);
	gpa = vg_alloc(&t.g, 200000, 16);
	for (unsigned int i = 0; i < 6; i++)
		vg_request(&t.g, TX, &(struct vg_buf){ gpa, bad[i], false }, 1);
	vg_request(&t.g, TX, &(struct vg_buf){ gpa, 0, false }, 1);
	guest_sends(&t, 9, 99);
	peer_gets(t.fd, 9, 99);
	peer_sends(t.fd, 1, 6400 - HDR); /* 64 buffers hold just that */
	guest_gets(&t, 1, 6400 - HDR);
	peer_sends(t.fd, 2, 6400 - HDR + 1);
	peer_sends(t.fd, 3, 300);
	guest_gets(&t, 3, 300);
	assert_false(vg_needs_reset(&t.g));
	nt_fini(&t);
}

static void test_broken_queues(void **state)
{
	(void)state;
	for (unsigned int i = 0; i < 5; i++) {
		struct vg_buf b[2];
		struct nt t;

		nt_init(&t);
		nt_boot(&t, ~0ull, 0, 1526);
		switch (i) {
		case 0:
			vg_add(&t.g, TX, &(struct vg_buf){ VG_RAM_GPA, 2 << 20, false }, 1);
			break;
		case 1:
			b[0] = vg_in(&t.g, HDR - 1);
			vg_add(&t.g, RX, b, 1);
			break;
		case 2:
			b[0] = vg_out(&t.g, "?", 1);
			b[1] = vg_in(&t.g, 1526);
			vg_add(&t.g, RX, b, 2);
			break;
		case 3:
			vg_add(&t.g, RX, &(struct vg_buf){ ~0ull - 100, 4096, true }, 1);
			break;
		case 4:
			vg_avail_idx(&t.g, TX, 3000);
			break;
		}
		peer_sends(t.fd, 1, 100);
		vg_kick(&t.g, RX);
		vg_kick(&t.g, TX);
		assert_true(vg_wait_needs_reset(&t.g));
		t.g.brk = VG_RAM_GPA;
		nt_boot(&t, ~0ull, 20, 1526);
		guest_gets(&t, 1, 100); /* it has waited */
		guest_sends(&t, 2, 100);
		peer_gets(t.fd, 2, 100);
		nt_fini(&t);
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),        cmocka_unit_test(test_both_ways),
		cmocka_unit_test(test_pieces),        cmocka_unit_test(test_flow),
		cmocka_unit_test(test_reset),         cmocka_unit_test(test_bad_stream),
		cmocka_unit_test(test_gone),          cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_broken_queues),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
