/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Finds for whom a call is made: in a client the process itself, in a daemon the client that its
 * thread serves.
 *
 * In a daemon it is the kernel's word that counts, taken from the socket when the connection is
 * made, and what SASL or TLS have proved. A client may claim to be somebody else
 * (virConnectSetIdentity): that only adds a second one to be judged. It replaces the first where
 * libvirt means it to: where the peer is one of libvirt's own daemons, which speaks for its client.
 * These are known by their files. What the client of one that is not enforced has claimed there is
 * passed on as if it were known: for whom that one speaks can't be told.
 *
 * A thread that serves nobody is the daemon itself.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include "enforcer.h"

#ifndef SO_PEERPIDFD
#define SO_PEERPIDFD 77	/* Linux 6.5 */
#endif
#define PEER_KEY "libvirt-trace-peer"
#define PUBLIC __attribute__((visibility("default")))

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

/* libvirt's connection */
static __thread void *serving __attribute__((tls_model("initial-exec")));

static bool reads(const char *path, char *buffer, size_t size)
{
	ssize_t length = readlink(path, buffer, size);

	buffer[length > 0 && length < (ssize_t)size ? length : 0] = 0;
	return buffer[0];
}

static bool is_same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static void proc_path(char *path, size_t size, int pid, const char *rest)
{
	size_t n = append(path, size, 0, "/proc/");

	n = append_number(path, size, n, pid);
	append(path, size, n, rest);
}

/*
 * The program of a process, by its path; "": it can't be told. Whoever can mount in a namespace of
 * his own can put any file at any path: there a path counts only where the same file is at it here.
 */
static void read_exe(int pid, char *exe, size_t size, struct stat *file)
{
	char path[48], own_namespace[64], its_namespace[64];
	struct stat here;

	proc_path(path, sizeof(path), pid, "/exe");
	if (!reads(path, exe, size) || stat(path, file)) {
		exe[0] = 0;
		return;
	}
	if (!stat(exe, &here) && is_same_file(&here, file))
		return;
	proc_path(path, sizeof(path), pid, "/ns/mnt");
	if (!reads(path, its_namespace, sizeof(its_namespace)) ||
	    !reads("/proc/self/ns/mnt", own_namespace, sizeof(own_namespace)) ||
	    strcmp(its_namespace, own_namespace))
		exe[0] = 0;
}

/* Whether the file is one of libvirt's daemons: in one folder, and only root may write to them. */
static bool is_daemon_file(const struct stat *file)
{
	static const char *const names[] = {
		"virtproxyd", "libvirtd", "virtqemud", "virtlxcd", "virtchd", "virtxend",
		"virtvboxd", "virtvzd", "virtbhyved", "virtnetworkd", "virtstoraged",
		"virtnwfilterd", "virtsecretd", "virtnodedevd", "virtinterfaced"
	};
	char path[600];
	struct stat one;
	char *name;

	if (file->st_uid != 0 || file->st_mode & 022 || !reads("/proc/self/exe", path, 512))
		return false;
	name = strrchr(path, '/') + 1;
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		append(path, sizeof(path), name - path, names[i]);
		if (!stat(path, &one) && is_same_file(&one, file))
			return true;
	}
	return false;
}

/* Whether the process, one of libvirt's daemons, has this library. */
static bool has_this_library(int pid)
{
	static const char name[] = "/libvirt-trace-enforcer.so";
	char path[48], part[4096];
	bool found = false;
	size_t kept = 0;
	ssize_t length;
	int fd;

	proc_path(path, sizeof(path), pid, "/maps");
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && !found && (length = read(fd, part + kept, sizeof(part) - kept)) > 0) {
		kept += length;
		found = memmem(part, kept, name, sizeof(name) - 1);
		/* it may begin in this part and end in the next one */
		length = kept < sizeof(name) ? kept : sizeof(name);
		memmove(part, part + kept - length, length);
		kept = length;
	}
	if (fd >= 0)
		close(fd);
	return found;
}

