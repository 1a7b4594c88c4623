/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the parts of the library share. Nothing here but libc; nothing allocates. */
#ifndef ENFORCER_H
#define ENFORCER_H

#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>
#include "table.h"

#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/*
 * A call as it came in; enter-ARCH.S fills it and knows its layout. The return address's slot is
 * right behind it.
 */
struct call {
	uint64_t args[6];
	uint64_t more[2];	/* x86-64: rax, r10; aarch64: the seventh and the eighth argument */
	uint8_t sse[8][16];
	uint64_t number;	/* of the function */
	uint64_t result;	/* what a denied call returns */
	uint64_t pad;
};
_Static_assert(sizeof(struct call) == 216, "enter-ARCH.S");

static inline uint64_t *return_slot(struct call *call)
{
	return (uint64_t *)(call + 1);
}

/* what is this machine's */
#if defined(__x86_64__)
#include "machines/abi-x86-64.h"
#elif defined(__aarch64__)
#include "machines/abi-aarch64.h"
#else
#error "this machine has no abi-MACHINE.h and no enter-MACHINE.S"
#endif

/* The i-th integer argument, those on the stack included. */
static inline uint64_t argument(struct call *call, unsigned i)
{
	return i < 6 ? call->args[i] : further_argument(call, i);
}

struct function {
	char name[44];
	uint8_t library;	/* probes/api/table.py: LIBRARIES */
	int8_t failure;		/* what it returns when it fails */
	uint8_t plumbing;	/* never judged */
};
extern const struct function functions[FUNCTIONS];

/* real.c */
/* addresses; 0: the loaded libvirt doesn't have it */
extern _Atomic(uint64_t) reals[FUNCTIONS];
extern char enforcer_stubs[];
void resolve(void);
bool has_libvirt(void);
static inline uint64_t real_of(unsigned number)
{
	return atomic_load_explicit(&reals[number], memory_order_relaxed);
}

/* Of libvirt and GObject, exported but not public; NULL: the loaded libvirt doesn't have it. */
#define INNER_FUNCTIONS(X) \
	X(void, report_error, \
	  (int domain, int code, const char *file, const char *function, size_t line, \
	   const char *format, ...), \
	  "virReportErrorHelper") \
	X(void, dispatch_error, (void *conn), "virDispatchError") \
	X(int, dispatch, (void *program, void *server, void *client, void *message), \
	  "virNetServerProgramDispatch") \
	X(int, add_client, (void *server, void *client), "virNetServerAddClient") \
	X(int, client_fd, (void *client), "virNetServerClientGetFD") \
	X(void *, client_identity, (void *client), "virNetServerClientGetIdentity") \
	X(void, set_identity, (void *client, void *identity), "virNetServerClientSetIdentity") \
	X(void *, current_identity, (void), "virIdentityGetCurrent") \
	X(int, get_params, (void *identity, void **params, int *count), \
	  "virIdentityGetParameters") \
	X(int, get_pid, (void *identity, int *pid), "virIdentityGetProcessID") \
	X(int, get_uid, (void *identity, uint32_t *uid), "virIdentityGetUNIXUserID") \
	X(int, get_gid, (void *identity, uint32_t *gid), "virIdentityGetUNIXGroupID") \
	X(int, get_sasl, (void *identity, const char **name), "virIdentityGetSASLUserName") \
	X(int, get_x509, (void *identity, const char **name), "virIdentityGetX509DName") \
	X(void, unref, (void *object), "g_object_unref") \
	X(const char *, type_name, (uint64_t type), "g_type_name") \
	X(void *, get_data, (void *object, const char *key), "g_object_get_data") \
	X(void, set_data, (void *object, const char *key, void *data, void (*destroy)(void *)), \
	  "g_object_set_data_full")
#define INNER_MEMBER(type, name, arguments, symbol) type(*name) arguments;
extern struct inner {
	INNER_FUNCTIONS(INNER_MEMBER)
} inner;

/* callers.c */
bool called_by_libvirt(struct call *call);
void rebind_all(void);
extern atomic_bool objects_due;		/* libraries may have been loaded */

/* tables.c */
void remember_folder(const char *libvirt);
bool imports(const struct link_map *map, const char *begin);

/*
 * policy_file.c: a compiled policy, which enforcer/compiled/writer.py writes; contract.h has the
 * compiler look whether both mean the same. Offsets are bytes from the start.
 */
struct head {
	char magic[8];
	uint32_t size;		/* bytes in all */
	uint32_t check;		/* CRC-32 of everything behind this field */
	uint8_t table_hash[32];
	uint64_t made;		/* s since the epoch */
	uint32_t flags;		/* HEAD_* */
	uint32_t rows;		/* functions in the table it was made for */
	uint32_t rules;
	uint32_t conditions;
	uint32_t rows_at;
	uint32_t rules_at;
	uint32_t conditions_at;
	uint32_t origin;	/* string: where it came from */
};
#define HEAD_AUDIT 1		/* log what would be denied, deny nothing */
#define HEAD_ON_ERROR_DENY 2
#define HEAD_MEANS_UNKNOWN 4	/* for the tracer: a rule is about functions that have no stub,
				   too */

