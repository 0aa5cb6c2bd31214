"""Plant each known descriptor bug and see that its named test fails.

The module is copied, one line of package fdpass, of the channel between master
and worker or of the master is broken at a time, and the test that stands for the bug must fail by itself (a plant that no longer
applies, does not compile or is not noticed ends this program with 1). Three run
at a time. A part of the gate.

Usage: python3 fdpass/testdata/plant.py [WORD]    only plants that contain WORD
"""

import concurrent.futures
import pathlib
import queue
import shutil
import subprocess
import sys
import tempfile

# (the bug, file in package fdpass or with its directory, what stands there, what the bug makes of it, test)
PLANTS = [
    ("silent peer blocks: the deadline of a frame is dropped", "frame.go",
     "	ctx, cancel := context.WithTimeout(ctx, FrameTimeout)\n	defer cancel()\n	meta, files",
     "	ctx = context.WithoutCancel(ctx)\n	meta, files", "TestRecvFrame_hostile/silent$"),
    ("silent peer blocks the others: one connection at a time", "frame.go",
     "pending.Go(func() {", "pending.Add(1)\n		func(f func()) { defer pending.Done(); f() }(func() {", "TestFrameServer"),
    ("timeout starts again with every read", "frame.go",
     "return c.RecvContext(ctx, p) })",
     "ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)\n"
     "		defer cancel()\n		return c.RecvContext(ctx, p) })", "TestRecvFrame_trickle"),
    ("no timeout in the sender", "send.go",
     "		done := c.writes.watch(ctx)\n		defer func() { err = done(err) }()\n	}\n	return c.sendRest", "	}\n	return c.sendRest",
     "TestSend_contextEndsTheWait"),
    ("short read of the length", "frame.go", "	for len(p) > 0 {\n", "	for range 1 {\n", "TestRecvFrame_byteByByte"),
    ("length up to 4 GiB believed", "frame.go", "	if n > MaxFrameMeta {", "	if false {",
     "TestRecvFrame_hostile/length_of_4_GiB"),
    ("room for one descriptor holds two and the second leaks", "files.go",
     "	f.Discard()\n	if got == 0 {", "	if got == 0 {", "TestRecvFrame_hostile/two_descriptors"),
    ("truncation flag of the control data not read", "recv.go",
     "s.flags&unix.MSG_CTRUNC != 0", "false", "TestRecv_truncated/control_data"),
    ("truncation at the receiver's limit not seen", "recv.go",
     "s.flags&unix.MSG_CTRUNC != 0", "false", "TestRecv_receiverLimit"),
    ("truncation flag of the data not read", "recv.go",
     "s.flags&unix.MSG_TRUNC != 0", "false", "TestRecv_truncated/bytes"),
    ("descriptors of a truncated message leak", "recv.go",
     "		files.Discard()\n		files.fds = nil\n", "", "TestRecv_truncated"),
    ("received descriptors are inherited", "sys_linux.go", "|unix.MSG_CMSG_CLOEXEC", "", "TestSendRecv"),
    ("channels are inherited", "sys_linux.go",
     "sotype|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)\n}\n\nfunc setPass",
     "sotype|unix.SOCK_NONBLOCK, 0)\n}\n\nfunc setPass", "TestSendRecv"),
    ("descriptor lost on an error after recvmsg", "frame.go",
     "		files.Discard()\n		return nil, nil, fmt.Errorf(\"the descriptor's byte",
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
     "oob, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC", "oob, unix.MSG_CMSG_CLOEXEC", "TestConn_blockingModeOfOthers"),
    ("closes what was taken", "files.go", "	f.fds[i] = -1\n	return fd, nil", "	return fd, nil", "TestFiles"),
    ("lent file closed in mid-send", "send.go",
     "	err = raw.Control(func(fd uintptr) { opErr = borrow(files[1:], append(fds, int(fd)), do) })",
     "	err = raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) })\n	if err == nil {\n"
     "		opErr = borrow(files[1:], fds, do)\n	}", "TestSend_closeOfLentFileMeanwhile"),
    ("the caller's metadata is changed", "frame.go", "	frame, err := encodeFrame(meta)",
     "	if m, ok := meta.(map[string]any); ok {\n		m[\"fd\"] = 3\n	}\n	frame, err := encodeFrame(meta)", "TestFrame$"),
    ("timeout covers the accept only", "frame.go",
     "frameCtx, cancel := context.WithDeadline(ctx, deadline)", "_ = deadline\n			frameCtx, cancel := context.WithCancel(ctx)",
     "TestFrameServer_timeout"),
    ("the end waits out the timeout of silent peers", "frame.go",
     "context.WithDeadline(ctx, deadline)", "context.WithDeadline(context.WithoutCancel(ctx), deadline)", "TestFrameServer$"),
    ("number used after close, receiving", "recv.go", "		if !c.closed.Load() {", "		if true {", "TestQuick_failures"),
    ("number used after close, sending", "send.go", "		if !c.closed.Load() && s.broken == nil {", "		if s.broken == nil {", "TestQuick_failures"),
    ("a deadline is not seen past the poller", "turn.go", "	return !t.timed.Load() && t.state", "	return t.state", "TestQuick_failures"),
    ("what a set still holds is lost when it is used again", "recv.go", "	files.Close()\n	n, err := c.recv", "	n, err := c.recv", "TestQuick/"),
    ("close leaves the connection open while another has a copy", "netconn.go", "	err := c.shutdown(unix.SHUT_RDWR)", "	var err error",
     "TestTakeConn_closeReachesThePeer"),
    ("giving a copy up ends the connection", "netconn.go", "		return c.opError(\"release\", net.ErrClosed)\n	}\n",
     "		return c.opError(\"release\", net.ErrClosed)\n	}\n	c.shutdown(unix.SHUT_RDWR)\n", "TestTakeConn_releaseLeaves"),
    ("datagrams, which do not tell that the peer died", "conn.go",
     "	return 0, fmt.Errorf(\"neither SOCK_SEQPACKET", "	if sotype == unix.SOCK_DGRAM {\n		return Seqpacket, nil\n	}\n"
     "	return 0, fmt.Errorf(\"neither SOCK_SEQPACKET", "TestNewConn_refuses"),
    ("unknown users taken for one", "cred.go", "	if c.UID == overflowUID {", "	if false {", "TestSameUser"),
    ("waits for the close of what a hostile peer sent", "discard.go", "fd >= 0 && !closesAtOnce(fd)", "false", "TestDiscard_hungFile"),
    ("a loop waits for the closes of what a hostile peer sent", "discard.go", "		go func() {\n			discards <- struct{}{}\n",
     "		discards <- struct{}{}\n		go func() {\n", "TestAbandon_waitsForNothing"),
    ("descriptors of a message that a loop refuses leak", "bare.go", "		files.Abandon()\n		files.fds = nil\n", "", "TestBare_tries"),
    ("the runtime is told of a descriptor that was given away", "bare.go", "	if err := c.Close(); err != nil {", "	if c.closed.Swap(true) {\n		var err error",
     "TestDetach"),
    ("the round robin index is constant", "internal/master/offer.go", "		m.next = (at + 1) % n", "		m.next = at * 0",
     "TestMaster_roundRobin"),
    ("a worker serves one connection and ends", "internal/handover/receive.go", "		err = w.offered(ctx, f, files, handle)",
     "		err = w.offered(ctx, f, files, handle)\n		return true, err", "TestWorker_serves"),
    ("a failed send is ignored and the client closed", "internal/master/offer.go", "			o.sent = true",
     "			if o.sent = true; err != nil && o.custody != nil {\n				o.end()\n				w.words.Take(o.slot, o.seq)\n				o.custody = nil\n			}", "TestMaster_faults/error_M3"),
    ("sent means in the kernel", "internal/master/offer.go", "			o.sent = true",
     "			if o.sent = true; o.custody != nil {\n				o.release()\n			}", "TestMaster_faults/kill_W1"),
    ("workers inherit the listener", "internal/master/door.go", "unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0)", "unix.FcntlInt(n, unix.F_DUPFD, 0)",
     "TestMaster_dies"),
    ("the end waits for workers that nobody told", "internal/master/master.go", "		w.tell(handover.KindDrain, &handover.Drain{Time: m.cfg.Drain})\n	}\n	m.mu.Unlock()",
     "		_ = w\n	}\n	m.mu.Unlock()", "TestMaster_stop$"),
    ("a connection that a dead worker touched is served again", "internal/master/offer.go",
     "		c.end() // if it has not ended\n		return nil\n", "", "TestMaster_faults/kill_W2"),
    ("the word does not decide", "internal/handover/words.go", "	return w.word(slot).CompareAndSwap(word(seq, from), word(seq, to))",
     "	w.word(slot).Store(word(seq, to))\n	return from != to", "TestWorker_refuses"),
    ("any descriptor is taken for the connection", "internal/handover/check.go", "	if got != cookie {", "	if false {", "TestWorker_refuses"),
    ("a frame for another worker is taken", "internal/handover/channel.go", "case version != 0 && f.Generation != generation:", "case false:",
     "TestHostileMaster_frames"),
    ("the master waits for what a worker sent", "internal/master/worker.go", "		files.Discard()", "		files.Close()", "TestHostileWorker_hungFile"),
    ("descriptors of a bad frame leak", "internal/handover/channel.go", "			files.Discard()\n			return Frame{}, nil, err", "			return Frame{}, nil, err",
     "TestHostileMaster_counts"),
    ("the sender's number travels", "frame.go", "	frame, err := encodeFrame(meta)",
     "	frame, err := encodeFrame(map[string]any{\"fd\": 3})", "TestFrame_doesNotTell"),
]


