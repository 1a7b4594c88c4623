/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * One call of each kind of argument and output on the test driver; prints the line that the tracer
 * must print, as a JSON string.
 */

#include "caller.h"
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define LINE(...) printf("\"" __VA_ARGS__), puts("\"")
#define MANY 70

static virTypedParameter many[MANY];

/* Two pages, the second of which can't be read: what ends there. */
static char *edge(void)
{
	char *at = mmap((void *)0x600000000000, 8192, PROT_READ | PROT_WRITE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	check(at != MAP_FAILED && !mprotect(at + 4096, 4096, PROT_NONE), "mmap");
	return at + 4096;
}

static void typed_parameters(virDomainPtr domain)
{
	virTypedParameter param = { .field = "weight",
				    .type = VIR_TYPED_PARAM_UINT,
				    .value.ui = 23 };
	virTypedParameter back[4];
	int n = 0;

	check(!virDomainSetSchedulerParameters(domain, &param, 1), "set");
	LINE("virDomainSetSchedulerParameters(domain=test, params={weight=23}, nparams=1) = 0");
	check(!virDomainGetMemoryParameters(domain, NULL, &n, 0) && n == 3, "count");
	LINE("virDomainGetMemoryParameters(domain=test, params=NULL, nparams=0, flags=0 => "
	     "nparams=3) = 0");
	n = 4;
	check(!virDomainGetMemoryParameters(domain, back, &n, 0) && n == 3, "get");
	LINE("virDomainGetMemoryParameters(domain=test, nparams=4, flags=0 => params={%s=%llu, "
	     "%s=%llu, %s=%llu}, nparams=3) = 0",
	     back[0].field, back[0].value.ul, back[1].field, back[1].value.ul, back[2].field,
	     back[2].value.ul);
}

static void numbers(virConnectPtr conn, virDomainPtr domain)
{
	unsigned int pages[] = { 4, 2048 };
	unsigned long long counts[4];
	unsigned char map[] = { 0x0f, 0x01 };
	int state, reason, filled, ids[5];
	unsigned long version;

	check(!virDomainGetState(domain, &state, NULL, 0), "state");
	LINE("virDomainGetState(domain=test, reason=NULL, flags=0 "
	     "=> state=VIR_DOMAIN_RUNNING) = 0");
	check(!virDomainSuspend(domain) && !virDomainGetState(domain, &state, &reason, 0), "state");
	LINE("virDomainSuspend(domain=test) = 0");
	LINE("virDomainGetState(domain=test, flags=0 => state=VIR_DOMAIN_PAUSED, "
	     "reason=VIR_DOMAIN_PAUSED_USER) = 0");
	/*
	 * libvirt's test driver said 0 up to some release after 9.0; the number of counts is right
	 */
	filled = virNodeGetFreePages(conn, 2, pages, 0, 2, counts, 0);
	check(filled >= 0, "pages");
	LINE("virNodeGetFreePages(conn=test:///default, npages=2, pages=[4, 2048], startCell=0, "
	     "cellCount=2, flags=0"
	     " => counts=[%llu, %llu, %llu, %llu]) = %d",
	     counts[0], counts[1], counts[2], counts[3], filled);
	check(!virDomainPinVcpu(domain, 0, map, 2), "pin");
	LINE("virDomainPinVcpu(domain=test, vcpu=0, cpumap=\\\"0-3,8\\\", maplen=2) = 0");
	check(virConnectListDomains(conn, ids, 5) == 1, "ids");
	LINE("virConnectListDomains(conn=test:///default, maxids=5 => ids=[%d]) = 1", ids[0]);
	check(!virConnectGetVersion(conn, &version), "version");
	LINE("virConnectGetVersion(conn=test:///default => hvVer=%lu) = 0", version);
}

static void structs_and_lists(virConnectPtr conn, virDomainPtr domain)
{
	char uuid[VIR_UUID_STRING_BUFLEN];
	virDomainPtr *domains;
	virDomainStatsRecordPtr *stats;
	virNodeInfo node;
	char *names[3];

	check(!virNodeGetInfo(conn, &node), "node");
	LINE("virNodeGetInfo(conn=test:///default => info={model=\\\"%s\\\", memory=%lu, cpus=%u, "
	     "mhz=%u, nodes=%u, sockets=%u, cores=%u, threads=%u}) = 0",
	     node.model, node.memory, node.cpus, node.mhz, node.nodes, node.sockets, node.cores,
	     node.threads);
	check(!virDomainGetUUIDString(domain, uuid), "uuid");
	LINE("virDomainGetUUIDString(domain=test => buf=\\\"%s\\\") = 0", uuid);
	check(virConnectListAllDomains(conn, &domains, 0) == 1, "list");
	LINE("virConnectListAllDomains(conn=test:///default, flags=0 => domains=[test]) = 1");
	check(virConnectListNetworks(conn, names, 3) == 1, "names");
	LINE("virConnectListNetworks(conn=test:///default, maxnames=3 => names=[\\\"%s\\\"]) = 1",
	     names[0]);
	check(virConnectGetAllDomainStats(conn, VIR_DOMAIN_STATS_STATE, &stats, 0) == 1, "stats");
	LINE("virConnectGetAllDomainStats(conn=test:///default, stats=VIR_DOMAIN_STATS_STATE, "
	     "flags=0 => retStats=[{dom=test, params={state.state=VIR_DOMAIN_PAUSED, "
	     "state.reason=VIR_DOMAIN_PAUSED_USER}}]) = 1");
	virDomainDefineXML(NULL, "<domain type='test'><name>web1</name>"
			   "<memory unit='MiB'>64</memory><vcpu>1</vcpu><devices>"
			   "<disk/><disk/><interface type='user'/></devices></domain>");
	LINE("virDomainDefineXML(conn=NULL, xml=<domain name=web1 memory=64MiB vcpu=1 disks=2 "
	     "nics=1>) = NULL");
}

/*
 * Each in a process of its own, as some end it: libvirt looks at the parameters before it misses
 * the domain.
 */
#define TRY(call, ...) do { fflush(stdout); if (!fork()) { call; _exit(0); } \
	wait(NULL); LINE(__VA_ARGS__); } while (0)

