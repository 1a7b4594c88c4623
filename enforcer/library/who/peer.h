/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* peer.c: who is at the other end of a daemon's connection. */
#ifndef PEER_H
#define PEER_H
#include <sys/stat.h>
#include "enforcer.h"

/* The other end of a daemon's connection; belongs to libvirt's object of the connection. */
struct peer {
	uint32_t uid, gid;	/* (uint32_t)-1: not known */
	int pid;		/* -1: on another host, or in another pid namespace */
	bool is_libvirt;	/* one of its daemons, which may speak for others */
	bool is_enforced;	/* that, and it doesn't pass on what these only claim */
	bool has_claim;		/* it has said that it is somebody else */
	char exe[512];		/* "": it can't be told */
	void *identity;		/* NULL, or what libvirt knew of it before its claim */
	void *params;		/* that, for other daemons that this one asks in its name */
	int param_count;
};

bool reads(const char *path, char *buffer, size_t size);
void read_exe(int pid, char *exe, size_t size, struct stat *file);
struct peer *peer_of(void *client);

#endif
