/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at what machines would run on here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/err.h"
#include "base/fd.h"
#include "base/path.h"
#include "base/proc.h"
#include "machine/machine.h"
#include "store/store.h"

#define QEMU_VERSION "QEMU emulator version "
#define LOW_DISK_BYTES (2ull << 30)
#define LOW_FILES 1024u
#define LOW_MEMORY_MIB 1024ull

__attribute__((format(printf, 5, 6))) static void note(struct smolvm_diagnosis *d, const char *area,
						       const char *name, int status,
						       const char *fmt, ...)
{
	struct smolvm_check *c = &d->checks[d->n_checks];
	va_list ap;

	if (d->n_checks == SMOLVM_CHECKS_MAX)
		return;
	d->n_checks++;
	snprintf(c->area, sizeof(c->area), "%s", area);
	snprintf(c->name, sizeof(c->name), "%s", name);
	c->status = status;
	va_start(ap, fmt);
	vsnprintf(c->text, sizeof(c->text), fmt, ap);
	va_end(ap);
}

static void check_platform(struct smolvm_diagnosis *d)
{
	struct utsname u;

	uname(&u);
	note(d, "platform", "host", 0, "%s %s, %s, %ld CPUs", u.sysname, u.release, u.machine,
	     sysconf(_SC_NPROCESSORS_ONLN));
#if !defined(__x86_64__)
	note(d, "platform", "guest kernel", 1, "no guest kernel is built for %s yet", u.machine);
#endif
}

static void check_kvm(struct smolvm_diagnosis *d, const struct backend_host *host)
{
	note(d, "kvm", "/dev/kvm", host->kvm_usable ? 0 : 1, "%s", host->kvm_text);
}

/* What @program says to one option, as much as a pipe takes; "" when it fails. */
static void ask_program(const char *program, const char *option, char *ret, size_t cap)
{
	const char *const argv[] = { program, option, NULL };
	struct proc_fd out = { -1, 1 };
	struct proc_config config = { .path = program, .argv = argv, .fds = &out, .n_fds = 1 };
	int fds[2], rc;
	ssize_t n;

	ret[0] = '\0';
	if (pipe(fds) < 0)
		return;
	out.from = fds[1];
	rc = proc_run(&config, 10000, NULL);
	close(fds[1]);
	n = rc == 0 ? fd_read_full(fds[0], ret, cap - 1) : 0;
	ret[n > 0 ? n : 0] = '\0';
	close(fds[0]);
}

