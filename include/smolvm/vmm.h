/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsmolvm-vmm: a virtual machine monitor as a library.
 *
 * One struct smolvm_vmm is one virtual machine in the calling process: a kernel, virtual CPUs,
 * memory and virtio devices, on the host's hypervisor (KVM). In short:
 *
 *	struct smolvm_vmm *vmm;
 *	struct smolvm_vmm_exit end;
 *
 *	smolvm_vmm_create(&vmm, &(struct smolvm_vmm_config){ .kernel_fd = kernel, .memory_mib = 256,
 *			  .cmdline = "console=ttyS0", .serial_fd = 1 }, &err);
 *	smolvm_vmm_add_disk(vmm, &(struct smolvm_vmm_disk){ .fd = disk }, &err);
 *	smolvm_vmm_start(vmm, &err);
 *	smolvm_vmm_wait(vmm, -1, &end, &err);
 *	smolvm_vmm_destroy(vmm);
 *
 * Conventions. Calls return 0 (or a documented count), or a negative errno with @err filled in
 * (which may be NULL). Nothing here exits, prints, installs signal handlers, or changes the
 * process's directory, umask, environment, limits or user; there is no global state, so that
 * machines in one process know nothing of each other. Threads that the library makes have every
 * signal blocked. A virtual CPU is called back from its loop by SIGRTMIN + 7, sent to its thread
 * alone, where it is blocked and never delivered to a handler.
 *
 * Threads. create, add_*, start and destroy: one thread at a time for one machine. Everything else
 * may be called by any thread between start and destroy. Descriptors: what is handed over in a
 * config becomes the machine's when the call succeeds, and is closed with it, where nothing else
 * is said.
 */
#ifndef SMOLVM_VMM_H
#define SMOLVM_VMM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct smolvm_vmm;

#define SMOLVM_VMM_CPUS_MAX	   64
#define SMOLVM_VMM_MEMORY_MIB_MIN  32
#define SMOLVM_VMM_MEMORY_MIB_MAX  (8u << 20)
#define SMOLVM_VMM_CMDLINE_MAX	   2047 /* bytes, what the library adds included */
#define SMOLVM_VMM_DEVICES_MAX	   48

/** enum smolvm_vmm_thread - the kinds of threads that the library makes. */
enum smolvm_vmm_thread {
	SMOLVM_VMM_THREAD_VCPU,	  /* runs the guest; register accesses of devices */
	SMOLVM_VMM_THREAD_IO,	  /* the event loop: console, vsock, net, rng, balloon */
	SMOLVM_VMM_THREAD_WORKER, /* waits for disks */
	SMOLVM_VMM_THREAD_FS,	  /* serves one shared folder */
};

/**
 * struct smolvm_vmm_config - a machine. All zeroes are the defaults, where there are any.
 * @name:         begins the names of its threads; NULL: "vmm". At most 8 bytes are used.
 * @cpus:         1 to SMOLVM_VMM_CPUS_MAX and what the hypervisor takes; 0: 1.
 * @memory_mib:   0: 256. Reserved, not taken: the host gives a page as the guest touches it.
 * @huge_pages:   ask for 2 MiB pages (transparent; a host that has none free gives small ones).
 * @shared_memory: the memory is a file without a name (memfd), which smolvm_vmm_memory_fd() gives
 *                to whoever is to share it; otherwise it is this process's alone.
 * @kernel_fd:    an ELF vmlinux (PVH or 64-bit entry) or a bzImage; read by start(), and stays the
 *                caller's, who may close it after create(). On x86 it finds its processors by the
 *                MP table (Linux's CONFIG_X86_MPPARSE) and virtio devices by its command line
 *                (CONFIG_VIRTIO_MMIO_CMDLINE_DEVICES). A guest resets itself by "reboot=k" or
 *                "reboot=t", and switches itself off by writing 0x2000 to port 0x604.
 * @initramfs, @initramfs_bytes: copied at start(); stays the caller's. NULL: none.
 * @cmdline:      the kernel's; devices are added to it. NULL: "".
 * @nested:       the guest may use the processor's virtualization itself.
 * @kvm_fd:       an open /dev/kvm, stays the caller's; 0: it is opened.
 * @serial_fd:    what the guest writes to its serial port (ttyS0) goes here, and stays the
 *                caller's; written without waiting: what it does not take at once is lost. 0:
 *                there is no such port.
 * @paused:       start() leaves the guest before its first instruction: smolvm_vmm_resume() lets it
 *                run. For what takes all threads to be there, such as confining the caller's own.
 * @thread_started: called first thing in each thread that the library makes, for confining it;
 *                anything but 0 makes start() fail with that negative errno. May be NULL.
 */
