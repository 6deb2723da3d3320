/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare-metal guest that attacks its devices: the machine under it, and a small driver.
 *
 * It parses nothing: devices lie where they lie. Each attack is reported on the serial port as a
 * line of TAP, once the device has been reset and has answered an honest request; then it resets
 * the machine. The second processor does mischief while the first one works.
 */
#include "hostile_guest.h"

#define DEVICES_AT   0xd0000000ull
#define DEVICES_MAX  16
#define PATIENCE     40000000000ull /* of the TSC: ten seconds or more */
#define LAPIC	     0xfee00000ull
#define PORT_SERIAL  0x3f8
#define PORT_I8042   0x64

static struct ring rings[DEVICES_MAX][QUEUES_MAX] __attribute__((aligned(4096)));
_Static_assert(sizeof(struct ring) == 4096, "a page each");

static struct dev devs[DEVICES_MAX];
static unsigned int tests;
static uint64_t random_state[2];

/* ---- the processor ---- */

void *memset(void *p, int c, size_t n)
{
	void *to = p;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(c) : "memory");
	return p;
}

void *memcpy(void *to, const void *from, size_t n)
{
	void *p = to;

	__asm__ volatile("rep movsb" : "+D"(p), "+S"(from), "+c"(n) : : "memory");
	return to;
}

void say(const char *text)
{
	size_t n = 0;

	while (text[n])
		n++;
	__asm__ volatile("rep outsb" : "+S"(text), "+c"(n) : "d"(PORT_SERIAL) : "memory");
}

static char *put_text(char *p, const char *text)
{
	while (*text)
		*p++ = *text++;
	return p;
}

static char *put_number(char *p, uint64_t v, unsigned int base)
{
	char digits[24];
	unsigned int n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % base];
	while ((v /= base));
	while (n)
		*p++ = digits[--n];
	return p;
}

static void end(void)
{
	for (;;)
		out8(PORT_I8042, 0xfe);
}

static uint64_t resume_at; /* where an exception goes on; 0: none is expected */

void exception(struct frame *f)
{
	char line[80], *p = line;

	if (resume_at) {
		f->rip = resume_at;
		resume_at = 0;
		f->rax = 1;
		return;
	}
	p = put_text(p, "Bail out! exception ");
	p = put_number(p, f->vector, 10);
	p = put_text(p, " at 0x");
	p = put_number(p, f->rip, 16);
	p = put_text(p, "\n");
	*p = '\0';
	say(line);
	end();
}

bool try_rdmsr(uint32_t msr)
{
	uint64_t failed = 0;

	__asm__ volatile("movq $1f, %1\n\trdmsr\n\txor %%eax, %%eax\n1:"
			 : "=a"(failed), "=m"(resume_at) : "c"(msr) : "rdx", "memory");
	resume_at = 0;
	return !failed;
}

bool try_wrmsr(uint32_t msr, uint64_t v)
{
	uint64_t failed = (uint32_t)v;

	__asm__ volatile("movq $1f, %1\n\twrmsr\n\txor %%eax, %%eax\n1:"
			 : "+a"(failed), "=m"(resume_at)
			 : "c"(msr), "d"((uint32_t)(v >> 32)) : "memory");
	resume_at = 0;
	return !failed;
}

void mmio_write(uint64_t gpa, unsigned int size, uint64_t v)
{
	volatile void *p = (volatile void *)gpa;

	switch (size) {
	case 1:
		*(volatile uint8_t *)p = (uint8_t)v;
		break;
	case 2:
		*(volatile uint16_t *)p = (uint16_t)v;
		break;
	case 4:
		*(volatile uint32_t *)p = (uint32_t)v;
		break;
	default:
		*(volatile uint64_t *)p = v;
	}
}

uint64_t mmio_read(uint64_t gpa, unsigned int size)
{
	volatile void *p = (volatile void *)gpa;

	switch (size) {
	case 1:
		return *(volatile uint8_t *)p;
	case 2:
		return *(volatile uint16_t *)p;
	case 4:
		return *(volatile uint32_t *)p;
	default:
		return *(volatile uint64_t *)p;
	}
}

