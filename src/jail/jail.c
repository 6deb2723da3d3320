/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entering the layers of confinement one after another.
 */
#include "jail/jail.h"

#include <errno.h>
#include <linux/capability.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/err.h"
#include "jail/layers.h"

#define CAP(name) (1ull << CAP_##name)
#define CAPS_KNOWN 64

/*
 * What serving files in everybody's name takes: owners, modes, files that root may read, special
 * files, file capabilities ("setcap" in the guest). Nothing runs in another user's name. SYS_ADMIN,
 * which "trusted." attributes would take, is too much to keep for them.
 */
#define CAPS_SHARES                                                                                \
	(CAP(CHOWN) | CAP(DAC_OVERRIDE) | CAP(DAC_READ_SEARCH) | CAP(FOWNER) | CAP(FSETID) |       \
	 CAP(MKNOD) | CAP(SETFCAP))

static const char *const layer_names[JAIL_LAYERS] = {
	[JAIL_NAMESPACES] = "namespaces",
	[JAIL_PRIVILEGES] = "no new privileges",
	[JAIL_LANDLOCK] = "Landlock",
	[JAIL_CAPABILITIES] = "capabilities",
	[JAIL_LIMITS] = "resource limits",
	[JAIL_SECCOMP] = "system calls",
};

const char *jail_layer_name(enum jail_layer layer)
{
	return layer_names[layer];
}

const char *jail_kind_name(unsigned int kind)
{
	static const char *const names[JAIL_KINDS] = { "main", "vcpu", "io", "worker", "fs" };

	return kind < JAIL_KINDS ? names[kind] : "unknown";
}

void status_set(struct jail_status *s, bool on, const char *fmt, ...)
{
	va_list ap;

	s->on = on;
	va_start(ap, fmt);
	vsnprintf(s->text, sizeof(s->text), fmt, ap);
	va_end(ap);
}

/* ---- small layers ---- */

static void privileges_enter(struct jail_status *s)
{
	struct rlimit none = { 0, 0 };

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0)
		status_set(s, false, "refused: %s", strerror(errno));
	else
		status_set(s, true, "none can be gained; no core dumps, no debuggers");
}

uint64_t caps_now(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };

	if (syscall(SYS_capget, &head, data) < 0)
		return 0;
	return data[0].effective | (uint64_t)data[1].effective << 32;
}

int caps_keep(uint64_t mask)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = { 0 };
	uint64_t kept = caps_now() & mask;

	if (caps_now() & CAP(SETPCAP))
		for (unsigned int i = 0; i < CAPS_KNOWN; i++)
			if (!(mask & 1ull << i) && prctl(PR_CAPBSET_DROP, i, 0, 0, 0) < 0)
				break; /* the kernel knows no more */
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++)
		data[i].effective = data[i].permitted = (uint32_t)(kept >> (32 * i));
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

static void capabilities_enter(const struct jail_config *c, uint64_t before, struct jail_status *s)
{
	uint64_t kept = c->n_shares ? before & CAPS_SHARES : 0;
	int rc = caps_keep(kept);

	if (rc < 0)
		status_set(s, false, "cannot be given up: %s", strerror(-rc));
	else if (kept)
		status_set(s, true, "those that serving files takes, in the threads that do");
	else
		status_set(s, true, "all are given up");
}

/* The most of what a process may have that needs none. Not to be raised again. */
static void limits_enter(struct jail_status *s)
{
	static const int none[] = { RLIMIT_CORE, RLIMIT_MSGQUEUE, RLIMIT_RTPRIO, RLIMIT_NICE };
	struct rlimit zero = { 0, 0 }, files;

	for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
		if (setrlimit((__rlimit_resource_t)none[i], &zero) < 0) {
			status_set(s, false, "refused: %s", strerror(errno));
			return;
		}
	}
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_max = files.rlim_cur;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	status_set(s, true, "no core dumps, message queues or real-time priority");
}

/* ---- all of them ---- */

static bool enters(const struct jail *jail, enum jail_layer layer)
{
	return !(jail->config.skip & 1u << layer);
}

int jail_enter(struct jail *jail, const struct jail_config *config, struct smolvm_error *err)
{
	struct jail_status *s = jail->layers;
	uint64_t before = caps_now();

	*jail = (struct jail){ .config = *config };
	for (unsigned int i = 0; i < JAIL_LAYERS; i++)
		status_set(&s[i], false, "left out");
	if (enters(jail, JAIL_NAMESPACES))
		namespaces_enter(config, &s[JAIL_NAMESPACES]);
	/* After that: what others cannot look into cannot tell its user namespace who it is. */
	if (enters(jail, JAIL_PRIVILEGES))
		privileges_enter(&s[JAIL_PRIVILEGES]);
	if (enters(jail, JAIL_LANDLOCK))
		landlock_enter(config, &s[JAIL_LANDLOCK]);
	if (enters(jail, JAIL_CAPABILITIES))
		capabilities_enter(config, before, &s[JAIL_CAPABILITIES]);
	if (enters(jail, JAIL_LIMITS))
		limits_enter(&s[JAIL_LIMITS]);
	if (enters(jail, JAIL_SECCOMP))
		filter_prepare(config, &s[JAIL_SECCOMP]);
	if (config->skip || s[JAIL_NAMESPACES].on || s[JAIL_LANDLOCK].on || s[JAIL_SECCOMP].on)
		return 0;
	return err_set(err, EPERM,
		       "this host lets smolvm confine nothing (namespaces: %s; Landlock: %s; "
		       "system calls: %s); see 'smolvm doctor'; --insecure-no-jail does without",
		       s[JAIL_NAMESPACES].text, s[JAIL_LANDLOCK].text, s[JAIL_SECCOMP].text);
}

int jail_thread(const struct jail *jail, enum jail_kind kind)
{
	int rc = 0;

	if (enters(jail, JAIL_CAPABILITIES) && kind != JAIL_FS && caps_now())
		rc = caps_keep(0);
	if (rc == 0 && jail->layers[JAIL_SECCOMP].on)
		rc = filter_install(&jail->config, kind);
	return rc;
}

int jail_enter_program(void *ctx)
{
	const struct jail_program *p = ctx;
	uint64_t before = caps_now();
	struct rlimit none = { 0, 0 };
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		return -errno;
	namespaces_enter_outer();
	rc = landlock_enter_program(p);
	/* The kernel to boot may lie in another user's home. */
	return rc < 0 ? rc : caps_keep(before & CAP(DAC_READ_SEARCH));
}
