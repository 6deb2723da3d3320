/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The layers of confinement: each is entered alone, an attempt is made that it must refuse, and the
 * same attempt without it must succeed.
 *
 * Every attempt runs in a child process of its own. With root, some children become an ordinary
 * user first, because root may do what they must not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "jail/jail.h"

#define NOBODY 65534
#define DONE 0
#define SETUP_FAILED 200
#define LAYER_OFF 201
#define REFUSED_AT 1 /* the attempt's errno is the exit status */
#define ALL ((1u << JAIL_LAYERS) - 1)

/* What attempts work on; made once, inherited by every child. */
static struct world {
	char folder[64];    /* shared */
	char other[64];	    /* not shared, besides */
	int folder_fd;	    /* O_PATH */
	int proc_fd;	    /* /proc/self/fd of the child */
	int listen_port;    /* TCP, on the loopback */
	char abstract[32];  /* a listening abstract socket */
	int pipe[2];
	char self[256];	    /* this program */
	char suid[128];	    /* a copy of it, set-uid root; "" when it cannot be made */
} w;

static int done(long rc)
{
	return rc < 0 ? errno : DONE;
}

static int path_in(char *buf, size_t cap, const char *dir, const char *name)
{
	return snprintf(buf, cap, "%s/%s", dir, name) < (int)cap ? 0 : -1;
}

/* ---- attempts: 0, or the errno ---- */

static int opens_a_host_file(void)
{
	return done(open("/etc/passwd", O_RDONLY));
}

static int lists_the_root(void)
{
	int fd = open("/", O_RDONLY | O_DIRECTORY);

	return fd < 0 ? errno : done(faccessat(fd, "etc", F_OK, 0));
}

static int leaves_a_share(void)
{
	char up[] = "../../../../etc/passwd";

	return done(openat(w.folder_fd, up, O_RDONLY));
}

static int leaves_by_proc(void)
{
	return done(openat(w.proc_fd, "../../../etc/passwd", O_RDONLY));
}

static int reads_a_share(void)
{
	return done(openat(w.folder_fd, "old", O_RDONLY));
}

static int reopens_by_proc(void)
{
	int fd = openat(w.folder_fd, "old", O_PATH);
	char name[64];

	snprintf(name, sizeof(name), "%d", fd);
	if (fd < 0 || openat(w.proc_fd, name, O_RDWR) < 0)
		return errno;
	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return done(open(name, O_RDONLY));
}

static int changes_a_share(void)
{
	char old[128], new[128];

	/* Names in it, from one directory to another; links; sizes. */
	path_in(old, sizeof(old), "a", "moved");
	path_in(new, sizeof(new), "b", "moved");
	unlinkat(w.folder_fd, new, 0);
	if (openat(w.folder_fd, old, O_CREAT | O_WRONLY | O_TRUNC, 0600) < 0 ||
	    syscall(SYS_renameat2, w.folder_fd, old, w.folder_fd, new, 0) < 0 ||
	    linkat(w.folder_fd, new, w.folder_fd, old, 0) < 0)
		return errno;
	return done(unlinkat(w.folder_fd, old, 0));
}

static int connects_by_tcp(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	a.sin_port = htons((uint16_t)w.listen_port);
	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return fd < 0 ? errno : done(connect(fd, (struct sockaddr *)&a, sizeof(a)));
}

static int connects_to_a_name(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	size_t n = strlen(w.abstract);

	memcpy(a.sun_path + 1, w.abstract, n);
	return fd < 0 ? errno
		      : done(connect(fd, (struct sockaddr *)&a,
				     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + n)));
}

static int signals_its_parent(void)
{
	return done(kill(getppid(), 0));
}

static int mounts(void)
{
	if (mount("none", w.other, "tmpfs", 0, NULL) < 0)
		return errno;
	return done(umount(w.other));
}

static int gives_away(void)
{
	return done(fchownat(w.folder_fd, "old", 1, 1, 0));
}

static int raises_core(void)
{
	struct rlimit r = { 4096, 4096 };

	return done(setrlimit(RLIMIT_CORE, &r));
}

