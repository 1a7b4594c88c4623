/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Calls on what is no handle, or one of another kind, with pointers behind it that lead nowhere:
 * prints libvirt's errors.
 */
#include "caller.h"

#define NOWHERE ((const char *)1)
#define SAY(call) do { virResetLastError(); (void)(call); said(#call); } while (0)

static void said(const char *call)
{
	printf("%s: %d %s\n", call, virGetLastErrorCode(), virGetLastErrorMessage());
}

int main(void)
{
	virConnectPtr conn = open_test();
	virDomainPtr dom = virDomainLookupByName(conn, "test"), *none = NULL, empty[1] = { NULL };
	virNetworkPtr net = virNetworkLookupByName(conn, "default");
	virDomainStatsRecordPtr *records;

	SAY(virDomainCreate(NULL));
	SAY(virDomainCreate((virDomainPtr)net));
	SAY(virDomainCreate((virDomainPtr)conn));
	SAY(virDomainDefineXML(NULL, NOWHERE));
	SAY(virDomainDefineXML((virConnectPtr)dom, NOWHERE));
	SAY(virDomainLookupByName(NULL, NOWHERE));
	SAY(virDomainLookupByName((virConnectPtr)net, NOWHERE));
	SAY(virDomainLookupByUUID(NULL, (const unsigned char *)"0123456789abcdef"));
	SAY(virDomainLookupByUUIDString((virConnectPtr)dom, NOWHERE));
	SAY(virDomainLookupByID(NULL, 1));
	SAY(virStorageVolCreateXML(NULL, NOWHERE, 0));
	SAY(virStorageVolCreateXML((virStoragePoolPtr)dom, NOWHERE, 0));
	SAY(virDomainRename(NULL, NOWHERE, 0));
	SAY(virDomainSnapshotDelete(NULL, 0));
	SAY(virNetworkDestroy((virNetworkPtr)dom));
	SAY(virDomainListGetStats(none, 0, &records, 0));
	SAY(virDomainListGetStats(empty, 0, &records, 0));
	SAY(virDomainDefineXML(conn, NULL));
	SAY(virDomainLookupByName(conn, NULL));
	return 0;
}
