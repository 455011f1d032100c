import type { Bench } from "./bench.ts";
import { compareDumps, type DumpPeer } from "./compare-dumps.ts";
import { subject } from "./lab.ts";

const aws = 'aws --endpoint-url "$ENDPOINT" s3';

const peers: readonly DumpPeer[] = [
  {
    peerName: "zstd",
    target: "bench.dump.zst",
    clear: `${aws} rm --only-show-errors "$1"`,
    dump: `pg_dump -Fc -Z0 -d ${subject} | zstd -q -3 -T0 | ${aws} cp --only-show-errors - "$1"`,
    check: `${aws} cp --only-show-errors "$1" - | zstd -q -t`,
  },
];

/** How long a dump into a bucket takes, and how much memory the agent needs for it. */
export const dumpS3: Bench = {
  summary:
    "coppice backup create into a bucket, the whole command, against pg_dump -Fc | zstd | aws s3 cp; the agent's memory",
  run: (request) => compareDumps(request, { name: "dump-s3", place: "s3", peers }),
};
