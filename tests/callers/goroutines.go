// SPDX-License-Identifier: LGPL-2.1-or-later

// Many goroutines call libvirt through cgo, and libvirt calls back into Go, which lets others run and
// calls libvirt again: `goroutines ROUNDS`, 0 rounds: until the standard input ends. Go moves
// goroutines between threads, takes their processors away by signals on stacks of its own, and goes
// over to the thread's stack for C. Each result is checked; prints [rounds, calls back].
package main

/*
#cgo pkg-config: libvirt
#include <stdlib.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>

extern void onErrorCall(void *, virErrorPtr);
*/
import "C"

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"
)

const routines = 64

var (
	conn        C.virConnectPtr
	done, backs atomic.Int64
	ended       atomic.Bool
)

func check(right bool, what string) {
	if !right {
		fmt.Fprintln(os.Stderr, "goroutines: failed:", what)
		os.Exit(99)
	}
}

func callAnother() {
	check(C.virConnectNumOfDomains(conn) == 1, "virConnectNumOfDomains")
}

//export onErrorCall
func onErrorCall(data unsafe.Pointer, raised C.virErrorPtr) {
	backs.Add(1)
	runtime.Gosched()
	callAnother()
}

func work(rounds int64, name *C.char, all *sync.WaitGroup) {
	defer all.Done()
	for !ended.Load() {
		if n := done.Add(1); rounds != 0 && n > rounds {
			done.Add(-1)
			return
		}
		check(C.virDomainLookupByName(conn, name) == nil, "virDomainLookupByName")
		runtime.Gosched()
		callAnother()
	}
}

func main() {
	var all sync.WaitGroup
	uri, name := C.CString("test:///default"), C.CString("nosuch")
	rounds, err := strconv.ParseInt(os.Args[1], 10, 64)

	check(err == nil, "reading the rounds")
	conn = C.virConnectOpen(uri)
	check(conn != nil, "virConnectOpen")
	C.virSetErrorFunc(nil, C.virErrorFunc(C.onErrorCall))
	if rounds == 0 {
		fmt.Println(`"ready"`)
		go func() {
			os.Stdin.Read(make([]byte, 1))
			ended.Store(true)
		}()
	}
	for i := 0; i < routines; i++ {
		all.Add(1)
		go work(rounds, name, &all)
	}
	all.Wait()
	fmt.Printf("[%d, %d]\n", done.Load(), backs.Load())
}