struct smolvm_vmm_config {
	const char *name;
	unsigned int cpus;
	unsigned int memory_mib;
	int huge_pages;
	int shared_memory;
	int kernel_fd;
	const void *initramfs;
	size_t initramfs_bytes;
	const char *cmdline;
	int nested;
	int paused;
	int kvm_fd;
	int serial_fd;
	int (*thread_started)(void *ctx, enum smolvm_vmm_thread kind);
	void *thread_started_ctx;
};

/**
 * smolvm_vmm_create() - make a machine; nothing runs yet.
 *
 * Errors: -EINVAL (a value, named), -ENOENT, -EACCES, -ENODEV (no hypervisor), -ENOTSUP (it lacks
 * something, named), -ENOMEM, -E2BIG (the command line is too long, the initramfs larger than the
 * memory), -EIO.
 */
int smolvm_vmm_create(struct smolvm_vmm **ret, const struct smolvm_vmm_config *config,
		      struct smolvm_error *err);

/**
 * smolvm_vmm_memory_fd() - the file that is the guest's memory, with @shared_memory; it stays the
 * machine's. The RAM below 3 GiB lies at offset 0, what is beyond (from guest physical address
 * 4 GiB on) follows it. Return: the descriptor, or -ENODEV.
 */
int smolvm_vmm_memory_fd(const struct smolvm_vmm *vmm);

/** smolvm_vmm_destroy() - stop it if it runs, and free everything. NULL is allowed. */
void smolvm_vmm_destroy(struct smolvm_vmm *vmm);

/* ---------------------------------------------------------------- devices, before start() */

/* Errors of every add: -EINVAL (a value, named), -ENOSPC (SMOLVM_VMM_DEVICES_MAX), -EBUSY (it has
 * been started), -ENOMEM, and what is said below. -EMFILE, -ENFILE (no descriptors for the queues):
 * those in the config are closed in this case, too. */

/**
 * struct smolvm_vmm_disk - a virtio block device; the n-th is /dev/vda, /dev/vdb, ...
 * @fd:        a regular file or block device, a raw image of whole 512-byte sectors.
 * @read_only: the guest cannot write.
 * @queues:    request queues, 1 to 8; 0: 1.
 * @unsafe_cache: FLUSH does nothing: for data that is not meant to outlive the machine.
 */
struct smolvm_vmm_disk {
	int fd;
	int read_only;
	unsigned int queues;
	int unsafe_cache;
};
int smolvm_vmm_add_disk(struct smolvm_vmm *vmm, const struct smolvm_vmm_disk *disk,
			struct smolvm_error *err);

#define SMOLVM_VMM_PORTS_MAX 8

/**
 * struct smolvm_vmm_console - a virtio console. Port 0 is the guest's hvc0.
 * @ports:  for each, @name (NULL: none), what the guest reads (@in_fd) and where what it writes
 *          goes (@out_fd); -1: nothing. They may be the same descriptor. Made non-blocking.
 *          A guest is held back while @out_fd takes nothing.
 */
struct smolvm_vmm_console {
	struct smolvm_vmm_port {
		const char *name;
		int in_fd, out_fd;
	} ports[SMOLVM_VMM_PORTS_MAX];
	size_t n_ports;
};
int smolvm_vmm_add_console(struct smolvm_vmm *vmm, const struct smolvm_vmm_console *console,
			   struct smolvm_error *err);

/**
 * struct smolvm_vmm_vsock - the machine's sockets to the host; one at most.
 * @cid:      the guest's address, 3 or more; 0: 3. The host is 2.
 * @incoming: the guest connects to @port of the host: return a connected, non-blocking stream
 *            socket, which becomes the machine's, or -errno to refuse. In the I/O thread; must not
 *            block. NULL: everything is refused.
 */
struct smolvm_vmm_vsock {
	uint32_t cid;
	int (*incoming)(void *ctx, uint32_t port);
	void *ctx;
};
int smolvm_vmm_add_vsock(struct smolvm_vmm *vmm, const struct smolvm_vmm_vsock *vsock,
			 struct smolvm_error *err);

