/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Commands in a machine that is already up, through libsmolvm.
 *
 *     execwork N COMMAND [ARGUMENT...]    "exec p50_ns p99_ns min_ns"
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <smolvm/smolvm.h>

#define WARM_UP 10

static long long now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
	long long x = *(const long long *)a, y = *(const long long *)b;

	return x < y ? -1 : x > y;
}

static int measure(struct smolvm_machine *m, const char *const *argv, long long *took, int n,
		   struct smolvm_error *err)
{
	struct smolvm_exec_config config = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1,
					     .stderr_fd = -1 };
	struct smolvm_exec_result result;

	for (int i = -WARM_UP; i < n; i++) {
		long long start = now_ns();
		int rc = smolvm_exec(m, &config, &result, err);

		if (rc < 0)
			return rc;
		if (i >= 0)
			took[i] = now_ns() - start;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int n = argc > 2 ? (int)strtol(argv[1], NULL, 10) : 0;
	struct smolvm_error err = SMOLVM_ERROR_INIT;
	struct smolvm_machine_config config = { 0 };
	struct smolvm_machine *m = NULL;
	struct smolvm *s = NULL;
	long long *took;
	int rc;

	if (n < 1 || n > 100000)
		return 2;
	took = calloc((size_t)n, sizeof(*took));
	if (!took)
		return 1;
	rc = smolvm_open(&s, NULL, &err);
	if (rc == 0)
		rc = smolvm_machine_start(s, &config, &m, &err);
	if (rc == 0)
		rc = measure(m, (const char *const *)argv + 2, took, n, &err);
	smolvm_machine_destroy(m);
	smolvm_close(s);
	if (rc < 0) {
		fprintf(stderr, "execwork: %s\n", err.message);
		free(took);
		return 1;
	}
	qsort(took, (size_t)n, sizeof(*took), compare);
	printf("exec %lld %lld %lld\n", took[n / 2], took[n * 99 / 100], took[0]);
	free(took);
	return 0;
}
