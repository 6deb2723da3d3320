/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The frequency of the host's time stamp counter.
 */
#include "backend/tsc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fd.h"

#if defined(__x86_64__)
#include <x86intrin.h>

#define CPUINFO_MAX (4u << 20)

static unsigned int measure(int64_t ns)
{
	int64_t start = clock_ns(), now;
	uint64_t tsc = __rdtsc();

	do
		now = clock_ns();
	while (now - start < ns);
	return (unsigned int)((__rdtsc() - tsc) * 1000000 / (uint64_t)(now - start));
}

/* Linux derives "bogomips" from the calibrated TSC: two per MHz. */
static unsigned int from_cpuinfo(void)
{
	AUTO_FREE char *text = NULL;
	const char *p;

	if (file_read("/proc/cpuinfo", CPUINFO_MAX, &text) < 0)
		return 0;
	p = strstr(text, "bogomips");
	p = p ? strchr(p, ':') : NULL;
	return p ? (unsigned int)(strtod(p + 1, NULL) * 500 + 0.5) : 0;
}

unsigned int tsc_khz(void)
{
	unsigned int told = from_cpuinfo(), seen = measure(1000000);

	if (told > seen - seen / 50 && told < seen + seen / 50)
		return told;
	return measure(10000000);
}
#else
unsigned int tsc_khz(void)
{
	return 0;
}
#endif
