"""The faults that are injected, and what is promised then. docs/reliability.md shows this with what was observed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One kind of fault: what is done to the run, and what holds afterwards."""

    injected: str
    promised: str


AGAIN = "the same command again completes the cube"
LEFT_OUT = f"the region is reported (exit 1) and left out, the others are committed; once the tile is good, {AGAIN}"
REFUSED = "refused in one line, exit 2, without secrets"
UNTOUCHED = "readers see the cube as it was before"

FAULTS: dict[str, Fault] = {
    # ---- processes are killed, stopped, interrupted ----
    "coordinator killed mid-tile": Fault(
        "SIGKILL to an ingest while the chunks of a tile are being written",
        f"{UNTOUCHED}, plus the regions that independent commits already hold; {AGAIN}",
    ),
    "coordinator killed before merge": Fault(
        "SIGKILL to an ingest that has filled its regions, before it merges them",
        f"{UNTOUCHED}, plus the regions that independent commits already hold; {AGAIN}",
    ),
    "coordinator killed between merge and commit": Fault(
        "SIGKILL to an ingest between merging and committing",
        f"{UNTOUCHED}, plus the regions that independent commits already hold; {AGAIN}",
    ),
    "coordinator killed during commit": Fault(
        "SIGKILL to an ingest 0, 5 and 20 ms after it has begun to commit to a local disk",
        f"the commit is there whole or not at all; {AGAIN}",
    ),
    "coordinator killed as the commit is sent": Fault(
        "SIGKILL to an ingest as the request that makes the commit leaves for the object store",
        f"{UNTOUCHED}; {AGAIN}",
    ),
    "coordinator killed as the commit is answered": Fault(
        "SIGKILL to an ingest as the object store answers the request that makes the commit",
        "the commit is there, whole; the same command writes nothing of it again",
    ),
    "coordinator killed after commit": Fault(
        "SIGKILL to an ingest that has committed, before it says so",
        "the commit is there, whole; the same command writes nothing of it again",
    ),
    "coordinator killed again and again": Fault(
        "SIGKILL to an ingest after a random number of chunks, again and again (a commit after each region)",
        "each run goes on where the last was killed; at the end the cube is complete",
    ),
    "killed run leaves traces": Fault(
        "SIGKILL to an ingest; then `check` and `gc`",
        "`check` says that a run was killed; `gc` removes what it left (on an object store when it is old enough), and nothing that counts",
    ),
    "init killed": Fault(
        "SIGKILL to `init` before its commit",
        "other commands refuse the unfinished cube; `init` again makes it",
    ),
    "gc killed": Fault(
        "SIGKILL to `gc` before and after it removes objects",
        "nothing that counts is removed; ingests and `gc` go on",
    ),
    "interrupted once": Fault(
        "SIGINT (Ctrl-C) while a tile is being written",
        f"what is finished is committed, exit 130; {AGAIN}",
    ),
    "terminated": Fault(
        "SIGTERM while a tile is being written",
        f"what is finished is committed, exit 143; {AGAIN}",
    ),
    "interrupted twice": Fault(
        "SIGINT and SIGTERM before the commit",
        f"nothing more is committed; {AGAIN}",
    ),
    "run suspended while another finishes": Fault(
        "SIGSTOP to an ingest in the middle of a tile, SIGCONT after another ingest has done the same regions",
        "the regions of the other run stay, and count as skipped",
    ),
    "traces of a run on another machine": Fault(
        "a run that another machine made known, last heard of 90 minutes and 3 hours ago",
        "`gc` refuses while the run may be alive, which is for 2 hours after it was last heard of",
    ),
    "interrupted during an independent commit": Fault(
        "SIGINT while an independent worker commits",
        f"the commit is there and reported, or neither; {AGAIN}",
    ),
    "interrupted while the store hangs": Fault(
        "SIGINT (to independent workers two) while writing a chunk to the store takes for ever",
        f"it ends without waiting for it; what is finished is committed; {AGAIN}",
    ),
    # ---- tiles ----
    "truncated tile": Fault("a tile cut off at two thirds", LEFT_OUT),
    "unreadable tile among many": Fault("a file that is no raster among good tiles", LEFT_OUT),
    "tile damaged inside": Fault("the first bytes of a compressed block of a tile overwritten", LEFT_OUT),
    "tile changes while it is read": Fault("a tile is replaced while its pixels are being written", LEFT_OUT),
    "tile vanishes while it is read": Fault("a tile is deleted while its pixels are being written", LEFT_OUT),
    "tile replaced by a newer one between runs": Fault(
        "a newer tile, partly empty, for a region that is done; the ingest that takes it is killed once",
        "the region has the old pixels until the commit that gives it the new ones",
    ),
    "list of tiles changes during a run": Fault(
        "a tile is added to the list, and another taken off it, while an ingest runs",
        "the run keeps to its plan; the next one takes the new tile; what is done stays",
    ),
    "source answers 404": Fault("HTTP 404 for a tile that the list names", LEFT_OUT),
    "source answers 403": Fault("HTTP 403 for a tile", LEFT_OUT + "; it never counts as absent"),
    "source answers 500": Fault("HTTP 500 for a tile, each time", LEFT_OUT),
    "source answers 503 for a while": Fault("HTTP 503 for a tile, twice", "the request is repeated; all is written"),
    "slow source": Fault("25 kB/s for a tile", "all is written"),
    "source drops the connection": Fault("the connection is closed in the middle of a tile, each time", LEFT_OUT),
    "source hangs": Fault("a tile's server sends half of it and then nothing, each time", LEFT_OUT),
    # ---- stores ----
    "SlowDown for a while": Fault("HTTP 503 SlowDown from the object store, 12 times", "all is written"),
    "internal errors for a while": Fault("HTTP 500 from the object store, 12 times", "all is written"),
    "connections dropped for a while": Fault("the object store closes 8 connections unanswered", "all is written"),
    "slow store": Fault("30 ms more for every request to the object store", "all is written"),
    "answer of the commit lost": Fault(
        "the object store makes the commit, and the connection is closed before its answer",
        "the commit counts once, and is reported as made",
    ),
    "commit made, but answered with an error": Fault(
        "the object store makes the commit, and answers with HTTP 500",
        "the commit counts once, and is reported as made",
    ),
    "commit made, but answered with SlowDown": Fault(
        "the object store makes the commit, and answers with HTTP 503",
        "the commit counts once, and is reported as made",
    ),
    "store refuses all writes": Fault("HTTP 403 for every write to the object store", f"{REFUSED}; nothing written"),
    "store refuses commits": Fault("HTTP 403 for writes of what makes a commit", f"{REFUSED}; nothing written"),
    "store refuses writes from some moment on": Fault(
        "HTTP 403 for every write, or for chunks, after two commits",
        f"exit 1; what is committed stays and is reported; {AGAIN}",
    ),
    "wrong credentials": Fault("HTTP 403 for every request to the object store", f"{REFUSED}, within seconds"),
    "wrong bucket": Fault("a bucket that does not exist", f"{REFUSED}, within seconds"),
    "wrong endpoint": Fault("an endpoint at which nothing listens", f"{REFUSED}, within seconds"),
    "wrong prefix": Fault("a bucket that holds no cube there", f"{REFUSED}, within seconds"),
    "read-only folder": Fault("the store's folder mounted read-only", f"{REFUSED}; nothing written; reading works"),
    "full disk": Fault(
        "a file system on which the store has room for some more chunks only",
        f"it says so; what is reported as written is there; with space, {AGAIN}",
    ),
    # ---- others at the same cube ----
    "conflict storm": Fault(
        "16 ingests at once, each with its own part, each region a commit", "all is written, each region once"
    ),
    "same regions at once": Fault(
        "two ingests of the same regions at once", "each region is written once; the other run counts it as skipped"
    ),
    "another region committed meanwhile": Fault(
        "another ingest commits another region before the commit", "both are there"
    ),
    "same region committed meanwhile": Fault(
        "another ingest commits one of the same regions before the commit", "the other's stays, the rest is committed"
    ),
    "attributes changed meanwhile": Fault("`init --update` commits before the commit", "both are there"),
    "chunks written meanwhile by other means": Fault(
        "another program commits pixels of one of the same regions, without a record",
        "the ingest's pixels and record are what is there in the end",
    ),
    "garbage collected by other means": Fault(
        "Icechunk's own garbage collection during a run, which does not know of runs",
        f"the run commits nothing of what may be gone, and says so; {AGAIN}",
    ),
    "snapshots expired during a run": Fault(
        "Icechunk's own expiry of snapshots, all but the newest, during a run", "all is written"
    ),
    "snapshots expired and collected during a run": Fault(
        "expiry and garbage collection by Icechunk itself during a run, after others have committed",
        f"the run commits nothing of what may be gone, and says so; {AGAIN}",
    ),
    "gc during a run": Fault("`gc` while an ingest runs", "`gc` refuses and removes nothing; the ingest goes on"),
    "run during gc": Fault("an ingest while `gc` runs", "the ingest refuses; `gc` goes on"),
    "gc during gc": Fault("a second `gc` while one runs", "the second one refuses; the first goes on"),
    "lock held by another process": Fault(
        "another process holds the lock of a local store for a while", "commits wait for it; all is written"
    ),
    "lock holder killed": Fault(
        "a process that holds the lock of a local store is killed", "the lock is free; all is written"
    ),
    "main moved before publish": Fault(
        "main gets a commit between `ingest --branch` and `publish`", "`publish` refuses; main keeps what it has"
    ),
    "main moved during publish": Fault(
        "main gets a commit after `publish` has verified the branch", "`publish` refuses; main keeps what it has"
    ),
    "branch of another cube": Fault(
        "a branch that holds another cube", "`publish` and `ingest --branch` refuse; main is as it was"
    ),
    "publish killed": Fault(
        "SIGKILL to `publish` before and after main moves",
        "main is at the one snapshot or the other; `publish` again ends",
    ),
    # ---- clusters ----
    "worker killed mid-tile": Fault(
        "SIGKILL to a worker process in the middle of a tile", "another does it; all is written"
    ),
    "worker killed by the same tile each time": Fault(
        "every worker that takes a certain tile dies, as when memory runs out",
        f"after some tries the region is reported (exit 1) and left out, the others are committed; {AGAIN}",
    ),
    "scheduler lost": Fault(
        "SIGKILL to the Dask scheduler while tiles are read",
        f"what was finished is committed, the rest reported (exit 1); {AGAIN}",
    ),
    "worker joins late": Fault(
        "a worker joins the cluster during a run", "it is proven and takes part; all is written"
    ),
    "worker leaves": Fault("a worker of two is stopped during a run", "the other does its work; all is written"),
    "worker sees another store": Fault(
        "a worker's path to the store leads to a copy of it", "refused before any work, naming the worker, exit 2"
    ),
    "worker that joins late sees another store": Fault(
        "a worker that joins during a run sees a copy of the store",
        f"the run ends and says so (exit 1); nothing that this worker wrote is committed; {AGAIN}",
    ),
    # ---- clocks ----
    "clock a day ahead": Fault(
        "an ingest with the clock a day ahead",
        f"{REFUSED}, naming the clock; nothing written; others go on",
    ),
    "clock a day behind": Fault(
        "an ingest with the clock a day behind another's that has committed",
        f"{REFUSED}, naming the clock; nothing written",
    ),
    "clock some seconds behind another's": Fault(
        "an ingest with the clock 12 seconds behind another's that has committed", "it waits; all is written"
    ),
    "gc with the clock a week ahead": Fault(
        "`gc` with the clock a week ahead, so that everything seems old",
        f"{REFUSED}, naming the clock; nothing removed; others go on",
    ),
    "gc with the clock a week ahead during a run": Fault(
        "the same while an ingest runs on the same machine", "`gc` refuses and removes nothing"
    ),
    "run started with the clock behind, then gc": Fault(
        "`gc --older-than 0s` while an ingest runs that was started before the clock was put forward by 5 minutes",
        "`gc` refuses and removes nothing",
    ),
    # ---- damage ----
    "corrupt ledger record": Fault(
        "a record of the ledger overwritten with nonsense",
        "`check --deep` says so; the next ingest does that region again, and no other",
    ),
    "cube of a newer version": Fault(
        "a cube whose format is newer than this version knows", f"{REFUSED}; it is left alone"
    ),
    "chunk object deleted": Fault(
        "the object of a chunk deleted from the store", "`check --deep` and `verify` say so; `ingest --redo` mends it"
    ),
    "chunk object overwritten": Fault(
        "the object of a chunk replaced by that of another chunk",
        "`check --deep` and `verify` say so; `ingest --redo` mends it",
    ),
    "pixels changed by other means": Fault(
        "another program commits other pixels", "`check --deep` and `verify` say so; `ingest --redo` mends it"
    ),
    "chunks deleted by other means": Fault(
        "another program commits the deletion of a region's chunks", "`check` says so; `ingest --redo` mends it"
    ),
    "chunks without a record": Fault(
        "another program writes chunks into a region that is not done", "`check` says so; an ingest makes it right"
    ),
    "manifest object deleted": Fault(
        "the newest manifest objects deleted from the store",
        "commands say so in one line, exit 1 or 2; the snapshot before stays readable",
    ),
    "repo file cut short": Fault("the repository's own file cut short", REFUSED),
}
