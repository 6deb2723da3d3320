/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attacks that any device has to stand: on its rings, on its registers, and on the machine.
 */
#include "hostile_guest.h"

#define OUTSIDE 0xd0000000ull
#define MIB	(1u << 20)
#define W	D_WRITE
#define N	D_NEXT
#define I	D_INDIRECT

/* ---- rings ---- */

/*
 * A request that no device may take. @head, @idx: in the available ring (0: of one request).
 * @desc: the queue's first descriptors; @table: what lies at TABLE. @without: features not taken.
 */
static const struct bad {
	const char *what;
	uint16_t head, idx;
	struct desc desc[5], table[3];
	uint64_t without;
} bads[] = {
	{ "an index beyond the queue", .head = QSIZE },
	{ "an index of 65535", .head = 0xffff },
	{ "more requests than the queue has", .idx = QSIZE + 1 },
	{ "an available index from nowhere", .idx = 0x8000 },
	{ "a next beyond the queue", .desc = { { BUFFERS, 16, N, QSIZE } } },
	{ "a next of 65535", .desc = { { BUFFERS, 16, N | W, 0xffff } } },
	{ "a loop of one", .desc = { { BUFFERS, 1, N, 0 } } },
	{ "a loop of nothing", .desc = { { BUFFERS, 0, N, 0 } } },
	{ "a loop of two", .desc = { { BUFFERS, 1, N | W, 1 }, { BUFFERS, 1, N | W, 0 } } },
	{ "memory over the end of RAM", .desc = { { RAM_END - 8, 16, 0, 0 } } },
	{ "memory behind the end of RAM", .desc = { { RAM_END, 16, W, 0 } } },
	{ "a device's registers as memory", .desc = { { OUTSIDE, 16, W, 0 } } },
	{ "an address that overflows", .desc = { { ~0ull - 7, 16, W, 0 } } },
	{ "an address of 2^64 - 1", .desc = { { ~0ull, 1, 0, 0 } } },
	{ "a length of 4 GiB", .desc = { { BUFFERS, ~0u, W, 0 } } },
	{ "a length of 2 GiB, to be read", .desc = { { BUFFERS, 1u << 31, 0, 0 } } },
	{ "lengths of 150 MiB", .desc = { { BUFFERS, 30 * MIB, W | N, 1 },
					  { BUFFERS, 30 * MIB, W | N, 2 },
					  { BUFFERS, 30 * MIB, W | N, 3 },
					  { BUFFERS, 30 * MIB, W | N, 4 },
					  { BUFFERS, 30 * MIB, W, 0 } } },
	{ "lengths of 150 MiB, to be read", .desc = { { BUFFERS, 30 * MIB, N, 1 },
						      { BUFFERS, 30 * MIB, N, 2 },
						      { BUFFERS, 30 * MIB, N, 3 },
						      { BUFFERS, 30 * MIB, N, 4 },
						      { BUFFERS, 30 * MIB, 0, 0 } } },
	{ "readable after writable", .desc = { { BUFFERS, 16, W | N, 1 }, { BUFFERS, 16, 0, 0 } } },
	{ "an odd table", .desc = { { TABLE, 17, I, 0 } }, .table = { { BUFFERS, 16, W, 0 } } },
	{ "an empty table", .desc = { { TABLE, 0, I, 0 } } },
	{ "a table of 4 GiB", .desc = { { TABLE, 0xfffffff0, I, 0 } } },
	{ "a table over the end of RAM", .desc = { { RAM_END - 16, 32, I, 0 } } },
	{ "a table outside of RAM", .desc = { { OUTSIDE, 32, I, 0 } } },
	{ "a table with a next", .desc = { { TABLE, 16, I | N, 1 }, { BUFFERS, 16, 0, 0 } },
	  .table = { { BUFFERS, 16, 0, 0 } } },
	{ "a table in a table", .desc = { { TABLE, 32, I, 0 } },
	  .table = { { TABLE + 16, 16, I, 0 }, { BUFFERS, 16, 0, 0 } } },
	{ "a table in itself", .desc = { { TABLE, 16, I, 0 } }, .table = { { TABLE, 16, I, 0 } } },
	{ "a loop in a table", .desc = { { TABLE, 16, I, 0 } }, .table = { { BUFFERS, 1, N, 0 } } },
	{ "a next beyond the table", .desc = { { TABLE, 32, I, 0 } },
	  .table = { { BUFFERS, 1, N, 1 }, { BUFFERS, 1, N, 2 } } },
	{ "a table that was not agreed on", .desc = { { TABLE, 16, I, 0 } },
	  .table = { { BUFFERS, 16, 0, 0 } }, .without = F_INDIRECT },
	{ "an index beyond the queue, without event indices", .head = QSIZE,
	  .without = F_EVENT_IDX },
};