static int raises_queues(void)
{
	struct rlimit r = { 4096, 4096 };

	return done(setrlimit(RLIMIT_MSGQUEUE, &r));
}

static int gains_by_exec(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		execl(w.suid, w.suid, "--am-i-root", NULL);
		_exit(1);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? DONE : EPERM;
}

/* Another process of the same user looks into this one. */
static int shows_its_memory(void)
{
	pid_t pid, me = getpid();
	int status = 0;

	pid = fork();
	if (pid == 0) {
		char name[64];

		snprintf(name, sizeof(name), "/proc/%d/mem", me);
		_exit(open(name, O_RDONLY) < 0 ? EPERM : 0);
	}
	return pid < 0 || waitpid(pid, &status, 0) < 0 ? EIO : WEXITSTATUS(status);
}

static int makes_a_socket(void)
{
	return done(socket(AF_UNIX, SOCK_STREAM, 0));
}

static int runs_a_program(void)
{
	execl("/bin/true", "true", NULL);
	return errno;
}

static int forks(void)
{
	/* fork() is a clone() without the flags of a thread. */
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0)
		_exit(0);
	return done(pid);
}

static int traces(void)
{
	return done(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

static int makes_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? errno : done(mprotect(p, 4096, PROT_READ | PROT_EXEC));
}

static int maps_code(void)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return p == MAP_FAILED ? errno : DONE;
}

static int asks_a_descriptor(void)
{
	int flags = 1;

	return done(ioctl(w.pipe[0], FIOASYNC, &flags));
}

static int opens_anything(void)
{
	return done(openat(w.folder_fd, "old", O_RDONLY));
}

static int unshares(void)
{
	return done(unshare(CLONE_NEWUSER));
}

static int kills_another(void)
{
	return done(syscall(SYS_tgkill, getppid(), getppid(), 0));
}

static int kills_itself(void)
{
	return done(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), 0));
}

static int reads_a_pipe(void)
{
	char c = 1;

	if (write(w.pipe[1], &c, 1) != 1)
		return errno;
	return done(read(w.pipe[0], &c, 1));
}

static void *nothing(void *ctx)
{
	return ctx;
}

static int makes_a_thread(void)
{
	pthread_t t;
	int e = pthread_create(&t, NULL, nothing, NULL);

	return e ? e : pthread_join(t, NULL);
}

/* ---- running one ---- */

#define NO_KIND (-1)

struct attempt {
	const char *name;
	int (*make)(void);
	enum jail_layer layer; /* which is entered alone */
	int kind;	       /* of thread */
	bool allowed;	       /* it must succeed in spite of the layer */
	bool dies;	       /* of SIGSYS, and is noted */
	enum { ANYBODY, ROOT, USER } who;
	bool shared; /* the folder is */
	bool read_only;
	int abi; /* of Landlock that this takes */
	int value; /* the errno wanted, 0: any */
};

static void become_nobody(void)
{
	struct rlimit most = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &most);
	if (geteuid() != 0)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
	    setresuid(NOBODY, NOBODY, NOBODY) < 0)
		_exit(SETUP_FAILED);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

static void child(const struct attempt *a, unsigned int skip, struct jail_death *death)
{
	struct jail_config config = { .skip = skip, .death = death };
	struct jail jail;

	if (a->who == USER)
		become_nobody();
	w.proc_fd = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
	w.folder_fd = open(w.folder, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (a->shared)
		config.shares[config.n_shares++] =
			(struct jail_share){ w.folder_fd, a->read_only };
	if (jail_enter(&jail, &config, NULL) < 0)
		_exit(SETUP_FAILED);
	if (!(skip & 1u << a->layer) && !jail.layers[a->layer].on) {
		dprintf(2, "# %s\n", jail.layers[a->layer].text);
		_exit(LAYER_OFF);
	}
	if (a->kind != NO_KIND && jail_thread(&jail, (enum jail_kind)a->kind) < 0)
		_exit(SETUP_FAILED);
	_exit(a->make());
}

/* Return: as waitpid(). */
static int run(const struct attempt *a, unsigned int skip, struct jail_death *death)
{
	int status = 0;
	pid_t pid;

	death->syscall = 0;
	pid = fork();
	if (pid == 0)
		child(a, skip, death);
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == SETUP_FAILED)
		fail_msg("%s: the setting could not be made", a->name);
	return status;
}

