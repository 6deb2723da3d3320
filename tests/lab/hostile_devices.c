/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each type of device: an honest request, requests to be interrupted with, and attacks of its own.
 */
#include "hostile_guest.h"

#define SLOT	   0x10000u /* of BUFFERS, for the request of as many */
#define SLOTS	   (QSIZE / 4)
#define W	   D_WRITE
#define N	   D_NEXT
#define F_BLK_RO   (1ull << 5)
#define SECTORS	   8192u

static uint8_t *slot(unsigned int i)
{
	return (uint8_t *)BUFFERS + (size_t)i * SLOT;
}

static void put32(uint8_t *p, uint32_t v)
{
	memcpy(p, &v, sizeof(v));
}

static void put64(uint8_t *p, uint64_t v)
{
	memcpy(p, &v, sizeof(v));
}

static uint32_t get32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static void fill_random(uint8_t *p, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 8)
		put64(p + i, rnd());
}

static uint16_t used_idx(const struct dev *d, unsigned int q)
{
	return *(volatile uint16_t *)&d->rings[q]->used.idx;
}

/*
 * Requests one after another, whatever comes of them: @out bytes to be read from slot 0, in pieces
 * of @piece (0: one), @in to be written behind them. Return: the device has answered, or has said
 * that it needs a reset, and has been given one.
 */
static bool ask(struct dev *d, unsigned int q, uint32_t out, uint32_t in, uint32_t piece)
{
	uint16_t before = used_idx(d, q);
	unsigned int n = 0;

	for (uint32_t at = 0; at < out;) {
		uint32_t len = piece && piece < out - at && n < QSIZE - 3 ? piece : out - at;

		set_desc(d, q, n, BUFFERS + at, len, N, n + 1);
		at += len;
		n++;
	}
	if (in > 1) {
		set_desc(d, q, n, BUFFERS + 0x800000, in - 1, N | W, n + 1);
		n++;
	}
	if (in || !n)
		set_desc(d, q, n++, BUFFERS + 0x700000, in ? 1 : 0, W, 0);
	d->rings[q]->desc[n - 1].flags &= W;
	publish(d, q, 0);
	notify(d, q);
	if (wait_used(d, q, (uint16_t)(before + 1)))
		return true;
	return needs_reset(d) && dev_setup(d, 0);
}

static void post_any(struct dev *d, unsigned int q, unsigned int i)
{
	unsigned int first = 4 * i;

	switch (d->kind->queues[q]) {
	case 'i':
		set_desc(d, q, first, (uintptr_t)slot(i), 4096, W, 0);
		break;
	case 'b':
		set_desc(d, q, first, (uintptr_t)slot(i), 64, N, first + 1);
		set_desc(d, q, first + 1, (uintptr_t)slot(i) + 4096, 4096, W, 0);
		break;
	default:
		set_desc(d, q, first, (uintptr_t)slot(i), 72, 0, 0);
	}
}

/* ---- rng ---- */

static bool rng_honest(struct dev *d)
{
	memset(slot(0), 0, 32);
	send_one(d, 0, 0, BUFFERS, 32, W);
	return wait_used(d, 0, 1) && d->rings[0]->used.ring[0].len == 32 &&
	       (get32(slot(0)) || get32(slot(0) + 4));
}

static void rng_attack(struct dev *d)
{
	bool ok = dev_setup(d, 0);

	for (unsigned int i = 0; i < 16; i++)
		ok &= ask(d, 0, i % 3, (uint32_t)below(2 << 20), 0);
	report(works(d) && ok, d, "requests of every length");
}

/* ---- blk ---- */

static bool blk_move(struct dev *d, uint32_t type, uint8_t *data, uint64_t sector)
{
	uint16_t before = used_idx(d, 0);

	put32(slot(1), type);
	put32(slot(1) + 4, 0);
	put64(slot(1) + 8, sector);
	slot(1)[16] = 0xff;
	set_desc(d, 0, 0, (uintptr_t)slot(1), 16, N, 1);
	set_desc(d, 0, 1, (uintptr_t)data, 512, N | (type ? 0 : W), 2);
	set_desc(d, 0, 2, (uintptr_t)slot(1) + 16, 1, W, 0);
	publish(d, 0, 0);
	notify(d, 0);
	return wait_used(d, 0, (uint16_t)(before + 1)) && slot(1)[16] == 0;
}

