"""Plant each known descriptor bug and see that its named test fails.

The module is copied, one line of package fdpass is broken at a time, and the
test that stands for the bug must fail by itself (a plant that no longer
applies, does not compile or is not noticed ends this program with 1).

Usage: python3 fdpass/testdata/plant.py [WORD]    only plants that contain WORD
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

# (the bug, file, what stands there, what the bug makes of it, test)
PLANTS = [
    ("silent peer blocks: the deadline of a frame is dropped", "frame.go",
     "	ctx, cancel := context.WithTimeout(ctx, FrameTimeout)\n	defer cancel()\n	meta, files",
     "	ctx = context.WithoutCancel(ctx)\n	meta, files", "TestRecvFrame_hostile/silent$"),
    ("silent peer blocks the others: one connection at a time", "frame.go",
     "pending.Go(func() {", "pending.Add(1)\n		func(f func()) { defer pending.Done(); f() }(func() {", "TestFrameServer"),
    ("timeout starts again with every read", "frame.go",
     "return c.RecvContext(ctx, p) })",
     "ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 50*time.Millisecond)\n"
     "		defer cancel()\n		return c.RecvContext(ctx, p) })", "TestRecvFrame_trickle"),
    ("no timeout in the sender", "send.go",
     "		done := c.writes.watch(ctx)\n		defer func() { err = done(err) }()\n", "",
     "TestSend_contextEndsTheWait"),
    ("short read of the length", "frame.go", "	for len(p) > 0 {\n", "	for range 1 {\n", "TestRecvFrame_byteByByte"),
    ("length up to 4 GiB believed", "frame.go", "	if n > MaxFrameMeta {", "	if false {",
     "TestRecvFrame_hostile/length_of_4_GiB"),
    ("room for one descriptor holds two and the second leaks", "files.go",
     "	f.Close()\n	if got == 0 {", "	if got == 0 {", "TestRecvFrame_hostile/two_descriptors"),
    ("truncation flag of the control data not read", "recv.go",
     "s.flags&unix.MSG_CTRUNC != 0", "false", "TestRecv_truncated/control_data"),
    ("truncation at the receiver's limit not seen", "recv.go",
     "s.flags&unix.MSG_CTRUNC != 0", "false", "TestRecv_receiverLimit"),
    ("truncation flag of the data not read", "recv.go",
     "s.flags&unix.MSG_TRUNC != 0", "false", "TestRecv_truncated/bytes"),
    ("descriptors of a truncated message leak", "recv.go",
     "		files.Close()\n		return 0, nil, err", "		return 0, nil, err", "TestRecv_truncated"),
    ("received descriptors are inherited", "sys_linux.go", "|unix.MSG_CMSG_CLOEXEC", "", "TestSendRecv"),
    ("channels are inherited", "sys_linux.go",
     "sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)\n}\n\nfunc setPass",
     "sotype|unix.SOCK_NONBLOCK, 0)\n}\n\nfunc setPass", "TestSendRecv"),
    ("descriptor lost on an error after recvmsg", "frame.go",
     "		files.Close()\n		return nil, nil, fmt.Errorf(\"the descriptor's byte",
     "		return nil, nil, fmt.Errorf(\"the descriptor's byte", "TestRecvFrame_hostile/another_byte"),
    ("channel of a frame never closed", "frame.go", "			defer c.Close()\n", "", "TestFrameServer"),
    ("unlinks whatever lies at the path", "path.go",
     "	if info.Mode().Type() != fs.ModeSocket {", "	if info.IsDir() {", "TestListenPath_neverUnlinks"),
    ("unlinks a live server's socket", "path.go",
     "	if err := probe(path, typ); !errors.Is(err, unix.ECONNREFUSED) {", "	if false {\n		var err error",
     "TestListenPath_liveOwner"),
    ("two starters take over one stale socket", "lock.go", "flock(f, unix.LOCK_EX|unix.LOCK_NB)",
     "flock(f, unix.LOCK_SH|unix.LOCK_NB)", "TestListenPath_takeoverHasOneWinner"),
    ("close removes another's socket", "path.go", "statErr == nil && id == l.own", "statErr == nil && id.uid == l.own.uid",
     "TestPathListener_closeRemovesOnlyItsOwn"),
    ("socket wider than asked for", "path.go", "	if err := os.Chmod(path, cfg.Mode); err != nil {",
     "	if err := os.Chmod(path, 0o777); err != nil {", "TestListenPath"),
    ("directory of others accepted", "path.go", "	if perm&0o077 != 0 {", "	if false {", "TestListenPath_directory"),
    ("peer of another user accepted", "cred.go", "		return SameUser(c)\n", "		return true\n", "TestAbstract_anotherUser"),
    ("more descriptors than a message takes", "send.go", "	if len(files) > MaxFiles {", "	if false {", "TestSend_failures/too_many"),
    ("too many in flight is an error at once", "send.go", "	if s.err != unix.ETOOMANYREFS {".replace("	if", "		if", 1),
     "		if s.err != nil {", "TestSend_tooManyInFlight"),
    ("empty message taken for the end", "recv.go", "files.Len() > 0 || !c.hungUp()", "false", "TestRecv_emptyMessages"),
    ("empty message sent", "send.go", "	if len(msg) == 0 {", "	if msg == nil && len(fds) > 1 {", "TestSend_failures/empty"),
    ("partial write forgotten", "send.go", "			if len(s.msg) == 0 {", "			if true {", "TestStream_partialWrites"),
    ("descriptors sent again with the rest", "send.go", "			s.oob, s.fds, waited = nil, nil, nil\n", "			waited = nil\n",
     "TestStream_partialWrites"),
    ("waits in the kernel when another flips the mode", "sys_linux.go",
     "p, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC", "p, unix.MSG_CMSG_CLOEXEC", "TestConn_blockingModeOfOthers"),
    ("closes what was taken", "files.go", "	f.fds[i] = -1\n	return fd, nil", "	return fd, nil", "TestFiles"),
    ("lent file closed in mid-send", "send.go",
     "	err = raw.Control(func(fd uintptr) { opErr = borrow(files[1:], append(fds, int(fd)), do) })",
     "	err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })\n	if err == nil {\n"
     "		opErr = borrow(files[1:], fds, do)\n	}", "TestSend_closeOfLentFileMeanwhile"),
    ("the sender's number travels", "frame.go", "	frame, err := encodeFrame(meta)",
     "	frame, err := encodeFrame(map[string]any{\"fd\": 3})", "TestFrame_doesNotTell"),
]


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("go.mod", "go.sum"):
            shutil.copy(root / name, scratch)
        package = pathlib.Path(scratch, "fdpass")
        shutil.copytree(root / "fdpass", package)
        for bug, file, old, new, test in PLANTS:
            if word not in bug:
                continue
            source = (package / file).read_text()
            if source.count(old) != 1:
                print(f"NOT APPLIED  {bug}: the line is there {source.count(old)} times", flush=True)
                failed += 1
                continue
            (package / file).write_text(source.replace(old, new))
            vet = subprocess.run(["go", "test", "-count=1", "-run", "^$", "./fdpass"], cwd=scratch,
                                 capture_output=True, text=True)
            run = subprocess.run(["go", "test", "-count=1", "-timeout=20s", "-run", f"^{test}", "./fdpass"],
                                 cwd=scratch, capture_output=True, text=True)
            (package / file).write_text(source)
            if vet.returncode != 0:
                verdict = "NOT COMPILED"
                print(vet.stdout + vet.stderr)
            elif run.returncode == 0:
                verdict = "NOT NOTICED"
            else:
                verdict = "noticed"
            failed += verdict != "noticed"
            print(f"{verdict:12} {bug} ({test})", flush=True)
    return 1 if failed else 0


sys.exit(main())
