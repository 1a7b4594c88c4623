# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plugins and programs that load libvirt by themselves, in every way that the loader has."""

from __future__ import annotations

import subprocess

import pytest

from tests.enforced import KEEP_TEST, put, run


@pytest.fixture
def policy(tmp_path):
    return put(tmp_path / "policy.bin", KEEP_TEST)


@pytest.mark.parametrize("how", ["deep", "local", "global", "dlsym"])
def test_it_judges_what_is_loaded_late(caller, policy, how):
    words = [caller("loads", "-Wl,--as-needed"), how, caller("plugin_suspends", "-shared", "-fPIC")]
    assert "libvirt" not in subprocess.check_output(["ldd", words[0]], text=True)
    assert run(words, None).stdout == "0\n"
    result = run(words, policy)
    assert (result.returncode, result.stdout) == (0, "-1\n"), result


def test_private_symbols_make_no_library_of_libvirt(caller, policy):
    """Unbound as yet, so that the table is not led around by chance: -O0 and lazy binding."""
    plugin = caller("plugin_suspends", "-shared", "-fPIC", "-DPRIVATE", "-O0", "-Wl,-z,lazy")
    assert "virIdentityGetCurrent" in subprocess.check_output(["objdump", "-T", plugin], text=True)
    assert run([caller("loads", "-Wl,--as-needed"), "local", plugin], policy).stdout == "-1\n"


def test_other_functions_are_found_as_ever(tmp_path, policy):
    """What a loader is asked for goes out as it would without the library: weak ones, versions,
    run-time paths, names that are none.
    """
    (tmp_path / "deep").mkdir()
    (tmp_path / "inner.c").write_text("int inner(void) { return 7; }\n")
    (tmp_path / "outer.c").write_text(
        "#include <dlfcn.h>\n"
        'int outer(void) { void *o = dlopen("libinner.so", RTLD_NOW); return o ? ((int '
        '(*)(void))dlsym(o, "inner"))() : -1; }\n'
    )
    (tmp_path / "main.c").write_text(
        "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\nint main(int n, char **a) {\n"
        'void *o = dlopen(a[1], RTLD_NOW | RTLD_DEEPBIND); printf("%d ", ((int (*)(void))dlsym(o, '
        '"outer"))());\n'
        'printf("%d %d ", dlsym(o, "virNoSuchFunction") != 0, dlsym(o, "nosuch") != 0); '
        'puts(dlerror() ? "error" : "none");\n'
        'printf("%d %d\\n", dlsym(RTLD_NEXT, "puts") != 0, dlsym(RTLD_DEFAULT, "puts") == '
        'dlsym(RTLD_NEXT, "puts")); }\n'
    )
    gcc = ["gcc", "-O1", "-w"]
    subprocess.run(
        [*gcc, "-shared", "-fPIC", "-o", tmp_path / "deep" / "libinner.so", tmp_path / "inner.c"],
        check=True,
    )
    # of the plugin: the loader looks there for whoever calls dlopen
    path = f"-Wl,--enable-new-dtags,-rpath,{tmp_path}/deep"
    subprocess.run(
        [*gcc, "-shared", "-fPIC", path, "-o", tmp_path / "outer.so", tmp_path / "outer.c"],
        check=True,
    )
    subprocess.run([*gcc, "-o", tmp_path / "main", tmp_path / "main.c"], check=True)
    words = [tmp_path / "main", tmp_path / "outer.so"]
    plain = subprocess.check_output(words, text=True)
    assert plain == "7 0 0 error\n1 1\n"
    assert run(words, policy).stdout == plain


def test_denied_first_call_of_a_process(caller, tmp_path):
    """libvirt is not initialized then: its errors have no place yet."""
    program = caller("loads", "-Wl,--as-needed")
    policy = put(
        tmp_path / "policy.bin",
        '[[rule]]\nname = "r"\naction = "deny"\nfunction = ["virConnectOpen", "virDomain*"]\n',
    )
    result = run([program, "dlsym"], policy)
    assert (result.returncode, result.stdout) == (0, "-1\n"), result
