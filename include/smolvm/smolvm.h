/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libsmolvm: run a command or a container image in a virtual machine of its own.
 *
 * The smolvm command is made of these calls and uses nothing else. In short:
 *
 *	struct smolvm_error err = SMOLVM_ERROR_INIT;
 *	struct smolvm *s;
 *	struct smolvm_image *image;
 *	struct smolvm_machine *machine;
 *	struct smolvm_exec_result result;
 *
 *	smolvm_open(&s, NULL, &err);
 *	smolvm_image_get(s, "./alpine.tar", NULL, &image, &err);
 *	smolvm_machine_start(s, &(struct smolvm_machine_config){ .image = image }, &machine, &err);
 *	smolvm_exec(machine, &(struct smolvm_exec_config){ .argv = argv, .stdin_fd = 0,
 *		    .stdout_fd = 1, .stderr_fd = 2 }, &result, &err);
 *	smolvm_machine_destroy(machine);
 *
 * Conventions. Calls that can fail return 0 (or a documented count), or a negative errno with
 * @err filled in (which may be NULL). Out-parameters are written on success only. Destructors
 * accept NULL. Nothing here exits, prints, takes signals, or changes the process's directory,
 * umask or environment. Different objects may be used from different threads at the same time;
 * one object from one thread at a time, where nothing else is said. In every struct of options,
 * all zeroes are the defaults.
 */
#ifndef SMOLVM_H
#define SMOLVM_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <smolvm/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SMOLVM_VERSION "0.1.0"

/** smolvm_version() - the version of the library that is running, a static string. */
const char *smolvm_version(void);

/* ---------------------------------------------------------------- the state folder */

struct smolvm;

/**
 * smolvm_open() - open (and make, mode 0700) the state folder.
 * @ret:  the context; smolvm_close() it after everything made from it.
 * @home: the folder; NULL: $SMOLVM_HOME, else $XDG_DATA_HOME/smolvm, else ~/.local/share/smolvm.
 *
 * What machines and imports that were killed have left behind is removed on the way.
 * Errors: -EACCES, -EROFS, -ENOSPC (the folder), -EINVAL (its database is of a newer smolvm, or
 * damaged), -ENOMEM.
 */
int smolvm_open(struct smolvm **ret, const char *home, struct smolvm_error *err);
void smolvm_close(struct smolvm *s);

/** smolvm_home() - the state folder's absolute path; valid until smolvm_close(). */
const char *smolvm_home(const struct smolvm *s);

/* ---------------------------------------------------------------- images */

/** The name of the image that smolvm carries inside itself: a shell and the usual small tools. */
#define SMOLVM_IMAGE_BASE "busybox"

/**
 * struct smolvm_image - an image of the store, read-only for the caller.
 * @id:          "sha256:" and 64 hexadecimal digits: the digest of its configuration.
 * @names:       its names ("python:3.11"), NULL-terminated, possibly empty.
 * @created_s:   when it was imported, seconds since 1970.
 * @size_bytes:  bytes that its root file system takes on disk.
 * @entrypoint, @cmd, @env: as in the OCI image configuration, NULL-terminated, possibly empty.
 * @workdir, @user, @stop_signal: likewise; never NULL, possibly "".
 * @architecture: in Go's terms ("amd64"); "" when the source does not say.
 * @rootfs_path: the EROFS file.
 */
struct smolvm_image {
	const char *id;
	const char *const *names;
	int64_t created_s;
	uint64_t size_bytes;
	const char *const *entrypoint;
	const char *const *cmd;
	const char *const *env;
	const char *workdir;
	const char *user;
	const char *stop_signal;
	const char *architecture;
	const char *rootfs_path;
};

/**
 * struct smolvm_import_options - how to import.
 * @name:     a further name for the image; NULL: only those that the source itself gives.
 * @progress: called now and then with the bytes of the source read so far and its size (0: not
 *            known), in the calling thread; a return value other than 0 abandons the import with
 *            -ECANCELED. May be NULL.
 * @stdin_fd: what the source "-" reads; 0 is standard input.
 */