/* Whether the process that made the connection is still the one of its number: it has not ended. */
static bool is_still_there(int fd)
{
	struct pollfd end = { .fd = -1, .events = POLLIN };
	socklen_t size = sizeof(end.fd);
	bool ended;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERPIDFD, &end.fd, &size))
		return errno == ENOPROTOOPT;	/* an older kernel can't say */
	ended = poll(&end, 1, 0) != 0;
	close(end.fd);
	return !ended;
}

static void read_peer(struct peer *peer, int fd)
{
	struct sockaddr_storage address;
	socklen_t size = sizeof(address);
	struct stat file = { 0 };
	struct ucred peercred;

	peer->uid = peer->gid = -1;
	peer->pid = -1;
	if (fd < 0 || getsockname(fd, (struct sockaddr *)&address, &size) ||
	    address.ss_family != AF_UNIX)
		return;
	size = sizeof(peercred);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peercred, &size))
		return;
	peer->uid = peercred.uid;
	peer->gid = peercred.gid;
	if (peercred.pid <= 0)
		return;
	peer->pid = peercred.pid;
	read_exe(peer->pid, peer->exe, sizeof(peer->exe), &file);
	peer->is_libvirt = peer->exe[0] && (peer->uid == 0 || peer->uid == geteuid()) &&
			   is_daemon_file(&file);
	peer->is_enforced = peer->is_libvirt && has_this_library(peer->pid);
	if (!is_still_there(fd)) {
		peer->exe[0] = 0;
		peer->is_libvirt = peer->is_enforced = false;
	}
}

static void free_peer(void *data)
{
	void (*free_params)(void *, int) = (void *)real_of(NUMBER_virTypedParamsFree);
	struct peer *peer = data;

	if (peer->params && free_params)
		free_params(peer->params, peer->param_count);
	if (peer->identity && inner.unref)
		inner.unref(peer->identity);
	free(peer);
}

/* The peer of libvirt's connection; NULL: there is no memory. */
static struct peer *peer_of(void *client)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	struct peer *peer = inner.get_data ? inner.get_data(client, PEER_KEY) : NULL;
	int saved = errno;

	if (peer || !inner.set_data || !inner.client_fd)
		return peer;
	/* mostly done when the connection is made, by one thread */
	pthread_mutex_lock(&lock);
	peer = inner.get_data(client, PEER_KEY);
	if (!peer && (peer = calloc(1, sizeof(*peer)))) {
		read_peer(peer, inner.client_fd(client));
		inner.set_data(client, PEER_KEY, peer, free_peer);
	}
	pthread_mutex_unlock(&lock);
	errno = saved;
	return peer;
}

/* libvirt's inner functions, called by itself through its linkage table, are led through these. */

PUBLIC int virNetServerAddClient(void *server, void *client);
PUBLIC int virNetServerAddClient(void *server, void *client)
{
	if (!inner.add_client)
		resolve();
	peer_of(client);
	return inner.add_client ? inner.add_client(server, client) : -1;
}

PUBLIC int virNetServerProgramDispatch(void *program, void *server, void *client, void *message);
PUBLIC int virNetServerProgramDispatch(void *program, void *server, void *client, void *message)
{
	void *before = serving;
	int result;

	if (!inner.dispatch)
		resolve();
	if (!inner.dispatch)
		return -1;
	serving = client;
	result = inner.dispatch(program, server, client, message);
	serving = before;
	return result;
}

/*
 * A claim. What libvirt asks other daemons in this one's name must not be asked in the claimed
 * one's.
 */
PUBLIC void virNetServerClientSetIdentity(void *client, void *identity);
PUBLIC void virNetServerClientSetIdentity(void *client, void *identity)
{
	struct peer *peer = peer_of(client);

	if (peer && !peer->has_claim) {
		peer->identity = inner.client_identity ? inner.client_identity(client) : NULL;
		if (peer->identity && inner.get_params &&
		    inner.get_params(peer->identity, &peer->params, &peer->param_count))
			peer->params = NULL;
		peer->has_claim = true;
	}
	if (inner.set_identity)
		inner.set_identity(client, identity);
}

/*
 * A daemon passes the identity of its client on to other daemons: of one whose claim proves
 * nothing, the peer's own, and nothing at all where it can't be told.
 */
