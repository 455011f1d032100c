import type { Bench } from "./bench.ts";
import { compareRestores, type RestorePeer } from "./compare-restores.ts";

const peers: readonly RestorePeer[] = [
  { peerName: "pg_restore pipe", jobs: 1, script: 'zstd -q -d -c "$1" | pg_restore --exit-on-error -d "$2"' },
  {
    peerName: "pg_restore -j",
    jobs: 2,
    script: 'zstd -q -d -o "$3" "$1" && pg_restore --exit-on-error -j 2 -d "$2" "$3"',
  },
];

/** How long a restore beside the original takes. */
export const restore: Bench = {
  summary: "coppice restore create, the whole command, against zstd -d | pg_restore and pg_restore -j 2 from a file",
  run: (request) => compareRestores(request, { name: "restore", place: "folder", store: 'cat > "$1"', peers }),
};