static bool blk_honest(struct dev *d)
{
	bool read_only = d->features & F_BLK_RO;
	bool same = true;

	fill_random(slot(2), 512);
	memset(slot(3), 0, 512);
	if (!read_only && !blk_move(d, 1, slot(2), 0))
		return false;
	if (!blk_move(d, 0, slot(3), 0))
		return false;
	if (read_only) /* what hostile.c has put there */
		return slot(3)[0] == 'r' && slot(3)[511] == 'r';
	for (unsigned int i = 0; i < 512; i++)
		same &= slot(2)[i] == slot(3)[i];
	return same;
}

static void blk_post(struct dev *d, unsigned int q, unsigned int i)
{
	static const uint8_t types[] = { 0, 0, 0, 1, 1, 4, 8, 11, 13 };
	uint8_t type = types[below(sizeof(types))];
	uint8_t *p = slot(i);

	put32(p, type);
	put32(p + 4, 0);
	put64(p + 8, below(SECTORS));
	put64(p + 32, below(SECTORS));
	put64(p + 40, below(9000));
	set_desc(d, q, 4 * i, (uintptr_t)p, 16, N, 4 * i + 1);
	if (type == 4)
		set_desc(d, q, 4 * i, (uintptr_t)p, 16, N, 4 * i + 2);
	set_desc(d, q, 4 * i + 1, (uintptr_t)p + 32, type > 8 ? 16 : type == 8 ? 20 : 32768,
		 N | (type == 0 || type == 8 ? W : 0), 4 * i + 2);
	set_desc(d, q, 4 * i + 2, (uintptr_t)p + 24, 1, W, 0);
}

static void blk_headers(struct dev *d)
{
	bool ok = dev_setup(d, 0);

	for (uint32_t out = 0; out < 40; out++)
		for (uint32_t in = 0; in < 3; in++) {
			memset(slot(0), 0, 64);
			put32(slot(0), out % 16);
			ok &= ask(d, 0, out, in ? 1 + (in - 1) * 512 : 0, out & 1);
		}
	report(works(d) && ok, d, "headers of every length");
}

static void blk_types(struct dev *d)
{
	static const uint64_t sectors[] = { 0, SECTORS - 1, SECTORS, 1ull << 55, (1ull << 55) - 1,
					    ~0ull, ~0ull - 1 };
	static const uint32_t lens[] = { 0, 1, 511, 512, 1024, 100000 };
	bool ok = dev_setup(d, 0), read_only = d->features & F_BLK_RO;

	for (unsigned int i = 0; i < 18 * 7; i++) {
		uint32_t type = i / 7 < 16 ? i / 7 : (uint32_t)rnd();
		uint64_t sector = sectors[i % 7];

		for (unsigned int k = 0; k < 6; k++) {
			uint8_t *status = (uint8_t *)BUFFERS + 0x700000;
			bool write = type == 1;

			put32(slot(0), type);
			put64(slot(0) + 8, sector);
			*status = 0xff;
			ok &= ask(d, 0, 16 + (write ? lens[k] : 0), 1 + (write ? 0 : lens[k]),
				  0);
			if (type < 2 && sector > SECTORS)
				ok &= *status == 1;
			if (write && read_only)
				ok &= *status == 1;
			if (type > 13)
				ok &= *status == 2;
		}
	}
	report(works(d) && ok, d, "requests of every type, sectors of nobody");
}