static void check_version(struct smolvm_diagnosis *d, const char *program)
{
	char text[256];
	long major = 0;

	ask_program(program, "--version", text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	if (!strncmp(text, QEMU_VERSION, sizeof(QEMU_VERSION) - 1))
		major = strtol(text + sizeof(QEMU_VERSION) - 1, NULL, 10);
	if (!major)
		note(d, "tool", "qemu", 2, "%s does not run", program);
	else
		note(d, "tool", "qemu", major < 6 ? 2 : 0, "%s%s", text,
		     major < 6 ? ": version 6 or newer is needed" : "");
}

static void check_backends(struct smolvm_diagnosis *d, const struct backend_host *host,
			   const char *only)
{
	for (const struct backend *const *b = backend_table; *b; b++) {
		struct backend_probe p;

		if (only && strcmp(only, (*b)->name))
			continue;
		(*b)->probe(host, &p);
		note(d, "backend", (*b)->name, p.usable ? 0 : 2, "%s", p.text);
		if (p.usable && !*d->backend) {
			snprintf(d->backend, sizeof(d->backend), "%s", (*b)->name);
			snprintf(d->accelerator, sizeof(d->accelerator), "%s",
				 accelerator_name(p.accelerator));
			snprintf(d->reason, sizeof(d->reason), "%s",
				 only ? "it was asked for"
				 : p.accelerator == ACCEL_KVM
					 ? "the first backend that is usable here"
					 : "the first backend that is usable here; emulated, since "
					   "KVM is not usable");
		}
		if (p.program[0])
			check_version(d, p.program);
	}
	if (!*d->backend)
		snprintf(d->reason, sizeof(d->reason), "no backend is usable here");
}

static void check_file(struct smolvm_diagnosis *d, const char *area, const char *name,
		       const char *advice)
{
	AUTO_FREE char *path = program_file(name);

	note(d, area, name, path ? 0 : 2, "%s", path ? path : advice);
}

static void check_tools(struct smolvm_diagnosis *d)
{
	AUTO_FREE char *mke2fs = path_find_tool("mke2fs");

	check_file(d, "kernel", "vmlinux",
		   "the guest kernel is missing: 'make' builds it, or give one "
		   "with --kernel");
	check_file(d, "tool", "smolvm-vmm", "missing beside smolvm: build or install both");
	note(d, "tool", "mke2fs", mke2fs ? 0 : 2, "%s",
	     mke2fs ? mke2fs : "not installed: 'sudo apt-get install e2fsprogs'");
}

/* The process that would be confined tries it: a line for each layer, see vmmproc/confine.c. */
static void check_confinement(struct smolvm_diagnosis *d)
{
	AUTO_FREE char *program = program_file("smolvm-vmm");
	char lines[4096], *line, *rest = lines;

	if (!program)
		return;
	ask_program(program, "--confinement", lines, sizeof(lines));
	if (!*lines)
		note(d, "confinement", "smolvm-vmm", 2, "%s cannot tell how it would be confined",
		     program);
	while ((line = strsep(&rest, "\n")) && *line) {
		const char *name = strsep(&line, "\t"), *state = strsep(&line, "\t");

		if (!state || !line)
			break;
		note(d, "confinement", name, strcmp(state, "on") ? 1 : 0, "%s%s",
		     strcmp(state, "on") ? "not in force: " : "", line);
	}
}

static void check_disk(struct smolvm_diagnosis *d, const struct smolvm *s)
{
	struct statvfs v;
	unsigned long long free_bytes;

	if (!s || statvfs(s->home, &v) < 0)
		return;
	free_bytes = (unsigned long long)v.f_bavail * v.f_frsize;
	note(d, "disk", "state folder", s->read_only || free_bytes < LOW_DISK_BYTES ? 1 : 0,
	     "%s, %.1f GB free%s", s->home, (double)free_bytes / 1e9,
	     s->read_only                  ? ", read-only: images cannot be added"
	     : free_bytes < LOW_DISK_BYTES ? ": little room for images and what machines write"
					   : "");
}

static void check_limits(struct smolvm_diagnosis *d)
{
	AUTO_FREE char *text = NULL;
	unsigned long long kib = 0;
	struct rlimit files;
	const char *p;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0)
		note(d, "limit", "open files", files.rlim_max < LOW_FILES ? 1 : 0,
		     "%llu at most for each machine%s", (unsigned long long)files.rlim_max,
		     files.rlim_max < LOW_FILES ? ": raise it with 'ulimit -n' or limits.conf"
						: "");
	if (file_read("/proc/meminfo", 65536, &text) > 0 && (p = strstr(text, "MemAvailable:")))
		kib = strtoull(p + 13, NULL, 10);
	note(d, "limit", "memory", kib / 1024 < LOW_MEMORY_MIB ? 1 : 0, "%llu MiB can be had%s",
	     kib / 1024,
	     kib / 1024 < LOW_MEMORY_MIB ? ": less than a machine of default size may use" : "");
}

int smolvm_doctor(struct smolvm *s, const char *backend, struct smolvm_diagnosis *ret,
		  struct smolvm_error *err)
{
	const char *only = backend && *backend ? backend : getenv("SMOLVM_BACKEND");
	struct backend_host host;

	if (only && !*only)
		only = NULL;
	if (only && !backend_find(only)) {
		const struct backend *found;
		struct backend_probe probe;

		return choose_backend(s, only, &found, &probe, err);
	}
	*ret = (struct smolvm_diagnosis){ .n_checks = 0 };
	check_platform(ret);
	choose_host(s, true, &host);
	check_kvm(ret, &host);
	check_backends(ret, &host, only);
	check_tools(ret);
	check_confinement(ret);
	check_disk(ret, s);
	check_limits(ret);
	return 0;
}