static bool lay_out(struct dev *d, unsigned int q, const struct bad *b)
{
	struct ring *r = d->rings[q];

	if (!dev_setup(d, b->without))
		return false;
	memcpy(r->desc, b->desc, sizeof(b->desc));
	memcpy((void *)TABLE, b->table, sizeof(b->table));
	r->avail.ring[0] = b->head;
	__atomic_store_n(&r->avail.idx, b->idx ? b->idx : 1, __ATOMIC_SEQ_CST);
	notify(d, q);
	return true;
}

/* Queues that are looked at have to notice; the others are told all the same. */
static void attack_chains(struct dev *d)
{
	for (const struct bad *b = bads; b < bads + sizeof(bads) / sizeof(bads[0]); b++) {
		bool ok = true;

		for (unsigned int q = 0; q < d->n_queues; q++) {
			if (d->kind->queues[q] == '-')
				continue;
			ok &= lay_out(d, q, b);
			if (d->kind->eager & 1u << q)
				ok &= wait_needs_reset(d);
			for (unsigned int i = 0; i < d->n_queues; i++)
				notify(d, i);
		}
		report(works(d) && ok, d, b->what);
	}
}

/* A table with more entries than a request may have, all of them fine. */
static void attack_long_table(struct dev *d)
{
	struct desc *t = (struct desc *)TABLE;
	bool ok = true;

	for (unsigned int i = 0; i < 0xffff; i++)
		t[i] = (struct desc){ BUFFERS, i % 2, N, (uint16_t)(i + 1) };
	t[0xffff] = (struct desc){ BUFFERS, 1, 0, 0 };
	for (unsigned int q = 0; q < d->n_queues; q++) {
		if (!(d->kind->eager & 1u << q))
			continue;
		ok &= dev_setup(d, 0);
		send_one(d, q, 0, TABLE, MIB, I);
		ok &= wait_needs_reset(d);
	}
	memset(t, 0, MIB);
	report(works(d) && ok, d, "a table of 65536 descriptors");
}

/* Buffers that are the rings themselves, rings that lie on each other. */
static void attack_overlaps(struct dev *d)
{
	bool ok = true;

	for (unsigned int q = 0; q < d->n_queues; q++) {
		uint64_t at = SCRATCH;

		if (d->kind->queues[q] == '-')
			continue;
		ok &= dev_setup(d, 0);
		for (unsigned int i = 0; i < 8; i++) {
			set_desc(d, q, i, (uintptr_t)d->rings[q], 4096, i % 2 ? W : 0, 0);
			publish(d, q, (uint16_t)i);
		}
		notify(d, q);
		ok &= dev_features(d, 0);
		memset((void *)at, 0, 8192);
		queue_place(d, q, QSIZE, at, at, at);
		reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
		for (unsigned int i = 0; i < 16; i++) {
			*(volatile uint16_t *)(at + 2) += 1;
			notify(d, q);
		}
	}
	report(works(d) && ok, d, "rings on top of each other");
}

/* The second processor changes rings, tables and headers while the device reads them. */
static void attack_changing(struct dev *d)
{
	bool ok = dev_setup(d, 0);

	post_all(d, 16);
	ap_run(AP_SCRIBBLE, d);
	for (unsigned int i = 0; i < 400; i++) {
		notify(d, (uint32_t)below(d->n_queues));
		if (i % 8 == 7 && needs_reset(d)) {
			dev_setup(d, below(2) ? 0 : F_EVENT_IDX); /* may be stopped at once */
			post_all(d, 16);
		}
	}
	ap_run(AP_IDLE, NULL);
	memset((void *)TABLE, 0, 4096);
	report(works(d) && ok, d, "rings that change while they are read");
}

void attack_rings(struct dev *d)
{
	attack_chains(d);
	attack_long_table(d);
	attack_overlaps(d);
	attack_changing(d);
}

/* ---- registers ---- */