/**
 * struct smolvm_vmm_fs - a shared folder, virtio-fs: the guest mounts @tag.
 * @root_fd:   the directory, or regular file, O_PATH.
 * @tag:       1 to 36 bytes.
 * @read_only: nothing can be changed through it.
 */
struct smolvm_vmm_fs {
	int root_fd;
	const char *tag;
	int read_only;
};
int smolvm_vmm_add_fs(struct smolvm_vmm *vmm, const struct smolvm_vmm_fs *fs,
		      struct smolvm_error *err);

/**
 * smolvm_vmm_fs_user() - whom the calling process's user stands for in the guest, in the share
 * @tag. Without privilege only: what belongs to the caller is shown as belonging to @uid and @gid;
 * 0 and 0 unless this is called. At any time, best before the guest mounts it. Errors: -ENOENT.
 */
int smolvm_vmm_fs_user(struct smolvm_vmm *vmm, const char *tag, uint32_t uid, uint32_t gid,
		       struct smolvm_error *err);

/**
 * struct smolvm_vmm_net - a network card whose frames go over a stream socket, each behind its
 * length as 32 bits, big endian: what passt and QEMU's "-netdev stream" speak.
 * @fd:  the connected socket.
 * @mac: all zeroes: a random local one.
 */
struct smolvm_vmm_net {
	int fd;
	uint8_t mac[6];
};
int smolvm_vmm_add_net(struct smolvm_vmm *vmm, const struct smolvm_vmm_net *net,
		       struct smolvm_error *err);

/** smolvm_vmm_add_rng() - a source of entropy, the host's getrandom(). */
int smolvm_vmm_add_rng(struct smolvm_vmm *vmm, struct smolvm_error *err);

/**
 * smolvm_vmm_add_balloon() - gives memory that the guest has freed back to the host (free page
 * reporting), and takes as much as smolvm_vmm_balloon() asks for.
 */
int smolvm_vmm_add_balloon(struct smolvm_vmm *vmm, struct smolvm_error *err);

/* ---------------------------------------------------------------- life */

/**
 * smolvm_vmm_start() - load the kernel, make the threads, and let it run (unless @paused). Once.
 *
 * Errors: -ENOEXEC (no kernel, or for another machine), -E2BIG (it, the initramfs or the command
 * line does not fit), -EBUSY (a second time), -EAGAIN (no threads), -ENOMEM, -EIO.
 */
int smolvm_vmm_start(struct smolvm_vmm *vmm, struct smolvm_error *err);

/**
 * enum smolvm_vmm_reason - why a machine no longer runs.
 *
 * What a kernel does when it panics is its own affair: it says so on its console, and then halts
 * (SMOLVM_VMM_HALTED) or restarts in the way that its command line names ("panic=-1 reboot=t": a
 * SMOLVM_VMM_TRIPLE_FAULT).
 */
enum smolvm_vmm_reason {
	SMOLVM_VMM_STOPPED = 1,	 /* smolvm_vmm_stop() */
	SMOLVM_VMM_RESET,	 /* the guest reset itself: reboot, mostly */
	SMOLVM_VMM_POWEROFF,	 /* the guest switched itself off */
	SMOLVM_VMM_TRIPLE_FAULT, /* an exception that could not be handled; also "reboot=t" */
	SMOLVM_VMM_HALTED,	 /* every virtual CPU halted with interrupts off, for ever */
	SMOLVM_VMM_FAILED,	 /* the hypervisor or this library could not go on */
};

/**
 * struct smolvm_vmm_exit - the end of a machine.
 * @error: for SMOLVM_VMM_FAILED a positive errno, else 0; @text: one line for a person.
 */
struct smolvm_vmm_exit {
	enum smolvm_vmm_reason reason;
	int error;
	char text[160];
};

/** smolvm_vmm_exit_fd() - becomes readable when the machine has ended; do not read or close it. */
int smolvm_vmm_exit_fd(const struct smolvm_vmm *vmm);

/**
 * smolvm_vmm_wait() - until the machine has ended, at most @timeout_ms; -1: for ever, 0: just look.
 *
 * Errors: -ETIMEDOUT.
 */
int smolvm_vmm_wait(struct smolvm_vmm *vmm, int timeout_ms, struct smolvm_vmm_exit *ret,
		    struct smolvm_error *err);

