import type { Bench } from "./bench.ts";
import { compareDumps, type DumpPeer } from "./compare-dumps.ts";
import { subject } from "./lab.ts";

const clear = 'rm -f "$1"';
// What ours has stored is durable as well.
const sync = 'sync "$1" "${1%/*}"';

const peers: readonly DumpPeer[] = [
  {
    peerName: "zstd",
    target: "bench.dump.zst",
    clear,
    dump: `pg_dump -Fc -Z0 -d ${subject} | zstd -q -3 -T0 > "$1"; ${sync}`,
    check: 'zstd -q -t "$1"',
  },
  {
    peerName: "gzip",
    target: "bench.sql.gz",
    clear,
    dump: `pg_dump -d ${subject} | gzip > "$1"; ${sync}`,
    check: 'gzip -t "$1"',
  },
];

/** How long a dump into a folder takes, and how much memory the agent needs for it. */
export const dump: Bench = {
  summary:
    "coppice backup create, the whole command, against pg_dump -Fc | zstd and pg_dump | gzip; the agent's memory",
  run: (request) => compareDumps(request, { name: "dump", place: "folder", peers }),
};
