/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The nearest of some words to one that was not understood.
 */
#include "cli/suggest.h"

#include <limits.h>
#include <string.h>

#define WORD_MAX 64

static unsigned int min3(unsigned int a, unsigned int b, unsigned int c)
{
	unsigned int m = a < b ? a : b;

	return m < c ? m : c;
}

unsigned int suggest_distance(const char *a, const char *b)
{
	unsigned char d[WORD_MAX + 1][WORD_MAX + 1];
	size_t la = strlen(a), lb = strlen(b), i, j;
	unsigned int cost, best;

	if (la >= WORD_MAX || lb >= WORD_MAX)
		return UINT_MAX;
	for (i = 0; i <= la; i++)
		d[i][0] = (unsigned char)i;
	for (j = 0; j <= lb; j++)
		d[0][j] = (unsigned char)j;
	for (i = 1; i <= la; i++) {
		for (j = 1; j <= lb; j++) {
			cost = a[i - 1] != b[j - 1];
			best = min3(d[i - 1][j] + 1u, d[i][j - 1] + 1u, d[i - 1][j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[i - 2][j - 2] + 1u < best)
				best = d[i - 2][j - 2] + 1u;
			d[i][j] = (unsigned char)best;
		}
	}
	return d[la][lb];
}

void suggestion_init(struct suggestion *s, const char *word)
{
	size_t len = strlen(word);

	/* Short words are near to everything: one letter for those, a third for others. */
	*s = (struct suggestion){ .word = word,
				  .distance = len < 5 ? 2 : (unsigned int)len / 3 + 1 };
}

void suggestion_try(struct suggestion *s, const char *candidate)
{
	unsigned int distance = suggest_distance(s->word, candidate);
	size_t len = strlen(s->word);

	/* The beginning of a word counts as near. */
	if (len >= 2 && distance > 1 && !strncmp(candidate, s->word, len))
		distance = 1;
	if (distance < s->distance) {
		s->distance = distance;
		s->best = candidate;
	}
}