void speak_for_peer(struct call *call)
{
	struct peer *peer = serving ? peer_of(serving) : NULL;

	if (!peer || !peer->has_claim || peer->is_enforced)
		return;
	call->args[1] = (uint64_t)peer->params;
	call->args[2] = peer->is_libvirt || !peer->params ? 0 : peer->param_count;
}

/* Who the identity says it is; each function returns 1 when there is such a thing. */
static void read_identity(struct who *who, void *identity)
{
	if (!inner.get_pid || inner.get_pid(identity, &who->pid) != 1)
		who->pid = -1;
	if (!inner.get_uid || inner.get_uid(identity, &who->uid) != 1)
		who->uid = -1;
	if (!inner.get_gid || inner.get_gid(identity, &who->gid) != 1)
		who->gid = -1;
	if (!inner.get_sasl || inner.get_sasl(identity, &who->sasl) != 1)
		who->sasl = NULL;
	if (!inner.get_x509 || inner.get_x509(identity, &who->x509) != 1)
		who->x509 = NULL;
}

static void note_claim(struct question *ask, const struct peer *peer)
{
	size_t n = append(ask->note, sizeof(ask->note), 0, "uid ");

	if (peer->is_libvirt)
		n = append(ask->note, sizeof(ask->note), 0, "a daemon that is not enforced");
	else if (ask->who[0].uid == (uint32_t)-1)
		n = append(ask->note, sizeof(ask->note), 0, "the client");
	else
		n = append_number(ask->note, sizeof(ask->note), n, ask->who[0].uid);
	n = append(ask->note, sizeof(ask->note), n, " says that it acts for ");
	if (ask->who[1].uid == (uint32_t)-1) {
		append(ask->note, sizeof(ask->note), n, "somebody else");
		return;
	}
	n = append(ask->note, sizeof(ask->note), n, "uid ");
	append_number(ask->note, sizeof(ask->note), n, ask->who[1].uid);
}

/* None: the daemon does it by itself. */
void find_who(struct question *ask)
{
	struct who *who = ask->who;
	struct peer *peer;
	bool speaks;

	ask->who_count = 0;
	ask->identity = NULL;
	*who = (struct who){ .uid = -1, .gid = -1, .pid = -1, .exe = "" };
	if (!is_daemon) {
		ask->who_count = 1;
		who->pid = 0;	/* this one; its user when somebody asks: that takes system calls */
		return;
	}
	if (!serving)
		return;
	ask->who_count = 1;
	ask->identity = inner.current_identity ? inner.current_identity() : NULL;
	peer = peer_of(serving);
	speaks = peer && peer->is_libvirt && peer->has_claim;
	if (speaks && !peer->is_enforced) {
		who++;
	} else if (peer && !speaks) {
		/* of libvirt's identity only the names that SASL and TLS have proved are needed */
		void *proved = peer->has_claim ? peer->identity : ask->identity;

		if (proved)
			read_identity(who, proved);
		who->uid = peer->uid;
		who->gid = peer->gid;
		who->pid = peer->pid;
		who->exe = peer->exe;
		who++;
	}
	if (peer && !peer->has_claim)
		return;
	/* a claim; or nothing else is known */
	*who = (struct who){ .uid = -1, .gid = -1, .pid = -1, .exe = NULL };
	if (ask->identity)
		read_identity(who, ask->identity);
	ask->who_count = who - ask->who + 1;
	if (ask->who_count == 2)
		note_claim(ask, peer);
}

void find_user(struct who *who)
{
	if (is_daemon || who->uid != (uint32_t)-1)
		return;
	who->uid = geteuid();
	who->gid = getegid();
}

void forget_who(struct question *ask)
{
	if (ask->identity && inner.unref)
		inner.unref(ask->identity);
	ask->identity = NULL;
}

/* The program; "": it can't be told. */
const char *find_exe(struct question *ask, struct who *who)
{
	struct stat file;

	if (who->exe && (is_daemon || *who->exe))
		return who->exe;
	ask->exe[0] = 0;
	if (who->pid > 0)
		read_exe(who->pid, ask->exe, sizeof(ask->exe), &file);
	else if (who->pid == 0 && !is_daemon)
		reads("/proc/self/exe", ask->exe, sizeof(ask->exe));
	return who->exe = ask->exe;
}