/* Where a queue cannot be. */
static void attack_places(struct dev *d)
{
	static const struct {
		uint32_t size;
		uint64_t desc, avail, used;
	} places[] = {
		{ 0, SCRATCH, SCRATCH, SCRATCH },
		{ 3, SCRATCH, SCRATCH, SCRATCH },
		{ 2048, SCRATCH, SCRATCH, SCRATCH },
		{ 0x10000, SCRATCH, SCRATCH, SCRATCH },
		{ 0x10001, SCRATCH, SCRATCH, SCRATCH },
		{ ~0u, SCRATCH, SCRATCH, SCRATCH },
		{ 1u << 31, SCRATCH, SCRATCH, SCRATCH },
		{ QSIZE, SCRATCH + 8, SCRATCH, SCRATCH },
		{ QSIZE, SCRATCH, SCRATCH + 1, SCRATCH },
		{ QSIZE, SCRATCH, SCRATCH, SCRATCH + 2 },
		{ QSIZE, RAM_END, SCRATCH, SCRATCH },
		{ QSIZE, RAM_END - 16, SCRATCH, SCRATCH },
		{ QSIZE, SCRATCH, RAM_END - 2, SCRATCH },
		{ QSIZE, SCRATCH, SCRATCH, RAM_END - 4 },
		{ QSIZE, SCRATCH, SCRATCH, RAM_END - 8 * QSIZE },
		{ QSIZE, ~0ull << 4, SCRATCH, SCRATCH },
		{ QSIZE, SCRATCH, ~0ull << 12, SCRATCH },
		{ QSIZE, SCRATCH, SCRATCH, ~0ull << 2 },
		{ QSIZE, OUTSIDE, SCRATCH, SCRATCH },
		{ QSIZE, SCRATCH, 1ull << 32, SCRATCH },
		{ QSIZE, SCRATCH, SCRATCH, 1ull << 63 },
	};
	bool ok = true;

	for (unsigned int i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		ok &= dev_features(d, 0);
		queue_place(d, i % d->n_queues, places[i].size, places[i].desc, places[i].avail,
			    places[i].used);
		ok &= needs_reset(d) && !reg_read(d, R_QUEUE_READY);
		reg_write(d, R_STATUS, S_DRIVER_OK);
		ok &= !(reg_read(d, R_STATUS) & S_DRIVER_OK);
		notify(d, i % d->n_queues);
	}
	report(works(d) && ok, d, "queues of odd sizes, in odd places");
}

/* A queue that runs is moved: no. It is stopped with requests under way, and begun again: no. */
static void attack_moves(struct dev *d)
{
	bool ok = true;

	for (uint32_t reg = R_DESC; reg < R_USED + 8; reg += 4) {
		if ((reg & 0xf) > 4)
			continue;
		ok &= dev_setup(d, 0);
		post_all(d, 4);
		reg_write(d, R_QUEUE_SEL, 0);
		reg_write(d, reg, SCRATCH);
		ok &= needs_reset(d);
		post_all(d, 8);
	}
	ok &= dev_setup(d, 0);
	reg_write(d, R_QUEUE_SEL, 0);
	reg_write(d, R_QUEUE_NUM, 8);
	ok &= needs_reset(d);
	for (unsigned int i = 0; i < 16; i++) {
		ok &= dev_setup(d, 0);
		post_all(d, 16);
		for (unsigned int q = 0; q < d->n_queues; q++) {
			reg_write(d, R_QUEUE_SEL, q);
			reg_write(d, R_QUEUE_READY, 0);
			ok &= !reg_read(d, R_QUEUE_READY);
			queue_place(d, q, 1, SCRATCH, SCRATCH + 4096, SCRATCH + 8192);
			notify(d, q);
		}
		ok &= needs_reset(d);
	}
	report(works(d) && ok, d, "queues moved and stopped while they run");
}

