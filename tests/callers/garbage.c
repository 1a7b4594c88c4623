/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Hands libvirt pointers that lead nowhere, as strings and as handles, each in a child process;
 * prints the pointer and what became of the call: {"case":..., "function":..., "pointer":...,
 * "text": null or the string there, "status":...}.
 */

#include "caller.h"
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define PAGE 4096
#define AT ((char *)0x600000000000)	/* the same in every run */

static char *page(int n, int protection)
{
	char *at = mmap(AT + n * 16 * PAGE, PAGE, protection,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	check(at != MAP_FAILED, "mmap");
	return at;
}

/* A file's page behind the file's end: reading it raises SIGBUS. */
static char *behind_end(void)
{
	char name[] = "/tmp/garbage-XXXXXX";
	int fd = mkstemp(name);
	char *at;

	check(fd >= 0 && !unlink(name) && !ftruncate(fd, 10), "mkstemp");
	at = mmap(AT + 100 * PAGE, 2 * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0);
	check(at != MAP_FAILED, "mmap");
	return at + PAGE;
}

static int look_up(virConnectPtr conn, void *name)
{
	(void)conn;
	/* refused before the name is read */
	return virDomainLookupByName(NULL, name) ? 1 : 0;
}

static int define(virConnectPtr conn, void *xml)
{
	(void)conn;
	return virDomainDefineXML(NULL, xml) ? 1 : 0;
}

static int get_name(virConnectPtr conn, void *domain)
{
	(void)conn;
	return virDomainGetName(domain) ? 1 : 0;
}

static int is_alive(virConnectPtr conn, void *pointer)
{
	(void)conn;
	return virConnectIsAlive(pointer) + 2;
}

static int get_type(virConnectPtr conn, void *domain)
{
	(void)conn;
	return virDomainGetOSType(domain) ? 1 : 0;
}

static const struct {
	const char *name;
	int (*call)(virConnectPtr, void *);
} functions[] = {
	{ "virDomainLookupByName", look_up },
	{ "virDomainDefineXML", define },
	{ "virDomainGetName", get_name },
	{ "virConnectIsAlive", is_alive },
	{ "virDomainGetOSType", get_type },
};

static void try(const char *what, virConnectPtr conn, void *pointer, const char *text)
{
	for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++) {
		int status;

		fflush(stdout);
		if (!fork())
			_exit(functions[i].call(conn, pointer));
		wait(&status);
		printf("{\"case\":\"%s\",\"function\":\"%s\",", what, functions[i].name);
		printf("\"pointer\":\"%p\",\"status\":%d,\"text\":", pointer, status);
		if (text)
			print_bytes(text, strlen(text));
		else
			printf("null");
		puts("}");
	}
}

int main(void)
{
	struct rlimit no_core = { 0, 0 };
	virConnectPtr conn = open_test();
	char *readable = page(0, PROT_READ | PROT_WRITE);

	setrlimit(RLIMIT_CORE, &no_core);
	strcpy(readable + PAGE - 5, "last");
	try("end of a mapping", conn, readable + PAGE - 5, "last");
	memset(readable + PAGE - 10, 'x', 10);
	try("no NUL before the end", conn, readable + PAGE - 10, NULL);
	memset(readable, 0, PAGE);
	try("zeros", conn, readable, "");
	try("one", conn, (void *)1, NULL);
	try("minus one", conn, (void *)-1, NULL);
	try("not canonical", conn, (void *)0x4141414141414141, NULL);
	try("kernel", conn, (void *)0xffffffff81000000, NULL);
	try("vsyscall", conn, (void *)0xffffffffff600000, NULL);
	try("protected", conn, page(1, PROT_NONE), NULL);
	readable = page(2, PROT_READ);
	check(!munmap(readable, PAGE), "munmap");
	try("unmapped", conn, readable, NULL);
	try("behind the end of a file", conn, behind_end(), NULL);
	check(virDomainGetMaxVcpus((virDomainPtr)conn) < 0, "a connection is no domain: the call");
	return 0;
}
