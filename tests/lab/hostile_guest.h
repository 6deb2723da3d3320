/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bare-metal guest that attacks its devices: what its parts share.
 *
 * Its memory: what is below the program is given up to whatever a queue at address 0 makes a device
 * write there; what is above it is where attacks lie, and goes up to the end of RAM, so that no
 * length that a device accepts reaches the program.
 */
#ifndef LAB_HOSTILE_GUEST_H
#define LAB_HOSTILE_GUEST_H

#define RAM_MIB	     64
#define RAM_END	     0x4000000
#define SCRATCH	     0x2000000
#define TABLE	     SCRATCH		/* indirect tables */
#define BUFFERS	     (SCRATCH + 0x100000)
#define BUFFER_BYTES 0x1e00000		/* to the last 1 MiB but one */
#define AP_GPA	     0x8000
#define IPI_VECTOR   0x40
#define STACK_BYTES  0x8000
#define IO_PAGE	     0x1000

#ifndef __ASSEMBLER__

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- the processor (hostile_guest.S, hostile_guest.c) ---- */

struct frame {
	uint64_t r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax;
	uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

extern const uint8_t ap_begin[], ap_end[];
extern const uint64_t vectors[];
extern uint32_t start_info;
extern uint8_t ap_stack_top[];
void ap_interrupt(void);
void exception(struct frame *f);
void ap_main(void);
void guest_main(void);
void *memset(void *p, int c, size_t n);
void *memcpy(void *to, const void *from, size_t n);

/* Accesses that may end in an exception, which is swallowed: false then. */
bool try_rdmsr(uint32_t msr);
bool try_wrmsr(uint32_t msr, uint64_t v);

static inline uint64_t tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

static inline void out8(uint16_t port, uint8_t v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port) : "memory");
}

/* Of 1, 2, 4 or 8 bytes. */
void mmio_write(uint64_t gpa, unsigned int size, uint64_t v);
uint64_t mmio_read(uint64_t gpa, unsigned int size);

/* Different for each processor. */
uint64_t rnd(void);
static inline uint64_t below(uint64_t n)
{
	return rnd() % n;
}

/* What the second processor does until it is told to do nothing. */
struct dev;
enum ap_job { AP_IDLE, AP_SCRIBBLE, AP_HAMMER };
void ap_run(enum ap_job job, struct dev *d);

/* "ok NUMBER - DEVICE: WHAT", or "not ok". */
void report(bool ok, const struct dev *d, const char *what);
void say(const char *text);

/* ---- virtio (hostile_guest.c) ---- */

#define QUEUES_MAX 18
#define QSIZE	   64u

#define D_NEXT	   1u
#define D_WRITE	   2u
#define D_INDIRECT 4u

#define F_INDIRECT  (1ull << 28)
#define F_EVENT_IDX (1ull << 29)
#define F_VERSION_1 (1ull << 32)

#define S_ACKNOWLEDGE 1u
#define S_DRIVER      2u
#define S_DRIVER_OK   4u
#define S_FEATURES_OK 8u
#define S_NEEDS_RESET 64u

enum reg {
	R_MAGIC = 0x00,
	R_DEVICE_ID = 0x08,
	R_FEATURES = 0x10,
	R_FEATURES_SEL = 0x14,
	R_DRIVER_FEATURES = 0x20,
	R_DRIVER_FEATURES_SEL = 0x24,
	R_QUEUE_SEL = 0x30,
	R_QUEUE_NUM_MAX = 0x34,
	R_QUEUE_NUM = 0x38,
	R_QUEUE_READY = 0x44,
	R_NOTIFY = 0x50,
	R_ISR = 0x60,
	R_ACK = 0x64,
	R_STATUS = 0x70,
	R_DESC = 0x80,
	R_AVAIL = 0x90,
	R_USED = 0xa0,
	R_CONFIG = 0x100,
};

struct desc {
	uint64_t addr;
	uint32_t len;
	uint16_t flags, next;
};

/* One queue in one page. */
struct ring {
	struct desc desc[QSIZE];
	struct {
		uint16_t flags, idx, ring[QSIZE], used_event;
	} avail;
	uint8_t pad[1024 - 6 - 2 * QSIZE];
	struct {
		uint16_t flags, idx;
		struct {
			uint32_t id, len;
		} ring[QSIZE];
		uint16_t avail_event;
	} used;
	uint8_t pad2[2048 - 8 - 8 * QSIZE];
};

enum { ID_NET = 1, ID_BLK, ID_CONSOLE, ID_RNG, ID_BALLOON, ID_VSOCK = 19, ID_FS = 26 };

/*
 * A type of device. @queues: for each: 'i': it writes, 'o': it reads, 'b': first one, then the
 * other, '-': not there. @eager: those that it takes requests from when told, bits. @honest: one
 * good request on a device that has been set up; @post: fills slot @i of queue @q (four
 * descriptors from 4 * @i on) with a request that is fine, or nearly.
 */
struct kind {
	uint32_t id;
	const char *name;
	const char *queues;
	uint32_t eager;
	bool (*honest)(struct dev *d);
	void (*post)(struct dev *d, unsigned int q, unsigned int i);
};

struct dev {
	const struct kind *kind;
	uint64_t base;
	unsigned int index, n_queues;
	uint64_t features;
	struct ring *rings[QUEUES_MAX];
};

extern const struct kind kinds[];

uint32_t reg_read(const struct dev *d, uint32_t reg);
void reg_write(const struct dev *d, uint32_t reg, uint32_t v);
void notify(const struct dev *d, uint32_t q);

/* Write 0 to the status and wait. */
bool dev_reset(struct dev *d);
/* Reset, features (offered and not in @without), every queue, DRIVER_OK. */
bool dev_setup(struct dev *d, uint64_t without);
/* Up to FEATURES_OK. */
bool dev_features(struct dev *d, uint64_t without);
void queue_place(const struct dev *d, unsigned int q, uint32_t size, uint64_t desc, uint64_t avail,
		 uint64_t used);
bool needs_reset(const struct dev *d);
bool wait_needs_reset(const struct dev *d);
/* Until @n requests of queue @q have been given back. */
bool wait_used(const struct dev *d, unsigned int q, uint16_t n);
/* Make @head available as the next request of @q. */
void publish(struct dev *d, unsigned int q, uint16_t head);
void set_desc(struct dev *d, unsigned int q, unsigned int i, uint64_t addr, uint32_t len,
	      unsigned int flags, unsigned int next);
/* One descriptor, made available and notified. */
void send_one(struct dev *d, unsigned int q, unsigned int i, uint64_t addr, uint32_t len,
	  unsigned int flags);
/* @n requests in each queue, of the kind's own. */
void post_all(struct dev *d, unsigned int n);
/* Set up, one good request: it works. */
bool works(struct dev *d);

/* ---- attacks ---- */

void attack_rings(struct dev *d);      /* hostile_attacks.c */
void attack_transport(struct dev *d);  /* hostile_attacks.c */
void attack_machine(struct dev *devs, unsigned int n);
void attack_device(struct dev *d);     /* hostile_devices.c */
/* Some that do not need many exits, for several machines beside each other. */
void attack_quickly(struct dev *d);
/* A random write to a register, of which no harm can come to this program. */
void random_register(const struct dev *d);

#endif
#endif