static void hostile(void)
{
	char *end = edge();
	virTypedParameterPtr last = (virTypedParameterPtr)end - 1;
	const char *mounts[] = { "/a", (const char *)1, NULL, end - 3 };
	int files[] = { 3, 4 };

	strcpy(last->field, "last");
	last->type = VIR_TYPED_PARAM_INT;
	last->value.i = 5;
	TRY(virDomainSetBlkioParameters(NULL, last, 3, 0),
	    "virDomainSetBlkioParameters(domain=NULL, params={last=5, "
	    "\\\"#1\\\"=%p /* unreadable */, \\\"#2\\\"=%p /* unreadable */}, nparams=3, flags=0)",
	    (void *)(last + 1), (void *)(last + 2));
	TRY(virDomainSetBlkioParameters(NULL, (void *)0x4141414141414141, 1, 0),
	    "virDomainSetBlkioParameters(domain=NULL, params={\\\"#0\\\"=0x4141414141414141 "
	    "/* unreadable */}, nparams=1, flags=0)");
	TRY(virDomainSetBlkioParameters(NULL, last, -1, 0),
	    "virDomainSetBlkioParameters(domain=NULL, params={... 4294967295 in all}, nparams=-1, "
	    "flags=0)");
	last->type = VIR_TYPED_PARAM_STRING;
	last->value.s = (char *)1;
	TRY(virDomainSetBlkioParameters(NULL, last, 1, 0),
	    "virDomainSetBlkioParameters(domain=NULL, params={last=0x1 /* unreadable */}, "
	    "nparams=1, flags=0)");
	memset(end - 3, 'x', 3);	/* without an end */
	TRY(virDomainFSFreeze(NULL, mounts, 4, 0),
	    "virDomainFSFreeze(dom=NULL, mountpoints=[\\\"/a\\\", 0x1 /* unreadable */, NULL, "
	    "%p /* unreadable */], nmountpoints=4, flags=0)",
	    (void *)(end - 3));
	TRY(virDomainCreateWithFiles(NULL, 2, files, 0),
	    "virDomainCreateWithFiles(domain=NULL, nfiles=2, files=[3, 4], flags=0)");
	TRY(virDomainCreateWithFiles(NULL, 1U << 31, (int *)(end - 4), 0),
	    "virDomainCreateWithFiles(domain=NULL, nfiles=2147483648, "
	    "files=[... 2147483648 in all], flags=0)");
	TRY(virDomainCreateWithFiles(NULL, 2, (int *)(end - 4), 0),
	    "virDomainCreateWithFiles(domain=NULL, nfiles=2, files=%p /* unreadable */, flags=0)",
	    (void *)(end - 4));
	for (int i = 0; i < MANY; i++) {
		snprintf(many[i].field, sizeof(many[i].field), "p%d", i);
		many[i].type = VIR_TYPED_PARAM_ULLONG;
		many[i].value.ul = i;
	}
	fflush(stdout);
	if (!fork()) {
		virDomainSetBlkioParameters(NULL, many, MANY, 0);
		_exit(0);
	}
	wait(NULL);
	printf("\"virDomainSetBlkioParameters(domain=NULL, params={");
	for (int i = 0; i < 64; i++)
		printf("p%d=%d, ", i, i);
	puts("... 70 in all}, nparams=70, flags=0)\"");
}

int main(void)
{
	struct rlimit no_core = { 0, 0 };
	virConnectPtr conn = open_test();
	virDomainPtr domain = find_domain(conn, "test");

	setrlimit(RLIMIT_CORE, &no_core);
	typed_parameters(domain);
	numbers(conn, domain);
	structs_and_lists(conn, domain);
	hostile();
	return 0;
}
