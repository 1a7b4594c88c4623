/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Says what was decided: to the tracer, to the caller as libvirt's error, to the system's log. */
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "enforcer.h"

#define VIR_FROM_ACCESS 55
#define VIR_ERR_ACCESS_DENIED 88
#define LINES_PER_SECOND 10
#define AUTHPRIV_WARNING "<84>"	/* facility 10, severity 4 */

/* The tracer has a probe here: a call without one does nothing. */
__attribute__((noinline, visibility("default")))
void libvirt_trace_verdict(const struct verdict *verdict)
{
	__asm__ volatile("" : : "r"(verdict) : "memory");
}

void say_verdict(struct question *ask, enum verdict_action action, const char *rule,
		 const char *message)
{
	struct verdict verdict;

	memcpy(verdict.args, ask->call->args, sizeof(verdict.args));
	memcpy(verdict.more, ask->call->more, sizeof(verdict.more));
	verdict.sp = entry_sp(ask->call);
	verdict.number = ask->call->number;
	verdict.action = action;
	verdict.function = functions[ask->call->number].name;
	verdict.rule = rule;
	verdict.message = message && *message ? message : NULL;
	verdict.note = ask->note[0] ? ask->note : NULL;
	verdict.result = ask->call->result;
	libvirt_trace_verdict(&verdict);
}

/* One line to the system's log. libc's syslog() may block, lock and allocate. */
static void log_line(const char *line, size_t length)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return;
	sendto(fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&address,
	       sizeof(address));
	close(fd);
}

/* Whether a line may be written; *left_out: lines that were not, since the last one. */
static bool may_log(uint32_t *left_out)
{
	static _Atomic(int64_t) second;
	static atomic_uint lines, unsaid;
	struct timespec now;
	int64_t last = atomic_load(&second);

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (now.tv_sec != last && atomic_compare_exchange_strong(&second, &last, now.tv_sec))
		atomic_store(&lines, 0);
	if (atomic_fetch_add(&lines, 1) >= LINES_PER_SECOND) {
		atomic_fetch_add(&unsaid, 1);
		return false;
	}
	*left_out = atomic_exchange(&unsaid, 0);
	return true;
}

static size_t begin_line(char *line, size_t size)
{
	size_t n = append(line, size, 0, AUTHPRIV_WARNING "libvirt-trace[");

	n = append_number(line, size, n, getpid());
	return append(line, size, n, "]: ");
}

static void finish_line(char *line, size_t size, size_t n, uint32_t left_out)
{
	if (left_out) {
		n = append(line, size, n, " (");
		n = append_number(line, size, n, left_out);
		n = append(line, size, n, " more denials were not logged)");
	}
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	log_line(line, n);
}

static void log_denial(struct question *ask, const char *rule, const char *message)
{
	struct who *who = &ask->who[0];
	char line[1024];
	uint32_t left_out;
	size_t n;

	if (!may_log(&left_out))
		return;
	n = begin_line(line, sizeof(line));
	n = append(line, sizeof(line), n, "denied ");
	n = append(line, sizeof(line), n, functions[ask->call->number].name);
	find_user(who);
	if (who->uid != (uint32_t)-1) {
		n = append(line, sizeof(line), n, " for uid ");
		n = append_number(line, sizeof(line), n, who->uid);
	} else if (who->sasl || who->x509) {
		n = append(line, sizeof(line), n, " for ");
		n = append(line, sizeof(line), n, who->sasl ? who->sasl : who->x509);
	}
	n = append(line, sizeof(line), n, " by rule \"");
	n = append(line, sizeof(line), n, rule);
	n = append(line, sizeof(line), n, "\"");
	if (message && *message) {
		n = append(line, sizeof(line), n, ": ");
		n = append(line, sizeof(line), n, message);
	}
	if (ask->note[0]) {
		n = append(line, sizeof(line), n, "; ");
		n = append(line, sizeof(line), n, ask->note);
	}
	finish_line(line, sizeof(line), n, left_out);
}

void alert(const char *what, const char *path)
{
	char line[1024];
	uint32_t left_out;
	size_t n;

	if (!may_log(&left_out))
		return;
	n = begin_line(line, sizeof(line));
	n = append(line, sizeof(line), n, path);
	n = append(line, sizeof(line), n, ": ");
	n = append(line, sizeof(line), n, what);
	finish_line(line, sizeof(line), n, left_out);
}

/*
 * libvirt's own error, in the order in which its functions raise theirs. Nothing public may be
 * called behind it: that would wipe it out. The program's error handler runs in the last step, and
 * may make a denied call itself: that one's error is not dispatched.
 */
void deny(struct question *ask, void *connection, const char *rule, const char *message)
{
	static __thread unsigned depth __attribute__((tls_model("initial-exec")));
	void (*reset_error)(void) = (void *)real_of(NUMBER_virResetLastError);
	int (*initialize)(void) = (void *)real_of(NUMBER_virInitialize);
	char text[512];
	size_t n;

	log_denial(ask, rule, message);
	if (!inner.report_error || !reset_error)
		return;
	n = append(text, sizeof(text), 0, message && *message ? message : "");
	if (!n) {
		n = append(text, sizeof(text), n, "by rule \"");
		n = append(text, sizeof(text), n, rule);
		append(text, sizeof(text), n, "\"");
	}
	/* the denied call may be the first one, and libvirt's errors have no place before that */
	if (initialize)
		initialize();
	reset_error();
	inner.report_error(VIR_FROM_ACCESS, VIR_ERR_ACCESS_DENIED, "enforcer",
			   functions[ask->call->number].name, 0, "%s", text);
	if (inner.dispatch_error && !depth++) {
		inner.dispatch_error(connection);
		depth = 0;
	} else if (inner.dispatch_error) {
		depth--;
	}
}