static int landlock_version(void)
{
	long abi = syscall(444, NULL, 0, 1);

	return abi > 0 ? (int)abi : 0;
}

static void check_with_layer(const struct attempt *a, int status, const struct jail_death *death)
{
	if (a->dies) {
		if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS)
			fail_msg("%s: it did not die of it, but gave %x", a->name, status);
		assert_int_not_equal(death->syscall, 0);
		assert_int_equal(death->kind, a->kind);
		assert_non_null(jail_syscall_name(death->syscall - 1));
		return;
	}
	if (!WIFEXITED(status))
		fail_msg("%s: it died of signal %d (call %d)", a->name, WTERMSIG(status),
			 death->syscall - 1);
	if (a->allowed && WEXITSTATUS(status) != DONE)
		fail_msg("%s: was refused: %s", a->name, strerror(WEXITSTATUS(status)));
	if (!a->allowed && WEXITSTATUS(status) == DONE)
		fail_msg("%s: was allowed", a->name);
	if (a->value && WEXITSTATUS(status) != a->value)
		fail_msg("%s: was refused by %s", a->name, strerror(WEXITSTATUS(status)));
}

static void try(void **state)
{
	const struct attempt *a = *state;
	struct jail_death *death = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
					MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned int needed = 0;
	int status;

	/* Without privilege these two are to be had by those only who renounce new ones. */
	if (a->layer == JAIL_LANDLOCK || a->layer == JAIL_SECCOMP)
		needed = 1u << JAIL_PRIVILEGES;
	if ((a->who == ROOT && geteuid() != 0) || a->abi > landlock_version() ||
	    (a->make == gains_by_exec && !w.suid[0])) {
		munmap(death, 4096);
		skip();
	}
	/* Without the layer first: only what can be done can be refused. */
	status = run(a, ALL, death);
	if (!WIFEXITED(status) || WEXITSTATUS(status) != DONE)
		fail_msg("%s: fails without the layer, too: %x", a->name, status);
	status = run(a, ALL & ~(1u << a->layer | needed), death);
	if (WIFEXITED(status) && WEXITSTATUS(status) == LAYER_OFF) {
		munmap(death, 4096);
		skip();
	}
	check_with_layer(a, status, death);
	munmap(death, 4096);
}

/* ---- the attempts ---- */

#define NS .layer = JAIL_NAMESPACES, .kind = NO_KIND
#define LL .layer = JAIL_LANDLOCK, .kind = NO_KIND
#define SC(k) .layer = JAIL_SECCOMP, .kind = JAIL_##k