static void attack_status(struct dev *d)
{
	bool ok = dev_reset(d);

	for (unsigned int i = 1; i < 256; i++) {
		reg_write(d, R_STATUS, i);
		notify(d, i % d->n_queues);
		if (i % 16 == 0)
			ok &= dev_reset(d);
	}
	ok &= dev_reset(d);
	reg_write(d, R_STATUS, S_DRIVER_OK);
	ok &= !(reg_read(d, R_STATUS) & S_DRIVER_OK);
	reg_write(d, R_STATUS, ~0u);
	ok &= !(reg_read(d, R_STATUS) & (S_FEATURES_OK | S_DRIVER_OK));
	/* Features that were not offered. */
	for (unsigned int i = 0; i < 96; i++) {
		if (i < 64 && d->features & 1ull << i)
			continue;
		ok &= dev_reset(d);
		reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
		reg_write(d, R_DRIVER_FEATURES_SEL, 1);
		reg_write(d, R_DRIVER_FEATURES, 1);
		reg_write(d, R_DRIVER_FEATURES_SEL, i < 64 ? i / 32 : 0x7fffff00 + i);
		reg_write(d, R_DRIVER_FEATURES, 1u << i % 32 | (i / 32 == 1));
		reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
		ok &= !(reg_read(d, R_STATUS) & S_FEATURES_OK);
	}
	/* Ready before there are features, and queues that do not exist. */
	ok &= dev_reset(d);
	queue_place(d, 0, QSIZE, SCRATCH, SCRATCH, SCRATCH);
	ok &= needs_reset(d) && dev_features(d, 0);
	queue_place(d, d->n_queues, QSIZE, SCRATCH, SCRATCH, SCRATCH);
	queue_place(d, ~0u, QSIZE, SCRATCH, SCRATCH, SCRATCH);
	ok &= !needs_reset(d);
	report(works(d) && ok, d, "status and features out of order");
}

static void attack_notify(struct dev *d)
{
	static const uint32_t odd[] = { 18, 255, 0xffff, 0x10000, 1u << 31, ~0u };
	bool ok = true;

	for (unsigned int state = 0; state < 3; state++) {
		ok &= state == 0 ? dev_reset(d) : state == 1 ? dev_features(d, 0) : dev_setup(d, 0);
		if (state == 2)
			post_all(d, 16);
		for (unsigned int i = 0; i < 600; i++)
			notify(d, i % (d->n_queues + 2));
		for (unsigned int i = 0; i < sizeof(odd) / sizeof(odd[0]); i++)
			for (unsigned int size = 1; size <= 8; size *= 2)
				mmio_write(d->base + R_NOTIFY, size, odd[i]);
		for (unsigned int size = 1; size <= 8; size *= 2)
			for (unsigned int at = 0; at < 4; at++)
				mmio_write(d->base + R_NOTIFY - 2 + at, size, 0);
	}
	report(works(d) && ok, d, "storms of notifications");
}

static void attack_reset(struct dev *d)
{
	bool ok = true;

	for (unsigned int i = 0; i < 60; i++) {
		uint64_t until;

		ok &= dev_setup(d, i % 3 ? 0 : F_EVENT_IDX | F_INDIRECT);
		post_all(d, 16);
		until = tsc() + below(400000);
		while (i % 2 && tsc() < until)
			;
		ok &= dev_reset(d);
	}
	report(works(d) && ok, d, "resets in the middle of requests");
}

static void attack_config(struct dev *d)
{
	bool ok = true;

	for (unsigned int state = 0; state < 2; state++) {
		ok &= state ? dev_setup(d, 0) : dev_reset(d);
		for (unsigned int size = 1; size <= 8; size *= 2) {
			for (unsigned int at = 0; at < 72; at++) {
				mmio_read(d->base + R_CONFIG + at, size);
				mmio_write(d->base + R_CONFIG + at, size, rnd());
			}
			for (unsigned int at = IO_PAGE - 9; at < IO_PAGE + 4; at++)
				mmio_read(d->base + at, size);
			for (unsigned int at = IO_PAGE - 9; at <= IO_PAGE - size; at++)
				mmio_write(d->base + at, size, ~0ull);
			mmio_read(d->base + R_CONFIG - size / 2, size);
			mmio_write(d->base + R_CONFIG - size / 2, size, ~0ull);
		}
	}
	report(works(d) && ok, d, "configuration of every size and offset");
}

