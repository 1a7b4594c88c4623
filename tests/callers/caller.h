/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What the callers share: a quiet connection to libvirt's test driver, and facts printed as JSON, a
 * call a line.
 */

#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CALLS 23		/* of everything that is counted: a prime */

__attribute__((unused)) static void check(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "caller: %s failed: %s\n", what, virGetLastErrorMessage());
		_exit(99);
	}
}

static void no_message(void *data, virErrorPtr error)
{
	(void)data;
	(void)error;
}

__attribute__((unused)) static virConnectPtr open_test(void)
{
	virConnectPtr conn;

	virSetErrorFunc(NULL, no_message);
	conn = virConnectOpen("test:///default");
	check(conn, "virConnectOpen");
	return conn;
}

__attribute__((unused)) static virDomainPtr find_domain(virConnectPtr conn, const char *name)
{
	virDomainPtr domain = virDomainLookupByName(conn, name);

	check(domain, "virDomainLookupByName");
	return domain;
}

/* Bytes as a JSON string in which each character is a byte: U+00NN. */
__attribute__((unused)) static void print_bytes(const void *data, size_t size)
{
	const unsigned char *byte = data;

	putchar('"');
	for (size_t i = 0; i < size; i++)
		if (byte[i] < ' ' || byte[i] > '~' || byte[i] == '"' || byte[i] == '\\')
			printf("\\u%04x", byte[i]);
		else
			putchar(byte[i]);
	putchar('"');
}

/* `size` bytes that tell where they belong; the test makes the same. */
__attribute__((unused)) static void fill(char *text, size_t size)
{
	for (size_t i = 0; i < size; i++)
		text[i] = 'a' + (i % 23 + i / 23) % 26;
	text[size] = 0;
}
