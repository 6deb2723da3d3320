/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock: no file, no socket, no signal beyond what is named.
 *
 * Everything that this kernel's version can forbid is forbidden; rules then allow a little of it
 * below some files and folders. What was open before stays usable as it was opened. Constants are
 * here because the headers of a build host may be older than the kernel that smolvm runs on.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fd.h"
#include "jail/layers.h"

#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444
#define SYS_landlock_add_rule	    445
#define SYS_landlock_restrict_self  446
#endif

#define CREATE_RULESET_VERSION 1u
#define RULE_PATH_BENEATH      1

/* include/uapi/linux/landlock.h; the number is the version of the ABI that brought it. */
#define FS_EXECUTE    (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE  (1ull << 2)
#define FS_READ_DIR   (1ull << 3)
#define FS_1	      ((1ull << 13) - 1)
#define FS_REFER_2    (1ull << 13)
#define FS_TRUNCATE_3 (1ull << 14)
#define FS_IOCTL_5    (1ull << 15)
#define NET_TCP_4     3ull
#define SCOPE_UNIX_6  (1ull << 0)
#define SCOPE_SIGNAL_6 (1ull << 1)

#define FILE_RIGHTS (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE_3 | FS_IOCTL_5)
#define SHARE_READ (FS_READ_FILE | FS_READ_DIR)
/* All but executing and devices' own requests, which the server does not make. */
#define SHARE_WRITE ((FS_1 & ~FS_EXECUTE) | FS_REFER_2 | FS_TRUNCATE_3)
#define PROGRAM_READ (FS_EXECUTE | FS_READ_FILE | FS_READ_DIR)

struct ruleset_attr {
	uint64_t fs, net, scoped;
};

struct path_beneath_attr {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* Before version 2 nothing can be renamed or linked from one directory to another. */
bool landlock_suits(const struct jail_config *c)
{
	int abi = landlock_abi();

	for (size_t i = 0; i < c->n_shares; i++)
		if (!c->shares[i].read_only && abi < 2)
			return false;
	return abi >= 1;
}

static struct ruleset_attr all_of(int abi)
{
	return (struct ruleset_attr){
		.fs = FS_1 | (abi >= 2 ? FS_REFER_2 : 0) | (abi >= 3 ? FS_TRUNCATE_3 : 0) |
		      (abi >= 5 ? FS_IOCTL_5 : 0),
		.net = abi >= 4 ? NET_TCP_4 : 0,
		.scoped = abi >= 6 ? SCOPE_UNIX_6 | SCOPE_SIGNAL_6 : 0,
	};
}

static int create(const struct ruleset_attr *attr)
{
	/* A kernel that knows less of it takes a longer structure, too, if the rest is zero. */
	int fd = (int)syscall(SYS_landlock_create_ruleset, attr, sizeof(*attr), 0);

	return fd < 0 ? -errno : fd;
}

static int allow(int ruleset, const struct ruleset_attr *attr, int fd, uint64_t rights)
{
	struct path_beneath_attr rule = { rights & attr->fs, fd };
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISDIR(st.st_mode))
		rule.allowed &= FILE_RIGHTS;
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &rule, 0) < 0)
		return -errno;
	return 0;
}

static int restrict_self(int ruleset)
{
	return syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : 0;
}

static int confine(const struct jail_config *c, int abi)
{
	struct ruleset_attr attr = all_of(abi);
	AUTO_FD ruleset = -1;
	int rc = 0;

	/* A child that was started before is outside, and must be killed at the end. */
	if (c->child)
		attr.scoped &= ~SCOPE_SIGNAL_6;
	ruleset = create(&attr);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; rc == 0 && i < c->n_shares; i++)
		rc = allow(ruleset, &attr, c->shares[i].fd,
			   c->shares[i].read_only ? SHARE_READ : SHARE_WRITE);
	return rc < 0 ? rc : restrict_self(ruleset);
}

void landlock_enter(const struct jail_config *c, struct jail_status *s)
{
	int abi = landlock_abi(), rc;

	if (abi == 0) {
		status_set(s, false, "this kernel has none, or it is switched off");
		return;
	}
	if (!landlock_suits(c)) {
		status_set(s, false,
			   "version 1 only, which cannot confine a shared folder that is written "
			   "(Linux 5.19 and later can)");
		return;
	}
	rc = confine(c, abi);
	if (rc < 0)
		status_set(s, false, "refused: %s", strerror(-rc));
	else
		status_set(s, true, "version %d: no files but the shared ones%s%s", abi,
			   abi >= 4 ? ", no TCP" : "",
			   abi >= 6 ? ", no signals or abstract sockets to others" : "");
}

/* ---- another program ---- */

struct path_rule {
	const char *path;
	uint64_t rights;
};

static int allow_path(int ruleset, const struct ruleset_attr *attr, const char *path,
		      uint64_t rights)
{
	AUTO_FD fd = open(path, O_PATH | O_CLOEXEC);

	/* What is not there needs no rule. */
	return fd < 0 ? 0 : allow(ruleset, attr, fd, rights);
}

/* What a program reads to start: itself, libraries, firmware, what the kernel tells. */
int landlock_enter_program(const struct jail_program *p)
{
	const struct path_rule rules[] = {
		{ "/usr", PROGRAM_READ },
		{ "/lib", PROGRAM_READ },
		{ "/lib64", PROGRAM_READ },
		{ "/bin", PROGRAM_READ },
		{ "/nix/store", PROGRAM_READ },
		{ "/opt", PROGRAM_READ },
		{ "/etc/ld.so.cache", FS_READ_FILE },
		{ "/etc/ld.so.preload", FS_READ_FILE },
		{ "/etc/qemu", SHARE_READ },
		{ "/proc", SHARE_READ },
		{ "/sys", SHARE_READ },
		{ "/dev/null", FS_READ_FILE | FS_WRITE_FILE },
		{ "/dev/urandom", FS_READ_FILE },
		{ p->program, FS_READ_FILE | FS_EXECUTE },
		{ p->kernel, FS_READ_FILE },
		{ p->kvm ? "/dev/kvm" : p->kernel,
		  FS_READ_FILE | (p->kvm ? FS_WRITE_FILE | FS_IOCTL_5 : 0) },
	};
	int abi = landlock_abi(), rc = 0;
	struct ruleset_attr attr = all_of(abi);
	AUTO_FD ruleset = -1;

	if (abi == 0)
		return 0;
	ruleset = create(&attr);
	if (ruleset < 0)
		return ruleset;
	for (size_t i = 0; rc == 0 && i < sizeof(rules) / sizeof(*rules); i++)
		rc = allow_path(ruleset, &attr, rules[i].path, rules[i].rights);
	return rc < 0 ? rc : restrict_self(ruleset);
}
