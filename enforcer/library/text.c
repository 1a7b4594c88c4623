/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Texts: put together without libc's formats, and compared with globs. */
#include <string.h>
#include "enforcer.h"

/* Append, cut to what fits; the new length. */
size_t append(char *buffer, size_t size, size_t length, const char *text)
{
	while (*text && length < size - 1)
		buffer[length++] = *text++;
	if (length < size)
		buffer[length] = 0;
	return length;
}

size_t append_number(char *buffer, size_t size, size_t length, uint64_t number)
{
	char digits[24] = { 0 }, *digit = digits + sizeof(digits) - 1;

	do
		*--digit = '0' + number % 10;
	while (number /= 10);
	return append(buffer, size, length, digit);
}

/* The length in bytes of the UTF-8 character there; 1 for a byte that is none. */
static size_t character(const char *text, size_t length)
{
	unsigned char first = *text;
	size_t n = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;

	if (n > length)
		return 1;
	for (size_t i = 1; i < n; i++)
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 1;
	return n;
}

/*
 * Whether the set behind `[` has the character; *after: behind its `]`, NULL: it has none and is
 * text.
 */
static bool set_has(const char *set, const char *text, size_t length, const char **after)
{
	bool negated = *set == '!', found = false;
	const char *p = set + negated;
	unsigned char c = *text;

	*after = NULL;
	do {
		unsigned char low = *p, high;

		if (!low)
			return false;
		if (p[1] == '-' && p[2] && p[2] != ']') {
			high = p[2];
			p += 3;
		} else {
			high = low;
			p++;
		}
		found |= length == 1 && low <= c && c <= high;
	} while (*p && *p != ']');
	if (!*p)
		return false;
	*after = p + 1;
	return found != negated;
}

bool glob_matches(const char *glob, const char *text, size_t length)
{
	const char *end = text + length, *star = NULL, *resume = NULL, *after;

	for (;;) {
		if (*glob == '*') {
			star = ++glob;
			resume = text;
			continue;
		}
		if (text < end) {
			size_t n = character(text, end - text);

			if (*glob == '[') {
				bool has = set_has(glob + 1, text, n, &after);

				if (after && has) {
					glob = after;
					text += n;
					continue;
				}
				if (!after && *text == '[') {
					glob++;
					text++;
					continue;
				}
			} else if (*glob == '?') {
				glob++;
				text += n;
				continue;
			} else if (*glob && *glob == *text) {
				glob++;
				text++;
				continue;
			}
		} else if (!*glob) {
			return true;
		}
		if (!star || resume >= end)
			return false;
		resume += character(resume, end - resume);
		text = resume;
		glob = star;
	}
}