void random_register(const struct dev *d)
{
	static const uint16_t regs[] = {
		R_FEATURES_SEL, R_DRIVER_FEATURES, R_DRIVER_FEATURES_SEL, R_QUEUE_SEL, R_QUEUE_NUM,
		R_QUEUE_READY, R_NOTIFY, R_ACK, R_STATUS, R_DESC, R_AVAIL, R_USED, R_DESC + 4,
		R_AVAIL + 4, R_USED + 4,
	};
	uint32_t reg = regs[below(sizeof(regs) / sizeof(regs[0]))];
	uint32_t v = (uint32_t)(below(2) ? rnd() : below(2) ? below(20) : 1u << below(32));

	switch (below(12)) {
	case 0:
		mmio_read(d->base + below(IO_PAGE), 1u << below(4));
		return;
	case 1:
		reg = R_CONFIG + (uint32_t)below(64);
		break;
	case 2:
		reg = (uint32_t)below(R_DESC); /* nobody's, mostly; not where queues are placed */
		mmio_write(d->base + reg, 1u << below(4), v);
		return;
	}
	if (reg == R_STATUS)
		v = (uint32_t)(below(3) ? 0xfu >> below(4) : below(256));
	if (reg >= R_DESC && reg < R_CONFIG && reg % 16 == 0)
		v = (uint32_t)(below(4) ? SCRATCH + (rnd() & 0x1fffff0) : rnd() | RAM_END);
	if (reg >= R_DESC && reg < R_CONFIG && reg % 16 == 4)
		v = below(8) ? 0 : v;
	reg_write(d, reg, v);
}

/* One processor at it, then both, while the first one tries to use it. */
static void attack_registers(struct dev *d)
{
	for (unsigned int i = 0; i < 1500; i++)
		random_register(d);
	report(works(d), d, "random registers");
	ap_run(AP_HAMMER, d);
	for (unsigned int i = 0; i < 60; i++) {
		dev_setup(d, 0);
		post_all(d, 16);
	}
	ap_run(AP_IDLE, NULL);
	report(works(d), d, "random registers by two processors");
}

void attack_transport(struct dev *d)
{
	attack_places(d);
	attack_moves(d);
	attack_status(d);
	attack_notify(d);
	attack_reset(d);
	attack_config(d);
	attack_registers(d);
}

void attack_quickly(struct dev *d)
{
	attack_overlaps(d);
	attack_changing(d);
	attack_moves(d);
	attack_reset(d);
	attack_registers(d);
}

/* ---- the machine ---- */

/* Around the windows of devices, between RAM and them, at the edges of everything. */
static void attack_holes(unsigned int n)
{
	const uint64_t edges[] = { RAM_END, 0xc0000000, OUTSIDE - IO_PAGE, OUTSIDE + n * IO_PAGE,
				   OUTSIDE + 48 * IO_PAGE, 0xe0000000, 0xfed00000, 0xfffff000 };
	bool ok = true;

	for (unsigned int i = 0; i < sizeof(edges) / sizeof(edges[0]); i++)
		for (unsigned int at = 0; at < IO_PAGE; at += 61)
			for (unsigned int size = 1; size <= 8; size *= 2) {
				if (at + size > IO_PAGE)
					continue;
				mmio_write(edges[i] + at, size, rnd());
				ok &= (uint8_t)mmio_read(edges[i] + at, size) == 0xff;
			}
	for (uint64_t gpa = OUTSIDE + n * IO_PAGE; gpa < OUTSIDE + 0x400000; gpa += 16 * IO_PAGE)
		ok &= mmio_read(gpa, 4) == 0xffffffff;
	for (uint64_t gpa = RAM_END; gpa < OUTSIDE; gpa += 0x1000000 - 4)
		ok &= mmio_read(gpa, 4) == 0xffffffff;
	report(ok, NULL, "memory that nobody has");
}

/* Strings and odd instructions on registers. */
static void attack_instructions(const struct dev *d)
{
	uint64_t at = d->base;
	void *to = (void *)BUFFERS;
	uint32_t v = 0;

	memcpy(to, (void *)at, 512);
	memcpy((void *)(at + R_CONFIG), to, 64);
	memset((void *)(at + IO_PAGE - 64), 0xff, 64);
	__asm__ volatile("lock; xaddl %0, (%1)" : "+r"(v) : "r"(at + R_ACK) : "memory");
	__asm__ volatile("lock; cmpxchgl %0, (%1)" : : "r"(v), "r"(at + R_ACK) : "rax", "memory");
	__asm__ volatile("xchgl %0, (%1)" : "+r"(v) : "r"(at + R_ACK) : "memory");
	__asm__ volatile("orl %0, (%1)" : : "r"(v), "r"(at + R_QUEUE_SEL) : "memory");
	__asm__ volatile("pushq (%0); pop %%rax" : : "r"(at) : "rax", "memory");
	report(reg_read(d, R_MAGIC) == 0x74726976, d, "odd instructions");
}

static bool is_special(unsigned int port)
{
	/* Where the machine ends, the guest speaks, and the kernel's own devices are. */
	return port < 0xc2 || (port >= 0x3f5 && port <= 0x3ff) ||
	       (port >= 0x4cd && port <= 0x4d1) || (port >= 0x601 && port <= 0x605) ||
	       (port >= 0xcf6 && port <= 0xcf9);
}