static unsigned int processor(void)
{
	unsigned int here;

	__asm__ volatile("mov %%esp, %0" : "=r"(here));
	return here <= (uintptr_t)ap_stack_top && here > (uintptr_t)ap_stack_top - STACK_BYTES;
}

uint64_t rnd(void)
{
	uint64_t *s = &random_state[processor()];

	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s * 0x2545f4914f6cdd1dull;
}

static struct gate {
	uint16_t low, selector, flags, mid;
	uint32_t high, zero;
} idt[IPI_VECTOR + 1];

static void load_idt(void)
{
	struct {
		uint16_t limit;
		uint64_t base;
	} __attribute__((packed)) pointer = { sizeof(idt) - 1, (uintptr_t)idt };

	for (unsigned int i = 0; i <= IPI_VECTOR; i++) {
		uint64_t at = i < 32 ? vectors[i] : (uintptr_t)ap_interrupt;

		idt[i] = (struct gate){ (uint16_t)at, 0x08, 0x8e00, (uint16_t)(at >> 16), 0, 0 };
	}
	__asm__ volatile("lidt %0" : : "m"(pointer));
}

/* ---- the second processor ---- */

static struct {
	volatile enum ap_job job;
	volatile bool idle;
	struct dev *volatile dev;
} ap;

static void lapic(uint32_t reg, uint32_t v)
{
	mmio_write(LAPIC + reg, 4, v);
}

static void ipi(uint32_t what)
{
	lapic(0x310, 0x01000000); /* to APIC 1 */
	lapic(0x300, what);
}

/* Somewhere a buffer may lie, or must not. */
static uint64_t random_address(void)
{
	switch (below(4)) {
	case 0:
		return RAM_END - below(64);
	case 1:
		return rnd() | RAM_END;
	default:
		return SCRATCH + (below(RAM_END - SCRATCH) & ~15ull);
	}
}

static uint32_t random_length(void)
{
	return (uint32_t)(below(4) ? below(below(2) ? 64 : 8192) : rnd());
}

static void scribble(const struct dev *d)
{
	struct ring *r = d->rings[below(d->n_queues)];
	volatile struct desc *t = below(2) ? &r->desc[below(QSIZE)] :
					     (struct desc *)TABLE + below(256);

	switch (below(8)) {
	case 0:
		*(volatile uint16_t *)&r->avail.idx = (uint16_t)(r->avail.idx + below(70));
		break;
	case 1:
		*(volatile uint16_t *)&r->avail.ring[below(QSIZE)] = (uint16_t)below(QSIZE + 2);
		break;
	case 2:
		*(volatile uint16_t *)&r->avail.used_event = (uint16_t)rnd();
		*(volatile uint16_t *)&r->used.idx = (uint16_t)rnd();
		break;
	case 3:
		*(volatile uint64_t *)(BUFFERS + below(64) * 8) = below(64) << below(60);
		break;
	case 4:
		t->flags = (uint16_t)below(8);
		t->next = (uint16_t)below(QSIZE + 1);
		break;
	case 5:
		t->len = random_length();
		break;
	default:
		t->addr = random_address();
	}
}

void ap_main(void)
{
	load_idt();
	lapic(0xf0, 0x1ff);
	for (;;) {
		__asm__ volatile("cli");
		ap.idle = ap.job == AP_IDLE;
		if (ap.idle)
			__asm__ volatile("sti; hlt" : : : "memory");
		else if (ap.job == AP_SCRIBBLE)
			scribble(ap.dev);
		else
			random_register(ap.dev);
	}
}

void ap_run(enum ap_job job, struct dev *d)
{
	if (job != AP_IDLE) /* it may still be at the last one */
		ap.dev = d;
	ap.job = job;
	if (job != AP_IDLE)
		ipi(IPI_VECTOR);
	while ((job == AP_IDLE) != ap.idle)
		__asm__ volatile("pause");
}