/** smolvm_vmm_stop() - end it now; returns when no virtual CPU runs. Nothing is told the guest. */
void smolvm_vmm_stop(struct smolvm_vmm *vmm);

/**
 * smolvm_vmm_pause() - hold every virtual CPU; returns when none runs. Devices finish what they
 * have begun. Errors: -ESRCH (it has ended).
 */
int smolvm_vmm_pause(struct smolvm_vmm *vmm, struct smolvm_error *err);

/** smolvm_vmm_resume() - let them run again. Errors: -ESRCH (it has ended). */
int smolvm_vmm_resume(struct smolvm_vmm *vmm, struct smolvm_error *err);

/**
 * smolvm_vmm_vsock_connect() - connect @fd to @port of the guest.
 * @fd:       a connected stream socket, the machine's in any case from now on; non-blocking.
 * @greeting: written to @fd before anything else once the guest has accepted; NULL: nothing.
 *            Copied; at most 63 bytes.
 *
 * Returns at once. A guest that refuses, or does not answer within 10 s, has @fd closed.
 * Errors: -ENODEV (no vsock), -ENOMEM, -ESRCH (the machine has ended).
 */
int smolvm_vmm_vsock_connect(struct smolvm_vmm *vmm, uint32_t port, int fd, const char *greeting,
			     struct smolvm_error *err);

/**
 * smolvm_vmm_balloon() - ask the guest to give up @mib MiB of its memory, 0 to give them back.
 * Errors: -ENODEV (no balloon), -EINVAL (more than there is).
 */
int smolvm_vmm_balloon(struct smolvm_vmm *vmm, unsigned int mib, struct smolvm_error *err);

/**
 * struct smolvm_vmm_memory - what the guest's balloon driver says of its memory, in bytes; the
 * last two are counts. UINT64_MAX: not said.
 * @free_bytes: of nobody; @available_bytes: to be had without swapping; @cached_bytes: files'.
 */
struct smolvm_vmm_memory {
	uint64_t total_bytes, free_bytes, available_bytes, cached_bytes;
	uint64_t swapped_in_bytes, swapped_out_bytes;
	uint64_t major_faults, minor_faults;
};

/**
 * smolvm_vmm_memory() - what the guest said last; it is asked to speak again, for the next call.
 * Errors: -ENODEV (no balloon).
 */
int smolvm_vmm_memory(struct smolvm_vmm *vmm, struct smolvm_vmm_memory *ret,
		      struct smolvm_error *err);

/* ---------------------------------------------------------------- what it has done */

/**
 * struct smolvm_vmm_counters - since start(). Each only grows, but the balloon's.
 * @exits_*: times that a virtual CPU came back to this library, by kind; @exits: all of them.
 * @notifies, @interrupts: from the guest to devices, and back.
 * @*_requests: completed; @*_bytes: payload moved in either direction.
 * @device_errors: devices that a malformed request has stopped ("needs reset").
 * @reported_bytes: memory that free page reporting gave back, @balloon_bytes: held now.
 */
struct smolvm_vmm_counters {
	uint64_t exits, exits_mmio, exits_io, exits_halt, exits_interrupted, exits_other;
	uint64_t notifies, interrupts;
	uint64_t disk_requests, disk_bytes;
	uint64_t console_bytes;
	uint64_t vsock_packets, vsock_bytes;
	uint64_t fs_requests, fs_bytes;
	uint64_t net_packets, net_bytes;
	uint64_t rng_bytes;
	uint64_t device_errors;
	uint64_t reported_bytes, balloon_bytes;
};
void smolvm_vmm_counters(struct smolvm_vmm *vmm, struct smolvm_vmm_counters *ret);

/**
 * struct smolvm_vmm_timeline - CLOCK_MONOTONIC in ns; 0: not yet.
 * @create, @start: the calls; @loaded: kernel and initramfs are in memory; @run: the first virtual
 * CPU enters the guest; @first_exit: the guest's first access to a device or port; @driver: the
 * first device that the guest's driver has set up; @end.
 */
struct smolvm_vmm_timeline {
	int64_t create, start, loaded, run, first_exit, driver, end;
};
void smolvm_vmm_timeline(struct smolvm_vmm *vmm, struct smolvm_vmm_timeline *ret);

/** smolvm_vmm_version() - the version of the library that is running, a static string. */
const char *smolvm_vmm_version(void);

#ifdef __cplusplus
}
#endif
#endif