static const struct attempt attempts[] = {
	{ "privileges: set-uid programs", gains_by_exec, JAIL_PRIVILEGES, NO_KIND, .who = USER },
	{ "privileges: core dumps", raises_core, JAIL_PRIVILEGES, NO_KIND, .who = USER },
	{ "privileges: its memory", shows_its_memory, JAIL_PRIVILEGES, NO_KIND, .who = USER },

	{ "namespaces: a file of the host", opens_a_host_file, NS, .value = ENOENT },
	{ "namespaces: a file, as a user", opens_a_host_file, NS, .who = USER, .value = ENOENT },
	{ "namespaces: the root is empty", lists_the_root, NS },
	{ "namespaces: out of a share by ..", leaves_a_share, NS, .who = ROOT, .shared = true,
	  .value = ENOENT },
	{ "namespaces: out of an open directory", leaves_a_share, NS, .who = USER },
	{ "namespaces: out by /proc", leaves_by_proc, NS, .who = ROOT, .shared = true },
	{ "namespaces: a share is there", reads_a_share, NS, .who = ROOT, .shared = true,
	  .allowed = true },
	{ "namespaces: and can be changed", changes_a_share, NS, .who = ROOT, .shared = true,
	  .allowed = true },
	{ "namespaces: unless it is read-only", changes_a_share, NS, .who = ROOT, .shared = true,
	  .read_only = true, .value = EROFS },
	{ "namespaces: opening again by /proc", reopens_by_proc, NS, .who = ROOT, .shared = true,
	  .allowed = true },
	{ "namespaces: TCP", connects_by_tcp, NS, .value = ENETUNREACH },
	{ "namespaces: TCP, as a user", connects_by_tcp, NS, .who = USER, .value = ENETUNREACH },
	{ "namespaces: abstract sockets", connects_to_a_name, NS, .value = ECONNREFUSED },

	{ "Landlock: a file of the host", opens_a_host_file, LL, .abi = 1, .value = EACCES },
	{ "Landlock: out of a share by ..", leaves_a_share, LL, .abi = 2, .shared = true,
	  .value = EACCES },
	{ "Landlock: out by /proc", leaves_by_proc, LL, .abi = 2, .shared = true },
	{ "Landlock: a share can be read", reads_a_share, LL, .abi = 2, .shared = true,
	  .allowed = true },
	{ "Landlock: and changed", changes_a_share, LL, .abi = 2, .shared = true,
	  .allowed = true },
	{ "Landlock: also by a user", changes_a_share, LL, .abi = 2, .shared = true, .who = USER,
	  .allowed = true },
	{ "Landlock: unless it is read-only", changes_a_share, LL, .abi = 1, .shared = true,
	  .read_only = true, .value = EACCES },
	{ "Landlock: opening again by /proc", reopens_by_proc, LL, .abi = 2, .shared = true,
	  .allowed = true },
	{ "Landlock: TCP", connects_by_tcp, LL, .abi = 4, .value = EACCES },
	{ "Landlock: abstract sockets", connects_to_a_name, LL, .abi = 6, .value = EPERM },
	{ "Landlock: signals to others", signals_its_parent, LL, .abi = 6, .value = EPERM },

	{ "capabilities: mounting", mounts, JAIL_CAPABILITIES, NO_KIND, .who = ROOT },
	{ "capabilities: giving files away", gives_away, JAIL_CAPABILITIES, NO_KIND, .who = ROOT },
	{ "capabilities: with shares, yes", gives_away, JAIL_CAPABILITIES, JAIL_FS, .who = ROOT,
	  .shared = true, .allowed = true },
	{ "capabilities: but not in other threads", gives_away, JAIL_CAPABILITIES, JAIL_IO,
	  .who = ROOT, .shared = true },
	{ "capabilities: no mounting with shares", mounts, JAIL_CAPABILITIES, JAIL_FS, .who = ROOT,
	  .shared = true },

	{ "limits: core dumps", raises_core, JAIL_LIMITS, NO_KIND, .who = USER },
	{ "limits: message queues", raises_queues, JAIL_LIMITS, NO_KIND, .who = USER },

	{ "system calls: a socket (io)", makes_a_socket, SC(IO), .dies = true },
	{ "system calls: a socket (main)", makes_a_socket, SC(MAIN), .dies = true },
	{ "system calls: a program (fs)", runs_a_program, SC(FS), .dies = true },
	{ "system calls: a program (vcpu)", runs_a_program, SC(VCPU), .dies = true },
	{ "system calls: ptrace (worker)", traces, SC(WORKER), .dies = true },
	{ "system calls: namespaces (fs)", unshares, SC(FS), .dies = true },
	{ "system calls: mounting (fs)", mounts, SC(FS), .who = ROOT, .dies = true },
	{ "system calls: connecting (io)", connects_by_tcp, SC(IO), .dies = true },
	{ "system calls: limits (vcpu)", raises_core, SC(VCPU), .who = USER, .dies = true },
	{ "system calls: another process (main)", forks, SC(MAIN), .value = EPERM },
	{ "system calls: another process (vcpu)", forks, SC(VCPU), .value = EPERM },
	{ "system calls: making memory code (vcpu)", makes_code, SC(VCPU), .value = EPERM },
	{ "system calls: memory that is code (io)", maps_code, SC(IO), .value = EPERM },
	{ "system calls: an ioctl (vcpu)", asks_a_descriptor, SC(VCPU), .value = EPERM },
	{ "system calls: an ioctl (io)", asks_a_descriptor, SC(IO), .value = EPERM },
	{ "system calls: opening (vcpu)", opens_anything, SC(VCPU), .value = EPERM },
	{ "system calls: opening (io)", opens_anything, SC(IO), .value = EPERM },
	{ "system calls: opening (worker)", opens_anything, SC(WORKER), .value = EPERM },
	{ "system calls: opening (main)", opens_anything, SC(MAIN), .value = EPERM },
	{ "system calls: opening (fs)", opens_anything, SC(FS), .allowed = true },
	{ "system calls: signals to others (main)", kills_another, SC(MAIN), .value = EPERM },
	{ "system calls: a thread (fs)", makes_a_thread, SC(FS) },
	{ "system calls: signals to itself (vcpu)", kills_itself, SC(VCPU), .allowed = true },
	{ "system calls: a pipe (vcpu)", reads_a_pipe, SC(VCPU), .allowed = true },
	{ "system calls: changing files (fs)", changes_a_share, SC(FS), .allowed = true },
};
#define N_ATTEMPTS (sizeof(attempts) / sizeof(*attempts))