static void attack_ports(void)
{
	uint32_t sum = 0;

	for (unsigned int port = 0; port < 0x10000; port += port < 0x1000 ? 3 : 97) {
		uint32_t v = (uint32_t)rnd();
		uint16_t p = (uint16_t)port;

		if (is_special(port))
			continue;
		__asm__ volatile("outb %%al, %%dx" : : "a"(v), "d"(p));
		__asm__ volatile("outl %%eax, %%dx" : : "a"(v), "d"(p));
		__asm__ volatile("inw %%dx, %%ax" : "=a"(v) : "d"(p));
		sum += v;
	}
	/* Across the ends of ranges that somebody has. */
	for (unsigned int port = 0x3f5; port < 0x400; port++) {
		uint32_t v;

		__asm__ volatile("inl %%dx, %%eax" : "=a"(v) : "d"((uint16_t)port));
		__asm__ volatile("inw %%dx, %%ax" : "=a"(v) : "d"((uint16_t)port));
	}
	for (unsigned int port = 0x601; port < 0x606; port++)
		__asm__ volatile("outl %%eax, %%dx" : : "a"(0), "d"((uint16_t)port));
	for (unsigned int port = 0xcf6; port < 0xcfa; port++)
		__asm__ volatile("outl %%eax, %%dx" : : "a"(0), "d"((uint16_t)port));
	/* Strings, in and out, of more than a page. */
	for (unsigned int i = 0; i < 2; i++) {
		void *to = (void *)BUFFERS;
		size_t n = 5000;

		__asm__ volatile("rep insl" : "+D"(to), "+c"(n) : "d"(i ? 0x64 : 0x5a0) : "memory");
		to = (void *)BUFFERS;
		n = 5000;
		__asm__ volatile("rep outsw" : "+S"(to), "+c"(n) : "d"(0x5a0 + i) : "memory");
	}
	report(sum != 0, NULL, "ports that nobody has");
}

static void attack_msrs(void)
{
	static const uint32_t nobodys[] = { 0x4b56c477, 0x12345678, 0xc0015fff, 0x40000fff,
					    0xffffffff, 0x00001fff, 0xdeadbeef };
	/* Of KVM: where the guest would have it write (clock, steal time, page faults, EOI). */
	static const uint32_t kvms[] = { 0x11, 0x12, 0x4b564d00, 0x4b564d01, 0x4b564d02,
					 0x4b564d03, 0x4b564d04, 0x4b564d05 };
	unsigned int refused = 0, tried = 0;

	for (unsigned int i = 0; i < sizeof(nobodys) / sizeof(nobodys[0]); i++, tried += 2) {
		refused += !try_rdmsr(nobodys[i]);
		refused += !try_wrmsr(nobodys[i], rnd());
	}
	for (unsigned int i = 0; i < sizeof(kvms) / sizeof(kvms[0]); i++) {
		try_wrmsr(kvms[i], OUTSIDE | 1);
		try_wrmsr(kvms[i], ~0ull);
		try_wrmsr(kvms[i], (RAM_END - 4) | 1);
		try_wrmsr(kvms[i], 0);
	}
	for (uint32_t msr = 0; msr < 0x2000; msr += 13)
		try_rdmsr(msr);
	for (uint32_t msr = 0xc0000000; msr < 0xc0012000; msr += 371)
		try_rdmsr(msr);
	try_wrmsr(0xc0000080, ~0ull); /* EFER */
	try_wrmsr(0x1b, ~0ull);	      /* the APIC's base */
	report(refused == tried, NULL, "registers of the processor that nobody has");
}

void attack_machine(struct dev *devs, unsigned int n)
{
	attack_holes(n);
	attack_ports();
	attack_msrs();
	for (unsigned int i = 0; i < n; i++)
		attack_instructions(&devs[i]);
	/* All devices in turn, while the second processor is at another one. */
	for (unsigned int i = 0; i < n; i++) {
		bool ok = true;

		ap_run(AP_HAMMER, &devs[i]);
		for (unsigned int k = 0; k < n; k++)
			if (k != i)
				ok &= works(&devs[k]);
		ap_run(AP_IDLE, NULL);
		report(ok && works(&devs[i]), &devs[i], "the others work while it is attacked");
	}
}
