# SPDX-License-Identifier: LGPL-2.1-or-later
# Set-up, checks and installation. Debian 12 and later; what is missing is installed with apt and, for development tools, pip.
SHELL = /bin/sh
PYTHON = /usr/bin/python3
PREFIX = /usr/local
DESTDIR =
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

# what libvirt-trace needs to run; its BPF program is compiled by BCC, which needs <linux/...> but no kernel headers
RUN_PACKAGES = python3-bpfcc python3-rich linux-libc-dev
DEMO_PACKAGES = libvirt-clients python3-libvirt
# libvirtd's drivers are only recommended by its package; virtlogd, D-Bus and the libvirtd service are not needed
TEST_PACKAGES = bpftrace gcc libc6-dev libvirt-daemon libvirt-daemon-driver-qemu libvirt-dev ltrace man-db openssl pkg-config \
	python3-hypothesis python3-pytest python3-pytest-timeout python3-venv qemu-system-x86 shellcheck util-linux
# virtme-ng makes an initramfs of a static busybox and finds its serial ports through udev
KERNEL_PACKAGES = busybox-static kmod qemu-system-x86 udev
ROOT_PACKAGES = debootstrap
LINTERS = ruff==0.17.6 mypy==2.4.1
VIRTME = virtme-ng==1.42

SHELL_SCRIPTS = .ci/run $(wildcard tests/*.sh tests/*/*.sh)
PYTEST = $(PYTHON) -m pytest
PYTEST_ARGS =
LIBRARY = $(PREFIX)/lib/libvirt-trace
MANUAL = $(PREFIX)/share/man/man8/libvirt-trace.8

# $(call need,PACKAGES): installs those that are missing; when there are none, apt is not asked
define need
	@missing=$$(for package in $(1); do \
		dpkg-query -W -f '$${db:Status-Status}\n' $$package 2>/dev/null | grep -qx installed || echo $$package; done); \
	if [ -n "$$missing" ]; then \
		echo "installing" $$missing; \
		log=$$(mktemp); \
		{ $(SUDO) apt-get -q update && \
			$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 \
			install --no-install-recommends $$missing; } </dev/null >$$log 2>&1 || { cat $$log; rm $$log; exit 1; }; \
		rm $$log; \
	fi
endef

# $(call tools,PACKAGES): pinned tools from PyPI, kept out of the system in .venv
define tools
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check $(1)
	@touch $@
endef

.PHONY: help deps deps-run deps-demo demo check lint test-unit bench check-kernels check-libvirts install uninstall clean

help: ## what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

deps: ## install what running, the demo and the tests need
	$(call need,$(RUN_PACKAGES) $(DEMO_PACKAGES) $(TEST_PACKAGES))

deps-run:
	$(call need,$(RUN_PACKAGES))

deps-demo:
	$(call need,$(RUN_PACKAGES) $(DEMO_PACKAGES))

demo: deps-demo ## trace a few real libvirt calls of virsh and Python on libvirt's test driver
	@echo 'virsh lists, suspends and resumes a domain and asks for one that does not exist;'
	@echo 'Python changes its memory and shuts it down. It exists in memory only. All calls:'
	@$(SUDO) $(PYTHON) -E -s tracer.py -- sh -eu tests/demo.sh
	@echo 'Next: sudo ./tracer.py shows what all programs here do with libvirt.'

check: deps lint ## lint and every test, none skipped (PYTEST_ARGS selects)
	@$(SUDO) env LIBVIRT_TRACE_REQUIRE=unit,preload,kernel,system $(PYTEST) $(PYTEST_ARGS)

lint: deps .venv/linters ## formatting, types, shell scripts, the man page, licence lines
	@.venv/bin/ruff format --quiet --check .
	@.venv/bin/ruff check --quiet .
	@.venv/bin/mypy --python-executable $(PYTHON) --no-error-summary .
	@shellcheck $(SHELL_SCRIPTS)
	@man --warnings=w -l tracer.8 2>&1 >/dev/null | { ! grep .; }
	@! grep -rL SPDX-License-Identifier --include='*.py' --include='*.[ch]' --include='*.sh' --exclude-dir='.[!.]*' . | grep .

.venv/linters: Makefile
	$(call tools,$(LINTERS))

.venv/virtme: Makefile
	$(call tools,$(VIRTME))

test-unit: deps ## the tests in plain Python
	@$(PYTEST) tests/unit $(PYTEST_ARGS)

bench: deps ## the cost of a call, beside other tools, as one table
	@$(SUDO) $(PYTHON) -m tests.bench

check-kernels: deps .venv/virtme ## kernel tests on Debian's 6.1 and 6.12 kernels, emulated (KERNELS, PYTEST_ARGS select)
	$(call need,$(KERNEL_PACKAGES))
	@tests/kernels/run.sh $(PYTEST_ARGS)

check-libvirts: deps ## trace virsh and Python of Debian 13, with libvirt 11.3, and a 32-bit virsh
	$(call need,$(ROOT_PACKAGES))
	@test -e .cache/trixie/usr/sbin/libvirtd || $(SUDO) tests/roots/make.sh trixie .cache/trixie libvirt-clients libvirt-daemon python3-libvirt
	@test -e .cache/i386/complete || $(SUDO) env ARCH=i386 tests/roots/make.sh bookworm .cache/i386 libvirt-clients
	@$(SUDO) env LIBVIRT_TRACE_REQUIRE=libvirts $(PYTEST) tests/libvirts $(PYTEST_ARGS)

install: $(if $(DESTDIR),,deps-run) ## copy to PREFIX (/usr/local)
	@for file in $$(find tracer.py probes log $(wildcard enforcer) -type f ! -path '*/__pycache__/*'); do \
		install -D -m 644 "$$file" "$(DESTDIR)$(LIBRARY)/$$file"; done
	@install -d "$(DESTDIR)$(PREFIX)/bin"
	@printf '#!/bin/sh\nexec %s -E -s %s/tracer.py "$$@"\n' $(PYTHON) $(LIBRARY) >"$(DESTDIR)$(PREFIX)/bin/libvirt-trace"
	@chmod 755 "$(DESTDIR)$(PREFIX)/bin/libvirt-trace"
	@install -D -m 644 tracer.8 "$(DESTDIR)$(MANUAL)"

uninstall: ## remove what install copied
	rm -rf "$(DESTDIR)$(LIBRARY)" "$(DESTDIR)$(PREFIX)/bin/libvirt-trace" "$(DESTDIR)$(MANUAL)"

clean: ## remove what the targets above made here: tools, downloads, caches
	rm -rf .venv .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -rf {} +
