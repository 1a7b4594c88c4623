/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A compiled policy and the facts of a call come in; the rule that decides goes out. The library's
 * judge, and its readers of policies, URIs and documents, in one shared library without libvirt:
 * what a call's arguments would tell is told here.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "enforcer.h"

/* a daemon of root's */
#define geteuid in_arguments_geteuid
static unsigned in_arguments_geteuid(void) { return 0; }
/* of these, objects.c and connection.c have what looks into arguments */
#define find_objects in_arguments_objects
#define find_connection in_arguments_connection
#define connection_of in_arguments_connection_of
#define document_of in_arguments_document
#define next_handle in_arguments_next_handle
#define is_refused in_arguments_is_refused
#define forget_objects in_arguments_forget
void in_arguments_forget(struct question *ask);
#include "objects/objects.c"
#include "objects/connection.c"
#undef find_objects
#undef find_connection
#undef connection_of
#undef document_of
#undef next_handle
#undef is_refused
#undef forget_objects
#undef geteuid

char enforcer_stubs[FUNCTIONS * STUB_BYTES];
const struct function functions[FUNCTIONS] = { FUNCTION_ROWS };
_Atomic(uint64_t) reals[FUNCTIONS];
struct inner inner;
atomic_bool objects_due, started;
bool is_daemon;

struct thing {
	const char *name, *parent;		/* parent NULL: not known; "": the object has
						   none */
	uint32_t has_name, has_uuid;		/* enum certainty */
	uint32_t is_part;			/* it is PARENT's, and named by that too */
	uint8_t uuid[16];
};

struct facts {
	const struct head *policy;
	struct thing things[3];
	const char *sasl, *x509, *exe, *uri;	/* NULL: not known */
	uint64_t args[6];
	const char *texts[6];			/* arguments that are documents or strings; NULL:
						   none */
	uint32_t number, uid, gid, thing_count;
	uint32_t is_readonly;			/* enum certainty */
	uint32_t in_daemon;
};
static const struct facts *facts;
static const char *decided;

void resolve(void) { }
bool has_libvirt(void) { return false; }
bool called_by_libvirt(struct call *call) { return false; }
void find_user(struct who *who) { }
void forget_who(struct question *ask) { }
const char *find_exe(struct question *ask, struct who *who) { return who->exe; }
void alert(const char *what, const char *path) { }
void deny(struct question *ask, void *connection, const char *rule, const char *message) { }
void forget_objects(struct question *ask) { ask->have_objects = false; }
void *connection_of(struct question *ask) { return NULL; }
unsigned next_handle(struct question *ask, unsigned number) { return 0; }
bool is_refused(struct question *ask) { return false; }
const char *document_of(struct call *call, unsigned number)
{
	return facts->texts[number & ~IN_PARAMS];
}

void find_who(struct question *ask)
{
	ask->who_count = 1;
	ask->who[0] = (struct who){ .uid = facts->uid,
				    .gid = facts->gid,
				    .sasl = facts->sasl,
				    .x509 = facts->x509,
				    .exe = facts->exe ? facts->exe : "" };
}

void say_verdict(struct question *ask, enum verdict_action action, const char *rule,
		 const char *message)
{
	decided = rule;
}

static void add_thing(struct question *ask, const struct thing *thing)
{
	struct object *object = &ask->objects[ask->object_count++];
	bool has_parent = !thing->parent || *thing->parent;

	*object = (struct object){ .has_name = thing->has_name, .has_uuid = thing->has_uuid };
	memcpy(object->uuid, thing->uuid, 16);
	if (thing->has_name != YES)
		return;
	set_name(object, thing->is_part && thing->parent ? thing->parent : thing->name);
	if (has_parent && !thing->parent) {
		object->misses_parent = true;
	} else if (has_parent && thing->is_part) {
		struct object *part = &ask->objects[ask->object_count++];

		*part = (struct object){ .has_uuid = NO,
					 .parent = thing->parent,
					 .parent_is_name = true };
		set_name(part, thing->name);
	} else if (has_parent) {
		object->parent = thing->parent;
	}
}

void find_objects(struct question *ask)
{
	if (ask->have_objects)
		return;
	ask->have_objects = true;
	ask->object_count = 0;
	for (uint32_t i = 0; i < facts->thing_count; i++)
		add_thing(ask, &facts->things[i]);
}

void find_connection(struct question *ask)
{
	ask->is_readonly = facts->is_readonly;
	ask->has_uri = UNKNOWN;
	if (facts->uri && append(ask->uri, sizeof(ask->uri), 0, facts->uri) &&
	    strip_uri(ask->bare_uri, sizeof(ask->bare_uri), facts->uri) &&
	    is_own_driver(ask->bare_uri))
		ask->has_uri = YES;
}

static struct held held;
struct held *__wrap_take_policy(unsigned which);
struct held *__wrap_take_policy(unsigned which)
{
	held.head = facts->policy;
	return which ? NULL : &held;
}
void __wrap_drop_policy(struct held *held);
void __wrap_drop_policy(struct held *held) { }

/* The name of the rule that decides; NULL: none does. "": it is no policy. */
const char *deciding(const struct facts *of);
const char *deciding(const struct facts *of)
{
	struct {
		struct call call;
		uint64_t stack[12];
	} made = { .call.number = of->number };
	const char *problem;

	if (!check_policy(of->policy, of->policy->size, &problem))
		return "";
	facts = of;
	is_daemon = of->in_daemon;
	decided = NULL;
	memcpy(made.call.args, of->args, sizeof(of->args));
	judge(&made.call);
	return decided;
}