static void ap_start(void)
{
	memcpy((void *)AP_GPA, ap_begin, (size_t)(ap_end - ap_begin));
	lapic(0xf0, 0x1ff);
	ipi(0x4500);
	ipi(0x4600 | AP_GPA >> 12);
	while (!ap.idle)
		__asm__ volatile("pause");
}

/* ---- a small driver ---- */

void report(bool ok, const struct dev *d, const char *what)
{
	char line[200], *p = line;

	p = put_text(p, ok ? "ok " : "not ok ");
	p = put_number(p, ++tests, 10);
	p = put_text(p, " - ");
	if (d) {
		p = put_text(p, d->kind->name);
		p = put_number(p, d->index, 10);
		p = put_text(p, ": ");
	}
	p = put_text(p, what);
	p = put_text(p, "\n");
	*p = '\0';
	say(line);
}

uint32_t reg_read(const struct dev *d, uint32_t reg)
{
	return (uint32_t)mmio_read(d->base + reg, 4);
}

void reg_write(const struct dev *d, uint32_t reg, uint32_t v)
{
	mmio_write(d->base + reg, 4, v);
}

void notify(const struct dev *d, uint32_t q)
{
	reg_write(d, R_NOTIFY, q);
}

bool dev_reset(struct dev *d)
{
	reg_write(d, R_STATUS, 0);
	for (unsigned int i = 0; i < 1000; i++)
		if (reg_read(d, R_STATUS) == 0)
			return true;
	return false;
}

bool dev_features(struct dev *d, uint64_t without)
{
	uint64_t take;

	if (!dev_reset(d))
		return false;
	reg_write(d, R_STATUS, S_ACKNOWLEDGE);
	reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER);
	take = d->features & ~without;
	for (unsigned int i = 0; i < 2; i++) {
		reg_write(d, R_DRIVER_FEATURES_SEL, i);
		reg_write(d, R_DRIVER_FEATURES, (uint32_t)(take >> i * 32));
	}
	reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK);
	return reg_read(d, R_STATUS) & S_FEATURES_OK;
}

void queue_place(const struct dev *d, unsigned int q, uint32_t size, uint64_t desc, uint64_t avail,
		 uint64_t used)
{
	const uint64_t at[] = { desc, avail, used };

	reg_write(d, R_QUEUE_SEL, q);
	reg_write(d, R_QUEUE_NUM, size);
	for (unsigned int i = 0; i < 3; i++) {
		reg_write(d, R_DESC + i * 0x10, (uint32_t)at[i]);
		reg_write(d, R_DESC + i * 0x10 + 4, (uint32_t)(at[i] >> 32));
	}
	reg_write(d, R_QUEUE_READY, 1);
}

bool dev_setup(struct dev *d, uint64_t without)
{
	if (!dev_features(d, without))
		return false;
	for (unsigned int q = 0; q < d->n_queues; q++) {
		struct ring *r = d->rings[q];

		memset(r, 0, sizeof(*r));
		if (d->kind->queues[q] != '-')
			queue_place(d, q, QSIZE, (uintptr_t)r->desc, (uintptr_t)&r->avail,
				    (uintptr_t)&r->used);
	}
	reg_write(d, R_STATUS, S_ACKNOWLEDGE | S_DRIVER | S_FEATURES_OK | S_DRIVER_OK);
	return (reg_read(d, R_STATUS) & (S_DRIVER_OK | S_NEEDS_RESET)) == S_DRIVER_OK;
}

bool needs_reset(const struct dev *d)
{
	return reg_read(d, R_STATUS) & S_NEEDS_RESET;
}

bool wait_needs_reset(const struct dev *d)
{
	uint64_t from = tsc();

	while (!needs_reset(d))
		if (tsc() - from > PATIENCE)
			return false;
	return true;
}