static void blk_ranges(struct dev *d)
{
	static const struct {
		uint64_t sector;
		uint32_t sectors, flags;
	} ranges[] = {
		{ 0, ~0u, 0 }, { ~0ull, 1, 0 }, { ~0ull, ~0u, 1 }, { SECTORS, 1, 0 },
		{ SECTORS - 1, 2, 1 }, { 1ull << 55, 1, 0 }, { 1, 0, 0 }, { 1, 8, ~0u },
		{ (1ull << 55) + 1, 1u << 17, 1 },
	};
	bool ok = dev_setup(d, 0);

	for (unsigned int i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
		for (uint32_t len = 0; len < 300; len += len < 20 ? 1 : 16) {
			put32(slot(0), i % 2 ? 11 : 13);
			for (unsigned int k = 0; k < 20; k++)
				memcpy(slot(0) + 16 + 16 * k, &ranges[i], 16);
			ok &= ask(d, 0, 16 + len, 1, 0);
		}
	report(works(d) && ok, d, "ranges that overflow");
}

static void blk_attack(struct dev *d)
{
	blk_headers(d);
	blk_types(d);
	blk_ranges(d);
}

/* ---- console ---- */

enum { CON_OUT = 1, CON_CTL_IN = 2, CON_CTL_OUT = 3, CON_OUT1 = 5 };

static void put_control(uint8_t *p, uint32_t id, uint16_t event, uint16_t value)
{
	put32(p, id);
	put32(p + 4, (uint32_t)value << 16 | event);
}

static bool console_honest(struct dev *d)
{
	memset(slot(1), 0xee, 64);
	send_one(d, CON_CTL_IN, 0, (uintptr_t)slot(1), 64, W);
	put_control(slot(0), 0, 0, 1);
	send_one(d, CON_CTL_OUT, 0, BUFFERS, 8, 0);
	if (!wait_used(d, CON_CTL_IN, 1) || !wait_used(d, CON_CTL_OUT, 1))
		return false;
	send_one(d, CON_OUT, 0, BUFFERS, 8, 0);
	send_one(d, CON_OUT1, 0, BUFFERS, 8, 0);
	return (get32(slot(1) + 4) & 0xffff) == 1 && wait_used(d, CON_OUT, 1) &&
	       wait_used(d, CON_OUT1, 1);
}

static void console_post(struct dev *d, unsigned int q, unsigned int i)
{
	post_any(d, q, i);
	if (q == CON_CTL_OUT)
		put_control(slot(i), (uint32_t)below(3), (uint16_t)below(8), (uint16_t)below(2));
}

/* @in_bytes: of the buffers for answers; 0: there are none. */
static bool control_flood(struct dev *d, uint32_t in_bytes)
{
	bool ok = dev_setup(d, 0);

	for (unsigned int i = 0; i < 40 && ok; i++) {
		uint16_t before = used_idx(d, CON_CTL_OUT);

		for (unsigned int k = 0; k < 32; k++) {
			uint32_t id = (uint32_t)(below(4) ? below(4) : rnd());
			uint16_t event = (uint16_t)(below(8) ? below(8) : rnd());

			put_control(slot(0) + 8 * k, id, event, (uint16_t)below(3));
			set_desc(d, CON_CTL_OUT, k, BUFFERS + 8 * k,
				 (uint32_t)(below(8) ? 8 : below(4096)), 0, 0);
			publish(d, CON_CTL_OUT, (uint16_t)k);
			if (!in_bytes)
				continue;
			set_desc(d, CON_CTL_IN, k, (uintptr_t)slot(1 + k % 8), in_bytes, W, 0);
			if ((uint16_t)(d->rings[CON_CTL_IN]->avail.idx -
				       used_idx(d, CON_CTL_IN)) < QSIZE / 2)
				publish(d, CON_CTL_IN, (uint16_t)k);
		}
		notify(d, CON_CTL_IN);
		notify(d, CON_CTL_OUT);
		ok = wait_used(d, CON_CTL_OUT, (uint16_t)(before + 32));
	}
	return ok;
}

static void console_attack(struct dev *d)
{
	bool ok = control_flood(d, 64);

	ok &= control_flood(d, 0);
	ok &= control_flood(d, 1);
	ok &= control_flood(d, 7);
	report(works(d) && ok, d, "floods of control messages");
	ok = dev_setup(d, 0);
	for (unsigned int i = 0; i < 60; i++)
		ok &= ask(d, i % 2 ? CON_OUT : CON_OUT1, (uint32_t)below(i % 8 ? 3000 : 1 << 20),
			  i % 5 ? 0 : 1, (uint32_t)below(70));
	report(works(d) && ok, d, "output of every length");
}

/* ---- vsock ---- */

enum { VS_RX, VS_TX };
#define VS_HDR 44u

static void put_packet(uint8_t *p, uint32_t from, uint32_t to, uint32_t len, uint32_t op)
{
	memset(p, 0, VS_HDR);
	put64(p, 3);
	put64(p + 8, 2);
	put32(p + 16, from);
	put32(p + 20, to);
	put32(p + 24, len);
	put32(p + 28, op << 16 | 1);
	put32(p + 36, 65536);
}

/* A connection to port 1, which is refused. */
static bool vsock_honest(struct dev *d)
{
	memset(slot(1), 0, 64);
	send_one(d, VS_RX, 0, (uintptr_t)slot(1), 4096, W);
	put_packet(slot(0), 77, 1, 0, 1);
	send_one(d, VS_TX, 0, BUFFERS, VS_HDR, 0);
	return wait_used(d, VS_RX, 1) && get32(slot(1) + 20) == 77 &&
	       get32(slot(1) + 28) >> 16 == 3;
}

static void vsock_post(struct dev *d, unsigned int q, unsigned int i)
{
	post_any(d, q, i);
	if (q == VS_TX)
		put_packet(slot(i), (uint32_t)(1000 + below(8)), (uint32_t)(2 + below(2)),
			   (uint32_t)below(30), (uint32_t)(1 + below(7)));
}

/* Keep the receive queue full of buffers of @bytes. */
static void vsock_buffers(struct dev *d, uint32_t bytes)
{
	struct ring *r = d->rings[VS_RX];

	while ((uint16_t)(r->avail.idx - used_idx(d, VS_RX)) < QSIZE) {
		unsigned int k = r->avail.idx % QSIZE;

		set_desc(d, VS_RX, k, BUFFERS + 0x1000000 + k * 4096, bytes, W, 0);
		publish(d, VS_RX, (uint16_t)k);
	}
	notify(d, VS_RX);
}

/* The packet of a flood: @wild: its fields are anything. */
static uint32_t flood_packet(uint8_t *p, bool wild, uint32_t n)
{
	uint32_t len = (uint32_t)below(2) ? 0 : (uint32_t)below(3000);

	put_packet(p, wild ? (uint32_t)below(40) : n, (uint32_t)(1 + below(3)), len,
		   (uint32_t)(wild ? below(9) : 1));
	if (!wild)
		put32(p + 24, 0);
	if (wild && !below(3)) {
		unsigned int at = (unsigned int)below(11);

		put32(p + 4 * at, (uint32_t)(below(2) ? rnd() : below(5)));
	}
	if (wild && below(4))
		return VS_HDR + len;
	return (uint32_t)(wild ? below(4000) : VS_HDR);
}

static bool vsock_flood(struct dev *d, bool wild, uint32_t rx_bytes)
{
	bool ok = dev_setup(d, 0);

	for (uint32_t i = 0; i < 1600; i += 32) {
		uint16_t before = used_idx(d, VS_TX);

		if (rx_bytes)
			vsock_buffers(d, rx_bytes);
		for (unsigned int k = 0; k < 32; k++) {
			uint8_t *p = slot(0) + 8192 * k;

			set_desc(d, VS_TX, k, (uintptr_t)p, flood_packet(p, wild, i + k), 0, 0);
			publish(d, VS_TX, (uint16_t)k);
		}
		notify(d, VS_TX);
		if (!rx_bytes) /* refusals have no way: nothing more is taken */
			return ok;
		while ((uint16_t)(used_idx(d, VS_TX) - before) < 32 && !needs_reset(d))
			vsock_buffers(d, rx_bytes);
		if (needs_reset(d))
			ok &= dev_setup(d, 0);
	}
	return ok;
}

static void vsock_attack(struct dev *d)
{
	bool ok = vsock_flood(d, false, 4096);

	report(works(d) && ok, d, "1600 connections");
	ok = vsock_flood(d, true, 4096);
	ok &= vsock_flood(d, true, 45);
	report(works(d) && ok, d, "floods of packets that make no sense");
	ok = vsock_flood(d, true, 44);
	ok &= vsock_flood(d, true, 1);
	ok &= vsock_flood(d, true, 0);
	report(works(d) && ok, d, "packets without room for answers");
}

/* ---- net ---- */

enum { NET_RX, NET_TX };
#define NET_HDR 12u

static void put_frame(uint8_t *p, uint64_t mark)
{
	memset(p, 0, 128);
	memset(p + NET_HDR, 0xff, 6);
	put64(p + NET_HDR + 14, mark);
}

static void net_buffers(struct dev *d, uint32_t bytes)
{
	for (unsigned int k = 0; k < QSIZE; k++) {
		set_desc(d, NET_RX, k, BUFFERS + 0x1000000 + k * 4096, bytes, W, 0);
		publish(d, NET_RX, (uint16_t)k);
	}
	notify(d, NET_RX);
}

/* A frame goes out and comes back; older ones may come before it. */
static bool net_honest(struct dev *d)
{
	uint64_t mark = rnd(), from = tsc();
	struct ring *rx = d->rings[NET_RX];
	uint16_t seen = 0, sent = 0;

	net_buffers(d, 4096);
	put_frame(slot(0), mark);
	while (tsc() - from < 40000000000ull && !needs_reset(d)) {
		send_one(d, NET_TX, 0, BUFFERS, 100, 0);
		if (!wait_used(d, NET_TX, ++sent))
			return false;
		for (unsigned int i = 0; i < 2000 && used_idx(d, NET_RX) == seen; i++)
			reg_read(d, R_STATUS);
		for (; used_idx(d, NET_RX) != seen; seen++) {
			uint32_t id = rx->used.ring[seen % QSIZE].id % QSIZE;
			uint8_t *p = (uint8_t *)BUFFERS + 0x1000000 + id * 4096;
			uint64_t got;

			memcpy(&got, p + NET_HDR + 14, 8);
			if (got == mark)
				return true;
			publish(d, NET_RX, (uint16_t)id);
		}
		notify(d, NET_RX);
	}
	return false;
}

static void net_post(struct dev *d, unsigned int q, unsigned int i)
{
	post_any(d, q, i);
	put_frame(slot(i), i);
}

static void net_attack(struct dev *d)
{
	static const uint32_t lens[] = { 1514, 4096, 65549, 65561, 65562, 65563, 70000, 1 << 20 };
	bool ok = dev_setup(d, 0);

	put_frame(slot(0), 0);
	for (uint32_t len = 0; len < 40; len++)
		ok &= ask(d, NET_TX, len, len % 7 == 6, len % 4);
	for (unsigned int i = 0; i < 24; i++)
		ok &= ask(d, NET_TX, lens[i % 8], 0, (uint32_t)below(3000));
	report(works(d) && ok, d, "frames of every length");
	for (uint32_t len = 0; len < 40 && ok; len += len < 8 ? 4 : 1) {
		ok &= dev_setup(d, len % 2 ? 0 : 1ull << 15);
		net_buffers(d, len);
		for (unsigned int i = 0; i < 20 && ok; i++)
			ok &= ask(d, NET_TX, 100, 0, 0);
	}
	report(works(d) && ok, d, "buffers too small for frames");
}

/* ---- balloon ---- */

enum { BAL_INFLATE, BAL_DEFLATE, BAL_STATS, BAL_REPORT = 4 };

static bool balloon_honest(struct dev *d)
{
	put32(slot(0), BUFFERS >> 12);
	send_one(d, BAL_INFLATE, 0, BUFFERS, 4, 0);
	return wait_used(d, BAL_INFLATE, 1);
}

static void balloon_post(struct dev *d, unsigned int q, unsigned int i)
{
	post_any(d, q, i);
	for (unsigned int k = 0; k < 18; k++)
		put32(slot(i) + 4 * k, (BUFFERS >> 12) + (uint32_t)below(4000));
}

static void balloon_attack(struct dev *d)
{
	enum { end = RAM_END >> 12 };
	static const uint32_t pages[12] = { ~0u, 0, 1, 0, ~0u, ~0u - 1, end, end - 1, end + 1,
					    0xd0000, 1u << 31, 1u << 20 };
	bool ok = dev_setup(d, 0);

	for (unsigned int i = 0; i < 12 * 12; i++) {
		unsigned int n = 1 + (unsigned int)below(12);

		for (unsigned int k = 0; k < n; k++)
			put32(slot(0) + 4 * k, pages[(i + k * (i / 12)) % 12]);
		ok &= ask(d, i % 2 ? BAL_DEFLATE : BAL_INFLATE, 4 * n, 0, i % 9);
	}
	for (unsigned int i = 0; i < 10; i++) /* the last ones of RAM, up and down */
		put32(slot(0) + 4 * i, end - (i < 5 ? 5 - i : i));
	ok &= ask(d, BAL_INFLATE, 40, 0, 0);
	report(works(d) && ok, d, "absurd pages");
	ok = dev_setup(d, 0);
	for (uint32_t i = 0; i < 12; i++) {
		memset(slot(0), 0xff, 16384);
		ok &= ask(d, BAL_INFLATE, i, 0, 1);
		ok &= ask(d, BAL_DEFLATE, 4090 + i, 0, 0);
		ok &= ask(d, BAL_REPORT, i % 2, 1 + (uint32_t)below(20 << 20), 0);
	}
	report(works(d) && ok, d, "requests of every length");
	ok = dev_setup(d, 0);
	for (uint32_t i = 0; i < 200; i++) {
		fill_random(slot(i % 8), 1024);
		send_one(d, BAL_STATS, i % QSIZE, (uintptr_t)slot(i % 8), (uint32_t)below(600), 0);
		if (i % 32 == 31) /* one of them stays there */
			ok &= wait_used(d, BAL_STATS, (uint16_t)i) || needs_reset(d);
	}
	report(works(d) && ok, d, "absurd statistics");
}

/* ---- fs ---- */

enum { FS_HIPRIO, FS_REQUEST };
#define FUSE_INIT 26u

static void put_fuse(uint8_t *p, uint32_t len, uint32_t opcode, uint64_t node)
{
	memset(p, 0, 40);
	put32(p, len);
	put32(p + 4, opcode);
	put64(p + 8, 0x1122334455ull);
	put64(p + 16, node);
}

static bool fs_init(struct dev *d)
{
	put_fuse(slot(0), 40 + 64, FUSE_INIT, 0);
	memset(slot(0) + 40, 0, 64);
	put32(slot(0) + 40, 7);
	put32(slot(0) + 44, 31);
	put32(slot(0) + 48, 65536);
	memset(slot(1), 0xff, 64);
	set_desc(d, FS_REQUEST, 0, BUFFERS, 104, N, 1);
	set_desc(d, FS_REQUEST, 1, (uintptr_t)slot(1), 4096, W, 0);
	publish(d, FS_REQUEST, 0);
	notify(d, FS_REQUEST);
	return wait_used(d, FS_REQUEST, 1) && get32(slot(1) + 4) == 0 &&
	       get32(slot(1) + 8) == 0x22334455;
}

static void fs_post(struct dev *d, unsigned int q, unsigned int i)
{
	post_any(d, q, i);
	put_fuse(slot(i), 64, (uint32_t)below(50), 1);
}

static void fs_attack(struct dev *d)
{
	static const uint32_t ins[] = { 0, 1, 15, 16, 17, 4096, 1100000 };
	bool ok = dev_setup(d, 0);

	for (uint32_t len = 0; len < 160; len++) {
		put_fuse(slot(0), len % 3 ? len : (uint32_t)rnd(), (uint32_t)below(60),
			 below(2));
		fill_random(slot(0) + 40, 128);
		ok &= ask(d, len % 4 ? FS_REQUEST : FS_HIPRIO, len, ins[len % 7],
			  (uint32_t)below(12));
	}
	report(works(d) && ok, d, "requests of every length");
	ok = dev_setup(d, 0) && fs_init(d);
	for (uint32_t i = 0; i < 60 * 7; i++) {
		uint32_t len = i % 5 ? 40 + (uint32_t)below(80) : (uint32_t)below(1200000);

		put_fuse(slot(0), len, i / 7, 1 + below(3) / 2);
		for (unsigned int k = 0; k < 16; k++)
			put64(slot(0) + 40 + 8 * k, below(3) ? below(5) : rnd());
		ok &= ask(d, FS_REQUEST, len, ins[i % 7], 0);
	}
	report(works(d) && ok, d, "requests of every kind, full of nonsense");
}

/* ---- all of them ---- */

const struct kind kinds[] = {
	{ ID_NET, "net", "io", 1u << NET_TX, net_honest, net_post },
	{ ID_BLK, "blk", "b", 1, blk_honest, blk_post },
	{ ID_CONSOLE, "console", "ioioio", 1u << CON_OUT | 1u << CON_CTL_OUT | 1u << CON_OUT1,
	  console_honest, console_post },
	{ ID_RNG, "rng", "i", 1, rng_honest, post_any },
	{ ID_BALLOON, "balloon", "ooo-i", 1u << BAL_INFLATE | 1u << BAL_DEFLATE | 1u << BAL_STATS,
	  balloon_honest, balloon_post },
	{ ID_VSOCK, "vsock", "ioi", 1u << VS_TX, vsock_honest, vsock_post },
	{ ID_FS, "fs", "bb", 1u << FS_HIPRIO | 1u << FS_REQUEST, fs_init, fs_post },
};

void attack_device(struct dev *d)
{
	switch (d->kind->id) {
	case ID_NET:
		net_attack(d);
		break;
	case ID_BLK:
		blk_attack(d);
		break;
	case ID_CONSOLE:
		console_attack(d);
		break;
	case ID_RNG:
		rng_attack(d);
		break;
	case ID_BALLOON:
		balloon_attack(d);
		break;
	case ID_VSOCK:
		vsock_attack(d);
		break;
	default:
		fs_attack(d);
	}
}
