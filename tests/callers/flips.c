/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * flips URI CALLS KEPT OTHER: another thread keeps changing what a call names, between two guests
 * that are there (in a handle: name and UUID) and between two documents. Prints how many calls on
 * the guests and how many definitions passed, were denied, and ended otherwise.
 */

#include "caller.h"
#include <pthread.h>
#include <stdatomic.h>

#define NAME 32		/* offsets in a domain's handle */
#define UUID 44
#define XML \
	"<domain type='%s'><name>%s</name><memory>65536</memory><os><type>hvm</type></os></domain>"

static atomic_bool done;
static char documents[2][512], document[512], uuids[2][16];
static const char *names[2];
static virDomainPtr handle;

static void *flip(void *data)
{
	(void)data;
	for (unsigned i = 0; !done; i++) {
		*(const char *volatile *)((char *)handle + NAME) = names[i & 1];
		memcpy((char *)handle + UUID, uuids[i & 1], 16);
		memcpy(document, documents[i >> 1 & 1], sizeof(document));
	}
	return NULL;
}

static void count(bool passed, unsigned counts[3])
{
	virErrorPtr error = passed ? NULL : virGetLastError();

	counts[passed ? 0 : error && error->code == VIR_ERR_ACCESS_DENIED ? 1 : 2]++;
}

int main(int argc, char **argv)
{
	unsigned guests[3] = { 0 }, defined[3] = { 0 };
	bool is_test = !strncmp(argv[1], "test", 4);
	virDomainPtr others[2];
	virConnectPtr conn;
	const char *own;
	pthread_t thread;

	check(argc == 5, "counting arguments");
	virSetErrorFunc(NULL, no_message);
	conn = virConnectOpen(argv[1]);
	check(conn, "virConnectOpen");
	for (int i = 0; i < 2; i++) {
		snprintf(documents[i], sizeof(documents[i]), XML, is_test ? "test" : "qemu",
			 i ? "flip-good" : "flip-evil");
		names[i] = argv[3 + i];
		others[i] = find_domain(conn, names[i]);
		check(!virDomainGetUUID(others[i], (unsigned char *)uuids[i]), "virDomainGetUUID");
	}
	memcpy(document, documents[1], sizeof(document));
	handle = find_domain(conn, names[1]);
	own = *(const char **)((char *)handle + NAME);
	check(!pthread_create(&thread, NULL, flip, NULL), "pthread_create");
	for (int i = atoi(argv[2]); i > 0; i--) {
		virDomainPtr made;

		count(!virDomainSetAutostart(handle, 1), guests);
		made = virDomainDefineXML(conn, document);
		count(made, defined);
		if (made)
			virDomainFree(made);
	}
	done = true;
	pthread_join(thread, NULL);
	*(const char **)((char *)handle + NAME) = own;
	virDomainFree(handle);
	virDomainFree(others[0]);
	virDomainFree(others[1]);
	virConnectClose(conn);
	printf("%u %u %u %u %u %u\n", guests[0], guests[1], guests[2], defined[0], defined[1],
	       defined[2]);
	return 0;
}