struct row {			/* of a function */
	uint32_t program;	/* 0: no rule */
	uint32_t sources;	/* of the objects that it works on */
	uint32_t source_count;
	uint32_t pad;
};
struct program {		/* the rules of a function, by ascending number; shared by functions
				   that have the same */
	uint32_t all, all_count;		/* every rule */
	uint32_t general, general_count;	/* those that no prefix of a name selects */
	uint32_t table, table_bits;		/* hash table of struct bucket: by the hash of a
						   prefix that all names have */
	uint64_t lengths;			/* bit n: there are prefixes of n + 1 bytes */
};
#define PREFIX_MAX 32
struct bucket {
	uint32_t hash, rules, count, used;
};
enum action { NONE, ALLOW, AUDIT, DENY };
struct rule {
	uint32_t name, message;		/* strings */
	uint32_t first, count;		/* conditions */
	uint32_t action;
	uint32_t pad;
};
enum condition_kind {
	IS_OBJECT = 1,		/* strings: globs */
	IS_UUID,		/* 16 bytes each */
	IS_USER,		/* struct principal */
	IS_URI,			/* strings: globs */
	IS_READONLY,		/* value */
	IS_EXE,			/* strings: globs */
	FLAGS_ANY, FLAGS_ALL, FLAGS_NONE,	/* bits: value, argument */
	ARG_EQUALS, ARG_DIFFERS,	/* value, argument */
	CONTAINS,		/* strings: one is in the string argument */
	CONTAINS_XML,		/* the same, where another spelling may mean it, too */
	HAS_ELEMENT,		/* strings: one is an element of the document; NAME, or
				   NAME\1ATTRIBUTE\1VALUE */
	CONDITION_KINDS
};
struct condition {
	uint16_t kind;
	uint16_t argument;
	uint32_t items;		/* first the ones that match ... */
	uint32_t yes, no;	/* ... then the ones that must not; no `yes`: everything else
				   does */
	uint64_t value;
};
#define IN_PARAMS 0x80		/* of an argument: the document is among the typed parameters there,
				   whose number is the next argument */
struct principal {
	uint32_t kind, value;
};
enum principal_kind { UID, GID, SASL, X509 };	/* numbers; strings: globs */

struct source {			/* where a call names an object */
	uint8_t kind;
	uint8_t argument;
	uint8_t type;
	uint8_t second;		/* BY_PARAMS: argument with their number; BY_FOUND: with the name
				   that is looked for, 0: none */
};
enum source_kind {
	BY_HANDLE = 1, BY_NAME, BY_XML, BY_PARAMS, BY_UNKNOWN,
	BY_CONNECTION,		/* a handle that only tells the connection */
	IN_POOL,		/* the pool of the volume that the next source names */
	BY_FOUND,		/* what the call itself finds */
	BY_HANDLES,		/* a list of handles that NULL ends */
	BY_HANDLE_OR_ALL,	/* NULL means every object of that type */
	SOURCE_KINDS
};
enum object_type {
	CONNECT, DOMAIN, NETWORK, POOL, VOLUME, INTERFACE, NODEDEVICE, SECRET, NWFILTER, BINDING,
	NETWORKPORT, SNAPSHOT, CHECKPOINT, STREAM, OBJECT_TYPES
};

struct identity {		/* of a file */
	uint64_t device, inode, size;
	int64_t mtime_ns, ctime_ns;
};
struct counts {			/* counts.c: of a policy in force, for who looks from outside */
	uint64_t policy;	/* inode of its memory file */
	uint64_t rules;
	_Atomic(uint64_t) count[];	/* calls that each has decided */
};
struct counts *make_counts(uint64_t policy, uint32_t rules, size_t *size);
void drop_counts(struct counts *counts, size_t size);
struct held {			/* a policy in force */
	atomic_int users;	/* -1: the slot is free */
	const struct head *head;
	size_t size;		/* mapped bytes */
	struct identity identity;
	struct counts *counts;	/* NULL: there is no memory for it */
	size_t counts_size;
};
#define POLICIES 2		/* the system's, and the one in the environment */
extern _Atomic(uint8_t) ruled[FUNCTIONS];	/* whether any policy in force has a rule for it */
extern atomic_bool started;
void start(void);
void look_for_changes(void);
bool has_own_policy(void);
struct held *take_policy(unsigned which);
void drop_policy(struct held *held);
bool lacks_policy(unsigned which);
bool denies_without_policy(unsigned which);
extern atomic_bool problem_due;
void describe_problem(char *note, size_t size);
static inline const void *at(const struct head *head, uint32_t offset)
{
	return (const char *)head + offset;
}
static inline const struct row *row_of(const struct head *head, unsigned number)
{
	return (const struct row *)at(head, head->rows_at) + number;
}

