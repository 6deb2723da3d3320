/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The network card and a driver by script (virtio_script.h). The device's own operation is the
 * stream's other end: frames, whole, cut or nonsense; reading; closing. What the card sends is
 * made of whole frames as long as it is let.
 */
#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fd.h"
#include "virtio_script.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FRAME_MIN 14u
#define FRAME_MAX 65550u

/* The other end: what has come of a frame, its length first. */
struct peer {
	int fd;
	uint32_t have, need;
	uint8_t length[4];
};

static void peer_reads(struct peer *p, uint32_t most)
{
	static uint8_t sink[FRAME_MAX];
	uint32_t be;

	while (most) {
		bool head = p->have < 4;
		uint32_t want = head ? 4 - p->have : p->need - p->have;
		ssize_t n;

		want = want < most ? want : most;
		n = read(p->fd, head ? p->length + p->have : sink, want);
		if (n <= 0)
			return;
		most -= (uint32_t)n;
		p->have += (uint32_t)n;
		if (head && p->have == 4) {
			memcpy(&be, p->length, 4);
			p->need = 4 + be32toh(be);
			assert(p->need >= 4 + FRAME_MIN && p->need <= 4 + FRAME_MAX);
		}
		if (p->have == p->need)
			p->have = p->need = 0;
	}
}

static void own(struct vs *s, struct peer *p)
{
	static uint8_t bytes[4 + 65536];
	uint32_t what = vs_take(s, 1), n = vs_take(s, 2), be = htobe32(n);

	if (p->fd < 0)
		return;
	switch (what & 7) {
	case 0:
	case 1:
	case 2: /* a frame, or the beginning of one */
		memcpy(bytes, &be, 4);
		n += 4;
		if (what & 8)
			n = n * (what >> 4) / 16;
		(void)!write(p->fd, bytes, n);
		break;
	case 3: /* zeroes, more of a frame */
		memset(bytes, 0, 4);
		(void)!write(p->fd, bytes, n);
		break;
	case 4: /* any length */
		be = vs_take(s, 4);
		(void)!write(p->fd, &be, 4);
		break;
	case 5:
	case 6:
		peer_reads(p, n << (what >> 7));
		break;
	case 7:
		if (what & 8)
			fd_close(&p->fd);
		break;
	}
	vs_turn(s);
}

static int next_fd(void)
{
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	close(fd);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct smolvm_vmm_net config = { .mac = { 2, 0, 0, 0, 0, 1 } };
	int fds[2], first = next_fd(), op, small = 8192;
	struct peer p = { 0 };
	struct virtio_device *d;
	struct vs s;

	signal(SIGPIPE, SIG_IGN);
	assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	p.fd = fds[0];
	config.fd = fds[1];
	vs_begin(&s, data, size, NULL);
	assert(net_create(&d, &s.env, &config, NULL) == 0);
	vs_attach(&s, d);
	while ((op = vs_step(&s)) >= 0)
		if (op == 7)
			own(&s, &p);
	vs_end(&s);
	if (p.fd >= 0)
		peer_reads(&p, 1 << 20);
	fd_close(&p.fd);
	assert(next_fd() == first);
	return 0;
}