struct smolvm_import_options {
	const char *name;
	int (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
	void *progress_ctx;
	int stdin_fd;
};

/**
 * smolvm_image_import() - read an image into the store.
 * @source: a "docker save" or "podman save" archive, an OCI layout (a directory, or a tar of
 *          one), a root file system (a directory, or a tar in any compression), or "-" for one of
 *          the archives on standard input.
 * @ret:    the image, smolvm_image_free() it; NULL is allowed.
 *
 * A source that was imported before, unchanged, costs nothing. When it has changed, the image that
 * it was before is deleted, unless that has a name or another source; machines that run from it go
 * on.
 * Errors: -ENOENT, -EACCES, -EINVAL (not an image, or a malformed one), -EBADMSG (a digest does
 * not match), -EFBIG (a limit is passed), -ENOSPC, -ECANCELED, -ENOMEM, -EIO.
 */
int smolvm_image_import(struct smolvm *s, const char *source,
			const struct smolvm_import_options *options, struct smolvm_image **ret,
			struct smolvm_error *err);

/**
 * smolvm_image_get() - the image that a person means by @what: a name or id (or an unambiguous
 * beginning of one, six digits at least) of the store, else a source to import. NULL or
 * SMOLVM_IMAGE_BASE is the embedded image.
 *
 * Errors: as smolvm_image_import(), and -ENOENT when it is neither.
 */
int smolvm_image_get(struct smolvm *s, const char *what,
		     const struct smolvm_import_options *options, struct smolvm_image **ret,
		     struct smolvm_error *err);

/**
 * smolvm_image_find() - the same among the images of the store only: nothing is imported.
 *
 * Errors: -ENOENT, -EINVAL (the beginning of several ids), -ENOMEM, -EIO.
 */
int smolvm_image_find(struct smolvm *s, const char *what, struct smolvm_image **ret,
		      struct smolvm_error *err);

/**
 * smolvm_image_list() - every image of the store, newest first.
 * @ret: an array of as many pointers as returned; smolvm_image_free_list() it.
 *
 * Return: how many, or a negative errno.
 */
ssize_t smolvm_image_list(struct smolvm *s, struct smolvm_image ***ret, struct smolvm_error *err);

/**
 * smolvm_image_remove() - forget a name; with the last name, or when @what is an id, delete the
 * image. A machine that runs from it goes on.
 *
 * Errors: -ENOENT, -EIO.
 */
int smolvm_image_remove(struct smolvm *s, const char *what, struct smolvm_error *err);

void smolvm_image_free(struct smolvm_image *image);
void smolvm_image_free_list(struct smolvm_image **images, size_t n);

/* ---------------------------------------------------------------- this host */

/**
 * struct smolvm_check - one line of what smolvm_doctor() finds.
 * @area:   "platform", "backend", "kvm", "kernel", "tool", "confinement", "disk" or "limit".
 * @name:   what was looked at ("qemu", "/dev/kvm", "mke2fs").
 * @status: 0 fine, 1 a warning (something is slower or missing that is not needed), 2 unusable.
 * @text:   what was found, and what to do where there is something to do.
 */
struct smolvm_check {
	char area[16];
	char name[48];
	int status;
	char text[256];
};

#define SMOLVM_CHECKS_MAX 64

/**
 * struct smolvm_diagnosis - what smolvm_doctor() finds.
 * @backend: what smolvm would choose ("" when nothing is usable), @accelerator: "kvm", "tcg" or
 *           "", @reason: why.
 */
struct smolvm_diagnosis {
	struct smolvm_check checks[SMOLVM_CHECKS_MAX];
	size_t n_checks;
	char backend[32];
	char accelerator[16];
	char reason[256];
};

/**
 * smolvm_doctor() - look at what machines would run on here; changes nothing but what @s remembers
 * of KVM, which is measured anew.
 * @s:       may be NULL: the state folder is then not looked at.
 * @backend: only this one; NULL: all.
 *
 * Return: 0 (also when nothing is usable), -EINVAL for a backend that does not exist.
 */
int smolvm_doctor(struct smolvm *s, const char *backend, struct smolvm_diagnosis *ret,
		  struct smolvm_error *err);

/* ---------------------------------------------------------------- calls that block */

/**
 * struct smolvm_control - a handle by which another thread or a signal handler reaches a call that
 * blocks. Make it before, pass it in the config, destroy it after.
 */
struct smolvm_control;

int smolvm_control_create(struct smolvm_control **ret, struct smolvm_error *err);
void smolvm_control_destroy(struct smolvm_control *c);

/** smolvm_control_signal() - send @signal to the command. Any thread; async-signal-safe. */
void smolvm_control_signal(struct smolvm_control *c, int signal);
/** smolvm_control_resize() - the terminal has a new size. Any thread; async-signal-safe. */
void smolvm_control_resize(struct smolvm_control *c, unsigned int rows, unsigned int columns);
/** smolvm_control_cancel() - give up: the call returns -EINTR. Any thread; async-signal-safe. */
void smolvm_control_cancel(struct smolvm_control *c);

/* ---------------------------------------------------------------- machines */

struct smolvm_machine;

/**
 * struct smolvm_share - a directory or file of the host that the guest sees.
 * @host:      its path; symbolic links in it are followed, once, now.
 * @guest:     an absolute path in the guest; made when missing.
 * @read_only: nothing can be changed through it.
 */
struct smolvm_share {
	const char *host;
	const char *guest;
	int read_only;
};

#define SMOLVM_CPUS_MAX         64
#define SMOLVM_MEMORY_MIB_MIN   64
#define SMOLVM_MEMORY_MIB_MAX   (8u << 20)
#define SMOLVM_MEMORY_MIB       1024 /* default; the host gives it only as the guest touches it */
#define SMOLVM_STORAGE_MIB_MIN  64
#define SMOLVM_STORAGE_MIB_MAX  (16u << 20)
#define SMOLVM_STORAGE_MIB      20480 /* default; sparse */

/**
 * struct smolvm_machine_config - a machine that lives as long as its owner.
 * @image:       its root file system; NULL: the embedded image. May be freed after the start.
 * @name:        what messages and the process list call it; NULL: one is made up.
 *               [A-Za-z0-9][A-Za-z0-9_.-]*, at most 63 bytes; not taken by another machine.
 * @hostname:    NULL: the name.
 * @cpus:        virtual CPUs, 1 to SMOLVM_CPUS_MAX; 0: 1.
 * @memory_mib:  0: SMOLVM_MEMORY_MIB.
 * @storage_mib: room for what the guest writes to its root file system; 0: SMOLVM_STORAGE_MIB.
 * @read_only:   the root file system refuses writes, /tmp, /run and /var/tmp apart.
 * @shares, @n_shares: mounted in this order.
 * @user:        who owns what is in shares as the guest sees it when the caller is not root; NULL:
 *               the image's user.
 * @kernel:      a vmlinux or bzImage of the caller's; NULL: smolvm's own.
 * @backend:     NULL: $SMOLVM_BACKEND, else the first usable one.
 * @nested:      the guest may run virtual machines of its own, with KVM.
 * @stream_shares: no share is made a device of the machine (virtio-fs), also where the backend can:
 *               for comparing the two.
 * @insecure_no_jail: the machine's process is not confined: for finding faults of smolvm only.
 * @verbose:     the guest kernel speaks; its console goes to @console_fd.
 * @console_fd:  where console output goes with @verbose; 0: descriptor 2.
 * @control:     may be NULL; smolvm_control_cancel() ends the start with -EINTR.
 */
struct smolvm_machine_config {
	const struct smolvm_image *image;
	const char *name;
	const char *hostname;
	unsigned int cpus;
	unsigned int memory_mib;
	unsigned int storage_mib;
	int read_only;
	const struct smolvm_share *shares;
	size_t n_shares;
	const char *user;
	const char *kernel;
	const char *backend;
	int nested;
	int stream_shares;
	int insecure_no_jail;
	int verbose;
	int console_fd;
	struct smolvm_control *control;
};

/**
 * smolvm_machine_start() - boot a machine and wait until commands can be run in it.
 *
 * When the calling process ends, in whatever way, the machine and what was written to it are gone.
 * Blocks until the machine is ready, at most 60 s.
 * Errors: -EINVAL (a value, with its name), -ENOENT (kernel, share, image or hypervisor missing),
 * -EEXIST (the name is taken), -ENOTSUP (the backend cannot do it), -ETIMEDOUT, -ENOSPC, -EIO (the
 * machine ended: why is in the message), -ENOMEM, -EINTR (smolvm_control_cancel()).
 */
int smolvm_machine_start(struct smolvm *s, const struct smolvm_machine_config *config,
			 struct smolvm_machine **ret, struct smolvm_error *err);

/**
 * smolvm_machine_destroy() - end the machine and wait until nothing of it is left. Running
 * commands end with it. NULL is allowed.
 */
void smolvm_machine_destroy(struct smolvm_machine *m);

/** smolvm_machine_name() - valid as long as the machine. */
const char *smolvm_machine_name(const struct smolvm_machine *m);

/**
 * enum smolvm_phase - the parts that a run's time goes into, for smolvm_machine_phase_ns().
 */
enum smolvm_phase {
	SMOLVM_PHASE_PROBE,  /* choosing the backend */
	SMOLVM_PHASE_SPAWN,  /* until the hypervisor has been started */
	SMOLVM_PHASE_KERNEL, /* from there until the agent says hello */
	SMOLVM_PHASE_AGENT,  /* file systems, shares, host name, clock */
	SMOLVM_PHASES
};

/** smolvm_machine_phase_ns() - how long @phase took, in nanoseconds. */
int64_t smolvm_machine_phase_ns(const struct smolvm_machine *m, enum smolvm_phase phase);

/**
 * struct smolvm_machine_boot - what SMOLVM_PHASE_KERNEL was made of; zeroes where the backend does
 * not tell.
 * @exits:     times that a virtual CPU left the guest.
 * @load_ns:   until the kernel was in memory, @enter_ns: from there until the guest ran,
 * @driver_ns: from there until its first device was set up.
 */
struct smolvm_machine_boot {
	uint64_t exits;
	int64_t load_ns, enter_ns, driver_ns;
};

/** smolvm_machine_boot() - of a machine that has been started. */
void smolvm_machine_boot(const struct smolvm_machine *m, struct smolvm_machine_boot *ret);

struct smolvm_vmm_counters; /* <smolvm/vmm.h> */

/**
 * smolvm_machine_counters() - what a machine has done until now: exits by kind, requests and bytes
 * of its devices. Any thread; waits for the machine's process, 5 s at most.
 *
 * Errors: -ENOTSUP (this backend does not count), -ETIMEDOUT; negative errno as told by the
 * machine's end, when it has ended.
 */
int smolvm_machine_counters(struct smolvm_machine *m, struct smolvm_vmm_counters *ret,
			    struct smolvm_error *err);

/* ---------------------------------------------------------------- commands */

/**
 * struct smolvm_exec_config - a command to run.
 * @argv:       NULL-terminated; argv[0] is looked up in the guest's PATH.
 * @env:        NULL-terminated "NAME=VALUE"; NULL: none beyond PATH, HOME (and TERM).
 * @cwd:        NULL or "": "/".
 * @user:       NULL or "": root. A name or number, with ":group" as wanted, of the guest.
 * @tty:        run it on a terminal of @rows x @columns; output is on @stdout_fd alone.
 * @stdin_fd:   read until its end; -1: the command's input is /dev/null.
 * @stdout_fd, @stderr_fd: written to; -1: thrown away. The descriptors stay the caller's; they are
 *              waited for, not made non-blocking, so a call never blocks on one of them alone.
 * @timeout_ms: after this the call returns -ETIMEDOUT, and the command is hung up; 0: none.
 * @control:    may be NULL.
 */
struct smolvm_exec_config {
	const char *const *argv;
	const char *const *env;
	const char *cwd;
	const char *user;
	int tty;
	unsigned int rows, columns;
	int stdin_fd, stdout_fd, stderr_fd;
	int64_t timeout_ms;
	struct smolvm_control *control;
};

/**
 * struct smolvm_exec_result - how a command ended.
 * @exit_code: 0 to 255 when it exited by itself.
 * @signal:    the signal that ended it, else 0.
 */
struct smolvm_exec_result {
	int exit_code;
	int signal;
};

/**
 * smolvm_exec() - run a command in a machine and move its streams until it has ended and all of its
 * output has been written.
 *
 * Several threads may run commands in one machine.
 * Errors: -ENOENT (no such command: a shell's 127), -EACCES, -ENOEXEC, -ENOTDIR, -ELOOP or -E2BIG
 * (not executable: 126), -EINVAL (user or directory), -ETIMEDOUT, -EINTR (cancelled), -ECONNRESET
 * (the machine ended; the message says how), -ENOMEM, -EIO.
 */
int smolvm_exec(struct smolvm_machine *m, const struct smolvm_exec_config *config,
		struct smolvm_exec_result *ret, struct smolvm_error *err);

#ifdef __cplusplus
}
#endif
#endif