/* check.c */
uint32_t crc32_of(const uint8_t *data, size_t size);
bool check_head(const struct head *head, size_t size, const char **problem);
bool check_policy(const void *data, size_t size, const char **problem);

/* objects.c */
enum certainty { NO, YES, UNKNOWN };
#define NAME_MAX_BYTES 1024
struct object {
	enum object_type type;
	enum certainty has_name, has_uuid;
	const char *name;	/* not terminated */
	const char *parent;	/* of "PARENT/NAME", terminated; NULL */
	size_t length;
	bool misses_parent;	/* it has one, which can't be told */
	bool parent_is_name;	/* a snapshot is named by its domain, too */
	bool only_parent;	/* of the next object: no object of the call itself */
	uint8_t uuid[16];
	void *lookup;		/* a handle to free afterwards: `name` is in it */
};
#define OBJECTS 8
struct who {			/* for whom the call is made */
	uint32_t uid, gid;	/* (uint32_t)-1: not known */
	int pid;		/* -1 */
	const char *sasl, *x509;
	const char *exe;	/* NULL: not looked at yet */
};
struct question {		/* everything about a call that rules ask for, filled as they ask */
	struct call *call;
	const struct row *row;
	const struct head *head;
	struct object objects[OBJECTS];
	unsigned object_count;
	bool have_objects, have_uri, looking, is_uncertain_list;
	struct who who[2];	/* the peer, and who it says that it acts for */
	unsigned who_count;	/* 0: a daemon does it by itself */
	unsigned turn;		/* which of them is asked about */
	void *identity;		/* holds their texts */
	char uri[512], bare_uri[512];
	enum certainty has_uri, is_readonly;
	char exe[512];
	char note[256];
};
void find_objects(struct question *ask);
void forget_objects(struct question *ask);
const char *document_of(struct call *call, unsigned argument);
unsigned next_handle(struct question *ask, unsigned number);
bool is_refused(struct question *ask);

/* connection.c */
void *connection_of(struct question *ask);
void find_connection(struct question *ask);
bool strip_uri(char *buffer, size_t size, const char *uri);

/* xml_name.c */
struct xml_identity {
	enum certainty has_name, has_uuid;
	const char *name;
	size_t length;
	uint8_t uuid[16];
};
enum xml_shape { NAME_CHILD, NAME_ATTRIBUTE, PORTDEV_ATTRIBUTE, USAGE, POOL_NAME };
struct xml_identity read_xml_identity(const char *xml, enum xml_shape shape);
bool read_uuid(const char *text, size_t length, uint8_t uuid[16]);

/* xml_has.c */
bool is_plain_xml(const char *xml, const char *sought);
enum certainty has_element(const char *xml, const char *sought);

/* client.c: who is behind the thread */
extern bool is_daemon;
void find_who(struct question *ask);
void find_user(struct who *who);
void forget_who(struct question *ask);
const char *find_exe(struct question *ask, struct who *who);
void speak_for_peer(struct call *call);

/* conditions.c */
enum certainty holds(struct question *ask, const struct condition *c, bool allows);

/* judge.c */
uint64_t judge(struct call *call);
void tell_problem(struct call *call);

/* deny.c */
enum verdict_action { SAYS_ALLOW = 1, SAYS_AUDIT, SAYS_DENY, SAYS_LOOKING };
struct verdict {		/* for the tracer */
	uint64_t args[6];	/* 0 */
	uint64_t sp;		/* 48: stack pointer when the function was called */
	uint32_t number;	/* 56 */
	uint32_t action;	/* 60: verdict_action */
	const char *function;	/* 64 */
	const char *rule;	/* 72: NULL: none matched; with SAYS_AUDIT: there is no policy that
				   should be there */
	const char *message;	/* 80 */
	const char *note;	/* 88: about a handle that says something else than its driver, a
				   claim, a policy's problem */
	uint64_t result;	/* 96: what the caller gets when the call is denied */
	uint64_t more[2];	/* 104: aarch64: the seventh and the eighth argument */
};
void say_verdict(struct question *ask, enum verdict_action action, const char *rule,
		 const char *message);
void deny(struct question *ask, void *connection, const char *rule, const char *message);
void alert(const char *what, const char *path);

/* text.c */
size_t append(char *buffer, size_t size, size_t length, const char *text);
size_t append_number(char *buffer, size_t size, size_t length, uint64_t number);
bool glob_matches(const char *glob, const char *text, size_t length);

#include "contract.h"

#endif