/* ---- another program ---- */

/* Run the shell command confined as @p is; return its exit status. */
static int run_confined(struct jail_program *p, const char *command)
{
	int status = 0;
	pid_t pid = fork();

	if (pid == 0) {
		if (p && jail_enter_program(p) < 0)
			_exit(SETUP_FAILED);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(SETUP_FAILED);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_not_equal(WEXITSTATUS(status), SETUP_FAILED);
	return WEXITSTATUS(status);
}

static void a_program_is_confined(void **state)
{
	struct jail_program p = { .program = "/bin/sh", .kernel = w.self };
	char command[512];

	snprintf(command, sizeof(command), "exec 2>/dev/null; echo x >%s/new", w.folder);
	assert_int_equal(run_confined(NULL, command), 0);
	assert_int_equal(run_confined(&p, "grep -q 'NoNewPrivs:.1' /proc/self/status"), 0);
	assert_int_equal(run_confined(&p, "ulimit -c | grep -qx 0"), 0);
	if (geteuid() == 0)
		assert_int_equal(run_confined(&p, "grep -Eqx 'CapEff:.0{15}[04]' /proc/self/status"
					      " || exit 1"),
				 0);
	if (landlock_version()) {
		assert_int_not_equal(run_confined(&p, command), 0);
		assert_int_equal(run_confined(NULL, "cat /etc/passwd >/dev/null"), 0);
		assert_int_not_equal(run_confined(&p, "exec 2>/dev/null; cat /etc/passwd"), 0);
	}
	snprintf(command, sizeof(command), "head -c 4 %s >/dev/null", w.self);
	assert_int_equal(run_confined(&p, command), 0);
}

/* All at once, as smolvm-vmm does it. Return: the layers that are not in force, as bits. */
static int enter_all(bool user, bool shared)
{
	struct jail_config config = { 0 };
	struct jail jail;
	int off = 0;

	if (user)
		become_nobody();
	if (shared)
		config.shares[config.n_shares++] =
			(struct jail_share){ open(w.folder, O_PATH | O_CLOEXEC), false };
	if (jail_enter(&jail, &config, NULL) < 0)
		return SETUP_FAILED;
	for (int i = 0; i < JAIL_LAYERS; i++)
		off |= jail.layers[i].on ? 0 : 1 << i;
	return off;
}

/* Those that can be had one by one can be had together. */
static void the_layers_go_together(void **state)
{
	bool landlock = landlock_version() >= 2;

	for (int i = 0; i < 4; i++) {
		bool user = i & 1, shared = i & 2;
		int status = 0, wanted = landlock ? 0 : 1 << JAIL_LANDLOCK;
		pid_t pid = fork();

		if (pid == 0) {
			/* Who may not make namespaces at all must do without. */
			pid = fork();
			if (pid == 0) {
				if (user)
					become_nobody();
				_exit(unshare(geteuid() ? CLONE_NEWUSER | CLONE_NEWNS
							: CLONE_NEWNS) < 0);
			}
			if (waitpid(pid, &status, 0) < 0)
				_exit(SETUP_FAILED);
			if (WEXITSTATUS(status) || (geteuid() && shared && landlock) ||
			    (user && shared && landlock))
				wanted |= 1 << JAIL_NAMESPACES;
			status = enter_all(user, shared);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
			wanted |= 1 << JAIL_SECCOMP;
#endif
			_exit(status == wanted ? 0 : 1 + status);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(WIFEXITED(status));
		assert_int_equal(WEXITSTATUS(status), 0);
	}
}

static void everything_has_a_name(void **state)
{
	for (unsigned int i = 0; i < JAIL_LAYERS; i++)
		assert_non_null(jail_layer_name(i));
	for (unsigned int i = 0; i < JAIL_KINDS; i++)
		assert_string_not_equal(jail_kind_name(i), "unknown");
	assert_string_equal(jail_kind_name(JAIL_KINDS), "unknown");
	assert_null(jail_syscall_name(SYS_read));
	assert_string_equal(jail_syscall_name(SYS_execve), "execve");
}

/* ---- the world ---- */

static int make_listeners(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET };
	struct sockaddr_un u = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(a);
	int tcp = socket(AF_INET, SOCK_STREAM, 0), un = socket(AF_UNIX, SOCK_STREAM, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	snprintf(w.abstract, sizeof(w.abstract), "smolvm-test-%d", getpid());
	memcpy(u.sun_path + 1, w.abstract, strlen(w.abstract));
	if (bind(tcp, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(tcp, 64) < 0 ||
	    getsockname(tcp, (struct sockaddr *)&a, &len) < 0 ||
	    bind(un, (struct sockaddr *)&u,
		 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(w.abstract))) < 0)
		return -1;
	w.listen_port = ntohs(a.sin_port);
	return listen(un, 64);
}

static int copy_self(void)
{
	char command[1024];

	snprintf(w.suid, sizeof(w.suid), "%s/suid", w.other);
	snprintf(command, sizeof(command), "cp %s %s && chmod 4755 %s", w.self, w.suid, w.suid);
	if (geteuid() != 0 || run_confined(NULL, command) != 0)
		w.suid[0] = '\0';
	return 0;
}

static int set_up(void **state)
{
	ssize_t n = readlink("/proc/self/exe", w.self, sizeof(w.self) - 1);
	char name[128];

	snprintf(w.folder, sizeof(w.folder), "/tmp/smolvm-jail-XXXXXX");
	snprintf(w.other, sizeof(w.other), "/tmp/smolvm-jail-XXXXXX");
	if (n < 0 || !mkdtemp(w.folder) || !mkdtemp(w.other) || pipe(w.pipe) < 0)
		return -1;
	for (int i = 0; i < 2; i++) {
		path_in(name, sizeof(name), w.folder, i ? "a" : "b");
		if (mkdir(name, 0777) < 0 || chmod(name, 0777) < 0)
			return -1;
	}
	path_in(name, sizeof(name), w.folder, "old");
	close(open(name, O_CREAT | O_WRONLY, 0666));
	if (chmod(name, 0666) < 0 || chmod(w.folder, 0777) < 0 || chmod(w.other, 0755) < 0)
		return -1;
	return make_listeners() < 0 ? -1 : copy_self();
}

static int tear_down(void **state)
{
	char command[256];

	snprintf(command, sizeof(command), "rm -rf %s %s", w.folder, w.other);
	return run_confined(NULL, command);
}

int main(int argc, char **argv)
{
	struct CMUnitTest tests[N_ATTEMPTS + 3];
	size_t n = 0;

	if (argc > 1 && !strcmp(argv[1], "--am-i-root"))
		return geteuid() == 0 ? 0 : 1;
	for (; n < N_ATTEMPTS; n++)
		tests[n] = (struct CMUnitTest){ .name = attempts[n].name,
						.test_func = try,
						.initial_state = (void *)(uintptr_t)&attempts[n] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(a_program_is_confined);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(the_layers_go_together);
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(everything_has_a_name);
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