bool wait_used(const struct dev *d, unsigned int q, uint16_t n)
{
	volatile uint16_t *idx = &d->rings[q]->used.idx;
	uint64_t from = tsc();

	while ((int16_t)(*idx - n) < 0)
		if (needs_reset(d) || tsc() - from > PATIENCE)
			return (int16_t)(*idx - n) >= 0;
	return true;
}

void set_desc(struct dev *d, unsigned int q, unsigned int i, uint64_t addr, uint32_t len,
	      unsigned int flags, unsigned int next)
{
	d->rings[q]->desc[i] = (struct desc){ addr, len, (uint16_t)flags, (uint16_t)next };
}

void publish(struct dev *d, unsigned int q, uint16_t head)
{
	struct ring *r = d->rings[q];

	r->avail.ring[r->avail.idx % QSIZE] = head;
	__atomic_store_n(&r->avail.idx, (uint16_t)(r->avail.idx + 1), __ATOMIC_SEQ_CST);
}

void send_one(struct dev *d, unsigned int q, unsigned int i, uint64_t addr, uint32_t len,
	  unsigned int flags)
{
	set_desc(d, q, i, addr, len, flags, 0);
	publish(d, q, (uint16_t)i);
	notify(d, q);
}

void post_all(struct dev *d, unsigned int n)
{
	for (unsigned int q = 0; q < d->n_queues; q++) {
		if (d->kind->queues[q] == '-')
			continue;
		for (unsigned int i = 0; i < n && i < QSIZE / 4; i++) {
			d->kind->post(d, q, i);
			publish(d, q, (uint16_t)(4 * i));
		}
		notify(d, q);
	}
}

bool works(struct dev *d)
{
	return dev_setup(d, 0) && d->kind->honest(d) && dev_reset(d);
}

/* ---- all of it ---- */

static unsigned int find_devices(void)
{
	unsigned int n = 0;

	for (uint64_t at = DEVICES_AT; n < DEVICES_MAX; at += IO_PAGE, n++) {
		struct dev *d = &devs[n];

		*d = (struct dev){ .base = at, .index = n };
		if (reg_read(d, R_MAGIC) != 0x74726976)
			break;
		for (d->kind = kinds; d->kind->id != reg_read(d, R_DEVICE_ID); d->kind++)
			;
		for (unsigned int i = 0; i < 2; i++) {
			reg_write(d, R_FEATURES_SEL, i);
			d->features |= (uint64_t)reg_read(d, R_FEATURES) << i * 32;
		}
		while (d->n_queues < QUEUES_MAX && d->kind->queues[d->n_queues]) {
			d->rings[d->n_queues] = &rings[n][d->n_queues];
			d->n_queues++;
		}
	}
	return n;
}

/* The command line: a number, and "q" behind it for the quick attacks only. */
static unsigned int read_seed(bool *quick)
{
	const char *p = *(const char **)(uintptr_t)(start_info + 24);
	unsigned int v = 0;

	while (*p >= '0' && *p <= '9')
		v = v * 10 + (unsigned int)(*p++ - '0');
	*quick = *p == 'q';
	return v;
}

void guest_main(void)
{
	char line[32], *p = line;
	unsigned int n;
	bool quick;

	random_state[0] = (read_seed(&quick) + 1ull) * 0x9e3779b97f4a7c15ull;
	random_state[1] = ~random_state[0];
	load_idt();
	ap_start();
	n = find_devices();
	for (unsigned int i = 0; i < n; i++)
		report(works(&devs[i]), &devs[i], "works");
	for (unsigned int i = 0; i < n; i++) {
		if (quick) {
			attack_quickly(&devs[i]);
			continue;
		}
		attack_rings(&devs[i]);
		attack_transport(&devs[i]);
		attack_device(&devs[i]);
	}
	if (!quick)
		attack_machine(devs, n);
	for (unsigned int i = 0; i < n; i++)
		report(works(&devs[i]), &devs[i], "works after all of that");
	p = put_text(p, "1..");
	p = put_number(p, tests, 10);
	p = put_text(p, "\n");
	*p = '\0';
	say(line);
	end();
}
