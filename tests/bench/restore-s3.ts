import type { Bench } from "./bench.ts";
import { compareRestores, type RestorePeer } from "./compare-restores.ts";

const copy = 'aws --endpoint-url "$ENDPOINT" s3 cp --only-show-errors';

const peers: readonly RestorePeer[] = [
  {
    peerName: "aws s3 cp pipe",
    jobs: 1,
    script: `${copy} "$1" - | zstd -q -d -c | pg_restore --exit-on-error -d "$2"`,
  },
];

/** How long a restore out of a bucket takes. */
export const restoreS3: Bench = {
  summary: "coppice restore create out of a bucket, the whole command, against aws s3 cp | zstd -d | pg_restore",
  run: (request) => compareRestores(request, { name: "restore-s3", place: "s3", store: `${copy} - "$1"`, peers }),
};