def run(root: pathlib.Path, plant: tuple[str, str, str, str, str]) -> str:
    """Plant one bug in a copy of the module and return what became of it."""
    _, file, old, new, test = plant
    path = root / file if "/" in file else root / "fdpass" / file
    package = f"./{path.parent.relative_to(root)}"
    source = path.read_text()
    if source.count(old) != 1:
        return f"NOT APPLIED, the line is there {source.count(old)} times"
    path.write_text(source.replace(old, new))
    args = ["go", "test", "-vet=off", "-ldflags=-s -w", "-count=1", "-timeout=6s", "-run", f"^{test}", package]
    done = subprocess.run(args, cwd=root, capture_output=True, text=True)
    path.write_text(source)
    output = done.stdout + done.stderr
    if "[build failed]" in output or "[setup failed]" in output:
        return f"NOT COMPILED\n{output}"
    if done.returncode == 0 or ("--- FAIL" not in output and "panic:" not in output and "FAIL" not in output):
        return f"NOT NOTICED\n{output}"
    return "noticed"


def main() -> int:
    root = pathlib.Path(__file__).resolve().parents[2]
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [plant for plant in PLANTS if word in plant[0]]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch, concurrent.futures.ThreadPoolExecutor(3) as pool:
        copies: queue.Queue[pathlib.Path] = queue.Queue()
        for i in range(3):
            copy = pathlib.Path(scratch, str(i))
            copy.mkdir()
            for name in ("go.mod", "go.sum"):
                shutil.copy(root / name, copy)
            for name in ("fdpass", "evloop", "internal/handover", "internal/master"):
                shutil.copytree(root / name, copy / name)
            copies.put(copy)

        def one(plant: tuple[str, str, str, str, str]) -> str:
            copy = copies.get()
            try:
                return run(copy, plant)
            finally:
                copies.put(copy)

        for plant, verdict in zip(chosen, pool.map(one, chosen), strict=True):
            failed += verdict != "noticed"
            print(f"{plant[0]} ({plant[4]}): {verdict}", flush=True)
    print(f"plants: {len(chosen)}, not noticed: {failed}", flush=True)
    return 1 if failed or not chosen else 0


sys.exit(main())
