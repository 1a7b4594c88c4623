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
#include <unistd.h>
#include "peer.h"

#define PUBLIC __attribute__((visibility("default")))

/* libvirt's connection */
static __thread void *serving __attribute__((tls_model("initial-exec")));

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
